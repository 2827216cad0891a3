//! Groups: tasks that are counted, awaited, limited and cancelled together.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use super::Client;
use super::group_state::GroupState;
use crate::Error;

/// The tasks that were submitted through it, and those that they submit, and so on; made by [`Client::group`].
///
/// It's a client: all of [`Client`]'s methods submit to the group, and a function that takes a `&Client` takes a `&Group`.
/// Those that concern the whole client, such as [`close`](Client::close), still do; [`idle`](Group::idle) is the group's own.
///
/// A task belongs to the group from its submission to its end, and so does what it submits: with
/// [`Client::current`], or any other client that carries no [context](Client::with_context). Within a task of a group, a new group
/// is an inner one, whose tasks belong to both. [`without_context`](Client::without_context) leaves all groups. A submission that
/// joins a task by its key leaves that in the groups that it was first submitted to.
///
/// Otherwise they are tasks as any other: one whose last handle is dropped is abandoned. [`detach`](crate::Handle::detach) lets
/// it run on, in the group.
///
/// Dropping the last clone of a group [cancels](Group::cancel_with) its tasks, which nothing outlives but blocking work that
/// is running: that can't be stopped. For a group that ends with a part of the program, and whose first failure ends it, see
/// [`nursery`](Client::nursery).
///
/// ```
/// # futures_lite::future::block_on(async {
/// use ensue::Client;
///
/// let client = Client::new();
/// let group = client.group();
/// group.limit_to(4);
/// for page in 0..20u32 {
///     group.submit(async |page| println!("loads {page}"), page).detach();
/// }
/// group.idle().await;
/// assert!(group.is_empty());
/// # });
/// ```
#[derive(Clone)]
pub struct Group {
    client: Client,
    owner: Arc<Owner>,
}

/// Ends the group with its last clone.
struct Owner(Arc<GroupState>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end("its group was dropped");
    }
}

impl Client {
    /// Makes a [`Group`], which counts, awaits, limits and cancels its tasks together.
    ///
    /// A task that fails doesn't affect the others of its group.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let group = client.group();
    /// let pages = group.map(async |_: u32| std::future::pending::<()>().await, 0..3);
    /// assert_eq!(group.len(), 3);
    /// assert_eq!(group.cancel_with("the user has left"), 3);
    /// assert_eq!(pages[0].result().unwrap_err().reason(), Some("the user has left"));
    /// ```
    #[must_use = "dropping the group cancels its tasks"]
    pub fn group(&self) -> Group {
        Group::new(self, false)
    }

    /// Runs `body`, which submits to a group, and then waits until all tasks of the group have ended: none outlives the
    /// future. The first of them that fails ends the rest.
    ///
    /// The body runs where the future is polled, in its caller's task: it may borrow, while the tasks own all that they use.
    /// It returns `Ok` for the tasks to be awaited, and then this returns its value. If it returns an error, or a task
    /// fails, panics or times out, the body is dropped at its next await, the other tasks are cancelled and awaited, and this
    /// returns that error. A task that is cancelled by itself, or abandoned, is no failure.
    /// Dropping the future cancels the tasks, without waiting for them.
    ///
    /// Blocking work that runs can't be stopped: after a failure it may outlive the future.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use ensue::Client;
    ///
    /// let client = Client::new();
    /// let pages = vec![1u64, 2, 3];
    /// let sum = client
    ///     .nursery(async |group| {
    ///         group.submit(async || println!("a task of its own"), ()).detach();
    ///         let sizes = group.map(async |page: u64| page * 100, pages.iter().copied());
    ///         Ok(ensue::gather(sizes).await?.iter().sum::<u64>())
    ///     })
    ///     .await;
    /// assert_eq!(sum.unwrap(), 600);
    ///
    /// let failed = client
    ///     .nursery(async |group| {
    ///         group.spawn(std::future::pending::<()>()).detach();
    ///         group.try_submit(async || "x".parse::<u32>(), ()).detach();
    ///         Ok(())
    ///     })
    ///     .await;
    /// assert!(failed.unwrap_err().to_string().contains("invalid digit"));
    /// # });
    /// ```
    pub fn nursery<F, Fut, T>(
        &self,
        body: F,
    ) -> impl Future<Output = Result<T, Error>> + use<F, Fut, T>
    where
        F: FnOnce(Group) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let client = self.for_later();
        async move {
            let group = Group::new(&client, true);
            let state = group.owner.0.clone();
            let returned = state.unless_it_fails(client.core(), body(group.clone())).await;
            if let Err(error) = &returned {
                state.end(&format!("its nursery failed: {error}"));
            }
            group.idle().await;
            match state.failure() {
                Some(error) => Err(error),
                None => returned,
            }
        }
    }
}

