//! The cell of a task: one allocation for its header and its contents.
//!
//! The contents are in one of these stages, which use the same memory one after the other:
//!
//! | `Stage` | contents | next |
//! |---|---|---|
//! | `Waiting` | the function and its inputs | `Running` by the first poll; `Empty` by an abort that can't be retried |
//! | `Running` | the future, pinned | `Value`, `Again` or `Empty` when the poll ends the task |
//! | `Value` | the value | `Empty` when it's moved out, or the last interest is dropped |
//! | `Again` | the function and its arguments, of a failed task | `Running` by a retry; `Empty` when they're dropped |
//! | `Empty` | nothing | final |
//!
//! While a task waits, any thread with a hold may read its edges. From the claim to the end of the poll the contents
//! belong to the thread that set `RUNNING`. Once the task has succeeded, every interest may read the value.

use std::any::{TypeId, type_name};
use std::cell::UnsafeCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use crate::engine::core::context;
use crate::engine::core::{Core, engine_refs};
use crate::engine::data::cell_pool;
use crate::engine::life::drop_task;
use crate::engine::life::finish;
use crate::engine::life::status::status;
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

/// The result of the last attempt of a task.
pub(crate) type Outcome<T, F, A> = Result<T, AttemptFailure<F, A>>;

pub(crate) struct AttemptFailure<F, A> {
    pub(crate) error: Error,
    /// The function and the arguments for a retry, if the task can be retried.
    pub(crate) again: Option<(F, A)>,
}

/// `F` is the function as it was submitted, `W` its inputs, and `S` turns both into the future.
#[repr(C)]
pub(crate) struct Cell<S, F, W: Waits, Fut, T> {
    header: Header,
    start: S,
    stage: UnsafeCell<Stage<F, W, Fut, T>>,
}

