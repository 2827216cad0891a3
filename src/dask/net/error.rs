//! What can go wrong with a connection.

use std::time::Duration;
use std::{error, fmt, io};

use futures_rustls::rustls;

use crate::dask::wire::WireError;

/// What went wrong with a connection, which is of no more use then.
#[derive(Debug)]
pub(crate) enum NetError {
    /// It isn't an address, and why.
    Address(String),
    /// Nothing takes connections there, or it can't be reached.
    Connect { address: String, source: io::Error },
    /// Nobody can listen there.
    Listen { address: String, source: io::Error },
    /// The certificates aren't liked by one of the sides, or one of them doesn't encrypt.
    Tls { address: String, what: String },
    /// The first messages aren't as they should be.
    Handshake { address: String, what: String },
    /// Nothing came, or could be sent, for so long.
    TimedOut { address: String, what: &'static str, after: Duration },
    /// The other side went away where it owed an answer.
    Closed { address: String },
    /// What came isn't the protocol.
    Wire { address: String, source: WireError },
    /// The connection broke.
    Io { address: String, source: io::Error },
}

impl NetError {
    /// What a socket gave for an error. With TLS that may be one of the certificates.
    pub(super) fn socket(address: &str, source: io::Error) -> Self {
        let address = address.to_owned();
        match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::Tls { address, what: explain(error) },
            None => Self::Io { address, source },
        }
    }

    /// Whether the connection went away, as one that has been idle may at any time.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. })
    }
}

fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the other side wants a certificate".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate,
        ) => "the other side doesn't take our certificate: its authority is another".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "our certificate has expired, says the other side".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate isn't of the authority that we were given".to_owned(),
        Error::InvalidMessage(_) => "what comes from there isn't TLS; is it `tcp://`?".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(what) => f.write_str(what),
            Self::Connect { address, source } => write!(f, "can't connect to {address}: {source}"),
            Self::Listen { address, source } => write!(f, "can't listen at {address}: {source}"),
            Self::Tls { address, what } => write!(f, "can't talk to {address} over TLS: {what}"),
            Self::Handshake { address, what } => {
                write!(f, "{address} doesn't greet as Dask does: {what}")
            }
            Self::TimedOut { address, what, after } => {
                write!(f, "{address} is silent: {what} for {after:?}")
            }
            Self::Closed { address } => write!(f, "{address} closed the connection"),
            Self::Wire { address, source } => {
                write!(f, "{address} sent what can't be read: {source}")
            }
            Self::Io { address, source } => {
                write!(f, "the connection to {address} broke: {source}")
            }
        }
    }
}

impl error::Error for NetError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Listen { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::Wire { source, .. } => Some(source),
            _ => None,
        }
    }
}
