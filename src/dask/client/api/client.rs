//! The client: verbs, and the link to the scheduler below them.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{error, fmt};

use crate::dask::client::api::batched_calls::Slow;
use crate::dask::client::api::options::Options;
use crate::dask::client::api::python::PythonInputs;
use crate::dask::client::io::link::Link;
use crate::dask::client::io::register;

use crate::Handle;
use crate::dask::net::{Address, Tls};
use crate::dask::registry::Registry;
use crate::dask::wire::value::{Map, Value};
use crate::engine::futures::sleep::sleep;
use crate::error::IntoFailure;
use crate::function::{BlockingFn, TaskFn};
use crate::options::TaskOptions;
use crate::portable::{Engine, Portable, PortableFn, PortableInputs};

/// Where work is submitted to a Dask cluster, with the verbs of [`ensue::Client`](crate::Client) and the same
/// [`Handle`]s.
///
/// A result stays on the worker that has it until somebody awaits it. A handle among the inputs is a dependency that the
/// cluster resolves: its value doesn't come here. A task whose result is there has ended, for
/// [`as_completed`](crate::as_completed), [`wait_all`](crate::wait_all) and [`is_finished`](Handle::is_finished),
/// though its value may be elsewhere: [`try_get`](Handle::try_get) gives it only while it's here. Dropping the last handle
/// of a task gives up its key on the cluster. A handle may be an input of a task of an embedded client, too: that
/// fetches the value.
///
/// Functions are sent by name, so both sides need to know them: see [`Registry`]. One that isn't registered, inputs from
/// another client, and what can't be serialised give a handle whose error is [`Refused`](crate::ErrorKind::Refused).
///
/// Clones are cheap and are of the same client. Dropping the last one leaves the cluster: what isn't fetched by then is
/// [`Closed`](crate::ErrorKind::Closed). If the scheduler goes, all that isn't here is [`Lost`](crate::ErrorKind::Lost).
///
/// ```no_run
/// use ensue::dask::{Client, Registry};
///
/// async fn inc(x: u64) -> u64 {
///     x + 1
/// }
///
/// # async fn show() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("tcp://10.0.0.1:8786", Registry::new().add(inc)).await?;
/// let x = client.submit(inc, 1);
/// let y = client.submit(inc, &x);
/// assert_eq!(y.await?, 3);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(crate) struct Inner {
    /// Runs nothing but what stands for tasks on the cluster.
    pub(super) local: crate::Client,
    pub(super) link: Link,
    pub(super) registry: Registry,
    /// Is part of the keys.
    pub(super) id: u32,
    pub(super) slow: Arc<Slow>,
    /// How many threads our workers have, as far as that was heard of.
    pub(super) threads: AtomicUsize,
}

/// So many threads a cluster is taken to have that had no workers when it was looked at.
const UNKNOWN: usize = 16;

/// Why there's no connection to a cluster, or no use of it; the text says what, and what to do.
#[derive(Debug)]
pub struct ConnectError(Cause);

#[derive(Debug)]
enum Cause {
    Connect(register::ConnectError),
    FewWorkers { there: usize, wanted: usize, after: Duration },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Connect(error) => error.fmt(f),
            Cause::FewWorkers { there, wanted, after } => write!(
                f,
                "there are {there} Rust workers after {after:?}, not {wanted}: start some with \
                 `ensue::dask::Worker`"
            ),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.0 {
            Cause::Connect(error) => Some(error),
            Cause::FewWorkers { .. } => None,
        }
    }
}

