//! The state word of a task: what it is doing, who may touch it, and how many hold it.
//!
//! | from | to | by | method |
//! |---|---|---|---|
//! | waiting, counted in [`Count`](crate::engine::task::count::Count) | queued | the last input to finish | (`QUEUED` is set from birth) |
//! | queued | running | the worker that pops it | [`State::claim`] |
//! | queued, suspended | running | who ends it early | [`State::claim_to_end`] |
//! | running | suspended, queued | its worker, after a poll | [`State::suspend`] |
//! | suspended | queued | a waker | [`State::wake`] |
//! | running | done | its worker | [`State::finish`] |
//! | done | waiting | a retry, while it alone holds the failed task | [`State::rewind`] |
//!
//! Whoever sets `RUNNING` owns the contents of the task until it clears it again.

use crate::engine::base::sync::{AtomicU64, Ordering};

/// The task may be claimed for running. It's in a queue, or about to be put there: by its
/// submitter, by the last input it waits for, by the waker that set this, or, while `RUNNING` is
/// set too, by the worker that runs it. One set bit is one queue entry; a task that was put a second
/// time into a queue of higher priority, or that was ended while queued, leaves an entry that finds
/// nothing to claim.
pub(crate) const QUEUED: u64 = 1 << 0;

/// Somebody owns the contents: a worker in a poll, or who ends the task.
pub(crate) const RUNNING: u64 = 1 << 1;

/// The outcome is there and the engine has let go. Who waits for the outcome reads the waiters
/// word, which closes a moment earlier.
pub(crate) const DONE: u64 = 1 << 2;

/// The function was called at least once in this life of the task.
pub(crate) const STARTED: u64 = 1 << 3;

/// The value was moved out.
pub(crate) const TAKEN: u64 = 1 << 4;

/// The task goes on when nobody needs it.
pub(crate) const DETACHED: u64 = 1 << 5;

/// The task may be found by its key, so a user can appear out of nowhere, under the store's lock.
pub(crate) const KEYED: u64 = 1 << 6;

/// Suspended between attempts, or before the first, for a limit or a delay: no code of the user's
/// is under way. Set and cleared by the task itself.
pub(crate) const PAUSED: u64 = 1 << 7;

/// The task is in its client's list of started tasks.
pub(crate) const OWNED: u64 = 1 << 8;

/// The task awaits another, or has done so in the poll before. Set before it enters the other's list of
/// waiters.
pub(crate) const AWAITS: u64 = 1 << 9;

/// Somebody has seen, or been told of, the task's error.
pub(crate) const OBSERVED: u64 = 1 << 10;

/// The task is being made to run once more, by a retry, or waits for inputs after that. Entries and wakers
/// of its former life may still be about, and are to find nothing to claim. In its first life a waiting task
/// has none.
pub(crate) const REOPENING: u64 = 1 << 11;

/// The task may have a second entry in the queues, since its priority was raised while it was queued. The
/// queue that links its tasks holds none of these: a task can be linked only once. Set before that second
/// entry is made, and never cleared.
pub(crate) const REQUEUED: u64 = 1 << 12;

/// There are callbacks among its waiters. Set and read under the lock of the waiters word, or by who closed it.
pub(crate) const CALLBACKS: u64 = 1 << 13;

/// The observer counts the task. Like the next one decided when the task is made, or when the observer comes
/// upon one that was there before it.
pub(crate) const COUNTED: u64 = 1 << 14;

/// The observer is told what happens to the task, which has a number and may be found by it, so a reference can
/// appear out of nowhere.
pub(crate) const WATCHED: u64 = 1 << 15;

/// One memory reference: of the engine, of a queue entry, of a waker. All users together hold one.
pub(crate) const REF: u64 = 1 << 16;
const REF_MASK: u64 = (INTEREST - 1) & !(REF - 1);

/// One user: a handle, a `Ref`, or an input of another task.
pub(crate) const INTEREST: u64 = 1 << 39;

