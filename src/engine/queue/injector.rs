//! The queue of tasks that come from outside the workers.
//!
//! It links the tasks themselves, oldest first: who pushes exchanges the tail for the new task and then
//! links the one before to it, which never fails and never waits (Vyukov's queue for many producers). Workers
//! take a batch at a time, under a lock that only those who take share, and follow the links, so the memory of
//! a task is first touched by the worker that is about to run it.
//!
//! Between the exchange and the link the queue is *broken*: it isn't empty, and yet its next task can't be
//! reached. That lasts two instructions, or until a pusher that lost its processor there gets it back.

use std::mem;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::engine::base::lock::Lock;
use crate::engine::base::prefetch::prefetch;
use crate::engine::base::sync::{AtomicBool, AtomicPtr, Ordering, yield_now};
use crate::engine::task::header::{Header, QueueNode, Task, TaskRef};

pub(crate) struct Injector {
    /// The newest place: that of a task, or the stub.
    tail: CachePadded<AtomicPtr<QueueNode>>,
    front: CachePadded<Front>,
    /// In the queue while no task is, and at times behind some.
    stub: NonNull<QueueNode>,
}

// SAFETY: the stub is used like the places of tasks: its link is atomic.
unsafe impl Send for Injector {}
// SAFETY: as above.
unsafe impl Sync for Injector {}

struct Front {
    taken: Lock<Taken>,
    /// Whether there are tasks though the tail is the stub. Changed under the lock.
    has_more: AtomicBool,
}

struct Taken {
    /// The oldest place in the queue: that of a task, or the stub.
    head: *mut QueueNode,
    /// Tasks that were taken and put back, older than all in the queue and linked like it.
    kept: *mut QueueNode,
}

// SAFETY: the queue owns a reference to each of its tasks.
unsafe impl Send for Taken {}

enum Popped {
    Task(Task),
    Empty,
    Broken,
}

impl Injector {
    pub(crate) fn new() -> Self {
        let stub = NonNull::from(Box::leak(Box::<QueueNode>::default()));
        let taken = Lock::new(Taken { head: stub.as_ptr(), kept: ptr::null_mut() });
        Self {
            tail: CachePadded::new(AtomicPtr::new(stub.as_ptr())),
            front: CachePadded::new(Front { taken, has_more: AtomicBool::new(false) }),
            stub,
        }
    }

    fn stub(&self) -> *mut QueueNode {
        self.stub.as_ptr()
    }

    pub(crate) fn push(&self, task: Task) {
        let node = node_of(task);
        // SAFETY: the queue owns the reference from here on.
        unsafe { self.push_chain(node, node) };
    }

    /// Pushes all with one operation, the first one to come out first.
    pub(crate) fn push_all(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut tasks = tasks.into_iter().map(node_of);
        let Some(oldest) = tasks.next() else { return };
        let newest = tasks.fold(oldest, |before, node| {
            // SAFETY: it's still ours.
            unsafe { (*before).next.store(node, Ordering::Relaxed) };
            node
        });
        // SAFETY: they're linked, and the queue owns their references from here on.
        unsafe { self.push_chain(oldest, newest) };
    }

    /// # Safety
    ///
    /// The caller gives away the places from `oldest` to `newest`, linked in that order.
    unsafe fn push_chain(&self, oldest: *mut QueueNode, newest: *mut QueueNode) {
        // SAFETY: it's still the caller's. And who takes doesn't go past a place before it's linked to the
        // next, so the one before stays until we have done that.
        unsafe {
            (*newest).next.store(ptr::null_mut(), Ordering::Relaxed);
            // Sequentially consistent, so that the pusher then sees who sleeps (`Sleepers::wake_one`).
            let before = self.tail.swap(newest, Ordering::SeqCst);
            (*before).next.store(oldest, Ordering::Release);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tail.load(Ordering::SeqCst) == self.stub()
            && !self.front.has_more.load(Ordering::SeqCst)
    }

    /// Hands out up to `limit` tasks, oldest first. True where it did and some are left.
    pub(crate) fn take(&self, limit: usize, mut each: impl FnMut(Task)) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut taken = self.front.taken.lock();
        let mut any = false;
        for _ in 0..limit {
            match self.pop(&mut taken) {
                Popped::Task(task) => {
                    any = true;
                    each(task);
                }
                Popped::Empty => break,
                Popped::Broken => {
                    yield_now();
                    break;
                }
            }
        }
        self.note_more(&taken);
        drop(taken);
        any && !self.is_empty()
    }

