//! The attempts of a task that has options, as the engine sees them.
//!
//! A [`Policy`] decides when an attempt begins, how long it may take, and whether there is another one. It knows neither
//! the function nor the value, and makes the attempts through [`Attempt`].

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::task::Context;

use crate::Error;
use crate::engine::task::header::{Header, PollOutcome};

/// What an attempt holds until it ends, or longer: blocking work takes it over.
pub(crate) type Held = Box<dyn Send>;

/// Makes the attempts of a task.
pub(crate) trait Policy: Send {
    /// Polls the task. If this returns a value or an error, the last attempt has ended, and the policy is as new.
    fn poll(&mut self, attempt: &mut Attempt<'_>, cx: &mut Context<'_>) -> PollOutcome;

    /// Drops what it holds; the attempt's future was dropped before.
    fn reset(&mut self);
}

/// The attempts of a task that is being polled.
pub(crate) struct Attempt<'a> {
    header: NonNull<Header>,
    /// Of the contents.
    owned: PhantomData<&'a mut ()>,
}

impl Attempt<'_> {
    /// Begins an attempt, which may take over `held`. The inputs, the clones and the function may panic.
    pub(crate) fn begin(&mut self, held: &mut Option<Held>) -> Result<(), Error> {
        // SAFETY: whoever made this owns the contents.
        unsafe { (self.header.as_ref().vtable.begin)(self.header, held) }
    }

    /// Polls the attempt; begins one if none has begun. It may panic.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> PollOutcome {
        // SAFETY: as above.
        unsafe { (self.header.as_ref().vtable.poll)(self.header, cx) }
    }

    /// Drops the attempt's future after an error or a panic. Returns whether another attempt can begin.
    pub(crate) fn end(&mut self) -> bool {
        // SAFETY: as above.
        unsafe { (self.header.as_ref().vtable.end)(self.header) }
    }
}

/// Polls a task whose policy makes its attempts, if it has one: the `run` of its vtable.
///
/// # Safety
///
/// The caller owns the contents.
pub(crate) unsafe fn run(header: NonNull<Header>, cx: &mut Context<'_>) -> PollOutcome {
    let mut attempt = Attempt { header, owned: PhantomData };
    // SAFETY: the policy belongs to the contents. What it calls uses the function, the future and the value only.
    let polled = match unsafe { policy(header) } {
        Some(policy) => policy.poll(&mut attempt, cx),
        None => attempt.poll(cx),
    };
    if !matches!(polled, PollOutcome::Pending) {
        // SAFETY: the caller owns the contents.
        unsafe { set_alarm(header, None) };
    }
    polled
}

/// Drops what the policy holds, and the alarm.
///
/// # Safety
///
/// The caller owns the contents.
pub(crate) unsafe fn reset(header: NonNull<Header>) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(policy) = policy(header) {
            policy.reset();
        }
        set_alarm(header, None);
    }
}

/// Keeps the alarm of a deadline until the task ends.
///
/// # Safety
///
/// The caller owns the contents.
pub(crate) unsafe fn set_alarm(header: NonNull<Header>, alarm: Option<Held>) {
    // SAFETY: the header stays while its contents are owned; the alarm belongs to them. The former one is dropped when no
    // reference to its place is left.
    let _former = unsafe {
        let deadline = header.as_ref().extras().and_then(|extras| extras.deadline.as_ref());
        deadline.and_then(|deadline| std::mem::replace(&mut *deadline.alarm.get(), alarm))
    };
}

/// # Safety
///
/// The caller owns the contents, and has no other reference to the policy.
unsafe fn policy<'a>(header: NonNull<Header>) -> Option<&'a mut dyn Policy> {
    // SAFETY: the header stays while its contents are owned; the rest is the caller's promise.
    unsafe { (*header.as_ref().extras()?.policy.get()).as_deref_mut().map(|policy| policy as _) }
}