impl<E: Into<register::ConnectError>> From<E> for ConnectError {
    fn from(error: E) -> Self {
        Self(Cause::Connect(error.into()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Handles may still be there, and would keep the connection.
        self.link.leave();
    }
}

impl Inner {
    /// How many tasks may run at once, more or less.
    pub(crate) fn threads(&self) -> usize {
        match self.threads.load(Ordering::Relaxed) {
            // Those that have come since weren't heard of.
            0 => UNKNOWN,
            threads => threads,
        }
    }

    /// What the scheduler says of itself and its workers.
    async fn identity(&self) -> Result<Map, ConnectError> {
        let identity = self.link.identity().await?;
        let threads = ours(&identity).filter_map(|worker| worker.get("nthreads")?.as_int());
        let threads = threads.map(|threads| usize::try_from(threads).unwrap_or(0)).sum();
        self.threads.store(threads, Ordering::Relaxed);
        Ok(identity)
    }
}

impl Client {
    /// Connects to the scheduler at an address such as `tcp://10.0.0.1:8786`, or `tls://10.0.0.1:8786` for which
    /// [`tls`](Connect::tls) is needed; await what this returns.
    ///
    /// # Errors
    ///
    /// If there's no scheduler, or one that we can't talk to; the error says what to do.
    pub fn connect(address: impl Into<String>, registry: Registry) -> Connect {
        Connect { address: address.into(), registry, tls: None, timeout: Duration::from_secs(30) }
    }

    /// Options for a task: a key, a priority, retries, a timeout, resources, workers.
    pub fn task(&self) -> Options<'_> {
        Options::new(self, TaskOptions::new())
    }

    /// Submits an async function and its inputs, and returns a handle at once.
    ///
    /// As [`ensue::Client::submit`](crate::Client::submit), with a function that is registered here and with the workers.
    pub fn submit<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.task().submit(function, inputs)
    }

