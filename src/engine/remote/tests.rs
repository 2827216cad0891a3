//! Tasks elsewhere, in all states that they and their bringers can be in.

mod results;
mod states;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use event_listener::Event;
use futures_lite::StreamExt;
use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::{Client, ErrorKind, Handle, Status, as_completed, gather, gather_settled, wait_all};

/// A task somewhere else, as the test wants it to be.
#[derive(Default)]
struct Far {
    outcome: Mutex<Option<Result<(), Error>>>,
    reported_to: Event,
    fetched: AtomicUsize,
    again: AtomicUsize,
    /// So many times bringing the value fails.
    broken: AtomicUsize,
    /// Bringing it takes until this is over.
    slow: AtomicBool,
}

impl Far {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), Error>>> {
        self.outcome.lock().unwrap()
    }

    fn end(&self, outcome: Result<(), Error>) {
        *self.outcome() = Some(outcome);
        self.reported_to.notify(usize::MAX);
    }

    fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
        self.reported_to.notify(usize::MAX);
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

impl RemoteExecution<String> for Arc<Far> {
    async fn ended(&self) -> Result<(), Error> {
        loop {
            let reported_to = self.reported_to.listen();
            if let Some(outcome) = &*self.outcome() {
                return outcome.clone();
            }
            reported_to.await;
        }
    }

    fn again(&self) -> impl Fn() + Send + Sync + 'static {
        let weak = Arc::downgrade(self);
        move || {
            let far = weak.upgrade().unwrap();
            far.again.fetch_add(1, Ordering::SeqCst);
            *far.outcome() = None;
        }
    }

    fn can_run_again(&self) -> bool {
        true
    }

    async fn fetch(&self) -> Result<String, Error> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        loop {
            let reported_to = self.reported_to.listen();
            if !self.slow.load(Ordering::SeqCst) {
                break;
            }
            reported_to.await;
        }
        let broken = self.broken.load(Ordering::SeqCst);
        if broken > 0 {
            self.broken.store(broken - 1, Ordering::SeqCst);
            return Err(Error::failed("far".into(), "the line is cut"));
        }
        Ok("value".to_owned())
    }
}

fn far(client: &Client, inputs: &[&Handle<String>]) -> (Arc<Far>, Handle<String>) {
    let far = Arc::new(Far::default());
    let key = format!("far-{}", client.core().next_number()).into();
    let named = RemoteName { key, name: "far".into(), is_given: false };
    let inputs = inputs.iter().map(|handle| handle.typed().interest().clone()).collect();
    let sent = far.clone();
    (far, Handle::new(submit(client.core(), named, inputs, || sent).unwrap()))
}

fn client() -> Client {
    Client::builder().workers(1).build()
}

/// Runs a test's body, which is to come to an end.
fn bounded(body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let runner = thread::spawn(move || {
        let _done = done;
        body();
    });
    match ended.recv_timeout(Duration::from_secs(20)) {
        Err(RecvTimeoutError::Timeout) => panic!("not done"),
        _ => runner.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Waits, with an end to it, until something is so.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
}

#[test]
fn it_ends_without_being_fetched() {
    let client = client();
    let (far, handle) = far(&client, &[]);
    assert!(!handle.is_finished());
    far.end(Ok(()));
    let waited = block_on(wait_all([&handle]));
    assert_eq!(waited.done, std::slice::from_ref(&handle));
    assert_eq!(block_on(as_completed([&handle]).next()), Some(handle.clone()));
    assert_eq!((handle.status(), far.fetched()), (Status::Finished, 0));
    assert!(handle.try_get().is_none());
    assert_eq!(handle.result().unwrap(), "value");
    // Nobody has kept it.
    assert!(handle.try_get().is_none());
    assert_eq!(block_on(handle.get_ref()).unwrap().as_str(), "value");
    assert_eq!(far.fetched(), 2);
}

#[test]
fn all_who_want_it_at_a_time_get_one_fetch() {
    let client = client();
    let (far, handle) = far(&client, &[]);
    let shared = handle.get_ref();
    let here = client.submit(async |text: String| text + "!", &handle);
    let by_ref = client.submit(async |text: crate::Ref<String>| text.len(), &handle);
    far.end(Ok(()));
    let all = block_on(gather([&handle, &handle])).unwrap();
    assert_eq!(all, ["value", "value"]);
    assert_eq!((here.result().unwrap().as_str(), by_ref.result().unwrap()), ("value!", 5));
    assert!(far.fetched() <= 2);
    let shared = block_on(shared).unwrap();
    let before = far.fetched();
    assert_eq!(handle.try_get().unwrap().unwrap(), *shared);
    assert_eq!(handle.result().unwrap(), *shared);
    assert_eq!(far.fetched(), before);
}

#[test]
fn a_failure_reaches_all_who_stand_on_it_and_can_be_tried_again() {
    let client = client();
    let (one, first) = far(&client, &[]);
    let (two, second) = far(&client, &[&first]);
    let here = client.submit(async |text: String| text, &second);
    one.end(Err(Error::failed(first.key(), "broken")));
    for error in [second.result().unwrap_err(), here.result().unwrap_err()] {
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &first.key()));
    }
    assert_eq!(block_on(gather_settled([&first, &second])).iter().flatten().count(), 0);
    let mut kept = second.clone();
    assert!(block_on(&mut kept).is_err());
    assert!(second.retry());
    assert_eq!([&one, &two].map(|far| far.again.load(Ordering::SeqCst)), [1, 1]);
    assert!(!second.is_finished());
    one.end(Ok(()));
    two.end(Ok(()));
    assert_eq!(block_on(&mut kept).unwrap(), "value");
    assert_eq!(second.result().unwrap(), "value");
}

