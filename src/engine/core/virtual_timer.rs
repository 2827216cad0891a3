//! Timers in the virtual time of a seeded client.

use std::task::Waker;
use std::time::Duration;

use crate::engine::core::CoreRef;

/// A timer of a seeded client's clock, which is removed on drop.
pub(crate) struct VirtualTimer {
    core: CoreRef,
    /// `None` for a time too far away to be told, which never comes.
    deadline: Option<Duration>,
    number: Option<u64>,
}

impl VirtualTimer {
    pub(crate) fn new(core: CoreRef, duration: Duration) -> Self {
        let deadline =
            core.seeded.as_ref().and_then(|seeded| seeded.clock.deadline_after(duration));
        Self { core, deadline, number: None }
    }

    /// Registers the waker, or replaces the former one. True if the time is over.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        match (self.deadline, &self.core.seeded) {
            (Some(deadline), Some(seeded)) => {
                seeded.clock.register(deadline, &mut self.number, waker)
            }
            _ => false,
        }
    }
}

impl Drop for VirtualTimer {
    fn drop(&mut self) {
        if let (Some(deadline), Some(number), Some(seeded)) =
            (self.deadline, self.number, &self.core.seeded)
        {
            seeded.clock.remove(deadline, number);
        }
    }
}
