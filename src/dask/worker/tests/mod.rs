//! Whole workers against a fake scheduler.

mod leaving;
mod memory;
mod scheduler;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::block_on;
use scheduler::{Behaviour, FakeScheduler, Stream, TaskOrder, call_worker, fetch, within};

use super::state::ResultMeta;
use super::{Running, Worker};
use crate::dask::registry::Registry;
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

/// Blocks its thread until [`unblock`] is called with the same number, and shows that it runs.
fn blocks(number: u64) -> u64 {
    let _shown = Shown::new(number);
    eventually("unblocking", || lock(&UNBLOCKED).contains(&number));
    number
}

fn unblock(number: u64) {
    lock(&UNBLOCKED).push(number);
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
static UNBLOCKED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn lock(numbers: &Mutex<Vec<u64>>) -> MutexGuard<'_, Vec<u64>> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in the list of running tasks.
struct Shown(u64);

impl Shown {
    fn new(number: u64) -> Self {
        lock(&RUNNING).push(number);
        Self(number)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        lock(&RUNNING).retain(|it| *it != self.0);
    }
}

/// Runs until it's dropped, and shows that it runs.
async fn forever(number: u64) -> u64 {
    let _shown = Shown::new(number);
    std::future::pending().await
}

fn is_running(number: u64) -> bool {
    lock(&RUNNING).contains(&number)
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
const BLOCKS: &str = "ensue::dask::worker::tests::blocks";
const WAITS: &str = "ensue::dask::worker::tests::waits";
const ZEROS: &str = "ensue::dask::worker::tests::zeros";
const LIST: &str = "ensue::dask::worker::tests::list";
const LENGTH: &str = "ensue::dask::worker::tests::length";
const FOREVER: &str = "ensue::dask::worker::tests::forever";

/// The future can run on any runtime.
#[allow(dead_code)]
fn running_is_send() {
    fn check(_: impl Send) {}
    check(worker().run(""));
}

fn worker() -> Worker {
    let registry = Registry::new().add(inc).try_add(refuse).add(panics).add_blocking(waits);
    let registry = registry.add(zeros).add(list).add(length).add(forever).add_blocking(blocks);
    Worker::new(registry).threads(2).memory_limit(1 << 30)
}

fn join(scheduler: &FakeScheduler, worker: Worker) -> (Running, Stream) {
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
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, mut stream) = join(&scheduler, worker().name("w").resources([("gpu", 2.0)]));
    let resources = stream.registration().get("resources").and_then(Value::as_map).unwrap();
    let known: Vec<_> =
        resources.named().map(|(name, n)| (name.to_owned(), n.as_float().unwrap())).collect();
    assert_eq!(known, [("gpu".to_owned(), 2.0), ("rust".to_owned(), 2.0)]);
    assert_eq!((stream.address(), running.name()), (running.address(), "w"));

    stream.compute(&TaskOrder::new("inc-1", INC).args([41]));
    let report = stream.finished("inc-1");
    assert_eq!(report.get("run_id"), Some(&1.into()));
    assert_eq!(report.text("stimulus_id"), Some("a-test"));
    let value = fetch(running.address(), "inc-1").unwrap();
    assert_eq!(number(&value), Some(42));
    assert_eq!(report.get("nbytes"), Some(&(value.nbytes() as i64).into()));
    // The same order again: only the run differs.
    stream.compute(&TaskOrder { run: 7, ..TaskOrder::new("inc-1", INC).args([41]) });
    assert_eq!(stream.finished("inc-1").get("run_id"), Some(&7.into()));

    let beat = scheduler.called("heartbeat_worker");
    let metrics = beat.get("metrics").and_then(Value::as_map).unwrap();
    for name in ["bandwidth", "digests_total_since_heartbeat", "memory", "spilled_bytes"] {
        assert!(metrics.get(name).is_some(), "{name}");
    }
    stream.about("free-keys", &["inc-1"]);
    eventually("freeing", || fetch(running.address(), "inc-1").is_none());
    assert_eq!(call_worker(running.address(), call::ping()), Value::Bin("pong".into()));
    assert!(stream.rest(Duration::from_millis(50)).is_empty());
}

#[test]
fn inputs_come_from_other_workers() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (one, mut first) = join(&scheduler, worker());
    let (two, mut second) = join(&scheduler, worker());
    first.compute(&TaskOrder::new("zeros-1", ZEROS).args([3_000_000]));
    first.finished("zeros-1");
    let inputs = [("zeros-1", one.address())];
    second.compute(&TaskOrder::new("length-1", LENGTH).input(&inputs));
    second.finished("length-1");
    assert_eq!(second.report("add-keys").get("keys").unwrap().texts(), ["zeros-1"]);
    assert_eq!(number(&fetch(two.address(), "length-1").unwrap()), Some(3_000_000));
    // A replica that no task takes is dropped.
    second.about("remove-replicas", &["zeros-1"]);
    assert_eq!(second.report("release-worker-data").text("key"), Some("zeros-1"));
    assert!(fetch(two.address(), "zeros-1").is_none());
}

