//! Rates, at which tasks start (promise 17). Most clients are seeded: rates count by their virtual time.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ensue::{
    Client, ErrorKind, Handle, Rate, Reason, Retry, Status, gather, gather_settled, sleep,
};
use futures::executor::block_on;
use support::hold::Gate;
use support::observe::{Count, Log};
use support::{assert_linear, bounded, eventually};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

async fn inc(x: u64) -> u64 {
    x + 1
}

fn seeded(rate: Rate) -> Client {
    Client::builder().seed(1).rate("api", rate).observe().build()
}

/// Runs what is ready, at the present time.
fn run_ready(client: &Client) {
    client.task().priority(-99).submit(async || (), ()).result().unwrap();
}

/// When the attempts of a task began, in milliseconds: after the wait for the rate.
fn starts<T>(client: &Client, task: &Handle<T>) -> Vec<u128> {
    let phases = client.timeline(task).phases.into_iter();
    let running = phases.filter(|phase| phase.status == Status::Running);
    let starts: BTreeMap<_, _> =
        running.map(|phase| (phase.attempt, phase.at.as_millis())).collect();
    starts.into_values().collect()
}

/// When these tasks started, in milliseconds, in order.
fn all_starts<T: Clone + Send + Sync + 'static>(client: &Client, tasks: &[Handle<T>]) -> Vec<u128> {
    tasks.iter().for_each(|task| drop(task.result()));
    let mut all: Vec<_> = tasks.iter().flat_map(|task| starts(client, task)).collect();
    all.sort_unstable();
    all
}

#[test]
fn starts_are_evenly_spaced() {
    bounded(|| {
        let client = seeded(Rate::new(10, SECOND));
        let tasks = client.task().acquire("api").map(inc, 0..5);
        assert_eq!(all_starts(&client, &tasks), [0, 100, 200, 300, 400]);
        // However long each takes.
        let tasks = client.task().acquire("api").map(async |_: u64| sleep(SECOND).await, 0..3);
        assert_eq!(all_starts(&client, &tasks), [500, 600, 700]);
    });
}

#[test]
fn a_burst_starts_at_once_and_comes_back_with_time() {
    bounded(|| {
        let client = seeded(Rate::new(10, SECOND).burst(3));
        let tasks = client.task().acquire("api").map(inc, 0..5);
        assert_eq!(all_starts(&client, &tasks), [0, 0, 0, 100, 200]);
        client.submit(async || sleep(200 * MS).await, ()).result().unwrap();
        let tasks = client.task().acquire("api").map(inc, 0..4);
        assert_eq!(all_starts(&client, &tasks), [400, 400, 500, 600]);
    });
}

#[test]
fn a_task_may_count_as_several_starts() {
    bounded(|| {
        let client = seeded(Rate::new(10, SECOND).burst(4));
        let tasks = client.task().acquire_many("api", 3).map(inc, 0..3);
        assert_eq!(all_starts(&client, &tasks), [0, 200, 500]);
        let error = client.task().acquire_many("api", 5).submit(inc, 1).result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let text = error.to_string();
        assert!(text.contains("5 starts of the rate `api` at once, whose burst is 4"), "{text}");
        client.set_rate("api", Rate::new(10, SECOND));
        // It could have had as many.
        let waits = client.task().acquire_many("api", 4).submit(inc, 1);
        assert_eq!(client.task().acquire("api").submit(inc, 1).result().unwrap(), 2);
        let text = client.explain(&waits).to_string();
        assert!(text.contains("it needs 4 at once, until `set_rate` allows as many"), "{text}");
        client.set_rate("api", Rate::new(10, SECOND).burst(4));
        waits.result().unwrap();
    });
}

