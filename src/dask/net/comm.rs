//! A connection that sends and receives messages, after Dask's handshake.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use bytes::{Buf, Bytes};
use futures_lite::future::{or, yield_now};
use futures_rustls::TlsStream;
use futures_rustls::pki_types::{IpAddr as PkiIp, Ipv4Addr, ServerName};

use super::address::Address;
use super::error::NetError;
use super::socket::{ProgressTimeout, Socket, prepare};
use super::tls::Tls;
use crate::dask::wire::frame::{self, Limits, Outgoing};
use crate::dask::wire::value::Value;
use crate::dask::wire::{handshake, unpack};

/// The number of bytes read, and of writes, after which a connection that never has to wait yields to the others on its
/// thread.
const YIELD_BYTES: usize = 1 << 20;
const YIELD_WRITES: usize = 16;

/// A connection after the handshake. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Comm {
    writer: Writer,
    reader: Reader,
}

/// The half of a connection that sends.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Socket,
    peer: Arc<str>,
    /// Whether a message was sent in part. No other can follow: the peer would take it for the rest.
    is_torn: bool,
}

/// The half of a connection that receives.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Socket,
    peer: Arc<str>,
    frames: frame::Reader,
    /// Whether anything was received since the last [`send`](Comm::send).
    has_begun: bool,
}

impl Comm {
    /// Connects to an address. `timeout` bounds all of it: name resolution, connecting, TLS and the handshake.
    pub(crate) async fn connect(
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let peer: Arc<str> = address.to_string().into();
        // A mismatch is an error of configuration. Connecting without TLS in spite of certificates would be a silent
        // downgrade.
        let tls = match (address.tls, tls) {
            (true, Some(tls)) => Some(tls),
            (false, None) => None,
            (true, None) => {
                return Err(refuse(&peer, "it needs certificates, and none were given"));
            }
            (false, Some(_)) => {
                let what = "certificates were given, but this address isn't encrypted; \
                            write `tls://`, or leave them out";
                return Err(refuse(&peer, what));
            }
        };
        let start = Instant::now();
        within(timeout, &peer, "no connection", async {
            let stream = dial(address, &peer, start, timeout).await?;
            let broken = |error| NetError::socket(&peer, error);
            prepare(stream.get_ref()).map_err(broken)?;
            let socket = match tls {
                None => Socket::Plain(Arc::new(stream)),
                Some(tls) => {
                    let stream = tls.connector().connect(server_name(address), stream).await;
                    let stream = stream.map_err(|error| tls_error(&peer, error))?;
                    Socket::Tls(Arc::new(Mutex::new(TlsStream::Client(stream))))
                }
            };
            Self::handshake(socket, peer.clone()).await
        })
        .await
    }

    /// Accepts a connection, with TLS if `tls` is given.
    pub(crate) async fn accept(
        stream: Async<TcpStream>,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let protocol = if tls.is_some() { "tls" } else { "tcp" };
        let peer: Arc<str> = match stream.get_ref().peer_addr() {
            Ok(address) => format!("{protocol}://{address}").into(),
            Err(error) => return Err(NetError::socket("an unknown peer", error)),
        };
        within(timeout, &peer, "no handshake", async {
            prepare(stream.get_ref()).map_err(|error| NetError::socket(&peer, error))?;
            let socket = match tls {
                None => Socket::Plain(Arc::new(stream)),
                Some(tls) => {
                    let stream = tls.acceptor().accept(stream).await;
                    let stream = stream.map_err(|error| tls_error(&peer, error))?;
                    Socket::Tls(Arc::new(Mutex::new(TlsStream::Server(stream))))
                }
            };
            Self::handshake(socket, peer.clone()).await
        })
        .await
    }

    /// Exchanges handshakes. Both sides send theirs without waiting for the other's.
    async fn handshake(socket: Socket, peer: Arc<str>) -> Result<Self, NetError> {
        let mut comm = Self {
            writer: Writer { socket: socket.clone(), peer: peer.clone(), is_torn: false },
            reader: Reader {
                socket,
                peer,
                frames: frame::Reader::new(Limits::default()),
                has_begun: false,
            },
        };
        comm.send(handshake::ours()).await?;
        let peer = comm.writer.peer.clone();
        let failed = |what: String| NetError::Handshake { address: peer.to_string(), what };
        let frames = match comm.reader.receive().await {
            Ok(Some(frames)) => frames,
            // A TLS listener closes a plain connection without an answer.
            Ok(None) | Err(NetError::Io { .. }) => {
                return Err(failed(
                    "the peer closed the connection at once; if it requires TLS, write `tls://`"
                        .to_owned(),
                ));
            }
            Err(NetError::Wire { source, .. }) => return Err(failed(source.to_string())),
            Err(other) => return Err(other),
        };
        let theirs = unpack::message(&frames).and_then(handshake::theirs);
        theirs.map_err(|error| failed(error.to_string()))?;
        Ok(comm)
    }