#[test]
fn a_peer_that_cannot_be_reached_delays_only_its_own_keys() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (one, mut first) = join(&scheduler, worker());
    let (_two, mut second) = join(&scheduler, worker());
    first.compute(&TaskOrder::new("zeros-1", ZEROS).args([10]));
    first.finished("zeros-1");
    second.compute(&TaskOrder::new("length-1", LENGTH).input(&[("zeros-1", "tcp://127.0.0.1:1")]));
    let asked = second.report("request-refresh-who-has");
    assert_eq!(asked.get("keys").unwrap().texts(), ["zeros-1"]);
    // Other tasks aren't delayed.
    second.compute(&TaskOrder::new("inc-1", INC).args([1]));
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
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (_running, mut stream) = join(&scheduler, worker());
    let erred = |stream: &mut Stream, task: TaskOrder<'_>| {
        stream.compute(&task);
        stream.erred(task.key)
    };
    let task = TaskOrder::new("a", REFUSE).args(["no such thing"]);
    assert_eq!(erred(&mut stream, task), "RuntimeError: no such thing");
    let task = TaskOrder::new("b", PANICS).args(["oh"]);
    let text = erred(&mut stream, task);
    assert!(text.starts_with("SystemError: panicked at src/") && text.ends_with(": oh"), "{text}");
    let text = erred(&mut stream, TaskOrder::new("c", "app::missing"));
    assert!(text.starts_with("LookupError: no function `app::missing`"), "{text}");
    let text = erred(&mut stream, TaskOrder::new("d", INC).args(["text"]));
    assert!(text.starts_with("TypeError: "), "{text}");
    let late = |key, function, arg| TaskOrder {
        timeout: Some(0.05),
        ..TaskOrder::new(key, function).args([arg])
    };
    let text = erred(&mut stream, late("e", FOREVER, 1001));
    assert_eq!(text, "TimeoutError: it took longer than its timeout of 50ms");
    eventually("dropping", || !is_running(1001));
    // The timeout is reported while the function still blocks.
    let text = erred(&mut stream, late("f", BLOCKS, 1002));
    assert!(text.starts_with("TimeoutError"), "{text}");
    unblock(1002);
    // Also if no thread has begun it by then.
    for n in 2000..2050 {
        let key = format!("at once {n}");
        let task = TaskOrder { timeout: Some(1e-9), ..TaskOrder::new(&key, BLOCKS).args([n]) };
        let text = erred(&mut stream, task);
        assert!(text.starts_with("TimeoutError"), "{text}");
        unblock(n);
    }
    // The worker is still usable.
    stream.compute(&TaskOrder::new("g", INC).args([1]));
    stream.finished("g");
}

/// What the hook of a worker has set on this thread.
fn prepared() -> u64 {
    PREPARED.get()
}

async fn prepared_async() -> u64 {
    PREPARED.get()
}

thread_local!(static PREPARED: Cell<u64> = const { Cell::new(0) });

#[test]
fn its_threads_run_within_the_hook() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let registry = Registry::new().add(prepared_async).add_blocking(prepared);
    let worker = Worker::new(registry).threads(1).memory_limit(1 << 30).around_threads(|run| {
        PREPARED.set(7);
        run();
    });
    let (running, mut stream) = join(&scheduler, worker);
    for function in ["prepared", "prepared_async"] {
        let name = format!("ensue::dask::worker::tests::{function}");
        stream.compute(&TaskOrder::new(function, &name));
        stream.finished(function);
        assert_eq!(number(&fetch(running.address(), function).unwrap()), Some(7));
    }
}

/// As after a list was lost with its worker, and computed again only in part.
#[test]
fn a_call_whose_result_is_missing_in_a_list_is_made() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, mut stream) = join(&scheduler, worker());
    let holders = ["list", "list-2"].map(|key| [(key, running.address())]);
    let taking = |key, list: usize, function: &str, arg: u64| {
        let call = rmp_serde::to_vec(&(arg,)).unwrap();
        let args = pick_args(&ItemCall { item: 1, function, args: &call });
        TaskOrder { args, ..TaskOrder::new(key, INC).input(&holders[list]) }
    };
    stream.compute(&TaskOrder::new("list", LIST).args([1]));
    stream.finished("list");
    for (key, function, arg, expected) in [("a", INC, 5, 7), ("b", WAITS, 10, 11)] {
        stream.compute(&taking(key, 0, function, arg));
        stream.finished(key);
        assert_eq!(number(&fetch(running.address(), key).unwrap()), Some(expected));
    }
    stream.compute(&taking("c", 0, "app::missing", 1));
    let text = stream.erred("c");
    assert!(text.starts_with("LookupError: no function `app::missing`"), "{text}");
    // A result that is in the list isn't computed.
    stream.compute(&TaskOrder::new("list-2", LIST).args([2]));
    stream.finished("list-2");
    stream.compute(&taking("d", 1, "app::missing", 1));
    stream.finished("d");
    assert_eq!(number(&fetch(running.address(), "d").unwrap()), Some(2));
}

