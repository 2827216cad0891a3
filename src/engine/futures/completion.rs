//! The owner's side of a completion queue: polling it, and recording which task waits for its members.
//!
//! A task can wait for the members in two ways. [`poll_pop`](Completions::poll_pop) waits for any one of them, as a stream
//! does; that lends its priority to the members, and is recorded for diagnostics. [`await_all`](Completions::await_all)
//! declares a wait for all of them, as `gather` does, so that a search for cycles finds it.

use std::mem;
use std::task::{Context, Poll, Waker};

use crate::Error;
use crate::engine::core::{Core, CoreRef, budget, context};
use crate::engine::data::completion_queue::{Awaiter, CompletionQueue};
use crate::engine::life::waker;
use crate::engine::task::header::{Interest, TaskRef};
use crate::engine::task::state::WATCHED;
use crate::engine::task::typed::Typed;
use crate::engine::watch::observer::TaskEvent;
use crate::engine::worker::{self, Drive};

/// The slack in the number of members to report later: beyond twice the queue's length and this, all of them are
/// discarded and the next report is a full one, since most of them have left the queue by then.
const SLACK: usize = 8;

/// A set of tasks with values of type `T`, which come out in the order in which they end.
pub(crate) struct Completions<T> {
    queue: CompletionQueue<T>,
    /// The priority of the task that waited last; [`i32::MIN`] for none. It's lent to further members at once.
    lent: i32,
    /// No member has a lower priority. It's at least `lent`.
    lowest: i32,
    /// The seeded engine of the tasks, which runs them only while a caller waits.
    seeded: Option<CoreRef>,
    /// The number of steps of that engine that it has seen.
    seen_steps: u16,
    /// It has given way, and has its result the next time; see [`budget`].
    gave_way: bool,
    /// The last poll found it empty, and nothing was added since.
    has_ended: bool,
    /// The address of the task that the observer knows to await the members; 0 for none.
    reported_to: usize,
    /// The numbers of the members that were added after that report.
    unreported: Vec<u64>,
}

