//! Long chains and wide graphs, without recursion, and large trees of joins (promises 9, 23 and 24).
//!
//! The bodies run on threads with the usual stack, which some ten thousand nested calls overflow.

use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use ensue::{Client, Handle, Ref, Status, as_completed, gather, wait_all};
use futures::StreamExt;
use futures::executor::block_on;
use smol::future::yield_now;
use support::hold::{Gate, turns};
use support::observe::{Counted, Counts};
use support::{bounded, eventually, run_until_idle, run_what_is_ready, within};

/// A million, or in a debug build as many as no recursion survives.
const MILLION: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const MANY: u64 = 100_000;

/// A longer limit: some of these take many seconds in a debug build on a busy machine.
fn patiently(body: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(900), body);
}

async fn inc(x: u64) -> u64 {
    x + 1
}

fn chain(client: &Client, first: Handle<u64>, length: u64) -> Handle<u64> {
    (0..length).fold(first, |last, _| client.submit(inc, last))
}

/// A task that waits for a gate; if the client has one worker, it is out of its first poll.
fn gated(client: &Client) -> (Handle<u64>, Gate) {
    let gate = Gate::new();
    let waits = gate.pass();
    let handle = client.spawn(async move {
        waits.await;
        0
    });
    if client.workers() == 1 {
        turns(client);
    }
    (handle, gate)
}

/// To be called once the gates are dropped, whose wakers keep tasks in memory.
fn all_freed(client: &Client) {
    eventually("everything is freed", || client.tasks_in_memory() == 0);
}

#[test]
fn a_chain_of_a_million_runs() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (first, gate) = gated(&client);
        let last = chain(&client, first, MILLION);
        // The whole chain waits, and then all of it runs.
        eventually("all of it is held", || client.tasks_in_memory() as u64 == MILLION + 1);
        gate.open();
        assert_eq!(last.result().unwrap(), MILLION);
        drop(last);
        all_freed(&client);
    });
}

#[test]
fn a_chain_of_a_million_runs_while_it_is_submitted() {
    patiently(|| {
        let client = Client::builder().workers(2).build();
        let first = client.ready(0);
        assert_eq!(chain(&client, first, MILLION).result().unwrap(), MILLION);
        all_freed(&client);
    });
}

#[test]
fn a_chain_of_a_million_is_cancelled_from_its_start() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (first, gate) = gated(&client);
        let last = chain(&client, first.clone(), MILLION);
        assert!(first.cancel());
        let error = last.result().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(*error.origin(), first.key());
        drop((first, last, gate));
        all_freed(&client);
    });
}

#[test]
fn a_chain_of_a_million_fails_from_its_start() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (before, gate) = gated(&client);
        let first = client.try_submit(async |_: u64| Err::<u64, _>("bad"), before);
        let last = chain(&client, first.clone(), MILLION);
        gate.open();
        let error = last.result().unwrap_err();
        assert_eq!(*error.origin(), first.key());
        drop((first, last));
        all_freed(&client);
    });
}

#[test]
fn a_chain_of_a_million_is_dropped_before_it_runs() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (first, gate) = gated(&client);
        drop(chain(&client, first, MILLION));
        drop(gate);
        all_freed(&client);
        // And one whose first task is only queued.
        let idle = Client::builder().workers(0).build();
        let first = idle.submit(inc, 0);
        drop(chain(&idle, first, MILLION));
        run_what_is_ready(&idle);
        assert_eq!(idle.tasks_in_memory(), 0);
    });
}

#[test]
fn a_chain_of_a_million_whose_handles_are_all_held() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let mut handles = vec![client.ready(0)];
        for at in 0..MILLION as usize {
            handles.push(client.submit(inc, &handles[at]));
        }
        assert_eq!(handles.last().unwrap().result().unwrap(), MILLION);
        block_on(client.idle());
        assert_eq!(client.tasks_in_memory() as u64, MILLION + 1);
        drop(handles);
        all_freed(&client);
    });
}

#[test]
fn a_chain_of_a_million_ends_with_its_client() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (first, _gate) = gated(&client);
        let last = chain(&client, first, MILLION);
        drop(client);
        assert_eq!(last.result().unwrap_err().kind(), ensue::ErrorKind::Closed);
    });
}

// Values, functions and errors that hold handles.

/// A list whose every element is the value of a task.
#[allow(unused)]
struct Element(Option<Handle<Element>>, Option<Ref<Element>>);

#[test]
fn a_list_of_a_million_values_that_hold_handles_is_dropped() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let mut last = client.ready(Element(None, None));
        for _ in 0..MILLION {
            last = client.submit(async |before: Handle<Element>| Element(Some(before), None), last);
        }
        block_on(wait_all([&last]));
        // The handles keep all of them.
        block_on(client.idle());
        assert_eq!(client.tasks_in_memory() as u64, MILLION + 1);
        drop(last);
        all_freed(&client);
    });
}

