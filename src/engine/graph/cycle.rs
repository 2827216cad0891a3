//! Detection of cycles: tasks that wait for each other forever.
//!
//! Inputs alone can't form a cycle, because a task's inputs exist before it. Only an await can close one. An await is an
//! entry in the awaited task's list of waiters, and exists exactly as long as that entry is linked. Whether the task still
//! waits for it is another question: a `select` with a timeout keeps the entry of the handle that lost. No correct program
//! may fail, so a task counts as *stuck* only if nothing else can wake it:
//!
//! | entry in a list of waiters | its task is stuck if the list's task is, and |
//! |---|---|
//! | an input | all its other unfinished inputs are stuck, too, but for those that settle: any other that fails would end it |
//! | an awaiting handle | the task is suspended, and its only waker is the one in this entry |
//! | [`result`](crate::Handle::result) in blocking work | the task is suspended, and its only waker is that of this work; or the work runs within its poll, on a seeded client |
//! | a member of a `gather_settled` | the task is suspended, and its only waker is that of the members |
//! | a member of a `gather` | the same, and all its other unfinished members are stuck, too |
//! | a member of a stream, a callback | never: other members may do |
//!
//! A search goes from a suspended task over the tasks that wait for it, however far. If it comes back to where it began, it
//! leaves out those that wait for others, too, and those that wait for what was left out. If the first task stays, all of the
//! rest wait for each other, and the await that it came back by is refused: the task is woken, and the next poll of that await
//! returns the error.
//!
//! # When a search is made
//!
//! * After the poll that began an await, if the awaited task may itself wait for a task (`AWAITS`, or unfinished inputs).
//!   Of the tasks of a cycle, the one whose await was registered last always finds that of the next one.
//! * When blocking work has begun to wait in [`result`](crate::Handle::result), for its task.
//! * After the next poll of a task that an earlier search met when it couldn't tell whether it was stuck (`SEARCH`): it was in
//!   a poll or a queue, or had several wakers. Dropping a waker of such a task wakes it, too.
//!
//! So a poll that finds a known await pending costs no search. And of a cycle whose tasks are all stuck, the last one to be
//! suspended makes a search that finds the others: each earlier one ended at a task that wasn't stuck yet, and left the
//! bit there.
//!
//! If the first task doesn't stay, it's a cycle only if the other inputs and members end well. The task that searched does so
//! again when such an input has ended, and one that gathers when it was polled for its next member.
//!
//! # Bound
//!
//! A search looks at no more than [`BUDGET`] entries. A longer cycle gets no error; neither does one through tasks that
//! something else could wake. Both are found by [`waits`](crate::engine::graph::waits) when somebody asks.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::Error;
use crate::engine::base::lock::Lock;
use crate::engine::base::sync::yield_now;
use crate::engine::base::user_code::wake;
use crate::engine::core::context;
use crate::engine::data::completion_queue;
use crate::engine::graph::way_back::way_back;
use crate::engine::life::callback;
use crate::engine::life::finish;
use crate::engine::life::waker::{requeue, task_of, wake_task, wakes};
use crate::engine::task::edges::Edge;
use crate::engine::task::header::{Header, Task, TaskRef};
use crate::engine::task::state::{DONE, QUEUED, RUNNING, SEARCH, Suspend};
use crate::engine::task::wait_node;
use crate::engine::task::waiters::{Link, WaiterKind};
use crate::task::thread_wait;

/// The most entries of lists of waiters that a search looks at.
const BUDGET: usize = 256;

/// Searches for a cycle of tasks that are stuck, from one that was just suspended, and refuses the await that closes it.
pub(crate) fn search(task: TaskRef<'_>) {
    // Otherwise something else can wake it, and the suspension after that searches. Whoever drops a waker reads the bit
    // after the count, and this reads the count after the bit.
    while task.wakers.load(Ordering::SeqCst) != 1 {
        let before = task.state.set_search();
        if before & (QUEUED | RUNNING | DONE) != 0 || task.wakers.load(Ordering::SeqCst) != 1 {
            return;
        }
    }
    task.state.clear(SEARCH);
    refuse_closing(task);
}

