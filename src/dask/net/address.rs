//! The address of a scheduler or worker.

use std::fmt;
use std::str::FromStr;

use super::error::NetError;

/// The address of a scheduler or worker: `tcp://host:port`, or `tls://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// Whether connections are encrypted.
    pub(crate) tls: bool,
    /// A name, or an IP address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for Address {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = |what: &str| {
            NetError::Address(format!(
                "`{text}` isn't an address: {what}; write `tcp://host:port` or `tls://host:port`"
            ))
        };
        let (tls, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            Some((protocol, _)) => {
                return Err(wrong(&format!("`{protocol}://` isn't supported")));
            }
            // Dask accepts addresses without a protocol as well.
            None => (false, text),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").ok_or_else(|| wrong("it has no `]:port`"))?,
            None => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
                if host.contains(':') {
                    return Err(wrong("an IPv6 address needs brackets, as in `tcp://[::1]:8786`"));
                }
                (host, port)
            }
        };
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if host.contains(|char: char| char.is_whitespace() || "/[]@".contains(char)) {
            return Err(wrong(&format!("`{host}` isn't a host")));
        }
        // `parse` would accept a sign.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| wrong("its port isn't a number up to 65535"))?;
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, host, port } = self;
        let protocol = if *tls { "tls" } else { "tcp" };
        match host.contains(':') {
            true => write!(f, "{protocol}://[{host}]:{port}"),
            false => write!(f, "{protocol}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["tcp://localhost:8786", "tls://10.0.0.1:1", "tcp://[fe80::1%eth0]:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let address: Address = "[::1]:8786".parse().unwrap();
        assert_eq!(address, Address { tls: false, host: "::1".to_owned(), port: 8786 });
        assert_eq!(address.to_string(), "tcp://[::1]:8786");
    }

    #[test]
    fn errors_name_what_is_wrong_with_an_address() {
        for (text, what) in [
            ("foo", "has no port"),
            ("", "has no port"),
            ("http://foo:80", "`http://` isn't supported"),
            ("tcp://:80", "has no host"),
            ("tcp://::1:80", "needs brackets"),
            ("tcp://[::1]", "has no `]:port`"),
            ("tcp://foo:99999", "isn't a number up to 65535"),
            ("tcp://foo:+1", "isn't a number up to 65535"),
            ("tcp://foo:", "isn't a number up to 65535"),
            ("tcp://a b:1", "`a b` isn't a host"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` isn't an address: ")), "{error}");
            assert!(error.contains(what), "{error}");
        }
    }
}
