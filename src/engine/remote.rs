//! Tasks that another process runs, and whose values are fetched when something here needs them.
//!
//! Such a task ends when its value exists, wherever that is, and to waiters it looks like any other task. An input
//! or a handle that needs the value gets that of a second task in its place, the *fetch task*: it's made when first
//! needed, takes the remote task as its input, and is dropped with its last user.
//!
//! The engine knows remote tasks by [`Remote`] in a task's extras, and by `is_remote` in its vtable; nothing else of
//! it depends on this file.

use std::any::{Any, TypeId, type_name};
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::engine::base::deferred;
use crate::engine::base::lock::Lock;
use crate::engine::core::Core;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::cell::{Body, Cell};
use crate::engine::life::create::{self, Registration, Setup};
use crate::engine::life::deadline;
use crate::engine::life::schedule::schedule_new;
use crate::engine::task::attempt::Held;
use crate::engine::task::containers::Many;
use crate::engine::task::edges::{Edge, Waits};
use crate::engine::task::header::{Deadline, Extras, Interest, Remote, Task, VTable};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::Typed;
use crate::engine::task::waiters::Resolution;
use crate::task::subject::{Subject, SubmittedAt};
use crate::{Error, Key};

/// The other end of a remote task.
pub(crate) trait RemoteExecution<T>: Clone + Send + Sync + 'static {
    /// Resolves when the task has ended in the other process.
    fn ended(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns what to call when the failed task is to run again. It keeps nothing alive.
    fn again(&self) -> impl Fn() + Send + Sync + 'static;

    /// Returns data of the submitter's, which [`tag`] finds again from the task.
    fn tag(&self) -> Option<Tag> {
        None
    }

    /// Whether the task can run again at all.
    fn can_run_again(&self) -> bool;

    /// Fetches the value into this process.
    fn fetch(&self) -> impl Future<Output = Result<T, Error>> + Send;
}

/// What the cell of a remote task stores in place of a value.
struct RemoteValue<T>(Box<dyn Source<T>>);

/// [`RemoteExecution`], as a trait object.
trait Source<T>: Send + Sync {
    fn fetch(&self) -> Fetching<'_, T>;
}

/// Data of the submitter's. It is weak, so that a task doesn't keep alive what may itself hold the task.
pub(crate) type Tag = Weak<dyn Any + Send + Sync>;

type Fetching<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: 'static, P: RemoteExecution<T>> Source<T> for P {
    fn fetch(&self) -> Fetching<'_, T> {
        Box::pin(RemoteExecution::fetch(self))
    }
}

/// The extras of a remote task.
struct RemoteLink {
    again: Box<dyn Fn() + Send + Sync>,
    make_fetch_task: fn(&Interest) -> (Interest, Option<Task>),
    /// The last fetch task that was made.
    fetch_task: Lock<Option<Task>>,
    tag: Option<Tag>,
}

impl Remote for RemoteLink {
    fn fetch_task(&self, of: &Interest) -> Interest {
        // Making a task may free another engine, and a look at the last one may free its error: both run user code,
        // which must not find the lock taken.
        let (fetch_task, before, ready) = deferred::scope(|| {
            let mut kept = self.fetch_task.lock();
            if let Some(interest) = kept.as_ref().and_then(|kept| reusable(kept, of)) {
                return (interest, None, None);
            }
            let (new, ready) = (self.make_fetch_task)(of);
            let before = kept.replace(new.task().to_task());
            (new, before, ready)
        });
        drop(before);
        if let Some(task) = ready {
            schedule_new(task);
        }
        fetch_task
    }

    fn current_fetch_task(&self, of: &Interest) -> Option<Interest> {
        deferred::scope(|| self.fetch_task.lock().as_ref().and_then(|kept| reusable(kept, of)))
    }

