//! Who may ask, and who may act.
//!
//! A page of some other site that is open in the same browser can send requests here, and with a name that
//! it lets point to this machine it could even read the answers. So requests have to be for a host that we
//! know we are, and may not come from a page of another origin. To act, a request has to show the token,
//! which is known to who has the link only.

use std::fmt;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Uri};

/// Where the token is shown.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-ensue-token");

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Why a request is refused.
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
            Self::NoHost => "The request doesn't say for which host it is.",
            Self::ForeignHost => "This host isn't one that the dashboard was told to be.",
            Self::ForeignOrigin => "Pages of other sites may not ask.",
            Self::NoToken => "This needs the token that is in the dashboard's link.",
            Self::WrongToken => "The token isn't that of this dashboard.",
        }
    }
}

/// What is drawn at random for each dashboard, and shown to nobody but who asks for the link.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    /// 128 bits from the system's source.
    pub(super) fn random() -> std::io::Result<Self> {
        Ok(Self(random_text()?))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes as long wherever the first difference is.
    fn is(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let difference = own.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
        own.len() == other.len() && std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// 128 random bits as text.
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
    /// Knows the names of the loopback interface, and these.
    pub(super) fn new(token: Token, more: impl IntoIterator<Item = String>) -> Self {
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        hosts.extend(more.into_iter().map(|host| host.to_ascii_lowercase()));
        Self { hosts, token }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// Whether a request may be answered at all.
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
        // The target of a request may name a host, too.
        let is_known = |host: &str| self.knows(host);
        if second.is_some() || !is_known(host) || !uri.host().is_none_or(is_known) {
            return Err(Refusal::ForeignHost);
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            // The page of another program on this machine has the host, but another port.
            if !authority.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)) {
                return Err(Refusal::ForeignOrigin);
            }
        }
        // Without an origin, browsers still say whose page asks. Following a link from elsewhere is fine.
        let says = |name: &HeaderName| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let is_foreign = matches!(says(&SITE), b"cross-site" | b"same-site");
        if is_foreign && !(says(&MODE) == b"navigate" && method == Method::GET) {
            return Err(Refusal::ForeignOrigin);
        }
        Ok(())
    }

    /// Whether it may act.
    pub(super) fn permit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = headers.get(TOKEN_HEADER).ok_or(Refusal::NoToken)?;
        if self.token.is(token.as_bytes()) { Ok(()) } else { Err(Refusal::WrongToken) }
    }

    /// Whether we are that host, whatever the port.
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

/// How an address is written in a URL.
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
    fn own_hosts_are_known_with_any_port() {
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
    fn only_pages_of_the_same_origin_may_ask() {
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
    fn the_token_has_to_be_the_very_one() {
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
    fn tokens_are_long_and_differ() {
        let (a, b) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(a.as_str().len(), 32);
        assert_ne!(a.as_str(), b.as_str());
    }
}
