//! The way from a submission to a task.

use std::any::type_name;
use std::future::Future;
use std::sync::OnceLock;

use super::attempt::Attempts;
use super::body::{Async, Boxed, Call, Large, Plain, Planned, Spawn, Spawned, is_large};
use super::options::TaskOptions;
use super::retry_mode::RetryMode;
use crate::engine::core::Core;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::cell::{Body, Cell};
use crate::engine::life::create::{self, Registration, Setup};
use crate::engine::life::{deadline, schedule};
use crate::engine::task::attempt::Policy;
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{Deadline, Extras, Interest, Task, VTable};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::Typed;
use crate::task::function::TaskFn;
use crate::task::key;
use crate::task::subject::{Subject, SubmittedAt};
use crate::{Error, Handle, Key};

/// The largest number of new tasks of a `map` that are queued at a time. It is enough to share the cost, and lets
/// workers begin while other tasks are still being made.
const AT_ONCE: usize = 64;

/// Makes a task without any options, which the caller queues if it is ready.
pub(crate) fn create<B: Body>(
    core: &Core,
    submitted_at: SubmittedAt,
    function: B::Function,
    inputs: B::Inputs,
) -> (Handle<B::Value>, Option<Task>) {
    let setup = Setup { submitted_at, ..Setup::default() };
    let (typed, ready) = create::task::<B>(core, setup, function, inputs);
    (Handle::new(typed), ready)
}

/// Makes a task of an async function without any options.
pub(crate) fn create_plain<F, W>(
    core: &Core,
    submitted_at: SubmittedAt,
    function: F,
    waits: W,
) -> (Handle<F::Output>, Option<Task>)
where
    F: TaskFn<W::Args>,
    W: Waits,
{
    if const { is_large::<F::Future>() } {
        create::<Plain<Boxed<Async>, F, W>>(core, submitted_at, function, waits)
    } else {
        create::<Plain<Async, F, W>>(core, submitted_at, function, waits)
    }
}

/// Submits a future without any options.
pub(crate) fn spawn<Fut>(core: &Core, submitted_at: SubmittedAt, future: Fut) -> Handle<Fut::Output>
where
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    // Before it's passed on: each function that it's passed to may copy it.
    queued(if const { is_large::<Fut>() } {
        create::<Plain<Spawn, _, ()>>(core, submitted_at, Spawned(Large::new(future)), ())
    } else {
        create::<Plain<Spawn, _, ()>>(core, submitted_at, Spawned(future), ())
    })
}

/// Submits a pure call without any options.
pub(crate) fn pure<F, W>(
    core: &Core,
    submitted_at: SubmittedAt,
    digest: u128,
    function: F,
    waits: W,
) -> Handle<F::Output>
where
    F: TaskFn<W::Args>,
    W: Waits,
{
    let derived = Some(digest);
    let settings = TaskOptions { derived, submitted_at, ..TaskOptions::default() };
    queued(if const { is_large::<F::Future>() } {
        make::<Plain<Boxed<Async>, F, W>>(core, settings, function, waits)
    } else {
        make::<Plain<Async, F, W>>(core, settings, function, waits)
    })
}

/// Queues a new task if it is ready.
pub(crate) fn queued<T>((handle, ready): (Handle<T>, Option<Task>)) -> Handle<T> {
    if let Some(task) = ready {
        schedule::schedule_new(task);
    }
    handle
}

