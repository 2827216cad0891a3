//! Blocking work while the system refuses threads (promise 15).
//!
//! The process's limit of memory is lowered, so there is one test.

#![cfg(target_os = "linux")]

use std::sync::{Arc, Barrier};

use ensue::{Client, Handle, Reason};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::hold::Gate;
use support::{bounded, drive, run_what_is_ready};

const MIB: u64 = 1 << 20;

/// Limits the memory of this process to what it has and `more` bytes, or to the hard limit.
fn limit_memory(more: Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("its size");
    let size: u64 = size.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    let maximum = getrlimit(Resource::As).maximum;
    let current = more.map_or(maximum, |more| Some(1024 * size + more));
    setrlimit(Resource::As, Rlimit { current, maximum }).expect("a soft limit");
}

#[test]
fn work_waits_for_the_threads_that_exist_while_others_are_refused() {
    bounded(|| {
        // One stack fits into the limit, two don't.
        let client = Client::builder().workers(0).stack_size(64 << 20).build();
        let why = |task: &Handle<()>| client.explain(task).reasons;
        limit_memory(Some(96 * MIB));
        let gate = Gate::new();
        let hold = || {
            let pass = gate.clone();
            client.submit_blocking(move || pass.pass_blocking(), ())
        };
        let first = hold();
        run_what_is_ready(&client);
        let others: Vec<_> = (0..5).map(|_| hold()).collect();
        run_what_is_ready(&client);
        for other in &others {
            assert_eq!(why(other), [Reason::WaitsForThread]);
        }
        // The worker goes on.
        assert_eq!(drive(&client, client.submit(async || 1, ())).unwrap(), 1);

        // Once the system has memory again, the work that waits gets threads: all of it at the same time, though no
        // more is submitted.
        let all = Arc::new(Barrier::new(5));
        let meet = |_| {
            let all = all.clone();
            let wait = move || {
                all.wait();
            };
            client.submit_blocking(wait, ())
        };
        let meeting: Vec<_> = (0..5).map(meet).collect();
        run_what_is_ready(&client);
        limit_memory(None);
        gate.open();
        drive(&client, first).unwrap();
        for x in others.into_iter().chain(meeting) {
            drive(&client, x).unwrap();
        }
        drive(&client, client.close());
    });
}
