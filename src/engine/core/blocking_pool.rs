//! The threads of one client that run blocking closures.
//!
//! | a thread | next |
//! |---|---|
//! | is idle, from its start on | runs the first closure in the order of [`turns`]; exits after [`LINGER`], or at once if the client is closed |
//! | runs a closure | is idle |
//!
//! A closure that finds more closures queued than threads idle has a thread started, up to the bound. If the system
//! refuses that, closures wait for the threads that exist, and a thread that takes a closure while others wait tries
//! again to start one.
//!
//! The threads keep the pool, but not the engine: an idle thread keeps no client in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::thread::{self, JoinHandle};
use crate::engine::base::sync::{Cell, Condvar, MutexGuard, thread_local};
use crate::engine::base::user_code::{drop_user_value, run_user_code};
use crate::engine::core::threads::ThreadOptions;
use crate::engine::data::turns::{self, Place, Turns};
use crate::engine::data::waker_list::WakerList;

/// How long an idle thread stays.
const LINGER: Duration = Duration::from_secs(2);

/// A blocking closure. It doesn't panic.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct BlockingPool {
    name: Cow<'static, str>,
    options: ThreadOptions,
    state: Lock<State>,
    /// Notified when a closure is queued, and when the client is closed.
    changed: Condvar,
    /// Those that wait for the end of the threads.
    ended: Arc<WakerList>,
}

#[derive(Default)]
struct State {
    /// The closures that no thread has taken.
    queue: BTreeMap<Place, Job>,
    turns: Turns,
    /// The number of closures so far.
    submitted: u64,
    /// The number of threads so far, from which they get their names.
    started: usize,
    /// The threads that have not decided to exit, by their numbers.
    threads: HashMap<usize, JoinHandle<()>>,
    /// How many of them run no closure. One that was notified still counts.
    idle: usize,
    /// Threads that have decided to exit, and may not have done so yet.
    exited: Vec<JoinHandle<()>>,
    /// The system refused the thread that was to be started last.
    is_refused: bool,
    is_closed: bool,
    /// The threads whose closures wait for the client to be idle or closed, and how often.
    exempt: HashMap<usize, usize>,
}

impl State {
    /// Takes the closure that is to run next.
    fn next(&mut self) -> Option<Job> {
        let is_for_oldest = self.turns.is_for_oldest();
        let job = match is_for_oldest.then(|| turns::oldest(&self.queue)).flatten() {
            Some(oldest) => self.queue.remove(&oldest),
            None => self.queue.pop_first().map(|(_, job)| job),
        }?;
        self.turns.count(is_for_oldest);
        Some(job)
    }
}

