//! Named limits (promise 17).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ensue::{Client, ErrorKind, Handle, Retry, Status, gather, gather_settled, wait_all};
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, hold_worker, turns};
use support::observe::{Count, Log};
use support::{assert_linear, bounded, eventually};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// How much of a limit the running tasks have, and the most that they had at once.
#[derive(Clone, Default)]
struct Meter(Arc<(AtomicUsize, AtomicUsize)>);

struct Inside(Meter, usize);

impl Meter {
    fn enter(&self, n: usize) -> Inside {
        let now = self.0.0.fetch_add(n, Ordering::SeqCst) + n;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone(), n)
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

fn limited(workers: usize, name: &str, n: usize) -> Client {
    Client::builder().workers(workers).limit(name, n).build()
}

/// Asserts that a task can have the whole limit.
#[track_caller]
fn assert_whole(client: &Client, name: &str, n: usize) {
    let all = client.task().acquire_many(name, n).submit(inc, 1);
    let waited = block_on(wait_all([&all]).timeout(Duration::from_secs(60)));
    assert_eq!(waited.pending.len(), 0, "some of `{name}` is missing");
}

#[test]
fn never_more_than_the_limit_run() {
    bounded(|| {
        let client = limited(4, "gpu", 2);
        let meter = Meter::default();
        let enter = meter.clone();
        let f = async move |n: u64| {
            let _inside = enter.enter(1);
            for _ in 0..n % 4 {
                yield_now().await;
            }
        };
        let xs = client.task().acquire("gpu").map(f, 0..1000);
        block_on(gather(xs)).unwrap();
        assert!(meter.most() <= 2, "{}", meter.most());
        assert_whole(&client, "gpu", 2);
    });
}

#[test]
fn the_limit_is_used() {
    bounded(|| {
        let client = limited(1, "gpu", 3);
        let meter = Meter::default();
        let gate = Gate::new();
        let (enter, pass) = (meter.clone(), gate.clone());
        let f = async move |_: u64| {
            let _inside = enter.enter(1);
            pass.pass().await;
        };
        let xs = client.task().acquire("gpu").map(f, 0..10);
        eventually("three run", || meter.most() == 3);
        client.submit(inc, 1).result().unwrap();
        gate.open();
        block_on(gather(xs)).unwrap();
        assert_eq!(meter.most(), 3);
    });
}

#[test]
fn tasks_take_different_amounts() {
    bounded(|| {
        let client = limited(4, "memory", 10);
        let meter = Meter::default();
        let xs: Vec<_> = (0..500usize)
            .map(|n| {
                let (enter, size) = (meter.clone(), n % 10 + 1);
                let f = async move || {
                    let _inside = enter.enter(size);
                    yield_now().await;
                };
                client.task().acquire_many("memory", size).submit(f, ())
            })
            .collect();
        block_on(gather(xs)).unwrap();
        assert!(meter.most() <= 10, "{}", meter.most());
        assert_whole(&client, "memory", 10);
    });
}

#[test]
fn the_limit_is_whole_after_every_outcome() {
    bounded(|| {
        let client = limited(2, "one", 1);
        let options = || client.task().acquire("one");
        for _ in 0..50 {
            options().submit(inc, 1).result().unwrap();
            assert!(options().try_submit(async || Err::<(), _>("no"), ()).result().is_err());
            assert!(options().submit(async || panic!("oh"), ()).map_unit().result().is_err());
            let pending = async || std::future::pending::<()>().await;
            let late = options().timeout(Duration::from_micros(100)).submit(pending, ());
            assert!(late.result().unwrap_err().is_timeout());
            let cancelled = options().submit(pending, ());
            cancelled.cancel();
            drop(options().submit(pending, ()));
            let running = options().submit(pending, ());
            eventually("it runs", || running.status() == Status::Running);
            client.submit(inc, 1).result().unwrap();
            running.cancel();
            let running = options().submit(pending, ());
            eventually("it runs", || running.status() == Status::Running);
            drop(running);
            let failed = client.try_submit(async || Err::<u64, _>("no"), ());
            assert!(options().submit(inc, failed).result().is_err());
            options().submit_blocking(|| (), ()).result().unwrap();
            assert!(options().submit_blocking(|| panic!("oh"), ()).map_unit().result().is_err());
            options().retries(2).submit(inc, 1).result().unwrap();
            options().spawn(async {}).result().unwrap();
        }
        assert_whole(&client, "one", 1);
    });
}

/// Determines the type of a handle whose function never returns.
trait MapUnit {
    fn map_unit(self) -> Handle<()>;
}

impl MapUnit for Handle<()> {
    fn map_unit(self) -> Handle<()> {
        self
    }
}

#[test]
fn a_queued_task_that_is_cancelled_takes_nothing() {
    bounded(|| {
        let client = limited(1, "one", 1);
        let held = hold_worker(&client);
        let xs = client.task().acquire("one").map(inc, 0..10);
        xs[0].cancel();
        xs[5].cancel();
        held.let_go();
        let results = block_on(gather_settled(xs));
        assert_eq!(results.iter().filter(|x| x.is_err()).count(), 2);
        assert_whole(&client, "one", 1);
    });
}

#[test]
fn each_attempt_takes_it_again() {
    bounded(|| {
        let client = limited(2, "one", 1);
        let meter = Meter::default();
        let enter = meter.clone();
        let f = async move |n: u64| {
            let _inside = enter.enter(1);
            yield_now().await;
            if n % 2 == 0 { Err("even") } else { Ok(n) }
        };
        let wait = Duration::from_micros(10);
        let options = client.task().acquire("one").retries(Retry::new(3).backoff(wait, wait));
        let results = block_on(gather_settled(options.try_map(f, 0..50)));
        assert_eq!(results.iter().filter(|x| x.is_ok()).count(), 25);
        assert_eq!(meter.most(), 1);
        assert_whole(&client, "one", 1);
    });
}

// Limits that no task can have.

#[test]
fn an_unknown_limit_is_an_error_that_names_it() {
    bounded(|| {
        let client = limited(1, "gpu", 2);
        let ran = Count::new();
        let run = ran.clone();
        let x = client.task().acquire("gpus").submit(async move || run.add(), ());
        assert!(x.is_finished(), "at once");
        let error = x.result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.origin(), x.key());
        let text = error.to_string();
        assert!(text.contains("`gpus`") && text.contains("`gpu`"), "{text}");
        assert_eq!(x.status(), Status::Failed);
        let y = client.submit(async |_: usize| (), &x);
        assert_eq!(y.result().unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(ran.get(), 0);
        let bare = Client::builder().workers(1).build();
        let x = bare.task().acquire("gpu").submit_blocking(|| 1, ());
        assert_eq!(x.result().unwrap_err().kind(), ErrorKind::Limit);
    });
}

#[test]
fn too_much_of_a_limit_is_an_error_that_names_it() {
    bounded(|| {
        let client = limited(1, "gpu", 2);
        for x in [
            client.task().acquire_many("gpu", 3).submit(inc, 1),
            client.task().acquire_many("gpu", usize::MAX).submit(inc, 1),
            // Two calls add up.
            client.task().acquire_many("gpu", 2).acquire("gpu").submit(inc, 1),
            client.task().acquire_many("gpu", usize::MAX).acquire_many("gpu", 2).submit(inc, 1),
            client.task().acquire_many("gpu", 3).map(inc, [1]).remove(0),
            client.task().acquire_many("gpu", 3).spawn(async { 1 }),
            client.task().acquire_many("gpu", 3).submit_pure(inc, 1),
        ] {
            let error = x.result().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            assert!(error.to_string().contains("`gpu`"), "{error}");
        }
        assert_eq!(client.task().acquire_many("gpu", 2).submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_limit_of_zero_bars_all_but_those_that_need_none() {
    bounded(|| {
        let client = limited(1, "shut", 0);
        let x = client.task().acquire("shut").submit(inc, 1);
        assert_eq!(client.task().acquire_many("shut", 0).submit(inc, 1).result().unwrap(), 2);
        assert!(!x.is_finished());
        client.set_limit("shut", 1);
        assert_eq!(x.result().unwrap(), 2);
    });
}

#[test]
fn a_task_that_needs_none_of_a_limit_does_not_wait_for_it() {
    bounded(|| {
        let client = limited(2, "one", 1);
        let (gate, holds) = (Gate::new(), Gate::new());
        let (pass, hold) = (gate.pass(), holds.clone());
        let holder = client.task().acquire("one").spawn(async move {
            hold.open();
            pass.await;
        });
        holds.pass_blocking();
        let waits = client.task().acquire("one").submit(inc, 1);
        let needs_none = client.task().acquire_many("one", 0).submit(inc, 2);
        assert_eq!(needs_none.result().unwrap(), 3);
        assert!(!waits.is_finished());
        gate.open();
        assert_eq!(waits.result().unwrap(), 2);
        holder.result().unwrap();
    });
}

#[test]
fn a_client_shows_its_limits() {
    let client = Client::builder().name("c").workers(0).limit("a", 1).limit("b", 20).build();
    assert_eq!(client.to_string(), "client `c`: 0 workers, limits: a 1, b 20");
    assert!(format!("{client:?}").contains(r#"limits: ["a 1", "b 20"]"#), "{client:?}");
}

#[test]
fn the_last_declaration_counts() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("a", 1).limit("a", 3).build();
        assert_eq!(client.task().acquire_many("a", 3).submit(inc, 1).result().unwrap(), 2);
    });
}

// The order of waiting tasks.

#[test]
fn several_limits_are_taken_together() {
    bounded(|| {
        let client = Client::builder().workers(4).limit("a", 2).limit("b", 3).build();
        let (a, b) = (Meter::default(), Meter::default());
        let mut xs = Vec::new();
        for n in 0..600usize {
            let (meter_a, meter_b) = (a.clone(), b.clone());
            let (need_a, need_b) = (n % 3, (n / 3) % 4);
            let f = async move || {
                let _inside = (meter_a.enter(need_a), meter_b.enter(need_b));
                yield_now().await;
            };
            // In both orders, in which tasks could deadlock.
            let options = client.task();
            let options = match n % 2 {
                0 => options.acquire_many("a", need_a).acquire_many("b", need_b),
                _ => options.acquire_many("b", need_b).acquire_many("a", need_a),
            };
            xs.push(options.submit(f, ()));
        }
        block_on(gather(xs)).unwrap();
        assert!(a.most() <= 2 && b.most() <= 3, "{} {}", a.most(), b.most());
        assert_whole(&client, "a", 2);
        assert_whole(&client, "b", 3);
    });
}

#[test]
fn a_small_task_does_not_overtake_a_large_one_for_ever() {
    bounded(|| {
        let client = limited(1, "two", 2);
        let log = Log::new();
        let gates: Vec<_> = (0..2).map(|_| Gate::new()).collect();
        let first: Vec<_> = gates
            .iter()
            .map(|gate| {
                let gate = gate.clone();
                client.task().acquire("two").spawn(async move { gate.pass().await })
            })
            .collect();
        let entry = log.clone();
        let large =
            client.task().acquire_many("two", 2).submit(async move || entry.add("large"), ());
        let small: Vec<_> = (0..3)
            .map(|_| {
                let entry = log.clone();
                client.task().acquire("two").submit(async move || entry.add("small"), ())
            })
            .collect();
        client.submit(inc, 1).result().unwrap();
        gates[0].open();
        first[0].result().unwrap();
        client.submit(inc, 1).result().unwrap();
        assert_eq!(log.len(), 0, "one is free, and the large one is the first to get it");
        gates[1].open();
        large.result().unwrap();
        block_on(gather(small)).unwrap();
        assert_eq!(log.all(), ["large", "small", "small", "small"]);
    });
}

#[test]
fn a_task_that_waits_for_one_limit_does_not_block_another() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("a", 1).limit("b", 1).build();
        let gate = Gate::new();
        let pass = gate.clone();
        let holds_a = client.task().acquire("a").spawn(async move { pass.pass().await });
        let wants_a = client.task().acquire("a").submit(inc, 1);
        client.submit(inc, 1).result().unwrap();
        assert_eq!(client.task().acquire("b").submit(inc, 1).result().unwrap(), 2);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
        assert!(!wants_a.is_finished());
        assert_eq!(wants_a.status(), Status::Ready);
        gate.open();
        assert_eq!(wants_a.result().unwrap(), 2);
        holds_a.result().unwrap();
    });
}

#[test]
fn waiting_tasks_are_served_by_priority_and_then_in_order() {
    bounded(|| {
        let client = limited(1, "one", 1);
        let log = Log::new();
        let (begun, gate) = (Gate::new(), Gate::new());
        let (begin, pass) = (begun.clone(), gate.clone());
        let first = client.task().acquire("one").spawn(async move {
            begin.open();
            pass.pass().await
        });
        // Those with a priority above its own would start before it.
        begun.pass_blocking();
        let xs: Vec<_> = [0, 3, -2, 3, 0, 9]
            .into_iter()
            .enumerate()
            .map(|(n, p)| {
                let entry = log.clone();
                client.task().priority(p).acquire("one").submit(async move || entry.add(n), ())
            })
            .collect();
        // It has the lowest priority: when it has run, all of them wait for the limit.
        client.task().priority(-9).submit(inc, 1).result().unwrap();
        gate.open();
        block_on(gather(xs)).unwrap();
        first.result().unwrap();
        assert_eq!(log.all(), [5, 1, 3, 0, 4, 2]);
    });
}

#[test]
fn a_task_inherits_a_priority_while_it_waits_for_a_limit() {
    bounded(|| {
        let client = limited(1, "one", 1);
        let log = Log::new();
        let gate = Gate::new();
        let pass = gate.clone();
        let first = client.task().acquire("one").spawn(async move { pass.pass().await });
        let xs: Vec<_> = (0..3u64)
            .map(|n| {
                let entry = log.clone();
                let f = async move || {
                    entry.add(n);
                    n
                };
                client.task().acquire("one").submit(f, ())
            })
            .collect();
        client.task().priority(-9).submit(inc, 1).result().unwrap();
        let urgent = client.task().priority(5).submit(inc, &xs[2]);
        client.task().priority(-9).submit(inc, 1).result().unwrap();
        gate.open();
        block_on(gather(&xs)).unwrap();
        assert_eq!(urgent.result().unwrap(), 3);
        first.result().unwrap();
        assert_eq!(log.all(), [2, 0, 1]);
    });
}

#[test]
fn a_limit_is_held_across_awaits_and_freed_before_dependents_start() {
    bounded(|| {
        let client = limited(1, "one", 1);
        for _ in 0..200 {
            let x = client.task().acquire("one").submit(
                async || {
                    yield_now().await;
                    1
                },
                (),
            );
            let second = client.task().acquire("one").submit(async |x: u64| x + 1, &x);
            assert_eq!(second.result().unwrap(), 2);
        }
    });
}

#[test]
fn cancelling_many_waiting_tasks_leaves_the_limit_whole() {
    bounded(|| {
        let client = limited(2, "three", 3);
        let meter = Meter::default();
        for round in 0..30 {
            let enter = meter.clone();
            let f = async move |n: usize| {
                let _inside = enter.enter(n % 3 + 1);
                yield_now().await;
            };
            let submit =
                |n: usize| client.task().acquire_many("three", n % 3 + 1).submit(f.clone(), n);
            let (kept, others): (Vec<_>, Vec<_>) =
                (0..30).map(|n| (submit(n), submit(n + 1))).unzip();
            let canceller = std::thread::spawn(move || {
                for x in others {
                    if round % 2 == 0 {
                        drop(x);
                    } else {
                        x.cancel();
                    }
                }
            });
            assert!(block_on(wait_all(kept)).pending.is_empty());
            canceller.join().unwrap();
            assert!(meter.most() <= 3);
        }
        assert_whole(&client, "three", 3);
    });
}

#[test]
fn the_cost_of_a_waiting_task_does_not_grow_with_their_number() {
    bounded(|| assert_linear(30_000, let_many_wait_for_limits));
}

fn let_many_wait_for_limits(count: usize) {
    {
        let client = Client::builder().workers(1).limit("one", 1).limit("two", 2).build();
        let gate = Gate::new();
        let waits = gate.pass();
        let first = client.task().acquire("one").spawn(waits);
        // Two sets of limits, one of which contains the other.
        let submit = |n: usize| {
            let task = client.task().acquire("one");
            let task = if n % 2 == 0 { task.acquire("two") } else { task };
            task.submit(async || yield_now().await, ())
        };
        let handles: Vec<_> = (0..count).map(submit).collect();
        let waiting = || client.stats().limits[0].waiting;
        turns(&client);
        assert_eq!(waiting(), count);
        let (cancelled, wanted) = handles.split_at(count / 2);
        assert!(cancelled.iter().all(Handle::cancel));
        assert_eq!(waiting(), count - count / 2);
        gate.open();
        first.result().unwrap();
        assert!(block_on(wait_all(wanted)).done.iter().all(|x| x.error().is_none()));
        assert_whole(&client, "one", 1);
        assert_whole(&client, "two", 2);
    }
}