impl Group {
    fn new(client: &Client, fails_fast: bool) -> Self {
        let mut context = client.present_context();
        let state = GroupState::new(client.core(), context.group.take(), fails_fast);
        context.group = Some(state.clone());
        Self { client: client.carrying(context), owner: Arc::new(Owner(state)) }
    }

    /// Returns the group's name, such as `group-7`: that of its limit, too.
    pub fn name(&self) -> &str {
        self.owner.0.name()
    }

    /// Returns the number of its tasks that have not ended, also of those in inner groups. A task is counted until it has told
    /// its group, a moment after its handles have the outcome; [`idle`](Group::idle) waits for that.
    pub fn len(&self) -> usize {
        self.owner.0.len()
    }

    /// Returns whether all of its tasks have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when all tasks of the group have ended; more can be submitted after that.
    ///
    /// A task of the group may await it, or block on it in blocking work: those that do aren't waited for. But a task that
    /// waits for a task that awaits this is waited for, so the two wait for each other forever. A future that was
    /// created doesn't keep the group, which is cancelled when its last clone is dropped.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let client = ensue::Client::new();
    /// let group = client.group();
    /// group.submit(async || 1, ()).detach();
    /// group.idle().await;
    /// assert!(group.is_empty());
    /// # });
    /// ```
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        self.owner.0.clone().idle(self.client.core().clone())
    }

    /// Cancels the tasks of the group, as [`Handle::cancel_with`](crate::Handle::cancel_with) does, and all that are submitted
    /// to it after that. Returns the number of its tasks that had not ended. It works once: after that it returns 0, and the
    /// reason stays the first.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let group = client.group();
    /// group.cancel_with("shutting down");
    /// let late = group.submit(async || 1, ());
    /// assert_eq!(late.result().unwrap_err().reason(), Some("shutting down"));
    /// ```
    pub fn cancel_with(&self, reason: impl AsRef<str>) -> usize {
        self.owner.0.end(reason.as_ref())
    }

    /// Cancels the tasks of the group, as [`cancel_with`](Group::cancel_with) does, with the reason `its group was cancelled`.
    pub fn cancel(&self) -> usize {
        self.cancel_with("its group was cancelled")
    }

    /// Lets at most `n` of its tasks run at once; the others wait, as for a [limit](crate::Options::acquire) of the group's name.
    ///
    /// It holds for tasks that are submitted after the first call. Later calls raise and lower it for all of these. A task that
    /// has begun keeps its place until it ends or waits for its next attempt, so one that awaits others of the group
    /// may wait forever if there are no places for them.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let group = client.group();
    /// group.limit_to(2);
    /// let all = group.map(async |_: u32| std::future::pending::<()>().await, 0..10);
    /// # while client.limits().first().is_none_or(|limit| limit.waiting < 8) { std::thread::yield_now() }
    /// let limit = &client.limits()[0];
    /// assert_eq!((&*limit.name, limit.of, limit.used, limit.waiting), (group.name(), 2, 2, 8));
    /// # drop(all);
    /// ```
    pub fn limit_to(&self, n: usize) {
        let core = self.client.core();
        let state = &self.owner.0;
        let mut is_new = false;
        let lease = state.limit.get_or_init(|| {
            is_new = true;
            core.limits.insert_leased(state.name().to_owned(), n)
        });
        if !is_new {
            core.limits.set_leased(lease, n, &core.clock());
        }
    }
}

impl Deref for Group {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).field("len", &self.len()).finish()
    }
}
