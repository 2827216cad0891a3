//! What a task still waits for before it can be queued.
//!
//! The count is the number of inputs that have not finished, plus holds: whoever wants to look at
//! the inputs of a waiting task takes a hold, and the task stays as it is until the hold is
//! released. The one who brings the count to zero owns the task.

use crate::engine::base::sync::{AtomicU32, Ordering};

/// Its submitter is still registering the inputs.
const BUILDING: u32 = 1 << 31;
/// It was doomed meanwhile: the submitter takes it from there.
const ABORTING: u32 = 1 << 30;
const NUMBER: u32 = ABORTING - 1;

pub(crate) struct Count(AtomicU32);

#[must_use]
pub(crate) enum Hold {
    /// The task waits, and does so until the hold is released.
    Held,
    /// It waits for nothing.
    Ready,
    /// Its submitter has been told to end it.
    Building,
}

#[must_use]
pub(crate) enum Built {
    Waiting,
    Ready,
    /// Doomed while it was built. The caller has a hold.
    Aborting,
}

impl Count {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::SeqCst) & (NUMBER | BUILDING) != 0
    }

    /// How many inputs it waits for, and holds there are.
    pub(crate) fn number(&self) -> usize {
        (self.0.load(Ordering::Relaxed) & NUMBER) as usize
    }

    /// Before the first of `inputs` inputs is registered.
    pub(crate) fn begin(&self, inputs: usize) {
        let inputs = u32::try_from(inputs).ok().filter(|n| *n < NUMBER / 2);
        let inputs = inputs.expect("a task takes at most 500 million inputs");
        self.0.store(BUILDING | inputs, Ordering::Release);
    }

    /// All inputs are registered, but for `finished` that need no waiting.
    pub(crate) fn built(&self, finished: usize) -> Built {
        let finished = finished as u32;
        let before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                let hold = u32::from(count & ABORTING != 0);
                Some((count & NUMBER) - finished + hold)
            })
            .unwrap_or_else(|count| count);
        if before & ABORTING != 0 {
            Built::Aborting
        } else if before & NUMBER == finished {
            Built::Ready
        } else {
            Built::Waiting
        }
    }

    pub(crate) fn hold(&self) -> Hold {
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            if count & BUILDING != 0 {
                Some(count | ABORTING)
            } else if count & NUMBER != 0 {
                Some(count + 1)
            } else {
                None
            }
        });
        match before {
            Ok(count) if count & BUILDING != 0 => Hold::Building,
            Ok(_) => Hold::Held,
            Err(_) => Hold::Ready,
        }
    }

    /// Takes a hold in order to look at the inputs only.
    pub(crate) fn hold_to_look(&self) -> bool {
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count & BUILDING == 0 && count & NUMBER != 0).then_some(count + 1)
            })
            .is_ok()
    }

    /// Takes `n` off. True where nothing is left: the caller owns the task.
    #[must_use]
    pub(crate) fn release(&self, n: u32) -> bool {
        let before = self.0.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(before & NUMBER >= n);
        before == n
    }
}
