//! Tasks that wait for limits or for threads use the values that exist before they make further ones (promise 16).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use ensue::{Client, Handle, Ref, gather};
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::Log;
use support::{bounded, drive, eventually, run_what_is_ready};

/// Counts the values that exist, and the most there were.
#[derive(Clone, Default)]
struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

struct Value(Alive);

impl Alive {
    fn value(&self) -> Value {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Value(self.clone())
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.0.value()
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn read(alive: Alive) -> Value {
    yield_now().await;
    alive.value()
}

async fn pass_on(value: Value) -> Value {
    yield_now().await;
    value
}

async fn use_it(value: Value) {
    yield_now().await;
    drop(value);
}

/// The number of pairs of a task that makes a value and a task that uses it.
const PAIRS: usize = 200;

/// The inputs of the tasks that make values.
const SOURCES: [&str; 3] = ["given", "ready", "computed"];

fn source(client: &Client, kind: &str, alive: &Alive) -> Option<Handle<Alive>> {
    match kind {
        "ready" => Some(client.ready(alive.clone())),
        "computed" => Some(client.submit(async |alive: Alive| alive, alive.clone())),
        _ => None,
    }
}

#[test]
fn with_a_shared_limit_about_as_many_values_exist_as_it_lets_run() {
    bounded(|| {
        for (permits, kind) in (1..=4).flat_map(|n| SOURCES.map(|kind| (n, kind))) {
            for stages in 0..3 {
                let client = Client::builder().workers(0).limit("io", permits).build();
                let limited = || client.task().acquire("io");
                let alive = Alive::default();
                let source = source(&client, kind, &alive);
                let pair = |_| {
                    let mut value = match &source {
                        None => limited().submit(read, alive.clone()),
                        Some(source) => limited().submit(read, source),
                    };
                    for _ in 0..stages {
                        value = limited().submit(pass_on, value);
                    }
                    limited().submit(use_it, value)
                };
                let used: Vec<_> = (0..PAIRS).map(pair).collect();
                drive(&client, gather(used)).unwrap();
                let most = alive.most();
                assert!(most <= 2 * permits + 2, "{permits} permits, {kind}, {stages}: {most}");
            }
        }
    });
}

/// Lets blocking work end one by one.
#[derive(Clone, Default)]
struct Tickets(Arc<(Mutex<usize>, Condvar)>);

impl Tickets {
    fn give(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }

    fn take(&self) {
        let tickets = self.0.0.lock().unwrap();
        *self.0.1.wait_while(tickets, |left| *left == 0).unwrap() -= 1;
    }
}

#[test]
fn with_few_threads_about_as_many_values_exist_as_there_are_threads() {
    bounded(|| {
        for (threads, kind) in (1..=3).flat_map(|n| SOURCES.map(|kind| (n, kind))) {
            let client = Client::builder().workers(0).blocking_threads(threads).build();
            let (alive, tickets) = (Alive::default(), Tickets::default());
            let source = source(&client, kind, &alive);
            let read = |tickets: Tickets| {
                move |alive: Alive| {
                    tickets.take();
                    alive.value()
                }
            };
            let reads: Vec<_> = (0..PAIRS)
                .map(|_| match &source {
                    None => client.submit_blocking(read(tickets.clone()), alive.clone()),
                    Some(source) => client.submit_blocking(read(tickets.clone()), source),
                })
                .collect();
            let uses = reads.iter().map(|value| {
                let tickets = tickets.clone();
                let use_it = move |value: Ref<Value>| {
                    tickets.take();
                    drop(value);
                };
                client.submit_blocking(use_it, value)
            });
            let uses: Vec<_> = uses.collect();
            // Only the tasks that use the values keep them.
            let mut reads: Vec<_> = reads.into_iter().map(Some).collect();
            let mut done = 0;
            while done < 2 * PAIRS {
                run_what_is_ready(&client);
                tickets.give();
                done += 1;
                eventually("one more has ended", || {
                    run_what_is_ready(&client);
                    let has_ended = |read: &mut Option<Handle<Value>>| {
                        *read = read.take().filter(|read| !read.is_finished());
                        read.is_none()
                    };
                    let read = reads.iter_mut().map(has_ended).filter(|ended| *ended).count();
                    read + uses.iter().filter(|task| task.is_finished()).count() == done
                });
            }
            let most = alive.most();
            assert!(most <= 2 * threads + 2, "{threads} threads, {kind}: {most}");
        }
    });
}

/// A client whose only thread for blocking work is held until the gate is opened.
fn held_thread(gate: &Gate) -> (Client, Handle<()>) {
    let client = Client::builder().workers(0).blocking_threads(1).build();
    let (begun, gate) = (Gate::new(), gate.clone());
    let hold = {
        let begun = begun.clone();
        move || {
            begun.open();
            gate.pass_blocking();
        }
    };
    let held = client.submit_blocking(hold, ());
    run_what_is_ready(&client);
    begun.pass_blocking();
    (client, held)
}

/// The number of tasks that compete with one that is to be served in its turn.
const OTHERS: usize = 100;

#[test]
fn one_that_waits_for_a_thread_is_not_starved_by_deeper_ones() {
    bounded(|| {
        let (gate, log) = (Gate::new(), Log::new());
        let (client, held) = held_thread(&gate);
        let entry = |name: &'static str| {
            let log = log.clone();
            move |_: String| log.add(name)
        };
        let first = client.submit_blocking(entry("first"), String::new());
        let input = client.ready(String::new());
        let deeper: Vec<_> =
            (0..OTHERS).map(|_| client.submit_blocking(entry("deeper"), &input)).collect();
        run_what_is_ready(&client);
        gate.open();
        drive(&client, gather(deeper)).unwrap();
        drive(&client, gather([held, first])).unwrap();
        let at = log.all().iter().position(|name| *name == "first").unwrap();
        assert!((1..=32).contains(&at), "{at} others were first");
    });
}

#[test]
fn blocking_work_takes_threads_by_priority_also_by_a_lent_one() {
    bounded(|| {
        let (gate, log) = (Gate::new(), Log::new());
        let (client, held) = held_thread(&gate);
        let entry = |name: &'static str| {
            let log = log.clone();
            move || log.add(name)
        };
        let low = client.submit_blocking(entry("low"), ());
        let lent = client.submit_blocking(entry("lent"), ());
        let high = client.task().priority(1).submit_blocking(entry("high"), ());
        run_what_is_ready(&client);
        // It waits for a thread already when it's lent this.
        let needs = client.task().priority(2).submit(async |()| (), &lent);
        run_what_is_ready(&client);
        gate.open();
        drive(&client, gather([held, low, lent, high, needs])).unwrap();
        assert_eq!(log.all(), ["lent", "high", "low"]);
    });
}

