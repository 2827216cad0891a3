//! Becoming a client of a scheduler.

use std::time::{Duration, Instant};
use std::{error, fmt, io};

use crate::dask::net::{Address, Comm, NetError, Tls};
use crate::dask::wire::call::{self, CallError};
use crate::dask::wire::capabilities::{self, Forms, Refusal};
use crate::dask::wire::client::{self, Event};
use crate::dask::wire::unpack;

/// Why there is no connection to a scheduler. Nothing was registered there.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// It can't be reached.
    Net(NetError),
    /// It doesn't answer as a scheduler does.
    Call { address: Address, error: CallError },
    /// It's something else than a scheduler.
    NotAScheduler { address: Address, is: String },
    /// It's a scheduler that we can't talk to.
    Refused { address: Address, refusal: Refusal },
    /// It doesn't take clients.
    NotTaken { address: Address, what: String },
    /// The system gives us no thread, or no random numbers.
    System(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Call { address, error } => {
                write!(f, "{address} isn't a scheduler of Dask's: {error}")
            }
            Self::NotAScheduler { address, is } => {
                write!(f, "{address} isn't a scheduler, but a {is}; connect to the scheduler")
            }
            Self::Refused { address, refusal } => write!(f, "{address}: {refusal}"),
            Self::NotTaken { address, what } => {
                write!(f, "the scheduler at {address} doesn't take this client: {what}")
            }
            Self::System(error) => write!(f, "can't start a client: {error}"),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Net(error) => Some(error),
            Self::Call { error, .. } => Some(error),
            Self::Refused { refusal, .. } => Some(refusal),
            Self::System(error) => Some(error),
            Self::NotAScheduler { .. } | Self::NotTaken { .. } => None,
        }
    }
}

impl From<NetError> for ConnectError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

/// A client that the scheduler knows.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) stream: Comm,
    pub(crate) forms: Forms,
    pub(crate) id: String,
}

/// Asks the scheduler what it is and what it understands, and only then becomes its client. All that may take so
/// long together.
pub(crate) async fn join(
    address: &Address,
    tls: Option<&Tls>,
    timeout: Duration,
) -> Result<Joined, ConnectError> {
    let start = Instant::now();
    let left = || timeout.saturating_sub(start.elapsed());
    let failed = |error| ConnectError::Call { address: address.clone(), error };

    let mut calls = Comm::connect(address, tls, timeout).await?;
    let identity = calls.call(call::identity(), left()).await?;
    let identity = call::map_reply(identity).map_err(failed)?;
    let is = identity.text("type").unwrap_or("server of no known type");
    if is != "Scheduler" {
        let (address, is) = (address.clone(), is.to_owned());
        return Err(ConnectError::NotAScheduler { address, is });
    }
    let versions = calls.call(call::versions(), left()).await?;
    let versions = call::map_reply(versions).map_err(failed)?;
    let release = call::release(&versions).unwrap_or("of no known release");
    let answer = calls.call(capabilities::question(), left()).await?;
    let forms = capabilities::forms(answer, release);
    let forms =
        forms.map_err(|refusal| ConnectError::Refused { address: address.clone(), refusal })?;

    let id = id().map_err(ConnectError::System)?;
    let mut stream = Comm::connect(address, tls, left()).await?;
    stream.send_within(client::register(&id, &versions), left()).await?;
    let wrong = |what: String| ConnectError::NotTaken { address: address.clone(), what };
    let Some(frames) = stream.receive_within(left()).await? else {
        return Err(wrong("it closed the connection".to_owned()));
    };
    let operations = unpack::operations(&frames, Ok).map_err(|error| wrong(error.to_string()))?;
    // The rest, if there is any, concerns nothing that this client has asked for.
    match operations.into_iter().next().map(Event::read) {
        Some(Ok(Event::Started { warning })) => {
            if !warning.is_empty() {
                log::info!("{address}: {warning}");
            }
            Ok(Joined { stream, forms, id })
        }
        Some(Ok(other)) => Err(wrong(format!("it said {other:?}"))),
        Some(Err(error)) => Err(wrong(error.to_string())),
        None => Err(wrong("it said nothing".to_owned())),
    }
}

/// A name that no other client has.
fn id() -> io::Result<String> {
    let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("Client-ensue-{number:016x}"))
}
