//! The state word of a task: what the task is doing, which thread owns its contents, and how many references there are.
//!
//! | from | to | by | method |
//! |---|---|---|---|
//! | waiting, counted in [`Count`](crate::engine::task::count::Count) | queued | the last input to finish | (`QUEUED` is set from birth) |
//! | queued | running | the worker that pops it | [`State::claim`] |
//! | queued, suspended | running | the thread that aborts it | [`State::claim_to_end`] |
//! | running | suspended, queued | its worker, after a poll | [`State::suspend`] |
//! | suspended | running, suspended | a search for cycles, which looks at it | [`State::hold_suspended`], [`State::suspend`] |
//! | suspended | queued | a waker | [`State::wake`] |
//! | running | done | its worker | [`State::finish`] |
//! | done | waiting | a retry, which excludes other retries | [`State::rewind`] |
//!
//! The thread that sets `RUNNING` owns the contents of the task until it clears the bit again. From the low end the
//! word has flags, the number of memory references ([`REF`]), and the number of interests ([`INTEREST`]), so that one
//! atomic operation can change a flag and a count together. What a count has beyond its bits is kept in a
//! [table](crate::engine::task::surplus).

use std::ptr;

use crate::engine::base::sync::{AtomicU64, Ordering};
use crate::engine::task::surplus;

/// The task may be claimed for running. It's in a queue, or about to be queued: by its submitter, by the last
/// input it waits for, by the waker that set this bit, or, while `RUNNING` is set too, by the worker that runs it.
/// One set bit is one queue entry. A task that was queued a second time, at a higher priority, or that was aborted
/// while queued leaves a stale entry, which finds nothing to claim.
pub(crate) const QUEUED: u64 = 1 << 0;

/// A thread owns the contents: a worker during a poll, or the thread that aborts the task.
pub(crate) const RUNNING: u64 = 1 << 1;

/// The outcome is stored and the engine has dropped its reference. Waiters don't read this bit but the waiters word,
/// which closes a moment earlier.
pub(crate) const DONE: u64 = 1 << 2;

/// The function was called at least once in this life of the task.
pub(crate) const STARTED: u64 = 1 << 3;

/// The value was moved out.
pub(crate) const TAKEN: u64 = 1 << 4;

/// The task runs on when its last interest is dropped.
pub(crate) const DETACHED: u64 = 1 << 5;

/// The task can be found by its key, so an interest can be added at any time, under the lock of the store.
pub(crate) const KEYED: u64 = 1 << 6;

/// Suspended between attempts, or before the first, for a limit or a delay: no user code has started that must be
/// let finish. Set and cleared by the task itself.
pub(crate) const PAUSED: u64 = 1 << 7;

/// The task is in its engine's table of owned tasks.
pub(crate) const OWNED: u64 = 1 << 8;

/// The task has begun to await another one. Set before it's linked into the other's list of waiters, and never cleared in
/// this life of the task. Without it the task waits for no task but its inputs, so no cycle leads through it.
pub(crate) const AWAITS: u64 = 1 << 9;

/// The task's error was observed: returned to a caller, or passed on to a dependent.
pub(crate) const OBSERVED: u64 = 1 << 10;

/// A retry is making the task run again, or it waits for inputs after that. Queue entries and wakers of its former
/// life may still exist, and must find nothing to claim. (In its first life a waiting task has none.)
pub(crate) const REOPENING: u64 = 1 << 11;

/// The task may have a second queue entry, because its priority was raised while it was queued. The injector links
/// the tasks themselves, so it can hold a task only once and takes none of these. Set before the second entry is
/// made, and never cleared.
pub(crate) const REQUEUED: u64 = 1 << 12;

/// There are callbacks among its waiters. Set and read under the lock of the waiters word, or by the thread that
/// closed it.
pub(crate) const CALLBACKS: u64 = 1 << 13;

/// The observer counts the task. Like `WATCHED`, set when the task is made, or when the observer meets a task that is
/// older than itself.
pub(crate) const COUNTED: u64 = 1 << 14;

/// The observer is notified of the task's events. Such a task has a number and can be found by it, so a reference can
/// be added at any time.
pub(crate) const WATCHED: u64 = 1 << 15;

/// A part of a count is in the table of surpluses. Both counts are more than 1 then.
const SURPLUS: u64 = 1 << 16;

/// A search for cycles could not tell whether the task waits: it was in a poll or in a queue, or had several wakers. Its
/// own thread searches once it's suspended.
pub(crate) const SEARCH: u64 = 1 << 17;

