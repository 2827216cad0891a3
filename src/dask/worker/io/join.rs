//! The registration of a worker with a scheduler.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::core::{CoreSettings, Outlets, WorkerCore, WorkerIdentity, now};
use crate::dask::net::{Address, Comm, Listener, NetError, Pool, Tls};
use crate::dask::registry::Registry;
use crate::dask::wire::worker::register::{Registered, Registration};
use crate::dask::wire::{call, capabilities, unpack};
use crate::dask::worker::error::{WorkerError, WorkerErrorKind};
use crate::dask::worker::memory::SpillDirectory;
use crate::engine::core::threads::Around;

/// The time in which a connection must be made, and the scheduler must answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a worker.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) registry: Registry,
    pub(crate) threads: usize,
    pub(crate) around: Option<Around>,
    pub(crate) memory_limit: u64,
    pub(crate) resources: Vec<(String, f64)>,
    pub(crate) name: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) announce: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) directory: PathBuf,
    pub(crate) timeout: Duration,
}

/// A registered worker.
pub(crate) struct Joined {
    pub(crate) core: Arc<WorkerCore>,
    pub(crate) outlets: Outlets,
    pub(crate) listener: Listener,
    pub(crate) stream: Comm,
    /// The interval of heartbeats in seconds.
    pub(crate) interval: f64,
}

/// Registers a worker. On failure the scheduler knows nothing of it.
pub(crate) async fn join(settings: Settings, scheduler: &str) -> Result<Joined, WorkerError> {
    let (tls, timeout) = (settings.tls.clone(), settings.timeout);
    let address: Address = scheduler.parse()?;
    let scheduler = address.to_string();
    let invalid = |error| WorkerErrorKind::Call(scheduler.clone(), error);
    let pool = Pool::new(tls.clone(), timeout);
    let versions = pool.call(&scheduler, call::versions(), timeout).await?;
    let versions = call::map_reply(versions).map_err(invalid)?;
    // Before registration: a scheduler of an unknown release would keep a worker that can't talk to it.
    let reply = pool.call(&scheduler, capabilities::question(), timeout).await?;
    capabilities::forms(reply, call::release(&versions).unwrap_or_default())?;

    let mut stream = Comm::connect(&address, tls.as_ref(), timeout).await?;
    let (listener, announced) = listen(&settings, stream.local_ip()).await?;
    let spill_directory = SpillDirectory::new(&settings.directory).map_err(|error| {
        WorkerErrorKind::Directory(settings.directory.display().to_string(), error)
    })?;
    let identity = WorkerIdentity {
        name: settings.name.clone().unwrap_or_else(|| announced.clone()),
        address: announced,
        id: unique_id(),
        scheduler: scheduler.clone(),
        versions,
    };
    let (core, outlets) = WorkerCore::new(CoreSettings {
        identity,
        registry: settings.registry.clone(),
        pool,
        spill_directory,
        memory_limit: settings.memory_limit,
        threads: settings.threads,
        around: settings.around.clone(),
        resources: settings.resources.clone(),
    });
    let interval = register(&core, &settings, &mut stream).await?;
    // Detached, since there may be many files and the worker can start without.
    blocking::unblock(move || SpillDirectory::remove_stale(&settings.directory)).detach();
    Ok(Joined { core, outlets, listener, stream, interval })
}

/// Starts to listen. Returns the address for the other workers as well.
async fn listen(
    settings: &Settings,
    local_ip: Option<IpAddr>,
) -> Result<(Listener, String), WorkerError> {
    let local_ip = local_ip.map(|ip| ip.to_string());
    let (host, port) = match &settings.listen {
        Some(address) => {
            let address: Address = address.parse()?;
            (address.host, address.port)
        }
        None => (local_ip.clone().unwrap_or_else(|| "127.0.0.1".to_owned()), 0),
    };
    let listener = Listener::bind(&host, port, settings.tls.clone()).await?;
    // Nothing can connect to an unspecified address such as 0.0.0.0. The address by which the scheduler is reached is
    // the best guess at one by which others reach this machine.
    let is_unspecified = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let host = match (&settings.announce, local_ip) {
        (Some(host), _) => host.clone(),
        (None, Some(local_ip)) if is_unspecified => local_ip,
        _ => host,
    };
    let announced = Address { host, ..listener.address().clone() };
    Ok((listener, announced.to_string()))
}

/// Makes `stream` the worker's stream. Returns the interval of heartbeats in seconds.
async fn register(
    core: &WorkerCore,
    settings: &Settings,
    stream: &mut Comm,
) -> Result<f64, WorkerError> {
    let (me, timeout) = (&core.identity, settings.timeout);
    let resources: Vec<_> =
        settings.resources.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    let directory = core.spill_directory.within().display().to_string();
    let message = core.metrics(|metrics| {
        let registration = Registration {
            address: &me.address,
            name: &me.name,
            server_id: &me.id,
            threads: settings.threads as u64,
            memory_limit: Some(core.limits.memory).filter(|limit| *limit < u64::MAX),
            resources: &resources,
            directory: &directory,
            versions: &me.versions,
            pid: process::id().into(),
            now: now(),
            metrics,
        };
        registration.message()
    });
    stream.send_within(message, timeout).await?;
    let scheduler = me.scheduler.clone();
    let reply = match stream.receive_within(timeout).await {
        Ok(Some(frames)) => unpack::message(&frames)
            .map_err(|source| NetError::Wire { address: scheduler.clone(), source })?,
        Ok(None) => return Err(WorkerErrorKind::SchedulerGone { scheduler, cause: None }.into()),
        // A scheduler that doesn't accept a registration may not answer it at all.
        Err(NetError::TimedOut { after, .. }) => {
            let address = me.address.clone();
            return Err(WorkerErrorKind::NoReply { scheduler, address, after }.into());
        }
        Err(cause) => {
            return Err(WorkerErrorKind::SchedulerGone { scheduler, cause: Some(cause) }.into());
        }
    };
    let reply = Registered::read(reply);
    match reply.map_err(|error| WorkerErrorKind::Call(scheduler.clone(), error))? {
        Registered::Joined { heartbeat, warning } => {
            if !warning.is_empty() {
                log::warn!("{}: warning of the scheduler: {warning}", me.address);
            }
            Ok(heartbeat)
        }
        Registered::Refused(text) => {
            Err(WorkerErrorKind::Refused { scheduler, name: me.name.clone(), text }.into())
        }
    }
}

/// Returns an id that no other worker has.
fn unique_id() -> String {
    let mut bytes = [0; 16];
    // The id isn't a secret, so a weaker generator is good enough where the system's randomness isn't available.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = u128::from(fastrand::u64(..)).to_le_bytes();
    }
    format!("Worker-{:032x}", u128::from_be_bytes(bytes))
}
