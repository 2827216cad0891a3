//! The cell of a task: one allocation for its header and its contents.
//!
//! The contents are in one of these stages, which use the same memory one after the other:
//!
//! | `Stage` | contents | next |
//! |---|---|---|
//! | `Waiting` | the function and its inputs | `Running` by the first attempt; `Empty` by an abort that can't be retried |
//! | `Running` | the future, pinned, and what the next attempt needs | `Value`, `Again` or `Empty` when the attempt ends |
//! | `Again` | the function and its arguments, after an attempt that can be repeated | `Running` by the next one; `Empty` when they're dropped |
//! | `Value` | the value | `Empty` when it's moved out, or the last interest is dropped |
//! | `Empty` | nothing | final |
//!
//! While a task waits, any thread with a hold may read its edges. From the claim to the end of the poll the contents
//! belong to the thread that set `RUNNING`. Once the task has succeeded, every interest may read the value.
//!
//! Every call site of a verb compiles the generic code here anew for its own types, so what can be done without the types
//! is done in functions that have none.

use std::alloc::Layout;
use std::any::{TypeId, type_name};
use std::cell::UnsafeCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use crate::Error;
use crate::engine::core::engine_refs;
use crate::engine::data::cell_pool;
use crate::engine::life::drop_task;
use crate::engine::task::attempt::{self, Held};
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{Header, PollOutcome, VTable, VisitEdge};
use crate::engine::task::state::WATCHED;

/// What a task does: a function, its inputs, and how they become a value. It's a type without values.
pub(crate) trait Body: 'static {
    /// The function as it was submitted; the task is named after its type.
    type Function: Send + 'static;
    type Inputs: Waits;
    type Future: Future + Send + 'static;
    type Value: Send + 'static;
    /// What is kept of the function and the arguments while an attempt runs.
    type Kept: Send + 'static;

    /// Copies what another attempt would need.
    fn keep(function: &Self::Function, args: &ArgsOf<Self>) -> Self::Kept;

    /// Calls the function. The future may take over what the attempt holds.
    fn start(function: Self::Function, args: ArgsOf<Self>, held: &mut Option<Held>)
    -> Self::Future;

    /// Tells what an output of the future means.
    fn outcome(output: <Self::Future as Future>::Output) -> Result<Self::Value, Error>;

    /// Returns the function and the arguments after an attempt without a value, if another one is possible.
    fn again(kept: Self::Kept) -> Option<(Self::Function, ArgsOf<Self>)>;
}

type ArgsOf<B> = <<B as Body>::Inputs as Waits>::Args;

#[repr(C)]
pub(crate) struct Cell<B: Body> {
    header: Header,
    stage: UnsafeCell<Stage<B>>,
}

pub(super) enum Stage<B: Body> {
    /// The function was not called yet.
    Waiting(B::Function, B::Inputs),
    /// The function can be called again.
    Again(B::Function, ArgsOf<B>),
    Running(B::Future, B::Kept),
    Value(B::Value),
    Empty,
}

impl<B: Body> Cell<B> {
    /// That of a task with one attempt.
    pub(crate) const VTABLE: VTable = VTable {
        run: Self::poll,
        poll: Self::poll,
        begin: Self::begin,
        end: Self::end,
        clear: Self::clear,
        keep_for_retry: Self::keep_for_retry,
        edges: Self::edges,
        value: Self::value,
        take: Self::take,
        dealloc,
        drop_interest: drop_task::drop_interest,
        last_interest_dropped: drop_task::last_interest_dropped,
        type_id: TypeId::of::<B::Value>,
        type_name: type_name::<B::Value>,
        function: type_name::<B::Function>,
        layout: Layout::new::<Self>(),
        has_policy: false,
        is_remote: false,
        value_needs_drop: mem::needs_drop::<B::Value>(),
        settles: B::Inputs::SETTLES,
    };

    /// That of a task whose [`Policy`](attempt::Policy) makes the attempts, or that has a deadline.
    pub(crate) const WITH_POLICY: VTable =
        VTable { run: attempt::run, has_policy: true, ..Self::VTABLE };