/// One memory reference: of the engine, of a queue entry, of a waker. All interests together hold one.
pub(crate) const REF: u64 = 1 << 18;
const REF_MASK: u64 = (INTEREST - 1) & !(REF - 1);

/// One interest: a handle, a `Ref`, or an input of another task.
pub(crate) const INTEREST: u64 = 1 << 40;

/// A count above this gives a [`PART`] to the table: half of what the bits of references can count, so that threads
/// that exceed it at once don't overflow them.
const MANY: u64 = 1 << 21;

/// The part of a count that is moved at a time.
const PART: u64 = 1 << 20;

/// A count below this takes a part back. There are fewer threads than this, so it doesn't come to zero meanwhile.
const FEW: u64 = 1 << 19;

pub(crate) fn refs(state: u64) -> u64 {
    (state & REF_MASK) / REF
}

pub(crate) fn interests(state: u64) -> u64 {
    state / INTEREST
}

/// The count whose unit this is: [`REF`] or [`INTEREST`].
fn count(state: u64, unit: u64) -> u64 {
    if unit == REF { refs(state) } else { interests(state) }
}

pub(crate) struct State(AtomicU64);

/// The result of a claim that is to abort a task.
#[must_use]
pub(crate) enum ClaimToEnd {
    /// The caller owns the contents and holds a reference of the engine's.
    Owned,
    /// It's being polled: its worker aborts it after the poll.
    Running,
    /// It has ended.
    Done,
}

#[must_use]
pub(crate) enum Suspend {
    Suspended,
    /// It still runs: [`SEARCH`] is set, and the caller had not said that it will search.
    Search,
    /// Woken during the poll: the caller puts it into a queue.
    Woken,
}

impl State {
    /// A new task: queued or waiting, with one interest and the engine's reference.
    pub(crate) fn new(flags: u64) -> Self {
        Self(AtomicU64::new(flags | QUEUED | INTEREST | (2 * REF)))
    }

