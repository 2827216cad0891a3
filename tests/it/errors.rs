//! Errors and panics (promises 10 and 11).

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::ParseIntError;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use ensue::{
    Client, Error, ErrorKind, Handle, Ref, Status, as_completed, gather, gather_settled, wait_all,
};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use smol::future::yield_now;
use support::hold::Gate;
use support::observe::{Count, Counted, Counts};
use support::{bounded, eventually, poll_once, run_until_idle, run_what_is_ready};

async fn inc(x: u64) -> u64 {
    x + 1
}

/// Panics when it's dropped, unless that would abort.
#[derive(Clone, Debug, Default)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a destructor's panic");
        }
    }
}

/// A client whose hook for unobserved errors keeps their texts.
fn listening(workers: usize) -> (Client, Arc<Mutex<Vec<String>>>) {
    let reported: Arc<Mutex<Vec<String>>> = Arc::default();
    let hook = reported.clone();
    let hook = move |error: &Error| hook.lock().unwrap().push(error.to_string());
    (Client::builder().workers(workers).on_unobserved(hook).build(), reported)
}

/// Whether all workers still run tasks.
fn works(client: &Client) {
    let workers = client.workers();
    let handles = client.map(inc, 0..100u64);
    assert_eq!(block_on(gather(handles)).unwrap().len(), 100);
    assert_eq!(client.workers(), workers);
}

// Promise 10: a panic is that task's error.

#[test]
fn a_panic_keeps_its_message() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let text = client.submit(async || -> u64 { panic!("plain text") }, ());
        let formatted = client.submit(async |x: u64| -> u64 { panic!("number {x}") }, 5);
        let number = client.submit(async || -> u64 { panic_any(5u8) }, ());
        let later = client.submit(
            async || -> u64 {
                yield_now().await;
                panic!("after an await")
            },
            (),
        );
        let blocking = client.submit_blocking(|| -> u64 { panic!("blocking") }, ());
        let spawned = client.spawn(async { Vec::<u64>::new()[3] });
        let fallible =
            client.try_submit(async || -> Result<u64, String> { panic!("fallible") }, ());
        for (handle, message) in [
            (&text, "plain text"),
            (&formatted, "number 5"),
            (&number, "panic"),
            (&later, "after an await"),
            (&blocking, "blocking"),
            (&spawned, "index out of bounds"),
            (&fallible, "fallible"),
        ] {
            let error = handle.result().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panicked);
            assert!(error.is_panic() && !error.is_cancelled() && !error.is_timeout());
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.to_string().contains(&*handle.key()), "{error}");
            assert_eq!(*error.origin(), handle.key());
            assert_eq!(handle.status(), Status::Failed);
        }
        works(&client);
    });
}

#[test]
fn a_function_that_panics_before_it_gives_a_future() {
    fn eager(_: u64) -> std::future::Ready<u64> {
        panic!("eager")
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let error = client.submit(eager, 1).result().unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("eager"), "{error}");
        works(&client);
    });
}

#[test]
fn every_combinator_gives_the_panic_as_an_error() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let bad = client.submit(async || -> u64 { panic!("bad") }, ());
        let ok = client.submit(inc, 1);
        block_on(async {
            assert!((&bad).await.unwrap_err().is_panic());
            assert!(bad.get_ref().await.unwrap_err().is_panic());
            assert!(gather([&ok, &bad]).await.unwrap_err().is_panic());
            let settled = gather_settled([&bad, &ok]).await;
            assert!(settled[0].as_ref().unwrap_err().is_panic());
            assert_eq!(*settled[1].as_ref().unwrap(), 2);
            assert_eq!(wait_all([&bad, &ok]).await.done.len(), 2);
            let outcomes: Vec<_> =
                as_completed([&bad, &ok]).with_results().map(|(_, x)| x.is_ok()).collect().await;
            assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 1);
        });
    });
}

#[test]
fn a_payload_that_panics_when_dropped() {
    struct Nested(u32);
    impl Drop for Nested {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Nested(self.0 - 1));
            }
        }
    }
    bounded(|| {
        let client = Client::builder().workers(1).build();
        for depth in [0, 1, 5] {
            let handle = client.submit(async move || -> u64 { panic_any(Nested(depth)) }, ());
            assert!(handle.result().unwrap_err().is_panic());
        }
        works(&client);
    });
}

