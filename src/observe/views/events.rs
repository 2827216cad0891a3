//! What happens to tasks, as a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::{FusedStream, Stream};

use crate::observe::record::recorder::{Everything, Recorder};
use crate::observe::record::tables::{Happened, Record};
use crate::{Key, Status};

/// So many events are taken out at a time.
const AT_ONCE: usize = 256;

/// A task has come to a new status.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The task.
    pub key: Key,
    /// The name of its function, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// What it has come to. A task that is suspended stays `Running`.
    pub status: Status,
    /// When. For a [seeded](crate::Builder::seed) client that is by its virtual clock.
    pub at: Instant,
    /// The number of the worker that was at it.
    pub worker: Option<usize>,
    /// Which attempt it is, or waits for; 1 for the first.
    pub attempt: u32,
}

/// What happens to a client's tasks, from the time of the call; made by
/// [`Client::events`](crate::Client::events).
///
/// It never holds up the tasks: of one who is slow to take events the oldest are dropped and
/// [counted](Events::missed). For each task they come in order. The stream ends when the client is gone.
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    recorder: Arc<Recorder>,
    _everything: Everything,
    /// Those that were taken out of the record.
    taken: VecDeque<Event>,
    /// How many the record had had when they were.
    cursor: u64,
    dropped: u64,
    missed: u64,
    ended: bool,
}

impl Events {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        let everything = recorder.watch_everything();
        let (cursor, dropped) = {
            let record = recorder.record();
            (record.events_so_far, record.dropped)
        };
        Self {
            recorder,
            _everything: everything,
            taken: VecDeque::new(),
            cursor,
            dropped,
            missed: 0,
            ended: false,
        }
    }

    /// How many events were dropped because they weren't taken in time, as far as the stream has come.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Takes some events out of the record.
    fn take_some(&mut self) {
        let record = &*self.recorder.record();
        self.missed += record.dropped - self.dropped;
        self.dropped = record.dropped;
        let first = record.events_so_far - record.events.len() as u64;
        self.missed += first.saturating_sub(self.cursor);
        self.cursor = self.cursor.max(first);
        let events = record.events.range((self.cursor - first) as usize..).take(AT_ONCE);
        for event in events {
            self.cursor += 1;
            self.taken.extend(self.recorder.event(record, event));
        }
    }
}

impl Recorder {
    fn event(&self, record: &Record, happened: &Happened) -> Option<Event> {
        let Happened { task, status, at, worker, attempt, .. } = *happened;
        let entry = record.tasks.get(&task)?;
        let name = record.name(entry.name).clone();
        Some(Event {
            key: entry.key(&name, task),
            name,
            status,
            at: self.began + Duration::from_nanos(at),
            worker: worker.map(|worker| worker as usize),
            attempt,
        })
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        if this.taken.is_empty() {
            this.take_some();
        }
        if this.taken.is_empty() {
            // Before the last look: whatever comes after that wakes us.
            this.recorder.wake_then(poller.waker());
            let is_over = this.recorder.is_over();
            this.take_some();
            this.ended = this.taken.is_empty() && is_over;
        }
        match this.taken.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if this.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("missed", &self.missed())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
