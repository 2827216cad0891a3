//! A pool of connections for calls.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::address::Address;
use super::comm::Comm;
use super::error::NetError;
use super::tls::Tls;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::value::Value;
use crate::engine::base::lock::Lock;

/// The maximum number of idle connections, for one address and in total.
const MAX_IDLE_EACH: usize = 8;
const MAX_IDLE: usize = 256;
/// The time after which an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A pool of connections, by address. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    shared: Arc<SharedPool>,
}

#[derive(Debug)]
struct SharedPool {
    tls: Option<Tls>,
    timeout: Duration,
    idle: Lock<IdleComms>,
}

#[derive(Debug, Default)]
struct IdleComms {
    /// With the time of the last use, in this order.
    by_address: HashMap<String, Vec<(Comm, Instant)>>,
    count: usize,
    /// Returned connections are closed instead of kept.
    is_closed: bool,
}

impl Pool {
    /// Returns a pool without connections. `timeout` bounds connecting, which must not take longer than the timeout of
    /// the first call either.
    pub(crate) fn new(tls: Option<Tls>, timeout: Duration) -> Self {
        Self { shared: Arc::new(SharedPool { tls, timeout, idle: Lock::default() }) }
    }

    /// Calls an operation of the process at `address`. Fails if no byte moves for `timeout`.
    ///
    /// If an idle connection was used and turns out to be closed, the call is repeated with a new one.
    pub(crate) async fn call(
        &self,
        address: &str,
        message: Outgoing,
        timeout: Duration,
    ) -> Result<Value, NetError> {
        let (value, lease) = self.call_and_keep(address, message, timeout).await?;
        lease.done();
        Ok(value)
    }

    /// Like [`call`](Self::call), but returns the connection as well, for messages after the answer.
    pub(crate) async fn call_and_keep(
        &self,
        address: &str,
        message: Outgoing,
        timeout: Duration,
    ) -> Result<(Value, Lease), NetError> {
        if let Some(mut lease) = self.idle(address) {
            match lease.call(message.clone(), timeout).await {
                // The other side may close an idle connection while the call is on its way. After a part of an answer
                // the call must not be repeated: it was carried out.
                Err(error) if error.is_gone() && !lease.has_begun_to_answer() => {
                    log::debug!("{error}; calling again on a new connection");
                }
                answer => return Ok((answer?, lease)),
            }
        }
        let mut lease = self.fresh(address, timeout).await?;
        Ok((lease.call(message, timeout).await?, lease))
    }

    /// Returns a connection for exclusive use, which the other side may have closed at this moment.
    #[cfg(test)]
    pub(crate) async fn lease(&self, address: &str) -> Result<Lease, NetError> {
        match self.idle(address) {
            Some(lease) => Ok(lease),
            None => self.fresh(address, self.shared.timeout).await,
        }
    }

    async fn fresh(&self, address: &str, timeout: Duration) -> Result<Lease, NetError> {
        let SharedPool { tls, timeout: most, .. } = &*self.shared;
        let timeout = timeout.min(*most);
        let comm = Comm::connect(&address.parse::<Address>()?, tls.as_ref(), timeout).await?;
        Ok(self.lend(address, comm))
    }

    fn idle(&self, address: &str) -> Option<Lease> {
        loop {
            let comm = self.shared.lock().take(address)?;
            if comm.is_fresh() {
                return Some(self.lend(address, comm));
            }
        }
    }

    fn lend(&self, address: &str, comm: Comm) -> Lease {
        Lease { comm, address: address.to_owned(), pool: self.shared.clone() }
    }

    /// Closes connections that have been idle for too long. The pool has no timer, so its owner calls this regularly.
    pub(crate) fn sweep(&self) {
        let gone = self.shared.lock().older_than(IDLE_TIMEOUT);
        drop(gone);
    }

    /// Closes all idle connections, and those in use when they are returned.
    pub(crate) fn close(&self) {
        let mut idle = self.shared.lock();
        let gone = std::mem::take(&mut *idle);
        idle.is_closed = true;
        drop(idle);
        drop(gone);
    }
}

impl SharedPool {
    fn lock(&self) -> MutexGuard<'_, IdleComms> {
        self.idle.lock()
    }
}

impl IdleComms {
    fn take(&mut self, address: &str) -> Option<Comm> {
        let comms = self.by_address.get_mut(address)?;
        // The most recently used connection is the least likely to be closed by the other side.
        let taken = comms.pop().map(|(comm, _)| comm);
        if comms.is_empty() {
            self.by_address.remove(address);
        }
        self.count -= usize::from(taken.is_some());
        taken
    }

    /// Returns the connection if there's no room for it, to be closed without the lock.
    fn put(&mut self, address: String, comm: Comm) -> Option<Comm> {
        // One address must not use up the places of all others.
        let comms = self.by_address.get(&address).map_or(0, Vec::len);
        if self.is_closed || comms == MAX_IDLE_EACH || self.count == MAX_IDLE {
            return Some(comm);
        }
        self.by_address.entry(address).or_default().push((comm, Instant::now()));
        self.count += 1;
        None
    }

    fn older_than(&mut self, age: Duration) -> Vec<(Comm, Instant)> {
        let mut gone = Vec::new();
        self.by_address.retain(|_, comms| {
            // The times are ascending, so everything before the first young connection is old.
            let young = comms.iter().position(|(_, since)| since.elapsed() < age);
            gone.extend(comms.drain(..young.unwrap_or(comms.len())));
            !comms.is_empty()
        });
        self.count -= gone.len();
        gone
    }
}

/// A connection that is in use. Dropping it closes the connection: it may be in the middle of a message.
#[derive(Debug)]
pub(crate) struct Lease {
    comm: Comm,
    address: String,
    pool: Arc<SharedPool>,
}

impl Lease {
    /// Returns the connection to the pool. Nothing more may be expected on it.
    pub(crate) fn done(self) {
        let Self { comm, address, pool } = self;
        // Closed without the lock, as everywhere in this file: closing a socket is a system call.
        let excess = pool.lock().put(address, comm);
        drop(excess);
    }
}

impl Deref for Lease {
    type Target = Comm;

    fn deref(&self) -> &Comm {
        &self.comm
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Comm {
        &mut self.comm
    }
}