#[test]
fn a_value_that_panics_when_dropped() {
    bounded(|| {
        let (client, reported) = listening(1);
        let handle = client.submit(async || Bomb, ());
        block_on(client.idle());
        // The value is dropped on this thread, which must not panic.
        drop(handle);
        assert_eq!(reported.lock().unwrap().len(), 1);
        assert!(reported.lock().unwrap()[0].contains("a destructor's panic"));
        // Dropped on the worker.
        client.submit(async || Bomb, ()).detach();
        eventually("the hook is called", || reported.lock().unwrap().len() == 2);
        // Beside others.
        drop(client.map(async |_: u64| Bomb, 0..10u64));
        works(&client);
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_function_or_an_input_that_panics_when_dropped() {
    bounded(|| {
        let (client, reported) = listening(0);
        // Never run.
        let bomb = Bomb;
        let captured = client.submit(
            async move || {
                std::mem::forget(bomb);
            },
            (),
        );
        drop(captured);
        drop(client.submit(async |bomb: Bomb| std::mem::forget(bomb), Bomb));
        let cancelled = client.submit(async |bomb: Bomb| std::mem::forget(bomb), Bomb);
        assert!(cancelled.cancel());
        assert!(cancelled.result().unwrap_err().is_cancelled());
        let input = client.submit(async || -> u64 { panic!("bad") }, ());
        let failed =
            client.submit(async |bomb: Bomb, _: u64| std::mem::forget(bomb), (Bomb, &input));
        run_until_idle(&client);
        assert!(failed.result().unwrap_err().to_string().contains("bad"));
        drop((failed, cancelled, input));
        assert_eq!(reported.lock().unwrap().len(), 4, "{reported:?}");
        // An input of a joiner.
        let first = client.task().key("k").submit(async || (), ());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            client.task().key("k").submit(async |bomb: Bomb| std::mem::forget(bomb), Bomb)
        }));
        // The panic may reach the submitter or the hook; the task is unaffected.
        drop(outcome);
        run_until_idle(&client);
        assert!(first.result().is_ok());
    });
}

/// A future that panics when it's dropped.
struct Fragile<F>(F, #[allow(unused)] Bomb);

impl<F: Future + Unpin> Future for Fragile<F> {
    type Output = F::Output;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.poll_unpin(cx)
    }
}

#[test]
fn a_future_that_panics_when_dropped() {
    bounded(|| {
        let (client, _) = listening(1);
        // After its value, in its own task: there is an outcome, one or the other.
        let finished = client.spawn(Fragile(std::future::ready(1u64), Bomb));
        match finished.result() {
            Ok(value) => assert_eq!(value, 1),
            Err(error) => assert!(error.is_panic(), "{error}"),
        }
        // Cancelled or dropped while it's suspended.
        let gate = Gate::new();
        let cancelled = client.spawn(Fragile(gate.pass().boxed(), Bomb));
        let dropped = client.spawn(Fragile(gate.pass().boxed(), Bomb));
        eventually("both run", || {
            cancelled.status() == Status::Running && dropped.status() == Status::Running
        });
        assert!(cancelled.cancel());
        drop(dropped);
        assert!(cancelled.result().unwrap_err().is_cancelled());
        // After a panic of its own. A second one while unwinding would abort, so `Bomb` is quiet then.
        let panics =
            client.spawn(Fragile(std::future::poll_fn(|_| -> Poll<u64> { panic!("first") }), Bomb));
        assert!(panics.result().unwrap_err().to_string().contains("first"));
        works(&client);
    });
}

#[test]
fn an_error_that_panics_when_dropped_or_shown() {
    #[derive(Debug)]
    struct Silent;
    impl fmt::Display for Silent {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("no text")
        }
    }
    impl StdError for Silent {}
    #[derive(Debug)]
    struct Failure(#[allow(unused)] Bomb);
    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failure")
        }
    }
    impl StdError for Failure {}

    bounded(|| {
        let (client, reported) = listening(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let silent = client.task().retries(2).try_submit(
            async move || {
                count.add();
                Err::<u64, _>(Silent)
            },
            (),
        );
        let error = silent.result().unwrap_err();
        assert_eq!((error.kind(), attempts.get()), (ErrorKind::Failed, 3));
        assert!(error.downcast_ref::<Silent>().is_some());
        assert!(error.to_string().contains("`Display` panicked: no text"), "{error}");
        let failure = client.try_submit(async || Err::<u64, _>(Failure(Bomb)), ());
        block_on(client.idle());
        assert_eq!(failure.status(), Status::Failed);
        assert!(reported.lock().unwrap().is_empty());
        drop(failure);
        assert_eq!(reported.lock().unwrap().len(), 1);
        works(&client);
    });
}

