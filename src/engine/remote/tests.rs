//! Tests of remote tasks, in all states that they and their fetch tasks can be in.

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

/// The remote side of a task, which the test controls.
#[derive(Default)]
struct FakeRemote {
    outcome: Mutex<Option<Result<(), Error>>>,
    /// The outcome or `slow` changed.
    changed: Event,
    /// The number of fetches that began.
    fetched: AtomicUsize,
    /// The number of retries.
    again: AtomicUsize,
    /// The number of fetches that fail before one succeeds.
    broken: AtomicUsize,
    /// Fetches don't end while this is set.
    slow: AtomicBool,
}

impl FakeRemote {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), Error>>> {
        self.outcome.lock().unwrap()
    }

    fn end(&self, outcome: Result<(), Error>) {
        *self.outcome() = Some(outcome);
        self.changed.notify(usize::MAX);
    }

    fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

impl RemoteExecution<String> for Arc<FakeRemote> {
    async fn ended(&self) -> Result<(), Error> {
        loop {
            let changed = self.changed.listen();
            if let Some(outcome) = &*self.outcome() {
                return outcome.clone();
            }
            changed.await;
        }
    }

    fn again(&self) -> impl Fn() + Send + Sync + 'static {
        let weak = Arc::downgrade(self);
        move || {
            let remote = weak.upgrade().unwrap();
            remote.again.fetch_add(1, Ordering::SeqCst);
            *remote.outcome() = None;
        }
    }

    fn can_run_again(&self) -> bool {
        true
    }

    async fn fetch(&self) -> Result<String, Error> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        loop {
            let changed = self.changed.listen();
            if !self.slow.load(Ordering::SeqCst) {
                break;
            }
            changed.await;
        }
        let broken = self.broken.load(Ordering::SeqCst);
        if broken > 0 {
            self.broken.store(broken - 1, Ordering::SeqCst);
            return Err(Error::failed("remote", "the line is cut"));
        }
        Ok("value".to_owned())
    }
}

fn remote_task(client: &Client, inputs: &[&Handle<String>]) -> (Arc<FakeRemote>, Handle<String>) {
    let remote = Arc::new(FakeRemote::default());
    let key = format!("remote-{}", client.core().next_number()).into();
    let name = "remote".into();
    let named = RemoteName { key, name, is_given: false, deadline: None, submitted_at: None };
    let inputs = inputs.iter().map(|handle| handle.typed().interest().clone()).collect();
    let sent = remote.clone();
    (remote, Handle::new(submit(client.core(), named, inputs, || sent).unwrap()))
}

fn client() -> Client {
    Client::builder().workers(1).build()
}

/// Runs the body of a test, and fails if it takes longer than 20 seconds.
fn bounded(body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<()>();
    let runner = thread::spawn(move || {
        let _done = done;
        body();
    });
    match ended.recv_timeout(Duration::from_secs(20)) {
        Err(RecvTimeoutError::Timeout) => panic!("the test took longer than 20 seconds"),
        _ => runner.join().unwrap_or_else(|payload| resume_unwind(payload)),
    }
}

/// Waits until the condition is true, for at most 20 seconds.
fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20));
        thread::yield_now();
    }
}

#[test]
fn a_remote_task_ends_without_being_fetched() {
    let client = client();
    let (remote, handle) = remote_task(&client, &[]);
    assert!(!handle.is_finished());
    remote.end(Ok(()));
    let waited = block_on(wait_all([&handle]));
    assert_eq!(waited.done, std::slice::from_ref(&handle));
    assert_eq!(block_on(as_completed([&handle]).next()), Some(handle.clone()));
    assert_eq!((handle.status(), remote.fetched()), (Status::Finished, 0));
    assert!(handle.try_get().is_none());
    assert_eq!(handle.result().unwrap(), "value");
    // No handle kept the value, so it's fetched again.
    assert!(handle.try_get().is_none());
    assert_eq!(block_on(handle.get_ref()).unwrap().as_str(), "value");
    assert_eq!(remote.fetched(), 2);
}

#[test]
fn concurrent_uses_of_a_value_share_one_fetch() {
    let client = client();
    let (remote, handle) = remote_task(&client, &[]);
    let shared = handle.get_ref();
    let local = client.submit(async |text: String| text + "!", &handle);
    let by_ref = client.submit(async |text: crate::Ref<String>| text.len(), &handle);
    remote.end(Ok(()));
    let all = block_on(gather([&handle, &handle])).unwrap();
    assert_eq!(all, ["value", "value"]);
    assert_eq!((local.result().unwrap().as_str(), by_ref.result().unwrap()), ("value!", 5));
    assert!(remote.fetched() <= 2);
    let shared = block_on(shared).unwrap();
    let before = remote.fetched();
    assert_eq!(handle.try_get().unwrap().unwrap(), *shared);
    assert_eq!(handle.result().unwrap(), *shared);
    assert_eq!(remote.fetched(), before);
}

