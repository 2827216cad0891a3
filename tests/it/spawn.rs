//! Futures as tasks, callbacks, and the hook for unobserved errors (promises 1, 8 and 10).

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ensue::{Client, Error, ErrorKind, Handle, Key, Ref, Retry, Status};
use futures::executor::block_on;
use futures::task::{LocalFutureObj, Spawn, SpawnExt};
use smol::future::yield_now;
use support::hold::{Gate, hold_worker};
use support::observe::{Count, Counts, Log, OnDrop};
use support::{bounded, client_of, eventually, poll_once};

async fn inc(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_future_is_a_task_like_others() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let text = String::from("captured");
        let x = client.spawn(async move { text.len() as u64 });
        assert_eq!(client.submit(inc, &x).result().unwrap(), 9);
        let y = client.task().key("k").acquire("one").priority(3).spawn(async { 1u64 });
        assert_eq!(y.key(), "k");
        assert_eq!(y.result().unwrap(), 1);
        let late =
            client.task().timeout(Duration::from_millis(1)).spawn(std::future::pending::<()>());
        assert!(late.result().unwrap_err().is_timeout());
        let panics = client.spawn(async { panic!("oh") });
        let panics: Handle<()> = panics;
        assert!(panics.result().unwrap_err().is_panic());
    });
}

/// Like a network connection: neither it nor its error can be cloned.
struct Connection {
    _open: OnDrop,
}

impl Connection {
    async fn ask(&mut self, code: Option<u8>) -> Result<Answer, Refused> {
        yield_now().await;
        code.map_or(Ok(Answer(7)), |code| Err(Refused(code)))
    }
}

#[derive(Debug)]
struct Answer(u64);

#[derive(Debug, PartialEq)]
struct Refused(u8);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.0)
    }
}

impl std::error::Error for Refused {}

#[test]
fn a_fallible_future_may_own_values_that_are_not_clone() {
    bounded(|| {
        let client = client_of(1);
        let closed = Count::new();
        let ask = |code| {
            let mut connection = Connection { _open: closed.on_drop() };
            async move { connection.ask(code).await }
        };
        let good = client.try_spawn(ask(None));
        assert_eq!(block_on(good.get_ref()).unwrap().0, 7);
        let doubled = client.submit(async |answer: Ref<Answer>| 2 * answer.0, &good);
        assert_eq!(doubled.result().unwrap(), 14);
        assert_eq!(closed.get(), 1);

        let bad = client.try_spawn(ask(Some(3)));
        let dependent = client.submit(async |answer: Ref<Answer>| answer.0, &bad);
        let error = dependent.result().unwrap_err();
        assert_eq!(bad.status(), Status::Failed);
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &bad.key()));
        assert_eq!(error.downcast_ref(), Some(&Refused(3)));
        assert_eq!(error.to_string(), format!("task `{}` failed: refused with 3", bad.key()));
        assert_eq!(closed.get(), 2);

        // A future can't run again.
        assert!(!bad.retry() && !dependent.retry());
        assert_eq!(bad.status(), Status::Failed);
        assert_eq!(bad.error().unwrap().downcast_ref(), Some(&Refused(3)));
    });
}