/// Submits the task that `create` makes of each input, in batches.
pub(crate) fn many<I, T>(
    core: &Core,
    inputs: impl IntoIterator<Item = I>,
    mut create: impl FnMut(I) -> (Handle<T>, Option<Task>),
) -> Vec<Handle<T>> {
    let inputs = inputs.into_iter();
    let mut handles = Vec::with_capacity(inputs.size_hint().0);
    let mut ready = Batch { core, tasks: Vec::with_capacity(AT_ONCE) };
    // An iterator of unknown length may take long for its next input, or wait for these very tasks. Each task is
    // queued before the next input is requested then.
    let counted = inputs.size_hint().1 == Some(inputs.size_hint().0);
    let mut at_once = 1;
    for input in inputs {
        let (handle, task) = create(input);
        handles.push(handle);
        ready.tasks.extend(task);
        if ready.tasks.len() >= at_once {
            schedule::schedule_all(core, &mut ready.tasks);
            if counted {
                at_once = (2 * at_once).min(AT_ONCE);
            }
        }
    }
    handles
}

/// New tasks that are not queued yet. Dropping it queues them, also if the iterator of inputs panics.
struct Batch<'c> {
    core: &'c Core,
    tasks: Vec<Task>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        schedule::schedule_all(self.core, &mut self.tasks);
    }
}

/// A client's engine, and the options of a task to submit to it.
pub(crate) struct Submission<'c> {
    pub(crate) core: &'c Core,
    pub(crate) settings: TaskOptions,
}

impl Submission<'_> {
    /// Makes a task of which `C` calls the function, which the caller queues if it is ready.
    pub(crate) fn create<R, C, F, W>(
        self,
        function: F,
        waits: W,
    ) -> (Handle<C::Value>, Option<Task>)
    where
        R: RetryMode<F, W::Args>,
        C: Call<F, W::Args>,
        F: Send + 'static,
        W: Waits,
    {
        let Self { core, settings } = self;
        if const { is_large::<C::Future>() } {
            make::<Planned<R, Boxed<C>, F, W>>(core, settings, function, waits)
        } else {
            make::<Planned<R, C, F, W>>(core, settings, function, waits)
        }
    }
}

impl TaskOptions {
    /// Returns whether there is no option but a priority.
    #[cfg(feature = "dask")]
    pub(crate) fn is_plain(&self) -> bool {
        self.key.is_none()
            && self.derived.is_none()
            && self.name.is_none()
            && !self.needs_attempts()
    }

    /// Returns whether an option applies to each attempt.
    pub(crate) fn needs_attempts(&self) -> bool {
        self.retry.is_some()
            || self.timeout.is_some()
            || self.deadline.is_some()
            || !self.limits.is_empty()
    }

    pub(crate) fn has_retries(&self) -> bool {
        self.retry.is_some()
    }

    /// Returns the key, or makes one for the error of a task that is never made.
    pub(crate) fn any_key(&self, core: &Core, function: &str) -> Key {
        let name = || self.name.clone().unwrap_or_else(|| key::short_name(function).into());
        match (&self.key, self.derived) {
            (Some(key), _) => key.clone(),
            (None, Some(digest)) => key::derived(&name(), digest),
            (None, None) => format!("{}-{}", name(), core.next_number()).into(),
        }
    }
}

/// Returns a function that repeats the options, with another number at the end of the key each time.
pub(crate) fn numbered(settings: TaskOptions) -> impl FnMut() -> TaskOptions {
    let mut count = 0;
    move || {
        let mut settings = settings.clone();
        if let Some(key) = &mut settings.key {
            *key = format!("{key}-{count}").into();
            count += 1;
        }
        settings
    }
}

/// Makes the task, or joins the one that has its key.
fn make<B: Body>(
    core: &Core,
    mut settings: TaskOptions,
    function: B::Function,
    mut inputs: B::Inputs,
) -> (Handle<B::Value>, Option<Task>) {
    let submitted_at = settings.submitted_at;
    let new = create::prepare(core, &mut inputs);
    let mut parts = Some((function, inputs));
    let mut allocate = |setup| {
        let Some((function, inputs)) = parts.take() else {
            unreachable!("a task is allocated once");
        };
        create::allocate::<B>(core, setup, function, inputs, new).into_interest()
    };
    match make_or_join(core, &mut settings, &Cell::<B>::VTABLE, new, &mut allocate) {
        Ok((interest, ready)) => (Handle::new(Typed::known(interest)), ready),
        Err((key, error)) => (failed(core, key, submitted_at, error), None),
    }
}