#[test]
fn a_failure_reaches_all_dependents_and_can_be_retried() {
    let client = client();
    let (one, first) = remote_task(&client, &[]);
    let (two, second) = remote_task(&client, &[&first]);
    let local = client.submit(async |text: String| text, &second);
    one.end(Err(Error::failed(first.key(), "broken")));
    for error in [second.result().unwrap_err(), local.result().unwrap_err()] {
        assert_eq!((error.kind(), error.origin()), (ErrorKind::Failed, &first.key()));
    }
    assert_eq!(block_on(gather_settled([&first, &second])).iter().flatten().count(), 0);
    let mut kept = second.clone();
    assert!(block_on(&mut kept).is_err());
    assert!(second.retry());
    assert_eq!([&one, &two].map(|remote| remote.again.load(Ordering::SeqCst)), [1, 1]);
    assert!(!second.is_finished());
    one.end(Ok(()));
    two.end(Ok(()));
    assert_eq!(block_on(&mut kept).unwrap(), "value");
    assert_eq!(second.result().unwrap(), "value");
}

#[test]
fn a_failed_fetch_is_reported_once_and_repeated_by_the_next_await() {
    let client = client();
    let (remote, handle) = remote_task(&client, &[]);
    remote.broken.store(1, Ordering::SeqCst);
    remote.end(Ok(()));
    let mut handle = handle;
    assert_eq!(
        block_on(&mut handle).unwrap_err().to_string(),
        "task `remote` failed: the line is cut"
    );
    assert_eq!(block_on(&mut handle).unwrap(), "value");
}

#[test]
fn a_dependent_of_a_failed_fetch_can_be_retried() {
    bounded(|| {
        let client = client();
        let (remote, handle) = remote_task(&client, &[]);
        remote.broken.store(1, Ordering::SeqCst);
        let local = client.submit(async |text: String| text + "!", &handle);
        let mut all = as_completed([&handle]).with_results();
        remote.end(Ok(()));
        // This fails with the fetch that the stream shares.
        until(|| local.is_finished());
        assert_eq!(
            local.result().unwrap_err().to_string(),
            "task `remote` failed: the line is cut"
        );
        assert!(local.retry());
        assert_eq!(local.result().unwrap(), "value!");
        let (_, result) = block_on(all.next()).unwrap();
        assert_eq!(result.unwrap(), "value");
        assert_eq!(
            remote.again.load(Ordering::SeqCst),
            0,
            "the remote task has ended and need not run again"
        );
    });
}

#[test]
fn a_stream_gets_the_value_of_a_fetch_that_was_retried_meanwhile() {
    bounded(|| {
        let client = client();
        let (remote, handle) = remote_task(&client, &[]);
        remote.set_slow(true);
        remote.broken.store(1, Ordering::SeqCst);
        remote.end(Ok(()));
        until(|| handle.is_finished());
        let local = client.submit(async |text: String| text + "!", &handle);
        let mut all = as_completed([&handle]).with_results();
        assert!(block_on(poll_once(all.next())).is_none());
        // The fetch fails, and is retried before the stream is polled.
        remote.set_slow(false);
        until(|| local.is_finished());
        remote.set_slow(true);
        assert!(local.retry());
        until(|| remote.fetched() == 2);
        assert!(block_on(poll_once(all.next())).is_none());
        remote.set_slow(false);
        assert_eq!(block_on(all.next()).unwrap().1.unwrap(), "value");
    });
}

#[test]
fn user_code_that_runs_while_a_fetch_task_is_created_may_use_the_handle() {
    struct Asks(Handle<String>, Arc<AtomicBool>);
    impl Drop for Asks {
        fn drop(&mut self) {
            assert!(self.0.try_get().is_none());
            self.1.store(true, Ordering::SeqCst);
        }
    }
    bounded(|| {
        let client = client();
        let (remote, handle) = remote_task(&client, &[]);
        remote.end(Ok(()));
        until(|| handle.is_finished());
        // This thread's pool has the last references to another engine, whose hook is dropped when the pool is switched.
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
fn dropping_or_cancelling_releases_the_remote_task() {
    let client = client();
    let (one, first) = remote_task(&client, &[]);
    let (two, second) = remote_task(&client, &[&first]);
    drop(first);
    assert!(Arc::strong_count(&one) > 1, "the second task has it as an input");
    drop(second);
    until(|| Arc::strong_count(&one) + Arc::strong_count(&two) == 2);

    let (three, third) = remote_task(&client, &[]);
    assert!(third.cancel());
    assert!(third.result().unwrap_err().is_cancelled());
    until(|| Arc::strong_count(&three) == 1);

    let (four, fourth) = remote_task(&client, &[]);
    four.end(Ok(()));
    until(|| fourth.is_finished());
    assert!(!fourth.cancel());
    let fetched = fourth.get_ref();
    drop(fourth);
    assert_eq!(block_on(fetched).unwrap().as_str(), "value");
    until(|| Arc::strong_count(&four) == 1);
}

#[test]
fn dropping_the_client_closes_its_remote_tasks() {
    let client = client();
    let (remote, handle) = remote_task(&client, &[]);
    let waiting = handle.clone();
    drop(client);
    assert_eq!(handle.result().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(waiting.result().unwrap_err().kind(), ErrorKind::Closed);
    drop((handle, waiting));
    until(|| Arc::strong_count(&remote) == 1);
}
