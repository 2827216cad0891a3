//! Clients in the child process of a fork (promise 21).
//!
//! A test of its own process: the threads of other tests could hold locks at the time of the fork.

#![cfg(target_os = "linux")]

use std::ffi::c_int;
use std::panic::catch_unwind;
use std::time::Duration;

use ensue::{Client, ErrorKind, sleep};
use futures::executor::block_on;
use support::{bounded, client_of, eventually, until_asleep};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

const WNOHANG: c_int = 1;

/// Uses all kinds of threads.
fn use_a_client() -> Client {
    let client = client_of(2);
    let x = client.submit(async || sleep(Duration::from_millis(5)).await, ());
    let y = client.submit_blocking(|x: ()| x, &x);
    y.result().unwrap();
    let late = client.task().timeout(Duration::from_millis(5)).spawn(std::future::pending::<()>());
    assert_eq!(late.result().unwrap_err().kind(), ErrorKind::TimedOut);
    client
}

#[test]
fn a_new_client_works_in_the_child_of_a_fork() {
    bounded(|| {
        let client = use_a_client();
        // A timer that is due later, in a list that the child doesn't serve.
        let timer = client.spawn(sleep(Duration::from_secs(600)));
        until_asleep("ensue-", 4);
        // SAFETY: the other threads sleep, so none of them holds a lock.
        let child = unsafe { fork() };
        if child == 0 {
            let worked = catch_unwind(|| {
                for _ in 0..3 {
                    block_on(use_a_client().close());
                }
            });
            // SAFETY: it ends the process without the destructors of the parent's values.
            unsafe { _exit(if worked.is_ok() { 0 } else { 1 }) };
        }
        assert!(child > 0, "no child");
        let mut status = -1;
        // SAFETY: it is the child of this process, and the status is a place to write to.
        eventually(
            "the child exits",
            || unsafe { waitpid(child, &raw mut status, WNOHANG) } == child,
        );
        assert_eq!(status, 0);
        timer.cancel();
        block_on(use_a_client().close());
    });
}
