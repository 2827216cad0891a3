//! The HTTP server: one thread that accepts and serves all connections.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future::{block_on, or};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::SmolTimer;

use super::service::Service;
use super::socket::Socket;

/// The most connections at a time. Further ones get 503.
const CONNECTIONS: usize = 200;

/// The time in which the head of a request has to arrive, and for which an idle connection stays open.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes in the head of a request, and the most unsent bytes besides the current update.
const BUFFER: usize = 16 * 1024;

/// The most header fields in a request.
const HEADERS: usize = 64;

/// The time after which a peer that accepts no bytes is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause after `accept` fails, for example because the process has no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server. Dropping it closes all connections and waits for the thread to exit.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(listener: TcpListener, service: Service) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let listener = Async::new(listener)?;
        let (stop, stopped) = async_channel::bounded(1);
        let thread = thread::Builder::new()
            .name("ensue-dashboard".into())
            .spawn(move || block_on(serve(&listener, &service, &stopped)))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread returns nothing: an error on a connection ends only that connection.
            let _ = thread.join();
        }
    }
}

/// Serves until `stopped` is closed. Dropping the executor then closes all connections.
async fn serve(listener: &Async<TcpListener>, service: &Service, stopped: &Receiver<Infallible>) {
    let executor = LocalExecutor::new();
    let accepting = async {
        let open = Rc::new(Cell::new(0));
        loop {
            match listener.accept().await {
                Ok((stream, _)) if open.get() < CONNECTIONS => {
                    let slot = ConnectionSlot::acquire(&open);
                    executor.spawn(serve_connection(stream, service.clone(), slot)).detach();
                }
                Ok((stream, _)) => refuse(&stream),
                Err(_) => {
                    Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let stop = async {
        let _ = stopped.recv().await;
    };
    executor.run(or(stop, accepting)).await;
}

async fn serve_connection(stream: Async<TcpStream>, service: Service, _slot: ConnectionSlot) {
    // Updates are small, and Nagle's algorithm would delay them.
    let _ = stream.get_ref().set_nodelay(true);
    let handler = service_fn(|request| {
        let response = service.handle(&request);
        async { Ok::<_, Infallible>(response) }
    });
    // Hyper has already answered a malformed request, and other errors mean that the peer has disconnected.
    let _ = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(Socket::new(stream, WRITE_TIMEOUT), handler)
        .await;
}

/// Answers 503 if the socket's buffer takes it at once.
fn refuse(stream: &Async<TcpStream>) {
    let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
                Connection: close\r\n\r\n";
    let _ = stream.get_ref().write(text.as_bytes());
}

/// One of the `CONNECTIONS` slots. Dropping it releases it.
struct ConnectionSlot(Rc<Cell<usize>>);

impl ConnectionSlot {
    fn acquire(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
