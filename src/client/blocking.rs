//! Work that blocks: on a thread of its own, outside the workers.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::engine::context::{self, Context};
use crate::engine::core::CoreRef;
use crate::engine::header::Task;
use crate::engine::limits::Permit;
use crate::task::thread_wait;

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
    blocking.map_or_else(context::current_is_doomed, |is_given_up| is_given_up())
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
        let is_given_up = context::current_doom();
        return on_this_thread(&core, task, is_given_up, code).unwrap_or_else(|payload| {
            resume_unwind(payload);
        });
    }
    let given_up = GiveUp(Arc::default());
    let flag = given_up.0.clone();
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

/// Runs the closure in a context in which it may block.
fn on_this_thread<T>(
    core: &CoreRef,
    task: Option<Task>,
    is_given_up: impl Fn() -> bool + 'static,
    code: impl FnOnce() -> T,
) -> thread::Result<T> {
    let before = GIVEN_UP.replace(Some(Rc::new(is_given_up)));
    let result =
        catch_unwind(AssertUnwindSafe(|| Context::of_blocking(core, task.as_ref()).enter(code)));
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
