//! Work that blocks: on a thread of its own, outside the workers.

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
use crate::engine::task::header::{Task, TaskRef};

thread_local! {
    /// Tells whether the blocking closure on this thread was given up.
    static GIVEN_UP: RefCell<Option<Rc<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// Whether the work that this is called from was cancelled, timed out, or is no longer needed.
///
/// A blocking closure can't be stopped from outside, so a long one should ask now and then and return
/// early; what it returns is dropped. In async code it says whether the task will be dropped at its next
/// await. Outside a task it's false.
///
/// ```
/// let client = ensue::Client::new();
/// let endless = client.submit_blocking(|| while !ensue::is_cancelled() {}, ());
/// assert!(endless.cancel());
/// ```
pub fn is_cancelled() -> bool {
    let blocking = GIVEN_UP.with_borrow(Clone::clone);
    blocking.map_or_else(context::current_is_aborting, |is_given_up| is_given_up())
}

/// Runs `code` where it may block, with `permit` until it returns, even if the future is dropped.
///
/// A seeded client has no threads: there it runs at once.
pub(crate) async fn run<T: Send + 'static>(
    core: CoreRef,
    permit: Option<Permit>,
    code: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = context::current_task();
    if core.seeded.is_some() {
        let _permit = permit;
        let is_given_up = context::current_abort_probe();
        return on_this_thread(&core, task, is_given_up, code).unwrap_or_else(|payload| {
            resume_unwind(payload);
        });
    }
    let given_up = GiveUp(Arc::default());
    let flag = given_up.0.clone();
    let number = task.as_ref().map_or(0, |task| wait_for_thread(task.as_ref()));
    let done = blocking::unblock(move || {
        let _permit = permit;
        if flag.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(task) = &task {
            has_thread(task.as_ref(), number);
        }
        Some(on_this_thread(&core, task, move || flag.load(Ordering::Relaxed), code))
    });
    let mut done = pin!(ended(done));
    let done = poll_fn(|poller| {
        // The closure may block on handles.
        context::note_blocking();
        done.as_mut().poll(poller)
    });
    match done.await {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

/// Notes that the current task's blocking work waits for a thread. Gives the number of that work.
fn wait_for_thread(task: TaskRef<'_>) -> u32 {
    let blocking = &task.make_extras().blocking;
    let number = (blocking.load(Ordering::Relaxed) | 1).wrapping_add(1);
    blocking.store(number, Ordering::Relaxed);
    number
}

fn has_thread(task: TaskRef<'_>, number: u32) {
    // The work of an attempt that was given up may get its thread when that of the next one waits already.
    let blocking = &task.make_extras().blocking;
    let _ = blocking.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed);
}

/// Whether the blocking work that a task waits for has not begun.
pub(crate) fn waits_for_thread(task: TaskRef<'_>) -> bool {
    task.extras().is_some_and(|extras| extras.blocking.load(Ordering::Relaxed) % 2 == 0)
}

/// Runs the closure in a context in which it may block.
fn on_this_thread<T>(
    core: &CoreRef,
    task: Option<Task>,
    is_given_up: impl Fn() -> bool + 'static,
    code: impl FnOnce() -> T,
) -> thread::Result<T> {
    let before = GIVEN_UP.replace(Some(Rc::new(is_given_up)));
    let result = catch_unwind(AssertUnwindSafe(|| {
        ThreadContext::of_blocking(core, task.as_ref()).enter(code)
    }));
    GIVEN_UP.set(before);
    result
}

/// Tells the closure when the future is dropped.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// It's given up only when nobody awaits it any more.
async fn ended<T>(done: impl Future<Output = Option<T>>) -> T {
    match done.await {
        Some(result) => result,
        None => std::future::pending().await,
    }
}