/// Searches for a cycle that the blocking closure on this thread closes, which has begun to wait for `awaited`.
pub(crate) fn search_blocked(awaited: TaskRef<'_>) {
    let Some(task) = context::current_task().filter(|_| awaited.may_wait()) else { return };
    let mut woken = Vec::new();
    // One that isn't suspended yet will search.
    if is_in_poll(task.as_ref()) || is_stuck(task.as_ref(), || true, &mut woken) {
        refuse_closing(task.as_ref());
    }
    woken.into_iter().for_each(requeue);
}

/// Refuses the await of a task that closes a cycle, if there is one.
fn refuse_closing(task: TaskRef<'_>) {
    let mut search = Search::from(task);
    if !search.leads_back() {
        return;
    }
    let mut is_cycle = search.is_cycle();
    if !is_cycle && search.budget > 0 {
        // A way back over tasks that may yet be woken by others is a cycle if these end without that.
        search.again_later(task);
        // One of those may have ended before this thread began to wait for it.
        search = Search::from(task);
        is_cycle = search.is_cycle();
    }
    if let Some(path) = is_cycle.then(|| search.path()).flatten() {
        let mut error = Some(cycle_error(task, &path));
        let thread = {
            let _alone = REFUSING.lock();
            let waits = |pair: &[Task]| is_waiting(pair[0].as_ref(), pair[1].as_ref());
            if !path.windows(2).all(waits) {
                return;
            }
            refuse(task, path[0].as_ref(), &mut error)
        };
        if let Some(thread) = thread {
            wake(thread);
        } else if error.is_none() {
            // It may wait for others, too.
            task.state.set_search();
            wake_task(task);
        }
    }
}

/// Two awaits may close a cycle at the same time, and each search find the other one. One of them is refused. Under the lock,
/// no user code runs.
static REFUSING: Lock<()> = Lock::new(());

/// Has a task that gathers search after it was polled for its next member.
fn search_after_member(task: TaskRef<'_>, awaited: TaskRef<'_>) {
    let Some(locked) = awaited.waiters.lock() else { return };
    // SAFETY: the list is locked, and the kind says which type of waiter a link is the first field of.
    locked.any(|link| unsafe {
        if link.as_ref().kind() == WaiterKind::Member {
            if let Some(awaiter) = &mut *completion_queue::awaiter(link) {
                awaiter.searches |= awaiter.task.as_ref().is(task);
            }
        }
        false
    });
}

fn search_again(task: TaskRef<'_>) {
    if is_in_poll(task) && task.state.load() & RUNNING != 0 {
        // Its blocking closure may wait.
        return refuse_closing(task);
    }
    task.state.set_search();
    wake_task(task);
}

/// Builds the error from `path`, which leads from the awaited task to the awaiting one, each waiting for the next.
fn cycle_error(from: TaskRef<'_>, path: &[Task]) -> Error {
    let between = path.iter().filter(|task| !task.as_ref().is(from)).map(|task| task.key().clone());
    let keys: Vec<_> = [from.key().clone()].into_iter().chain(between).collect();
    Error::cycle(from.subject(), &keys)
}

/// A search that goes from a task over those that wait for it, however far.
struct Search {
    /// The references keep them in memory: another task could otherwise get the address of one that is freed.
    reached: Vec<Reached>,
    places: HashMap<NonNull<Header>, usize>,
    waits: Vec<Wait>,
    budget: usize,
}

struct Reached {
    task: Task,
    /// The number of its waits that must be stuck for it to be, of those that would end if the awaited task failed. At least
    /// one wait of any kind must be.
    of: usize,
    is_stuck: bool,
}

/// A task that waits for another one.
struct Waiting {
    task: Task,
    of: usize,
    /// It waits for the other one however that ends.
    settles: bool,
}

