//! The number of inputs that a task still waits for before it can be queued, and its depth below its first inputs.
//!
//! A thread that wants to read the inputs of a waiting task takes a *hold*, which counts like an input, so that the
//! task stays as it is until the hold is released. The thread that brings the count to zero owns the task.
//!
//! | word | meaning | next |
//! |---|---|---|
//! | `BUILDING`, n | the submitter is linking n inputs | `built`: waiting, or ready at zero |
//! | `BUILDING`, `ABORTING`, n | aborted meanwhile | `built`: the submitter gets a hold and unlinks the inputs |
//! | n > 0 | waits for n inputs and holds | `release`: each input that ends, each hold |
//! | 0 | waits for nothing | stays, unless a retry begins again |
//! | `KEPT`, 0 | has failed, and can run again | as before |
//!
//! `built` and the functions that take holds are sequentially consistent: a thread that raises the priority of a task and
//! then sees it being built leaves the rest to the submitter, which reads the priority after `built`.

use crate::engine::base::sync::{AtomicU32, Ordering};

/// The submitter is still linking the inputs.
const BUILDING: u32 = 1 << 31;
/// The task was aborted meanwhile: the submitter finishes that.
const ABORTING: u32 = 1 << 30;
/// The same bit of a task that isn't being built: it has failed, and kept its function, and the inputs or arguments.
const KEPT: u32 = ABORTING;
/// One level of depth. Set by the submitter; it has no part in the counting.
const LEVEL: u32 = 1 << 26;
const DEPTH: u32 = ABORTING - LEVEL;
const NUMBER: u32 = LEVEL - 1;

/// The most inputs of a task. The other half of what can be counted is for holds.
const MOST: u32 = NUMBER / 2;

/// The greatest depth. Tasks that are deeper have this one.
const DEEPEST: u8 = (DEPTH / LEVEL) as u8;

/// The depth of a task whose deepest input has this one.
pub(crate) fn above(depth: u8) -> u8 {
    (depth + 1).min(DEEPEST)
}

pub(crate) struct Count(AtomicU32);

#[must_use]
pub(crate) enum Hold {
    /// The task waits, and will until the hold is released.
    Held,
    /// It waits for nothing.
    Ready,
    /// The submitter will abort it.
    Building,
}

#[must_use]
pub(crate) enum Built {
    Waiting,
    Ready,
    /// Aborted while it was built. The caller has a hold.
    Aborting,
}

impl Count {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::SeqCst) & (NUMBER | BUILDING) != 0
    }

    /// The number of unfinished inputs and of holds; of all inputs while it's being built.
    pub(crate) fn unfinished(&self) -> usize {
        (self.0.load(Ordering::Relaxed) & NUMBER) as usize
    }

    /// The number of tasks on the longest path of inputs that leads to the task, as far as [`DEEPEST`]; 0 without inputs.
    pub(crate) fn depth(&self) -> u8 {
        ((self.0.load(Ordering::Relaxed) & DEPTH) / LEVEL) as u8
    }

    /// Records whether a task that fails can run again. Before its waiters word says that it has failed.
    pub(crate) fn set_kept(&self, kept: bool) {
        if kept {
            self.0.fetch_or(KEPT, Ordering::AcqRel);
        } else if self.is_kept() {
            self.0.fetch_and(!KEPT, Ordering::AcqRel);
        }
    }

    /// Whether a task that has failed can run again.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.load(Ordering::Acquire) & KEPT != 0
    }

    /// Sets the depth of a task that waits for nothing, before others know it.
    pub(crate) fn set_depth(&self, depth: u8) {
        self.0.store(u32::from(depth) * LEVEL, Ordering::Relaxed);
    }

    /// Begins building, before the first of `inputs` inputs is linked.
    pub(crate) fn begin(&self, inputs: usize) {
        let inputs = u32::try_from(inputs).ok().filter(|n| *n <= MOST);
        let inputs = inputs.expect("a task takes at most 33 million inputs");
        self.0.store(BUILDING | inputs, Ordering::Release);
    }

    /// Ends building: all inputs are linked, but for `finished` ones that had ended already.
    pub(crate) fn built(&self, finished: usize, depth: u8) -> Built {
        let finished = finished as u32;
        let depth = u32::from(depth) * LEVEL;
        let before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                let hold = u32::from(count & ABORTING != 0);
                Some(depth | ((count & NUMBER) - finished + hold))
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

    /// Takes a hold in order to read the inputs; false if there is nothing to hold.
    pub(crate) fn hold_if_waiting(&self) -> bool {
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count & BUILDING == 0 && count & NUMBER != 0).then_some(count + 1)
            })
            .is_ok()
    }

    /// Subtracts `n`. True if nothing is left: the caller owns the task.
    #[must_use]
    pub(crate) fn release(&self, n: u32) -> bool {
        let before = self.0.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(before & NUMBER >= n);
        // Not while the task is being built, which the submitter ends.
        before & !DEPTH == n
    }
}
