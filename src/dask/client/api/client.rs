//! The client of a cluster, and its submit methods.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ConnectError;
use super::options::Options;
use super::python::PythonInputs;
use super::session::Session;
use crate::Handle;
use crate::client::options::TaskOptions;
use crate::client::portable::{Engine, Portable, PortableFn, PortableInputs};
use crate::dask::client::io::identity::rust_workers;
use crate::dask::client::io::link::Link;
use crate::dask::net::{Address, Tls};
use crate::dask::registry::Registry;
use crate::dask::wire::value::Value;
use crate::engine::futures::sleep::sleep;
use crate::task::function::{BlockingFn, TryBlockingFn, TryTaskFn};

/// The default limit of connecting.
const CONNECT: Duration = Duration::from_secs(30);

/// The pause between two questions for the number of workers.
const POLL_WORKERS: Duration = Duration::from_millis(50);

/// A client of a Dask cluster, with the methods of [`ensue::Client`](crate::Client) and the same [`Handle`]s.
///
/// A result stays on the worker that computed it until a handle of it is awaited. A handle among the inputs of a task
/// is a dependency that the cluster resolves: its value isn't transferred to this process. A task has ended when its
/// result is on the cluster, for [`as_completed`](crate::as_completed), [`wait_all`](crate::wait_all) and
/// [`is_finished`](Handle::is_finished); [`try_get`](Handle::try_get) returns a value only while it's in this process.
/// Dropping the last handle of a task releases its key on the cluster. A handle may also be an input of a task of an
/// embedded client, which fetches the value.
///
/// Functions are sent by name, so the client and the workers need the same [`Registry`]. A function that isn't
/// registered, inputs from another client, and values that can't be serialized give a handle whose error is
/// [`Refused`](crate::ErrorKind::Refused).
///
/// Clones are cheap and share one connection. Dropping the last clone disconnects: results that aren't fetched by then
/// are [`Closed`](crate::ErrorKind::Closed). If the connection to the scheduler ends, all results that aren't in this
/// process are [`Lost`](crate::ErrorKind::Lost).
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
pub struct Client(Arc<Session>);

impl Client {
    /// Connects to the scheduler at an address such as `tcp://10.0.0.1:8786`, or `tls://10.0.0.1:8786` together with
    /// [`tls`](Connect::tls). Await the returned [`Connect`].
    ///
    /// # Errors
    ///
    /// If there is no scheduler at the address, or one of an incompatible release. The error says what to do.
    pub fn connect(address: impl Into<String>, registry: Registry) -> Connect {
        Connect { address: address.into(), registry, tls: None, timeout: CONNECT }
    }

