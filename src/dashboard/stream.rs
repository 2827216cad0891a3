//! The stream of updates to one reader, as server-sent events.
//!
//! The reader has a cursor into the record, and nothing is queued for it: an update is made when there's
//! room to send it, and holds all that has changed since the one before. So a slow reader gets fewer and
//! larger updates, and holds up nobody.

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

/// Updates come no faster than this.
const TICK: Duration = Duration::from_millis(100);

/// When nothing changes, every so many ticks there's an update all the same: it shows that the connection is
/// alive, and for how long what runs has run.
const STILL: u32 = 10;

/// So many readers are served at a time. Each may need memory for a whole record at first.
const READERS: usize = 32;

/// One reader's stream. It doesn't end by itself.
pub(super) struct Stream {
    source: Source,
    cursor: u64,
    /// What is left to send of the update in hand.
    chunks: Option<Chunks>,
    greeted: bool,
    timer: Timer,
    still: u32,
    _place: Place,
}

impl Stream {
    /// `None` if there are too many readers already.
    pub(super) fn open(source: &Source, readers: &Arc<AtomicUsize>) -> Option<Self> {
        Some(Self {
            _place: Place::take(readers)?,
            source: source.clone(),
            cursor: 0,
            chunks: None,
            greeted: false,
            timer: Timer::interval(TICK),
            still: 0,
        })
    }

    pub(super) fn poll_next(&mut self, poller: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !self.greeted {
            self.greeted = true;
            let hello = self.source.hello();
            self.chunks = Some(self.look());
            return Poll::Ready(Some(event("hello", &hello)));
        }
        loop {
            if let Some(chunk) = self.chunks.as_mut().and_then(Chunks::next) {
                return Poll::Ready(Some(event("update", &chunk)));
            }
            self.chunks = None;
            ready!(Pin::new(&mut self.timer).poll_next(poller));
            let before = self.cursor;
            let chunks = self.look();
            self.still += 1;
            if self.cursor != before || self.still >= STILL {
                self.still = 0;
                self.chunks = Some(chunks);
            }
        }
    }

    fn look(&mut self) -> Chunks {
        let update = self.source.update(self.cursor);
        self.cursor = update.cursor;
        Chunks::new(update)
    }
}

fn event(name: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 32);
    // JSON has no line breaks, which would end the data.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    text.into()
}

/// One of the places for readers, free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(readers: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |readers| (readers < READERS).then_some(readers + 1);
        readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(readers.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
