//! Whole workers, with a scheduler that says what it's told to say.

mod leaving;
mod memory;
mod scheduler;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use scheduler::{Mood, Order, Scheduler, Stream, ask, fetch, within};

use super::*;
use crate::dask::wire::rust::{ItemCall, pick_args};
use crate::dask::wire::serialized::{Content, Serialized};
use crate::dask::wire::value::Value;
use crate::dask::wire::{WireKey, call};

async fn inc(x: u64) -> u64 {
    x + 1
}

async fn refuse(why: String) -> Result<u64, String> {
    Err(why)
}

async fn panics(why: String) -> u64 {
    panic!("{why}")
}

fn waits(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

async fn zeros(length: u64) -> Bytes {
    vec![0; length as usize].into()
}

async fn list(length: u64) -> Vec<u64> {
    (0..length).collect()
}

async fn length(bytes: Bytes) -> u64 {
    bytes.len() as u64
}

static RUNNING: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Runs until it's dropped, and shows that.
async fn forever(number: u64) -> u64 {
    struct Shown(u64);
    impl Drop for Shown {
        fn drop(&mut self) {
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| *it != self.0);
        }
    }
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    let _shown = Shown(number);
    std::future::pending().await
}

fn running() -> HashSet<u64> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < scheduler::PATIENCE, "{what} never happens");
        thread::sleep(Duration::from_millis(5));
    }
}

const INC: &str = "ensue::dask::worker::tests::inc";
const REFUSE: &str = "ensue::dask::worker::tests::refuse";
const PANICS: &str = "ensue::dask::worker::tests::panics";
const WAITS: &str = "ensue::dask::worker::tests::waits";
const ZEROS: &str = "ensue::dask::worker::tests::zeros";
const LIST: &str = "ensue::dask::worker::tests::list";
const LENGTH: &str = "ensue::dask::worker::tests::length";
const FOREVER: &str = "ensue::dask::worker::tests::forever";

/// Any runtime may run it.
#[allow(dead_code)]
fn running_is_send() {
    fn check(_: impl Send) {}
    check(worker().run(""));
}

fn worker() -> Worker {
    let registry = Registry::new().add(inc).try_add(refuse).add(panics).add_blocking(waits);
    let registry = registry.add(zeros).add(list).add(length).add(forever);
    Worker::new(registry).threads(2).memory_limit(1 << 30)
}

fn join(scheduler: &Scheduler, worker: Worker) -> (Running, Stream) {
    let running = block_on(worker.start(&scheduler.address)).unwrap();
    (running, scheduler.stream())
}

fn number(value: &Serialized) -> Option<i64> {
    match value.content().unwrap() {
        Content::Plain(value) => value.as_int(),
        _ => None,
    }
}

#[test]
fn a_task_is_run_and_its_result_given_away_and_freed() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, mut stream) = join(&scheduler, worker().name("w").resources([("gpu", 2.0)]));
    let resources = stream.registration().get("resources").and_then(Value::as_map).unwrap();
    let known: Vec<_> =
        resources.named().map(|(name, n)| (name.to_owned(), n.as_float().unwrap())).collect();
    assert_eq!(known, [("gpu".to_owned(), 2.0), ("rust".to_owned(), 2.0)]);
    assert_eq!((stream.address(), running.name()), (running.address(), "w"));

    stream.compute(&Order::new("inc-1", INC).args([41]));
    let report = stream.finished("inc-1");
    assert_eq!(report.get("run_id"), Some(&1.into()));
    assert_eq!(report.text("stimulus_id"), Some("a-test"));
    let value = fetch(running.address(), "inc-1").unwrap();
    assert_eq!(number(&value), Some(42));
    assert_eq!(report.get("nbytes"), Some(&(value.nbytes() as i64).into()));
    // The same again: only the run is new.
    stream.compute(&Order { run: 7, ..Order::new("inc-1", INC).args([41]) });
    assert_eq!(stream.finished("inc-1").get("run_id"), Some(&7.into()));

    let beat = scheduler.called("heartbeat_worker");
    let metrics = beat.get("metrics").and_then(Value::as_map).unwrap();
    for name in ["bandwidth", "digests_total_since_heartbeat", "memory", "spilled_bytes"] {
        assert!(metrics.get(name).is_some(), "{name}");
    }
    stream.about("free-keys", &["inc-1"]);
    eventually("freeing", || fetch(running.address(), "inc-1").is_none());
    assert_eq!(ask(running.address(), call::ping()), Value::Bin("pong".into()));
    assert!(stream.rest(Duration::from_millis(50)).is_empty());
}