    /// A task that is made with its outcome.
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
        self.claim_and_set(RUNNING | STARTED)
    }

    /// Claims a queued task that is to be ended without a poll. False if another thread has claimed it.
    pub(crate) fn claim_unpolled(&self) -> bool {
        self.claim_and_set(RUNNING).is_some()
    }

    fn claim_and_set(&self, flags: u64) -> Option<u64> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & (QUEUED | RUNNING | DONE | REOPENING) == QUEUED)
                    .then_some(state & !QUEUED | flags)
            })
            .ok()
    }

    /// Claims a task that is to be aborted. If it's running, sets `QUEUED`, so that its worker checks after the poll.
    pub(crate) fn claim_to_end(&self) -> ClaimToEnd {
        let claimed = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            if state & DONE != 0 {
                None
            } else if state & RUNNING != 0 {
                Some(state | QUEUED)
            } else if state & QUEUED != 0 {
                // The entry in the queue keeps its reference and goes stale. After a retry there may be two.
                Some((state & !QUEUED | RUNNING | REQUEUED) + REF)
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

    /// Ends a reopening: the task waits for nothing any more. Returns the previous state.
    pub(crate) fn end_reopening(&self) -> u64 {
        let state = self.load();
        if state & REOPENING != 0 {
            self.clear(REOPENING);
        }
        state
    }

    /// Wakes the task. True if the caller must queue it.
    pub(crate) fn wake(&self) -> bool {
        if self.0.load(Ordering::Relaxed) & DONE != 0 {
            return false;
        }
        self.0.fetch_or(QUEUED, Ordering::AcqRel) & (QUEUED | RUNNING | DONE) == 0
    }

    /// Releases the contents after a poll that isn't the last. A caller that `searches` for cycles after that has a
    /// reference of its own, since the task may end at once.
    pub(crate) fn suspend(&self, searches: bool) -> Suspend {
        let suspended = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (searches || state & (SEARCH | QUEUED) != SEARCH).then_some(state & !RUNNING)
        });
        match suspended {
            Ok(state) if state & QUEUED != 0 => Suspend::Woken,
            Ok(_) => Suspend::Suspended,
            Err(_) => Suspend::Search,
        }
    }

    /// Takes the contents of a suspended task, so that it isn't polled until the caller suspends it again; false if it's
    /// not suspended. The caller gets the engine's reference.
    pub(crate) fn hold_suspended(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & (QUEUED | RUNNING | DONE) == 0).then_some(state | RUNNING)
            })
            .is_ok()
    }

    /// Records that the task has begun to await another one.
    pub(crate) fn set_awaits(&self) {
        // The load spares a task that awaits often the read-modify-write. Sequentially consistent, as is `has_awaited`: of
        // two tasks that await each other, at least one sees the bit of the other.
        if self.load() & AWAITS == 0 {
            self.0.fetch_or(AWAITS, Ordering::SeqCst);
        }
    }

    /// Makes the next suspension of the task search for cycles, and returns the state before.
    pub(crate) fn set_search(&self) -> u64 {
        self.0.fetch_or(SEARCH, Ordering::SeqCst)
    }

    /// Whether the task is suspended, and a search for cycles waits for it to have fewer wakers.
    pub(crate) fn is_search_due(&self) -> bool {
        self.0.load(Ordering::SeqCst) & (SEARCH | RUNNING | QUEUED | DONE) == SEARCH
    }

    /// Whether the task has begun to await another one.
    pub(crate) fn has_awaited(&self) -> bool {
        self.0.load(Ordering::SeqCst) & AWAITS != 0
    }

    /// Releases the contents for good and, if the task has interests that keep it, the engine's reference. False if it
    /// has none: the caller keeps both.
    #[must_use]
    pub(crate) fn finish(&self) -> bool {
        let finished = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            debug_assert!(state & (RUNNING | DONE) == RUNNING && refs(state) > 0);
            let state = state & !RUNNING | DONE;
            Some(if interests(state) > 0 { state - REF } else { state })
        });
        finished.is_ok_and(|before| interests(before) > 0)
    }

    /// Turns a failed task into one that waits again, reopening until [`State::end_reopening`]. The caller has an
    /// interest and excludes other retries.
    pub(crate) fn rewind(&self) {
        const PAST: u64 = DONE | STARTED | OWNED | PAUSED | AWAITS | SEARCH | OBSERVED | CALLBACKS;
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            Some((state & !PAST | QUEUED | REOPENING) + REF)
        });
    }

    pub(crate) fn add_ref(&self) {
        let state = self.0.fetch_add(REF, Ordering::Relaxed);
        self.added(state, REF);
    }

    /// Called after a count was increased, with the state before that.
    fn added(&self, before: u64, unit: u64) {
        if count(before, unit) > MANY {
            self.give_part(unit);
        }
    }

    /// Called after a count was decreased, with the state before that. The task may be freed already.
    fn subtracted(&self, before: u64, unit: u64) {
        if before & SURPLUS != 0 && count(before, unit) < FEW {
            // SAFETY: the state before says that a part of a count is in the table.
            unsafe { Self::take_part_back(self, unit) };
        }
    }

    /// Moves a part of a count to the table, unless another thread has done so.
    #[cold]
    fn give_part(&self, unit: u64) {
        surplus::lock(|table| {
            if count(self.load(), unit) > MANY {
                table.add((ptr::from_ref(self).addr(), unit));
                self.set(SURPLUS);
                self.0.fetch_sub(PART * unit, Ordering::AcqRel);
            }
        });
    }

    /// Moves a part of a count back from the table, unless another thread has done so.
    ///
    /// # Safety
    ///
    /// The pointer is that of a state, which may have been freed after another thread took the last part back.
    #[cold]
    unsafe fn take_part_back(this: *const Self, unit: u64) {
        surplus::lock(|table| {
            let (part, other) = ((this.addr(), unit), (this.addr(), REF + INTEREST - unit));
            if !table.has(part) {
                return;
            }
            // SAFETY: as long as the table has a part of one of its counts, a task isn't freed.
            let this = unsafe { &*this };
            if count(this.load(), unit) < FEW {
                this.0.fetch_add(PART * unit, Ordering::AcqRel);
                table.remove(part);
                if !table.has(part) && !table.has(other) {
                    this.clear(SURPLUS);
                }
            }
        });
    }

    /// Adds a reference to a task that is in memory for now, unless it's about to be freed.
    pub(crate) fn try_add_ref(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (refs(state) > 0).then_some(state + REF)
            })
            .inspect(|before| self.added(*before, REF))
            .is_ok()
    }

    /// Drops a reference. True if it was the last: the caller frees the task.
    #[must_use]
    pub(crate) fn drop_ref(&self) -> bool {
        let state = self.0.fetch_sub(REF, Ordering::AcqRel);
        debug_assert!(refs(state) > 0);
        self.subtracted(state, REF);
        refs(state) == 1
    }

    /// Adds an interest to a task that the caller keeps in memory and that may have none any more.
    pub(crate) fn revive(&self) {
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            // All interests together have one reference.
            Some(state + INTEREST + if interests(state) == 0 { REF } else { 0 })
        });
        let _ = before.inspect(|before| self.added(*before, INTEREST));
    }

    pub(crate) fn add_interest(&self) {
        let state = self.0.fetch_add(INTEREST, Ordering::Relaxed);
        self.added(state, INTEREST);
    }

    /// Adds an interest to a task that was found by its key, unless its last one was dropped or its value moved out.
    pub(crate) fn try_add_interest(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (interests(state) > 0 && state & TAKEN == 0).then_some(state + INTEREST)
            })
            .inspect(|before| self.added(*before, INTEREST))
            .is_ok()
    }

    /// Drops an interest and returns the previous state.
    pub(crate) fn drop_interest(&self) -> u64 {
        let state = self.0.fetch_sub(INTEREST, Ordering::AcqRel);
        debug_assert!(interests(state) > 0);
        self.subtracted(state, INTEREST);
        state
    }

    /// Drops an interest unless it's the last one; false if it is.
    pub(crate) fn drop_interest_unless_last(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (interests(state) > 1).then_some(state - INTEREST)
            })
            .inspect(|before| self.subtracted(*before, INTEREST))
            .is_ok()
    }

    /// Claims the value for the caller, which has an interest, if that is the only one.
    pub(crate) fn take(&self) -> bool {
        let state = self.load();
        if Self::is_alone(state) {
            // No other thread can reach the task, so a plain store can't lose a change.
            self.0.store(state | TAKEN, Ordering::Relaxed);
            return state & TAKEN == 0;
        }
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (interests(state) == 1 && state & TAKEN == 0).then_some(state | TAKEN)
            })
            .is_ok()
    }

    /// Whether the caller's interest is all that holds a finished task.
    pub(crate) fn is_alone(state: u64) -> bool {
        let kind = state & (DONE | KEYED | DETACHED | WATCHED);
        kind == DONE && interests(state) == 1 && refs(state) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_means_one_interest_and_no_other_way_to_the_task() {
        let state = State::finished().load();
        assert!(State::is_alone(state));
        for other in [state | KEYED, state | DETACHED, state & !DONE, state + INTEREST, state + REF]
        {
            assert!(!State::is_alone(other), "{other:x}");
        }
    }

    #[test]
    fn the_last_interest_is_not_dropped_unseen() {
        let state = State::new(0);
        state.add_interest();
        assert!(state.drop_interest_unless_last());
        assert!(!state.drop_interest_unless_last());
        assert_eq!(interests(state.load()), 1);
    }

    /// Counts up to five million and down again: more than the bits of a count hold.
    fn count_up_and_down(one_more: impl Fn(&State), one_less: impl Fn(&State) -> bool) {
        const N: u64 = 5 << 20;
        let state = State::finished();
        for n in 0..N {
            one_more(&state);
            assert!(!State::is_alone(state.load()), "after {n}");
        }
        assert!(state.load() & SURPLUS != 0 && surplus::lock(|table| table.len()) > 0);
        for n in 0..N {
            assert!(!one_less(&state), "{n} of {N} were dropped, and it's the last");
        }
        assert_eq!(state.load() & !TAKEN, State::finished().load());
    }

    #[test]
    fn references_are_counted_beyond_their_bits() {
        count_up_and_down(State::add_ref, State::drop_ref);
        count_up_and_down(|state| assert!(state.try_add_ref()), State::drop_ref);
    }

    #[test]
    fn interests_are_counted_beyond_their_bits() {
        count_up_and_down(State::add_interest, |state| interests(state.drop_interest()) == 1);
        count_up_and_down(State::revive, |state| !state.drop_interest_unless_last());
        let try_add = |state: &State| assert!(state.try_add_interest() && !state.take());
        count_up_and_down(try_add, |state| interests(state.drop_interest()) == 1);
    }

    #[test]
    fn both_counts_may_be_large_at_once_on_several_threads() {
        const N: u64 = 3 << 20;
        let state = &State::finished();
        let run = |code: fn(&State)| {
            std::thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(move || (0..N).for_each(|_| code(state)))));
            });
        };
        run(|state| {
            state.add_ref();
            state.add_interest();
        });
        run(|state| {
            state.drop_interest();
            assert!(!state.drop_ref());
        });
        assert_eq!(state.load(), State::finished().load());
    }

    #[test]
    fn a_value_is_taken_once() {
        let state = State::finished();
        assert_eq!([state.take(), state.take(), state.take()], [true, false, false]);
    }
}