/// So many are a leak in a loop. As with `Arc`, half of what can be counted.
const TOO_MANY_REFS: u64 = 1 << 22;
const TOO_MANY_INTERESTS: u64 = 1 << 24;

pub(crate) fn refs(state: u64) -> u64 {
    (state & REF_MASK) / REF
}

pub(crate) fn interests(state: u64) -> u64 {
    state / INTEREST
}

pub(crate) struct State(AtomicU64);

/// What became of a claim made in order to end a task.
#[must_use]
pub(crate) enum ClaimToEnd {
    /// The caller owns the contents and holds a reference of the engine's.
    Owned,
    /// It's being polled: its worker will look after it.
    Running,
    /// It has ended.
    Done,
}

#[must_use]
pub(crate) enum Suspend {
    Suspended,
    /// Woken during the poll: the caller puts it into a queue.
    Woken,
}

impl State {
    /// A new task: queued or waiting, with one user and the engine's reference.
    pub(crate) fn new(flags: u64) -> Self {
        Self(AtomicU64::new(flags | QUEUED | INTEREST | (2 * REF)))
    }

    /// A task that is born with its outcome.
    pub(crate) fn finished() -> Self {
        Self(AtomicU64::new(DONE | INTEREST | REF))
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, flag: u64) -> u64 {
        self.0.fetch_or(flag, Ordering::AcqRel)
    }

    pub(crate) fn clear(&self, flag: u64) -> u64 {
        self.0.fetch_and(!flag, Ordering::AcqRel)
    }

