//! What keeps tasks at a known point.

use std::future::{Future, poll_fn};
use std::mem;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use ensue::{Client, Handle};
use futures::executor::block_on;

/// A gate that lets everyone pass once it's open.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    open: bool,
    wakers: Vec<Waker>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.open = true;
            mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().unwrap().open
    }

    /// An await that ends when the gate is open.
    pub(crate) fn pass(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        let gate = self.clone();
        poll_fn(move |poller| {
            let mut state = gate.0.lock().unwrap();
            if state.open {
                return Poll::Ready(());
            }
            state.wakers.push(poller.waker().clone());
            Poll::Pending
        })
    }

    /// Blocks until the gate is open.
    pub(crate) fn pass_blocking(&self) {
        block_on(self.pass());
    }
}

/// A worker that is kept in a poll until this is let go or dropped, so that what is submitted meanwhile
/// queues up.
#[must_use]
pub(crate) struct Held {
    // Goes first: without it, the task returns.
    go: mpsc::Sender<()>,
    task: Handle<()>,
}

/// Keeps one worker busy. Returns when it is.
pub(crate) fn hold_worker(client: &Client) -> Held {
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
    /// Lets the worker go on, and waits until it does.
    pub(crate) fn let_go(self) {
        drop(self.go);
        self.task.result().expect("the worker was only held");
    }
}
