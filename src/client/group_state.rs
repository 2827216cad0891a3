//! The members of a group: the tasks that were submitted through it, or by its members, and have not ended.
//!
//! | a task | is a member of its group and of those around it |
//! |---|---|
//! | from | [`enter`](GroupState::enter), while it's being built: a group that has ended aborts it instead |
//! | until | its callback, once it has ended in any way |
//!
//! A group refers to its members by memory references, and they to it by their contexts, until they have ended. It has no
//! interest in them: a task whose last handle is dropped is abandoned in a group, too.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use crate::Error;
use crate::engine::base::lock::Lock;
use crate::engine::core::{Core, CoreRef, context};
use crate::engine::data::limit_queues::Lease;
use crate::engine::data::waker_list::WakerList;
use crate::engine::life::{callback, finish};
use crate::engine::task::header::{Interest, Task, TaskRef};
use crate::engine::task::inherited::AwaitedGroup;
use crate::engine::task::state::OBSERVED;
use crate::engine::worker::{self, Drive};

pub(crate) struct GroupState {
    shown: Arc<AwaitedGroup>,
    /// The group that this one was made in.
    outer: Option<Arc<GroupState>>,
    /// The first failure of a member cancels the others.
    fails_fast: bool,
    pub(super) limit: OnceLock<Lease>,
    members: Lock<Members>,
    /// Wakes those that wait for the end of the members, or for a failure.
    changed: Arc<WakerList>,
}

#[derive(Default)]
struct Members {
    /// By their addresses, which the references keep unique.
    tasks: HashMap<usize, Member>,
    /// The number of members that wait for the group themselves.
    waiting: usize,
    /// The number of tasks that have entered.
    entered: u64,
    /// Why the group has ended, if it has: no task enters it any more.
    ended: Option<String>,
    /// The first failure of a member, if the group fails fast.
    failure: Option<Error>,
}

struct Member {
    task: Task,
    /// Its place in the order in which they entered: they're cancelled in it, so that a seeded client repeats itself.
    number: u64,
    /// How often it waits for the group.
    waits: usize,
}

impl Members {
    fn are_done(&self) -> bool {
        self.tasks.len() == self.waiting
    }
}

fn address(task: TaskRef<'_>) -> usize {
    task.as_ptr().as_ptr().addr()
}

impl Drop for GroupState {
    fn drop(&mut self) {
        // One after the other, as each level of a recursion takes a part of the stack.
        let mut outer = self.outer.take();
        while let Some(mut group) = outer.and_then(Arc::into_inner) {
            outer = group.outer.take();
        }
    }
}

