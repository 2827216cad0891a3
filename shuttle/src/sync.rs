//! A stand-in for the engine's `sync` module: the same names, made of shuttle's types, each use of which may switch to
//! another thread.

use std::cell;
use std::io;
use std::time::Duration;

pub(crate) use std::cell::{Cell, UnsafeCell};

pub(crate) use shuttle::future::block_on;
pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread::yield_now;

/// A clock that stands still, because a schedule must be repeatable.
#[derive(Clone, Copy)]
pub(crate) struct Instant;

impl Instant {
    pub(crate) fn now() -> Self {
        Self
    }

    pub(crate) fn elapsed(self) -> Duration {
        Duration::ZERO
    }
}

/// Threads, with the methods of the standard library's that shuttle's lack.
pub(crate) mod thread {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) use shuttle::thread::current;

    use super::io;

    pub(crate) struct Builder(shuttle::thread::Builder);

    pub(crate) struct JoinHandle<T> {
        inner: shuttle::thread::JoinHandle<T>,
        is_finished: Arc<AtomicBool>,
    }

    impl Builder {
        pub(crate) fn new() -> Self {
            Self(shuttle::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        /// Ignored: shuttle's threads have stacks of one size.
        pub(crate) fn stack_size(self, _: usize) -> Self {
            self
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            code: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let is_finished = Arc::new(AtomicBool::new(false));
            let finish = is_finished.clone();
            let inner = self.0.spawn(move || {
                let result = code();
                finish.store(true, Ordering::SeqCst);
                result
            })?;
            Ok(JoinHandle { inner, is_finished })
        }
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn is_finished(&self) -> bool {
            self.is_finished.load(Ordering::SeqCst)
        }

        pub(crate) fn thread(&self) -> &shuttle::thread::Thread {
            self.inner.thread()
        }

        pub(crate) fn join(self) -> shuttle::thread::Result<T> {
            self.inner.join()
        }
    }
}

/// A thread-local variable of shuttle's, with the standard library's methods for cells.
pub(crate) struct LocalKey<T: 'static>(pub(crate) &'static shuttle::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub(crate) fn try_with<R>(
        &'static self,
        code: impl FnOnce(&T) -> R,
    ) -> Result<R, shuttle::thread::AccessError> {
        self.0.try_with(code)
    }
}

impl<T> LocalKey<cell::Cell<T>> {
    pub(crate) fn set(&'static self, value: T) {
        self.0.with(|cell| cell.set(value));
    }

    pub(crate) fn replace(&'static self, value: T) -> T {
        self.0.with(|cell| cell.replace(value))
    }

    pub(crate) fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.0.with(cell::Cell::get)
    }
}

macro_rules! local {
    ($(#[$attr:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        crate::engine::base::sync::thread_local!($(#[$attr])* static $name: $type = $value;);
    };
    ($(#[$attr:meta])* static $name:ident: $type:ty = $value:expr;) => {
        $(#[$attr])*
        static $name: crate::engine::base::sync::LocalKey<$type> = {
            shuttle::thread_local! { static KEY: $type = $value; }
            crate::engine::base::sync::LocalKey(&KEY)
        };
    };
}
pub(crate) use local as thread_local;