#[test]
fn inputs_come_from_other_workers() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (one, mut first) = join(&scheduler, worker());
    let (two, mut second) = join(&scheduler, worker());
    first.compute(&Order::new("zeros-1", ZEROS).args([3_000_000]));
    first.finished("zeros-1");
    let inputs = [("zeros-1", one.address())];
    second.compute(&Order::new("length-1", LENGTH).input(&inputs));
    second.finished("length-1");
    assert_eq!(second.report("add-keys").get("keys").unwrap().texts(), ["zeros-1"]);
    assert_eq!(number(&fetch(two.address(), "length-1").unwrap()), Some(3_000_000));
    // A copy that nobody here takes goes.
    second.about("remove-replicas", &["zeros-1"]);
    assert_eq!(second.report("release-worker-data").text("key"), Some("zeros-1"));
    assert!(fetch(two.address(), "zeros-1").is_none());
}

#[test]
fn who_does_not_answer_is_not_waited_for() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (one, mut first) = join(&scheduler, worker());
    let (_two, mut second) = join(&scheduler, worker());
    first.compute(&Order::new("zeros-1", ZEROS).args([10]));
    first.finished("zeros-1");
    second.compute(&Order::new("length-1", LENGTH).input(&[("zeros-1", "tcp://127.0.0.1:1")]));
    let asked = second.report("request-refresh-who-has");
    assert_eq!(asked.get("keys").unwrap().texts(), ["zeros-1"]);
    // Others aren't held up.
    second.compute(&Order::new("inc-1", INC).args([1]));
    second.finished("inc-1");
    let answer = |holders: &[&str]| {
        let holders = Value::Array(holders.iter().map(|holder| (*holder).into()).collect());
        let who_has = crate::dask::wire::value::Map(vec![("zeros-1".into(), holders)]);
        second.order(&[
            ("op", &"refresh-who-has"),
            ("who_has", &who_has),
            ("stimulus_id", &"a-test"),
        ]);
    };
    answer(&[]);
    answer(&[one.address()]);
    second.finished("length-1");
}

#[test]
fn failures_have_a_class_and_a_text() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (_running, mut stream) = join(&scheduler, worker());
    let erred = |stream: &mut Stream, task: Order<'_>| {
        stream.compute(&task);
        stream.erred(task.key)
    };
    let task = Order::new("a", REFUSE).args(["no such thing"]);
    assert_eq!(erred(&mut stream, task), "RuntimeError: no such thing");
    let task = Order::new("b", PANICS).args(["oh"]);
    assert_eq!(erred(&mut stream, task), "SystemError: panicked: oh");
    let text = erred(&mut stream, Order::new("c", "app::missing"));
    assert!(text.starts_with("LookupError: no function `app::missing`"), "{text}");
    let text = erred(&mut stream, Order::new("d", INC).args(["text"]));
    assert!(text.starts_with("TypeError: "), "{text}");
    let late =
        |key, function, arg| Order { timeout: Some(0.05), ..Order::new(key, function).args([arg]) };
    let text = erred(&mut stream, late("e", FOREVER, 1001));
    assert_eq!(text, "TimeoutError: it took longer than its 50ms");
    eventually("dropping", || !running().contains(&1001));
    let begin = Instant::now();
    let text = erred(&mut stream, late("f", WAITS, 500));
    assert!(text.starts_with("TimeoutError") && begin.elapsed() < Duration::from_millis(400));
    // The worker is as good as new.
    stream.compute(&Order::new("g", INC).args([1]));
    stream.finished("g");
}

/// As after a list was lost with its worker, and made again not so far as before.
#[test]
fn a_call_whose_result_is_missing_in_a_list_is_made() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, mut stream) = join(&scheduler, worker());
    let holders = ["list", "list-2"].map(|key| [(key, running.address())]);
    let taking = |key, list: usize, function: &str, arg: u64| {
        let call = rmp_serde::to_vec(&(arg,)).unwrap();
        let args = pick_args(&ItemCall { item: 1, function, args: &call });
        Order { args, ..Order::new(key, INC).input(&holders[list]) }
    };
    stream.compute(&Order::new("list", LIST).args([1]));
    stream.finished("list");
    for (key, function, arg, expected) in [("a", INC, 5, 7), ("b", WAITS, 10, 11)] {
        stream.compute(&taking(key, 0, function, arg));
        stream.finished(key);
        assert_eq!(number(&fetch(running.address(), key).unwrap()), Some(expected));
    }
    stream.compute(&taking("c", 0, "app::missing", 1));
    let text = stream.erred("c");
    assert!(text.starts_with("LookupError: no function `app::missing`"), "{text}");
    // It's used where it's there.
    stream.compute(&Order::new("list-2", LIST).args([2]));
    stream.finished("list-2");
    stream.compute(&taking("d", 1, "app::missing", 1));
    stream.finished("d");
    assert_eq!(number(&fetch(running.address(), "d").unwrap()), Some(2));
}