#[test]
fn a_rate_changes_while_tasks_wait() {
    bounded(|| {
        let client = seeded(Rate::new(1, 3600 * SECOND));
        let tasks = client.task().acquire("api").map(inc, 0..4);
        run_ready(&client);
        assert_eq!(client.rates()[0].waiting, 3);
        assert_eq!(client.rates()[0].next, Some(3600 * SECOND));
        client.set_rate("api", Rate::new(1, 10 * SECOND));
        assert_eq!(all_starts(&client, &tasks), [0, 10_000, 20_000, 30_000]);
        client.set_rate("api", Rate::new(0, SECOND));
        let more = client.task().acquire("api").submit(inc, 1);
        run_ready(&client);
        assert_eq!((client.rates()[0].available, client.rates()[0].next), (0, None));
        let text = client.explain(&more).to_string();
        assert!(text.contains("`api`, 0 per 1s: no start until `set_rate` allows one"), "{text}");
        client.set_rate("api", Rate::new(usize::MAX, Duration::ZERO));
        more.result().unwrap();
        client.set_rate("new", Rate::new(2, SECOND));
        let tasks = client.task().acquire("new").map(inc, 0..2);
        gather_two(&tasks);
        let names: Vec<_> = client.rates().into_iter().map(|rate| rate.name).collect();
        assert_eq!(names, ["api", "new"]);
    });
}

fn gather_two(tasks: &[Handle<u64>]) {
    assert_eq!(block_on(gather(tasks)).unwrap(), [1, 2]);
}

#[test]
fn a_limit_and_a_rate_may_have_one_name() {
    bounded(|| {
        let rate = Rate::new(10, SECOND);
        let client = Client::builder().seed(1).rate("api", rate).limit("api", 2).observe().build();
        assert_eq!(
            client.to_string(),
            "client `ensue`: 0 workers, seeded, limits: api 10 per 1s, api 2"
        );
        let tasks = client.task().acquire("api").map(async |_: u64| sleep(SECOND).await, 0..4);
        assert_eq!(all_starts(&client, &tasks), [0, 100, 1000, 1100]);
    });
}

#[test]
fn a_task_that_waits_for_a_rate_holds_no_limit() {
    bounded(|| {
        let builder = Client::builder().seed(1).observe().limit("db", 1);
        let client = builder.rate("api", Rate::new(1, SECOND)).build();
        let both = client.task().acquire("db").acquire("api").map(inc, 0..3);
        run_ready(&client);
        let db = client.task().acquire("db").map(inc, 0..3);
        assert_eq!(all_starts(&client, &db), [0, 0, 0]);
        assert_eq!(client.limits()[0].used, 0);
        // Nor does it start without the limit, and what it lacks counts for nothing.
        let gate = Gate::new();
        let holder = client.task().acquire("db").spawn(gate.pass());
        run_ready(&client);
        let sleeper = client.submit(async || sleep(5 * SECOND).await, ());
        sleeper.result().unwrap();
        assert_eq!(client.rates()[0].available, 1);
        gate.open();
        holder.result().unwrap();
        assert_eq!(all_starts(&client, &both), [0, 5000, 6000]);
    });
}

#[test]
fn each_attempt_is_a_start() {
    bounded(|| {
        let client = seeded(Rate::new(1, SECOND));
        let attempts = Count::new();
        let count = attempts.clone();
        let fails = async move |_: u64| match count.add() {
            0..3 => Err("not yet"),
            _ => Ok(1),
        };
        let options = client.task().acquire("api").retries(Retry::new(3).backoff(MS, MS));
        let task = options.try_submit(fails, 1);
        task.result().unwrap();
        assert_eq!(starts(&client, &task), [0, 1000, 2000, 3000]);
    });
}

#[test]
fn a_start_that_is_cancelled_while_it_waits_counts_for_nothing() {
    bounded(|| {
        let client = seeded(Rate::new(1, SECOND));
        let mut tasks = client.task().acquire("api").map(inc, 0..5);
        run_ready(&client);
        // The timer was the second one's.
        let started = tasks.iter().position(Handle::is_finished).unwrap();
        let first = tasks.remove(started);
        assert!(tasks.remove(0).cancel());
        drop(tasks.remove(1));
        tasks.push(first);
        assert_eq!(all_starts(&client, &tasks), [0, 1000, 2000]);
        assert_eq!(client.rates()[0].waiting, 0);
    });
}

