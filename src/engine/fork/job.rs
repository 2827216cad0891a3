//! Branches of joins, and how one gets from the thread that forked it to another and back.
//!
//! | a branch is | next |
//! |---|---|
//! | *private*: known to its thread alone | run by its thread; *shared* at a heartbeat |
//! | *shared*: its job is in the list of [`Jobs`] | *taken* by another thread, or *private* again, both under the lock of the list |
//! | *taken*: another thread runs it | *done* |
//! | *done* | the join ends |
//!
//! # Who may touch what
//!
//! A [`Branch`] is a local variable of the join, with the function and room for its result. Its own thread has it, except
//! while the branch is taken: then the thread that took it has function and result. It gets them with the job, out of a list
//! behind a lock, and gives them back by [`Job::finish`], which stores a flag that the joining thread loads. From that store
//! on, the branch may be gone. So the flag, and whatever is needed to wake the joining thread, isn't in the branch: it's in
//! the [`Job`] and its [`Group`], which are counted, and the thread that finishes has references of its own.
//!
//! A join doesn't end, by a return or by a panic, while its branch is shared or taken.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicBool as PlainBool;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicBool, AtomicUsize, Ordering, UnsafeCell};
use crate::engine::data::waker_list::WakerList;
use crate::engine::task::header::Header;
use crate::task::panic_place::Caught;

/// Runs the function of the branch that a fork is the first field of, after `before`, which may unwind in its place.
type Run = unsafe fn(fork: NonNull<Fork>, before: fn());

/// The part of a branch that doesn't depend on its types.
pub(crate) struct Fork {
    /// `None` in the root of a list.
    run: Option<Run>,
    /// The next younger fork, if there is one; it's set by that one.
    pub(super) younger: Cell<MaybeUninit<NonNull<Fork>>>,
    /// The job, counted, while the branch isn't private; not set before. Used by its own thread alone.
    job: Cell<MaybeUninit<*const Job>>,
}

impl Fork {
    #[inline]
    const fn new(run: Option<Run>) -> Self {
        let (younger, job) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        Self { run, younger: Cell::new(younger), job: Cell::new(job) }
    }

    /// Returns the root of a list, which is never run.
    pub(crate) const fn root() -> Self {
        Self::new(None)
    }

    /// Makes a job of a private branch, for the caller to put into a list.
    ///
    /// # Safety
    ///
    /// It's one of [`Branch::fork`]. The branch stays in place, and its function in it, until the job was taken back or is
    /// done.
    pub(crate) unsafe fn share(fork: NonNull<Self>, group: Arc<Group>) -> Arc<Job> {
        let job = Arc::new(Job { fork, group, is_done: AtomicBool::new(false) });
        // SAFETY: the branch is in place.
        let in_fork = unsafe { &(*fork.as_ptr()).job };
        in_fork.set(MaybeUninit::new(Arc::into_raw(job.clone())));
        job
    }

    /// Takes the job of a branch that was shared.
    ///
    /// # Safety
    ///
    /// [`share`](Self::share) was called, and this wasn't since then.
    pub(crate) unsafe fn take_job(&self) -> Arc<Job> {
        // SAFETY: `share` has set it to a counted reference, which is taken out here.
        unsafe { Arc::from_raw(self.job.get().assume_init()) }
    }
}

/// The second function of a join, which waits to be run, and its result, if another thread runs it.
#[repr(C)]
pub(crate) struct Branch<F, R> {
    fork: Fork,
    function: UnsafeCell<ManuallyDrop<F>>,
    result: UnsafeCell<MaybeUninit<Outcome<R>>>,
}

/// What a function returned, or its panic.
pub(crate) type Outcome<R> = Result<R, Caught>;