    /// Submits an async function that returns a `Result`, registered with [`Registry::try_add`]. An `Err` comes here as
    /// a [`Failed`](crate::dask::Failed) with its text.
    pub fn try_submit<F, I, A, T, E, M>(&self, function: F, inputs: I) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.task().try_submit(function, inputs)
    }

    /// Submits a function that blocks, registered with [`Registry::add_blocking`].
    pub fn submit_blocking<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A, Output: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.task().submit_blocking(function, inputs)
    }

    /// Submits a function that blocks and returns a `Result`, registered with [`Registry::try_add_blocking`].
    pub fn try_submit_blocking<F, I, A, T, E, M>(&self, function: F, inputs: I) -> Handle<T>
    where
        F: BlockingFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.task().try_submit_blocking(function, inputs)
    }

    /// Calls a function in Python, given by its path, on a Python worker. Its inputs may be handles of functions of
    /// ours, and the other way round: both sides see numbers, text, bytes, lists and dicts.
    ///
    /// Any worker may be chosen that isn't ours, unless the task is given workers or a resource; while there's none, it
    /// waits here. The worker must be able to import the function. What it returns must be such data and fit `T`:
    /// otherwise awaiting it gives an error that says what it is.
    ///
    /// ```no_run
    /// # async fn inc(x: u64) -> u64 { x + 1 }
    /// # async fn show(client: ensue::dask::Client) -> Result<(), ensue::Error> {
    /// let x = client.submit(inc, 1);
    /// let sum = client.submit_python::<u64>("operator.add", (&x, 5));
    /// assert_eq!(sum.await?, 7);
    /// # Ok(()) }
    /// ```
    pub fn submit_python<T: Portable>(
        &self,
        function: &str,
        inputs: impl PythonInputs,
    ) -> Handle<T> {
        self.task().submit_python(function, inputs)
    }

    /// Submits a function once for each of the inputs.
    ///
    /// Calls that take no other task's result go together, some hundreds in a task of the cluster, which makes them one
    /// after the other for 10 ms; what is left by then, or after a call that failed, is sent again. So a call that never
    /// returns keeps those behind it in its task from starting: give such calls to `submit`.
    pub fn map<F, I, A>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.task().map(function, inputs)
    }

    /// Submits a function that returns a `Result` once for each of the inputs.
    pub fn try_map<F, I, A, T, E, M>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<T>>
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        T: Portable,
        E: IntoFailure<M>,
    {
        self.task().try_map(function, inputs)
    }

    /// Gives a value to a worker, and returns its handle: for what many tasks take.
    pub fn ready<T: Portable>(&self, value: T) -> Handle<T> {
        self.task().ready(value)
    }

    /// Waits until the cluster has at least so many workers of ours.
    ///
    /// # Errors
    ///
    /// Says how many there are if they don't come within `timeout`, and what is wrong if the scheduler is gone.
    pub async fn wait_for_workers(&self, n: usize, timeout: Duration) -> Result<(), ConnectError> {
        let start = Instant::now();
        loop {
            let there = ours(&self.0.identity().await?).count();
            if there >= n {
                return Ok(());
            }
            if start.elapsed() >= timeout {
                return Err(ConnectError(Cause::FewWorkers { there, wanted: n, after: timeout }));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The link to Dask's own dashboard, if the scheduler serves pages. It shows much only where bokeh is installed beside
    /// the scheduler; without it the page says so.
    ///
    /// # Errors
    ///
    /// Says what is wrong if the scheduler is gone.
    pub async fn dashboard(&self) -> Result<Option<String>, ConnectError> {
        let identity = self.0.identity().await?;
        let services = identity.get("services").and_then(Value::as_map);
        let port = services.and_then(|services| services.get("dashboard")?.as_int());
        let host = &self.0.link.scheduler().host;
        Ok(port.map(|port| format!("http://{host}:{port}/status")))
    }

    /// Resolves when no task of this client is under way.
    pub async fn idle(&self) {
        self.0.local.idle().await;
    }

    /// Leaves the cluster. What has not ended is given up: awaiting it, or a result that wasn't fetched, gives
    /// [`Closed`](crate::ErrorKind::Closed). Bounded in time, and idempotent.
    pub async fn close(&self) {
        self.0.link.close().await;
        self.0.local.close().await;
    }
}

/// The workers in an identity that are ours.
fn ours(identity: &Map) -> impl Iterator<Item = &Map> {
    let workers = identity.get("workers").and_then(Value::as_map);
    let workers = workers.into_iter().flat_map(|workers| &workers.0);
    workers.filter_map(|(_, worker)| worker.as_map()).filter(|worker| is_ours(worker))
}

/// Whether a worker in an identity is ours.
pub(crate) fn is_ours(worker: &Map) -> bool {
    let resources = worker.get("resources").and_then(Value::as_map);
    resources.is_some_and(|resources| resources.get(crate::dask::RUST).is_some())
}

impl Engine for Client {
    fn submit_with<F, I, A>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        Options::new(self, options).submit(function, inputs)
    }

    fn try_submit_with<F, I, A, T, E, M>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<T>
    where
        F: TaskFn<A, Output = Result<T, E>> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        T: Portable,
        E: IntoFailure<M>,
        M: 'static,
    {
        Options::new(self, options).try_submit(function, inputs)
    }

    fn ready<T: Portable>(&self, value: T) -> Handle<T> {
        Client::ready(self, value)
    }

    fn map<F, I, A>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Output>>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
    {
        Client::map(self, function, inputs)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("scheduler", &self.0.link.scheduler().to_string())
            .finish_non_exhaustive()
    }
}

/// What [`Client::connect`] returns: await it.
#[derive(Clone, Debug)]
#[must_use = "it connects when it's awaited"]
pub struct Connect {
    address: String,
    registry: Registry,
    tls: Option<Tls>,
    timeout: Duration,
}

impl Connect {
    /// With these certificates, for an address that begins with `tls://`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Gives up after so long; 30 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl IntoFuture for Connect {
    type Output = Result<Client, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let address = self.address.parse::<Address>()?;
            let link = Link::connect(&address, self.tls.as_ref(), self.timeout).await?;
            let mut id = [0; 4];
            // Without a source of randomness any number will do that others hardly have.
            if getrandom::fill(&mut id).is_err() {
                id = std::process::id().to_ne_bytes();
            }
            let local = crate::Client::builder().workers(1).name("ensue-dask-client").build();
            let inner = Inner {
                local,
                link,
                registry: self.registry,
                id: u32::from_ne_bytes(id),
                slow: Arc::default(),
                threads: AtomicUsize::new(0),
            };
            inner.identity().await?;
            Ok(Client(Arc::new(inner)))
        })
    }
}