#[test]
fn what_is_freed_stops_and_is_never_spoken_of_again() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (_running, mut stream) = join(&scheduler, worker().threads(1));
    stream.compute(&Order::new("forever-1", FOREVER).args([2001]));
    eventually("starting", || running().contains(&2001));
    stream.compute(&Order::new("waits-1", WAITS).args([1500]));
    stream.compute(&Order::new("inc-1", INC).args([1]));
    let steal = |key: &str| {
        stream.order(&[("op", &"steal-request"), ("key", &key), ("stimulus_id", &"steal")]);
    };
    steal("forever-1");
    steal("inc-1");
    steal("nobody's");
    let states: Vec<_> = (0..3)
        .map(|_| {
            let answer = stream.report("steal-response");
            assert_eq!(answer.text("stimulus_id"), Some("steal"));
            answer.text("state").map(str::to_owned)
        })
        .collect();
    assert_eq!(states, [Some("executing".to_owned()), Some("ready".to_owned()), None]);
    stream.about("free-keys", &["forever-1"]);
    eventually("dropping", || !running().contains(&2001));
    // The one thread is free for the next, which is freed while it blocks.
    thread::sleep(Duration::from_millis(50));
    stream.about("free-keys", &["waits-1"]);
    stream.compute(&Order::new("inc-2", INC).args([1]));
    let begin = Instant::now();
    stream.finished("inc-2");
    assert!(begin.elapsed() > Duration::from_millis(50), "two on one thread");
    assert_eq!(stream.rest(Duration::from_millis(50)), [""; 0]);
}

#[test]
fn results_are_put_here_and_listed() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, stream) = join(&scheduler, worker());
    let data = [(WireKey::from("x"), Serialized::bytes("payload".into()))];
    let reply = call::map_reply(ask(running.address(), call::update_data(&data))).unwrap();
    assert_eq!(reply.text("status"), Some("OK"));
    assert_eq!(fetch(running.address(), "x"), Some(data[0].1.clone()));
    let keys = ask(running.address(), call::request("keys", &[]));
    assert_eq!(keys.texts(), ["x"]);
    let run = call::map_reply(ask(running.address(), call::request("run", &[]))).unwrap();
    assert_eq!(run.text("status"), Some("error"));
    assert_eq!(ask(running.address(), call::request("nonsense", &[])), Value::Nil);
    // Another worker gets it for somebody.
    let (other, _stream) = join(&scheduler, worker());
    let holders = Value::Array(vec!["tcp://127.0.0.1:1".into(), running.address().into()]);
    let who_has =
        crate::dask::wire::value::Map(vec![("x".into(), holders.clone()), ("y".into(), holders)]);
    let gather = call::request("gather", &[("who_has", &who_has)]);
    let reply = call::map_reply(ask(other.address(), gather)).unwrap();
    assert_eq!(reply.get("keys").unwrap().texts(), ["y"]);
    assert_eq!(fetch(other.address(), "x"), Some(data[0].1.clone()));
    drop(stream);
}

#[test]
fn the_scheduler_is_never_left_waiting_for_what_others_put_here_or_take_away() {
    let scheduler = Scheduler::start(Mood::Kind);
    let (running, mut stream) = join(&scheduler, worker());
    let put = |key: &str| {
        let data = [(WireKey::from(key), Serialized::bytes("payload".into()))];
        ask(running.address(), call::update_data(&data));
        fetch(running.address(), key).is_some_and(|value| value == data[0].1)
    };
    let forever = Order::new("forever-1", FOREVER).args([4001]);
    stream.compute(&Order { run: 5, ..forever.clone() });
    eventually("starting", || super::tests::running().contains(&4001));
    assert!(put("forever-1"));
    assert_eq!(stream.finished("forever-1").get("run_id"), Some(&5.into()));
    eventually("dropping", || !super::tests::running().contains(&4001));

    let free = |key: &str| {
        ask(running.address(), call::request("free_keys", &[("keys", &[key])]));
    };
    free("forever-1");
    assert!(fetch(running.address(), "forever-1").is_none());
    stream.compute(&Order { run: 6, ..forever });
    eventually("starting", || super::tests::running().contains(&4001));
    free("forever-1");
    stream.compute(&Order::new("inc-1", INC).args([1]));
    stream.finished("inc-1");
    assert!(super::tests::running().contains(&4001));
    assert!(put("forever-1"));
    assert_eq!(stream.finished("forever-1").get("run_id"), Some(&6.into()));
}
