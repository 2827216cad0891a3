//! The server: a thread of its own that listens, and serves all connections.

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

use super::service::Service;
use super::socket::{Clock, Socket};

/// So many connections are served at a time; one more is told to come later.
const CONNECTIONS: usize = 200;

/// As long may a request take to arrive, or a connection wait for its next one.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// As large may a request's head be, and what waits to be sent, beside the update in hand.
const BUFFER: usize = 16 * 1024;
const HEADERS: usize = 64;

/// Who takes nothing of what is sent for so long is disconnected.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pause after a failure to accept, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that runs. Dropping it ends it.
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
            // It has nothing to tell: what goes wrong with a connection ends that connection.
            let _ = thread.join();
        }
    }
}

/// Serves until it's stopped; then all connections go with the executor.
async fn serve(listener: &Async<TcpListener>, service: &Service, stopped: &Receiver<Infallible>) {
    let executor = LocalExecutor::new();
    let accepting = async {
        let open = Rc::new(Cell::new(0));
        loop {
            match listener.accept().await {
                Ok((stream, _)) if open.get() < CONNECTIONS => {
                    let place = Place::take(&open);
                    executor.spawn(connection(stream, service.clone(), place)).detach();
                }
                Ok((stream, _)) => refuse(&stream),
                Err(_) => {
                    Timer::after(PAUSE).await;
                }
            }
        }
    };
    let stop = async {
        let _ = stopped.recv().await;
    };
    executor.run(or(stop, accepting)).await;
}

async fn connection(stream: Async<TcpStream>, service: Service, _place: Place) {
    // Updates are small and are waited for.
    let _ = stream.get_ref().set_nodelay(true);
    let answer = service_fn(|request| {
        let response = service.handle(&request);
        async { Ok::<_, Infallible>(response) }
    });
    // An error is the other side's, which is gone or has been told.
    let _ = http1::Builder::new()
        .timer(Clock)
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(Socket::new(stream, PATIENCE), answer)
        .await;
}

/// Says that there are too many, if that can be said at once.
fn refuse(stream: &Async<TcpStream>) {
    let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
                Connection: close\r\n\r\n";
    let _ = stream.get_ref().write(text.as_bytes());
}

/// One of the places for connections, free again when this is dropped.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
