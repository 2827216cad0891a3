//! The target `inputs`: a task whose inputs are containers of handles, possibly nested, of tasks with all kinds
//! of outcomes, also after a retry. The arguments are compared with direct evaluation.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use arbitrary::{Result, Unstructured};
use ensue::{Client, Error, ErrorKind, Handle, Ref};
use futures::executor::block_on;

const SOURCES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Value,
    /// A value that exists before the task is submitted.
    Ready,
    Error,
    /// An error in the first attempt only.
    FirstError,
    Panic,
    Cancelled,
    /// The value was moved out by an await of its handle.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    One,
    Two,
    Vec,
    Slice,
    Array,
    Nested,
    Option,
    Map,
    Tree,
    Mixed,
}

#[derive(Debug)]
struct Plan {
    seed: u64,
    sources: [Source; SOURCES],
    shape: Shape,
    /// The indices of the sources, in order.
    picks: Vec<usize>,
    /// The length of the first row of nested containers.
    cut: usize,
    by_ref: bool,
    /// The caller's handles are dropped before anything runs.
    dropped: bool,
    /// The sources run before the task is submitted.
    early: bool,
    /// The clone of a value with this number panics.
    panicking_clone: Option<u8>,
    retry: bool,
    steps: u8,
}

impl Plan {
    fn decode(data: &[u8]) -> Result<Self> {
        let u = &mut Unstructured::new(data);
        let source = |u: &mut Unstructured<'_>| {
            use Source::{Cancelled, Error, FirstError, Lost, Panic, Ready, Value};
            u.choose(&[Value, Value, Value, Ready, Error, FirstError, Panic, Cancelled, Lost])
                .copied()
        };
        Ok(Self {
            seed: u.arbitrary::<u16>()?.into(),
            sources: [source(u)?, source(u)?, source(u)?, source(u)?, source(u)?],
            shape: *u.choose(&[
                Shape::One,
                Shape::Two,
                Shape::Vec,
                Shape::Slice,
                Shape::Array,
                Shape::Nested,
                Shape::Option,
                Shape::Map,
                Shape::Tree,
                Shape::Mixed,
            ])?,
            picks: (0..u.int_in_range(3..=8)?)
                .map(|_| u.int_in_range(0..=SOURCES - 1))
                .collect::<Result<_>>()?,
            cut: u.int_in_range(0..=8)?,
            by_ref: u.arbitrary()?,
            dropped: u.arbitrary()?,
            early: u.arbitrary()?,
            panicking_clone: u.arbitrary::<Option<u8>>()?.filter(|at| *at < 8),
            retry: u.arbitrary()?,
            steps: u.int_in_range(0..=20)?,
        })
    }
}

/// The number of live values and of clones, and the number of the clone that panics.
#[derive(Debug)]
struct Count {
    alive: AtomicIsize,
    clones: AtomicIsize,
    panicking_clone: isize,
}

#[derive(Debug)]
struct Item(usize, Arc<Count>);

impl Item {
    fn new(at: usize, count: &Arc<Count>) -> Self {
        count.alive.fetch_add(1, Relaxed);
        Self(at, count.clone())
    }
}

impl Clone for Item {
    fn clone(&self) -> Self {
        if self.1.clones.fetch_add(1, Relaxed) == self.1.panicking_clone {
            resume_unwind(Box::new("a clone"));
        }
        Self::new(self.0, &self.1)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.1.alive.fetch_sub(1, Relaxed);
    }
}

/// The indices of the sources in an argument.
trait Flat: Clone + Send + 'static {
    fn flat(&self) -> Vec<usize>;
}

macro_rules! flat {
    ($([$($generics:tt)*] $type:ty, $self:ident => $flat:expr;)*) => {$(
        impl<$($generics)*> Flat for $type {
            fn flat(&$self) -> Vec<usize> {
                $flat
            }
        }
    )*};
}

type Hashed<T> = HashMap<usize, T, BuildHasherDefault<DefaultHasher>>;

flat! {
    [] Item, self => vec![self.0];
    [] Ref<Item>, self => vec![self.0];
    [T: Flat] Vec<T>, self => self.iter().flat_map(T::flat).collect();
    [T: Flat] [T; 3], self => self.iter().flat_map(T::flat).collect();
    [T: Flat] Option<T>, self => self.iter().flat_map(T::flat).collect();
    [T: Flat] BTreeMap<usize, T>, self => self.values().flat_map(T::flat).collect();
    [T: Flat] Hashed<T>, self => {
        let ordered: BTreeMap<_, _> = self.iter().collect();
        ordered.values().flat_map(|value| value.flat()).collect()
    };
}

