//! The engine's mutex, made of loom's.
//!
//! Loom's mutex belongs to one execution, and a static lock outlives it. So each execution makes its own, when it's first used.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use loom::sync::{Mutex, MutexGuard};

use crate::sync::execution;

#[derive(Default)]
pub(crate) struct Lock<T> {
    /// The mutex, and the number of its execution.
    mutex: UnsafeCell<Option<(usize, Mutex<()>)>>,
    value: UnsafeCell<T>,
}

// SAFETY: the threads of a model are run by one thread, one at a time, and the mutex guards the value.
unsafe impl<T: Send> Sync for Lock<T> {}

pub(crate) struct Guard<'a, T> {
    value: &'a mut T,
    _locked: MutexGuard<'a, ()>,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { mutex: UnsafeCell::new(None), value: UnsafeCell::new(value) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: nothing switches to another thread while this reference is used mutably. The mutex of an execution stays
        // until the next one.
        let mutex = unsafe {
            let mutex = &mut *self.mutex.get();
            match mutex {
                Some((number, _)) if *number == execution() => {}
                _ => *mutex = Some((execution(), Mutex::new(()))),
            }
            mutex.as_ref().map(|(_, mutex)| mutex)
        };
        let mutex = mutex.expect("it was just made");
        let locked = mutex.lock().expect("nothing panics under the engine's locks");
        // SAFETY: the mutex is locked as long as the guard lives.
        Guard { value: unsafe { &mut *self.value.get() }, _locked: locked }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Lock")
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}