enum Stage<F, W: Waits, Fut, T> {
    /// The function was not called yet.
    Waiting(F, W),
    /// The function failed and can be called again.
    Again(F, W::Args),
    Running(Fut),
    Value(T),
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

impl<S, F, W, Fut, T> Cell<S, F, W, Fut, T>
where
    S: Fn(F, W::Args) -> Fut,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>>,
    T: 'static,
{
    pub(crate) const VTABLE: VTable = VTable {
        run: Self::run,
        clear: Self::clear,
        keep_for_retry: Self::keep_for_retry,
        edges: Self::edges,
        value: Self::value,
        take: Self::take,
        dealloc: Self::dealloc,
        drop_interest: drop_task::drop_interest,
        last_interest_dropped: drop_task::last_interest_dropped,
        type_id: TypeId::of::<T>,
        type_name: type_name::<T>,
        function: type_name::<F>,
        is_remote: false,
        value_needs_drop: mem::needs_drop::<T>(),
    };

    /// # Safety
    ///
    /// As for all functions of the vtable, the header is that of a cell of this type, and the caller owns the contents
    /// for as long as it uses them.
    unsafe fn stage(header: NonNull<Header>) -> *mut Stage<F, W, Fut, T> {
        // SAFETY: a cell begins with its header.
        unsafe { header.cast::<Self>().as_ref().stage.get() }
    }

    unsafe fn run(header: NonNull<Header>, cx: &mut Context<'_>) -> PollOutcome {
        // SAFETY: the caller owns the contents.
        let (stage, cell) = unsafe { (Self::stage(header), header.cast::<Self>().as_ref()) };
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller owns the contents. A future in `Running` is pinned, and isn't moved below.
            let stage = unsafe { &mut *stage };
            if !matches!(stage, Stage::Running(_)) {
                // Only what the stage contains is moved, not the place of a future that may be far larger. `Empty`
                // meanwhile: if taking the inputs or the function panics, nothing is dropped twice.
                let future = match stage {
                    Stage::Waiting(function, waits) => {
                        // SAFETY: the stage is overwritten without a drop.
                        let (function, waits) = unsafe { (ptr::read(function), ptr::read(waits)) };
                        // SAFETY: as above.
                        unsafe { ptr::write(stage, Stage::Empty) };
                        match waits.take() {
                            Ok(args) => (cell.start)(function, args),
                            Err(error) => {
                                return Poll::Ready(Err(AttemptFailure { error, again: None }));
                            }
                        }
                    }
                    Stage::Again(function, args) => {
                        // SAFETY: the stage is overwritten without a drop.
                        let (function, args) = unsafe { (ptr::read(function), ptr::read(args)) };
                        // SAFETY: as above.
                        unsafe { ptr::write(stage, Stage::Empty) };
                        (cell.start)(function, args)
                    }
                    _ => unreachable!("a claimed task is in stage Waiting, Again or Running"),
                };
                // SAFETY: `Empty` needs no drop.
                unsafe { ptr::write(stage, Stage::Running(future)) };
            }
            match stage {
                // SAFETY: the future stays in this place until it's dropped in place by `clear`.
                Stage::Running(future) => unsafe { Pin::new_unchecked(future) }.poll(cx),
                _ => unreachable!("a claimed task is in stage Waiting, Again or Running"),
            }
        }));
        match polled {
            Ok(Poll::Pending) => PollOutcome::Pending,
            // As at an await: whoever polls a cancelled task drops its future.
            Err(payload) if context::is_unwinding(&*payload) => PollOutcome::Pending,
            Ok(Poll::Ready(Ok(value))) => {
                // SAFETY: the caller owns the contents. `clear` left `Empty`, which needs no drop.
                unsafe {
                    Self::clear(header);
                    stage.write(Stage::Value(value));
                }
                PollOutcome::Value
            }
            Ok(Poll::Ready(Err(AttemptFailure { error, again }))) => {
                // SAFETY: the caller owns the contents. `clear` left `Empty`, which needs no drop.
                unsafe {
                    Self::clear(header);
                    if let Some((function, args)) = again {
                        stage.write(Stage::Again(function, args));
                    }
                }
                PollOutcome::Failed(error)
            }
            Err(payload) => {
                // SAFETY: the caller owns the contents. `clear` left `Empty`, which needs no drop.
                unsafe { Self::clear(header) };
                PollOutcome::Failed(Error::panicked(cell.header.key().clone(), payload))
            }
        }
    }

    unsafe fn clear(header: NonNull<Header>) {
        // SAFETY: the caller owns the contents. They're dropped in place, as a pinned future must be, and overwritten
        // without another drop, even if their destructor panicked.
        unsafe {
            let stage = Self::stage(header);
            if mem::needs_drop::<Stage<F, W, Fut, T>>() && !matches!(*stage, Stage::Empty) {
                header.as_ref().core().run_user_code(|| ptr::drop_in_place(stage));
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
            }
            keep
        }
    }

    unsafe fn edges(header: NonNull<Header>, visit: VisitEdge<'_>) {
        // SAFETY: the caller has a hold, builds the task, or retries it, so the stage doesn't change. Other threads may
        // read the edges too, so the reference is shared.
        if let Stage::Waiting(_, waits) = unsafe { &*Self::stage(header) } {
            waits.each(visit);
        }
    }

    unsafe fn value(header: NonNull<Header>) -> NonNull<()> {
        // SAFETY: the task has succeeded. Other interests may read the value too, so the reference is shared.
        match unsafe { &*Self::stage(header) } {
            Stage::Value(value) => NonNull::from(value).cast(),
            _ => unreachable!("a task that has succeeded has a value until it's taken"),
        }
    }

    unsafe fn take(header: NonNull<Header>, place: NonNull<()>) {
        // SAFETY: the caller owns the contents, and the memory at `place` fits a `T`.
        unsafe {
            match Self::stage(header).replace(Stage::Empty) {
                Stage::Value(value) => place.cast().write(value),
                _ => unreachable!("a task that has succeeded has a value until it's taken"),
            }
        }
    }

    unsafe fn dealloc(header: NonNull<Header>) {
        let cell = header.cast::<Self>();
        // SAFETY: `allocate_as` or `create_ended` allocated the cell as this type, and no reference to it is left. The
        // engine's reference is released last, as the observer is a part of the engine.
        unsafe {
            let core = header.as_ref().core().origin();
            if header.as_ref().state.load() & WATCHED != 0 {
                if let Some(number) = header.as_ref().number() {
                    core.as_ref().observer.released(number);
                }
            }
            ptr::drop_in_place(cell.as_ptr());
            cell_pool::free(cell);
            engine_refs::release(core);
        }
    }
}