    fn retried(&self) {
        (self.again)();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An interest in a fetch task, unless it was cancelled, or has failed although its remote task has not: then
/// another attempt makes sense.
fn reusable(kept: &Task, of: &Interest) -> Option<Interest> {
    let interest = kept.as_ref().try_to_interest()?;
    let failed = |interest: &Interest| interest.waiters.resolution() == Resolution::Failed;
    (!failed(&interest) || failed(of)).then_some(interest)
}

/// The tag of a remote task, if it has one that still lives.
pub(crate) fn tag(interest: &Interest) -> Option<Arc<dyn Any + Send + Sync>> {
    let link: &RemoteLink = interest.remote()?.as_any().downcast_ref()?;
    link.tag.as_ref()?.upgrade()
}

/// The key, the name and the deadline of a remote task.
pub(crate) struct RemoteName {
    pub(crate) key: Key,
    pub(crate) name: Arc<str>,
    /// The submitter chose the key, so that other submissions of it join this task.
    pub(crate) is_given: bool,
    pub(crate) deadline: Option<Duration>,
    pub(crate) submitted_at: SubmittedAt,
}

impl RemoteName {
    /// What errors say of the task.
    pub(crate) fn subject(&self) -> Subject {
        Subject { key: self.key.clone(), submitted_at: self.submitted_at }
    }
}

/// Makes a task that ends when what `send` returns has ended, or joins the one of the same key. If one of the inputs
/// fails, so does the task.
///
/// # Errors
///
/// If a task of this key has another type of value.
pub(crate) fn submit<T, P>(
    core: &Core,
    name: RemoteName,
    inputs: Vec<Interest>,
    send: impl FnOnce() -> P,
) -> Result<Typed<T>, Error>
where
    T: Send + 'static,
    P: RemoteExecution<T>,
{
    let RemoteName { key, name, is_given, deadline, submitted_at } = name;
    let mut inputs = Many::new(inputs.into_iter().map(After::new).collect());
    let new = create::prepare(core, &mut inputs);
    let allocate = || {
        let task = send();
        let link = RemoteLink {
            again: Box::new(task.again()),
            make_fetch_task: make_fetch_task::<T>,
            fetch_task: Lock::default(),
            tag: task.tag(),
        };
        let extras = Extras {
            name: Some(name),
            key: OnceLock::from(key.clone()),
            remote: Some(Box::new(link)),
            deadline: deadline.map(Deadline::new),
            ..Extras::default()
        };
        let flags = if is_given { KEYED } else { 0 };
        let extras = Some(Box::new(extras));
        let setup = Setup { flags, extras, submitted_at, ..Setup::default() };
        allocate::<T, P>(core, setup, task, inputs, new).into_interest()
    };
    let interest = if is_given {
        match core.store.join_or_insert(Lookup::Key(&key), allocate) {
            Joined::New(interest) => interest,
            Joined::Existing(interest) => {
                let held = (interest.vtable.type_name)();
                let origin = Subject { key, submitted_at };
                let conflict = |_| Error::key_conflict(origin, held, type_name::<T>());
                return Typed::checked(interest).map_err(conflict);
            }
        }
    } else {
        allocate()
    };
    if let Some(task) = create::begin(core, interest.task().as_ptr(), new) {
        schedule_new(task);
    }
    deadline::check(interest.task());
    Ok(Typed::known(interest))
}

/// The body of a remote task: waits for the end in the other process.
struct Ending<T, P>(PhantomData<(T, P)>);

impl<T: Send + 'static, P: RemoteExecution<T>> Body for Ending<T, P> {
    type Function = P;
    type Inputs = Many<After>;
    type Future = BoxFuture<Result<RemoteValue<T>, Error>>;
    type Value = RemoteValue<T>;
    /// The inputs are kept until the end: what is lost meanwhile is made of them again.
    type Kept = (P, Vec<Interest>);

    fn keep(task: &P, inputs: &Vec<Interest>) -> Self::Kept {
        (task.clone(), inputs.clone())
    }

    fn start(task: P, _: Vec<Interest>, _: &mut Option<Held>) -> Self::Future {
        Box::pin(async move {
            task.ended().await?;
            Ok(RemoteValue(Box::new(task) as _))
        })
    }

    fn outcome(output: Result<RemoteValue<T>, Error>) -> Result<RemoteValue<T>, Error> {
        output
    }

    fn again((task, inputs): Self::Kept) -> Option<(P, Vec<Interest>)> {
        task.can_run_again().then_some((task, inputs))
    }
}

/// The vtable of a cell whose value is a [`RemoteValue`] and is said to be a `T`.
struct RemoteCell<T, P>(PhantomData<(T, P)>);

impl<T: Send + 'static, P: RemoteExecution<T>> RemoteCell<T, P> {
    const VTABLE: VTable = VTable {
        type_id: TypeId::of::<T>,
        type_name: type_name::<T>,
        is_remote: true,
        ..Cell::<Ending<T, P>>::WITH_POLICY
    };
}

