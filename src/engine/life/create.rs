//! The creation of a task: its inputs are prepared, its cell is allocated, and it's linked into the lists of its inputs.
//!
//! | step | after it |
//! |---|---|
//! | [`prepare`] | the inputs to wait for are counted; small values that exist were copied |
//! | [`allocate`] | the task has a cell, in stage `Waiting`, and an interest; other threads may find it by its key |
//! | [`begin`] | it's in the lists of its inputs, or ready, and returned for the caller to queue |
//!
//! A retry by hand begins a task anew.

use std::future::Pending;
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};

use crate::engine::core::context;
use crate::engine::core::{Core, engine_refs};
use crate::engine::data::cell_pool;
use crate::engine::life::cell::{Body, Cell, Stage, write_stage};
use crate::engine::life::deadline;
use crate::engine::life::finish;
use crate::engine::life::status::status;
use crate::engine::task::attempt::Held;
use crate::engine::task::count::{self, Built};
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{Extras, Header, Interest, Task, TaskRef, VTable};
use crate::engine::task::settled;
use crate::engine::task::state::{COUNTED, State, WATCHED};
use crate::engine::task::typed::Typed;
use crate::engine::task::waiters::{Resolution, Waiters};
use crate::engine::watch::counters::CountedEvent;
use crate::engine::watch::observer::TaskEvent;
use crate::task::subject::SubmittedAt;
use crate::{Error, Key, Status};

/// The properties of a new task besides its function and inputs.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) priority: i32,
    /// Flags of the state word.
    pub(crate) flags: u64,
    pub(crate) extras: Option<Box<Extras>>,
    pub(crate) submitted_at: SubmittedAt,
}

/// Creates a task, and returns it if it's ready to run, for the caller to queue.
#[inline]
pub(crate) fn task<B: Body>(
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
    /// The depth that is due to inputs that it doesn't wait for.
    pub(crate) depth: u8,
}

impl Registration {
    /// Returns the registration of a task that a retry makes run again.
    pub(crate) fn for_retry(task: &Task, inputs: usize, depth: u8) -> Self {
        // How it's observed stays as it is, but the observer may want to know of any task.
        task.core().observer.flags();
        Self { inputs, observed: task.state.load() & (WATCHED | COUNTED), depth }
    }
}

/// Prepares the inputs of a new task, and counts those to wait for.
pub(crate) fn prepare(core: &Core, inputs: &mut impl Waits) -> Registration {
    let observed = core.observer.flags();
    // The observer is notified of all inputs of a task that it watches, so finished ones keep their edges.
    let depth = inputs.prepare(observed & WATCHED == 0);
    Registration { inputs: inputs.count(), observed, depth }
}

/// Creates a task that other threads may find before the second step, [`begin`].
#[inline]
pub(crate) fn allocate<B: Body>(
    core: &Core,
    mut setup: Setup,
    function: B::Function,
    inputs: B::Inputs,
    new: Registration,
) -> Typed<B::Value> {
    let needs_policy = setup.extras.as_mut().is_some_and(|extras| extras.need_policy());
    let vtable = if needs_policy { &Cell::<B>::WITH_POLICY } else { &Cell::<B>::VTABLE };
    // SAFETY: the vtable is that of a cell with such values.
    unsafe { Typed::new(allocate_as::<B>(core, setup, vtable, function, inputs, new)) }
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
    let state = State::new(setup.flags | new.observed);
    let header = allocate_cell(core, state, Waiters::new(), vtable, setup);
    // SAFETY: the memory fits such a cell, whose stage nothing has written or read yet. Its state was created with one
    // interest.
    unsafe {
        if new.inputs > 0 {
            header.as_ref().count.begin(new.inputs);
        } else if new.depth > 0 {
            header.as_ref().count.set_depth(new.depth);
        }
        write_stage::<B>(header, Stage::Waiting(function, inputs));
        if vtable.has_policy {
            // No other thread has found the task yet, so its contents are this one's.
            deadline::arm(header);
        }
        Interest::from_raw(header)
    }
}

/// Allocates a cell, and writes its header.
fn allocate_cell(
    core: &Core,
    state: State,
    waiters: Waiters,
    vtable: &'static VTable,
    setup: Setup,
) -> NonNull<Header> {
    let Setup { priority, extras, submitted_at, .. } = setup;
    let engine = Core::head_of(engine_refs::acquire(core));
    let cell = cell_pool::allocate(vtable.layout).cast();
    // SAFETY: a cell begins with its header.
    unsafe {
        let header = Header::new(state, waiters, vtable, engine, priority, extras, submitted_at);
        cell.write(header);
    }
    cell
}

/// Links the task into the lists of its inputs, and returns it if it's ready to run.
///
/// The caller has an interest in the task, and calls this once per creation or retry.
pub(crate) fn begin(core: &Core, header: NonNull<Header>, new: Registration) -> Option<Task> {
    let Registration { inputs, observed, depth } = new;
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
    if let Some(inherited) = task.extras().and_then(|extras| extras.inherited.as_ref()) {
        inherited.clone().begun(task);
    }
    if inputs > 0 {
        let priority = task.priority();
        match register(core, task, priority, depth) {
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
fn register(core: &Core, task: TaskRef<'_>, priority: i32, depth: u8) -> Built {
    let header = task.as_ptr();
    let mut finished = 0;
    let mut depth = depth;
    let mut crosses_engines = false;
    // SAFETY: the task stays in stage `Waiting`, in its place, while it's being built, and then until all of its edges
    // have been notified or unlinked.
    unsafe {
        (task.vtable.edges)(header, &mut |edge| {
            depth = depth.max(count::above(edge.task().count.depth()));
            while !edge.register(header) {
                let error = match edge.task().waiters.resolution() {
                    Resolution::Succeeded => None,
                    _ => match edge.task().failure() {
                        Some(error) => Some(error),
                        // A retry reopened the input meanwhile: registers again.
                        None => continue,
                    },
                };
                match error {
                    Some(error) if edge.settles() => settled::leave_error(edge.link(), error),
                    Some(error) => {
                        finish::abort(task, error);
                    }
                    None => {}
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
            finish::abort(task, Error::closed(task.subject()));
        }
    }
    task.count.built(finished, depth)
}

/// Creates a task with its outcome.
///
/// Even if it has a key of its own, it isn't entered into the store.
pub(crate) fn ended<T: Send + 'static>(
    core: &Core,
    key: Option<Key>,
    submitted_at: SubmittedAt,
    value: Result<T, Error>,
) -> Typed<T> {
    let (waiters, stage, failure) = match value {
        Ok(value) => (Waiters::succeeded(), Stage::Value(value), None),
        Err(error) => (Waiters::failed(), Stage::Empty, Some(error)),
    };
    let extras = key.map(|key| Box::new(Extras { key: key.into(), ..Extras::default() }));
    let vtable = &Cell::<Ended<T>>::VTABLE;
    let setup = Setup { extras, submitted_at, ..Setup::default() };
    let header = allocate_cell(core, State::finished(), waiters, vtable, setup);
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
            notify_created(
                core,
                typed.task(),
                name,
                Registration { inputs: 0, observed, depth: 0 },
                status,
            );
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
