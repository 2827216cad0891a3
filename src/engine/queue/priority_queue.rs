//! The queue of ready tasks whose priority isn't zero.
//!
//! A task of priority zero bypasses this queue, unless its priority was raised to zero. It costs one load: whether a
//! task of higher priority is queued.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::base::lock::Lock;
use crate::engine::base::sync::{AtomicI64, Ordering};
use crate::engine::task::header::{Task, TaskRef};

/// The value of `top` while the queue is empty: below every `i32`.
const EMPTY: i64 = i64::MIN;

pub(crate) struct PriorityQueue {
    levels: Lock<BTreeMap<i32, VecDeque<Task>>>,
    /// The highest priority that is queued, so that workers needn't take the lock to find that there is none.
    top: AtomicI64,
}

impl PriorityQueue {
    pub(crate) fn new() -> Self {
        Self { levels: Lock::default(), top: AtomicI64::new(EMPTY) }
    }

    pub(crate) fn push(&self, priority: i32, task: Task) {
        let mut levels = self.levels.lock();
        levels.entry(priority).or_default().push_back(task);
        self.update_top(&levels);
    }

    /// Takes the oldest task of the highest priority, if that is above zero.
    pub(crate) fn pop_above_zero(&self) -> Option<Task> {
        // Relaxed: a worker that misses a task here finds it before it goes idle, by `is_empty`.
        if self.top.load(Ordering::Relaxed) <= 0 { None } else { self.pop_where(|top| top > 0) }
    }

    /// Passes up to `limit` tasks of priority zero to `receive`, oldest first, unless there are higher ones. Those of
    /// priority zero were raised to it.
    pub(crate) fn take_zero(&self, limit: usize, mut receive: impl FnMut(Task)) {
        for _ in 0..limit {
            if self.top.load(Ordering::Relaxed) != 0 {
                return;
            }
            let Some(task) = self.pop_where(|top| top == 0) else { return };
            receive(task);
        }
    }

    pub(crate) fn pop(&self) -> Option<Task> {
        if self.is_empty() { None } else { self.pop_where(|_| true) }
    }

    fn pop_where(&self, wanted: impl Fn(i32) -> bool) -> Option<Task> {
        let mut levels = self.levels.lock();
        let task = loop {
            let level = levels.last_entry().filter(|level| wanted(*level.key()));
            let Some(mut level) = level else { break None };
            let priority = *level.key();
            let task = level.get_mut().pop_front();
            if level.get().is_empty() {
                level.remove();
            }
            // Its priority may have been lowered since it was queued.
            match task {
                Some(task) if task.priority() < priority => {
                    levels.entry(task.priority()).or_default().push_back(task);
                }
                Some(task) => break Some(task),
                None => {}
            }
        };
        self.update_top(&levels);
        task
    }

    /// Drops tasks from the front up to the first wanted one.
    pub(crate) fn trim(&self, wanted: impl Fn(&Task) -> bool) {
        let mut levels = self.levels.lock();
        while let Some(mut level) = levels.last_entry() {
            match level.get_mut().front() {
                Some(task) if wanted(task) => break,
                Some(_) => drop(level.get_mut().pop_front()),
                None => drop(level.remove()),
            }
        }
        self.update_top(&levels);
    }

    /// Visits the tasks in the order in which they come out.
    pub(crate) fn each(&self, mut visit: impl FnMut(TaskRef<'_>)) {
        self.levels.lock().values().rev().flatten().for_each(|task| visit(task.as_ref()));
    }

    fn update_top(&self, levels: &BTreeMap<i32, VecDeque<Task>>) {
        let top = levels.last_key_value().map_or(EMPTY, |(priority, _)| i64::from(*priority));
        // Sequentially consistent: the producer reads the count of idle workers next.
        self.top.store(top, Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.top.load(Ordering::SeqCst) == EMPTY
    }
}