impl<F: FnOnce() -> R + Send, R: Send> Branch<F, R> {
    #[inline]
    pub(crate) fn new(function: F) -> Self {
        Self {
            fork: Fork::new(Some(Self::run)),
            function: UnsafeCell::new(ManuallyDrop::new(function)),
            result: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Returns the address of its first field, from which that of the whole can be had.
    #[inline]
    pub(crate) fn fork(&self) -> NonNull<Fork> {
        NonNull::from(self).cast()
    }

    /// # Safety
    ///
    /// It's called once, by the thread that has taken the branch.
    unsafe fn run(fork: NonNull<Fork>, before: fn()) {
        let branch = fork.cast::<Self>().as_ptr();
        // SAFETY: the branch is taken, so function and result are this thread's, until it finishes the job. A fork is the
        // first field of its branch. There is no reference to the whole of it, whose other parts its own thread uses.
        unsafe {
            let function = ManuallyDrop::take(&mut *(*branch).function.get());
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                before();
                function()
            }));
            (*(*branch).result.get()).write(outcome.map_err(Caught::new));
        }
    }

    /// Moves the function out.
    ///
    /// # Safety
    ///
    /// The branch is private, and this is called once.
    #[inline]
    pub(crate) unsafe fn take_function(&self) -> F {
        // SAFETY: no other thread uses it.
        unsafe { ManuallyDrop::take(&mut *self.function.get()) }
    }

    /// Moves the result out.
    ///
    /// # Safety
    ///
    /// The branch is done, and this is called once.
    pub(crate) unsafe fn take_result(&self) -> Outcome<R> {
        // SAFETY: the thread that ran it has written the result, and no longer uses it.
        unsafe { (*self.result.get()).assume_init_read() }
    }
}

/// The branches that one task shares, or one blocking closure.
pub(crate) struct Group {
    pub(crate) origin: Origin,
    /// Woken when a job of the group is done, and when there is another one.
    pub(crate) changed: Arc<WakerList>,
}

/// For whom a branch runs: what its thread may ask about. It's valid until the branch is done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) task: Option<NonNull<Header>>,
    /// Whether the blocking closure that forked it was abandoned; `None` in a poll of the task.
    pub(crate) is_abandoned: Option<NonNull<PlainBool>>,
}

// SAFETY: two addresses, of a header and of an atomic, both of which are made for any thread. Whoever uses them has to know
// that the branch isn't done.
unsafe impl Send for Origin {}
// SAFETY: as above.
unsafe impl Sync for Origin {}

/// A branch that was shared.
pub(crate) struct Job {
    fork: NonNull<Fork>,
    pub(crate) group: Arc<Group>,
    is_done: AtomicBool,
}

// SAFETY: function and result of a branch are `Send`, and are used by one thread at a time, as described above. Of the fork,
// other threads only read `run`, which doesn't change.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Calls `before`, and then runs the branch, unless that unwinds.
    ///
    /// # Safety
    ///
    /// It's called once, by the thread that has taken the job, which then [finishes](Self::finish) it.
    pub(crate) unsafe fn run(&self, before: fn()) {
        // SAFETY: the branch stays in place until the job is done. Only the field is read.
        let run = unsafe { (*self.fork.as_ptr()).run };
        let Some(run) = run else { unreachable!("a root is never shared") };
        // SAFETY: the job was taken out of the list, and is thus taken once.
        unsafe { run(self.fork, before) };
    }

    /// Gives the branch back to the thread that forked it, and wakes that thread.
    pub(crate) fn finish(self: Arc<Self>) {
        // The branch, and the origin, may be gone after this.
        self.is_done.store(true, Ordering::Release);
        self.group.changed.wake_all();
    }

    /// Whether the branch belongs to the thread that forked it again. It then has a result.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }
}

/// The jobs of an engine that no thread has taken, the oldest first.
#[derive(Default)]
pub(crate) struct Jobs {
    list: Lock<VecDeque<Arc<Job>>>,
    /// Their number. Changed under the lock.
    len: AtomicUsize,
}

impl Jobs {
    /// Sequentially consistent, as for the other queues: see [`queue::idle`](crate::engine::queue::idle).
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    pub(crate) fn push(&self, job: Arc<Job>) {
        let mut list = self.list.lock();
        list.push_back(job);
        self.len.store(list.len(), Ordering::SeqCst);
    }

    /// Takes the oldest job.
    pub(crate) fn take(&self) -> Option<Arc<Job>> {
        self.take_if(|_| true)
    }

    /// Takes the oldest job of a group.
    pub(crate) fn take_of(&self, group: &Arc<Group>) -> Option<Arc<Job>> {
        self.take_if(|job| Arc::ptr_eq(&job.group, group))
    }

    /// Takes a job back. False if another thread has taken it.
    pub(crate) fn take_back(&self, job: &Job) -> bool {
        self.take_if(|other| ptr::eq(&**other, job)).is_some()
    }

    fn take_if(&self, is_wanted: impl Fn(&Arc<Job>) -> bool) -> Option<Arc<Job>> {
        if self.len() == 0 {
            return None;
        }
        let mut list = self.list.lock();
        let at = list.iter().position(is_wanted)?;
        let job = list.remove(at);
        self.len.store(list.len(), Ordering::SeqCst);
        job
    }
}
