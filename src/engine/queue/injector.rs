//! The shared queue of tasks that are submitted or woken outside the workers.
//!
//! This is Vyukov's intrusive queue for many producers. It links the tasks themselves, oldest first: a producer
//! exchanges the tail for the new task and then links the previous tail to it, which never fails and never waits.
//! Workers take a batch at a time, under a lock that only consumers share, and follow the links, so the memory of a
//! task is first touched by the worker that is about to run it.
//!
//! Between the exchange and the link the queue is *inconsistent*: it isn't empty, but its next task can't be reached.
//! That lasts for two instructions, or until a producer that was preempted between them runs again.
//!
//! | `head` | `head.next` | `tail` | state |
//! |---|---|---|---|
//! | stub | null | stub | empty |
//! | stub | null | other | inconsistent: the first producer hasn't linked its task |
//! | stub | set | other | the stub is skipped |
//! | task | set | other | the task can be taken |
//! | task | null | task | the last task: the stub is pushed behind it, then it can be taken |
//! | task | null | other | inconsistent: the next producer hasn't linked its task |

use std::mem;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use crate::engine::base::lock::Lock;
use crate::engine::base::prefetch::prefetch;
use crate::engine::base::sync::{AtomicBool, AtomicPtr, Ordering, yield_now};
use crate::engine::task::header::{Header, QueueNode, Task, TaskRef};

pub(crate) struct Injector {
    /// The newest node: that of a task, or the stub.
    tail: CachePadded<AtomicPtr<QueueNode>>,
    front: CachePadded<Front>,
    /// Is in the queue while no task is, so that the tail is never null, and sometimes between tasks.
    stub: NonNull<QueueNode>,
}

// SAFETY: the stub's only field is an atomic link, as in the nodes of tasks.
unsafe impl Send for Injector {}
// SAFETY: as above.
unsafe impl Sync for Injector {}

/// The consumers' end, on a cache line of its own, so that producers and consumers don't contend.
struct Front {
    consumer: Lock<Consumer>,
    /// Whether there are tasks although the tail is the stub. Changed under the lock.
    has_more: AtomicBool,
}

struct Consumer {
    /// The oldest node in the queue: that of a task, or the stub.
    head: *mut QueueNode,
    /// Tasks that were popped and put back: older than all in the queue, and linked like it.
    put_back: *mut QueueNode,
}

// SAFETY: the queue owns a reference to each of its tasks.
unsafe impl Send for Consumer {}

enum Popped {
    Task(Task),
    Empty,
    Inconsistent,
}

impl Injector {
    pub(crate) fn new() -> Self {
        let stub = NonNull::from(Box::leak(Box::<QueueNode>::default()));
        let consumer = Lock::new(Consumer { head: stub.as_ptr(), put_back: ptr::null_mut() });
        Self {
            tail: CachePadded::new(AtomicPtr::new(stub.as_ptr())),
            front: CachePadded::new(Front { consumer, has_more: AtomicBool::new(false) }),
            stub,
        }
    }

    fn stub(&self) -> *mut QueueNode {
        self.stub.as_ptr()
    }

    pub(crate) fn push(&self, task: Task) {
        let node = node_of(task);
        // SAFETY: the node is that of a task whose reference passes to the queue.
        unsafe { self.push_chain(node, node) };
    }

    /// Pushes all tasks with one exchange of the tail. The first one comes out first.
    pub(crate) fn push_all(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut tasks = tasks.into_iter().map(node_of);
        let Some(oldest) = tasks.next() else { return };
        let newest = tasks.fold(oldest, |before, node| {
            // SAFETY: the node isn't in the queue yet, so it's this thread's alone. Relaxed is enough for the same
            // reason: the release store in `push_chain` publishes these links too.
            unsafe { (*before).next.store(node, Ordering::Relaxed) };
            node
        });
        // SAFETY: the nodes are linked, and the references of their tasks pass to the queue.
        unsafe { self.push_chain(oldest, newest) };
    }

    /// Appends nodes to the queue.
    ///
    /// # Safety
    ///
    /// The caller gives away the nodes from `oldest` to `newest`, linked in that order.
    unsafe fn push_chain(&self, oldest: *mut QueueNode, newest: *mut QueueNode) {
        // SAFETY: the new nodes are the caller's until the exchange. A consumer doesn't pop a node before that is
        // linked to the next one, so the previous tail stays in memory until this thread has linked it.
        unsafe {
            (*newest).next.store(ptr::null_mut(), Ordering::Relaxed);
            // Sequentially consistent: the caller reads the count of idle workers next (`Core::wake_worker`). It
            // also acquires the previous tail's node, whose `next` was reset by the producer before.
            let before = self.tail.swap(newest, Ordering::SeqCst);
            // Publishes the tasks' contents to the consumer that follows this link.
            (*before).next.store(oldest, Ordering::Release);
        }
    }

    /// Whether no task is queued, not even one that can't be reached yet.
    pub(crate) fn is_empty(&self) -> bool {
        // The tail is read first. `pop` and `trim` set `has_more` before they make the tail the stub, so a thread
        // that sees the stub also sees the flag. Both loads follow `IdleWorkers::enter` in the total order.
        self.tail.load(Ordering::SeqCst) == self.stub()
            && !self.front.has_more.load(Ordering::SeqCst)
    }

