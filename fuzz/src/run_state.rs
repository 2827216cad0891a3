//! The state of a run: the model, the slots, the counts of live objects, and the planned panics.
//!
//! The state is in a thread-local, since instrumented code has no other access to it, and a seeded client has
//! no threads.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;

use ensue::{Client, ErrorKind, Events};

use super::coverage::reached;
use super::model::{Id, Model, Outcome, Phase};
use super::script::{Op, Script};
use super::stream::Stream;
use super::tracked::Tracked;

/// The limit of tasks, since tasks may submit each other endlessly.
pub(crate) const MAX_TASKS: usize = 24;

pub(crate) type Close = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct RunState {
    pub(crate) script: Rc<Script>,
    pub(crate) model: Model,
    pub(crate) client: Option<Client>,
    /// A future of `Client::close`, for a client that a task keeps alive at the end.
    pub(crate) close: Option<Close>,
    pub(crate) slots: Vec<Option<Tracked>>,
    pub(crate) streams: Vec<Option<Stream>>,
    /// Forgotten futures and handles. They are moved here, and dropped at the end of the run, when the engine doesn't
    /// know the difference any more, so that a checker of leaks finds only others.
    pub(crate) forgotten: Vec<Box<dyn Any>>,
    pub(crate) alive: Vec<Alive>,
    /// Errors reported to `on_unobserved`.
    pub(crate) unobserved: Vec<(ErrorKind, String)>,
    panic_points: u16,
    reentry_points: u16,
    /// User code is calling the engine from within the engine.
    pub(crate) reentering: bool,
    /// The subscription of `Op::Listen`, which may end at any time.
    pub(crate) listener: Option<Events>,
    /// The subscription from the start of the run, checked at its end.
    pub(crate) events: Option<Events>,
    /// A clone of a value has panicked, and the task that fails by it isn't known yet.
    pub(crate) clone_panicked: bool,
    trace: Option<Vec<String>>,
    /// Notes are printed at once.
    live: bool,
}

/// The number of live objects of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alive {
    pub(crate) functions: usize,
    pub(crate) futures: usize,
    pub(crate) values: usize,
    pub(crate) callbacks: usize,
    /// A value may have leaked.
    pub(crate) leaked: bool,
}

thread_local! {
    static PLAN: RefCell<Option<Rc<dyn Debug>>> = const { RefCell::new(None) };

    /// A state left by a panic is leaked: its parts would access it while it's dropped.
    static STATE: RefCell<Option<ManuallyDrop<RunState>>> = const { RefCell::new(None) };
}

impl RunState {
    pub(crate) fn new(script: Rc<Script>, trace: bool) -> Self {
        Self {
            model: Model::new(script.limits),
            script,
            client: None,
            close: None,
            slots: Vec::new(),
            streams: Vec::new(),
            forgotten: Vec::new(),
            alive: Vec::new(),
            unobserved: Vec::new(),
            panic_points: 0,
            reentry_points: 0,
            reentering: false,
            listener: None,
            events: None,
            clone_panicked: false,
            trace: trace.then(Vec::new),
            live: std::env::var_os("FUZZ_TRACE").is_some(),
        }
    }

    pub(crate) fn alive(&mut self, id: Id) -> &mut Alive {
        if self.alive.len() <= id {
            self.alive.resize(id + 1, Alive::default());
        }
        &mut self.alive[id]
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }
}

pub(crate) fn enter(state: RunState) {
    STATE.with_borrow_mut(|place| *place = Some(ManuallyDrop::new(state)));
}

pub(crate) fn leave() -> Option<RunState> {
    STATE.with_borrow_mut(Option::take).map(ManuallyDrop::into_inner)
}

/// Returns the script or plan that this thread runs, for the report of a panic.
pub(crate) fn script() -> Option<String> {
    let state = STATE.try_with(|state| {
        state.try_borrow().ok()?.as_ref().map(|state| format!("{:#?}", state.script))
    });
    let plan = PLAN.try_with(|plan| plan.borrow().as_ref().map(|plan| format!("{plan:#?}")));
    state.ok().flatten().or(plan.ok().flatten())
}

/// Runs a target without a `RunState`; a panic prints the plan.
pub(crate) fn print_when_panicking(plan: Rc<dyn Debug>, code: impl FnOnce()) {
    PLAN.set(Some(plan));
    code();
    PLAN.set(None);
}

/// Accesses the state. The closure must not call the engine or drop its objects, which may access the state.
pub(crate) fn with<R>(access: impl FnOnce(&mut RunState) -> R) -> R {
    STATE.with_borrow_mut(|state| access(state.as_mut().expect("a run is under way")))
}

