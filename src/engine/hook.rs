//! What happens to tasks, told to whoever listens.
//!
//! While nobody does, a moment costs one relaxed load of a word that hardly ever changes.

use std::sync::atomic::{AtomicBool, Ordering};

use super::header::TaskRef;
use super::lock::Lock;
use super::release::hold;
use crate::Status;

/// Is told of a task's new status, on the thread where it changes, and must be quick. It's dropped when it
/// returns false.
pub(crate) type Listener = Box<dyn FnMut(TaskRef<'_>, Status) -> bool + Send>;

#[derive(Default)]
pub(crate) struct Hook {
    on: AtomicBool,
    listeners: Lock<Vec<Listener>>,
}

impl Hook {
    pub(crate) fn listen(&self, listener: Listener) {
        let mut listeners = self.listeners.lock();
        listeners.push(listener);
        self.on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, task: TaskRef<'_>, status: impl FnOnce() -> Status) {
        if self.is_on() {
            self.tell_all(task, status());
        }
    }

    #[cold]
    fn tell_all(&self, task: TaskRef<'_>, status: Status) {
        // Waking who listens may bring about more to tell: that has to wait for the lock.
        hold(|| {
            let mut listeners = self.listeners.lock();
            listeners.retain_mut(|listener| listener(task, status));
            self.on.store(!listeners.is_empty(), Ordering::Relaxed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_at_first() {
        assert!(!Hook::default().is_on());
    }
}
