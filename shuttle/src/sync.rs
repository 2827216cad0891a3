//! A stand-in for the engine's `sync` module: the same names, made of shuttle's types, each use of which may switch to
//! another thread.

use std::cell;

pub(crate) use std::cell::{Cell, UnsafeCell};

pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering, fence,
};
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread::yield_now;

/// See the engine's own.
pub(crate) const ROUNDS: usize = 1;
pub(crate) const HOOKS_HAVE_LOCALS: bool = false;

#[path = "../../loom/src/std_like.rs"]
mod std_like;
std_like::std_like!(shuttle);

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
