//! Gates and held workers, which keep tasks at a known point, and waits for them to get there.

use std::future::{Future, poll_fn};
use std::mem;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use ensue::{Client, Handle};
use futures::executor::block_on;

/// A gate that is closed at first, and stays open once it was opened.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    /// Returns a closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate for all that pass it, now and later.
    pub fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.open = true;
            mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns whether the gate is open.
    pub fn is_open(&self) -> bool {
        self.0.lock().unwrap().open
    }

    /// A future that resolves when the gate is open.
    pub fn pass(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        let gate = self.clone();
        poll_fn(move |cx| {
            let mut state = gate.0.lock().unwrap();
            if state.open {
                return Poll::Ready(());
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Blocks until the gate is open.
    pub fn pass_blocking(&self) {
        block_on(self.pass());
    }
}

/// A worker that is kept in a poll until this is let go or dropped: tasks that are submitted meanwhile are queued.
#[derive(Debug)]
#[must_use]
pub struct Held {
    // The task returns when this is dropped.
    go: mpsc::Sender<()>,
    task: Handle<()>,
}

/// Keeps one worker busy. Returns once that worker is in the poll.
pub fn hold_worker(client: &Client) -> Held {
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let wait = Mutex::new(wait);
    let body = async move {
        let _ = busy.send(());
        let _ = wait.lock().unwrap().recv();
    };
    // Before everything that is queued.
    let task = client.task().priority(i32::MAX).spawn(body);
    is_busy.recv().expect("a worker took the task");
    Held { go, task }
}

impl Held {
    /// Releases the worker, and waits until its task has ended.
    pub fn let_go(self) {
        drop(self.go);
        self.task.result().expect("the worker was only held");
    }
}

/// Lets the only worker of a client run what is ready, and what that makes ready: three tasks in turn, each submitted
/// behind all that is queued and waited for.
///
/// After this, the tasks before it are out of their polls: suspended, or ended and let go by the worker.
pub fn turns(client: &Client) {
    assert_eq!(client.workers(), 1, "with more workers, others may still be in a poll");
    for _ in 0..3 {
        client.submit(async || (), ()).result().expect("the client is open");
    }
}

/// The end of a task, to be waited for.
#[derive(Debug)]
#[must_use]
pub struct End(mpsc::Receiver<()>);

impl End {
    /// Of a task that hasn't ended.
    pub fn of<T: 'static>(task: &Handle<T>) -> Self {
        let (send, ended) = mpsc::channel();
        task.on_done(move |_| {
            let _ = send.send(());
        });
        Self(ended)
    }

    /// Waits until the task has ended and all waiters that were registered before [`End::of`] are notified, which is a
    /// moment after [`Handle::is_finished`] says so.
    pub fn wait(self) {
        self.0.recv().expect("the callback is called");
    }
}
