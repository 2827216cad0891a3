//! From a submission to a task.

use std::any::type_name;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use crate::attempt::{Plan, Planned};
use crate::engine::core::Core;
use crate::engine::core::context;
use crate::engine::data::store::{Joined, Lookup};
use crate::engine::life::cell::{self, Outcome, Setup};
use crate::engine::life::schedule;
use crate::engine::task::edges::Waits;
use crate::engine::task::header::{Extras, Task};
use crate::engine::task::state::KEYED;
use crate::engine::task::typed::Typed;
use crate::options::TaskOptions;
use crate::{Error, Handle, Key, Retry, key};

/// So many new tasks of a `map` are queued at a time, at most: enough to share the cost, few enough that
/// workers begin while the rest are still being made.
const AT_ONCE: usize = 64;

/// Submits a function without any options.
pub(crate) fn plain<S, F, W, Fut, T>(core: &Core, start: S, function: F, waits: W) -> Handle<T>
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let (typed, ready) = cell::create(core, Setup::default(), start, function, waits);
    queued((Handle::new(typed), ready))
}

/// Submits a pure call without any options.
pub(crate) fn pure<S, F, W, Fut, T>(
    core: &Core,
    digest: u128,
    start: S,
    function: F,
    waits: W,
) -> Handle<T>
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let named = Named { key: None, derived: Some(digest), name: None };
    queued(join(core, named, 0, start, function, waits))
}

/// Queues a new task that is ready.
fn queued<T>((handle, ready): (Handle<T>, Option<Task>)) -> Handle<T> {
    if let Some(task) = ready {
        schedule::schedule_new(task);
    }
    handle
}

/// Submits what `create` makes of each of the inputs, some at a time.
pub(crate) fn many<I, T>(
    core: &Core,
    inputs: impl IntoIterator<Item = I>,
    mut create: impl FnMut(I) -> (Handle<T>, Option<Task>),
) -> Vec<Handle<T>> {
    let inputs = inputs.into_iter();
    let mut handles = Vec::with_capacity(inputs.size_hint().0);
    let mut ready = Bulk { core, tasks: Vec::with_capacity(AT_ONCE) };
    // Inputs that nobody can count come from somewhere, and may take their time or wait for these very tasks.
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

/// New tasks that are not queued yet; they are in the end, also where the iterator of inputs panics.
struct Bulk<'c> {
    core: &'c Core,
    tasks: Vec<Task>,
}

impl Drop for Bulk<'_> {
    fn drop(&mut self) {
        schedule::schedule_all(self.core, &mut self.tasks);
    }
}

/// Where a task is submitted, and how it's to be run.
pub(crate) struct Submission<'c> {
    pub(crate) core: &'c Core,
    pub(crate) settings: TaskOptions,
}

impl Submission<'_> {
    /// Submits a function that needs no plan unless the options do.
    pub(crate) fn one<F, W, Fut1, Fut2, T>(
        self,
        plain: impl Fn(F, W::Args) -> Fut1 + Send + 'static,
        planned: impl Fn(Planned<F>, W::Args) -> Fut2 + Send + 'static,
        function: F,
        waits: W,
    ) -> Handle<T>
    where
        F: Send + 'static,
        W: Waits,
        Fut1: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
        Fut2: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        queued(self.create(plain, planned, function, waits))
    }

    pub(crate) fn one_planned<F, W, Fut, T>(
        self,
        start: impl Fn(Planned<F>, W::Args) -> Fut + Send + 'static,
        function: F,
        waits: W,
    ) -> Handle<T>
    where
        F: Send + 'static,
        W: Waits,
        Fut: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        queued(self.create_planned(start, function, waits))
    }

    pub(crate) fn create<F, W, Fut1, Fut2, T>(
        self,
        plain: impl Fn(F, W::Args) -> Fut1 + Send + 'static,
        planned: impl Fn(Planned<F>, W::Args) -> Fut2 + Send + 'static,
        function: F,
        waits: W,
    ) -> (Handle<T>, Option<Task>)
    where
        F: Send + 'static,
        W: Waits,
        Fut1: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
        Fut2: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        if self.settings.needs_plan() {
            return self.create_planned(planned, function, waits);
        }
        make(self.core, self.settings, plain, function, waits)
    }

    pub(crate) fn create_planned<F, W, Fut, T>(
        self,
        start: impl Fn(Planned<F>, W::Args) -> Fut + Send + 'static,
        function: F,
        waits: W,
    ) -> (Handle<T>, Option<Task>)
    where
        F: Send + 'static,
        W: Waits,
        Fut: Future<Output = Outcome<T, Planned<F>, W::Args>> + Send + 'static,
        T: Send + 'static,
    {
        let Self { core, mut settings } = self;
        let limits = match core.limits.needs(&settings.limits) {
            Ok(limits) => limits,
            Err(text) => {
                let key = settings.any_key::<F>(core);
                let error = Error::limit(key.clone(), text);
                return (Handle::new(cell::create_ended(core, Some(key), Err(error))), None);
            }
        };
        let retry = settings.retry.take().unwrap_or_else(|| Retry::new(0));
        let plan = Arc::new(Plan { retry, timeout: settings.timeout, limits });
        make(core, settings, start, Planned { function, plan }, waits)
    }
}

