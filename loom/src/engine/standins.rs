//! Stand-ins that do next to nothing.

pub(crate) mod limits {
    pub(crate) struct Limits;
}

/// The engine outlives its tasks here, so none has a reference of its own.
pub(crate) mod engine_refs {
    use std::ptr::NonNull;

    use crate::engine::core::Core;

    pub(crate) struct PooledRefs;

    impl PooledRefs {
        pub(crate) fn get(&self) -> usize {
            0
        }
    }

    pub(crate) fn acquire(core: &Core) -> NonNull<Core> {
        NonNull::from(core)
    }

    /// # Safety
    ///
    /// None is needed.
    pub(crate) unsafe fn release(_: NonNull<Core>) {}

    pub(crate) fn drain(_: &Core) {}
}

/// No engine is seeded here.
pub(crate) mod seeded {
    use crate::engine::task::header::Task;

    pub(crate) struct Seeded {
        pub(crate) clock: Clock,
    }

    pub(crate) struct Clock;

    impl Clock {
        pub(crate) fn advance(&self) -> bool {
            false
        }

        pub(crate) fn now(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    impl Seeded {
        pub(crate) fn new(_: u64) -> Self {
            Self { clock: Clock }
        }

        pub(crate) fn push(&self, _: i32, _: Task) {
            unreachable!("no engine is seeded here");
        }

        pub(crate) fn pop(&self) -> Option<Task> {
            None
        }

        pub(crate) fn random(&self) -> f64 {
            0.0
        }

        pub(crate) fn is_empty(&self) -> bool {
            true
        }
    }
}

/// A table behind locks, of which no protocol needs anything.
pub(crate) mod owned_tasks {
    use crate::engine::task::header::{Task, TaskRef};

    /// As the real one.
    #[derive(Default)]
    pub(crate) struct Awaited {
        pub(crate) tasks: Vec<Task>,
        /// Also others, that only they themselves know of.
        pub(crate) more: bool,
        /// Blocking work of its own, which may wait for others.
        pub(crate) blocking: bool,
    }

    impl Awaited {
        pub(crate) fn is_nothing(&self) -> bool {
            self.tasks.is_empty() && !self.more
        }
    }

    #[derive(Default)]
    pub(crate) struct OwnedTasks;

    impl OwnedTasks {
        pub(crate) fn insert(&self, _: TaskRef<'_>, _: Awaited) {}
        pub(crate) fn set_awaited(&self, _: &Task, _: Awaited) {}
        pub(crate) fn remove(&self, _: &Task) {}

        pub(crate) fn awaited(&self, _: TaskRef<'_>, _: &mut Vec<Task>) -> bool {
            true
        }
    }
}

/// The models have threads of their own.
pub(crate) mod threads {
    use crate::engine::core::Core;

    #[derive(Default)]
    pub(crate) struct Threads;

    impl Threads {
        pub(crate) fn alive(&self) -> usize {
            1
        }

        pub(crate) fn may_exit(&self, core: &Core, out_of_work: bool) -> bool {
            out_of_work && core.may_exit()
        }
    }
}