#[test]
fn an_attempt_that_times_out_and_panics_when_dropped_is_repeated() {
    bounded(|| {
        let (client, reported) = listening(1);
        let attempts = Count::new();
        let count = attempts.clone();
        let body = async move || {
            if count.add() == 0 {
                Fragile(std::future::pending::<()>(), Bomb).await;
            }
            Ok::<_, &str>(5u64)
        };
        let options = client.task().timeout(Duration::from_millis(10)).retries(1);
        assert_eq!(options.try_submit(body, ()).result().unwrap(), 5);
        assert_eq!((attempts.get(), reported.lock().unwrap().len()), (2, 1));
        works(&client);
    });
}

#[test]
fn callbacks_and_the_hook_may_panic() {
    bounded(|| {
        let (client, reported) = listening(1);
        let handle = client.submit(inc, 1);
        handle.on_done(|_| panic!("a callback's panic"));
        let seen = Count::new();
        let count = seen.clone();
        handle.on_done(move |_| {
            count.add();
        });
        assert_eq!(handle.result().unwrap(), 2);
        eventually("both were called", || seen.get() == 1 && reported.lock().unwrap().len() == 1);
        handle.on_done(|_| panic!("called at once"));
        assert_eq!(reported.lock().unwrap().len(), 2);
        works(&client);

        let calls = Count::new();
        let count = calls.clone();
        let hook = move |_: &Error| {
            count.add();
            panic!("the hook's panic")
        };
        let client = Client::builder().workers(1).on_unobserved(hook).build();
        client.submit(async || panic!("bad"), ()).detach();
        eventually("the hook is called", || calls.get() == 1);
        works(&client);
        let handle = client.submit(async || Bomb, ());
        block_on(client.idle());
        drop(handle);
        works(&client);
        assert_eq!(calls.get(), 2);
    });
}

// Wakers are foreign code.

/// A waker that panics when it's woken, cloned or dropped.
fn panicking_waker(on: &'static Panics) -> Waker {
    // SAFETY: the data is static and the functions only read it.
    unsafe { Waker::from_raw(raw_waker(on)) }
}

struct Panics {
    wake: bool,
    clone: bool,
    drop: bool,
}

fn raw_waker(on: &'static Panics) -> RawWaker {
    // SAFETY: the pointers that these get are those of a static `Panics`.
    static VTABLE: RawWakerVTable = unsafe {
        RawWakerVTable::new(
            |on| {
                let on = &*on.cast::<Panics>();
                assert!(!on.clone, "a waker's clone");
                raw_waker(on)
            },
            |on| assert!(!(*on.cast::<Panics>()).wake, "a waker's wake"),
            |on| assert!(!(*on.cast::<Panics>()).wake, "a waker's wake"),
            |on| {
                let panics = (*on.cast::<Panics>()).drop;
                assert!(!panics || std::thread::panicking(), "a waker's drop");
            },
        )
    };
    RawWaker::new(std::ptr::from_ref(on).cast(), &VTABLE)
}

static ON_WAKE: Panics = Panics { wake: true, clone: false, drop: false };
static ON_CLONE: Panics = Panics { wake: false, clone: true, drop: false };
static ON_DROP: Panics = Panics { wake: false, clone: false, drop: true };

/// Polls with the waker, catches its panics, and forgets the waker.
fn poll_badly(future: &mut (impl Future + Unpin), on: &'static Panics) {
    let waker = std::mem::ManuallyDrop::new(panicking_waker(on));
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _ = future.poll_unpin(&mut Context::from_waker(&waker));
    }));
}