thread_local! {
    /// The address of the pool that this thread belongs to, and its number there.
    static THIS_THREAD: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

impl BlockingPool {
    pub(crate) fn new(name: Cow<'static, str>, options: ThreadOptions) -> Arc<Self> {
        let (state, changed, ended) = (Lock::default(), Condvar::new(), Arc::default());
        Arc::new(Self { name, options, state, changed, ended })
    }

    /// Queues a closure of a task with this priority and depth, and returns its place.
    ///
    /// # Errors
    ///
    /// If there is no thread, and the system refuses one. The closure is dropped.
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Job,
        priority: i32,
        depth: u8,
    ) -> io::Result<Place> {
        let mut state = self.state.lock();
        state.submitted += 1;
        let place = Place::new(priority, depth, state.submitted);
        state.queue.insert(place, job);
        match self.grow(&mut state) {
            Err(error) if state.threads.is_empty() => {
                let job = state.queue.remove(&place);
                drop(state);
                drop_user_value(job);
                let text = format!("the system refused a thread for blocking work: {error}");
                Err(io::Error::new(error.kind(), text))
            }
            _ => {
                self.changed.notify_one();
                Ok(place)
            }
        }
    }

    /// Takes a closure back that no thread has taken.
    pub(crate) fn withdraw(&self, place: Place) -> Option<Job> {
        self.state.lock().queue.remove(&place)
    }

    /// Changes the priority of a closure, if no thread has taken it. Returns its place then.
    pub(crate) fn set_priority(&self, place: Place, priority: i32) -> Place {
        let mut state = self.state.lock();
        let new = place.with_priority(priority);
        if let Some(job) = state.queue.remove(&place) {
            state.queue.insert(new, job);
        }
        new
    }

    /// Lets the threads exit as soon as no closure is left.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether every thread runs a closure, and no other one can be started.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.state.lock();
        let most = self.options.blocking + state.exempt.len();
        state.idle == 0 && (state.threads.len() >= most || state.is_refused)
    }

    /// Starts threads for the queued closures that no idle thread will take.
    fn grow(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) -> io::Result<()> {
        let most = self.options.blocking + state.exempt.len();
        while state.queue.len() > state.idle && state.threads.len() < most {
            let number = state.started;
            let name = format!("{}-blocking-{number}", self.name);
            let pool = self.clone();
            match self.options.spawn(&name, move || pool.serve(number)) {
                Ok(thread) => {
                    state.threads.insert(number, thread);
                    state.started += 1;
                    state.idle += 1;
                    state.is_refused = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut state.is_refused, true) {
                        let n = state.threads.len();
                        log::warn!(
                            "ensue: the system refused thread {} for blocking work: {error}",
                            n + 1
                        );
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Runs closures on a new thread.
    fn serve(self: Arc<Self>, number: usize) {
        THIS_THREAD.set(Some((Arc::as_ptr(&self).addr(), number)));
        let mut state = self.state.lock();
        let mut has_lingered = false;
        loop {
            if let Some(job) = state.next() {
                state.idle -= 1;
                // A refusal that is over must not keep the other closures waiting for this one.
                let _ = self.grow(&mut state);
                drop(state);
                run_user_code(job);
                state = self.state.lock();
                state.idle += 1;
                has_lingered = false;
            } else if state.is_closed || has_lingered {
                break;
            } else {
                let waited = self.changed.wait_timeout(state, LINGER);
                let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = again;
                has_lingered = timeout.timed_out();
            }
        }
        state.idle -= 1;
        let this = state.threads.remove(&number);
        state.exempt.remove(&number);
        state.exited.retain(|thread| !thread.is_finished());
        state.exited.extend(this);
        drop(state);
        self.ended.wake_all();
    }

    /// Resolves when no thread of the pool, which was closed, is left but exempt ones.
    pub(crate) async fn end(self: Arc<Self>) {
        let waiter = self.ended.enter();
        poll_fn(|cx| {
            waiter.register(cx.waker());
            let state = self.state.lock();
            if state.threads.len() <= state.exempt.len() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let exited = std::mem::take(&mut self.state.lock().exited);
        for thread in exited {
            // A destructor of a thread local may have called this.
            if thread.thread().id() != thread::current().id() {
                // No closure panics out of its thread.
                let _ = thread.join();
            }
        }
    }

    /// Exempts the calling thread, if it's one of the pool's, while its closure waits for the client to be idle or closed,
    /// and so for other closures: it isn't waited for, and doesn't count for the bound.
    pub(crate) fn exempt_this_thread(self: &Arc<Self>) -> Exempt {
        let this = THIS_THREAD.try_with(Cell::get).ok().flatten();
        let thread = this.filter(|(of, _)| *of == Arc::as_ptr(self).addr()).map(|(_, n)| n);
        let mut state = self.state.lock();
        // A thread that runs the destructors of its thread locals has left the pool.
        let thread = thread.filter(|number| state.threads.contains_key(number));
        if let Some(number) = thread {
            *state.exempt.entry(number).or_default() += 1;
            // If the system refuses a thread, the closures wait for those that exist.
            let _ = self.grow(&mut state);
        }
        drop(state);
        if thread.is_some() {
            // There is one thread less to wait for.
            self.ended.wake_all();
        }
        Exempt { pool: self.clone(), thread }
    }
}

/// The exemption of a thread, which ends on drop.
pub(crate) struct Exempt {
    pool: Arc<BlockingPool>,
    /// `None` on any other thread.
    thread: Option<usize>,
}

impl Drop for Exempt {
    fn drop(&mut self) {
        let Some(number) = self.thread else { return };
        let mut state = self.pool.state.lock();
        // Absent if the thread has exited meanwhile.
        if let Some(count) = state.exempt.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                state.exempt.remove(&number);
            }
        }
    }
}
