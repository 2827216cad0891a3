//! The error of a connection.

use std::time::Duration;
use std::{error, fmt, io};

use futures_rustls::rustls;

use crate::dask::wire::WireError;

/// The error of a connection, which can't be used any more.
#[derive(Debug)]
pub(crate) enum NetError {
    /// The text isn't an address; contains the whole error text.
    Address(String),
    /// Nothing listens at the address, or it can't be reached.
    Connect { address: String, source: io::Error },
    /// The address can't be listened at.
    Listen { address: String, source: io::Error },
    /// One side rejected the certificate of the other, or only one of them uses TLS.
    Tls { address: String, what: String },
    /// The other side isn't a Dask process, or one with an unsupported protocol.
    Handshake { address: String, what: String },
    /// No byte was received, or could be sent, for this time.
    TimedOut { address: String, what: &'static str, after: Duration },
    /// The other side closed the connection before it answered.
    Closed { address: String },
    /// A malformed message was received.
    Wire { address: String, source: WireError },
    /// The connection broke.
    Io { address: String, source: io::Error },
}

impl NetError {
    /// Converts the error of a socket. With TLS, it may be one of the certificates.
    pub(super) fn socket(address: &str, source: io::Error) -> Self {
        let address = address.to_owned();
        match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::Tls { address, what: explain(error) },
            None => Self::Io { address, source },
        }
    }

    /// Returns whether the connection was closed, which happens to idle connections at any time.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Io { .. })
    }
}

fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the peer requires a certificate".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate,
        ) => "the peer rejected our certificate: it trusts another authority".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the peer rejected our certificate: it has expired".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate isn't signed by the given authority".to_owned(),
        Error::InvalidMessage(_) => {
            "the peer doesn't use TLS; if it's unencrypted, write `tcp://`".to_owned()
        }
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
                write!(f, "no Dask handshake with {address}: {what}")
            }
            Self::TimedOut { address, what, after } => {
                write!(f, "{address} is silent: {what} for {after:?}")
            }
            Self::Closed { address } => write!(f, "{address} closed the connection"),
            Self::Wire { address, source } => {
                write!(f, "{address} sent a malformed message: {source}")
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