#[test]
fn wakers_that_panic_affect_no_other_waiter() {
    bounded(|| {
        let (client, _) = listening(1);
        for on in [&ON_WAKE, &ON_CLONE, &ON_DROP] {
            let gate = Gate::new();
            let waits = gate.pass();
            let handle = client.spawn(async move {
                waits.await;
                5u64
            });
            let mut bad = handle.clone();
            poll_badly(&mut bad, on);
            let mut good = handle.clone();
            assert!((&mut good).now_or_never().is_none());
            let mut dropped = handle.clone();
            poll_badly(&mut dropped, on);
            // This drops its waker.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(dropped)));
            let mut gathering = gather([handle.clone(), handle.clone()]);
            poll_badly(&mut gathering, on);
            let mut stream = as_completed([&handle]);
            poll_badly(&mut stream.next(), on);
            let mut late = wait_all([&handle]);
            poll_badly(&mut late, on);
            let mut shared = handle.get_ref();
            poll_badly(&mut shared, on);
            // This drops the waker of before.
            poll_badly(&mut bad, &ON_DROP);
            gate.open();
            assert_eq!(block_on(good).unwrap(), 5);
            assert_eq!(handle.result().unwrap(), 5);
            assert_eq!(block_on(bad).unwrap(), 5);
            assert_eq!(block_on(shared).map(|x| *x).unwrap(), 5);
            assert_eq!(block_on(gathering).unwrap(), [5, 5]);
            assert_eq!(block_on(stream.next()).unwrap(), handle);
            assert_eq!(block_on(late).done.len(), 1);
            works(&client);
        }
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_wakers_panic_is_reported() {
    bounded(|| {
        let (client, reported) = listening(1);
        let gate = Gate::new();
        let handle = client.spawn(gate.pass());
        let mut bad = handle.clone();
        poll_badly(&mut bad, &ON_WAKE);
        gate.open();
        handle.result().unwrap();
        eventually("the hook is called", || reported.lock().unwrap().len() == 1);
        assert!(reported.lock().unwrap()[0].contains("a waker's wake"));
        works(&client);
    });
}

// Promise 10: an `Err` is `Failed` and can be read.

#[derive(Debug, PartialEq)]
enum Custom {
    Missing(u8),
}

impl fmt::Display for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is missing")
    }
}

impl StdError for Custom {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        static INNER: fmt::Error = fmt::Error;
        Some(&INNER)
    }
}

/// Runs the function as a task, and returns the error that a dependent has of it.
fn failure<T, E, M>(result: fn() -> Result<T, E>) -> Error
where
    T: Clone + Send + Sync + 'static,
    E: ensue::IntoFailure<M>,
    M: 'static,
{
    let client = Client::builder().workers(1).build();
    let handle = client.try_submit(async move || result(), ());
    let dependent: Handle<()> =
        client.submit(async |_: T| unreachable!("its input failed"), &handle);
    let error = handle.result().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(*error.origin(), handle.key());
    assert_eq!(handle.status(), Status::Failed);
    let passed_on: Error = dependent.result().unwrap_err();
    assert_eq!(passed_on.to_string(), error.to_string());
    passed_on
}

#[test]
fn errors_of_every_kind_can_be_read() {
    bounded(|| {
        let error = failure(|| "x".parse::<u8>());
        assert!(error.downcast_ref::<ParseIntError>().is_some());
        assert!(error.downcast_ref::<io::Error>().is_none());
        assert!(error.to_string().contains("invalid digit"), "{error}");

        let error = failure(|| Err::<u8, _>(io::Error::other("disk")));
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().to_string(), "disk");

        let error = failure(|| Err::<u8, _>(Custom::Missing(3)));
        assert_eq!(error.downcast_ref(), Some(&Custom::Missing(3)));

        let error = failure(|| Err::<u8, _>("text"));
        assert_eq!(error.downcast_ref::<&str>(), Some(&"text"));
        assert!(error.to_string().contains("text"), "{error}");

        let error = failure(|| Err::<u8, _>(String::from("owned")));
        assert_eq!(error.downcast_ref::<String>().unwrap(), "owned");
        assert!(error.to_string().contains("owned"), "{error}");

        type Boxed = Box<dyn StdError + Send + Sync>;
        let error = failure(|| Err::<u8, Boxed>("boxed".into()));
        assert_eq!(error.downcast_ref::<Boxed>().unwrap().to_string(), "boxed");
        let error = failure(|| -> Result<u8, Boxed> { Ok("x".parse::<u8>()?) });
        assert!(error.find_cause::<ParseIntError>().is_some());
    });
}