#[test]
fn a_future_that_can_fail_is_a_task_like_others() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let task = || client.task().key("k").name("n").acquire("one").priority(3);
        // The error may be text, or a boxed error.
        let bad = task().try_spawn(async { Err::<u64, _>("text") });
        let error = bad.result().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&"text"));
        assert_eq!(error.origin(), "k");
        let boxed =
            client.try_spawn(async { Ok::<u64, Box<dyn StdError + Send + Sync>>("7".parse()?) });
        assert_eq!(boxed.result().unwrap(), 7);
        // A failed task is replaced, and a finished one is joined.
        let good = task().try_spawn(async { Ok::<_, Refused>(1u64) });
        assert_eq!(good.result().unwrap(), 1);
        assert_eq!(task().try_spawn(async { Err::<u64, _>(Refused(1)) }).result().unwrap(), 1);

        let (plain, fallible) =
            (client.spawn(async { 1 }), client.try_spawn(async { Ok::<_, Refused>(1) }));
        let name = |key: Key| key.rsplit_once('-').unwrap().0.to_owned();
        assert_eq!(name(fallible.key()), name(plain.key()));
        let named = client.task().name("load").try_spawn(async { Ok::<_, Refused>(1) });
        assert_eq!(name(named.key()), "load");

        let panics = client.try_spawn(async { panic!("oh") as Result<(), Refused> });
        assert!(panics.result().unwrap_err().is_panic());
        let forever = || std::future::pending::<Result<(), Refused>>();
        let late = client.task().timeout(Duration::from_millis(1)).try_spawn(forever());
        assert!(late.result().unwrap_err().is_timeout());
        let cancelled = client.try_spawn(forever());
        assert!(cancelled.cancel());
        assert!(cancelled.result().unwrap_err().is_cancelled());
        assert_eq!(cancelled.status(), Status::Cancelled);
        for task in [&panics, &late, &cancelled] {
            assert!(!task.retry());
        }
        block_on(client.close());
        let refused = client.try_spawn(async { Ok::<_, Refused>(1) });
        assert_eq!(refused.result().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn it_is_polled_as_often_as_it_is_woken_and_dropped_once() {
    bounded(|| {
        let client = client_of(1);
        let counts = Counts::new();
        client
            .spawn(counts.future(async {
                for _ in 0..3 {
                    yield_now().await;
                }
            }))
            .result()
            .unwrap();
        assert_eq!((counts.polls.get(), counts.drops.get()), (4, 1));
    });
}

#[test]
fn a_client_is_a_spawner_of_the_futures_crate() {
    bounded(|| {
        let client = client_of(1);
        let (send, receive) = mpsc::channel();
        assert!(client.status().is_ok());
        // Detached: no handle keeps it.
        SpawnExt::spawn(&client, async move { send.send(1).unwrap() }).unwrap();
        assert_eq!(receive.recv().unwrap(), 1);
        let with_handle = client.spawn_with_handle(async { 7 }).unwrap();
        assert_eq!(block_on(with_handle), 7);
        fn generic(spawner: &impl Spawn) -> bool {
            spawner.spawn_obj(Box::pin(async {}).into()).is_ok()
        }
        assert!(generic(&client));
        block_on(client.close());
        assert!(client.status().is_err_and(|error| error.is_shutdown()));
        assert!(SpawnExt::spawn(&client, async {}).is_err());
        assert!(!generic(&client));
        let _: fn(LocalFutureObj<'static, ()>) = drop;
    });
}

// Callbacks.

/// Makes a task, gives its handle to `end`, and asserts that its callback is called once, when it has ended.
fn seen(client: &Client, make: impl FnOnce(&Client) -> Handle<u64>, end: impl FnOnce(Handle<u64>)) {
    let log = Log::new();
    let x = make(client);
    let entry = log.clone();
    x.on_done(move |x| entry.add((x.is_finished(), x.status())));
    let waiting = x.clone();
    end(x);
    eventually("it has ended", || waiting.is_finished());
    eventually("the callback is called", || log.len() > 0);
    let status = waiting.status();
    drop(waiting);
    block_on(client.idle());
    assert_eq!(log.all(), [(true, status)]);
}

#[test]
fn a_callback_is_called_once_for_every_outcome() {
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let never = |client: &Client| client.spawn(std::future::pending::<u64>());
        seen(&client, |client| client.submit(inc, 1), drop);
        seen(&client, |client| client.try_submit(async || Err("no"), ()), drop);
        seen(&client, |client| client.submit(async || panic!("oh"), ()), drop);
        seen(&client, never, |x| assert!(x.cancel()));
        let timeout = Duration::from_millis(1);
        seen(&client, |client| client.task().timeout(timeout).spawn(std::future::pending()), drop);
        seen(&client, |client| client.submit(inc, client.submit(async || panic!("oh"), ())), drop);
        seen(&client, |client| client.submit_blocking(|| 1, ()), drop);
        seen(&client, |client| client.task().acquire("nine").submit(inc, 1), drop);
        seen(&client, |client| client.ready(1), drop);
        let wait = Duration::from_millis(1);
        let retry = Retry::new(1).backoff(wait, wait);
        seen(
            &client,
            |client| client.task().retries(retry).try_submit(async || Err("no"), ()),
            drop,
        );
        let gate = Gate::new();
        let pass = gate.clone();
        let gated = |client: &Client| {
            client.spawn(async move {
                pass.pass().await;
                1
            })
        };
        seen(&client, gated, |_| gate.open());
    });
}

