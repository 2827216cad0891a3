//! Acceptance of connections.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Async, Timer};

use super::address::Address;
use super::comm::{Comm, resolve};
use super::error::NetError;
use super::tls::Tls;

/// The time in which a peer must complete the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a connection couldn't be accepted, for example because too many files are open.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A socket that accepts connections at an address.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: Async<TcpListener>,
    address: Address,
    tls: Option<Tls>,
}

impl Listener {
    /// Starts to listen; port 0 is any free one. With `tls`, both sides have to present certificates.
    pub(crate) async fn bind(host: &str, port: u16, tls: Option<Tls>) -> Result<Self, NetError> {
        let mut address = Address { tls: tls.is_some(), host: host.to_owned(), port };
        let failed = |source| NetError::Listen { address: address.to_string(), source };
        let sockets = resolve(host, port).await.map_err(failed)?;
        let listener = TcpListener::bind(&*sockets).and_then(Async::try_from).map_err(failed)?;
        let port = listener.get_ref().local_addr().map_err(failed)?.port();
        address.port = port;
        Ok(Self { listener, address, tls })
    }

    /// Returns the host as it was given, and the actual port.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts connections and runs the handler's future for each, all concurrently. Dropping this closes them.
    pub(crate) async fn serve<F>(
        &self,
        handler: impl Fn(Comm) -> F + Send + Sync + 'static,
    ) -> Infallible
    where
        F: Future<Output = ()> + Send,
    {
        let handler = Arc::new(handler);
        let executor = Executor::new();
        let accept = async {
            loop {
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        log::warn!("{}: can't accept a connection: {error}", self.address);
                        Timer::after(RETRY_PAUSE).await;
                        continue;
                    }
                };
                let (handler, tls) = (handler.clone(), self.tls.clone());
                // The handshake is part of the task, so a slow peer delays no other.
                let serve = async move {
                    match Comm::accept(stream, tls.as_ref(), HANDSHAKE_TIMEOUT).await {
                        Ok(comm) => handler(comm).await,
                        Err(error) => log::debug!("incoming connection: {error}"),
                    }
                };
                executor.spawn(serve).detach();
            }
        };
        executor.run(accept).await
    }
}