#[test]
fn the_sources_lead_to_the_root() {
    bounded(|| {
        let error = failure(|| Err::<u8, _>(Custom::Missing(1)));
        assert_eq!(error.find_cause(), Some(&Custom::Missing(1)));
        // The message of that one is a part of the error's own.
        assert!(error.source().unwrap().is::<fmt::Error>());
        // Without an `Err` there is no source.
        let client = Client::builder().workers(1).build();
        let panicked = client.submit(async || -> u64 { panic!("bad") }, ()).result().unwrap_err();
        assert!(panicked.source().is_none());
        assert!(panicked.downcast_ref::<String>().is_none());
    });
}

#[test]
fn an_error_is_cheap_to_clone_and_is_a_standard_error() {
    bounded(|| {
        let error = failure(|| Err::<u8, _>(Custom::Missing(3)));
        let clone = error.clone();
        assert!(std::ptr::eq(
            error.downcast_ref::<Custom>().unwrap(),
            clone.downcast_ref::<Custom>().unwrap()
        ));
        let boxed: Box<dyn StdError + Send + Sync> = clone.into();
        assert!(boxed.is::<Error>());
        assert!(format!("{error:?}").contains("Failed"), "{error:?}");
    });
}

#[test]
fn a_plain_result_is_a_value() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.submit(async || Err::<u8, String>("just a value".into()), ());
        assert_eq!(handle.result().unwrap(), Err("just a value".into()));
        assert_eq!(handle.status(), Status::Finished);
        assert!(handle.error().is_none());
    });
}

#[test]
fn a_long_message_is_kept() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let handle = client.try_submit(async || Err::<u8, _>("x".repeat(100_000)), ());
        assert!(handle.result().unwrap_err().to_string().len() >= 100_000);
        let handle = client.submit(async || -> u8 { panic!("{}", "x".repeat(100_000)) }, ());
        assert!(handle.result().unwrap_err().to_string().len() >= 100_000);
    });
}

// Promise 11: dependents fail without running.

#[test]
fn dependents_fail_without_running_with_the_same_error() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let calls = Count::new();
        let called = || {
            let calls = calls.clone();
            async move |x: u64| {
                calls.add();
                x
            }
        };
        let bad = client.try_submit(async || Err::<u64, _>(Custom::Missing(1)), ());
        let fine = client.submit(inc, 1);
        let direct = client.submit(called(), &bad);
        let indirect = client.submit(called(), &direct);
        let count = calls.clone();
        let beside = client.submit(async move |_: u64, _: u64| count.add(), (&fine, &indirect));
        let count = calls.clone();
        let in_vec = client.submit(async move |_: Vec<u64>| count.add(), vec![&fine, &bad]);
        let count = calls.clone();
        let in_option = client.submit(async move |_: Option<Ref<u64>>| count.add(), Some(&bad));
        let count = calls.clone();
        let blocking = client.submit_blocking(move |_: u64| count.add(), &direct);
        let other = client.submit(called(), &fine);
        run_until_idle(&client);
        // Submitted after the failure, on failed tasks of any distance.
        let late = client.submit(called(), &bad);
        let later = client.submit(called(), &late);
        assert!(later.is_finished());
        run_until_idle(&client);
        let errors = [
            direct.error(),
            indirect.error(),
            beside.error(),
            in_vec.error(),
            in_option.error(),
            blocking.error(),
            late.error(),
            later.error(),
        ];
        for error in errors {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Failed);
            assert_eq!(*error.origin(), bad.key());
            assert_eq!(error.downcast_ref(), Some(&Custom::Missing(1)));
            assert!(error.source().is_some());
        }
        assert_eq!(direct.status(), Status::Failed);
        // Only the one that depends on no failed task ran.
        assert_eq!((calls.get(), other.result().unwrap()), (1, 2));
        assert_eq!(fine.result().unwrap(), 2);
    });
}

#[test]
fn the_error_outlives_the_task_where_it_began() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let bad = client.task().name("root").try_submit(async || Err::<u64, _>("bad"), ());
        let origin = bad.key();
        let mut last = client.submit(inc, bad);
        for _ in 0..100 {
            last = client.submit(inc, last);
        }
        run_until_idle(&client);
        let error = last.result().unwrap_err();
        assert_eq!(*error.origin(), origin);
        assert_eq!(error.downcast_ref::<&str>(), Some(&"bad"));
        assert!(error.to_string().contains("root-"), "{error}");
        // A failed task keeps its failed inputs, for a retry.
        drop(last);
        assert_eq!(client.tasks_in_memory(), 0);
    });
}