pub(crate) fn model<R>(access: impl FnOnce(&mut Model) -> R) -> R {
    with(|state| access(&mut state.model))
}

pub(crate) fn expect(right: bool, what: impl FnOnce() -> String) {
    model(|model| model.expect(right, what));
}

pub(crate) fn note(what: impl FnOnce() -> String) {
    with(|state| {
        if state.live {
            eprintln!("{}", what());
        } else if let Some(trace) = &mut state.trace {
            trace.push(what());
        }
    });
}

/// The payload of planned panics.
pub(crate) struct PlannedPanic;

/// Counts a panic point, and returns whether user code is to panic at it.
pub(crate) fn panics_now() -> bool {
    with(|state| {
        state.panic_points = state.panic_points.saturating_add(1);
        state.script.panics.contains(&state.panic_points)
    })
}

/// Marks a place where user code runs and may panic.
pub(crate) fn panic_point(place: &str) {
    panic_point_then(place, || ());
}

/// Marks a panic point, and calls `before` if it panics.
pub(crate) fn panic_point_then(place: &str, before: impl FnOnce()) {
    if std::thread::panicking() || !panics_now() {
        return;
    }
    note(|| format!("  planned panic: {place}"));
    before();
    // Unlike `panic!`, this doesn't call the panic hook, which would print the script.
    resume_unwind(Box::new(PlannedPanic));
}

/// Marks a place where the engine drops or calls user code, which may call the engine.
pub(crate) fn reentry_point(place: &str) {
    // There may be no state: wakers can outlive the run.
    let op = STATE.with_borrow_mut(|state| {
        let state = state.as_mut()?;
        state.reentry_points = state.reentry_points.saturating_add(1);
        let place = state.reentry_points;
        let mut reentries = state.script.reentries.iter().filter(|_| !state.reentering);
        let op = &reentries.find(|(at, _)| *at == place)?.1;
        // The engine may still be notifying the dependents of a failure. A second failure now would make it
        // unpredictable which error a common dependent gets.
        if ends_others(op) && state.model.failed_this_instant() {
            return None;
        }
        let op = op.clone();
        state.reentering = true;
        Some(op)
    });
    if let Some(op) = op {
        note(|| format!("  {place}: {op:?}"));
        reached(|| {
            let name = format!("{op:?}");
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            format!("hook {name}")
        });
        super::ops::run(&op, Client::current().is_some());
        with(|state| state.reentering = false);
    }
}

/// Marks a reentry point where a part of an attempt is dropped. A delayed task is skipped: the engine is still
/// inside its poll.
pub(crate) fn reentry_point_of(id: Id, place: &str) {
    if !model(|model| matches!(model.tasks[id].phase, Phase::Delayed(_))) {
        reentry_point(place);
    }
}

/// Whether the operation may end tasks that have dependents.
fn ends_others(op: &Op) -> bool {
    match op {
        Op::Submit(submit) => !submit.inputs.is_empty(),
        op => !matches!(op, Op::Clone(..) | Op::OnDone(_)),
    }
}

/// Checks the result of an await. `own` counts the users that the awaiter itself adds.
pub(crate) fn check_outcome(
    id: Id,
    result: Result<super::instrumented::Value, ensue::Error>,
    own: usize,
) {
    let error = match result {
        Ok(value) => {
            let (of, original) = (value.of, value.original);
            drop(value);
            model(|model| {
                let outcome = model.tasks[id].outcome();
                let right =
                    of == id && outcome == Some(Outcome::Value) && !model.tasks[id].moved_out;
                model.expect(right, || format!("t{id} gave the value of t{of}, not {outcome:?}"));
                if original {
                    let others = model.certain_users(id).saturating_sub(own);
                    model.expect(others == 0, || {
                        format!("the value of t{id} was moved out though {others} others need it")
                    });
                    model.tasks[id].moved_out = true;
                }
            });
            return;
        }
        Err(error) => error,
    };
    check_error(id, &error);
}

pub(crate) fn check_error(id: Id, error: &ensue::Error) {
    model(|model| {
        let task = &mut model.tasks[id];
        task.observed = true;
        let expected = match task.outcome() {
            Some(Outcome::Value) if task.moved_out => Outcome::Error(ErrorKind::Lost, Some(id)),
            Some(outcome) => outcome,
            None => {
                return model.expect(false, || format!("t{id} gave {error:?} before it ended"));
            }
        };
        let right = model.matches_error(expected, error);
        model.expect(right, || format!("t{id} gave {error:?}, not {expected:?}"));
    });
}