/// The places of a task that waits and of the one that it waits for.
struct Wait {
    waiter: usize,
    awaited: usize,
    settles: bool,
}

impl Search {
    fn from(task: TaskRef<'_>) -> Self {
        let first = Reached { task: task.to_task(), of: 1, is_stuck: true };
        let places = HashMap::from([(task.as_ptr(), 0)]);
        let mut this = Self { reached: vec![first], places, waits: Vec::new(), budget: BUDGET };
        let (mut at, mut found) = (0, Vec::new());
        while at < this.reached.len() && this.budget > 0 {
            waiting_for(this.reached[at].task.as_ref(), &mut this.budget, &mut found);
            for Waiting { task, of, settles } in found.drain(..) {
                let next = this.reached.len();
                let place = *this.places.entry(task.as_ref().as_ptr()).or_insert(next);
                match this.reached.get_mut(place) {
                    Some(known) => known.of = of,
                    None => this.reached.push(Reached { task, of, is_stuck: true }),
                }
                this.waits.push(Wait { waiter: place, awaited: at, settles });
            }
            at += 1;
        }
        this
    }

    fn leads_back(&self) -> bool {
        self.waits.iter().any(|wait| wait.waiter == 0)
    }

    /// Whether the first task is one of a set of tasks each of which waits only for others of the set.
    fn is_cycle(&mut self) -> bool {
        loop {
            let lacking = (0..self.reached.len())
                .find(|at| self.reached[*at].is_stuck && self.lacks(*at, |it| it.is_stuck));
            match lacking {
                Some(at) => self.reached[at].is_stuck = false,
                None => return self.reached[0].is_stuck,
            }
        }
    }

    /// Whether a task waits for others than those that count.
    fn lacks(&self, place: usize, counts: impl Fn(&Reached) -> bool) -> bool {
        let (mut all, mut ending) = (0, 0);
        for wait in &self.waits {
            if wait.waiter == place && counts(&self.reached[wait.awaited]) {
                all += 1;
                ending += usize::from(!wait.settles);
            }
        }
        all == 0 || ending < self.reached[place].of
    }

    /// Returns the way back to the first task, from the one that it waits for, over tasks that are stuck.
    fn path(&self) -> Option<Vec<Task>> {
        let waiters = |place: usize| {
            let waits = self.waits.iter().filter(move |wait| wait.awaited == place);
            waits.map(|wait| wait.waiter).filter(|waiter| self.reached[*waiter].is_stuck)
        };
        let way = way_back(0, waiters)?;
        Some(way.into_iter().map(|place| self.reached[place].task.as_ref().to_task()).collect())
    }

    /// Has the first task search again, once one of those that wait for others, too, waits for fewer of them.
    fn again_later(&self, from: TaskRef<'_>) {
        let Some(place) = (0..self.reached.len()).find(|at| self.lacks(*at, |_| true)) else {
            return;
        };
        let mut waiter = self.reached[place].task.as_ref().to_task();
        if !waiter.count.is_waiting() {
            let awaited = self.waits.iter().find(|it| it.waiter == place).map(|it| it.awaited);
            let awaited = awaited.map(|at| self.reached[at].task.as_ref());
            return awaited
                .into_iter()
                .for_each(|awaited| search_after_member(waiter.as_ref(), awaited));
        }
        // Of the first one, only an input that can end it by failing.
        let mut wanted: fn(&Edge) -> bool = |edge: &Edge| !edge.settles();
        let input = loop {
            let mut inputs = Vec::new();
            finish::visit_inputs(waiter.as_ref(), &mut |edge| {
                if wanted(edge) {
                    inputs.push(edge.task().to_task());
                }
            });
            wanted = |_| true;
            let is_other = |task: &Task| {
                !task.waiters.is_closed() && !self.places.contains_key(&task.as_ref().as_ptr())
            };
            match inputs.into_iter().find(is_other) {
                // What it waits for ends first.
                Some(input) if input.count.is_waiting() => waiter = input,
                input => break input.and_then(|input| input.as_ref().try_to_interest()),
            }
        };
        match input {
            Some(input) => {
                let from = from.to_task();
                callback::add(&input, Box::new(move |_| search_again(from.as_ref())));
            }
            // It's just being built or released.
            None if is_in_poll(from) => {}
            None => {
                // It lasts some instructions of another thread.
                yield_now();
                search_again(from);
            }
        }
    }
}

