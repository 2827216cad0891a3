//! Stand-ins for parts of the engine that no protocol depends on.

pub(crate) mod limits {
    pub(crate) struct Limits;
}

/// No model has millions of references to a task.
pub(crate) mod surplus {
    pub(crate) type Counted = (usize, u64);

    pub(crate) struct Surpluses;

    pub(crate) fn lock<R>(_: impl FnOnce(&mut Surpluses) -> R) -> R {
        unreachable!("no model has millions of references to a task")
    }

    impl Surpluses {
        pub(crate) fn has(&self, _: Counted) -> bool {
            false
        }

        pub(crate) fn add(&mut self, _: Counted) {}

        pub(crate) fn remove(&mut self, _: Counted) {}
    }
}

/// The models keep their engine longer than its tasks, so tasks don't count as references.
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
        core.origin()
    }

    /// # Safety
    ///
    /// There are no requirements.
    pub(crate) unsafe fn release(_: NonNull<Core>) {}

    pub(crate) fn drain(_: &Core) {}
}

/// The models have no seeded engine.
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
            unreachable!("the models have no seeded engine");
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

/// The table is behind locks, and no protocol depends on it.
pub(crate) mod owned_tasks {
    use crate::engine::task::header::{Task, TaskRef};

    #[derive(Default)]
    pub(crate) struct OwnedTasks;

    impl OwnedTasks {
        pub(crate) fn insert(&self, _: TaskRef<'_>, _: Vec<Task>) {}
        pub(crate) fn add_begun(&self, _: &Task, _: Vec<Task>) {}
        pub(crate) fn begun(&self, _: TaskRef<'_>, _: &mut Vec<Task>) {}
        pub(crate) fn remove(&self, _: &Task) -> Vec<Task> {
            Vec::new()
        }
    }
}

/// The models spawn their own threads.
pub(crate) mod threads {
    use std::borrow::Cow;

    use crate::engine::core::Core;

    pub(crate) struct ThreadOptions;

    pub(crate) struct Threads;

    impl Threads {
        pub(crate) fn new(_: Cow<'static, str>, _: ThreadOptions) -> Self {
            Self
        }

        pub(crate) fn alive(&self) -> usize {
            1
        }

        pub(crate) fn lost_one(&self) {}

        pub(crate) fn may_exit(&self, core: &Core, out_of_work: bool) -> bool {
            out_of_work && core.may_exit()
        }
    }
}
