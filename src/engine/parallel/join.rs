//! Joins, and the threads that run a branch of them.

use std::future::poll_fn;
use std::mem;
use std::process;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Poll;

use crate::engine::base::block_on::block_on_among;
use crate::engine::base::user_code::drop_user_value;
use crate::engine::core::context::{self, ThreadContext};
use crate::engine::fork::heartbeat;
use crate::engine::fork::job::{Branch, Fork, Group, Job};
use crate::engine::fork::scope::{self, Scope};
use crate::task::error::forget_if_it_panics;

/// The most jobs that a thread runs within each other while it waits. Each may take as much stack as the whole computation.
const MOST_NESTED: u32 = 4;

/// Runs two functions, perhaps in parallel, and returns both results. They may borrow from the caller.
///
/// This is for computations in a task, which it spreads over the workers of the task's client. `a` runs on the calling
/// thread. So does `b`, after it, unless a worker that has nothing else to do has taken it by then.
///
/// ```
/// fn sort<T: Ord + Send>(items: &mut [T]) {
///     if items.len() > 1 {
///         let (low, high) = partition(items);
///         ensue::join(|| sort(low), || sort(high));
///     }
/// }
/// # fn partition<T: Ord>(items: &mut [T]) -> (&mut [T], &mut [T]) {
/// #     let last = items.len() - 1;
/// #     let mut at = 0;
/// #     for i in 0..last {
/// #         if items[i] <= items[last] {
/// #             items.swap(i, at);
/// #             at += 1;
/// #         }
/// #     }
/// #     items.swap(at, last);
/// #     let (low, high) = items.split_at_mut(at);
/// #     (low, &mut high[1..])
/// # }
///
/// let client = ensue::Client::new();
/// let sorted = client.submit(async |mut items: Vec<u32>| { sort(&mut items); items }, vec![3, 1, 2]);
/// assert_eq!(sorted.result()?, [1, 2, 3]);
/// # Ok::<_, ensue::Error>(())
/// ```
///
/// A join costs some nanoseconds, so a recursion can have one at each step, however little that does. At most each 100 µs, and
/// somewhat more often after a rest, a thread offers the oldest `b` of its joins to the workers. They take it when they have
/// no task to run, and once in 61 tasks in any case. A join waits for no free worker: what none has taken, its own thread
/// runs.
///
/// While another thread runs `b`, the calling thread blocks, or runs further branches that this task has offered. It does so
/// within each other up to 4 times, so a deep recursion may need five times its stack; see
/// [`stack_size`](crate::Builder::stack_size).
///
/// [`map_reduce`](crate::map_reduce) is made of this, for loops. In blocking work, workers help in the same way. Outside of
/// tasks, on a [seeded](crate::Builder::seed) client, and with a single worker, it runs `a` and then `b` on the calling
/// thread.
///
/// The functions run within the poll of the task: they keep their workers from other tasks, as any long computation does.
/// They can't await. [`result`](crate::Handle::result) returns the error [`Blocking`](crate::ErrorKind::Blocking) in them, and a
/// `block_on` of another crate blocks the worker. On another thread, `b` belongs to the same client and task for
/// [`is_cancelled`](crate::is_cancelled), [`Client::current`](crate::Client::current) and the submission of tasks; thread
/// locals, and spans of `tracing`, are those of that thread.
///
/// # Panics
///
/// If `a` panics, this panics with the same payload once `b` has ended, if another thread has begun it. Otherwise `b` is
/// dropped. If `b` panics, its payload is resumed once `a` has ended.
///
/// # Cancellation
///
/// If the task was cancelled or is no longer needed, or the last client was dropped, joins don't return: some, at most 128
/// later, unwinds the task, after `b` has ended if another thread has begun it. The panic hook isn't called, and the task is
/// cancelled, as at an await. A `catch_unwind` in the task stops that only up to a later join, or to the next await. In
/// blocking work, too, this ends the function as soon as [`is_cancelled`](crate::is_cancelled) would return true.
#[inline]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    // SAFETY: the join ends within the scope.
    match unsafe { scope::current() } {
        Some(scope) => fork(scope, a, b),
        None => first(a, b),
    }
}

/// The first join of a poll, or one of a thread that works for no task.
#[cold]
#[inline(never)]
fn first<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    context::unwind_if_cancelled();
    if is_parallel() { Scope::enter(None, 0, |scope| fork(scope, a, b)) } else { (a(), b()) }
}

/// Whether this thread runs code of a task whose branches other threads may take.
fn is_parallel() -> bool {
    context::with_current(|context| {
        context.is_some_and(|context| context.origin().is_some() && context.core().seeded.is_none())
    })
}

#[inline(always)]
fn fork<A, B, RA, RB>(scope: &Scope, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let branch = Branch::new(b);
    // SAFETY: the branch is a local variable. It's popped before this function returns, or, by `Forked`, unwinds.
    let older = unsafe { scope.push(branch.fork()) };
    let forked = Forked { scope, branch: &branch, older };
    if scope.is_due() {
        beat(scope);
    }
    let ra = a();
    mem::forget(forked);
    if scope.is_shared(branch.fork())
        && end_sharing(scope, branch.fork(), older, true) == Shared::Done
    {
        // SAFETY: it's done, and this returns.
        return match unsafe { branch.take_result() } {
            Ok(rb) => (ra, rb),
            Err(panic) => panic.resume(),
        };
    }
    scope.pop(older);
    // SAFETY: it's private, and in no list from which it could be shared.
    let b = unsafe { branch.take_function() };
    (ra, b())
}