    /// Sends a message.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped in the middle of the message, nothing more can be sent.
    pub(crate) async fn send(&mut self, message: Outgoing) -> Result<(), NetError> {
        // What is received from now on belongs to the answer.
        self.reader.has_begun = false;
        self.writer.send(message).await
    }

    /// Like [`send`](Self::send), but fails if no byte can be sent for `idle`.
    pub(crate) async fn send_within(
        &mut self,
        message: Outgoing,
        idle: Duration,
    ) -> Result<(), NetError> {
        self.reader.has_begun = false;
        self.writer.send_within(message, idle).await
    }

    /// Receives a message. Returns `None` if the other side has closed the connection between messages.
    ///
    /// # Cancellation
    ///
    /// No data is lost when the future is dropped; the next call continues with it.
    pub(crate) async fn receive(&mut self) -> Result<Option<Vec<Bytes>>, NetError> {
        self.reader.receive().await
    }

    /// Like [`receive`](Self::receive), but fails if no byte is received for `idle`.
    pub(crate) async fn receive_within(
        &mut self,
        idle: Duration,
    ) -> Result<Option<Vec<Bytes>>, NetError> {
        self.reader.receive_within(idle).await
    }

    /// Sends a message and waits for the answer. Fails if no byte moves for `timeout`; the answer as a whole may take
    /// longer.
    pub(crate) async fn call(
        &mut self,
        message: Outgoing,
        timeout: Duration,
    ) -> Result<Value, NetError> {
        self.send_within(message, timeout).await?;
        match self.receive_within(timeout).await? {
            Some(frames) => unpack::message(&frames)
                .map_err(|source| NetError::Wire { address: self.peer().to_owned(), source }),
            None => Err(NetError::Closed { address: self.peer().to_owned() }),
        }
    }

    /// Splits the connection into its halves, for concurrent use. It's closed when both are dropped.
    pub(crate) fn split(self) -> (Writer, Reader) {
        (self.writer, self.reader)
    }

    /// Returns the address that was connected to, or from which the other side has connected.
    pub(crate) fn peer(&self) -> &str {
        &self.writer.peer
    }

    /// Returns the address of this side.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.writer.socket.local_ip()
    }

    /// Returns whether it can be used for another call, as far as is known on this side.
    pub(super) fn is_fresh(&self) -> bool {
        // Data that arrives between two calls is the end of the connection, or belongs to no call.
        !self.writer.is_torn
            && self.reader.frames.is_between_messages()
            && self.writer.socket.is_quiet()
    }

    /// Returns whether a part of an answer was received since the last message was sent.
    pub(super) fn has_begun_to_answer(&self) -> bool {
        self.reader.has_begun
    }
}

impl Writer {
    /// See [`Comm::send`].
    pub(crate) async fn send(&mut self, message: Outgoing) -> Result<(), NetError> {
        self.write(message, ProgressTimeout::new(None)).await
    }

    /// See [`Comm::send_within`].
    pub(crate) async fn send_within(
        &mut self,
        message: Outgoing,
        idle: Duration,
    ) -> Result<(), NetError> {
        self.write(message, ProgressTimeout::new(Some(idle))).await
    }

    async fn write(
        &mut self,
        mut message: Outgoing,
        mut timeout: ProgressTimeout,
    ) -> Result<(), NetError> {
        if self.is_torn {
            return Err(NetError::Closed { address: self.peer.to_string() });
        }
        // Before the first await, at which this future may be dropped.
        self.is_torn = true;
        let mut writes = 0;
        while message.has_remaining() {
            let pieces = message.slices();
            let written = timeout.bound(|cx| self.socket.poll_write(cx, &pieces)).await;
            drop(pieces);
            match self.check(written)? {
                0 => return Err(self.io_error(io::ErrorKind::WriteZero.into())),
                written => message.advance(written),
            }
            timeout.progress();
            writes += 1;
            // The socket of a fast peer always has room, so this loop might never wait.
            if writes % YIELD_WRITES == 0 {
                yield_now().await;
            }
        }
        // With TLS, the last record may still be in a buffer.
        let flushed = timeout.bound(|cx| self.socket.poll_flush(cx)).await;
        self.check(flushed)?;
        self.is_torn = false;
        Ok(())
    }

