//! The number of results that code may take at once, without waiting, before it gives way to others.
//!
//! An await whose result is there already doesn't suspend the task. A task that awaits nothing else would never leave
//! its poll: it couldn't be cancelled, its timeout couldn't end it, and no other task of its worker would run. So each poll
//! of a task has a budget, from which each such result takes one. Without a budget, the awaitable *gives way*: it wakes
//! the task and is pending.
//!
//! An awaitable gives way once for a result: it notes that it did, and has its result the next time. So nothing that
//! polls it again is kept from it, whatever came before it in the same poll (a timeout behind a busy loop), and whether
//! the poll of the task has ended meanwhile or not (a `block_on` inside the task).
//!
//! Outside a task, where the engine doesn't see polls begin and end, the results of each thread are counted.

use std::cell::Cell;
use std::mem;
use std::task::Waker;

use crate::engine::base::sync::thread_local;
use crate::engine::base::user_code::wake_by_ref;
use crate::engine::core::context;

/// The results of one poll. Large enough that giving way, which takes about as long as ten results, is lost among them;
/// small enough to take a few microseconds. The same number as tokio's.
pub(crate) const READY_IN_A_ROW: u32 = 128;

/// The results that give way one after the other outside a task. A single one is not enough for `FuturesUnordered`, which
/// polls its other futures until two of them have woken themselves.
const GIVE_WAY_IN_A_ROW: u32 = 2;

thread_local! {
    /// The results outside of tasks, up to those that give way.
    static OUTSIDE: Cell<u32> = const { Cell::new(0) };
}

/// Takes a result for an awaitable that notes in `gave_way` whether it has given way. If false, the waker was woken, and the
/// awaitable is pending.
pub(crate) fn take_or_give_way(gave_way: &mut bool, waker: &Waker, seeded: bool) -> bool {
    if context::take_from_budget() || mem::take(gave_way) || may_exceed(waker, seeded) {
        return true;
    }
    *gave_way = true;
    wake_by_ref(waker);
    false
}

/// Whether a result may be taken though the poll has no budget left, or outside of polls. If false, the caller wakes the
/// waker and is pending.
///
/// `seeded` says whether the result is that of a seeded client, whose tasks run on the thread that waits for them. Outside
/// of its tasks nothing gives way, so that what it does doesn't depend on what that thread did before.
#[cold]
pub(crate) fn may_exceed(waker: &Waker, seeded: bool) -> bool {
    // A waker without data wakes nothing: its owner polls once, to see whether there is a result.
    waker.data().is_null() || !context::is_in_poll() && (seeded || take_outside())
}

fn take_outside() -> bool {
    let count = OUTSIDE.get();
    let is_last = count + 1 == READY_IN_A_ROW + GIVE_WAY_IN_A_ROW;
    OUTSIDE.set(if is_last { 0 } else { count + 1 });
    count < READY_IN_A_ROW
}