#[test]
fn every_kind_is_passed_on_as_it_is() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("db", 1).build();
        let never = || client.spawn(std::future::pending::<u64>());
        let cancelled = never();
        let slow = client
            .task()
            .timeout(std::time::Duration::from_millis(1))
            .spawn(std::future::pending::<u64>());
        let panicked = client.submit(async || -> u64 { panic!("bad") }, ());
        let limit = client.task().acquire_many("db", 2).submit(inc, 1);
        let text = client.task().key("k").submit(async || "text", ());
        let conflict = client.task().key("k").submit(inc, 1);
        let mut moved = client.submit(inc, 1);
        block_on(&mut moved).unwrap();
        let sources = [
            (&cancelled, ErrorKind::Cancelled),
            (&slow, ErrorKind::TimedOut),
            (&panicked, ErrorKind::Panicked),
            (&limit, ErrorKind::Limit),
            (&conflict, ErrorKind::KeyConflict),
            (&moved, ErrorKind::Lost),
        ];
        for (source, kind) in sources {
            let next = client.submit(inc, source);
            let last = client.submit(inc, &next);
            if kind == ErrorKind::Cancelled {
                source.cancel();
            }
            let error = last.result().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(*error.origin(), source.key(), "{error}");
            assert_eq!(next.error().unwrap().kind(), kind);
        }
        drop(text);
        let waiting = never();
        let last = client.submit(inc, &waiting);
        drop(client);
        assert_eq!(last.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn of_two_failed_inputs_the_first_to_fail_counts() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (first, second) = (Gate::new(), Gate::new());
        let fails = |gate: &Gate, text: &'static str| {
            let waits = gate.pass();
            client.spawn(async move {
                waits.await;
                if text.is_empty() { 0u64 } else { panic!("{text}") }
            })
        };
        let (a, b) = (fails(&first, "a"), fails(&second, "b"));
        let both = client.submit(async |x: u64, y: u64| x + y, (&a, &b));
        run_what_is_ready(&client);
        second.open();
        run_what_is_ready(&client);
        // It doesn't wait for the other one.
        let error = both.error().unwrap();
        assert_eq!(*error.origin(), b.key());
        first.open();
        run_until_idle(&client);
        assert_eq!(*both.error().unwrap().origin(), b.key());
        assert_eq!(*a.error().unwrap().origin(), a.key());
    });
}

#[test]
fn a_dependent_that_is_cancelled_drops_its_function_and_inputs() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let (value, captured) = (Counts::new(), Counts::new());
        let made = value.value(1);
        let big = client.submit(async move || made, ());
        let gate = Gate::new();
        let waits = gate.pass();
        let bad = client.spawn(async move {
            waits.await;
            let nothing: Vec<u64> = Vec::new();
            nothing[0]
        });
        let function = captured.value(2);
        let dependent = client.submit(
            async move |_: Counted, _: u64| {
                drop(function);
            },
            (big, &bad),
        );
        run_what_is_ready(&client);
        assert_eq!(value.drops.get(), 0);
        // A cancelled task can't be retried, so it keeps nothing, unlike a failed one.
        bad.cancel();
        assert_eq!((value.drops.get(), captured.drops.get()), (1, 1));
        assert!(dependent.error().unwrap().is_cancelled());
        gate.open();
    });
}

#[test]
fn an_error_that_is_awaited_in_a_task_is_that_awaits_error() {
    bounded(|| {
        let client = Client::builder().workers(1).build();
        let bad = client.try_submit(async || Err::<u64, _>(Custom::Missing(9)), ());
        let other = bad.clone();
        // The task may ignore it.
        let caught = client.submit(async move || other.await.unwrap_or(100), ());
        assert_eq!(caught.result().unwrap(), 100);
        let other = bad.clone();
        let passed_on = client.try_submit(async move || other.clone().await, ());
        let error = passed_on.result().unwrap_err();
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &bad.key()));
        assert_eq!(error.downcast_ref(), Some(&Custom::Missing(9)));
    });
}

