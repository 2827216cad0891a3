//! Access checks: which requests are answered, and which may cancel or retry tasks.
//!
//! A page of another site in the same browser can send requests to the dashboard, and with a host name that
//! resolves to this machine (DNS rebinding) it could also read the responses. So a request has to name a
//! known host, and must not come from a page of another origin. To cancel or retry, it also needs the token
//! from the dashboard's link.

use std::fmt;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Uri};
use subtle::ConstantTimeEq;

/// The header that carries the token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-ensue-token");

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The reason for refusing a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoHost,
    ForeignHost,
    ForeignOrigin,
    NoToken,
    WrongToken,
}

impl Refusal {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NoHost => "The request has no `Host` header.",
            Self::ForeignHost => {
                "The dashboard doesn't serve this host. Add it with `DashboardBuilder::allow_host`."
            }
            Self::ForeignOrigin => "Requests from pages of other origins are refused.",
            Self::NoToken => {
                "This request needs the token from the dashboard's link, in the header `X-Ensue-Token`."
            }
            Self::WrongToken => {
                "The token belongs to another dashboard. Open the link of this one."
            }
        }
    }
}

/// A dashboard's random token. Only the link contains it.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// Draws 128 bits from the system's random number generator.
    pub(super) fn random() -> std::io::Result<Self> {
        Ok(Self(random_text()?))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in constant time, so that response times don't reveal how much of a guess is right.
    fn matches(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Returns 128 random bits as hexadecimal digits.
pub(super) fn random_text() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    token: Token,
}

impl Guard {
    /// Allows the names of the loopback interface and `more`.
    pub(super) fn new(token: Token, more: impl IntoIterator<Item = String>) -> Self {
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        hosts.extend(more.into_iter().map(|host| host.to_ascii_lowercase()));
        Self { hosts, token }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// Checks that a request may be answered at all.
    pub(super) fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        let host = host.and_then(|host| host.to_str().ok());
        let Some(host) = host.filter(|host| !host.is_empty()) else { return Err(Refusal::NoHost) };
        // A request target in absolute form also names a host.
        let is_known = |host: &str| self.knows(host);
        if second.is_some() || !is_known(host) || !uri.host().is_none_or(is_known) {
            return Err(Refusal::ForeignHost);
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            // Another program on this machine has the same host and another port, so the port counts.
            if !authority.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)) {
                return Err(Refusal::ForeignOrigin);
            }
        }
        // Browsers omit the origin from simple requests, but still report the relation of the sites.
        // Following a link on another site is allowed.
        let value =
            |name: &HeaderName| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let is_foreign = matches!(value(&SITE), b"cross-site" | b"same-site");
        if is_foreign && !(value(&MODE) == b"navigate" && method == Method::GET) {
            return Err(Refusal::ForeignOrigin);
        }
        Ok(())
    }

    /// Checks that a request may cancel or retry tasks.
    pub(super) fn permit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = headers.get(TOKEN_HEADER).ok_or(Refusal::NoToken)?;
        if self.token.matches(token.as_bytes()) { Ok(()) } else { Err(Refusal::WrongToken) }
    }

    /// Returns whether the host is allowed, whatever its port.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host);
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Formats an address as the host of a URL.
pub(super) fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(Token("secret".into()), ["Dash.Example".to_owned()])
    }

    fn ask(method: Method, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        guard().admit(&method, &Uri::from_static("/"), &map)
    }

    #[test]
    fn allowed_hosts_are_known_with_any_port() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:8787", "[::1]:9", "[::1]", "dash.example"]
        {
            assert_eq!(ask(Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.2",
            "localhost.evil.example",
            "localhost:x",
            "::1",
            "a@localhost",
        ] {
            assert_eq!(ask(Method::GET, &[("host", host)]), Err(Refusal::ForeignHost), "{host}");
        }
        assert_eq!(ask(Method::GET, &[]), Err(Refusal::NoHost));
        assert_eq!(ask(Method::GET, &[("host", "")]), Err(Refusal::NoHost));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(ask(Method::GET, &twice), Err(Refusal::ForeignHost));
    }

    #[test]
    fn requests_from_pages_of_other_origins_are_refused() {
        let from = |origin| ask(Method::POST, &[("host", "localhost:80"), ("origin", origin)]);
        assert_eq!(from("http://localhost:80"), Ok(()));
        assert_eq!(from("https://localhost:80"), Ok(()));
        for origin in ["http://localhost", "http://localhost:81", "null", "", "http://evil.example"]
        {
            assert_eq!(from(origin), Err(Refusal::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn other_sites_may_link_but_not_embed() {
        let fetch = |method, mode| {
            let headers =
                [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode)];
            ask(method, &headers)
        };
        assert_eq!(fetch(Method::GET, "navigate"), Ok(()));
        assert_eq!(fetch(Method::GET, "no-cors"), Err(Refusal::ForeignOrigin));
        assert_eq!(fetch(Method::POST, "navigate"), Err(Refusal::ForeignOrigin));
    }

    #[test]
    fn only_the_exact_token_is_accepted() {
        let show = |token: &str| {
            let mut map = HeaderMap::new();
            map.insert(TOKEN_HEADER, token.parse().expect("a value"));
            guard().permit(&map)
        };
        assert_eq!(show("secret"), Ok(()));
        for wrong in ["", "secre", "secrets", "Secret", "secret "] {
            assert_eq!(show(wrong), Err(Refusal::WrongToken), "{wrong:?}");
        }
        assert_eq!(guard().permit(&HeaderMap::new()), Err(Refusal::NoToken));
    }

    #[test]
    fn tokens_have_128_bits_and_differ() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(a.as_str().len(), 32);
        assert_ne!(a.as_str(), b.as_str());
    }
}