#[test]
fn a_panic_an_error_and_a_timeout_are_starts() {
    bounded(|| {
        let client = seeded(Rate::new(1, SECOND));
        let options = || client.task().acquire("api");
        let panics = options().submit(async || -> u64 { panic!("oh") }, ());
        let fails = options().try_submit(async || Err::<u64, _>("no"), ());
        let late = async || {
            sleep(SECOND).await;
            1
        };
        let late = options().timeout(MS).submit(late, ());
        let blocking = options().submit_blocking(|| 1, ());
        let tasks = [panics, fails, late, blocking];
        assert_eq!(all_starts(&client, &tasks), [0, 1000, 2000, 3000]);
    });
}

#[test]
fn those_that_wait_are_served_by_priority_and_then_in_order() {
    bounded(|| {
        let client = seeded(Rate::new(1, SECOND));
        let log = Log::new();
        let submit = |n: i32, priority| {
            let entry = log.clone();
            let work = async move || entry.add(n);
            let task = client.task().acquire("api").priority(priority).submit(work, ());
            run_ready(&client);
            task
        };
        let tasks: Vec<_> = (0..6).map(|n| submit(n, [9, 0, 3, 0, -1, 3][n as usize])).collect();
        block_on(gather(tasks)).unwrap();
        assert_eq!(log.all(), [0, 2, 5, 1, 3, 4]);
    });
}

#[test]
fn a_task_waits_for_a_rate_without_being_polled() {
    bounded(|| {
        let client = seeded(Rate::new(1, SECOND));
        let tasks = client.task().name("wait").acquire("api").map(inc, 0..300);
        block_on(gather(tasks)).unwrap();
        let stats = client.stats();
        let polls = stats.functions.iter().find(|it| &*it.name == "wait").unwrap().polls;
        // One to ask, one when it's served: the first one is served at once.
        assert!(polls <= 2 * 300, "{polls}");
    });
}

#[test]
fn each_name_of_a_pattern_has_its_own_rate() {
    bounded(|| {
        let rate = Rate::new(1, SECOND);
        let client = Client::builder().seed(1).rate_each("host:*", rate).observe().build();
        let get = |host: &str| client.task().acquire(format!("host:{host}")).submit(inc, 1);
        let tasks = ["a", "b", "a", "b", "a"].map(get);
        assert_eq!(all_starts(&client, &tasks), [0, 0, 1000, 1000, 2000]);
        assert_eq!(client.rates().len(), 1, "that of `b` is full again");
        drop(tasks);
        // Though no task is left, it counts until it would allow a start anyway.
        assert_eq!(all_starts(&client, &[get("a")]), [3000]);
        client.set_rate_each("host:*", Rate::new(2, SECOND));
        let tasks = ["a", "a", "b"].map(get);
        assert_eq!(all_starts(&client, &tasks), [3000, 3500, 4000]);
        client.submit(async || sleep(9 * SECOND).await, ()).result().unwrap();
        assert!(client.rates().is_empty());
    });
}

#[test]
fn a_slow_rate_does_not_keep_what_others_can_use() {
    bounded(|| {
        let builder = Client::builder().seed(1).observe().limit("sockets", 2);
        let client = builder.rate_each("host:*", Rate::new(1, 3600 * SECOND)).build();
        let get = |host: String| {
            client.task().acquire("sockets").acquire(format!("host:{host}")).submit(inc, 1)
        };
        let slow: Vec<_> = (0..50).map(|_| get("slow".into())).collect();
        run_ready(&client);
        let others: Vec<_> = (0..100).map(|n| get(n.to_string())).collect();
        assert!(all_starts(&client, &others).iter().all(|start| *start == 0));
        assert_eq!(slow.iter().filter(|task| task.is_finished()).count(), 1);
    });
}

#[test]
fn in_real_time_tasks_of_all_kinds_start_no_sooner() {
    bounded(|| {
        let client = Client::builder().workers(2).rate("api", Rate::new(1000, SECOND)).build();
        let begin = Instant::now();
        let options = || client.task().acquire("api");
        let tasks = options().map(inc, 0..20);
        let blocking: Vec<_> = (0..20).map(|n| options().submit_blocking(move || n, ())).collect();
        block_on(gather(tasks)).unwrap();
        block_on(gather(blocking)).unwrap();
        assert!(begin.elapsed() >= 39 * MS, "{:?}", begin.elapsed());
        let rate = &client.rates()[0];
        assert_eq!((rate.waiting, rate.rate), (0, Rate::new(1000, SECOND)));
    });
}

