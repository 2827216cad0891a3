//! Starting a dashboard.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::guard::{Guard, Token, host_of};
use super::server::Server;
use super::service::Service;
use super::source::Source;

/// Says where a dashboard is to be; made by [`Client::dashboard`](crate::Client::dashboard).
#[derive(Debug)]
#[must_use = "there's no dashboard before `bind` or `service`"]
pub struct DashboardBuilder {
    source: Source,
    hosts: Vec<String>,
    remote: bool,
}

impl DashboardBuilder {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, hosts: Vec::new(), remote: false }
    }

    /// A further name under which the dashboard is reached, without a port: `tasks.example.org`.
    ///
    /// It answers requests for `localhost`, the loopback addresses, the address it's bound to, and the names
    /// said here. Others get 403, because a foreign page can make a name of its own lead to this machine.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Lets [`bind`](Self::bind) take an address that other machines can reach.
    ///
    /// Whoever reaches it can see everything, unencrypted; to cancel or retry tasks they need the link.
    /// Name the hosts under which they reach it with [`allow_host`](Self::allow_host).
    pub fn allow_remote(mut self) -> Self {
        self.remote = true;
        self
    }

    /// Starts the dashboard at this address, on a thread of its own. With port 0 the system picks one.
    ///
    /// # Errors
    ///
    /// The address can't be resolved or bound; it isn't of the loopback interface, and
    /// [`allow_remote`](Self::allow_remote) wasn't said; the system has no thread or no random numbers.
    ///
    /// ```
    /// let client = ensue::Client::new();
    /// let dashboard = client.dashboard().bind("127.0.0.1:0")?;
    /// println!("{}", dashboard.link());
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn bind(mut self, address: impl ToSocketAddrs) -> io::Result<Dashboard> {
        let addresses: Vec<_> = address.to_socket_addrs()?.collect();
        if let Some(far) = addresses.iter().find(|address| !address.ip().is_loopback()) {
            if !self.remote {
                let text = format!(
                    "{far} can be reached from other machines: the dashboard takes such an address \
                     after `allow_remote` only"
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

    /// The answers to requests only, to be mounted in a server of your own; see [`Service`].
    ///
    /// # Errors
    ///
    /// The system gives no random numbers for the token.
    pub fn service(self) -> io::Result<Service> {
        Ok(Service::new(self.source, Guard::new(Token::random()?, self.hosts)))
    }
}

/// A dashboard that's up; see [`DashboardBuilder::bind`].
///
/// It stays until it's dropped or [stopped](Dashboard::stop), which closes all its connections. It doesn't
/// keep the client alive: when that is gone, it shows what there was.
#[must_use = "the dashboard goes when this is dropped"]
pub struct Dashboard {
    server: Server,
    service: Service,
}

impl Dashboard {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What to open in a browser. It has the token in it, so who has it can cancel and retry tasks.
    pub fn link(&self) -> String {
        let (address, token) = (self.address(), self.service.token());
        // An address that stands for all of them can't be opened; that of this machine can.
        let host = match address.ip() {
            ip if !ip.is_unspecified() => host_of(ip),
            ip if ip.is_ipv4() => "127.0.0.1".to_owned(),
            _ => "[::1]".to_owned(),
        };
        format!("http://{host}:{}/#token={token}", address.port())
    }

    /// Closes all connections, and returns when the thread is gone. Dropping does the same.
    pub fn stop(self) {}
}

/// Without the token.
impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard").field("address", &self.address()).finish_non_exhaustive()
    }
}