/// Runs the plan.
///
/// # Panics
///
/// If a result differs from direct evaluation.
pub(crate) fn run(data: &[u8]) {
    let Ok(plan) = Plan::decode(data) else { return };
    let plan = Rc::new(plan);
    super::run_state::print_when_panicking(plan.clone(), || Run::new(&plan).run());
}

struct Run<'p> {
    plan: &'p Plan,
    client: Client,
    count: Arc<Count>,
    sources: Vec<Handle<Item>>,
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan) -> Self {
        let client = Client::builder().seed(plan.seed).workers(0).build();
        let panicking_clone = plan.panicking_clone.map_or(-1, isize::from);
        let count = Arc::new(Count { alive: 0.into(), clones: 0.into(), panicking_clone: -1 });
        let sources =
            (0..SOURCES).map(|at| source(&client, plan.sources[at], at, &count)).collect();
        let mut run = Self { plan, client, count, sources };
        run.settle_lost();
        // Only the sources made from here on have a clone that panics.
        let count = Arc::new(Count { alive: 0.into(), clones: 0.into(), panicking_clone });
        if panicking_clone >= 0 {
            let counted = (0..SOURCES).map(|at| source(&run.client, plan.sources[at], at, &count));
            run.sources = counted.collect();
            run.settle_lost();
            run.count = count;
        }
        run
    }

    fn settle_lost(&mut self) {
        for (at, source) in self.plan.sources.iter().enumerate() {
            if *source == Source::Lost {
                // The await of the only handle moves the value out, and leaves a handle without a value.
                let mut handle = std::mem::replace(
                    &mut self.sources[at],
                    self.client.ready(Item::new(at, &self.count)),
                );
                let moved = block_on(&mut handle);
                assert!(moved.is_ok(), "{moved:?}");
                self.sources[at] = handle;
            }
        }
    }

    fn picked(&self) -> Vec<usize> {
        let picks = &self.plan.picks;
        match self.plan.shape {
            Shape::One | Shape::Option => picks[..1].to_vec(),
            Shape::Two => picks[..2].to_vec(),
            Shape::Array => picks[..3].to_vec(),
            Shape::Map | Shape::Tree => {
                let ordered: BTreeMap<_, _> = picks.iter().map(|at| (*at, ())).collect();
                ordered.into_keys().collect()
            }
            Shape::Mixed => [&picks[..], &picks[..1], &picks[1..2]].concat(),
            Shape::Vec | Shape::Slice | Shape::Nested => picks.clone(),
        }
    }

    fn run(self) {
        if self.plan.early {
            block_on(settle(&self.sources));
        }
        let x = if self.plan.by_ref { self.submit_refs() } else { self.submit_values() };
        let picked = self.picked();
        let Self { plan, client, count, sources } = self;
        let keys: Vec<_> = sources.iter().map(Handle::key).collect();
        let mut sources = Some(sources);
        if plan.dropped {
            sources = None;
        }
        let mut worker = Box::pin(client.worker());
        for _ in 0..plan.steps {
            let waker = std::task::Waker::noop();
            let _ = worker.as_mut().poll(&mut std::task::Context::from_waker(waker));
        }
        let mut result = block_on(x.clone());
        check(plan, &picked, &keys, &x, &result, false);
        if plan.retry && x.retry() {
            result = block_on(x.clone());
            check(plan, &picked, &keys, &x, &result, true);
        }
        drop((x, result, sources));
        block_on(client.idle());
        assert_eq!(client.tasks_in_memory(), 0, "tasks held at the end");
        assert_eq!(count.alive.load(Relaxed), 0, "values left at the end");
    }
}

async fn settle(handles: &[Handle<Item>]) {
    for handle in handles {
        let _ = handle.get_ref().await;
    }
}

fn source(client: &Client, source: Source, at: usize, count: &Arc<Count>) -> Handle<Item> {
    let item = count.clone();
    match source {
        Source::Value | Source::Lost => client.spawn(async move { Item::new(at, &item) }),
        Source::Ready => client.ready(Item::new(at, count)),
        Source::Error => client.try_submit(async || Err("no"), ()),
        Source::FirstError => {
            let attempts = Arc::new(AtomicIsize::new(0));
            let code = async move || {
                let first = attempts.fetch_add(1, Relaxed) == 0;
                if first { Err("not yet") } else { Ok(Item::new(at, &item)) }
            };
            client.try_submit(code, ())
        }
        Source::Panic => client.spawn(async { resume_unwind(Box::new("a panic")) }),
        Source::Cancelled => {
            let x = client.spawn(std::future::pending());
            assert!(x.cancel());
            x
        }
    }
}

