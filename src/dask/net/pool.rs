//! Connections for calls, kept for the next one.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::{Address, Comm, NetError, Tls};
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::value::Value;
use crate::engine::base::lock::Lock;

/// How many connections wait for their next call, for one address and for all.
const IDLE_EACH: usize = 8;
const IDLE: usize = 256;
/// How long they wait.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// Connections for calls, by address. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tls: Option<Tls>,
    timeout: Duration,
    idle: Lock<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those used last come last.
    by_address: HashMap<String, Vec<(Comm, Instant)>>,
    count: usize,
    /// Nothing is kept any more.
    is_closed: bool,
}

impl Pool {
    /// Without connections. Making one may take so long, and no longer than a byte of its first call may take.
    pub(crate) fn new(tls: Option<Tls>, timeout: Duration) -> Self {
        Self { shared: Arc::new(Shared { tls, timeout, idle: Lock::default() }) }
    }

    /// Calls who listens at an address. No byte may take longer than `timeout`.
    ///
    /// Where the connection is an old one and turns out to be closed, the call is tried again with a new one.
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

    /// The same, and the connection stays for what comes after the answer.
    pub(crate) async fn call_and_keep(
        &self,
        address: &str,
        message: Outgoing,
        timeout: Duration,
    ) -> Result<(Value, Lease), NetError> {
        if let Some(mut lease) = self.idle(address) {
            match lease.call(message.clone(), timeout).await {
                Err(error) if error.is_gone() && !lease.has_begun_to_answer() => {
                    log::debug!("{error}; trying again");
                }
                answer => return Ok((answer?, lease)),
            }
        }
        let mut lease = self.fresh(address, timeout).await?;
        Ok((lease.call(message, timeout).await?, lease))
    }

    /// A connection for oneself. It may be one that was closed by the other side this moment.
    #[cfg(test)]
    pub(crate) async fn lease(&self, address: &str) -> Result<Lease, NetError> {
        match self.idle(address) {
            Some(lease) => Ok(lease),
            None => self.fresh(address, self.shared.timeout).await,
        }
    }

    async fn fresh(&self, address: &str, timeout: Duration) -> Result<Lease, NetError> {
        let Shared { tls, timeout: most, .. } = &*self.shared;
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

    /// Closes connections that haven't been used for a while. To be called now and then.
    pub(crate) fn sweep(&self) {
        let gone = self.shared.lock().older_than(IDLE_FOR);
        drop(gone);
    }

    /// Closes all connections that aren't in use, and those in use when they are given back.
    pub(crate) fn close(&self) {
        let mut idle = self.shared.lock();
        let gone = std::mem::take(&mut *idle);
        idle.is_closed = true;
        drop(idle);
        drop(gone);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock()
    }
}

impl Idle {
    fn take(&mut self, address: &str) -> Option<Comm> {
        let comms = self.by_address.get_mut(address)?;
        let taken = comms.pop().map(|(comm, _)| comm);
        if comms.is_empty() {
            self.by_address.remove(address);
        }
        self.count -= usize::from(taken.is_some());
        taken
    }

    /// Gives back what there's no room for.
    fn put(&mut self, address: String, comm: Comm) -> Option<Comm> {
        let comms = self.by_address.get(&address).map_or(0, Vec::len);
        if self.is_closed || comms == IDLE_EACH || self.count == IDLE {
            return Some(comm);
        }
        self.by_address.entry(address).or_default().push((comm, Instant::now()));
        self.count += 1;
        None
    }

    fn older_than(&mut self, age: Duration) -> Vec<(Comm, Instant)> {
        let mut gone = Vec::new();
        self.by_address.retain(|_, comms| {
            let young = comms.iter().position(|(_, since)| since.elapsed() < age);
            gone.extend(comms.drain(..young.unwrap_or(comms.len())));
            !comms.is_empty()
        });
        self.count -= gone.len();
        gone
    }
}

/// A connection on loan. It's closed when it's dropped, unless it's given back.
#[derive(Debug)]
pub(crate) struct Lease {
    comm: Comm,
    address: String,
    pool: Arc<Shared>,
}

impl Lease {
    /// Gives it back: nothing is expected on it any more.
    pub(crate) fn done(self) {
        let Self { comm, address, pool } = self;
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
