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
use std::future::{Future, Pending};
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use crate::engine::core::context;
use crate::engine::core::{Core, engine_refs};
use crate::engine::data::cell_pool;
use crate::engine::life::drop_task;
use crate::engine::life::finish;
use crate::engine::life::status::status;
use crate::engine::task::attempt::{self, Held};
use crate::engine::task::count::Built;
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{
    Extras, Header, Interest, PollOutcome, Task, TaskRef, VTable, VisitEdge,
};
use crate::engine::task::state::{COUNTED, State, WATCHED};
use crate::engine::task::typed::Typed;
use crate::engine::task::waiters::{Resolution, Waiters};
use crate::engine::watch::counters::CountedEvent;
use crate::engine::watch::observer::TaskEvent;
use crate::{Error, Key, Status};

/// What a task does: a function, its inputs, and how they become a value. It's a type without values.
pub(crate) trait Body: 'static {
    /// The function as it was submitted; the task is named after its type.
    type Function: Send + 'static;
    type Inputs: Waits;
    type Future: Future + Send + 'static;
    type Value: Send + 'static;
    /// What is kept of the function and the arguments while an attempt runs.
    type Kept: Send + 'static;

    /// Whether the task's [`Policy`](attempt::Policy) makes the attempts, if it has one. Else there is one attempt.
    const HAS_POLICY: bool = false;

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

enum Stage<B: Body> {
    /// The function was not called yet.
    Waiting(B::Function, B::Inputs),
    /// The function can be called again.
    Again(B::Function, ArgsOf<B>),
    Running(B::Future, B::Kept),
    Value(B::Value),
    Empty,
}

/// The properties of a new task besides its function and inputs.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) priority: i32,
    /// Flags of the state word.
    pub(crate) flags: u64,
    pub(crate) extras: Option<Box<Extras>>,
}

