//! Calls into user code (wakers, callbacks, destructors) whose panics have no task to report to.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

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

/// Writes a panic to the log.
pub(crate) fn log_panic(payload: Box<dyn Any + Send>) {
    log::error!("ensue: a waker panicked: {}", panic_text(&*payload));
    forget_if_it_panics(payload);
}
