//! The link of a client to its scheduler: opens the connection, and creates the futures on it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;

use super::connection::Connection;
use super::dask_future::DaskFuture;
use super::drive;
use super::register::{Registered, RegistrationError, register};
use super::shared::{FAREWELL, Pace, Shared};
use crate::dask::client::state::future_state::FutureState;
use crate::dask::client::state::task_spec::TaskSpec;
use crate::dask::net::{Address, Io, NetError, Pool, Tls};
use crate::dask::wire::call;
use crate::dask::wire::serialized::Serialized;
use crate::dask::wire::value::Map;

/// The limit of opening a connection for calls, unless the first call on it has a lower one.
const CONNECT: Duration = Duration::from_secs(30);

const PACE: Pace = Pace {
    heartbeat: Duration::from_secs(5),
    doubt: Duration::from_secs(20),
    silence: Duration::from_secs(60),
    again: Duration::from_millis(500),
};

/// A registered client of a scheduler. Clones share the connection, which closes when the last clone and the last
/// future are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    connection: Arc<Connection>,
}

impl Link {
    /// Registers a client with the scheduler at this address.
    pub(crate) async fn connect(
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, RegistrationError> {
        Self::connect_at(PACE, address, tls, timeout).await
    }

    /// Does the same with other intervals; tests use shorter ones.
    pub(crate) async fn connect_at(
        pace: Pace,
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, RegistrationError> {
        let io = Io::start("ensue-dask").map_err(RegistrationError::System)?;
        let (pool, scheduler) = (Pool::new(tls.cloned(), CONNECT), address.clone());
        let tls = tls.cloned();
        // On the thread that will drive the connection.
        let registered = io.spawn(async move { register(&scheduler, tls.as_ref(), timeout).await });
        let Registered { stream, forms, id } = registered.await?;
        let shared = Arc::new(Shared::new(address.clone(), id, forms, pace, pool));
        // Detached: it ends with the thread, which the connection keeps alive.
        let (writer, reader) = stream.split();
        io.spawn(drive::run(shared.clone(), writer, reader)).detach();
        Ok(Self { connection: Arc::new(Connection { shared, io }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.connection.shared
    }

    fn future(&self, state: Arc<FutureState>) -> Arc<DaskFuture> {
        Arc::new(DaskFuture::new(state, self.connection.clone()))
    }

    /// Submits a task. An earlier future of the same key loses it: that one is cancelled or has failed, though it may
    /// not be dropped yet.
    ///
    /// The futures of its inputs must be held until it has ended.
    pub(crate) fn submit(&self, spec: TaskSpec) -> Arc<DaskFuture> {
        self.future(self.shared().submit(spec))
    }

    /// Gives a value to the cluster, where it's like the result of a task.
    pub(crate) fn scatter(&self, key: &str, value: Serialized) -> Arc<DaskFuture> {
        self.future(self.shared().scatter(&key.into(), value))
    }

    /// Leaves the scheduler: all futures that haven't ended fail, and nothing can be submitted any more. The scheduler
    /// is notified soon.
    pub(crate) fn leave(&self) {
        self.shared().close();
    }

    /// Leaves the scheduler as [`leave`](Self::leave) does, and waits until it's notified, for 5 seconds at most.
    pub(crate) async fn close(&self) {
        self.leave();
        let shared = self.shared();
        let waiter = shared.ended.enter();
        let ended = poll_fn(|cx| {
            waiter.register(cx.waker());
            if shared.has_ended.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        });
        or(ended, async { _ = Timer::after(FAREWELL).await }).await;
    }

    /// Asks the scheduler for its identity, with its workers.
    pub(crate) async fn identity(&self) -> Result<Map, NetError> {
        let shared = self.shared().clone();
        let ask = async move {
            shared.pool.call(&shared.address, call::identity(), shared.pace.silence).await
        };
        let answer = self.connection.io.spawn(ask).await?;
        call::map_reply(answer).map_err(|error| NetError::Handshake {
            address: self.shared().address.clone(),
            what: error.to_string(),
        })
    }

    /// Returns the scheduler's address.
    pub(crate) fn scheduler(&self) -> &Address {
        &self.shared().scheduler
    }
}

#[cfg(test)]
impl Link {
    /// Returns how often an unsent operation was examined.
    pub(crate) fn examined(&self) -> usize {
        self.shared().lock().batched.examined
    }

    /// Calls a function that submits or releases, and sends nothing in the meantime: however slow the function is, its
    /// operations are in one message if they may be.
    pub(crate) fn in_one_message<T>(&self, function: impl FnOnce() -> T) -> T {
        self.shared().lock().batched.is_paused = true;
        let returned = function();
        self.shared().lock().batched.is_paused = false;
        self.shared().to_send.notify(1);
        returned
    }

    /// Returns whether the client polls the workers. If not, no such call is under way.
    pub(crate) fn is_polling(&self) -> bool {
        self.shared().lock().pins.is_needed()
    }
}