#[test]
fn a_callback_is_called_when_the_client_closes() {
    bounded(|| {
        for abort in [false, true] {
            let client = client_of(1);
            let held = hold_worker(&client);
            let log = Log::new();
            let queued = client.submit(inc, 1);
            let waiting = client.submit(inc, &queued);
            for x in [&queued, &waiting] {
                let entry = log.clone();
                x.on_done(move |x| entry.add(x.error().unwrap().kind()));
            }
            if abort {
                drop(client);
            } else {
                let mut close = Box::pin(client.close());
                assert!(poll_once(&mut close).is_pending());
            }
            drop(held);
            eventually("both are called", || log.len() == 2);
            assert_eq!(log.all(), [ErrorKind::Closed; 2]);
        }
    });
}

#[test]
fn a_callback_keeps_no_task_and_is_called_when_the_last_handle_is_dropped() {
    bounded(|| {
        let client = client_of(1);
        let log = Log::new();
        let counts = Counts::new();
        let x = client.spawn(counts.future(std::future::pending::<u64>()));
        let entry = log.clone();
        x.on_done(move |x| entry.add(x.status()));
        eventually("it runs", || counts.polls.get() == 1);
        drop(x);
        eventually("it's called", || log.len() == 1);
        assert_eq!(log.all(), [Status::Cancelled]);
        assert_eq!(counts.drops.get(), 1);
        let held = hold_worker(&client);
        let x = client.submit(inc, 1);
        let entry = log.clone();
        x.on_done(move |x| entry.add(x.status()));
        drop(x);
        held.let_go();
        eventually("it's called", || log.len() == 2);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn a_callback_sees_that_the_last_handle_was_dropped() {
    bounded(|| {
        let client = client_of(1);
        let (send, receive) = mpsc::channel();
        let looker = client.clone();
        let x = client.spawn(std::future::pending::<()>());
        x.on_done(move |x| {
            let error = x.error().unwrap();
            send.send((error, looker.explain(x).to_string())).unwrap();
        });
        let key = x.key();
        drop(x);
        let (error, explanation) = receive.recv().unwrap();
        assert!(error.is_cancelled());
        assert_eq!(error.to_string(), "the task was abandoned: its last handle was dropped");
        let reason =
            "is cancelled: by its handle, by dropping its last handle, or by closing the client";
        assert!(explanation.starts_with(&format!("`{key}` (")), "{explanation}");
        assert!(explanation.ends_with(reason), "{explanation}");
    });
}

#[test]
fn a_callback_on_a_finished_task_is_called_at_once_on_this_thread() {
    bounded(|| {
        let client = client_of(1);
        let x = client.submit(inc, 1);
        x.result().unwrap();
        let (send, receive) = mpsc::channel();
        x.on_done(move |x| send.send((std::thread::current().id(), x.result())).unwrap());
        let (thread, value) = receive.try_recv().expect("called before `on_done` returned");
        assert_eq!(thread, std::thread::current().id());
        assert_eq!(value.unwrap(), 2);
    });
}

#[test]
fn callbacks_are_called_in_order() {
    bounded(|| {
        let client = client_of(1);
        let held = hold_worker(&client);
        let x = client.submit(inc, 1);
        let log = Log::new();
        for n in 0..100 {
            let entry = log.clone();
            x.on_done(move |_| entry.add(n));
        }
        held.let_go();
        x.result().unwrap();
        eventually("all are called", || log.len() == 100);
        assert_eq!(log.all(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_callback_may_use_the_handle_and_the_client() {
    bounded(|| {
        let client = client_of(1);
        let (send, receive) = mpsc::channel();
        let held = hold_worker(&client);
        let x = client.submit(inc, 1);
        let inner = client.clone();
        x.on_done(move |x| {
            let y = inner.submit(inc, x);
            let clone = x.clone();
            assert_eq!(clone.try_get().unwrap().unwrap(), 2);
            assert!(!x.cancel());
            let again = send.clone();
            x.on_done(move |_| again.send(None).unwrap());
            send.send(Some(y)).unwrap();
        });
        held.let_go();
        let got: Vec<_> = receive.iter().take(2).collect();
        assert!(got[0].is_none(), "a callback on an ended task is called at once");
        assert_eq!(got[1].as_ref().unwrap().result().unwrap(), 3);
    });
}

#[test]
fn a_callback_that_panics_is_reported_to_the_hook_and_affects_nothing_else() {
    bounded(|| {
        let reported = Log::new();
        let entry = reported.clone();
        let client = Client::builder()
            .workers(1)
            .on_unobserved(move |error| entry.add((error.kind(), error.to_string())))
            .build();
        let held = hold_worker(&client);
        let x = client.submit(inc, 1);
        let called = Count::new();
        let (a, b) = (called.clone(), called.clone());
        x.on_done(move |_| {
            a.add();
        });
        x.on_done(|_| panic!("a bad callback"));
        x.on_done(move |_| {
            b.add();
        });
        let y = client.submit(inc, &x);
        held.let_go();
        assert_eq!(y.result().unwrap(), 3);
        assert_eq!(x.result().unwrap(), 2);
        eventually("the others are called", || called.get() == 2);
        eventually("the hook is called", || reported.len() == 1);
        assert_eq!(reported.all()[0].0, ErrorKind::Panicked);
        assert!(reported.all()[0].1.contains("a bad callback"), "{:?}", reported.all());
        // A callback on the caller's thread.
        x.on_done(|_| panic!("another"));
        assert_eq!(reported.len(), 2);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

#[test]
fn a_callback_keeps_the_value_only_until_it_was_called() {
    bounded(|| {
        let client = client_of(1);
        let drops = Count::new();
        let value = drops.on_drop();
        let x = client.spawn(async move { Arc::new(value) });
        x.on_done(|x| assert!(x.is_finished()));
        let value = block_on(x).unwrap();
        assert_eq!(drops.get(), 0);
        drop(value);
        eventually("it's dropped", || drops.get() == 1);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
    });
}

#[test]
fn callbacks_added_while_it_finishes_are_called_once() {
    bounded(|| {
        let client = client_of(2);
        let called = Count::new();
        for _ in 0..2000 {
            let x = client.submit(inc, 1);
            let (a, b) = (called.clone(), called.clone());
            x.on_done(move |_| {
                a.add();
            });
            x.on_done(move |_| {
                b.add();
            });
            drop(x);
        }
        eventually("all are called", || called.get() == 4000);
        block_on(client.idle());
        assert_eq!(called.get(), 4000);
    });
}

// The hook.

fn with_hook() -> (Client, Log<(ErrorKind, String)>) {
    let reported = Log::new();
    let entry = reported.clone();
    let hook = move |error: &Error| entry.add((error.kind(), error.to_string()));
    (Client::builder().workers(1).on_unobserved(hook).build(), reported)
}

#[test]
fn errors_of_detached_tasks_go_to_the_hook() {
    bounded(|| {
        let (client, reported) = with_hook();
        client.try_submit(async || Err::<(), _>("an unobserved error"), ()).detach();
        client.spawn(async { panic!("an unobserved panic") }).detach_unit();
        client.submit(inc, 1).detach();
        block_on(client.idle());
        eventually("the hook is called for both", || reported.len() == 2);
        let all = reported.all();
        assert!(all.iter().any(|(kind, text)| {
            *kind == ErrorKind::Failed && text.contains("an unobserved error")
        }));
        assert!(all.iter().any(
            |(kind, text)| *kind == ErrorKind::Panicked && text.contains("an unobserved panic")
        ));
    });
}

trait DetachUnit {
    fn detach_unit(self);
}

impl DetachUnit for Handle<()> {
    fn detach_unit(self) {
        self.detach();
    }
}

#[test]
fn errors_that_a_handle_can_see_do_not() {
    bounded(|| {
        let (client, reported) = with_hook();
        let x = client.try_submit(async || Err::<u64, _>("seen"), ());
        let dependent = client.submit(inc, &x);
        x.clone().detach();
        assert!(x.result().is_err());
        assert!(dependent.result().is_err());
        // Not detached: the error was dropped with the handle.
        drop(client.try_submit(async || Err::<u64, _>("dropped"), ()));
        let cancelled = client.spawn(std::future::pending::<u64>());
        cancelled.clone().detach();
        cancelled.cancel();
        drop(cancelled);
        block_on(client.idle());
        assert_eq!(reported.all(), []);
    });
}

#[test]
fn errors_that_a_dependent_has_do_not() {
    bounded(|| {
        let (client, reported) = with_hook();
        // It fails once its handle is dropped.
        let held = hold_worker(&client);
        let x = client.try_submit(async || Err::<u64, _>("seen"), ());
        let dependent = client.submit(inc, &x);
        x.detach();
        held.let_go();
        assert!(dependent.result().is_err());
        drop(dependent);
        eventually("nothing is left", || client.tasks_in_memory() == 0);
        assert_eq!(reported.all(), []);
    });
}

#[test]
fn a_hook_that_panics_does_not_end_the_worker() {
    bounded(|| {
        let client = Client::builder().workers(1).on_unobserved(|_| panic!("a bad hook")).build();
        client.try_submit(async || Err::<(), _>("no"), ()).detach();
        let x = client.submit(inc, 1);
        x.on_done(|_| panic!("a bad callback"));
        assert_eq!(x.result().unwrap(), 2);
        assert_eq!(client.submit(inc, 1).result().unwrap(), 2);
    });
}

/// A future that contains a large array.
async fn large<const KIB: usize>(x: u8) -> Result<u8, String> {
    let array = [[x; 1024]; KIB];
    yield_now().await;
    Ok(array[std::hint::black_box(KIB - 1)][1023])
}

#[test]
fn a_large_future_needs_no_larger_stack_of_a_worker() {
    bounded(|| {
        // Of this thread it does.
        let caller = std::thread::Builder::new().stack_size(64 << 20).spawn(|| {
            let client = Client::builder().workers(2).limit("one", 1).build();
            assert_eq!(client.try_spawn(large::<150>(1)).result().unwrap(), 1);
            assert_eq!(client.try_spawn(large::<1000>(2)).result().unwrap(), 2);
            assert_eq!(client.spawn(large::<1000>(3)).result().unwrap(), Ok(3));
            let options = client.task().acquire("one").timeout(Duration::from_secs(600));
            let x = options.clone().try_spawn(large::<1000>(4));
            assert_eq!(x.result().unwrap(), 4);
            assert_eq!(options.spawn(large::<1000>(5)).result().unwrap(), Ok(5));
            // These are made on the worker.
            assert_eq!(client.submit(large::<1000>, 6).result().unwrap(), Ok(6));
            assert_eq!(client.try_submit(large::<150>, 7).result().unwrap(), 7);
            let options = client.task().acquire("one").retries(2);
            assert_eq!(options.try_submit(large::<150>, 8).result().unwrap(), 8);
        });
        caller.unwrap().join().unwrap();
    });
}

#[test]
fn large_arguments_captures_and_values_fit_the_default_stack() {
    type Large = [u8; 16 << 10];
    bounded(|| {
        let client = Client::builder().workers(1).limit("one", 1).build();
        let array: Large = [1; 16 << 10];
        assert_eq!(client.submit(async |a: Large| a[5], array).result().unwrap(), 1);
        assert_eq!(client.submit(async move || array[5], ()).result().unwrap(), 1);
        assert_eq!(client.submit(async || [2u8; 16 << 10], ()).result().unwrap()[5], 2);
        assert_eq!(client.submit_blocking(|a: Large| a[5], array).result().unwrap(), 1);
        let fallible = async |a: Large| if a[5] == 1 { Ok(a) } else { Err("another array") };
        let options = client.task().acquire("one").retries(1);
        let x = options.try_submit(fallible, array);
        assert_eq!(client.try_submit(fallible, &x).result().unwrap()[5], 1);
    });
}