#[test]
fn a_list_of_a_million_values_that_hold_refs_is_dropped() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let mut last = client.ready(Element(None, None));
        for _ in 0..MILLION {
            last = client.submit(async |before: Ref<Element>| Element(None, Some(before)), last);
        }
        let shared = block_on(last.get_ref()).unwrap();
        drop(last);
        block_on(client.idle());
        assert_eq!(client.tasks_in_memory() as u64, MILLION + 1);
        drop(shared);
        all_freed(&client);
    });
}

#[test]
fn a_list_of_a_million_ready_values_is_dropped() {
    patiently(|| {
        let client = Client::builder().workers(0).build();
        let mut last = client.ready(Element(None, None));
        for _ in 0..MILLION {
            last = client.ready(Element(Some(last), None));
        }
        drop(last);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn a_million_functions_that_capture_handles_are_dropped_unrun() {
    patiently(|| {
        let client = Client::builder().workers(0).build();
        let mut last = client.submit(async || 0u64, ());
        for _ in 0..MILLION {
            last = client.submit(async move || last.await.unwrap(), ());
        }
        drop(last);
        run_what_is_ready(&client);
        eventually("the queue is empty", || {
            run_what_is_ready(&client);
            client.tasks_in_memory() == 0
        });
    });
}

#[test]
fn tasks_that_await_each_other_in_a_line_end_when_the_last_handle_is_dropped() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (mut last, gate) = gated(&client);
        let counts = Counts::new();
        for _ in 0..MANY {
            last = client.spawn(counts.future(async move { last.await.unwrap_or(0) + 1 }));
        }
        eventually("they all wait", || counts.polls.get() as u64 == MANY);
        drop(last);
        eventually("their futures are dropped", || counts.drops.get() as u64 == MANY);
        drop(gate);
        all_freed(&client);
    });
}

#[test]
fn tasks_that_await_each_other_in_a_line_run() {
    patiently(|| {
        let client = Client::builder().workers(2).build();
        let (mut last, gate) = gated(&client);
        for _ in 0..MANY {
            last = client.spawn(async move { last.await.unwrap() + 1 });
        }
        gate.open();
        assert_eq!(last.result().unwrap(), MANY);
        drop(last);
        all_freed(&client);
    });
}

#[test]
fn errors_that_hold_handles_are_dropped() {
    #[derive(Debug)]
    struct Failure(#[allow(unused)] Handle<()>);
    impl std::fmt::Display for Failure {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("failed")
        }
    }
    impl std::error::Error for Failure {}
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let mut last = client.ready(());
        for _ in 0..MANY {
            last =
                client.try_submit(async |before: Handle<()>| Err::<(), _>(Failure(before)), last);
        }
        block_on(client.idle());
        assert_eq!(last.status(), Status::Failed);
        assert_eq!(last.error().unwrap().to_string().matches("failed").count(), 2);
        drop(last);
        all_freed(&client);
    });
}

#[test]
fn callbacks_that_cancel_the_next_do_not_nest() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let first = client.spawn(std::future::pending::<()>());
        let mut last = first.clone();
        for _ in 0..MANY {
            let next = client.spawn(std::future::pending::<()>());
            let to_cancel = next.clone();
            last.on_done(move |_| {
                to_cancel.cancel();
            });
            last = next;
        }
        assert!(first.cancel());
        assert!(last.result().unwrap_err().is_cancelled());
        drop((first, last));
        all_freed(&client);
    });
}

#[test]
fn callbacks_that_hold_the_next_do_not_nest() {
    patiently(|| {
        let client = Client::builder().workers(0).build();
        let mut last = client.submit(inc, 0);
        for _ in 0..MANY {
            let next = client.submit(inc, 0);
            next.on_done(move |_| drop(last));
            last = next;
        }
        drop(last);
        eventually("the queue is empty", || {
            run_what_is_ready(&client);
            client.tasks_in_memory() == 0
        });
    });
}

// Wide graphs.

#[test]
fn a_million_dependents_of_one_task() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let (first, gate) = gated(&client);
        let handles = client.map(async |x: u64, y: u64| x + y, (0..MILLION).map(|y| (&first, y)));
        gate.open();
        let sum: u64 = block_on(gather(handles)).unwrap().iter().sum();
        assert_eq!(sum, MILLION * (MILLION - 1) / 2);
        drop(first);
        all_freed(&client);

        let (first, gate) = gated(&client);
        let handles = client.map(inc, (0..MILLION).map(|_| &first));
        assert!(first.cancel());
        assert!(handles.iter().all(|handle| handle.error().unwrap().is_cancelled()));
        drop((first, handles, gate));
        all_freed(&client);
    });
}