#[test]
fn a_client_whose_tasks_wait_for_a_rate_is_closed_and_dropped() {
    bounded(|| {
        for close in [true, false] {
            let rate = Rate::new(1, 3600 * SECOND);
            let client = Client::builder().workers(1).rate("api", rate).build();
            let tasks = client.task().acquire("api").map(inc, 0..3);
            eventually("they wait", || client.rates()[0].waiting == 2);
            if close {
                block_on(client.close());
            }
            drop(client);
            let kinds = block_on(gather_settled(tasks)).into_iter().map(|it| it.err());
            let kinds: Vec<_> = kinds.flatten().map(|error| error.kind()).collect();
            assert_eq!(kinds, [ErrorKind::Closed; 2]);
        }
    });
}

#[test]
fn what_a_task_waits_for_is_explained_and_found_as_a_stall() {
    bounded(|| {
        let client = seeded(Rate::new(10, SECOND).burst(2));
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let task = client.task().acquire("api").submit(inc, n);
                run_ready(&client);
                task
            })
            .collect();
        let waits = |ahead| Reason::WaitsForRate {
            name: "api".into(),
            rate: Rate::new(10, SECOND).burst(2),
            needed: 1,
            ahead,
            next: Some(100 * MS),
        };
        for (ahead, task) in tasks[2..].iter().enumerate() {
            let explanation = client.explain(task);
            assert_eq!(explanation.status, Status::Ready);
            assert_eq!(explanation.reasons, [waits(ahead)]);
        }
        let text = client.explain(&tasks[3]).to_string();
        let wanted = "it waits for the rate `api`, 10 per 1s, up to 2 at once: next start in 100.0ms, 1 served before it";
        assert!(text.contains(wanted), "{text}");

        let (send, stalls) = mpsc::channel();
        let client = Client::builder()
            .workers(1)
            .rate("api", Rate::new(1, 3600 * SECOND))
            .on_stall(20 * MS, move |stall| send.send(stall.to_string()).unwrap_or_default())
            .build();
        let _tasks = client.task().acquire("api").map(inc, 0..2);
        // A busy machine may begin with a stall of its own, before the first one has started.
        let wanted = "it waits for the rate `api`, 1 per 3600s: next start in";
        assert!(stalls.iter().any(|text| text.contains(wanted)));
    });
}

#[test]
fn no_wait_for_a_rate_is_a_cycle() {
    bounded(|| {
        let builder = Client::builder().seed(1).limit("db", 2);
        let client = builder.rate("api", Rate::new(1, SECOND)).build();
        client.task().acquire("api").submit(inc, 1).result().unwrap();
        let inner = client.clone();
        let explained = Log::new();
        let log = explained.clone();
        // It holds the limit, and awaits one that needs it too, but lacks the rate only.
        let holder = client.task().acquire("db").spawn(async move {
            let waits = inner.task().acquire("db").acquire("api").submit(inc, 1);
            sleep(MS).await;
            log.add(inner.explain(&waits).to_string());
            waits.await
        });
        assert_eq!(holder.result().unwrap().unwrap(), 2);
        let text = &explained.all()[0];
        assert!(text.contains("next start in") && !text.contains("cycle"), "{text}");
    });
}

#[test]
fn the_cost_of_a_task_that_waits_for_a_rate_does_not_grow_with_their_number() {
    bounded(|| assert_linear(10_000, let_many_wait_for_a_rate));
}

fn let_many_wait_for_a_rate(count: usize) {
    let client = Client::builder().seed(1).rate("api", Rate::new(1, SECOND)).build();
    let tasks = client.task().acquire("api").map(inc, 0..count as u64);
    block_on(gather(tasks)).unwrap();
}

#[test]
fn without_an_interval_there_is_no_bound() {
    bounded(|| {
        let client = seeded(Rate::new(5, Duration::ZERO));
        let tasks: Vec<_> =
            [1, 5, 1000].map(|n| client.task().acquire_many("api", n).submit(inc, 1)).into();
        assert_eq!(block_on(gather(tasks)).unwrap(), [2, 2, 2]);
    });
}
