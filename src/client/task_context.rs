//! What tasks inherit: the values of their context, and the group that they belong to.
//!
//! A client may carry a context, and its tasks get it; so do the tasks that these submit with a client that carries none. The
//! engine passes it on as an opaque [`Inherited`].

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Client;
use super::group_state::GroupState;
use crate::engine::core::context;
use crate::engine::task::header::TaskRef;
use crate::engine::task::inherited::{Inherit, Inherited};

/// The context of tasks.
#[derive(Clone, Default)]
pub(crate) struct TaskContext {
    values: BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>,
    pub(super) group: Option<Arc<GroupState>>,
}

impl TaskContext {
    fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.values.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}

impl Inherit for TaskContext {
    fn begun(self: Arc<Self>, task: TaskRef<'_>) {
        if let Some(group) = &self.group {
            group.enter(task);
        }
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Returns the value of this type in the context of the task whose code is running, or `None`: there is no such value, or no
/// task. See [`Client::with_context`].
///
/// It works in async code, in blocking work, and in the branches of a [`join`](crate::join).
///
/// ```
/// use ensue::Client;
///
/// struct RequestId(u64);
///
/// async fn load(page: u64) -> String {
///     let request = ensue::context::<RequestId>().map_or(0, |id| id.0);
///     format!("page {page} of request {request}")
/// }
///
/// let client = Client::new();
/// let page = client.with_context(RequestId(7)).submit(load, 1);
/// assert_eq!(page.result().unwrap(), "page 1 of request 7");
/// ```
pub fn context<T: Send + Sync + 'static>() -> Option<Arc<T>> {
    let core = context::current_core()?;
    of(context::inherited(&core)?)?.get()
}

fn of(inherited: Inherited) -> Option<Arc<TaskContext>> {
    inherited.as_any().downcast().ok()
}

impl Client {
    /// Returns the same client with a value in its context. The tasks that are submitted with it have the value, and so do
    /// those that they submit, and so on: with [`current`](Client::current), or with any client that carries no context of its
    /// own. They get it from [`context`](crate::context).
    ///
    /// There is one value of each type: another one takes its place, for the client that is returned. Called in a task with a
    /// client that carries no context, this adds to the task's context; its [group](Client::group) is a part of that. The value
    /// is dropped with the last task or client that has it. One that holds a client keeps that alive.
    ///
    /// A task that is joined by its key keeps the context that it was first submitted with. Callbacks, and destructors
    /// that no task runs, have none. On a Dask cluster, a context isn't sent.
    ///
    /// ```
    /// use ensue::Client;
    ///
    /// #[derive(Clone)]
    /// struct User(&'static str);
    ///
    /// let client = Client::new();
    /// let greeting = client.with_context(User("ada")).submit(
    ///     async || {
    ///         let name = async || ensue::context::<User>().unwrap().0.to_owned();
    ///         let inner = Client::current().unwrap().submit(name, ());
    ///         inner.await.map(|name| format!("hello, {name}"))
    ///     },
    ///     (),
    /// );
    /// assert_eq!(greeting.result().unwrap().unwrap(), "hello, ada");
    /// ```
    #[must_use = "only the client that is returned has the value"]
    pub fn with_context<T: Send + Sync + 'static>(&self, value: T) -> Self {
        let mut context = self.present_context();
        context.values.insert(TypeId::of::<T>(), Arc::new(value));
        self.carrying(context)
    }

    /// Returns the same client with an empty context: its tasks have none of the values of the task that submits them, and
    /// are in none of its groups. They outlive these.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use ensue::Client;
    ///
    /// let client = Client::new();
    /// let group = client.group();
    /// let audit = group.submit(
    ///     async || Client::current().unwrap().without_context().submit(async || "written", ()),
    ///     (),
    /// );
    /// let audit = audit.await?;
    /// drop(group);
    /// assert_eq!(audit.await?, "written");
    /// # Ok::<_, ensue::Error>(()) }).unwrap();
    /// ```
    #[must_use = "only the client that is returned has no context"]
    pub fn without_context(&self) -> Self {
        self.carrying(TaskContext::default())
    }

    pub(super) fn carrying(&self, context: TaskContext) -> Self {
        self.core.inherits.store(true, Ordering::Relaxed);
        let mut client = self.clone();
        client.context = Some(Arc::new(context));
        client
    }

    /// The context that a task would get if it were submitted now.
    pub(super) fn present_context(&self) -> TaskContext {
        let context = self.context.clone().or_else(|| of(context::inherited(&self.core)?));
        context.map_or_else(TaskContext::default, Arc::unwrap_or_clone)
    }

    /// Whether a task that is submitted now may inherit something.
    #[inline]
    pub(super) fn may_pass_on(&self) -> bool {
        self.context.is_some() || self.core.inherits.load(Ordering::Relaxed)
    }

    /// What a task that is submitted now inherits.
    pub(super) fn inherited(&self) -> Option<Inherited> {
        match &self.context {
            Some(context) => Some(context.clone()),
            None => context::inherited(&self.core),
        }
    }

    /// The same client with the context that a task would get if it were submitted now: for submissions later and elsewhere.
    pub(super) fn for_later(&self) -> Self {
        let mut client = self.clone();
        if client.context.is_none() {
            client.context = context::inherited(&self.core).and_then(of);
        }
        client
    }
}

/// The limits of the groups that a task is going to be in.
pub(super) fn limits(inherited: &Inherited) -> Vec<(String, usize)> {
    let group = of(inherited.clone()).and_then(|context| context.group.clone());
    group.map_or_else(Vec::new, |group| group.limits())
}