impl<B: Body> Cell<B> {
    pub(crate) const VTABLE: VTable = VTable {
        run: if B::HAS_POLICY { attempt::run } else { Self::poll },
        poll: Self::poll,
        begin: if B::HAS_POLICY { Self::begin } else { never_begun },
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
        is_remote: false,
        value_needs_drop: mem::needs_drop::<B::Value>(),
    };

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
        if B::HAS_POLICY {
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
            } else if B::HAS_POLICY {
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
unsafe fn never_begun(_: NonNull<Header>, _: &mut Option<Held>) -> Result<(), Error> {
    unreachable!("only a policy begins attempts")
}

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
    // SAFETY: `allocate_cell` allocated it with the layout in its vtable, and no reference to it is left. The engine's
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

/// Creates a task, and returns it if it's ready to run, for the caller to queue.
pub(crate) fn create<B: Body>(
    core: &Core,
    setup: Setup,
    function: B::Function,
    mut inputs: B::Inputs,
) -> (Typed<B::Value>, Option<Task>) {
    let new = prepare(core, &mut inputs);
    let typed = allocate::<B>(core, setup, function, inputs, new);
    let ready = begin(core, typed.task().as_ptr(), new);
    (typed, ready)
}

/// Properties of a new task that are determined before it is allocated.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    /// The number of inputs to wait for.
    pub(crate) inputs: usize,
    /// The flags of the state word that say how it's observed.
    pub(crate) observed: u64,
}

impl Registration {
    /// Returns the registration of a task that a retry makes run again.
    pub(crate) fn for_retry(task: &Task, inputs: usize) -> Self {
        Self { inputs, observed: task.state.load() & (WATCHED | COUNTED) }
    }
}

/// Prepares the inputs of a new task, and counts those to wait for.
pub(crate) fn prepare(core: &Core, inputs: &mut impl Waits) -> Registration {
    let observed = core.observer.flags();
    // The observer is notified of all inputs of a task that it watches, so finished ones keep their edges.
    inputs.settle(observed & WATCHED == 0);
    Registration { inputs: inputs.count(), observed }
}

/// Creates a task that other threads may find before the second step, [`begin`].
pub(crate) fn allocate<B: Body>(
    core: &Core,
    setup: Setup,
    function: B::Function,
    inputs: B::Inputs,
    new: Registration,
) -> Typed<B::Value> {
    // SAFETY: the vtable is that of a cell with such values.
    unsafe { Typed::new(allocate_as::<B>(core, setup, &Cell::<B>::VTABLE, function, inputs, new)) }
}

/// Creates a task whose cell has this vtable.
///
/// # Safety
///
/// The vtable is that of the cell, except that it may say that the value has another type if it also says that the
/// task is remote.
pub(crate) unsafe fn allocate_as<B: Body>(
    core: &Core,
    setup: Setup,
    vtable: &'static VTable,
    function: B::Function,
    inputs: B::Inputs,
    new: Registration,
) -> Interest {
    let Setup { priority, flags, extras } = setup;
    let state = State::new(flags | new.observed);
    let header = allocate_cell(core, state, Waiters::new(), vtable, priority, extras);
    // SAFETY: the memory fits such a cell, whose stage nothing has written or read yet. Its state was created with one
    // interest.
    unsafe {
        if new.inputs > 0 {
            header.as_ref().count.begin(new.inputs);
        }
        write_stage::<B>(header, Stage::Waiting(function, inputs));
        Interest::from_raw(header)
    }
}

/// # Safety
///
/// The cell was allocated for such a stage, which was not written yet.
unsafe fn write_stage<B: Body>(header: NonNull<Header>, stage: Stage<B>) {
    // SAFETY: the caller's promise. The place is computed without a reference to what isn't there yet.
    unsafe { (&raw mut (*header.cast::<Cell<B>>().as_ptr()).stage).write(UnsafeCell::new(stage)) };
}

/// Allocates a cell, and writes its header.
fn allocate_cell(
    core: &Core,
    state: State,
    waiters: Waiters,
    vtable: &'static VTable,
    priority: i32,
    extras: Option<Box<Extras>>,
) -> NonNull<Header> {
    let engine = Core::head_of(engine_refs::acquire(core));
    let cell = cell_pool::allocate(vtable.layout).cast();
    // SAFETY: a cell begins with its header.
    unsafe { cell.write(Header::new(state, waiters, vtable, engine, priority, extras)) };
    cell
}

/// Links the task into the lists of its inputs, and returns it if it's ready to run.
///
/// The caller has an interest in the task, and calls this once per creation or retry.
pub(crate) fn begin(core: &Core, header: NonNull<Header>, new: Registration) -> Option<Task> {
    let Registration { inputs, observed } = new;
    // SAFETY: the caller has an interest. The engine's reference is this thread's until the last input, which may end
    // on another thread, or the caller queues the task.
    let (task, owned) = unsafe { (TaskRef::new(header), Task::from_raw(header)) };
    if observed != 0 {
        let name = core.observer.count(task, CountedEvent::Submitted);
        if observed & WATCHED != 0 {
            let status = match inputs {
                _ if core.is_closed() => Status::Cancelled,
                0 => Status::Ready,
                _ => Status::Waiting,
            };
            notify_created(core, task, name, new, status);
        }
    }
    if core.is_closed() {
        core.abort_closed(&owned);
    }
    if inputs > 0 {
        let priority = task.priority();
        match register(core, task, priority) {
            Built::Ready => {
                task.state.end_reopening();
                core.observer.notify(task, observed, TaskEvent::Ready);
            }
            Built::Waiting => {
                // The thread that releases the last input has the engine's reference now.
                mem::forget(owned);
                Core::lend_raised(task, priority);
                return None;
            }
            Built::Aborting => {
                mem::forget(owned);
                // SAFETY: `built` gave this thread a hold, and the thread that aborted the task left the rest to it.
                unsafe { finish::unlink_inputs(task) };
                return None;
            }
        }
    }
    Some(owned)
}

/// Notifies the observer of a watched task that is still being built, so that its edges stay in place.
#[cold]
fn notify_created(core: &Core, task: TaskRef<'_>, name: u32, new: Registration, status: Status) {
    let number = task.make_number();
    core.observer.watched.insert(number, task);
    let mut inputs = Vec::with_capacity(new.inputs.min(MAX_REPORTED_INPUTS));
    if new.inputs > 0 {
        // SAFETY: no other thread changes the edges of a task that is being built.
        unsafe {
            (task.vtable.edges)(task.as_ptr(), &mut |edge| {
                if inputs.len() < MAX_REPORTED_INPUTS {
                    inputs.extend(edge.task().number());
                }
            });
        }
    }
    let by = context::current_number(core);
    let inputs = &inputs;
    core.observer.notify_now(task, TaskEvent::Created { name, status, is_old: false, by, inputs });
}

/// The most inputs of one task that the observer is notified of.
const MAX_REPORTED_INPUTS: usize = 10_000;

/// Links the edges of a task that is being built, aborts it if an input has failed, and ends building.
fn register(core: &Core, task: TaskRef<'_>, priority: i32) -> Built {
    let header = task.as_ptr();
    let mut finished = 0;
    let mut deepest = 0;
    let mut crosses_engines = false;
    // SAFETY: the task stays in stage `Waiting`, in its place, while it's being built, and then until all of its edges
    // have been notified or unlinked.
    unsafe {
        (task.vtable.edges)(header, &mut |edge| {
            deepest = deepest.max(edge.task().count.depth());
            while !edge.register(header) {
                let error = match edge.task().waiters.resolution() {
                    Resolution::Succeeded => None,
                    _ => match edge.task().failure() {
                        Some(error) => Some(error),
                        // A retry reopened the input meanwhile: registers again.
                        None => continue,
                    },
                };
                if let Some(error) = error {
                    finish::abort(task, error);
                }
                finished += 1;
                return;
            }
            crosses_engines |= !ptr::eq(edge.task().core(), core);
            Core::raise(edge.task(), priority);
        });
    }
    if crosses_engines {
        // A shutdown of this client aborts waiting tasks through their inputs, which belong to another client here, so
        // it must find the task in the table.
        core.owned_tasks.insert(task, Vec::new());
        // Checked after the insertion: a shutdown may have read the table before.
        if core.is_closed() {
            finish::abort(task, Error::closed(task.key().clone()));
        }
    }
    task.count.built(finished, deepest)
}

/// Creates a task with its outcome.
///
/// Even if it has a key of its own, it isn't entered into the store.
pub(crate) fn create_ended<T: Send + 'static>(
    core: &Core,
    key: Option<Key>,
    value: Result<T, Error>,
) -> Typed<T> {
    let (waiters, stage, failure) = match value {
        Ok(value) => (Waiters::succeeded(), Stage::Value(value), None),
        Err(error) => (Waiters::failed(), Stage::Empty, Some(error)),
    };
    let extras = key.map(|key| Box::new(Extras { key: key.into(), ..Extras::default() }));
    let vtable = &Cell::<Ended<T>>::VTABLE;
    let header = allocate_cell(core, State::finished(), waiters, vtable, 0, extras);
    // SAFETY: as in `allocate_as`; the value is a `T`. Nothing else has the task yet.
    let typed = unsafe {
        *header.as_ref().failure.get() = failure;
        write_stage::<Ended<T>>(header, stage);
        Typed::new(Interest::from_raw(header))
    };
    let observed = core.observer.flags();
    if observed != 0 {
        typed.task().state.set(observed);
        let status = status(typed.task());
        let name = core.observer.count(typed.task(), CountedEvent::Submitted);
        if observed & WATCHED != 0 {
            notify_created(core, typed.task(), name, Registration { inputs: 0, observed }, status);
        }
        core.observer.notify_ended(typed.task(), observed, status);
    }
    typed
}

/// Stands for the function of a task that is created with its outcome: such a task is named `ready`.
#[allow(non_camel_case_types, dead_code)] // never constructed
struct ready<T> {
    value: PhantomData<T>,
}

/// The body of a task that is created with its outcome, and never run.
struct Ended<T>(PhantomData<T>);

impl<T: Send + 'static> Body for Ended<T> {
    type Function = ready<T>;
    type Inputs = ();
    type Future = Pending<()>;
    type Value = T;
    type Kept = ();

    fn keep(_: &ready<T>, (): &()) {}

    fn start(_: ready<T>, (): (), _: &mut Option<Held>) -> Pending<()> {
        unreachable!("the task has ended")
    }

    fn outcome((): ()) -> Result<T, Error> {
        unreachable!("the task has ended")
    }

    fn again((): ()) -> Option<(ready<T>, ())> {
        None
    }
}