fn allocate<T: Send + 'static, P: RemoteExecution<T>>(
    core: &Core,
    setup: Setup,
    task: P,
    inputs: Many<After>,
    new: Registration,
) -> Typed<T> {
    let vtable = &RemoteCell::<T, P>::VTABLE;
    // SAFETY: it's the vtable of this very cell but for the type of the value, and code that reads a value by its type
    // checks `is_remote` first.
    unsafe {
        Typed::new(create::allocate_as::<Ending<T, P>>(core, setup, vtable, task, inputs, new))
    }
}

fn make_fetch_task<T: Send + 'static>(of: &Interest) -> (Interest, Option<Task>) {
    let name = format!("fetch {}", of.name()).into();
    // With the key of the remote task: errors name that one.
    let key = OnceLock::from(of.key().clone());
    let extras = Extras { name: Some(name), key, ..Extras::default() };
    let (extras, submitted_at) = (Some(Box::new(extras)), of.submitted_at);
    let setup = Setup { extras, submitted_at, ..Setup::default() };
    let from = After::new(of.clone());
    let (typed, ready) = create::task::<Fetch<T>>(of.core(), setup, (), from);
    (typed.into_interest(), ready)
}

/// The body of a fetch task.
struct Fetch<T>(PhantomData<T>);

impl<T: Send + 'static> Body for Fetch<T> {
    type Function = ();
    type Inputs = After;
    type Future = BoxFuture<Result<T, Error>>;
    type Value = T;
    /// What depends on the value may be retried, though the remote task has ended and need not run again.
    type Kept = Interest;

    fn keep((): &(), from: &Interest) -> Interest {
        from.clone()
    }

    fn start((): (), from: Interest, _: &mut Option<Held>) -> Self::Future {
        Box::pin(async move {
            // SAFETY: fetch tasks of this type are made by tasks of `submit` for values of this type only.
            let from = unsafe { Typed::<T>::new(from) };
            remote_value(&from).0.fetch().await
        })
    }

    fn outcome(output: Result<T, Error>) -> Result<T, Error> {
        output
    }

    fn again(from: Interest) -> Option<((), Interest)> {
        Some(((), from))
    }
}

/// What a remote task that has succeeded stores in place of its value.
fn remote_value<T>(typed: &Typed<T>) -> &RemoteValue<T> {
    debug_assert!(typed.is_remote() && typed.has_succeeded());
    // SAFETY: a remote task is made by `submit`, whose cell has this for a value; it's `Sync`, and never taken.
    unsafe { (typed.interest().vtable.value)(typed.task().as_ptr()).cast().as_ref() }
}

/// An input of which only the end matters: a remote value isn't fetched for it.
struct After(Edge);

impl After {
    fn new(from: Interest) -> Self {
        Self(Edge::new(from))
    }
}

// SAFETY: there's one edge, in place.
unsafe impl Waits for After {
    type Args = Interest;

    fn count(&self) -> usize {
        1
    }
    fn each(&self, visit: &mut dyn FnMut(&Edge)) {
        visit(&self.0);
    }
    fn take(self) -> Result<Interest, Error> {
        Ok(self.0.into_interest())
    }
    fn announce(&self) {
        self.0.announce();
    }
}

#[cfg(test)]
mod tests;