/// Adds the tasks that only this one and others that they wait for can wake, without those dependents that nothing waits for.
fn waiting_for(task: TaskRef<'_>, budget: &mut usize, found: &mut Vec<Waiting>) {
    let mut woken = Vec::new();
    if let Some(locked) = task.waiters.lock() {
        locked.any(|link| {
            *budget -= 1;
            // SAFETY: the list is locked, which keeps its entries in place and the tasks in them in memory. The kind says
            // which type of waiter the link is the first field of.
            unsafe {
                match link.as_ref().kind() {
                    WaiterKind::Edge(dependent) => {
                        let dependent = TaskRef::new(dependent);
                        if !dependent.waiters.is_empty() && !dependent.waiters.is_aborting() {
                            let of = dependent.count.unfinished();
                            let settles = link.as_ref().settles();
                            found.push(Waiting { task: dependent.to_task(), of, settles });
                        }
                    }
                    WaiterKind::Wait => {
                        let waiting = &*wait_node::waiting(link);
                        let stuck = match task_of(&waiting.waker) {
                            Some(task) => {
                                Some(task).filter(|_| is_stuck(task, || true, &mut woken))
                            }
                            None => wait_node::blocking(link)
                                .and_then(|work| blocked_task(waiting, work, &mut woken)),
                        };
                        let stuck = stuck.map(TaskRef::to_task);
                        found.extend(stuck.map(|task| Waiting { task, of: 1, settles: false }));
                    }
                    WaiterKind::Member => {
                        let has_waker = || completion_queue::has_waker(link);
                        if let Some(awaiter) = &*completion_queue::awaiter(link) {
                            let waiter = awaiter.task.as_ref();
                            if is_stuck(waiter, has_waker, &mut woken) {
                                let (task, of) = (waiter.to_task(), awaiter.needs);
                                found.push(Waiting { task, of, settles: false });
                            }
                        }
                    }
                    WaiterKind::Callback => {}
                }
            }
            *budget == 0
        });
    }
    // Not under the lock: these may run user code.
    woken.into_iter().for_each(requeue);
    for waiting in found.iter_mut().filter(|waiting| waiting.task.vtable.settles) {
        // Those that don't end it were among the unfinished ones: each is linked as long as it is.
        finish::visit_inputs(waiting.task.as_ref(), &mut |edge| {
            if edge.settles() && edge.is_registered() {
                waiting.of = waiting.of.saturating_sub(1);
            }
        });
    }
}

/// Returns the task that is stuck because its blocking closure, of the work with this number, waits with this entry.
fn blocked_task<'a>(
    waiting: &'a wait_node::Waiting,
    work: u32,
    woken: &mut Vec<Task>,
) -> Option<TaskRef<'a>> {
    let task = waiting.awaiter.as_ref()?.as_ref();
    // Otherwise the task has given the work up, which goes on: it timed out.
    let waits = || {
        task.extras().is_some_and(|extras| {
            extras.blocked.load(Ordering::Relaxed) > 0
                && thread_wait::is_latest(&extras.blocking, work)
        })
    };
    (is_in_poll(task) || is_stuck(task, waits, woken)).then_some(task)
}

/// Whether blocking closures of this task run within its polls: it can't go on before they do.
fn is_in_poll(task: TaskRef<'_>) -> bool {
    task.core().seeded.is_some()
}

