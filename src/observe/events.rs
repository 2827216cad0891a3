//! What happens to tasks, as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use async_channel::{Receiver, Sender};
use futures_core::{FusedStream, Stream};

use crate::engine::hook::Listener;
use crate::{Key, Status};

/// As many events are kept for one who is slow to take them. A guess: at some 60 bytes each, well under a
/// megabyte.
const KEPT: usize = 10_000;

/// A task has come to a new status.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The task.
    pub key: Key,
    /// What it has come to. A task that is suspended stays `Running`.
    pub status: Status,
    /// When.
    pub at: Instant,
}

/// What happens to a client's tasks, from the time of the call; made by
/// [`Client::events`](crate::Client::events).
///
/// It never holds up the tasks: of one who is slow to take events the oldest are dropped and
/// [counted](Events::missed). For each task they come in order. The stream ends when the client is gone.
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    receiver: Pin<Box<Receiver<Event>>>,
    missed: Arc<AtomicU64>,
}

impl Events {
    pub(crate) fn new() -> (Self, Listener) {
        let (sender, receiver) = async_channel::bounded(KEPT);
        let missed = Arc::<AtomicU64>::default();
        let events = Self { receiver: Box::pin(receiver), missed: missed.clone() };
        (events, listener(sender, missed))
    }

    /// How many events were dropped because they weren't taken in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

fn listener(sender: Sender<Event>, missed: Arc<AtomicU64>) -> Listener {
    Box::new(move |task, status| {
        let event = Event { key: task.key().clone(), status, at: Instant::now() };
        match sender.force_send(event) {
            Ok(None) => true,
            Ok(Some(_)) => {
                missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    })
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Event>> {
        self.receiver.as_mut().poll_next(poller)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.receiver.len())
            .field("missed", &self.missed())
            .finish()
    }
}