#[test]
fn failures_under_load_leave_everything_in_order() {
    bounded(|| {
        let client = Client::builder().workers(2).build();
        for round in 0..20u64 {
            let handles = client.try_map(
                async |x: u64| match x % 4 {
                    0 => Err("failed"),
                    1 => panic!("panicked"),
                    _ => Ok(x),
                },
                round..round + 400,
            );
            let dependents: Vec<Handle<u64>> = client.map(inc, &handles);
            let settled = block_on(gather_settled(dependents));
            for (at, result) in settled.into_iter().enumerate() {
                let x = round + at as u64;
                match x % 4 {
                    0 => assert_eq!(result.unwrap_err().kind(), ErrorKind::Failed),
                    1 => assert_eq!(result.unwrap_err().kind(), ErrorKind::Panicked),
                    _ => assert_eq!(result.unwrap(), x + 1),
                }
            }
        }
        works(&client);
        eventually("everything is freed", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_detached_tasks_error_that_panics_when_dropped_costs_no_worker() {
    #[derive(Debug)]
    struct Failure(Count, #[allow(unused)] Bomb);
    impl Drop for Failure {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failure")
        }
    }
    impl StdError for Failure {}

    bounded(|| {
        let (client, reported) = listening(1);
        let drops = Count::new();
        let count = drops.clone();
        let fails = async move || Err::<u64, _>(Failure(count.clone(), Bomb));
        client.try_submit(fails.clone(), ()).detach();
        eventually("it's dropped", || drops.get() == 1);
        let of_the_task =
            || reported.lock().unwrap().iter().filter(|e| e.contains("failure")).count();
        assert_eq!(of_the_task(), 1);
        eventually("the hook is called for the panic", || {
            reported.lock().unwrap().iter().any(|e| e.contains("a destructor's panic"))
        });
        works(&client);
        // And if the last owners of the error are tasks that failed with it.
        let bad = client.try_submit(fails, ());
        client.map(inc, [&bad, &bad, &bad]).into_iter().for_each(Handle::detach);
        bad.detach();
        eventually("it's dropped", || drops.get() == 2);
        works(&client);
        eventually("everything is freed", || client.tasks_in_memory() == 0);
        block_on(client.close());
        assert_eq!(client.workers(), 0);
    });
}

#[test]
fn an_error_that_a_dropped_gather_got_is_still_reported() {
    bounded(|| {
        let reported = Count::new();
        let count = reported.clone();
        let client = Client::builder().seed(1).on_unobserved(move |_| _ = count.add()).build();
        for is_seen in [false, true] {
            let x = client.try_submit(async || Err::<(), _>("no"), ());
            let gate = Gate::new();
            let inner = gate.clone();
            let late = client.spawn(async move { inner.pass().await });
            let mut both = gather_settled([&x, &late]);
            assert!(poll_once(&mut both).is_pending());
            if is_seen {
                gate.open();
                assert!(block_on(both)[0].is_err());
            } else {
                drop(both);
            }
            x.detach();
            assert_eq!(reported.get(), 1, "seen: {is_seen}");
        }
    });
}

#[test]
fn an_error_that_a_gather_in_a_cycle_got_is_still_reported() {
    bounded(|| {
        let reported = Count::new();
        let count = reported.clone();
        let client = Client::builder().seed(1).on_unobserved(move |_| _ = count.add()).build();
        let x = client.try_submit(async || Err::<(), _>("no"), ());
        let handle = Arc::new(Mutex::new(None::<Handle<()>>));
        let (own, of_x) = (handle.clone(), x.clone());
        let cycle = client.spawn(async move {
            while !of_x.is_finished() {
                yield_now().await;
            }
            let this = own.lock().unwrap().take().unwrap();
            let both = gather_settled([of_x, this]).await;
            assert!(both.iter().all(|one| one.as_ref().unwrap_err().kind() == ErrorKind::Cycle));
        });
        *handle.lock().unwrap() = Some(cycle.clone());
        cycle.result().unwrap();
        x.detach();
        assert_eq!(reported.get(), 1);
    });
}

#[test]
fn many_threads_see_an_error_at_once() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let x = client.try_submit(async || Err::<(), _>("no"), ());
        run_until_idle(&client);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        assert_eq!(x.error().unwrap().kind(), ErrorKind::Failed);
                    }
                });
            }
        });
    });
}