/// Makes a task with these options by `allocate`, or joins the one that has its key. The error is that of the handle.
///
/// It is not generic, so that all call sites share it.
fn make_or_join(
    core: &Core,
    settings: &mut TaskOptions,
    vtable: &'static VTable,
    new: Registration,
    allocate: &mut dyn FnMut(Setup) -> Interest,
) -> Result<(Interest, Option<Task>), (Key, Error)> {
    let policy = match Attempts::take(core, settings) {
        Ok(policy) => policy,
        Err(text) => {
            let key = settings.any_key(core, (vtable.function)());
            let origin = Subject { key: key.clone(), submitted_at: settings.submitted_at };
            return Err((key, Error::limit(origin, text)));
        }
    };
    let (priority, submitted_at) = (settings.priority, settings.submitted_at);
    match join_or_allocate(core, settings, policy, vtable.function, allocate) {
        Joined::New(interest) => {
            let ready = create::begin(core, interest.task().as_ptr(), new);
            deadline::check(interest.task());
            Ok((interest, ready))
        }
        Joined::Existing(interest) if (interest.vtable.type_id)() == (vtable.type_id)() => {
            Core::raise(interest.task(), priority);
            Ok((interest, None))
        }
        Joined::Existing(interest) => Err(conflict(&interest, submitted_at, (vtable.type_name)())),
    }
}

/// Returns a handle whose error says that the task of this key has a value of another type than `T`.
pub(crate) fn key_conflict<T: Send + 'static>(
    core: &Core,
    submitted_at: SubmittedAt,
    holder: &Interest,
) -> Handle<T> {
    let (key, error) = conflict(holder, submitted_at, type_name::<T>());
    failed(core, key, submitted_at, error)
}

fn conflict(holder: &Interest, submitted_at: SubmittedAt, wanted: &'static str) -> (Key, Error) {
    let key = holder.key().clone();
    let held = (holder.vtable.type_name)();
    (key.clone(), Error::key_conflict(Subject { key, submitted_at }, held, wanted))
}

/// Returns a handle of a task that has failed without being made.
fn failed<T: Send + 'static>(
    core: &Core,
    key: Key,
    submitted_at: SubmittedAt,
    error: Error,
) -> Handle<T> {
    Handle::new(create::ended(core, Some(key), submitted_at, Err(error)))
}

/// Joins the task that has the key, if there is one in `settings`, or has a new task allocated.
fn join_or_allocate(
    core: &Core,
    settings: &mut TaskOptions,
    policy: Option<Box<dyn Policy>>,
    function: fn() -> &'static str,
    allocate: &mut dyn FnMut(Setup) -> Interest,
) -> Joined {
    let (key, name) = (settings.key.take(), settings.name.take());
    let TaskOptions { derived, priority, submitted_at, .. } = *settings;
    let deadline = settings.deadline.map(Deadline::new);
    if key.is_none() && derived.is_none() {
        let extras = (name.is_some() || policy.is_some()).then(|| {
            Box::new(Extras { name, policy: policy.into(), deadline, ..Extras::default() })
        });
        return Joined::New(allocate(Setup { priority, flags: 0, extras, submitted_at }));
    }
    let wanted = match (&key, derived) {
        (None, Some(digest)) => Lookup::Derived { digest, name: name.as_deref(), function },
        (key, _) => Lookup::Key(key.as_deref().unwrap_or_default()),
    };
    core.store.join_or_insert(wanted, || {
        let key = key.clone().map_or_else(OnceLock::new, OnceLock::from);
        let (name, policy) = (name.clone(), policy.into());
        let extras = Extras { name, key, derived, policy, deadline, ..Extras::default() };
        let extras = Some(Box::new(extras));
        allocate(Setup { priority, flags: KEYED, extras, submitted_at })
    })
}
