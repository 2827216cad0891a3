//! Work that a drop causes, run one job after another instead of recursively.
//!
//! Dropping a value, a future or an input runs user code, which may drop further handles, and so on, for a
//! million tasks in a chain. So a drop that causes more work puts it on the list of the outermost job of this
//! thread, and the stack stays flat.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr::{self, NonNull};

use crate::engine::base::sync::thread_local;

/// A function and its argument. A plain pair of pointers, so that queueing one allocates nothing by itself.
pub(crate) struct Job {
    data: NonNull<()>,
    run: unsafe fn(NonNull<()>),
}

impl Job {
    /// # Safety
    ///
    /// Calling `run` with `data`, once, on this thread, at any later time, is sound.
    pub(crate) unsafe fn new(data: NonNull<()>, run: unsafe fn(NonNull<()>)) -> Self {
        Self { data, run }
    }

    fn run(self) {
        // SAFETY: the promise made to `new`; a job is consumed by running it.
        unsafe { (self.run)(self.data) };
    }
}

thread_local! {
    /// The list of the outermost scope on this thread; null outside any.
    static JOBS: Cell<*mut VecDeque<Job>> = const { Cell::new(ptr::null_mut()) };
}

/// Runs the job and the jobs it causes: now, or after the current one if this thread is within a job or a
/// [`scope`].
pub(crate) fn defer(job: Job) {
    let jobs = JOBS.get();
    if !jobs.is_null() {
        // SAFETY: it's a local of the outermost `scope` on this thread, which touches it only between jobs;
        // this is within a job.
        unsafe { (*jobs).push_back(job) };
        return;
    }
    scope(|| job.run());
}

/// Runs `code`, and then the jobs that were deferred meanwhile: for code that holds a lock.
pub(crate) fn scope<R>(code: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            JOBS.set(ptr::null_mut());
        }
    }
    if is_active() {
        return code();
    }
    let mut jobs = VecDeque::new();
    let list = &raw mut jobs;
    JOBS.set(list);
    let _leave = Leave;
    let result = code();
    // SAFETY: between jobs nothing else uses the list.
    while let Some(job) = unsafe { (*list).pop_front() } {
        job.run();
    }
    result
}

/// Whether this thread is within a job or a scope: blocking it now could wait for a job behind the current one.
pub(crate) fn is_active() -> bool {
    !JOBS.get().is_null()
}
