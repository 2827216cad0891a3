//! Taking connections.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Async, Timer};

use super::comm::resolve;
use super::{Address, Comm, NetError, Tls};

/// How long who connects may take to greet.
const GREETING: Duration = Duration::from_secs(30);
/// How long to wait where no connection can be taken, for example since too many files are open.
const RESPITE: Duration = Duration::from_millis(100);

/// Takes connections at an address.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: Async<TcpListener>,
    address: Address,
    tls: Option<Tls>,
}

impl Listener {
    /// Listens there; port 0 is any that is free. With `tls`, certificates are shown and asked for.
    pub(crate) async fn bind(host: &str, port: u16, tls: Option<Tls>) -> Result<Self, NetError> {
        let mut address = Address { tls: tls.is_some(), host: host.to_owned(), port };
        let failed = |source| NetError::Listen { address: address.to_string(), source };
        let sockets = resolve(host, port).await.map_err(failed)?;
        let listener = TcpListener::bind(&*sockets).and_then(Async::try_from).map_err(failed)?;
        let port = listener.get_ref().local_addr().map_err(failed)?.port();
        address.port = port;
        Ok(Self { listener, address, tls })
    }

    /// Where it listens: the host that was given, and the port.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Takes connections and runs what the handler makes of each, at the same time. All of that ends when this
    /// is dropped.
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
                        log::warn!("{}: can't take a connection: {error}", self.address);
                        Timer::after(RESPITE).await;
                        continue;
                    }
                };
                let (handler, tls) = (handler.clone(), self.tls.clone());
                let serve = async move {
                    match Comm::accept(stream, tls.as_ref(), GREETING).await {
                        Ok(comm) => handler(comm).await,
                        Err(error) => log::debug!("a connection: {error}"),
                    }
                };
                executor.spawn(serve).detach();
            }
        };
        executor.run(accept).await
    }
}