/// Ends the fork of a join whose first function unwinds. The second one is waited for if another thread has begun it, and
/// else dropped.
struct Forked<'a, B: FnOnce() -> RB + Send, RB: Send> {
    scope: &'a Scope,
    branch: &'a Branch<B, RB>,
    older: NonNull<Fork>,
}

impl<B: FnOnce() -> RB + Send, RB: Send> Drop for Forked<'_, B, RB> {
    // A few values in registers, instead of one in memory, to which a reference would be given.
    #[inline(always)]
    fn drop(&mut self) {
        unwind(self.scope, self.branch, self.older);
    }
}

#[cold]
#[inline(never)]
fn unwind<B, RB>(scope: &Scope, branch: &Branch<B, RB>, older: NonNull<Fork>)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    let fork = branch.fork();
    // Other branches aren't run meanwhile: their code may not expect a thread that is panicking.
    if scope.is_shared(fork) && end_sharing(scope, fork, older, false) == Shared::Done {
        // SAFETY: it's done, and this is called once, in place of the rest of the join.
        match unsafe { branch.take_result() } {
            Ok(rb) => drop_user_value(rb),
            Err(panic) => forget_if_it_panics(panic.into_payload()),
        }
        return;
    }
    scope.pop(older);
    // SAFETY: it's private, and in no list from which it could be shared.
    drop_user_value(unsafe { branch.take_function() });
}

/// The end of a branch that was shared.
#[derive(PartialEq, Eq)]
enum Shared {
    /// No thread has taken it. It's private again.
    Back,
    /// Another thread has run it. It's no longer in the list of forks.
    Done,
}

/// Takes the youngest fork, which was shared, back, or waits until it's done.
#[cold]
#[inline(never)]
fn end_sharing(scope: &Scope, fork: NonNull<Fork>, older: NonNull<Fork>, may_help: bool) -> Shared {
    /// A panic would let the branch go while another thread uses it. Nothing below panics: user code is caught.
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            process::abort();
        }
    }
    let abort = Abort;
    // SAFETY: it was shared, and this is called once for that, since the scope counts it as private from then on. It's in
    // place.
    let job = unsafe { fork.as_ref().take_job() };
    let end = context::with_current(|context| {
        let Some(context) = context else { unreachable!("forks are made in a context") };
        if context.core().jobs.take_back(&job) {
            return Shared::Back;
        }
        wait(context, scope.depth, &job, may_help);
        scope.pop(older);
        Shared::Done
    });
    scope.end_sharing(older);
    mem::forget(abort);
    end
}

/// Waits until a job of this group is done, and runs others of the group meanwhile. Those of other tasks could take longer.
fn wait(context: &ThreadContext<'_>, depth: u32, job: &Job, may_help: bool) {
    let (core, group) = (context.core(), &job.group);
    let waiter = group.changed.enter();
    let done = poll_fn(|cx| {
        loop {
            // Before the checks: see `WakerList`.
            waiter.register(cx.waker());
            if job.is_done() {
                return Poll::Ready(());
            }
            let may_help = may_help && depth < MOST_NESTED;
            match may_help.then(|| core.jobs.take_of(group)).flatten() {
                Some(other) => run_job(context, depth + 1, other),
                None => return Poll::Pending,
            }
        }
    });
    block_on_among(&core.threads.lookers, done);
}

/// Runs a branch that was taken from its thread, in a context of this one, below `depth` others.
pub(crate) fn run_job(context: &ThreadContext<'_>, depth: u32, job: Arc<Job>) {
    {
        // SAFETY: the branch isn't done before this block ends.
        let context = unsafe { ThreadContext::of_branch(context, job.group.origin) };
        let group = Some(job.group.clone());
        // SAFETY: the caller has taken the job, and it's finished below.
        let run = |_: &Scope| unsafe { job.run(context::unwind_if_cancelled) };
        context.enter(|| Scope::enter(group, depth, run));
    }
    job.finish();
}

/// Looks at the clock, and shares the oldest private fork if there is a beat for it and a worker that may take it. Unwinds
/// if the task was cancelled.
#[cold]
#[inline(never)]
fn beat(scope: &Scope) {
    // If this unwinds and is caught, the next join does so, too.
    scope.look_after(1);
    context::unwind_if_cancelled();
    let look = heartbeat::look();
    scope.look_after(look.forks);
    context::with_current(|context| {
        let Some(context) = context else { unreachable!("forks are made in a context") };
        let core = context.core();
        let untaken = core.jobs.len();
        let is_wanted = core.idle_workers.asleep() > untaken
            // One is kept ready, for the next worker that has nothing to do.
            || look.is_beat && untaken == 0 && has_others(context);
        if is_wanted && look.has_saved {
            if let Some(fork) = scope.next_to_share() {
                heartbeat::spend();
                share(context, scope, fork);
                // There may be more idle workers, and more beats for them.
                scope.look_after(1);
            }
        }
    });
}

/// Whether there are workers besides this thread.
fn has_others(context: &ThreadContext<'_>) -> bool {
    context.core().workers() > usize::from(context.local().is_some())
}

fn share(context: &ThreadContext<'_>, scope: &Scope, fork: NonNull<Fork>) {
    let Some(origin) = context.origin() else { unreachable!("forks are made by tasks") };
    let core = context.core();
    let group =
        scope.group.get_or_init(|| Arc::new(Group { origin, changed: Arc::default() })).clone();
    // SAFETY: all forks but the root, which is never the next, are those of branches. The join that this one is a local
    // variable of doesn't end, nor take the function out, before `end_sharing`.
    let job = unsafe { Fork::share(fork, group.clone()) };
    core.jobs.push(job);
    // Those that wait for another branch of this task can run it, too.
    group.changed.wake_all();
    core.wake_worker();
}