#[test]
fn a_fetch_that_fails_is_told_once_and_tried_again_by_the_next() {
    let client = client();
    let (far, handle) = far(&client, &[]);
    far.broken.store(1, Ordering::SeqCst);
    far.end(Ok(()));
    let mut handle = handle;
    assert_eq!(
        block_on(&mut handle).unwrap_err().to_string(),
        "task `far` failed: the line is cut"
    );
    assert_eq!(block_on(&mut handle).unwrap(), "value");
}

#[test]
fn what_stands_on_a_fetch_that_failed_can_run_again() {
    bounded(|| {
        let client = client();
        let (far, handle) = far(&client, &[]);
        far.broken.store(1, Ordering::SeqCst);
        let here = client.submit(async |text: String| text + "!", &handle);
        let mut all = as_completed([&handle]).with_results();
        far.end(Ok(()));
        // The same fetch as that of the one above, which has failed.
        until(|| here.is_finished());
        assert_eq!(here.result().unwrap_err().to_string(), "task `far` failed: the line is cut");
        assert!(here.retry());
        assert_eq!(here.result().unwrap(), "value!");
        let (_, result) = block_on(all.next()).unwrap();
        assert_eq!(result.unwrap(), "value");
        assert_eq!(far.again.load(Ordering::SeqCst), 0, "it has ended, and need not run again");
    });
}

#[test]
fn a_fetch_that_is_tried_again_while_a_stream_waits_for_it() {
    bounded(|| {
        let client = client();
        let (far, handle) = far(&client, &[]);
        far.set_slow(true);
        far.broken.store(1, Ordering::SeqCst);
        far.end(Ok(()));
        until(|| handle.is_finished());
        let here = client.submit(async |text: String| text + "!", &handle);
        let mut all = as_completed([&handle]).with_results();
        assert!(block_on(poll_once(all.next())).is_none());
        // It fails, and before the stream sees that it's tried again.
        far.set_slow(false);
        until(|| here.is_finished());
        far.set_slow(true);
        assert!(here.retry());
        until(|| far.fetched() == 2);
        assert!(block_on(poll_once(all.next())).is_none());
        far.set_slow(false);
        assert_eq!(block_on(all.next()).unwrap().1.unwrap(), "value");
    });
}

#[test]
fn foreign_code_that_a_new_bringer_runs_may_ask_for_it() {
    struct Asks(Handle<String>, Arc<AtomicBool>);
    impl Drop for Asks {
        fn drop(&mut self) {
            assert!(self.0.try_get().is_none());
            self.1.store(true, Ordering::SeqCst);
        }
    }
    bounded(|| {
        let client = client();
        let (far, handle) = far(&client, &[]);
        far.end(Ok(()));
        until(|| handle.is_finished());
        // This thread is the last one to know of another client, whose hook goes with it.
        let asked = Arc::<AtomicBool>::default();
        let asks = Asks(handle.clone(), asked.clone());
        let hook = move |_: &Error| drop(asks.0.clone());
        let other = Client::builder().workers(0).on_unobserved(hook).build();
        drop(other.ready(1));
        thread::spawn(|| drop(other)).join().unwrap();
        assert!(!asked.load(Ordering::SeqCst));
        assert_eq!(handle.result().unwrap(), "value");
        assert!(asked.load(Ordering::SeqCst));
    });
}

#[test]
fn giving_up_lets_go_of_it() {
    let client = client();
    let (one, first) = far(&client, &[]);
    let (two, second) = far(&client, &[&first]);
    drop(first);
    assert_eq!(Arc::strong_count(&one), 2, "the second task needs it");
    drop(second);
    until(|| Arc::strong_count(&one) + Arc::strong_count(&two) == 2);

    let (three, third) = far(&client, &[]);
    assert!(third.cancel());
    assert!(third.result().unwrap_err().is_cancelled());
    until(|| Arc::strong_count(&three) == 1);

    let (four, fourth) = far(&client, &[]);
    four.end(Ok(()));
    until(|| fourth.is_finished());
    assert!(!fourth.cancel());
    let fetched = fourth.get_ref();
    drop(fourth);
    assert_eq!(block_on(fetched).unwrap().as_str(), "value");
    until(|| Arc::strong_count(&four) == 1);
}

#[test]
fn the_end_of_the_client_is_the_end_of_all_this() {
    let client = client();
    let (far, handle) = far(&client, &[]);
    let waiting = handle.clone();
    drop(client);
    assert_eq!(handle.result().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(waiting.result().unwrap_err().kind(), ErrorKind::Closed);
    drop((handle, waiting));
    until(|| Arc::strong_count(&far) == 1);
}