/// Whether a task is suspended and has a single waker, which the caller knows to exist if `waits` is true. If not, its next
/// suspension will search. Adds the task to `woken` if that was woken meanwhile, for the caller to queue.
fn is_stuck(task: TaskRef<'_>, waits: impl Fn() -> bool, woken: &mut Vec<Task>) -> bool {
    loop {
        let was_due = task.state.is_search_due();
        if task.state.hold_suspended() {
            // It isn't polled now, so it gets no new waker. One that was used before the count was read has queued it.
            let is_stuck = task.wakers.load(Ordering::SeqCst) == 1 && waits();
            if !is_stuck {
                task.state.set_search();
            }
            match task.state.suspend(true) {
                // Another waker than the one that is known may have gone before `SEARCH` was set.
                Suspend::Suspended if is_stuck || task.wakers.load(Ordering::SeqCst) != 1 => {
                    // Another search met it meanwhile, and couldn't tell.
                    if is_stuck && !was_due && task.state.is_search_due() && task.state.wake() {
                        // SAFETY: waking a suspended task hands over the engine's reference.
                        woken.push(unsafe { Task::from_raw(task.as_ptr()) });
                    }
                    return is_stuck;
                }
                Suspend::Suspended if !waits() => return false,
                Suspend::Suspended => continue,
                Suspend::Search => unreachable!("the caller searches"),
                // SAFETY: holding the task has brought the engine's reference.
                Suspend::Woken => woken.push(unsafe { Task::from_raw(task.as_ptr()) }),
            }
        }
        let before = task.state.set_search();
        if before & (QUEUED | RUNNING | DONE) != 0 {
            return false;
        }
    }
}

/// Whether a task waits for another one by an await that was not refused, or by an input.
fn is_waiting(task: TaskRef<'_>, awaited: TaskRef<'_>) -> bool {
    let Some(locked) = awaited.waiters.lock() else { return false };
    // SAFETY: the list is locked, which keeps its entries in place and the tasks in them in memory.
    locked.any(|link| unsafe {
        match link.as_ref().kind() {
            WaiterKind::Edge(dependent) => TaskRef::new(dependent).is(task),
            _ => with_refusal(link, task, |refused| refused.is_none()),
        }
    })
}

/// Makes the await of `awaited` in `task` return the error at its next poll, unless that has ended. Returns the waker of a
/// blocked thread; else the caller wakes the task.
fn refuse(task: TaskRef<'_>, awaited: TaskRef<'_>, error: &mut Option<Error>) -> Option<Waker> {
    let mut thread = None;
    if let Some(locked) = awaited.waiters.lock() {
        // SAFETY: as in `is_waiting`.
        locked.any(|link| unsafe {
            let is_refused = with_refusal(link, task, |refused| {
                let is_free = refused.is_none();
                if is_free {
                    *refused = error.take();
                }
                is_free
            });
            if is_refused
                && link.as_ref().kind() == WaiterKind::Wait
                && wait_node::blocking(link).is_some()
            {
                // The waker is that of `block_on`: no user code.
                thread = Some(wait_node::waiting(link).waker.clone());
            }
            is_refused
        });
    }
    thread
}

/// Passes the place for the error of a refused await to `use_it`, if the entry is an await of this task. Else returns false.
///
/// # Safety
///
/// The entry is in a list that is locked.
unsafe fn with_refusal(
    link: NonNull<Link>,
    task: TaskRef<'_>,
    use_it: impl FnOnce(&mut Option<Error>) -> bool,
) -> bool {
    // SAFETY: the kind says which type of waiter the link is the first field of.
    unsafe {
        match link.as_ref().kind() {
            WaiterKind::Wait => {
                let waiting = wait_node::waiting(link);
                let blocks = wait_node::blocking(link).is_some()
                    && waiting.awaiter.as_ref().is_some_and(|it| it.as_ref().is(task));
                (blocks || wakes(&waiting.waker, task)) && use_it(&mut waiting.refused)
            }
            WaiterKind::Member => match &mut *completion_queue::awaiter(link) {
                Some(awaiter) => awaiter.task.as_ref().is(task) && use_it(&mut awaiter.refused),
                None => false,
            },
            WaiterKind::Edge(_) | WaiterKind::Callback => false,
        }
    }
}