#[test]
fn a_freed_task_is_cancelled_and_never_reported() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (_running, mut stream) = join(&scheduler, worker().threads(1));
    stream.compute(&TaskOrder::new("forever-1", FOREVER).args([2001]));
    eventually("starting", || is_running(2001));
    stream.compute(&TaskOrder::new("blocks-1", BLOCKS).args([2002]));
    stream.compute(&TaskOrder::new("inc-1", INC).args([1]));
    let steal = |key: &str| {
        stream.order(&[("op", &"steal-request"), ("key", &key), ("stimulus_id", &"steal")]);
    };
    steal("forever-1");
    steal("inc-1");
    steal("unknown");
    let states: Vec<_> = (0..3)
        .map(|_| {
            let answer = stream.report("steal-response");
            assert_eq!(answer.text("stimulus_id"), Some("steal"));
            answer.text("state").map(str::to_owned)
        })
        .collect();
    assert_eq!(states, [Some("executing".to_owned()), Some("ready".to_owned()), None]);
    stream.about("free-keys", &["forever-1"]);
    eventually("dropping", || !is_running(2001));
    // The only thread is free for the next task, which is freed while it blocks.
    eventually("starting", || is_running(2002));
    stream.about("free-keys", &["blocks-1"]);
    stream.compute(&TaskOrder::new("inc-2", INC).args([1]));
    assert_eq!(stream.rest(Duration::from_millis(50)), [""; 0], "two tasks on one thread");
    unblock(2002);
    stream.finished("inc-2");
    assert_eq!(stream.rest(Duration::from_millis(50)), [""; 0]);
}

#[test]
fn results_that_clients_send_are_stored_and_listed() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, stream) = join(&scheduler, worker());
    let data = [(WireKey::from("x"), Serialized::bytes("payload".into()))];
    let reply = call::map_reply(call_worker(running.address(), call::update_data(&data))).unwrap();
    assert_eq!(reply.text("status"), Some("OK"));
    assert_eq!(fetch(running.address(), "x"), Some(data[0].1.clone()));
    let keys = call_worker(running.address(), call::request("keys", &[]));
    assert_eq!(keys.texts(), ["x"]);
    let run = call::map_reply(call_worker(running.address(), call::request("run", &[]))).unwrap();
    assert_eq!(run.text("status"), Some("error"));
    assert_eq!(call_worker(running.address(), call::request("nonsense", &[])), Value::Nil);
    // Another worker fetches the result for a client.
    let (other, _stream) = join(&scheduler, worker());
    let holders = Value::Array(vec!["tcp://127.0.0.1:1".into(), running.address().into()]);
    let who_has =
        crate::dask::wire::value::Map(vec![("x".into(), holders.clone()), ("y".into(), holders)]);
    let gather = call::request("gather", &[("who_has", &who_has)]);
    let reply = call::map_reply(call_worker(other.address(), gather)).unwrap();
    assert_eq!(reply.get("keys").unwrap().texts(), ["y"]);
    assert_eq!(fetch(other.address(), "x"), Some(data[0].1.clone()));
    drop(stream);
}

#[test]
fn a_task_is_finished_also_if_clients_send_or_free_its_result() {
    let scheduler = FakeScheduler::start(Behaviour::Normal);
    let (running, mut stream) = join(&scheduler, worker());
    let put = |key: &str| {
        let data = [(WireKey::from(key), Serialized::bytes("payload".into()))];
        call_worker(running.address(), call::update_data(&data));
        fetch(running.address(), key).is_some_and(|value| value == data[0].1)
    };
    let forever = TaskOrder::new("forever-1", FOREVER).args([4001]);
    stream.compute(&TaskOrder { run: 5, ..forever.clone() });
    eventually("starting", || is_running(4001));
    assert!(put("forever-1"));
    assert_eq!(stream.finished("forever-1").get("run_id"), Some(&5.into()));
    eventually("dropping", || !is_running(4001));

    let free = |key: &str| {
        call_worker(running.address(), call::request("free_keys", &[("keys", &[key])]));
    };
    free("forever-1");
    assert!(fetch(running.address(), "forever-1").is_none());
    stream.compute(&TaskOrder { run: 6, ..forever });
    eventually("starting", || is_running(4001));
    free("forever-1");
    stream.compute(&TaskOrder::new("inc-1", INC).args([1]));
    stream.finished("inc-1");
    assert!(is_running(4001));
    assert!(put("forever-1"));
    assert_eq!(stream.finished("forever-1").get("run_id"), Some(&6.into()));
}
