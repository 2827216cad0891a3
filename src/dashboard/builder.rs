//! The builder of a dashboard, and the running dashboard.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::guard::{Guard, Token, host_of};
use super::server::Server;
use super::service::Service;
use super::source::Source;

/// Configures and starts a dashboard; created by [`Client::dashboard`](crate::Client::dashboard).
#[derive(Debug)]
#[must_use = "the dashboard starts with `bind` or `service`"]
pub struct DashboardBuilder {
    source: Source,
    hosts: Vec<String>,
    remote: bool,
}

impl DashboardBuilder {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, hosts: Vec::new(), remote: false }
    }

    /// Allows requests for a further host name, given without a port: `tasks.example.org`.
    ///
    /// `localhost`, the loopback addresses and the bound address are always allowed. Requests for other hosts
    /// get 403, because a foreign page can make a host name of its own resolve to this machine.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Allows [`bind`](Self::bind) to use an address that other machines can reach.
    ///
    /// Every machine that reaches the address can read everything, unencrypted; cancelling and retrying tasks
    /// needs the link. Add the host names of the address with [`allow_host`](Self::allow_host).
    pub fn allow_remote(mut self) -> Self {
        self.remote = true;
        self
    }

    /// Starts the dashboard at this address, on a thread of its own. With port 0 the system picks a port.
    ///
    /// # Errors
    ///
    /// The address can't be resolved or bound; the address isn't a loopback address, and
    /// [`allow_remote`](Self::allow_remote) wasn't called; the system can't start a thread or has no random
    /// numbers.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let dashboard = client.dashboard().bind("127.0.0.1:0")?;
    /// println!("{}", dashboard.link());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn bind(mut self, address: impl ToSocketAddrs) -> io::Result<Dashboard> {
        let addresses: Vec<_> = address.to_socket_addrs()?.collect();
        if let Some(remote) = addresses.iter().find(|address| !address.ip().is_loopback()) {
            if !self.remote {
                let text = format!(
                    "other machines can reach {remote}: call `allow_remote` to bind the dashboard to it"
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        }
        let listener = TcpListener::bind(&*addresses)?;
        self.hosts.push(host_of(listener.local_addr()?.ip()));
        let service = self.service()?;
        let server = Server::start(listener, service.clone())?;
        Ok(Dashboard { server, service })
    }

    /// Returns the request handler alone, to be mounted in another server; see [`Service`].
    ///
    /// # Errors
    ///
    /// The system has no random numbers for the token.
    pub fn service(self) -> io::Result<Service> {
        Ok(Service::new(self.source, Guard::new(Token::random()?, self.hosts)))
    }
}

/// A running dashboard; see [`DashboardBuilder::bind`].
///
/// It runs until it's dropped or [stopped](Dashboard::stop), which closes all its connections. It doesn't
/// keep the client alive: after the client is dropped, the dashboard shows the final state.
#[must_use = "dropping the dashboard stops it"]
pub struct Dashboard {
    server: Server,
    service: Service,
}

impl Dashboard {
    /// Returns the address that the dashboard listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Returns the URL to open in a browser. It contains the token, so everyone with the link can cancel and
    /// retry tasks.
    pub fn link(&self) -> String {
        let (address, token) = (self.address(), self.service.token());
        // A browser can't open an unspecified address, such as 0.0.0.0.
        let host = match address.ip() {
            ip if !ip.is_unspecified() => host_of(ip),
            ip if ip.is_ipv4() => "127.0.0.1".to_owned(),
            _ => "[::1]".to_owned(),
        };
        format!("http://{host}:{}/#token={token}", address.port())
    }

    /// Closes all connections and waits for the thread to exit. Dropping the dashboard does the same.
    pub fn stop(self) {}
}

/// Omits the token.
impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard").field("address", &self.address()).finish_non_exhaustive()
    }
}
