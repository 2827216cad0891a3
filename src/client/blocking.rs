//! Blocking work, on threads outside the workers.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::engine::core::CoreRef;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::futures::acquire::Permit;
use crate::engine::task::header::Task;
use crate::task::thread_wait;

thread_local! {
    /// Returns whether the blocking work on this thread was cancelled or abandoned.
    static IS_ABANDONED: RefCell<Option<Rc<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// Returns whether the task that calls this was cancelled, has timed out, or is no longer needed.
///
/// Blocking work can't be stopped from outside. If it runs for long it should check this periodically and return
/// early; its value is dropped. In async code, true means that the task will be dropped at its next await. Outside a
/// task it returns false, also in destructors of thread locals.
///
/// ```
/// let client = ensue::Client::new();
/// let endless = client.submit_blocking(|| while !ensue::is_cancelled() {}, ());
/// assert!(endless.cancel());
/// ```
pub fn is_cancelled() -> bool {
    // Destructors of other thread locals may call this after it's gone.
    let blocking = IS_ABANDONED.try_with(|probe| probe.borrow().clone()).unwrap_or_default();
    blocking.map_or_else(context::current_is_aborting, |is_abandoned| is_abandoned())
}

/// Runs `code` on a thread where it may block. `permit` is held until it returns, even if the future is dropped.
///
/// A seeded client has no threads, so the code runs in the first poll.
pub(crate) async fn run<T: Send + 'static>(
    core: CoreRef,
    permit: Option<Permit>,
    code: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = context::current_task();
    if core.seeded.is_some() {
        let _permit = permit;
        let is_abandoned = context::current_abort_probe();
        return on_this_thread(&core, task, is_abandoned, code).unwrap_or_else(|payload| {
            resume_unwind(payload);
        });
    }
    let abandon = AbandonOnDrop(Arc::default());
    let flag = abandon.0.clone();
    let number =
        task.as_ref().map_or(0, |task| thread_wait::begin(&task.as_ref().make_extras().blocking));
    let done = blocking::unblock(move || {
        let _permit = permit;
        if flag.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(task) = &task {
            thread_wait::end(&task.as_ref().make_extras().blocking, number);
        }
        Some(on_this_thread(&core, task, move || flag.load(Ordering::Relaxed), code))
    });
    let mut done = pin!(ended(done));
    let done = poll_fn(|cx| {
        // The code may block on handles, which the engine must see to find cycles.
        context::note_blocking();
        done.as_mut().poll(cx)
    });
    match done.await {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

/// Runs the code in a context in which it may block, and catches its panic.
fn on_this_thread<T>(
    core: &CoreRef,
    task: Option<Task>,
    is_abandoned: impl Fn() -> bool + 'static,
    code: impl FnOnce() -> T,
) -> thread::Result<T> {
    // Without the thread local, on a thread that is exiting, only a seeded client runs blocking work, and
    // `is_cancelled` then asks about the task itself.
    let set = |probe| IS_ABANDONED.try_with(|current| current.replace(probe)).unwrap_or_default();
    let before = set(Some(Rc::new(is_abandoned)));
    let result = catch_unwind(AssertUnwindSafe(|| {
        ThreadContext::of_blocking(core, task.as_ref()).enter(code)
    }));
    set(before);
    result
}

/// Sets the flag that the code checks when the future is dropped.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Awaits the code's outcome. It is `None` only if the future was dropped before the code began, so no one polls this
/// then.
async fn ended<T>(done: impl Future<Output = Option<T>>) -> T {
    match done.await {
        Some(result) => result,
        None => std::future::pending().await,
    }
}
