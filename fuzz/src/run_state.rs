//! What a run has: the model, the program's handles, the counts of what lives, and the bombs. It's in a
//! thread-local, since a seeded client has no threads.

use std::cell::RefCell;
use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;

use ensue::{Client, ErrorKind, Events};

use super::model::{Id, Model, Outcome, Phase};
use super::script::{Op, Script};
use super::stream::Stream;
use super::tracked::Tracked;

/// More tasks than this aren't submitted: scripts may submit in circles.
pub(crate) const MOST_TASKS: usize = 24;

pub(crate) type Close = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(crate) struct World {
    pub(crate) script: Rc<Script>,
    pub(crate) model: Model,
    pub(crate) client: Option<Client>,
    /// Closes it where a task keeps it alive.
    pub(crate) close: Option<Close>,
    pub(crate) slots: Vec<Option<Tracked>>,
    pub(crate) streams: Vec<Option<Stream>>,
    pub(crate) alive: Vec<Alive>,
    /// Told to the hook for unobserved errors.
    pub(crate) unobserved: Vec<(ErrorKind, String)>,
    points: u16,
    places: u16,
    /// Foreign code is calling the engine from within.
    pub(crate) in_hook: bool,
    /// Listens for as long as it likes.
    pub(crate) listener: Option<Events>,
    /// Listens from the start on.
    pub(crate) events: Option<Events>,
    /// The panic of a clone, until it's known whom it hits.
    pub(crate) clone_panicked: bool,
    trace: Option<Vec<String>>,
    /// What happens is printed as it does.
    live: bool,
}

/// How much of a task there is in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alive {
    pub(crate) codes: usize,
    pub(crate) bodies: usize,
    pub(crate) values: usize,
    pub(crate) callbacks: usize,
    /// A value may have been lost.
    pub(crate) leaked: bool,
}

thread_local! {
    static PLAIN: RefCell<Option<Rc<dyn Debug>>> = const { RefCell::new(None) };

    /// Where it's left by a panic, it's forgotten: what is in it looks at it as it goes.
    static WORLD: RefCell<Option<ManuallyDrop<World>>> = const { RefCell::new(None) };
}

impl World {
    pub(crate) fn new(script: Rc<Script>, trace: bool) -> Self {
        Self {
            model: Model::new(script.limits),
            script,
            client: None,
            close: None,
            slots: Vec::new(),
            streams: Vec::new(),
            alive: Vec::new(),
            unobserved: Vec::new(),
            points: 0,
            places: 0,
            in_hook: false,
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

pub(crate) fn enter(world: World) {
    WORLD.with_borrow_mut(|place| *place = Some(ManuallyDrop::new(world)));
}

pub(crate) fn leave() -> Option<World> {
    WORLD.with_borrow_mut(Option::take).map(ManuallyDrop::into_inner)
}

/// What this thread runs, for a panic's report.
pub(crate) fn script() -> Option<String> {
    let world = WORLD.try_with(|world| {
        world.try_borrow().ok()?.as_ref().map(|world| format!("{:#?}", world.script))
    });
    let plain = PLAIN.try_with(|plain| plain.borrow().as_ref().map(|plan| format!("{plan:#?}")));
    world.ok().flatten().or(plain.ok().flatten())
}

/// Runs what has no world, with this to print.
pub(crate) fn print_when_panicking(plan: Rc<dyn Debug>, code: impl FnOnce()) {
    PLAIN.set(Some(plan));
    code();
    PLAIN.set(None);
}

/// Looks at the world. Nothing of the engine's is called or dropped meanwhile.
pub(crate) fn with<R>(look: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(|world| look(world.as_mut().expect("a run is under way")))
}

pub(crate) fn model<R>(look: impl FnOnce(&mut Model) -> R) -> R {
    with(|world| look(&mut world.model))
}

pub(crate) fn expect(right: bool, what: impl FnOnce() -> String) {
    model(|model| model.expect(right, what));
}

pub(crate) fn note(what: impl FnOnce() -> String) {
    with(|world| {
        if world.live {
            eprintln!("{}", what());
        } else if let Some(trace) = &mut world.trace {
            trace.push(what());
        }
    });
}

/// What a bomb panics with.
pub(crate) struct Bomb;

/// Whether foreign code that's called here is to panic.
pub(crate) fn is_due() -> bool {
    with(|world| {
        world.points = world.points.saturating_add(1);
        world.script.bombs.contains(&world.points)
    })
}

/// A place where foreign code runs, and may panic.
pub(crate) fn fuse(what: &str) {
    fuse_then(what, || ());
}

pub(crate) fn fuse_then(what: &str, before: impl FnOnce()) {
    if std::thread::panicking() || !is_due() {
        return;
    }
    note(|| format!("  a bomb goes off: {what}"));
    before();
    // No hook is called, so nothing is printed.
    resume_unwind(Box::new(Bomb));
}

/// A place where foreign code is dropped or called back, and may call the engine.
pub(crate) fn hook(what: &str) {
    // Wakers may outlive the run.
    let op = WORLD.with_borrow_mut(|world| {
        let world = world.as_mut()?;
        world.places = world.places.saturating_add(1);
        let place = world.places;
        let mut hooks = world.script.hooks.iter().filter(|_| !world.in_hook);
        let op = &hooks.find(|(at, _)| *at == place)?.1;
        // What failed just now the engine may not have told all that depends on it: of two such errors it's
        // open which one comes first.
        if ends_others(op) && world.model.fails_just_now() {
            return None;
        }
        let op = op.clone();
        world.in_hook = true;
        Some(op)
    });
    if let Some(op) = op {
        note(|| format!("  {what}: {op:?}"));
        super::ops::run(&op, Client::current().is_some());
        with(|world| world.in_hook = false);
    }
}

/// The same where a part of an attempt is dropped. Between two attempts the engine is in the middle of a poll.
pub(crate) fn hook_of(id: Id, what: &str) {
    if !model(|model| matches!(model.tasks[id].phase, Phase::Delayed(_))) {
        hook(what);
    }
}

/// Whether tasks may end by it that others depend on.
fn ends_others(op: &Op) -> bool {
    match op {
        Op::Submit(submit) => !submit.inputs.is_empty(),
        op => !matches!(op, Op::Clone(..) | Op::OnDone(_)),
    }
}

/// Checks what an await of a task gave. `more` are users that the awaiter itself has beside this one.
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
                let right = of == id && outcome == Some(Outcome::Value) && !model.tasks[id].taken;
                model.expect(right, || format!("t{id} gave the value of t{of}, not {outcome:?}"));
                if original {
                    let others = model.sure_users(id).saturating_sub(own);
                    model.expect(others == 0, || {
                        format!("the value of t{id} was moved out though {others} others need it")
                    });
                    model.tasks[id].taken = true;
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
            Some(Outcome::Value) if task.taken => Outcome::Error(ErrorKind::Lost, Some(id)),
            Some(outcome) => outcome,
            None => {
                return model.expect(false, || format!("t{id} gave {error:?} before it ended"));
            }
        };
        let right = model.fits(expected, error);
        model.expect(right, || format!("t{id} gave {error:?}, not {expected:?}"));
    });
}
