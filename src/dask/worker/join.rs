//! Joining a scheduler.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Me, Outlets, Parts, now};
use super::error::{Kind, WorkerError};
use super::spill::Directory;
use crate::dask::Registry;
use crate::dask::net::{Address, Comm, Listener, NetError, Pool, Tls};
use crate::dask::wire::worker::register::{Registered, Registration};
use crate::dask::wire::{call, capabilities, unpack};

/// How long it may take to connect, and the scheduler to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a worker is to be.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) registry: Registry,
    pub(super) threads: usize,
    pub(super) memory_limit: u64,
    pub(super) resources: Vec<(String, f64)>,
    pub(super) name: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) announce: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) directory: PathBuf,
    pub(super) patience: Duration,
}

/// A worker that the scheduler knows.
pub(super) struct Joined {
    pub(super) core: Arc<Core>,
    pub(super) outlets: Outlets,
    pub(super) listener: Listener,
    pub(super) stream: Comm,
    /// In seconds.
    pub(super) interval: f64,
}

/// Joins the scheduler. Nothing is left with it if that fails.
pub(super) async fn join(settings: Settings, scheduler: &str) -> Result<Joined, WorkerError> {
    let (tls, patience) = (settings.tls.clone(), settings.patience);
    let address: Address = scheduler.parse()?;
    let scheduler = address.to_string();
    let wrong = |error| Kind::Call(scheduler.clone(), error);
    let pool = Pool::new(tls.clone(), patience);
    let versions = pool.call(&scheduler, call::versions(), patience).await?;
    let versions = call::map_reply(versions).map_err(wrong)?;
    // What it can't be told must be known before anything is registered: it would keep a broken worker.
    let reply = pool.call(&scheduler, capabilities::question(), patience).await?;
    capabilities::forms(reply, call::release(&versions).unwrap_or_default())?;

    let mut stream = Comm::connect(&address, tls.as_ref(), patience).await?;
    let (listener, announced) = listen(&settings, stream.local_ip()).await?;
    let directory = Directory::new(&settings.directory)
        .map_err(|error| Kind::Directory(settings.directory.display().to_string(), error))?;
    let me = Me {
        name: settings.name.clone().unwrap_or_else(|| announced.clone()),
        address: announced,
        id: id(),
        scheduler: scheduler.clone(),
        versions,
    };
    let (core, outlets) = Core::new(Parts {
        me,
        registry: settings.registry.clone(),
        pool,
        directory,
        memory_limit: settings.memory_limit,
        threads: settings.threads,
        resources: settings.resources.clone(),
    });
    let interval = register(&core, &settings, &mut stream).await?;
    // It may be much, and nobody waits for it.
    blocking::unblock(move || Directory::tidy(&settings.directory)).detach();
    Ok(Joined { core, outlets, listener, stream, interval })
}

/// Where it listens, and what that's called by others.
async fn listen(
    settings: &Settings,
    known_by: Option<IpAddr>,
) -> Result<(Listener, String), WorkerError> {
    let known_by = known_by.map(|ip| ip.to_string());
    let (host, port) = match &settings.listen {
        Some(address) => {
            let address: Address = address.parse()?;
            (address.host, address.port)
        }
        None => (known_by.clone().unwrap_or_else(|| "127.0.0.1".to_owned()), 0),
    };
    let listener = Listener::bind(&host, port, settings.tls.clone()).await?;
    let is_any = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let host = match (&settings.announce, known_by) {
        (Some(host), _) => host.clone(),
        (None, Some(known_by)) if is_any => known_by,
        _ => host,
    };
    let announced = Address { host, ..listener.address().clone() };
    Ok((listener, announced.to_string()))
}

/// Gives the seconds between heartbeats.
async fn register(core: &Core, settings: &Settings, stream: &mut Comm) -> Result<f64, WorkerError> {
    let (me, patience) = (&core.me, settings.patience);
    let resources: Vec<_> =
        settings.resources.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    let directory = core.directory.within().display().to_string();
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
    stream.send_within(message, patience).await?;
    let scheduler = me.scheduler.clone();
    let reply = match stream.receive_within(patience).await {
        Ok(Some(frames)) => unpack::message(&frames)
            .map_err(|source| NetError::Wire { address: scheduler.clone(), source })?,
        Ok(None) => return Err(Kind::Gone { scheduler, cause: None }.into()),
        Err(NetError::TimedOut { after, .. }) => {
            return Err(Kind::Silent { scheduler, address: me.address.clone(), after }.into());
        }
        Err(cause) => return Err(Kind::Gone { scheduler, cause: Some(cause) }.into()),
    };
    match Registered::read(reply).map_err(|error| Kind::Call(scheduler.clone(), error))? {
        Registered::Joined { heartbeat, warning } => {
            if !warning.is_empty() {
                log::warn!("{}: the scheduler says: {warning}", me.address);
            }
            Ok(heartbeat)
        }
        Registered::Refused(text) => {
            Err(Kind::Refused { scheduler, name: me.name.clone(), text }.into())
        }
    }
}

/// What no other worker has.
fn id() -> String {
    let mut bytes = [0; 16];
    // Without the system's randomness what is at hand will do: nothing secret depends on it.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = u128::from(fastrand::u64(..)).to_le_bytes();
    }
    format!("Worker-{:032x}", u128::from_be_bytes(bytes))
}
