//! Where tasks panic.
//!
//! The place of a panic is known to the panic hook only, of which a process has one. So the first client puts one before
//! that which the process had, and it takes note of the panics of threads that work for a client. Whoever catches such a
//! panic looks for the note about it. A note may be older than a panic, or be missing: a payload can be resumed without a
//! call of the hook. So it has the type and the text of its payload, which have to be the same.

use std::any::{Any, TypeId};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Where a task panicked.
pub(crate) struct PanicPlace {
    /// File, line and column.
    pub(crate) at: String,
    /// Captured if the environment says so.
    pub(crate) backtrace: Option<Backtrace>,
}

/// What the hook has noted about a panic.
struct Note {
    payload: TypeId,
    text: Option<String>,
    place: Box<PanicPlace>,
}

thread_local! {
    /// The last panic on this thread, until its place is taken.
    static LAST: RefCell<Option<Note>> = const { RefCell::new(None) };
}

/// Puts the hook in its place, unless that was done before. `is_at_work` tells whether a thread works for a client.
pub(crate) fn watch(is_at_work: fn() -> bool) {
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    // While this thread panics, the hook can't be changed: then a later client does it.
    if thread::panicking() || IS_WATCHED.swap(true, Ordering::Relaxed) {
        return;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_at_work() {
            note(info);
        }
        before(info);
    }));
}

fn note(info: &PanicHookInfo<'_>) {
    let Some(location) = info.location() else { return };
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    let place = Box::new(PanicPlace { at: location.to_string(), backtrace });
    let payload = info.payload();
    let text = text_of(payload).map(str::to_owned);
    let new = Note { payload: payload.type_id(), text, place };
    // The thread may be ending.
    let before =
        LAST.try_with(|last| last.try_borrow_mut().ok().and_then(|mut it| it.replace(new)));
    drop(before);
}

/// Returns the text of a payload.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Takes the place of a panic that this thread has caught, if it's known.
pub(crate) fn take(payload: &(dyn Any + Send)) -> Option<Box<PanicPlace>> {
    let note = LAST.try_with(|last| last.try_borrow_mut().ok()?.take()).ok().flatten()?;
    let is_its_own = note.payload == payload.type_id() && note.text.as_deref() == text_of(payload);
    is_its_own.then_some(note.place)
}

/// A panic that was caught on one thread to be resumed on another one.
pub(crate) struct Caught(Box<CaughtPanic>);

struct CaughtPanic {
    payload: Box<dyn Any + Send>,
    place: Option<Box<PanicPlace>>,
}

impl Caught {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let place = take(&*payload);
        Self(Box::new(CaughtPanic { payload, place }))
    }

    pub(crate) fn into_payload(self) -> Box<dyn Any + Send> {
        self.0.payload
    }

    /// Goes on with the panic, as if it had begun on this thread.
    pub(crate) fn resume(self) -> ! {
        let CaughtPanic { payload, place } = *self.0;
        if let Some(place) = place {
            let text = text_of(&*payload).map(str::to_owned);
            let note = Note { payload: (*payload).type_id(), text, place };
            let before = LAST.try_with(|last| last.replace(Some(note)));
            drop(before);
        }
        panic::resume_unwind(payload)
    }
}
