//! A mutex without poisoning: nothing that can panic runs under the engine's locks.

use std::sync::PoisonError;

use crate::engine::base::sync::{Mutex, MutexGuard};

#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