impl<T> Completions<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: CompletionQueue::new(),
            lent: i32::MIN,
            lowest: i32::MAX,
            seeded: None,
            seen_steps: 0,
            gave_way: false,
            has_ended: false,
            reported_to: 0,
            unreported: Vec::new(),
        }
    }

    /// Returns the number of tasks that have not come out.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_seeded(&self) -> bool {
        self.seeded.is_some()
    }

    /// Whether `poll_pop` has returned `None`, and nothing was added since.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(crate) fn has_ready(&self) -> bool {
        self.queue.has_ready()
    }

    /// Adds a task, which comes out with its `tag` once it has ended.
    pub(crate) fn add(&mut self, typed: Typed<T>, tag: usize) {
        self.has_ended = false;
        self.note_unreported(typed.interest());
        let task = typed.task();
        if task.priority() < self.lowest {
            self.lowest = task.priority().max(self.lent);
            Core::raise(task, self.lent);
        }
        self.note_engine(typed.task());
        self.queue.add(typed, tag);
    }

    /// Notes the engine of a task that is or would be a member.
    pub(crate) fn note_engine(&mut self, task: TaskRef<'_>) {
        if task.core().seeded.is_some() {
            self.seeded = Some(task.core().to_ref());
        }
    }

    /// Takes the next task that has ended. One that was retried since then is waited for again.
    pub(crate) fn pop(&mut self) -> Option<(Typed<T>, usize)> {
        loop {
            let member = self.queue.pop()?;
            if let Some(ended) = self.ended(member) {
                return Some(ended);
            }
        }
    }

    /// Takes the next task that has ended, as `pop` does, or registers the waker for it; `None` if the queue is empty. Pending,
    /// too, if the budget is used up.
    pub(crate) fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Typed<T>, usize)>> {
        loop {
            let polled = match self.poll_member(cx) {
                Poll::Ready(Some(member)) => match self.ended(member) {
                    None => continue,
                    ended => Poll::Ready(ended),
                },
                other => other,
            };
            self.has_ended = matches!(polled, Poll::Ready(None));
            return polled;
        }
    }

    /// Returns a member that came out of the queue. One that was retried since it ended goes back instead.
    fn ended(&mut self, (typed, tag): (Typed<T>, usize)) -> Option<(Typed<T>, usize)> {
        if typed.task().waiters.is_closed() {
            return Some((typed, tag));
        }
        self.queue.add(typed, tag);
        None
    }

    /// As `poll_pop`, but the task may have been retried since it ended.
    #[inline]
    fn poll_member(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Typed<T>, usize)>> {
        if context::take_from_budget() {
            if let Some(popped) = self.queue.pop() {
                return Poll::Ready(Some(popped));
            }
            if self.queue.pending() == 0 {
                return Poll::Ready(None);
            }
        } else if self.has_ready() || self.queue.pending() == 0 {
            let seeded = self.is_seeded();
            return match budget::take_or_give_way(&mut self.gave_way, cx.waker(), seeded) {
                true => Poll::Ready(self.queue.pop()),
                false => Poll::Pending,
            };
        }
        if let Some(core) = &self.seeded {
            let done = || self.queue.has_ready();
            match worker::drive_seeded(core, cx.waker(), &mut self.seen_steps, done) {
                Drive::Done => return Poll::Ready(self.queue.pop()),
                Drive::GaveWay => return Poll::Pending,
                Drive::Idle => {}
            }
        }
        if self.queue.set_waker(cx.waker().clone()) {
            self.note_waiter();
            return Poll::Pending;
        }
        // A member was pushed between the first check and `set_waker`.
        Poll::Ready(self.queue.pop())
    }

    /// Records a member that the observer doesn't know to be awaited yet.
    fn note_unreported(&mut self, interest: &Interest) {
        if self.reported_to == 0 {
            return;
        }
        self.unreported.extend(interest.number());
        if self.unreported.len() > 2 * self.len() + SLACK {
            self.reported_to = 0;
            self.unreported.clear();
        }
    }

    /// Lends the members the priority of the waiting task, and records that task for diagnostics.
    fn note_waiter(&mut self) {
        let priority = context::with_current_task(|task| {
            self.queue.set_owner(Some(task));
            let state = task.state.load();
            let address = address(task);
            let is_reported = self.reported_to == address;
            // Only changes are reported: a stream is polled once per member, and may have many.
            if state & WATCHED != 0 && !(is_reported && self.unreported.is_empty()) {
                let mut awaits = mem::take(&mut self.unreported);
                if !is_reported {
                    self.reported_to = address;
                    awaits.clear();
                    self.queue.each_pending(|interest| awaits.extend(interest.number()));
                }
                task.core().observer.notify(task, state, TaskEvent::Awaits(&awaits));
            }
            task.priority()
        });
        match priority {
            Some(priority) => {
                context::note_pending();
                self.lend(priority);
            }
            None => self.queue.set_owner(None),
        }
    }

    /// Raises the priority of the members, and of those that are added later, to at least `priority`.
    fn lend(&mut self, priority: i32) {
        self.lent = priority;
        // Only a change costs time for each member: a stream is polled once per member, and may have many.
        if self.lowest < priority {
            self.lowest = priority;
            self.queue.each_pending(|interest| Core::raise(interest.task(), priority));
        }
    }

    /// Declares that the current task, if there is one, waits for all members until it's woken, or for the first that fails if
    /// it `fails_fast`. Returns an error if an earlier such call closed a cycle.
    pub(crate) fn await_all(&mut self, waker: &Waker, fails_fast: bool) -> Option<Error> {
        // Of a combinator's own waker it's not known whom that wakes.
        let Some(task) = waker::task_of(waker) else {
            let before = self.queue.awaiter().take();
            drop(before);
            return None;
        };
        let needs = if fails_fast { self.queue.pending() } else { 1 };
        // Outside of the lock, as dropping a task may run user code.
        let refused = {
            let mut awaiter = self.queue.awaiter();
            match awaiter.as_mut().filter(|it| it.task.as_ref().is(task)) {
                Some(known) if known.refused.is_some() => awaiter.take(),
                Some(known) => {
                    known.needs = needs;
                    if mem::take(&mut known.searches) {
                        context::note_search();
                    }
                    return None;
                }
                None => None,
            }
        };
        if let Some(Awaiter { refused, .. }) = refused {
            return refused;
        }
        task.state.set_awaits();
        let new = Awaiter { task: task.to_task(), needs, searches: false, refused: None };
        // Set before the search for a cycle, so that of two waits that close one together at least one sees the other.
        let before = self.queue.awaiter().replace(new);
        // Outside the lock, as dropping a task may run user code.
        drop(before);
        context::note_search();
        None
    }

    /// Removes all members. A task that waits for the next one is woken and finds the queue empty.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.lowest = i32::MAX;
        self.seeded = None;
        self.reported_to = 0;
        self.unreported.clear();
    }
}

fn address(task: TaskRef<'_>) -> usize {
    task.as_ptr().addr().get()
}
