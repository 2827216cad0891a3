//! The way from a submission to a task.

use std::any::type_name;
use std::future::Future;
use std::sync::OnceLock;

use super::attempt::Attempts;
use super::body::{Async, Boxed, Call, Called, Large, Once, Spawn, Spawned, is_large};
use super::options::TaskOptions;
use super::retry_mode::RetryMode;
use super::task_context;
use crate::engine::core::Core;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::cell::{Body, Cell};
use crate::engine::life::create::{self, Registration, Setup};
use crate::engine::life::{deadline, schedule};
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{Deadline, Digest, Extras, Interest, Task, VTable};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::Typed;
use crate::task::function::TaskFn;
use crate::task::key;
use crate::task::subject::{Subject, SubmittedAt};
use crate::{Client, Error, Handle, Key};

/// The largest number of new tasks of a `map` that are queued at a time. It is enough to share the cost, and lets
/// workers begin while other tasks are still being made.
const AT_ONCE: usize = 64;

/// Makes a task without any options, which the caller queues if it is ready.
pub(crate) fn create<B: Body>(
    client: &Client,
    submitted_at: SubmittedAt,
    function: B::Function,
    inputs: B::Inputs,
) -> (Handle<B::Value>, Option<Task>) {
    let core = client.core();
    let extras = if client.may_pass_on() { inherited_extras(client) } else { None };
    let setup = Setup { extras, submitted_at, ..Setup::default() };
    let (typed, ready) = create::task::<B>(core, setup, function, inputs);
    (Handle::new(typed), ready)
}

/// What a task needs that has no options but inherits something; `None` if it doesn't.
///
/// It is not generic, so that all call sites share it.
#[cold]
fn inherited_extras(client: &Client) -> Option<Box<Extras>> {
    let core = client.core();
    let inherited = client.inherited()?;
    let limits = task_context::limits(&inherited);
    let mut settings = TaskOptions { limits, ..TaskOptions::default() };
    let Ok(policy) = Attempts::take(core, &mut settings) else {
        unreachable!("a group has the limits of its own, which are never less than a task needs");
    };
    let inherited = Some(inherited);
    Some(Box::new(Extras { policy: policy.into(), inherited, ..Extras::default() }))
}

/// Makes a task of an async function without any options.
pub(crate) fn create_plain<F, W>(
    client: &Client,
    submitted_at: SubmittedAt,
    function: F,
    waits: W,
) -> (Handle<F::Output>, Option<Task>)
where
    F: TaskFn<W::Args>,
    W: Waits,
{
    if const { is_large::<F::Future>() } {
        create::<Once<Boxed<Async>, F, W>>(client, submitted_at, function, waits)
    } else {
        create::<Once<Async, F, W>>(client, submitted_at, function, waits)
    }
}

/// Submits a future without any options.
pub(crate) fn spawn<Fut>(
    client: &Client,
    submitted_at: SubmittedAt,
    future: Fut,
) -> Handle<Fut::Output>
where
    Fut: Future + Send + 'static,
    Fut::Output: Send + 'static,
{
    // Before it's passed on: each function that it's passed to may copy it.
    queued(if const { is_large::<Fut>() } {
        create::<Once<Spawn, _, ()>>(client, submitted_at, Spawned(Large::new(future)), ())
    } else {
        create::<Once<Spawn, _, ()>>(client, submitted_at, Spawned(future), ())
    })
}

/// Submits a pure call without any options.
pub(crate) fn pure<F, W>(
    client: &Client,
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
        make::<Once<Boxed<Async>, F, W>>(client, settings, function, waits)
    } else {
        make::<Once<Async, F, W>>(client, settings, function, waits)
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

/// A client, and the options of a task to submit to it.
pub(crate) struct Submission<'c> {
    pub(crate) client: &'c Client,
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
        let Self { client, settings } = self;
        if const { is_large::<C::Future>() } {
            make::<Called<R, Boxed<C>, F, W>>(client, settings, function, waits)
        } else {
            make::<Called<R, C, F, W>>(client, settings, function, waits)
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
    client: &Client,
    mut settings: TaskOptions,
    function: B::Function,
    mut inputs: B::Inputs,
) -> (Handle<B::Value>, Option<Task>) {
    let core = client.core();
    let submitted_at = settings.submitted_at;
    let new = create::prepare(core, &mut inputs);
    let mut parts = Some((function, inputs));
    let mut allocate = |setup| {
        let Some((function, inputs)) = parts.take() else {
            unreachable!("a task is allocated once");
        };
        create::allocate::<B>(core, setup, function, inputs, new).into_interest()
    };
    match make_or_join(client, &mut settings, &Cell::<B>::VTABLE, new, &mut allocate) {
        Ok((interest, ready)) => (Handle::new(Typed::known(interest)), ready),
        Err((key, error)) => (failed(core, key, submitted_at, error), None),
    }
}

/// Makes a task with these options by `allocate`, or joins the one that has its key. The error is that of the handle.
///
/// It is not generic, so that all call sites share it.
fn make_or_join(
    client: &Client,
    settings: &mut TaskOptions,
    vtable: &'static VTable,
    new: Registration,
    allocate: &mut dyn FnMut(Setup) -> Interest,
) -> Result<(Interest, Option<Task>), (Key, Error)> {
    let core = client.core();
    let inherited = client.inherited();
    if let Some(inherited) = &inherited {
        settings.limits.extend(task_context::limits(inherited));
    }
    let policy = match Attempts::take(core, settings) {
        Ok(policy) => policy,
        Err(text) => {
            let key = settings.any_key(core, (vtable.function)());
            let origin = Subject { key: key.clone(), submitted_at: settings.submitted_at };
            return Err((key, Error::limit(origin, text)));
        }
    };
    let (priority, submitted_at) = (settings.priority, settings.submitted_at);
    let given = Extras { policy: policy.into(), inherited, ..Extras::default() };
    match join_or_allocate(core, settings, given, vtable.function, allocate) {
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
    mut extras: Extras,
    function: fn() -> &'static str,
    allocate: &mut dyn FnMut(Setup) -> Interest,
) -> Joined {
    let TaskOptions { derived, priority, submitted_at, .. } = *settings;
    let key = settings.key.take();
    extras.name = settings.name.take();
    extras.deadline = settings.deadline.map(Deadline::new);
    if key.is_none() && derived.is_none() {
        let is_needed = extras.name.is_some() || extras.need_policy() || extras.inherited.is_some();
        let extras = is_needed.then(|| Box::new(extras));
        return Joined::New(allocate(Setup { priority, flags: 0, extras, submitted_at }));
    }
    let name = extras.name.clone();
    let wanted = match (&key, derived) {
        (None, Some(digest)) => Lookup::Derived { digest, name: name.as_deref(), function },
        (key, _) => Lookup::Key(key.as_deref().unwrap_or_default()),
    };
    let mut extras = Some(extras);
    core.store.join_or_insert(wanted, || {
        let key = key.clone().map_or_else(OnceLock::new, OnceLock::from);
        let derived = derived.map(Digest::new);
        let extras = extras.take().map(|given| Box::new(Extras { key, derived, ..given }));
        allocate(Setup { priority, flags: KEYED, extras, submitted_at })
    })
}