    fn check<T>(&self, result: Result<io::Result<T>, Duration>) -> Result<T, NetError> {
        match result {
            Ok(result) => result.map_err(|error| self.io_error(error)),
            Err(after) => {
                let address = self.peer.to_string();
                Err(NetError::TimedOut { address, what: "no data accepted", after })
            }
        }
    }

    fn io_error(&self, error: io::Error) -> NetError {
        NetError::socket(&self.peer, error)
    }
}

impl Reader {
    /// See [`Comm::receive`].
    pub(crate) async fn receive(&mut self) -> Result<Option<Vec<Bytes>>, NetError> {
        self.read(ProgressTimeout::new(None)).await
    }

    /// See [`Comm::receive_within`].
    pub(crate) async fn receive_within(
        &mut self,
        idle: Duration,
    ) -> Result<Option<Vec<Bytes>>, NetError> {
        self.read(ProgressTimeout::new(Some(idle))).await
    }

    async fn read(&mut self, mut timeout: ProgressTimeout) -> Result<Option<Vec<Bytes>>, NetError> {
        let address = || self.peer.to_string();
        let mut unyielded = 0;
        loop {
            match self.frames.message() {
                Ok(Some(frames)) => return Ok(Some(frames)),
                Ok(None) => (),
                Err(source) => return Err(NetError::Wire { address: address(), source }),
            }
            let (socket, frames) = (&self.socket, &mut self.frames);
            let bytes = timeout.bound(|cx| socket.poll_read(cx, frames.space())).await;
            match bytes {
                Ok(Ok(0)) if self.frames.is_between_messages() => return Ok(None),
                Ok(Ok(0)) => {
                    let cut = "it was closed in the middle of a message";
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, cut);
                    return Err(NetError::Io { address: address(), source });
                }
                Ok(Ok(bytes)) => {
                    self.frames.filled(bytes);
                    self.has_begun = true;
                    unyielded += bytes;
                }
                Ok(Err(error)) => return Err(NetError::socket(&self.peer, error)),
                Err(after) => {
                    let what = "no data received";
                    return Err(NetError::TimedOut { address: address(), what, after });
                }
            }
            timeout.progress();
            // As for writing: the socket of a fast peer always has data.
            if unyielded >= YIELD_BYTES {
                unyielded = 0;
                yield_now().await;
            }
        }
    }
}

fn refuse(address: &str, what: &str) -> NetError {
    NetError::Tls { address: address.to_owned(), what: what.to_owned() }
}

fn tls_error(peer: &str, error: io::Error) -> NetError {
    match NetError::socket(peer, error) {
        NetError::Io { source, .. } => refuse(peer, &source.to_string()),
        other => other,
    }
}

/// Returns the name for TLS messages. The certificate isn't checked against it.
fn server_name(address: &Address) -> ServerName<'static> {
    let name = ServerName::try_from(address.host.clone());
    name.unwrap_or(ServerName::IpAddress(PkiIp::V4(Ipv4Addr::from([0, 0, 0, 0]))))
}

/// Connects to the first of the host's addresses that answers. Each has an equal share of the time that is left.
async fn dial(
    address: &Address,
    peer: &str,
    start: Instant,
    timeout: Duration,
) -> Result<Async<TcpStream>, NetError> {
    let failed = |source| NetError::Connect { address: peer.to_owned(), source };
    let found = resolve(&address.host, address.port).await.map_err(failed)?;
    // A host may have addresses of both IP versions, of which only one can be reached.
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (at, socket) in found.iter().enumerate() {
        let left = timeout.saturating_sub(start.elapsed());
        let share = left / (found.len() - at) as u32;
        let late = async {
            Timer::after(share).await;
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer for {share:.1?}")))
        };
        match or(Async::<TcpStream>::connect(*socket), late).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Resolves a host on a thread that may block: the system's resolver may take long.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    blocking::unblock(move || Ok((&*host, port).to_socket_addrs()?.collect())).await
}

/// Bounds the time of a future.
async fn within<T>(
    timeout: Duration,
    peer: &str,
    what: &'static str,
    future: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    let late = async {
        Timer::after(timeout).await;
        Err(NetError::TimedOut { address: peer.to_owned(), what, after: timeout })
    };
    or(pin!(future), late).await
}