/// Creates a task, and returns it if it's ready to run, for the caller to queue.
pub(crate) fn create<S, F, W, Fut, T>(
    core: &Core,
    setup: Setup,
    start: S,
    function: F,
    mut waits: W,
) -> (Typed<T>, Option<Task>)
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let inputs = inputs(core, &mut waits);
    let typed = allocate(core, setup, start, function, waits, inputs);
    let ready = begin(core, typed.task().as_ptr(), inputs);
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
pub(crate) fn inputs(core: &Core, waits: &mut impl Waits) -> Registration {
    let observed = core.observer.flags();
    // The observer is notified of all inputs of a task that it watches, so finished ones keep their edges.
    waits.settle(observed & WATCHED == 0);
    Registration { inputs: waits.count(), observed }
}

/// Creates a task that other threads may find before the second step, [`begin`].
pub(crate) fn allocate<S, F, W, Fut, T>(
    core: &Core,
    setup: Setup,
    start: S,
    function: F,
    waits: W,
    new: Registration,
) -> Typed<T>
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let vtable = &Cell::<S, F, W, Fut, T>::VTABLE;
    // SAFETY: the vtable is that of a cell whose value is a `T`.
    unsafe { Typed::new(allocate_as(core, setup, vtable, start, function, waits, new)) }
}

/// Creates a task whose cell has the given types and this vtable.
///
/// # Safety
///
/// The vtable is that of the cell, except that it may say that the value has another type if it also says that the
/// task is remote.
pub(crate) unsafe fn allocate_as<S, F, W, Fut, T>(
    core: &Core,
    setup: Setup,
    vtable: &'static VTable,
    start: S,
    function: F,
    waits: W,
    new: Registration,
) -> Interest
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let Setup { priority, flags, extras } = setup;
    let Registration { inputs, observed } = new;
    let state = State::new(flags | observed);
    let engine = Core::head_of(engine_refs::acquire(core));
    let header = Header::new(state, Waiters::new(), vtable, engine, priority, extras);
    let stage = UnsafeCell::new(Stage::Waiting(function, waits));
    if inputs > 0 {
        header.count.begin(inputs);
    }
    let cell: NonNull<Cell<S, F, W, Fut, T>> = cell_pool::allocate();
    // SAFETY: the memory fits the cell. A cell begins with its header, and its state was created with one interest.
    unsafe {
        cell.write(Cell { header, start, stage });
        Interest::from_raw(cell.cast())
    }
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
    type Ended<T> = Cell<fn(ready<T>, ()) -> Never<T>, ready<T>, (), Never<T>, T>;
    let (waiters, stage, failure) = match value {
        Ok(value) => (Waiters::succeeded(), Stage::Value(value), None),
        Err(error) => (Waiters::failed(), Stage::Empty, Some(error)),
    };
    let vtable = &Ended::<T>::VTABLE;
    let extras = key.map(|key| Box::new(Extras { key: key.into(), ..Extras::default() }));
    let engine = Core::head_of(engine_refs::acquire(core));
    let mut header = Header::new(State::finished(), waiters, vtable, engine, 0, extras);
    *header.failure.get_mut() = failure;
    let start: fn(ready<T>, ()) -> Never<T> = |_, ()| Never(PhantomData);
    let cell: NonNull<Ended<T>> = cell_pool::allocate();
    // SAFETY: as in `allocate_as`; the value is a `T`.
    let typed = unsafe {
        cell.write(Cell { header, start, stage: UnsafeCell::new(stage) });
        Typed::new(Interest::from_raw(cell.cast()))
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

/// The future of a task that is never run.
struct Never<T>(PhantomData<fn() -> T>);

impl<T> Future for Never<T> {
    type Output = Outcome<T, ready<T>, ()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}
