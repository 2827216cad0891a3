//! The stream of updates to one reader, as server-sent events.
//!
//! A reader has a cursor into the record, and no queue. An update is made when the connection can take it,
//! and contains all changes since the previous update. So a slow reader gets fewer and larger updates, and
//! delays neither the tasks nor the other readers.
//!
//! | state | emits | next state |
//! |---|---|---|
//! | not greeted | the event `hello` | sending, with the whole record |
//! | sending | the parts of an update, as events `update` | waiting |
//! | waiting | nothing until the next tick | sending if the record changed or `IDLE_TICKS` passed, else waiting |

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Timer;
use futures_core::Stream as _;
use hyper::body::Bytes;

use super::chunks::Chunks;
use super::source::Source;

/// The shortest time between two updates.
const TICK: Duration = Duration::from_millis(100);

/// The number of ticks without a change after which an update is sent all the same. It shows that the
/// connection is alive, and how long the running tasks have run.
const IDLE_TICKS: u32 = 10;

/// The most readers at a time. Each may need memory for a whole record at first.
const READERS: usize = 32;

/// The stream of one reader. It has no end.
pub(super) struct Stream {
    source: Source,
    cursor: u64,
    /// The unsent parts of the current update.
    chunks: Option<Chunks>,
    greeted: bool,
    timer: Timer,
    idle_ticks: u32,
    _slot: ReaderSlot,
}

impl Stream {
    /// Returns `None` if `READERS` streams are open already.
    pub(super) fn open(source: &Source, readers: &Arc<AtomicUsize>) -> Option<Self> {
        Some(Self {
            _slot: ReaderSlot::acquire(readers)?,
            source: source.clone(),
            cursor: 0,
            chunks: None,
            greeted: false,
            timer: Timer::interval(TICK),
            idle_ticks: 0,
        })
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.greeted {
            self.greeted = true;
            let hello = self.source.hello();
            self.chunks = Some(self.next_update());
            return Poll::Ready(Some(event("hello", &hello)));
        }
        loop {
            if let Some(chunk) = self.chunks.as_mut().and_then(Chunks::next) {
                return Poll::Ready(Some(event("update", &chunk)));
            }
            self.chunks = None;
            ready!(Pin::new(&mut self.timer).poll_next(cx));
            let before = self.cursor;
            let chunks = self.next_update();
            self.idle_ticks += 1;
            if self.cursor != before || self.idle_ticks >= IDLE_TICKS {
                self.idle_ticks = 0;
                self.chunks = Some(chunks);
            }
        }
    }

    /// Reads the changes since the cursor, and advances it.
    fn next_update(&mut self) -> Chunks {
        let update = self.source.update(self.cursor);
        self.cursor = update.cursor;
        Chunks::new(update)
    }
}

fn event(name: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 32);
    // A line break would end the data, but our JSON contains none.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text.into()
}

/// One of the `READERS` slots. Dropping it releases it.
struct ReaderSlot(Arc<AtomicUsize>);

impl ReaderSlot {
    fn acquire(readers: &Arc<AtomicUsize>) -> Option<Self> {
        let increment = |readers| (readers < READERS).then_some(readers + 1);
        readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment).ok()?;
        Some(Self(readers.clone()))
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