    /// Claims a task that came out of a queue, and returns the state before. `None` where the entry
    /// is stale.
    pub(crate) fn claim(&self) -> Option<u64> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & (QUEUED | RUNNING | DONE | REOPENING) == QUEUED)
                    .then_some(state & !QUEUED | RUNNING | STARTED)
            })
            .ok()
    }

    /// Claims a task in order to end it; where it's running, tells its worker to look.
    pub(crate) fn claim_to_end(&self) -> ClaimToEnd {
        let claimed = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            if state & DONE != 0 {
                None
            } else if state & RUNNING != 0 {
                Some(state | QUEUED)
            } else if state & QUEUED != 0 {
                // The entry in the queue keeps its reference and goes stale.
                Some((state & !QUEUED | RUNNING) + REF)
            } else {
                Some(state | RUNNING)
            }
        });
        match claimed {
            Ok(state) if state & RUNNING != 0 => ClaimToEnd::Running,
            Ok(_) => ClaimToEnd::Owned,
            Err(_) => ClaimToEnd::Done,
        }
    }

    /// The task waits for nothing any more. Returns the state before.
    pub(crate) fn end_reopening(&self) -> u64 {
        let state = self.load();
        if state & REOPENING != 0 {
            self.clear(REOPENING);
        }
        state
    }

    /// True where the caller is to put the task into a queue.
    pub(crate) fn wake(&self) -> bool {
        if self.0.load(Ordering::Relaxed) & DONE != 0 {
            return false;
        }
        self.0.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | RUNNING | DONE) == 0
    }

    /// Gives up the contents after a poll that is not the last.
    pub(crate) fn suspend(&self) -> Suspend {
        let state = self.0.fetch_and(!RUNNING, Ordering::AcqRel);
        if state & QUEUED != 0 { Suspend::Woken } else { Suspend::Suspended }
    }

    /// Gives up the contents for good, and, where the task has users to keep it, the engine's
    /// reference with them. False where it has none: the caller goes on owning both.
    #[must_use]
    pub(crate) fn finish(&self) -> bool {
        let finished = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            debug_assert!(state & (RUNNING | DONE) == RUNNING && refs(state) > 0);
            let state = state & !RUNNING | DONE;
            Some(if interests(state) > 0 { state - REF } else { state })
        });
        finished.is_ok_and(|before| interests(before) > 0)
    }

    /// Makes a failed task one that waits again, and that is held until [`State::let_go`]. The caller is a
    /// user and the only one who rewinds.
    pub(crate) fn rewind(&self) {
        const PAST: u64 = DONE | STARTED | OWNED | PAUSED | AWAITS | OBSERVED | CALLBACKS;
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some((state & !PAST | QUEUED | REOPENING) + REF)
        });
    }

    pub(crate) fn add_ref(&self) {
        let state = self.0.fetch_add(REF, Ordering::Relaxed);
        if refs(state) > TOO_MANY_REFS {
            too_many("references to");
        }
    }

    /// Adds a reference to a task that may be about to be freed, and is in memory for now; false where it is.
    pub(crate) fn try_add_ref(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (refs(state) > 0).then_some(state + REF)
            })
            .is_ok()
    }

    /// True where this was the last reference: the caller frees the task.
    #[must_use]
    pub(crate) fn drop_ref(&self) -> bool {
        let state = self.0.fetch_sub(REF, Ordering::AcqRel);
        debug_assert!(refs(state) > 0);
        refs(state) == 1
    }

    /// Adds a user to a task that the caller keeps in memory and that may have no user any more.
    pub(crate) fn revive(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            // All users together have one reference.
            Some(state + INTEREST + if interests(state) == 0 { REF } else { 0 })
        });
    }

    pub(crate) fn add_interest(&self) {
        let state = self.0.fetch_add(INTEREST, Ordering::Relaxed);
        if interests(state) > TOO_MANY_INTERESTS {
            too_many("handles of");
        }
    }

    /// Adds a user to a task found by its key, unless its last one is gone or its value moved out.
    pub(crate) fn try_add_interest(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                if interests(state) > TOO_MANY_INTERESTS {
                    too_many("handles of");
                }
                (interests(state) > 0 && state & TAKEN == 0).then_some(state + INTEREST)
            })
            .is_ok()
    }

    /// Returns the state before.
    pub(crate) fn drop_interest(&self) -> u64 {
        let state = self.0.fetch_sub(INTEREST, Ordering::AcqRel);
        debug_assert!(interests(state) > 0);
        state
    }

    /// Drops a user that isn't the last one; false where it is.
    pub(crate) fn drop_interest_unless_last(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (interests(state) > 1).then_some(state - INTEREST)
            })
            .is_ok()
    }

    /// Claims the value for the caller, who is a user, if there is no other one.
    pub(crate) fn take(&self) -> bool {
        let state = self.load();
        if Self::is_alone(state) {
            // Nobody else has the task, so nobody else changes the state.
            self.0.store(state | TAKEN, Ordering::Relaxed);
            return state & TAKEN == 0;
        }
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (interests(state) == 1 && state & TAKEN == 0).then_some(state | TAKEN)
            })
            .is_ok()
    }

    /// Whether the caller, a user of a finished task, is all that holds it.
    pub(crate) fn is_alone(state: u64) -> bool {
        let kind = state & (DONE | KEYED | DETACHED | WATCHED);
        kind == DONE && interests(state) == 1 && refs(state) == 1
    }
}

/// Going on would let the count wrap around and free what is in use.
#[cold]
fn too_many(what: &str) -> ! {
    log::error!("ensue: too many {what} one task: aborting");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_is_all_that_holds_a_finished_task() {
        let state = State::finished().load();
        assert!(State::is_alone(state));
        for other in [state | KEYED, state | DETACHED, state & !DONE, state + INTEREST, state + REF]
        {
            assert!(!State::is_alone(other), "{other:x}");
        }
    }

    #[test]
    fn the_last_user_is_told_so() {
        let state = State::new(0);
        state.add_interest();
        assert!(state.drop_interest_unless_last());
        assert!(!state.drop_interest_unless_last());
        assert_eq!(interests(state.load()), 1);
    }

    #[test]
    fn a_value_is_taken_once() {
        let state = State::finished();
        assert_eq!([state.take(), state.take(), state.take()], [true, false, false]);
    }
}
