//! A stream of the status changes of a client's tasks.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::{FusedStream, Stream};

use crate::engine::core::budget;
use crate::engine::data::waker_list::Waiter;
use crate::observe::record::recorder::{Recorder, WatchAll};
use crate::observe::record::tables::{Record, StatusEvent};
use crate::observe::record::task_record::Transition;
use crate::{Key, Status};

/// The maximum number of events that are taken from the record at a time: they are converted under its lock.
const BATCH: usize = 256;

/// A status change of a task; the item of [`Events`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The task.
    pub key: Key,
    /// The name of its function, or that given with [`name`](crate::Options::name).
    pub name: Arc<str>,
    /// The new status. A task that is suspended at an await stays `Running`, so this makes no event.
    pub status: Status,
    /// The time of the change; for a [seeded](crate::Builder::seed) client by its virtual clock.
    pub at: Instant,
    /// The number of the worker that was polling the task.
    pub worker: Option<usize>,
    /// The attempt that the task is in or waits for; 1 for the first.
    pub attempt: u32,
}

/// A stream of the status changes of a client's tasks; made by [`Client::events`](crate::Client::events).
///
/// It begins with the call. The events of each task come in order. The stream never delays the tasks: when the reader
/// is more than 10,000 events behind, the oldest are dropped and [counted](Events::missed). It doesn't keep the client
/// alive, and ends when the client is closed or dropped and all its tasks have ended. Events of tasks that are submitted
/// after that are not seen.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::Client;
/// use futures_lite::StreamExt;
///
/// let client = Client::new();
/// let mut events = client.events();
/// client.submit(async || (), ()).await?;
/// drop(client);
/// let mut last = None;
/// while let Some(event) = events.next().await {
///     last = Some(event.status);
/// }
/// assert_eq!((last, events.missed()), (Some(ensue::Status::Finished), 0));
/// # Ok::<_, ensue::Error>(()) }).unwrap();
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    recorder: Arc<Recorder>,
    waiter: Waiter,
    _watch_all: WatchAll,
    /// Events that were taken from the record.
    taken: VecDeque<Event>,
    /// The number of the next event to be taken, counted from the first of the record.
    cursor: u64,
    /// The record's count of dropped events when it was read last.
    dropped: u64,
    missed: u64,
    ended: bool,
    /// It has given way, and has its event the next time; see [`budget`].
    gave_way: bool,
}

impl Events {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        let watch_all = recorder.watch_all();
        let (cursor, dropped) = {
            let record = recorder.record();
            (record.events_total, record.dropped)
        };
        let waiter = recorder.readers.enter();
        Self {
            recorder,
            waiter,
            _watch_all: watch_all,
            taken: VecDeque::new(),
            cursor,
            dropped,
            missed: 0,
            ended: false,
            gave_way: false,
        }
    }

    /// Returns how many events were dropped because the reader was too slow, up to the last one that was read.
    ///
    /// Under extreme load events are dropped before it's known whether they change a status; these are counted, too.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Takes a batch of events from the record. Returns whether all recorded tasks have ended.
    fn take_some(&mut self) -> bool {
        let record = &*self.recorder.record();
        self.missed += record.dropped - self.dropped;
        self.dropped = record.dropped;
        let first = record.events_total - record.events.len() as u64;
        self.missed += first.saturating_sub(self.cursor);
        self.cursor = self.cursor.max(first);
        for event in record.events.range((self.cursor - first) as usize..) {
            // Counted by what is taken: events of tasks that were forgotten are left out.
            if self.taken.len() == BATCH {
                break;
            }
            self.cursor += 1;
            self.taken.extend(public_event(&self.recorder, record, event));
        }
        record.all_have_ended()
    }
}

/// Returns the event as it's shown, or `None` if its task was forgotten.
fn public_event(recorder: &Recorder, record: &Record, event: &StatusEvent) -> Option<Event> {
    let Transition { status, at, worker, attempt } = event.change;
    let task = record.tasks.get(&event.task)?;
    let name = record.name(task.name).clone();
    Some(Event {
        key: task.key(&name, event.task),
        name,
        status,
        at: recorder.began + Duration::from_nanos(at),
        worker: worker.map(|worker| worker as usize),
        attempt,
    })
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        if !budget::take_or_give_way(&mut this.gave_way, cx.waker(), this.recorder.is_seeded()) {
            return Poll::Pending;
        }
        if this.taken.is_empty() {
            this.take_some();
        }
        if this.taken.is_empty() {
            // Registered before the record is read once more, so that no later event is missed. The same holds for the
            // end: events that were written before it are still read.
            this.waiter.register(cx.waker());
            let (is_closed, has_ended) = (this.recorder.is_closed(), this.recorder.has_ended());
            let all_have_ended = this.take_some();
            this.ended = this.taken.is_empty() && (has_ended || is_closed && all_have_ended);
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
