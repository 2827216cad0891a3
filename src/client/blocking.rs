//! Blocking work, on threads outside the workers.
//!
//! | `Stage` | meaning | next |
//! |---|---|---|
//! | `New` | not polled yet | `Begun`, or `Ended` on a seeded client, by the first poll |
//! | `Begun` | queued in the client's pool, or on one of its threads | `Ended` by its outcome; dropping the future withdraws it from the queue, or tells it that it's abandoned |
//! | `Ended` | the outcome was returned | final |

use std::future::Future;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use crate::engine::base::lock::Lock;
use crate::engine::base::user_code::wake;
use crate::engine::core::CoreRef;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::data::turns::Place;
use crate::engine::task::attempt::Held;
use crate::engine::task::header::Task;
use crate::task::panic_place::Caught;
use crate::task::thread_wait;

/// Returns whether the task that calls this was cancelled, has timed out, or is no longer needed.
///
/// Blocking work can't be stopped from outside. If it runs for long it should check this periodically and return
/// early; its value is dropped. A [`join`](crate::join) does so by itself. In async code, true means that the task will be dropped at its next await. Outside a
/// task it returns false, also in destructors of thread locals.
///
/// ```
/// let client = ensue::Client::new();
/// let endless = client.submit_blocking(|| while !ensue::is_cancelled() {}, ());
/// assert!(endless.cancel());
/// ```
pub fn is_cancelled() -> bool {
    context::current_is_cancelled()
}

/// What blocking work returns. The error is that of a system that refused a thread.
pub(crate) type Returned<T> = io::Result<T>;

/// The future of code that runs on a thread where it may block. A panic of the code is one of the poll.
///
/// A seeded client has no threads, so the code runs in the first poll.
pub(crate) struct Work<T>(Stage<T>);

enum Stage<T> {
    New(Code<T>, Option<Held>),
    Begun(Begun<T>),
    Ended,
}

type Code<T> = Box<dyn FnOnce() -> T + Send>;

impl<T: Send + 'static> Work<T> {
    /// `held` is kept until `code` has returned, even if the future is dropped.
    pub(crate) fn new(held: Option<Held>, code: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Stage::New(Box::new(code), held))
    }
}

impl<T: Send + 'static> Future for Work<T> {
    type Output = Returned<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Returned<T>> {
        if matches!(self.0, Stage::New(..)) {
            let Stage::New(code, held) = mem::replace(&mut self.0, Stage::Ended) else {
                unreachable!("it was new a moment ago");
            };
            let Some(core) = context::current_core() else {
                unreachable!("blocking work is awaited by a task");
            };
            let task = context::current_task();
            if core.seeded.is_some() {
                let _held = held;
                return match on_this_thread(&core, task.as_ref(), 0, None, code) {
                    Ok(value) => Poll::Ready(Ok(value)),
                    Err(panic) => panic.resume(),
                };
            }
            self.0 = Stage::Begun(Begun::new(core, task, held, code)?);
        }
        let Stage::Begun(begun) = &mut self.0 else {
            unreachable!("blocking work is not polled again after its outcome");
        };
        match begun.outcome.poll(cx) {
            Poll::Ready(outcome) => {
                self.0 = Stage::Ended;
                match outcome {
                    Ok(value) => Poll::Ready(Ok(value)),
                    Err(panic) => panic.resume(),
                }
            }
            Poll::Pending => {
                begun.update_priority();
                context::note_pending();
                Poll::Pending
            }
        }
    }
}

/// Work that was given to the pool.
struct Begun<T> {
    core: CoreRef,
    /// The task that waits for it.
    task: Option<Task>,
    place: Place,
    outcome: Arc<Outcome<T>>,
}

impl<T: Send + 'static> Begun<T> {
    fn new(
        core: CoreRef,
        task: Option<Task>,
        held: Option<Held>,
        code: Code<T>,
    ) -> io::Result<Self> {
        let outcome = Arc::new(Outcome {
            is_abandoned: AtomicBool::new(false),
            state: Lock::new(OutcomeState::Awaited(None)),
        });
        let priority = task.as_ref().map_or(0, |task| task.priority());
        let depth = task.as_ref().map_or(0, |task| task.count.depth());
        let wait = task.as_ref().map(|task| thread_wait::begin(&task.make_extras().blocking));
        let job = {
            let (core, task, outcome) =
                (core.clone(), task.as_ref().map(|task| task.as_ref().to_task()), outcome.clone());
            move || {
                if let (Some(task), Some(number)) = (&task, wait) {
                    thread_wait::end(&task.make_extras().blocking, number);
                }
                let is_abandoned = Some(&outcome.is_abandoned);
                let work = wait.unwrap_or(0);
                let returned = on_this_thread(&core, task.as_ref(), work, is_abandoned, code);
                drop((held, task));
                outcome.set(returned);
                // With the value, if the work was abandoned: its destructor may panic.
                core.run_user_code(|| drop(outcome));
            }
        };
        let place = core.threads.blocking.submit(Box::new(job), priority, depth)?;
        if let Some(task) = &task {
            task.make_extras().blocked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Self { core, task, place, outcome })
    }

    /// Moves it in the queue if its task's priority has changed: that wakes the task.
    fn update_priority(&mut self) {
        let priority = context::current_priority();
        if priority != self.place.priority() {
            self.place = self.core.threads.blocking.set_priority(self.place, priority);
        }
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        self.outcome.is_abandoned.store(true, Ordering::Relaxed);
        // Drops the code and what the attempt holds at once if no thread has taken them.
        drop(self.core.threads.blocking.withdraw(self.place));
        if let Some(task) = &self.task {
            task.make_extras().blocked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The outcome of work, for the future that awaits it.
struct Outcome<T> {
    is_abandoned: AtomicBool,
    state: Lock<OutcomeState<T>>,
}

enum OutcomeState<T> {
    Awaited(Option<Waker>),
    Returned(Result<T, Caught>),
    Taken,
}

impl<T> Outcome<T> {
    fn set(&self, returned: Result<T, Caught>) {
        let before = mem::replace(&mut *self.state.lock(), OutcomeState::Returned(returned));
        if let OutcomeState::Awaited(Some(waker)) = before {
            wake(waker);
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, Caught>> {
        // Cloning and dropping a waker may be user code: it's done without the lock.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        let before = match &mut *state {
            OutcomeState::Awaited(before) => before.replace(waker),
            other => {
                let taken = mem::replace(other, OutcomeState::Taken);
                drop(state);
                drop(waker);
                return match taken {
                    OutcomeState::Returned(returned) => Poll::Ready(returned),
                    _ => unreachable!("an outcome is taken once"),
                };
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }
}

/// Runs the code in a context in which it may block, and catches its panic.
fn on_this_thread<T>(
    core: &CoreRef,
    task: Option<&Task>,
    work: u32,
    is_abandoned: Option<&AtomicBool>,
    code: Code<T>,
) -> Result<T, Caught> {
    let context = ThreadContext::of_blocking(core, task, work, is_abandoned);
    // In the context, outside of which no note is taken of a panic.
    catch_unwind(AssertUnwindSafe(|| context.enter(code))).map_err(Caught::new)
}