#[test]
fn a_million_inputs_of_one_task() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let xs = client.map(inc, 0..MILLION);
        let sum = client.submit(async |xs: Vec<u64>| xs.iter().sum::<u64>(), xs);
        assert_eq!(sum.result().unwrap(), MILLION * (MILLION + 1) / 2);
        drop(sum);
        all_freed(&client);

        let (first, gate) = gated(&client);
        let xs: Vec<_> = (0..MILLION).map(|_| first.clone()).collect();
        let sum = client.submit(async |xs: Vec<u64>| xs.len(), xs);
        drop(sum);
        assert_eq!(first.status(), Status::Running);
        drop((first, gate));
        all_freed(&client);
    });
}

#[test]
fn a_million_handles_in_one_stream() {
    patiently(|| {
        let client = Client::builder().workers(1).build();
        let mut stream = as_completed(client.map(inc, 0..MILLION));
        let mut count = 0;
        block_on(async {
            while let Some(handle) = stream.next().await {
                handle.await.unwrap();
                count += 1;
            }
        });
        assert_eq!(count, MILLION);
        all_freed(&client);
        let idle = Client::builder().workers(0).build();
        drop(as_completed(idle.map(inc, 0..MILLION)));
        eventually("the queue is empty", || {
            run_what_is_ready(&idle);
            idle.tasks_in_memory() == 0
        });
    });
}

// What a finished task keeps.

#[test]
fn a_future_is_freed_when_it_finishes() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (future, function, input) = (Counts::new(), Counts::new(), Counts::new());
        let captured = function.value(0);
        let handle = client.submit(
            async move |x: Counted| {
                yield_now().await;
                { captured }.value + x.value
            },
            input.value(1),
        );
        let spawned = client.spawn(future.future(async { 1 }));
        let tried = client.try_submit(async |x: Counted| Ok::<_, String>(x.value), input.value(2));
        run_until_idle(&client);
        // The handles are still held.
        assert_eq!((function.drops.get(), future.drops.get()), (1, 1));
        assert_eq!(input.drops.get(), input.clones.get() + 2);
        drop((handle, spawned, tried));
    });
}

#[test]
fn a_stall_of_many_awaits_is_explained_at_once() {
    patiently(|| {
        let (report, stalls) = std::sync::mpsc::channel();
        // The receiver is gone when the client ends.
        let hook = move |stall: &ensue::Stall| drop(report.send(stall.clone()));
        let client =
            Client::builder().workers(1).on_stall(Duration::from_millis(100), hook).build();
        let (first, gate) = gated(&client);
        let wait = |last: Handle<u64>, _| client.spawn(async move { last.await.unwrap_or(0) });
        let last = (0..MANY).fold(first.clone(), wait);
        // On a busy machine, the worker may make no progress for long while some are queued.
        let is_last = |stall: &ensue::Stall| stall.left == MANY + 1 && stall.reasons.len() == 1;
        let stall = stalls.iter().find(is_last).unwrap();
        let keys: Vec<_> = stall.reasons.iter().map(|reason| &reason.key).collect();
        assert_eq!(keys, [&first.key()]);
        gate.open();
        assert_eq!(last.result().unwrap(), 0);
    });
}

#[test]
fn a_future_is_freed_though_its_waker_is_kept() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let kept: Arc<Mutex<Option<Waker>>> = Arc::default();
        let keep = kept.clone();
        let mut first = true;
        let handle = client.spawn(counts.future(std::future::poll_fn(move |cx| {
            *keep.lock().unwrap() = Some(cx.waker().clone());
            if std::mem::take(&mut first) {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        })));
        run_until_idle(&client);
        assert_eq!((counts.polls.get(), counts.drops.get()), (2, 1));
        drop(handle);
        // Stale wakers are harmless, also after the client.
        let waker = kept.lock().unwrap().take().unwrap();
        waker.wake_by_ref();
        drop(client);
        waker.wake();
    });
}

#[test]
fn a_tree_of_sixteen_million_joins_is_summed() {
    patiently(|| {
        fn nodes(levels: u32) -> u64 {
            if levels == 0 {
                return 0;
            }
            let (left, right) = ensue::join(|| nodes(levels - 1), || nodes(levels - 1));
            1 + left + right
        }
        let levels = if cfg!(debug_assertions) { 18 } else { 24 };
        for workers in [1, 2, 7] {
            let client = Client::builder().workers(workers).build();
            let others = client.map(inc, 0..MANY);
            let sum = client.submit(async move |levels| nodes(levels), levels);
            assert_eq!(block_on(sum).unwrap(), (1 << levels) - 1);
            assert_eq!(block_on(gather(others)).unwrap().len() as u64, MANY);
        }
    });
}
