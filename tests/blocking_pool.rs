//! `explain` for blocking work that waits for a thread of the pool (promise 15).
//!
//! The process has one pool, whose size is set in the environment, so the test runs itself again in a process of its
//! own.

use std::env;
use std::process::Command;
use std::time::Duration;

use ensue::{Reason, Retry};
use support::hold::Gate;
use support::observe::Count;
use support::{bounded, client_of, eventually};

const MAX_THREADS: &str = "BLOCKING_MAX_THREADS";

#[test]
fn blocking_work_says_whether_it_has_a_thread() {
    if env::var(MAX_THREADS).is_ok_and(|threads| threads == "1") {
        return bounded(with_one_thread);
    }
    let this = env::current_exe().expect("the path of this test");
    let ended = Command::new(this).env(MAX_THREADS, "1").output().expect("this test runs again");
    let output = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && output.contains("1 passed"), "{output}");
}

fn with_one_thread() {
    let client = client_of(1);
    let why = |task: &_| client.explain(task).reasons;
    let gate = Gate::new();
    let inner = gate.clone();
    let first = client.submit_blocking(move || inner.pass_blocking(), ());
    eventually("it has the thread", || why(&first) == [Reason::Blocking]);
    let second = client.submit_blocking(|| (), ());
    eventually("no thread is free", || why(&second) == [Reason::WaitsForThread]);
    assert_eq!(why(&first), [Reason::Blocking]);

    let texts = [&first, &second].map(|task| client.explain(task).to_string());
    let [one, two] = [&first, &second].map(|task| format!("`{}` is running: ", task.key()));
    assert_eq!(texts[0], one + "its blocking work runs on a thread");
    assert_eq!(texts[1], two + "its blocking work waits for a thread of the pool");
    let data = serde_json::to_value(client.explain(&second)).unwrap();
    assert_eq!(data["reasons"][0]["kind"], "waits_for_thread");
    gate.open();
    first.result().unwrap();
    second.result().unwrap();

    // An attempt that timed out keeps the thread, and the next one waits for it.
    let gate = Gate::new();
    let begun = Count::new();
    let (inner, count) = (gate.clone(), begun.clone());
    let options = client.task().timeout(Duration::from_millis(50)).retries(Retry::new(u32::MAX));
    let work = move || {
        count.add();
        inner.pass_blocking();
    };
    let third = options.submit_blocking(work, ());
    eventually("an attempt has the thread", || begun.get() == 1);
    eventually("the next one waits", || why(&third) == [Reason::WaitsForThread]);
    assert_eq!(begun.get(), 1);
    gate.open();
    third.result().unwrap();
}
