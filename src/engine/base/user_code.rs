//! Calls into user code (wakers, callbacks, destructors) whose panics have no task to report to.
//!
//! Such code may also call back into the engine. So none of it runs under a lock, or while a list is being changed: it's
//! taken out first, and then run by one of these functions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::task::Waker;

use crate::task::error::{forget_if_it_panics, panic_text};

/// Receives the payload of a panic that was caught.
type Report = fn(Box<dyn Any + Send>);

/// A function pointer rather than an import: the report needs the engine that this thread works for, and the
/// engine stands on this file.
static REPORT: OnceLock<Report> = OnceLock::new();

/// Sets where caught panics go. Only the first call has an effect.
pub(crate) fn report_panics_to(report: Report) {
    let _ = REPORT.set(report);
}

/// Runs user code; a panic is caught and reported to the engine that this thread works for, else to the log.
pub(crate) fn run_user_code(code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        let report = REPORT.get().copied().unwrap_or(log_panic);
        report(payload);
    }
}

/// Wakes a waker, which is dropped by that.
pub(crate) fn wake(waker: Waker) {
    try_wake(waker);
}

/// Wakes a waker that is the caller's, in a poll that was given it.
#[cold]
pub(crate) fn wake_by_ref(waker: &Waker) {
    run_user_code(|| waker.wake_by_ref());
}

/// As [`wake`]; false if that panicked.
pub(crate) fn try_wake(waker: Waker) -> bool {
    let mut has_woken = false;
    run_user_code(|| {
        waker.wake();
        has_woken = true;
    });
    has_woken
}

/// Drops a value whose destructor is user code, such as a waker.
pub(crate) fn drop_user_value<T>(value: T) {
    run_user_code(|| drop(value));
}

/// Writes a panic to the log.
pub(crate) fn log_panic(payload: Box<dyn Any + Send>) {
    log_error(format_args!("a waker panicked: {}", panic_text(&*payload)));
    forget_if_it_panics(payload);
}

/// Writes an error to the log. The logger is the application's, so its panic is caught, too.
pub(crate) fn log_error(text: std::fmt::Arguments<'_>) {
    let logged = catch_unwind(AssertUnwindSafe(|| log::error!("ensue: {text}")));
    if let Err(payload) = logged {
        forget_if_it_panics(payload);
    }
}
