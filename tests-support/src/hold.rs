//! Gates and held workers, which keep tasks at a known point.

use std::future::{Future, poll_fn};
use std::mem;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use ensue::{Client, Handle};
use futures::executor::block_on;

/// A gate for any number of waiters. Once open, it stays open.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    /// Returns a closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate and wakes its waiters.
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

    /// Returns a future that is ready once the gate is open.
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

    /// Blocks the calling thread until the gate is open.
    pub fn pass_blocking(&self) {
        block_on(self.pass());
    }
}

/// A worker that is kept in a poll until this is let go or dropped, so that later tasks queue up behind it.
#[must_use]
pub struct Held {
    // Dropped first: the task returns when its channel closes.
    go: mpsc::Sender<()>,
    task: Handle<()>,
}

/// Keeps one worker of the client in a poll. Returns when the worker is there.
pub fn hold_worker(client: &Client) -> Held {
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    let wait = Mutex::new(wait);
    let body = async move {
        let _ = busy.send(());
        let _ = wait.lock().unwrap().recv();
    };
    // Ahead of everything that is queued.
    let task = client.task().priority(i32::MAX).spawn(body);
    is_busy.recv().expect("a worker took the task");
    Held { go, task }
}

impl Held {
    /// Releases the worker, and waits until its task is done.
    pub fn let_go(self) {
        drop(self.go);
        self.task.result().expect("the worker was only held");
    }
}