    /// # Safety
    ///
    /// As for all functions of the vtable, the header is that of a cell of this type, and the caller owns the contents
    /// for as long as it uses them.
    unsafe fn stage(header: NonNull<Header>) -> *mut Stage<B> {
        // SAFETY: a cell begins with its header.
        unsafe { header.cast::<Self>().as_ref().stage.get() }
    }

    unsafe fn begin(header: NonNull<Header>, held: &mut Option<Held>) -> Result<(), Error> {
        // SAFETY: the caller owns the contents.
        let stage = unsafe { Self::stage(header) };
        // SAFETY: as above. Only what the stage contains is moved, not the place of a future that may be far larger.
        // `Empty` meanwhile, which is written without a drop: if taking the inputs, a clone or the function panics, nothing
        // is dropped twice.
        let (function, args) = unsafe {
            match &*stage {
                Stage::Waiting(function, inputs) => {
                    let (function, inputs) = (ptr::read(function), ptr::read(inputs));
                    ptr::write(stage, Stage::Empty);
                    (function, inputs.take()?)
                }
                Stage::Again(function, args) => {
                    let (function, args) = (ptr::read(function), ptr::read(args));
                    ptr::write(stage, Stage::Empty);
                    (function, args)
                }
                _ => unreachable!("an attempt begins in stage Waiting or Again"),
            }
        };
        let kept = B::keep(&function, &args);
        let future = B::start(function, args, held);
        // SAFETY: `Empty` needs no drop.
        unsafe { ptr::write(stage, Stage::Running(future, kept)) };
        Ok(())
    }

    unsafe fn poll(header: NonNull<Header>, cx: &mut Context<'_>) -> PollOutcome {
        // SAFETY: the caller owns the contents. A future in `Running` is pinned, and stays in this place until it's dropped
        // there.
        unsafe {
            let stage = Self::stage(header);
            if !matches!(&*stage, Stage::Running(..)) {
                if let Err(error) = Self::begin(header, &mut None) {
                    return PollOutcome::Failed(error);
                }
            }
            let Stage::Running(future, _) = &mut *stage else {
                unreachable!("an attempt has begun");
            };
            let Poll::Ready(output) = Pin::new_unchecked(future).poll(cx) else {
                return PollOutcome::Pending;
            };
            match B::outcome(output) {
                Ok(value) => {
                    Self::drop_stage(header);
                    ptr::write(stage, Stage::Value(value));
                    PollOutcome::Value
                }
                Err(error) => PollOutcome::Failed(error),
            }
        }
    }

    unsafe fn end(header: NonNull<Header>) -> bool {
        // SAFETY: the caller owns the contents. What is kept is moved out, the pinned future is dropped in place, even if its
        // destructor panics, and the stage is overwritten without another drop.
        unsafe {
            let stage = Self::stage(header);
            if let Stage::Running(future, kept) = &mut *stage {
                let kept = ptr::read(kept);
                if const { mem::needs_drop::<B::Future>() } {
                    drop_at(header, ptr::from_mut(future).cast(), drop_as::<B::Future>);
                }
                ptr::write(stage, Stage::Empty);
                if let Some((function, args)) = B::again(kept) {
                    ptr::write(stage, Stage::Again(function, args));
                }
            }
            matches!(*stage, Stage::Again(..))
        }
    }

    unsafe fn clear(header: NonNull<Header>) {
        // SAFETY: the caller owns the contents.
        unsafe { Self::drop_stage(header) };
        // SAFETY: the header stays while its contents are owned.
        if unsafe { header.as_ref() }.vtable.has_policy {
            // SAFETY: the policy belongs to the contents. It goes after the future, for which it may hold limits.
            unsafe { attempt::reset(header) };
        }
    }

