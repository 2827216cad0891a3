//! The registration of a client with a scheduler.
//!
//! The client first asks the scheduler for its identity and its capabilities, on a connection for calls. It registers
//! only with one that it can talk to.

use std::time::{Duration, Instant};
use std::{error, fmt, io};

use crate::dask::net::{Address, Comm, NetError, Tls};
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::capabilities::{self, Forms, Refusal};
use crate::dask::wire::client::{self, SchedulerEvent};
use crate::dask::wire::unpack;

/// The error of a client that couldn't register. The scheduler doesn't know it.
#[derive(Debug)]
pub(crate) enum RegistrationError {
    /// The address can't be reached.
    Net(NetError),
    /// A call had no answer, or a malformed one.
    Call { address: Address, error: CallError },
    /// It's a server of another type.
    NotAScheduler { address: Address, server: String },
    /// It's a scheduler of an incompatible release.
    Incompatible { address: Address, refusal: Refusal },
    /// The scheduler didn't accept the client.
    NotAccepted { address: Address, what: String },
    /// The operating system provides no thread, or no random numbers.
    System(io::Error),
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Call { address, error } => {
                write!(f, "{address} isn't a Dask scheduler: {error}; connect to the scheduler")
            }
            Self::NotAScheduler { address, server } => {
                write!(f, "{address} isn't a scheduler, but a {server}; connect to the scheduler")
            }
            Self::Incompatible { address, refusal } => write!(f, "{address}: {refusal}"),
            Self::NotAccepted { address, what } => {
                write!(f, "the scheduler at {address} doesn't take this client: {what}")
            }
            Self::System(error) => write!(f, "can't start a client: {error}"),
        }
    }
}

impl error::Error for RegistrationError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Net(error) => Some(error),
            Self::Call { error, .. } => Some(error),
            Self::Incompatible { refusal, .. } => Some(refusal),
            Self::System(error) => Some(error),
            Self::NotAScheduler { .. } | Self::NotAccepted { .. } => None,
        }
    }
}

impl From<NetError> for RegistrationError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

/// A registered client.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) stream: Comm,
    pub(crate) forms: Forms,
    pub(crate) id: String,
}

/// Registers a client with the scheduler at this address. `timeout` limits all steps together.
pub(crate) async fn register(
    address: &Address,
    tls: Option<&Tls>,
    timeout: Duration,
) -> Result<Registered, RegistrationError> {
    let start = Instant::now();
    // What's left of the time for the next step.
    let left = || timeout.saturating_sub(start.elapsed());
    let failed = |error| RegistrationError::Call { address: address.clone(), error };

    // On a connection of its own, since registering turns a connection into a stream.
    let mut calls = Comm::connect(address, tls, timeout).await?;
    let identity = calls.call(call::identity(), left()).await?;
    let identity = call::map_reply(identity).map_err(failed)?;
    let server = identity.text("type").unwrap_or("server of unknown type");
    if server != "Scheduler" {
        let (address, server) = (address.clone(), server.to_owned());
        return Err(RegistrationError::NotAScheduler { address, server });
    }
    let versions = calls.call(call::versions(), left()).await?;
    let versions = call::map_reply(versions).map_err(failed)?;
    let release = call::release(&versions).unwrap_or("of unknown release");
    let answer = calls.call(capabilities::question(), left()).await?;
    // Before registering: a message of a form that it doesn't take could break the scheduler's stream.
    let forms = capabilities::forms(answer, release);
    let forms = forms.map_err(|refusal| {
        let address = address.clone();
        RegistrationError::Incompatible { address, refusal }
    })?;

    let id = client_id().map_err(RegistrationError::System)?;
    let mut stream = Comm::connect(address, tls, left()).await?;
    stream.send_within(client::register(&id, &versions), left()).await?;
    let not_accepted =
        |what: String| RegistrationError::NotAccepted { address: address.clone(), what };
    // The scheduler closes the connection of a client that it doesn't accept, without a reason.
    let Some(frames) = stream.receive_within(left()).await? else {
        return Err(not_accepted("it closed the connection".to_owned()));
    };
    let operations =
        unpack::operations(&frames, Ok).map_err(|error| not_accepted(error.to_string()))?;
    // Further operations in the message can't concern a client that has asked for nothing.
    match operations.into_iter().next().map(SchedulerEvent::read) {
        Some(Ok(SchedulerEvent::Started { warning })) => {
            if !warning.is_empty() {
                log::info!("{address}: {warning}");
            }
            Ok(Registered { stream, forms, id })
        }
        Some(Ok(other)) => {
            Err(not_accepted(format!("it sent {other:?} instead of `stream-start`")))
        }
        Some(Err(error)) => Err(not_accepted(error.to_string())),
        None => Err(not_accepted("its first message is empty".to_owned())),
    }
}

/// Returns a name that no other client has.
fn client_id() -> io::Result<String> {
    let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("Client-ensue-{number:016x}"))
}