    /// Shows the tasks that can be reached, oldest first. None is taken out meanwhile, and it may take a while.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        let taken = self.front.taken.lock();
        for first in [taken.kept, taken.head] {
            let mut node = first;
            while !node.is_null() {
                // SAFETY: the places from these two on are the queue's, and stay while the lock is held.
                unsafe {
                    if node != self.stub() {
                        visit(TaskRef::new(header_of(node)));
                    }
                    node = (*node).next.load(Ordering::Acquire);
                }
            }
        }
    }

    fn note_more(&self, taken: &Taken) {
        let has_more = taken.head != self.stub() || !taken.kept.is_null();
        if self.front.has_more.load(Ordering::Relaxed) != has_more {
            self.front.has_more.store(has_more, Ordering::SeqCst);
        }
    }

    fn pop(&self, taken: &mut Taken) -> Popped {
        // SAFETY: the places from the head on are the queue's, and so are the kept ones; who has the lock may
        // take them out, up to one that isn't linked to the next.
        unsafe {
            if !taken.kept.is_null() {
                let node = taken.kept;
                taken.kept = (*node).next.load(Ordering::Relaxed);
                return Popped::Task(task_of(node));
            }
            if taken.head == self.stub() {
                let next = (*taken.head).next.load(Ordering::Acquire);
                if next.is_null() {
                    let is_empty = self.tail.load(Ordering::SeqCst) == self.stub();
                    return if is_empty { Popped::Empty } else { Popped::Broken };
                }
                taken.head = next;
            }
            let head = taken.head;
            let mut next = (*head).next.load(Ordering::Acquire);
            if next.is_null() {
                if self.tail.load(Ordering::Acquire) != head {
                    return Popped::Broken;
                }
                // It's the last one, and can go only when there's another place behind it.
                self.front.has_more.store(true, Ordering::SeqCst);
                self.push_chain(self.stub(), self.stub());
                next = (*head).next.load(Ordering::Acquire);
                if next.is_null() {
                    return Popped::Broken;
                }
            }
            taken.head = next;
            // What comes behind the header will be needed too.
            prefetch(head.wrapping_byte_add(64));
            Popped::Task(task_of(head))
        }
    }

    /// Drops the tasks in front that aren't wanted, up to one that is. It is at no time empty meanwhile, unless it stays
    /// so.
    pub(crate) fn trim(&self, wanted: impl Fn(&Task) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut taken = self.front.taken.lock();
        self.front.has_more.store(true, Ordering::SeqCst);
        loop {
            match self.pop(&mut taken) {
                Popped::Task(task) if wanted(&task) => {
                    let node = node_of(task);
                    // SAFETY: it's ours again.
                    unsafe { (*node).next.store(taken.kept, Ordering::Relaxed) };
                    taken.kept = node;
                    break;
                }
                Popped::Task(task) => drop(task),
                Popped::Empty => break,
                Popped::Broken => yield_now(),
            }
        }
        self.note_more(&taken);
    }
}

fn node_of(task: Task) -> *mut QueueNode {
    // SAFETY: the header is there; the pointer is one to all of it.
    unsafe { (&raw const (*task.into_raw().as_ptr()).queue_node).cast_mut() }
}

/// # Safety
///
/// The place is that of a task whose reference the caller takes over.
unsafe fn task_of(node: *mut QueueNode) -> Task {
    // SAFETY: the caller's.
    unsafe { Task::from_raw(header_of(node)) }
}

/// # Safety
///
/// The place is that of a task.
unsafe fn header_of(node: *mut QueueNode) -> NonNull<Header> {
    // SAFETY: a task's place is in its header.
    unsafe {
        let header = node.byte_sub(mem::offset_of!(Header, queue_node)).cast::<Header>();
        NonNull::new_unchecked(header)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        while !self.is_empty() {
            self.take(usize::MAX, drop);
        }
        // SAFETY: `new` made it from a box, and nobody uses the queue any more.
        drop(unsafe { Box::from_raw(self.stub.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[test]
    fn who_takes_is_told_whether_some_are_left() {
        let client = Client::builder().workers(0).build();
        // Of a priority that the client's own injector doesn't hold.
        let task = || client.task().priority(1).submit(async || (), ()).typed().task().to_task();
        let injector = Injector::new();
        assert!(!injector.take(2, drop));
        injector.push_all((0..3).map(|_| task()));
        assert!(injector.take(2, drop));
        assert!(!injector.take(2, drop));
        assert!(injector.is_empty());
    }
}