    /// Returns options for a task: a key, a priority, retries, a timeout, resources, workers.
    pub fn task(&self) -> Options<'_> {
        Options::new(&self.0, TaskOptions::new())
    }

    /// Submits an async function and its inputs, and returns a handle at once.
    ///
    /// Works as [`ensue::Client::submit`](crate::Client::submit), with a function that this client and the workers have
    /// registered with [`Registry::add`]. The function runs on a thread of a worker.
    #[track_caller]
    pub fn submit<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: PortableFn<A>,
        I: PortableInputs<A>,
    {
        self.task().submit(function, inputs)
    }

    /// Submits an async function that returns a `Result`, registered with [`Registry::try_add`]. An `Err` arrives as a
    /// [`Failed`](crate::dask::Failed) with its text.
    #[track_caller]
    pub fn try_submit<F, I, A, M>(&self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.task().try_submit(function, inputs)
    }

    /// Submits a blocking function, registered with [`Registry::add_blocking`].
    #[track_caller]
    pub fn submit_blocking<F, I, A>(&self, function: F, inputs: I) -> Handle<F::Output>
    where
        F: BlockingFn<A, Output: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.task().submit_blocking(function, inputs)
    }

    /// Submits a blocking function that returns a `Result`, registered with [`Registry::try_add_blocking`].
    #[track_caller]
    pub fn try_submit_blocking<F, I, A, M>(&self, function: F, inputs: I) -> Handle<F::Value>
    where
        F: TryBlockingFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.task().try_submit_blocking(function, inputs)
    }

    /// Calls a Python function, given by its path, on a Python worker. Its inputs may be handles of Rust functions and
    /// vice versa: both sides see numbers, text, bytes, lists and dicts.
    ///
    /// The task runs on any Python worker, unless its options name workers or resources. While no Python worker is
    /// connected, the client holds the task back. The worker must be able to import the function. Its result must be of
    /// the types above and fit `T`: otherwise awaiting it gives an error that names its type.
    ///
    /// ```no_run
    /// # async fn inc(x: u64) -> u64 { x + 1 }
    /// # async fn show(client: ensue::dask::Client) -> Result<(), ensue::Error> {
    /// let x = client.submit(inc, 1);
    /// let sum = client.submit_python::<u64>("operator.add", (&x, 5));
    /// assert_eq!(sum.await?, 7);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn submit_python<T: Portable>(
        &self,
        function: &str,
        inputs: impl PythonInputs,
    ) -> Handle<T> {
        self.task().submit_python(function, inputs)
    }

    /// Submits a function once for each of the inputs.
    ///
    /// Calls that take no result of another task are sent in batches: up to some hundreds form one task of the cluster,
    /// whose worker runs them one after the other for 10 ms. The calls that are left then, or after a call that failed,
    /// are sent again. So a call that never returns keeps the calls behind it in its batch from starting; use `submit`
    /// for such calls.
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
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

    /// Submits a function that returns a `Result` once for each of the inputs, as [`map`](Client::map) does.
    #[track_caller]
    #[must_use = "dropping the handles abandons their tasks: keep them, or `detach` each; `let _ =` drops them, too"]
    pub fn try_map<F, I, A, M>(
        &self,
        function: F,
        inputs: impl IntoIterator<Item = I>,
    ) -> Vec<Handle<F::Value>>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
    {
        self.task().try_map(function, inputs)
    }

    /// Gives a value to a worker, and returns its handle: for an input of many tasks, which is sent only once.
    #[track_caller]
    pub fn ready<T: Portable>(&self, value: T) -> Handle<T> {
        self.task().ready(value)
    }

    /// Waits until at least `n` Rust workers are connected to the scheduler.
    ///
    /// # Errors
    ///
    /// If fewer are connected after `timeout`, or the connection to the scheduler has ended.
    pub async fn wait_for_workers(&self, n: usize, timeout: Duration) -> Result<(), ConnectError> {
        let start = Instant::now();
        loop {
            let connected = rust_workers(&self.0.identity().await?).count();
            if connected >= n {
                return Ok(());
            }
            if start.elapsed() >= timeout {
                return Err(ConnectError::few_workers(connected, n, timeout));
            }
            sleep(POLL_WORKERS).await;
        }
    }

    /// Returns the URL of Dask's own dashboard, if the scheduler serves HTTP. Most of its pages need bokeh on the
    /// scheduler's machine; without it, the page says so.
    ///
    /// # Errors
    ///
    /// If the connection to the scheduler has ended.
    pub async fn dashboard(&self) -> Result<Option<String>, ConnectError> {
        let identity = self.0.identity().await?;
        let services = identity.get("services").and_then(Value::as_map);
        let port = services.and_then(|services| services.get("dashboard")?.as_int());
        let host = &self.0.scheduler().host;
        Ok(port.map(|port| format!("http://{host}:{port}/status")))
    }

    /// Waits until all tasks of this client have ended.
    pub async fn idle(&self) {
        self.0.idle().await;
    }

    /// Disconnects from the cluster, and cancels the tasks that haven't ended: their handles, and those of results that
    /// weren't fetched, have the error [`Closed`](crate::ErrorKind::Closed).
    ///
    /// Waits for the scheduler for 5 seconds at most. May be called more than once.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

impl Engine for Client {
    #[track_caller]
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
        Options::new(&self.0, options).submit(function, inputs)
    }

    #[track_caller]
    fn try_submit_with<F, I, A, M>(
        &self,
        options: TaskOptions,
        function: F,
        inputs: I,
    ) -> Handle<F::Value>
    where
        F: TryTaskFn<A, M, Value: Portable> + Copy,
        I: PortableInputs<A>,
        A: Clone + Send + 'static,
        M: 'static,
    {
        Options::new(&self.0, options).try_submit(function, inputs)
    }

    #[track_caller]
    fn ready<T: Portable>(&self, value: T) -> Handle<T> {
        Client::ready(self, value)
    }

    #[track_caller]
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
            .field("scheduler", &self.0.scheduler().to_string())
            .finish_non_exhaustive()
    }
}

/// A connection to be made, returned by [`Client::connect`]: await it.
#[derive(Clone, Debug)]
#[must_use = "it connects when it's awaited"]
pub struct Connect {
    address: String,
    registry: Registry,
    tls: Option<Tls>,
    timeout: Duration,
}

impl Connect {
    /// Uses these certificates, for an address that begins with `tls://`.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Fails if connecting takes longer; the default is 30 seconds.
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
            let session = Session::new(link, self.registry);
            // The number of threads decides how large the first batches are.
            session.identity().await?;
            Ok(Client(Arc::new(session)))
        })
    }
}