    /// Drops what the stage contains.
    unsafe fn drop_stage(header: NonNull<Header>) {
        // SAFETY: the caller owns the contents. They're dropped in place, as a pinned future must be, and overwritten
        // without another drop, even if their destructor panicked.
        unsafe {
            let stage = Self::stage(header);
            if const { mem::needs_drop::<Stage<B>>() } && !matches!(*stage, Stage::Empty) {
                drop_at(header, stage.cast(), drop_as::<Stage<B>>);
            }
            ptr::write(stage, Stage::Empty);
        }
    }

    unsafe fn keep_for_retry(header: NonNull<Header>) -> bool {
        // SAFETY: the caller owns the contents.
        unsafe {
            let keep = matches!(*Self::stage(header), Stage::Waiting(..) | Stage::Again(..));
            if !keep {
                Self::clear(header);
            } else if header.as_ref().vtable.has_policy {
                attempt::reset(header);
            }
            keep
        }
    }

    unsafe fn edges(header: NonNull<Header>, visit: VisitEdge<'_>) {
        // SAFETY: the caller has a hold, builds the task, or retries it, so the stage doesn't change. Other threads may
        // read the edges too, so the reference is shared.
        if let Stage::Waiting(_, inputs) = unsafe { &*Self::stage(header) } {
            inputs.each(visit);
        }
    }

    unsafe fn value(header: NonNull<Header>) -> NonNull<()> {
        // SAFETY: the task has succeeded. Other interests may read the value too, so the reference is shared.
        match unsafe { &*Self::stage(header) } {
            Stage::Value(value) => NonNull::from(value).cast(),
            _ => no_value(),
        }
    }

    unsafe fn take(header: NonNull<Header>, place: NonNull<()>) {
        // SAFETY: the caller owns the contents, and the memory at `place` fits a value. It's moved, and the stage overwritten
        // without a drop.
        unsafe {
            let stage = Self::stage(header);
            let Stage::Value(value) = &*stage else { no_value() };
            ptr::copy_nonoverlapping(value, place.cast().as_ptr(), 1);
            ptr::write(stage, Stage::Empty);
        }
    }
}

#[cold]
fn no_value() -> ! {
    unreachable!("a task that has succeeded has a value until it's taken")
}

/// In the vtable of a cell whose attempts no policy makes.
/// Drops a `T` in place.
unsafe fn drop_as<T>(place: *mut ()) {
    // SAFETY: the caller's promise.
    unsafe { ptr::drop_in_place(place.cast::<T>()) };
}

/// Drops a part of the contents in place. Destructors are user code: a panic is reported.
///
/// # Safety
///
/// The caller owns what is at `place`, of which `drop` is [`drop_as`] for its type, and uses it no more.
unsafe fn drop_at(header: NonNull<Header>, place: *mut (), drop: unsafe fn(*mut ())) {
    // SAFETY: the caller's promise.
    unsafe { header.as_ref().core().run_user_code(|| drop(place)) };
}

/// Frees a cell, whose contents were dropped or need no dropping.
unsafe fn dealloc(header: NonNull<Header>) {
    // SAFETY: `create::allocate_cell` allocated it with the layout in its vtable, and no reference to it is left. The engine's
    // reference is released last, as the observer is a part of the engine.
    unsafe {
        let core = header.as_ref().core().origin();
        if header.as_ref().state.load() & WATCHED != 0 {
            if let Some(number) = header.as_ref().number() {
                core.as_ref().observer.released(number);
            }
        }
        let layout = header.as_ref().vtable.layout;
        ptr::drop_in_place(header.as_ptr());
        cell_pool::free(header.cast(), layout);
        engine_refs::release(core);
    }
}

/// Writes the first stage of a new cell.
///
/// # Safety
///
/// The cell was allocated for such a stage, which was not written yet.
pub(super) unsafe fn write_stage<B: Body>(header: NonNull<Header>, stage: Stage<B>) {
    // SAFETY: the caller's promise. The place is computed without a reference to what isn't there yet.
    unsafe { (&raw mut (*header.cast::<Cell<B>>().as_ptr()).stage).write(UnsafeCell::new(stage)) };
}