/// Checks the result: the sources in order, the error of a failed source, or that of a panicking clone.
fn check(
    plan: &Plan,
    picked: &[usize],
    keys: &[ensue::Key],
    x: &Handle<Vec<usize>>,
    result: &std::result::Result<Vec<usize>, Error>,
    again: bool,
) {
    let kind = |at: usize| match plan.sources[at] {
        Source::Value | Source::Ready => None,
        Source::FirstError if again => None,
        Source::Error | Source::FirstError => Some(ErrorKind::Failed),
        Source::Panic => Some(ErrorKind::Panicked),
        Source::Cancelled => Some(ErrorKind::Cancelled),
        Source::Lost => Some(ErrorKind::Lost),
    };
    // A lost value is noticed when the task starts, which it doesn't if a source has failed.
    let failed = |at: &&usize| !matches!(kind(**at), None | Some(ErrorKind::Lost));
    match result {
        Ok(values) => {
            assert_eq!(values, picked);
            assert!(
                picked.iter().all(|at| kind(*at).is_none()),
                "the task ran though an input had failed"
            );
        }
        Err(error) if error.is_panic() && *error.origin() == x.key() => {
            assert!(plan.panicking_clone.is_some() && !plan.by_ref, "{error:?}");
        }
        Err(error) => {
            let any_failed = picked.iter().any(|at| failed(&at));
            // A source that hadn't run yet when the first try failed fails only now.
            let late = |at: usize| {
                again && plan.sources[at] == Source::FirstError && error.kind() == ErrorKind::Failed
            };
            let right = picked.iter().any(|at| {
                (late(*at) && keys[*at] == *error.origin())
                    || kind(*at) == Some(error.kind())
                        && keys[*at] == *error.origin()
                        && (failed(&at) || !any_failed)
            });
            assert!(right, "{error:?} for {picked:?} of {keys:?}");
        }
    }
}

macro_rules! submitting {
    ($name:ident, $value:ty) => {
        impl Run<'_> {
            fn $name(&self) -> Handle<Vec<usize>> {
                let (client, plan) = (&self.client, self.plan);
                let at = |n: usize| self.sources[plan.picks[n]].clone();
                let all = || plan.picks.iter().map(|at| self.sources[*at].clone()).collect::<Vec<_>>();
                let pairs = || plan.picks.iter().map(|at| (*at, self.sources[*at].clone()));
                let rows = || {
                    let mut all = all();
                    let rest = all.split_off(plan.cut.min(all.len()));
                    vec![all, Vec::new(), rest]
                };
                macro_rules! take {
                    ($type:ty, $inputs:expr) => {
                        if plan.retry {
                            client.try_submit(
                                async |x: $type| Ok::<_, String>(x.flat()),
                                $inputs,
                            )
                        } else {
                            client.submit(async |x: $type| x.flat(), $inputs)
                        }
                    };
                }
                match plan.shape {
                    Shape::One => take!($value, at(0)),
                    Shape::Two => client.submit(
                        async |x: $value, n: u8, y: $value| {
                            assert_eq!(n, 7);
                            [x.flat(), y.flat()].concat()
                        },
                        (at(0), 7u8, at(1)),
                    ),
                    Shape::Vec => take!(Vec<$value>, all()),
                    Shape::Slice => take!(Vec<$value>, &all()[..]),
                    Shape::Array => take!([$value; 3], [at(0), at(1), at(2)]),
                    Shape::Nested => take!(Vec<Vec<$value>>, rows()),
                    Shape::Option => take!(Option<$value>, Some(at(0))),
                    Shape::Map => take!(Hashed<$value>, pairs().collect::<Hashed<_>>()),
                    Shape::Tree => {
                        take!(BTreeMap<usize, $value>, pairs().collect::<BTreeMap<_, _>>())
                    }
                    Shape::Mixed => client.submit(
                        async |x: Vec<Vec<$value>>, y: Option<$value>, none: Option<$value>, z: $value| {
                            [x.flat(), y.flat(), none.flat(), z.flat()].concat()
                        },
                        (&rows(), Some(at(0)), None::<Handle<Item>>, at(1)),
                    ),
                }
            }
        }
    };
}

submitting!(submit_values, Item);
submitting!(submit_refs, Ref<Item>);
