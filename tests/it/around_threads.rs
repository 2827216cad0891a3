//! Hooks around the client's threads, and tokio's runtime on them (promise 21).

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ensue::{Client, gather};
use futures::executor::block_on;
use support::observe::{Count, Log};
use support::{bounded, eventually};

thread_local!(static PREPARED: Cell<bool> = const { Cell::new(false) });

/// The name of the thread, and whether a hook has prepared it.
fn this_thread() -> (String, bool) {
    (thread::current().name().unwrap_or_default().to_owned(), PREPARED.get())
}

#[test]
fn each_thread_runs_within_the_hook() {
    bounded(|| {
        let (begun, ended) = (Count::new(), Count::new());
        let (begin, end) = (begun.clone(), ended.clone());
        let client = Client::builder()
            .workers(2)
            .name("wrapped")
            .around_threads(move |run| {
                begin.add();
                PREPARED.set(true);
                run();
                end.add();
            })
            .build();
        client.scale(3).unwrap();
        let barrier = Arc::new(Barrier::new(3));
        let on_each = async move |_: u8| {
            barrier.wait();
            this_thread()
        };
        let mut threads = block_on(gather(client.map(on_each, 0..3))).unwrap();
        threads.sort();
        assert_eq!(threads, [0, 1, 2].map(|n| (format!("wrapped-{n}"), true)));
        let blocking = client.submit_blocking(this_thread, ()).result().unwrap();
        assert_eq!(blocking, ("wrapped-blocking-0".to_owned(), true));
        assert_eq!((begun.get(), ended.get()), (4, 0));
        client.scale(2).unwrap();
        eventually("the surplus worker leaves its hook", || ended.get() == 1);
        block_on(client.close());
        assert_eq!(ended.get(), 4, "closing waits for the hooks");
    });
}

#[test]
fn later_hooks_wrap_earlier_ones() {
    bounded(|| {
        let log = Log::new();
        let (inner, outer) = (log.clone(), log.clone());
        let client = Client::builder()
            .workers(1)
            .around_threads(move |run| {
                inner.add("inner");
                run();
                inner.add("inner ends");
            })
            .around_threads(move |run| {
                outer.add("outer");
                run();
                outer.add("outer ends");
            })
            .build();
        client.submit(async || (), ()).result().unwrap();
        block_on(client.close());
        assert_eq!(log.all(), ["outer", "inner", "inner ends", "outer ends"]);
    });
}

#[test]
fn a_hook_that_fails_costs_no_thread() {
    bounded(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let client = Client::builder()
            .workers(3)
            .around_threads(move |run| match count.fetch_add(1, Ordering::Relaxed) % 4 {
                // Without the message of the panic handler.
                0 => resume_unwind(Box::new("before")),
                1 => {}
                2 => {
                    run();
                    run();
                }
                _ => {
                    run();
                    resume_unwind(Box::new("after"));
                }
            })
            .build();
        let barrier = Arc::new(Barrier::new(3));
        let meet = async move |_: u8| barrier.wait().is_leader();
        let met = block_on(gather(client.map(meet, 0..3))).unwrap();
        assert_eq!(met.into_iter().filter(|leads| *leads).count(), 1);
        assert_eq!(client.submit_blocking(|| 7, ()).result().unwrap(), 7);
        block_on(client.close());
        assert_eq!((client.workers(), calls.load(Ordering::Relaxed)), (0, 4));
    });
}

#[test]
fn a_hook_may_panic_when_it_is_dropped() {
    struct Panics(Count);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.add();
            resume_unwind(Box::new("the hook's destructor"));
        }
    }
    bounded(|| {
        let drops = Count::new();
        let panics = Panics(drops.clone());
        let client = Client::builder()
            .workers(2)
            .around_threads(move |run| {
                let _ = &panics;
                run();
            })
            .build();
        assert_eq!(client.submit_blocking(|| 1, ()).result().unwrap(), 1);
        block_on(client.close());
        drop(client);
        eventually("the hook is dropped", || drops.get() == 1);
    });
}

#[test]
fn threads_of_the_application_are_not_wrapped() {
    bounded(|| {
        let calls = Count::new();
        let count = calls.clone();
        let hook = move |run: &mut dyn FnMut()| {
            count.add();
            run();
        };
        let hosted = Client::builder().workers(0).around_threads(hook.clone()).build();
        let x = hosted.submit(async || 1, ());
        support::drive(&hosted, x).unwrap();
        let seeded = Client::builder().seed(1).around_threads(hook).build();
        assert_eq!(seeded.submit_blocking(|| 2, ()).result().unwrap(), 2);
        assert_eq!(calls.get(), 0);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn tasks_use_the_tokio_runtime_that_the_client_was_built_in() {
    bounded(|| {
        runtime().block_on(async {
            let client = Client::builder().workers(2).tokio().build();
            let nap = async |ms: u64| {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                tokio::spawn(async move { ms }).await.unwrap()
            };
            assert_eq!(gather(client.map(nap, [3, 1, 2])).await.unwrap(), [3, 1, 2]);
            let there = || async { tokio::spawn(async { 9 }).await.unwrap() };
            let block = move || tokio::runtime::Handle::current().block_on(there());
            assert_eq!(client.submit_blocking(block, ()).await.unwrap(), 9);
            client.close().await;
        });
    });
}

#[test]
fn without_a_runtime_the_error_says_how_to_get_one() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let nap = || tokio::time::sleep(Duration::from_millis(1));
        let error = client.submit(async move || nap().await, ()).result().unwrap_err();
        let text = error.to_string();
        assert!(error.is_panic() && text.contains("there is no reactor running"), "{text}");
        assert!(text.contains("`Client::builder().tokio()`"), "{text}");
        assert!(text.contains("`client.worker()`"), "{text}");
        // Other panics keep their texts.
        let other = client.submit(async || panic!("a reactor"), ()).result();
        assert!(other.unwrap_err().to_string().ends_with(": a reactor"));
    });
}

#[test]
#[should_panic(expected = "`Builder::tokio` was called outside of a tokio runtime")]
fn there_must_be_a_runtime_to_enter() {
    let _ = Client::builder().tokio();
}