impl TaskOptions {
    /// Whether there's nothing to it but a priority.
    pub(crate) fn is_plain(&self) -> bool {
        self.key.is_none() && self.derived.is_none() && self.name.is_none() && !self.needs_plan()
    }

    fn needs_plan(&self) -> bool {
        self.retry.is_some() || self.timeout.is_some() || !self.limits.is_empty()
    }

    pub(crate) fn has_retries(&self) -> bool {
        self.retry.is_some()
    }

    pub(crate) fn name_of<F>(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|| key::short_name(type_name::<F>()).into())
    }

    /// The key, or one for the error of a task that is never made.
    pub(crate) fn any_key<F>(&self, core: &Core) -> Key {
        match (&self.key, self.derived) {
            (Some(key), _) => key.clone(),
            (None, Some(digest)) => key::derived(&self.name_of::<F>(), digest),
            (None, None) => format!("{}-{}", self.name_of::<F>(), core.next_number()).into(),
        }
    }
}

/// The same options again and again, a key with another number each time.
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
fn make<S, F, W, Fut, T>(
    core: &Core,
    settings: TaskOptions,
    start: S,
    function: F,
    waits: W,
) -> (Handle<T>, Option<Task>)
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let TaskOptions { key, derived, name, priority, .. } = settings;
    if key.is_some() || derived.is_some() {
        return join(core, Named { key, derived, name }, priority, start, function, waits);
    }
    let extras = name.map(|name| Box::new(Extras { name: Some(name), ..Extras::default() }));
    let setup = Setup { priority, flags: 0, extras };
    let (typed, ready) = cell::create(core, setup, start, function, waits);
    (Handle::new(typed), ready)
}

/// What a task with a key of its own is called: by a key, or by a digest that stands for one.
struct Named {
    key: Option<Key>,
    derived: Option<u128>,
    name: Option<Arc<str>>,
}

/// Makes a task with a key of its own, or joins the one that has it.
fn join<S, F, W, Fut, T>(
    core: &Core,
    named: Named,
    priority: i32,
    start: S,
    function: F,
    mut waits: W,
) -> (Handle<T>, Option<Task>)
where
    S: Fn(F, W::Args) -> Fut + Send + 'static,
    F: Send + 'static,
    W: Waits,
    Fut: Future<Output = Outcome<T, F, W::Args>> + Send + 'static,
    T: Send + 'static,
{
    let Named { key, derived, name } = &named;
    let wanted = match (key, derived) {
        (None, Some(digest)) => {
            Lookup::Derived { digest: *digest, name: name.as_deref(), function: type_name::<F> }
        }
        (key, _) => Lookup::Key(key.as_deref().unwrap_or_default()),
    };
    let new = cell::inputs(core, &mut waits);
    let joined = core.store.join_or_insert(wanted, || {
        let key = key.clone().map_or_else(OnceLock::new, OnceLock::from);
        let extras = Extras { name: name.clone(), key, derived: *derived, ..Extras::default() };
        let setup = Setup { priority, flags: KEYED, extras: Some(Box::new(extras)) };
        cell::allocate::<_, _, _, _, T>(core, setup, start, function, waits, new).into_interest()
    });
    match joined {
        Joined::New(user) => {
            let ready = cell::begin(core, user.task().as_ptr(), new);
            (Handle::new(Typed::known(user)), ready)
        }
        Joined::Existing(user) => match Typed::checked(user) {
            Ok(typed) => {
                Core::raise(typed.task(), priority);
                (Handle::new(typed), None)
            }
            Err(user) => {
                let held = (user.vtable.type_name)();
                let key = wanted.key();
                let error = Error::key_conflict(key.clone(), held, type_name::<T>());
                (Handle::new(cell::create_ended(core, Some(key), Err(error))), None)
            }
        },
    }
}