impl GroupState {
    pub(super) fn new(core: &Core, outer: Option<Arc<Self>>, fails_fast: bool) -> Arc<Self> {
        Arc::new(Self {
            shown: Arc::new(AwaitedGroup {
                name: format!("group-{}", core.next_number()).into(),
                len: AtomicUsize::new(0),
            }),
            outer,
            fails_fast,
            limit: OnceLock::new(),
            members: Lock::default(),
            changed: Arc::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.shown.name
    }

    fn with_outer(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |group| group.outer.as_deref())
    }

    /// The limits of this group and those around it.
    pub(super) fn limits(&self) -> Vec<(String, usize)> {
        let limited = self.with_outer().filter(|group| group.limit.get().is_some());
        limited.map(|group| (group.name().to_owned(), 1)).collect()
    }

    /// Makes a task that is being built a member of this group and those around it, or aborts it if one of them has ended.
    pub(super) fn enter(self: &Arc<Self>, task: TaskRef<'_>) {
        let refused = self.with_outer().find_map(|group| {
            let members = &mut *group.members.lock();
            if members.ended.is_none() {
                members.entered += 1;
                let member = Member { task: task.to_task(), number: members.entered, waits: 0 };
                members.tasks.insert(address(task), member);
                group.shown.len.store(members.tasks.len(), Ordering::Relaxed);
            }
            members.ended.clone()
        });
        if let Some(reason) = refused {
            self.leave(task, None);
            finish::abort(task, Error::cancelled(task.subject(), reason));
            return;
        }
        let group = self.clone();
        let leave = move |interest: &mut Interest| {
            let task = interest.task();
            group.leave(task, task.failure().filter(|_| group.fails_fast));
        };
        callback::add(&task.to_interest(), Box::new(leave));
    }

    /// Removes a member that has ended, or was never let in, from this group and those around it.
    fn leave(&self, task: TaskRef<'_>, error: Option<Error>) {
        let failure = error.filter(|error| !error.is_cancelled());
        for (at, group) in self.with_outer().enumerate() {
            let mut members = group.members.lock();
            let left = members.tasks.remove(&address(task));
            group.shown.len.store(members.tasks.len(), Ordering::Relaxed);
            if left.as_ref().is_some_and(|member| member.waits > 0) {
                members.waiting -= 1;
            }
            let failure = failure.as_ref().filter(|_| at == 0 && members.failure.is_none());
            if let Some(error) = failure {
                members.failure = Some(error.clone());
            }
            let is_done = members.are_done();
            drop(members);
            drop(left);
            if let Some(error) = failure {
                // The group returns it.
                task.state.set(OBSERVED);
                group.end(&format!("another task of its group failed: {error}"));
            }
            if is_done || failure.is_some() {
                group.changed.wake_all();
            }
        }
    }

    /// Cancels all members, and lets no other task in. Returns their number; 0 if the group has ended before.
    pub(super) fn end(&self, reason: &str) -> usize {
        let tasks: Vec<_> = {
            let mut members = self.members.lock();
            if members.ended.is_some() {
                return 0;
            }
            members.ended = Some(reason.to_owned());
            let mut all: Vec<_> = members.tasks.values().collect();
            all.sort_by_key(|member| member.number);
            all.iter().map(|member| member.task.as_ref().to_task()).collect()
        };
        for task in &tasks {
            finish::cancel(task.as_ref(), reason.to_owned());
        }
        tasks.len()
    }

    pub(super) fn len(&self) -> usize {
        self.shown.len.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.members.lock().failure.clone()
    }

    fn is_done(&self) -> bool {
        self.members.lock().are_done()
    }

    /// Waits until no member is left but those that wait for this themselves.
    pub(super) async fn idle(self: Arc<Self>, core: CoreRef) {
        let _waiting = Waiting::begin(&self);
        let waiter = self.changed.enter();
        core.until(&waiter, || self.is_done().then_some(()), || self.is_done()).await;
    }

    /// Polls a future until it has an output, or the group fails. Meanwhile runs the tasks of a seeded client.
    pub(super) async fn unless_it_fails<T>(
        &self,
        core: &CoreRef,
        body: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut body = pin!(body);
        let waiter = self.changed.enter();
        let mut seen_steps = 0;
        poll_fn(|cx| {
            loop {
                // Before the check, so that no failure after it is missed.
                waiter.register(cx.waker());
                if let Some(error) = self.failure() {
                    return Poll::Ready(Err(error));
                }
                if let Poll::Ready(result) = body.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                if core.seeded.is_none() {
                    return Poll::Pending;
                }
                let has_failed = || self.failure().is_some();
                match worker::drive_seeded(core, cx.waker(), &mut seen_steps, has_failed) {
                    Drive::Done => {}
                    Drive::GaveWay | Drive::Idle => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Shows that the current task waits for the group, and counts it as such if it's a member: else it would wait for itself.
struct Waiting<'g> {
    group: &'g GroupState,
    task: Option<Task>,
    is_member: bool,
}

impl<'g> Waiting<'g> {
    fn begin(group: &'g GroupState) -> Self {
        let task = context::current_task();
        let is_member = task.as_ref().is_some_and(|task| group.change_waits(task.as_ref(), true));
        if let Some(task) = &task {
            let entry = (address(task.as_ref()), group.shown.clone());
            task.core().awaited_groups.lock().push(entry);
        }
        Self { group, task, is_member }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(task) = &self.task else { return };
        {
            let mut awaited = task.core().awaited_groups.lock();
            let is_this = |(of, group): &(usize, Arc<AwaitedGroup>)| {
                *of == address(task.as_ref()) && Arc::ptr_eq(group, &self.group.shown)
            };
            let at = awaited.iter().position(is_this);
            let _shown = at.map(|at| awaited.swap_remove(at));
        }
        if self.is_member {
            self.group.change_waits(task.as_ref(), false);
        }
    }
}

impl GroupState {
    /// Counts a wait of a member, or counts it no longer. False if the task is no member, or has ended.
    fn change_waits(&self, task: TaskRef<'_>, begins: bool) -> bool {
        let mut members = self.members.lock();
        let Some(member) = members.tasks.get_mut(&address(task)) else { return false };
        let now = if begins { member.waits + 1 } else { member.waits - 1 };
        let (waited, waits) = (mem::replace(&mut member.waits, now) > 0, now > 0);
        members.waiting = members.waiting + usize::from(waits) - usize::from(waited);
        let is_done = members.are_done();
        drop(members);
        if is_done {
            self.changed.wake_all();
        }
        true
    }
}