#[test]
fn one_that_waits_for_a_limit_is_not_starved_by_deeper_ones() {
    bounded(|| {
        // Also where these need another limit, too, and so wait in another line.
        for theirs in [&["io"][..], &["io", "db"]] {
            let client = Client::builder().workers(0).limit("io", 1).limit("db", 1).build();
            let (gate, log) = (Gate::new(), Log::new());
            let held = client.task().acquire("io").spawn(gate.pass());
            run_what_is_ready(&client);
            let entry = |name: &'static str| {
                let log = log.clone();
                async move |_: String| log.add(name)
            };
            let first = client.task().acquire("io").submit(entry("first"), String::new());
            let input = client.ready(String::new());
            let deeper: Vec<_> = (0..OTHERS)
                .map(|_| {
                    let options = theirs.iter().fold(client.task(), |all, it| all.acquire(*it));
                    options.submit(entry("deeper"), &input)
                })
                .collect();
            run_what_is_ready(&client);
            gate.open();
            drive(&client, gather(deeper)).unwrap();
            drive(&client, gather([held, first])).unwrap();
            let at = log.all().iter().position(|name| *name == "first").unwrap();
            assert!((1..=32).contains(&at), "{theirs:?}: {at} others were first");
        }
    });
}

/// The values of inputs that have ended are copied when a task is submitted, if they're small.
#[test]
fn the_depth_counts_inputs_that_had_ended_before() {
    bounded(|| {
        let client = Client::builder().workers(0).limit("io", 1).build();
        let limited = || client.task().acquire("io");
        let (gate, log) = (Gate::new(), Log::new());
        let holds = limited().spawn(gate.pass());
        run_what_is_ready(&client);
        let mut all = Vec::new();
        for depth in [0, 3, 1, 20, 14, 2] {
            let mut input = None::<Handle<u64>>;
            for _ in 0..depth {
                input = Some(match input {
                    None => client.submit(async || 0, ()),
                    Some(input) => client.submit(async |x: u64| x, input),
                });
                run_what_is_ready(&client);
            }
            let entry = log.clone();
            all.push(match input {
                None => limited().submit(async move || entry.add(depth), ()),
                Some(input) => limited().submit(async move |_: u64| entry.add(depth), input),
            });
            run_what_is_ready(&client);
        }
        gate.open();
        for task in all {
            drive(&client, task).unwrap();
        }
        drop(holds);
        assert_eq!(log.all(), [20, 14, 3, 2, 1, 0]);
    });
}