    /// Passes up to `limit` tasks to `receive`, oldest first. True if it took at least one and more are left.
    pub(crate) fn take(&self, limit: usize, mut receive: impl FnMut(Task)) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut consumer = self.front.consumer.lock();
        let mut any = false;
        for _ in 0..limit {
            match self.pop(&mut consumer) {
                Popped::Task(task) => {
                    any = true;
                    receive(task);
                }
                Popped::Empty => break,
                Popped::Inconsistent => {
                    // The producer may have been preempted: gives it the processor, but doesn't wait for it. The
                    // producer wakes a worker after it has linked its task.
                    yield_now();
                    break;
                }
            }
        }
        self.update_has_more(&consumer);
        drop(consumer);
        any && !self.is_empty()
    }

    /// Visits the tasks that can be reached, oldest first. Holds the consumers' lock, so no task is taken meanwhile.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        let consumer = self.front.consumer.lock();
        for first in [consumer.put_back, consumer.head] {
            let mut node = first;
            while !node.is_null() {
                // SAFETY: only a consumer removes nodes, and this thread holds the consumers' lock.
                unsafe {
                    if node != self.stub() {
                        visit(TaskRef::new(header_of(node)));
                    }
                    node = (*node).next.load(Ordering::Acquire);
                }
            }
        }
    }

    fn update_has_more(&self, consumer: &Consumer) {
        // Only written if it changes: producers and idle workers read this cache line.
        let has_more = consumer.head != self.stub() || !consumer.put_back.is_null();
        if self.front.has_more.load(Ordering::Relaxed) != has_more {
            self.front.has_more.store(has_more, Ordering::SeqCst);
        }
    }

    fn pop(&self, consumer: &mut Consumer) -> Popped {
        // SAFETY: the queue owns the nodes from `head` and `put_back` on, and the caller has the consumers' lock. A
        // node is popped only once its `next` is set, after which its producer no longer touches it.
        unsafe {
            if !consumer.put_back.is_null() {
                let node = consumer.put_back;
                consumer.put_back = (*node).next.load(Ordering::Relaxed);
                return Popped::Task(task_of(node));
            }
            if consumer.head == self.stub() {
                // Acquire, here and below: the next task's contents are read after this.
                let next = (*consumer.head).next.load(Ordering::Acquire);
                if next.is_null() {
                    // Without a link, only the tail distinguishes an empty queue from an inconsistent one.
                    let is_empty = self.tail.load(Ordering::SeqCst) == self.stub();
                    return if is_empty { Popped::Empty } else { Popped::Inconsistent };
                }
                consumer.head = next;
            }
            let head = consumer.head;
            let mut next = (*head).next.load(Ordering::Acquire);
            if next.is_null() {
                if self.tail.load(Ordering::Acquire) != head {
                    return Popped::Inconsistent;
                }
                // The last task can be popped only once another node is linked behind it, so the stub is pushed. The
                // flag is set first: `is_empty` must not report true while this task is in the queue.
                self.front.has_more.store(true, Ordering::SeqCst);
                self.push_chain(self.stub(), self.stub());
                next = (*head).next.load(Ordering::Acquire);
                // Null again if another producer exchanged the tail between the check and the push of the stub.
                if next.is_null() {
                    return Popped::Inconsistent;
                }
            }
            consumer.head = next;
            // The worker reads the contents behind the header next.
            prefetch(head.wrapping_byte_add(64));
            Popped::Task(task_of(head))
        }
    }

    /// Drops tasks from the front up to the first wanted one. Unless no task is wanted, the queue isn't seen to be
    /// empty meanwhile.
    pub(crate) fn trim(&self, wanted: impl Fn(&Task) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut consumer = self.front.consumer.lock();
        // The wanted task is out of the queue between `pop` and its return to the front.
        self.front.has_more.store(true, Ordering::SeqCst);
        loop {
            match self.pop(&mut consumer) {
                Popped::Task(task) if wanted(&task) => {
                    let node = node_of(task);
                    // SAFETY: `pop` gave this thread the node. Relaxed: the lock orders it for the next consumer.
                    unsafe { (*node).next.store(consumer.put_back, Ordering::Relaxed) };
                    consumer.put_back = node;
                    break;
                }
                Popped::Task(task) => drop(task),
                Popped::Empty => break,
                Popped::Inconsistent => yield_now(),
            }
        }
        self.update_has_more(&consumer);
    }
}

fn node_of(task: Task) -> *mut QueueNode {
    // SAFETY: the task's reference keeps the header in memory; the pointer covers the whole cell.
    unsafe { (&raw const (*task.into_raw().as_ptr()).queue_node).cast_mut() }
}

/// # Safety
///
/// The node is that of a task, and the caller takes over the queue's reference to it.
unsafe fn task_of(node: *mut QueueNode) -> Task {
    // SAFETY: the caller's promise.
    unsafe { Task::from_raw(header_of(node)) }
}

/// # Safety
///
/// The node is that of a task, not the stub.
unsafe fn header_of(node: *mut QueueNode) -> NonNull<Header> {
    // SAFETY: a task's node is a field of its header.
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
        // SAFETY: `new` leaked it from a box, and the exclusive reference excludes other uses of the queue.
        drop(unsafe { Box::from_raw(self.stub.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[test]
    fn take_returns_whether_tasks_are_left() {
        let client = Client::builder().workers(0).build();
        // A priority other than 0, so that the client doesn't put the task into its own injector too.
        let task = || client.task().priority(1).submit(async || (), ()).typed().task().to_task();
        let injector = Injector::new();
        assert!(!injector.take(2, drop));
        injector.push_all((0..3).map(|_| task()));
        assert!(injector.take(2, drop));
        assert!(!injector.take(2, drop));
        assert!(injector.is_empty());
    }
}
