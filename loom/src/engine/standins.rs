//! Stand-ins for parts of the engine that no protocol depends on.

/// The models' own; the engine's has models to itself.
pub(crate) mod block_on {
    use std::future::Future;

    use crate::engine::base::look::Lookers;

    pub(crate) fn block_on_among<F: Future>(_: &Lookers, future: F) -> F::Output {
        crate::sync::block_on(future)
    }
}

/// A clock whose timers are due at any time, or never, or that has no thread: as the model says.
pub(crate) mod clock {
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use crate::engine::lock::Lock;

    /// The clock of this execution, from its start to its end.
    static CLOCK: Lock<Option<Arc<Clock>>> = Lock::new(None);

    #[derive(Default)]
    pub(crate) struct Clock {
        /// The timers, and whether it has ended.
        state: Mutex<(Vec<Waker>, bool)>,
        changed: Condvar,
    }

    impl Clock {
        pub(crate) fn start() -> Arc<Self> {
            let clock = Arc::<Self>::default();
            *CLOCK.lock() = Some(clock.clone());
            clock
        }

        /// Serves the timers until the end, as the engine's timer thread.
        pub(crate) fn serve(&self) {
            let mut state = self.state.lock().unwrap();
            while !state.1 {
                match state.0.pop() {
                    Some(waker) => {
                        drop(state);
                        waker.wake();
                        state = self.state.lock().unwrap();
                    }
                    None => state = self.changed.wait(state).unwrap(),
                }
            }
        }

        /// Drops the timers that are left.
        pub(crate) fn end(self: Arc<Self>) {
            drop(CLOCK.lock().take());
            let mut state = self.state.lock().unwrap();
            state.1 = true;
            let left = std::mem::take(&mut state.0);
            drop(state);
            self.changed.notify_one();
            drop(left);
        }
    }

    pub(crate) fn tick(_: Duration, waker: Waker) -> bool {
        let Some(clock) = CLOCK.lock().clone() else { return false };
        clock.state.lock().unwrap().0.push(waker);
        clock.changed.notify_one();
        true
    }

    /// A timer that isn't removed: it may go off after it was dropped, as the engine's may when that is about to.
    pub(crate) struct Alarm;

    pub(crate) fn alarm(duration: Duration, waker: Waker) -> Option<Alarm> {
        tick(duration, waker).then_some(Alarm)
    }
}

/// The models have no seeded engine.
pub(crate) mod virtual_timer {
    use std::task::Waker;
    use std::time::Duration;

    use crate::engine::core::CoreRef;

    pub(crate) struct VirtualTimer;

    impl VirtualTimer {
        pub(crate) fn new(_: CoreRef, _: Duration) -> Self {
            unreachable!("the models have no seeded engine");
        }

        pub(crate) fn register(&mut self, _: &Waker) -> bool {
            unreachable!("the models have no seeded engine");
        }
    }
}

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

/// The models have no seeded engine.
pub(crate) mod seeded {
    use crate::engine::task::header::Task;

    pub(crate) struct Seeded {
        pub(crate) clock: Clock,
    }

    pub(crate) struct Clock;

    impl Clock {
        pub(crate) fn has_timer(&self) -> bool {
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

        pub(crate) fn steps(&self) -> u16 {
            0
        }

        pub(crate) fn may_advance(&self, _: &mut u16) -> bool {
            true
        }

        pub(crate) fn advance(&self) -> bool {
            false
        }

        pub(crate) fn random(&self) -> f64 {
            0.0
        }

        pub(crate) fn is_empty(&self) -> bool {
            true
        }

        pub(crate) fn trim(&self, _: impl Fn(&Task) -> bool) {}
    }
}

/// The models have no blocking closures.
pub(crate) mod blocking_pool {
    use std::borrow::Cow;
    use std::sync::Arc;

    use crate::engine::core::threads::ThreadOptions;

    pub(crate) struct BlockingPool;

    impl BlockingPool {
        pub(crate) fn new(_: Cow<'static, str>, _: ThreadOptions) -> Arc<Self> {
            Arc::new(Self)
        }

        pub(crate) fn close(&self) {}

        pub(crate) fn exempt_this_thread(self: &Arc<Self>) {}

        pub(crate) async fn end(self: Arc<Self>) {}
    }
}
