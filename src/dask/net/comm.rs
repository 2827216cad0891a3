//! A connection: messages in and out, after Dask's handshake.

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

use super::socket::{Patience, Socket, prepare};
use super::{Address, NetError, Tls};
use crate::dask::wire::frame::{self, Limits, Outgoing};
use crate::dask::wire::value::Value;
use crate::dask::wire::{handshake, unpack};

/// After so many bytes without a wait others on the thread have their turn.
const TURN: usize = 1 << 20;

/// A connection after the handshake. Dropping it closes it.
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
    /// A message has begun and not ended: nothing can follow.
    is_torn: bool,
}

/// The half of a connection that receives.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Socket,
    peer: Arc<str>,
    frames: frame::Reader,
    /// Whether anything came since the last [`send`](Comm::send).
    has_begun: bool,
}

impl Comm {
    /// Connects, and shakes hands. Finding the host, connecting, TLS and the handshake may take so long together.
    pub(crate) async fn connect(
        address: &Address,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let peer: Arc<str> = address.to_string().into();
        let tls = match (address.tls, tls) {
            (true, Some(tls)) => Some(tls),
            (false, None) => None,
            (true, None) => {
                return Err(refuse(&peer, "it needs certificates, and none were given"));
            }
            (false, Some(_)) => {
                let what = "certificates were given, and this address isn't encrypted; \
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
            Self::greet(socket, peer.clone()).await
        })
        .await
    }

    /// Shakes hands with who connected. With `tls` they must begin it.
    pub(crate) async fn accept(
        stream: Async<TcpStream>,
        tls: Option<&Tls>,
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let protocol = if tls.is_some() { "tls" } else { "tcp" };
        let peer: Arc<str> = match stream.get_ref().peer_addr() {
            Ok(address) => format!("{protocol}://{address}").into(),
            Err(error) => return Err(NetError::socket("a stranger", error)),
        };
        within(timeout, &peer, "no greeting", async {
            prepare(stream.get_ref()).map_err(|error| NetError::socket(&peer, error))?;
            let socket = match tls {
                None => Socket::Plain(Arc::new(stream)),
                Some(tls) => {
                    let stream = tls.acceptor().accept(stream).await;
                    let stream = stream.map_err(|error| tls_error(&peer, error))?;
                    Socket::Tls(Arc::new(Mutex::new(TlsStream::Server(stream))))
                }
            };
            Self::greet(socket, peer.clone()).await
        })
        .await
    }

    /// Both sides write first.
    async fn greet(socket: Socket, peer: Arc<str>) -> Result<Self, NetError> {
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
        let wrong = |what: String| NetError::Handshake { address: peer.to_string(), what };
        let frames = match comm.reader.receive().await {
            Ok(Some(frames)) => frames,
            Ok(None) | Err(NetError::Io { .. }) => {
                return Err(wrong(
                    "it closed the connection at once; does it want TLS?".to_owned(),
                ));
            }
            Err(NetError::Wire { source, .. }) => return Err(wrong(source.to_string())),
            Err(other) => return Err(other),
        };
        let theirs = unpack::message(&frames).and_then(handshake::theirs);
        theirs.map_err(|error| wrong(error.to_string()))?;
        Ok(comm)
    }

    /// Sends a message. If that is given up in the middle, nothing more can be sent.
    pub(crate) async fn send(&mut self, message: Outgoing) -> Result<(), NetError> {
        self.reader.has_begun = false;
        self.writer.send(message).await
    }

    /// The same, and no byte may take longer than this.
    pub(crate) async fn send_within(
        &mut self,
        message: Outgoing,
        idle: Duration,
    ) -> Result<(), NetError> {
        self.reader.has_begun = false;
        self.writer.send_within(message, idle).await
    }

    /// The next message; none if the other side has ended the connection between messages. May be given up at
    /// any time, and goes on where it was.
    pub(crate) async fn receive(&mut self) -> Result<Option<Vec<Bytes>>, NetError> {
        self.reader.receive().await
    }

    /// The same, and no byte may take longer than this.
    pub(crate) async fn receive_within(
        &mut self,
        idle: Duration,
    ) -> Result<Option<Vec<Bytes>>, NetError> {
        self.reader.receive_within(idle).await
    }

    /// Sends a message and waits for the answer. No byte may take longer than `timeout`, and large answers may
    /// take as long as they like.
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

    /// Both halves, to be used at the same time. The connection closes when both are dropped.
    pub(crate) fn split(self) -> (Writer, Reader) {
        (self.writer, self.reader)
    }

    /// Who is on the other side: the address that was connected to, or where it connected from.
    pub(crate) fn peer(&self) -> &str {
        &self.writer.peer
    }

    /// What this side is known by to the other.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.writer.socket.local_ip()
    }

    /// Whether it can be used for another call, as far as that can be seen.
    pub(super) fn is_fresh(&self) -> bool {
        !self.writer.is_torn
            && self.reader.frames.is_between_messages()
            && self.writer.socket.is_quiet()
    }

    /// Whether anything of an answer has come since the last message was sent.
    pub(super) fn has_begun_to_answer(&self) -> bool {
        self.reader.has_begun
    }
}

impl Writer {
    /// See [`Comm::send`].
    pub(crate) async fn send(&mut self, message: Outgoing) -> Result<(), NetError> {
        self.write(message, Patience::new(None)).await
    }

    /// See [`Comm::send_within`].
    pub(crate) async fn send_within(
        &mut self,
        message: Outgoing,
        idle: Duration,
    ) -> Result<(), NetError> {
        self.write(message, Patience::new(Some(idle))).await
    }

    async fn write(
        &mut self,
        mut message: Outgoing,
        mut patience: Patience,
    ) -> Result<(), NetError> {
        if self.is_torn {
            return Err(NetError::Closed { address: self.peer.to_string() });
        }
        self.is_torn = true;
        let mut turn = 0;
        while message.has_remaining() {
            let pieces = message.slices();
            let written = patience.bound(|cx| self.socket.poll_write(cx, &pieces)).await;
            drop(pieces);
            match self.done(written)? {
                0 => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                written => message.advance(written),
            }
            patience.moved();
            turn += 1;
            if turn % 16 == 0 {
                yield_now().await;
            }
        }
        let flushed = patience.bound(|cx| self.socket.poll_flush(cx)).await;
        self.done(flushed)?;
        self.is_torn = false;
        Ok(())
    }

    fn done<T>(&self, result: Result<io::Result<T>, Duration>) -> Result<T, NetError> {
        match result {
            Ok(result) => result.map_err(|error| self.failed(error)),
            Err(after) => {
                let address = self.peer.to_string();
                Err(NetError::TimedOut { address, what: "it took nothing", after })
            }
        }
    }

    fn failed(&self, error: io::Error) -> NetError {
        NetError::socket(&self.peer, error)
    }
}

impl Reader {
    /// See [`Comm::receive`].
    pub(crate) async fn receive(&mut self) -> Result<Option<Vec<Bytes>>, NetError> {
        self.read(Patience::new(None)).await
    }

    /// See [`Comm::receive_within`].
    pub(crate) async fn receive_within(
        &mut self,
        idle: Duration,
    ) -> Result<Option<Vec<Bytes>>, NetError> {
        self.read(Patience::new(Some(idle))).await
    }

    async fn read(&mut self, mut patience: Patience) -> Result<Option<Vec<Bytes>>, NetError> {
        let address = || self.peer.to_string();
        let mut turn = 0;
        loop {
            match self.frames.message() {
                Ok(Some(frames)) => return Ok(Some(frames)),
                Ok(None) => (),
                Err(source) => return Err(NetError::Wire { address: address(), source }),
            }
            let (socket, frames) = (&self.socket, &mut self.frames);
            let bytes = patience.bound(|cx| socket.poll_read(cx, frames.space())).await;
            match bytes {
                Ok(Ok(0)) if self.frames.is_between_messages() => return Ok(None),
                Ok(Ok(0)) => {
                    let cut = "it ended in the middle of a message";
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, cut);
                    return Err(NetError::Io { address: address(), source });
                }
                Ok(Ok(bytes)) => {
                    self.frames.filled(bytes);
                    self.has_begun = true;
                    turn += bytes;
                }
                Ok(Err(error)) => return Err(NetError::socket(&self.peer, error)),
                Err(after) => {
                    let what = "nothing came";
                    return Err(NetError::TimedOut { address: address(), what, after });
                }
            }
            patience.moved();
            if turn >= TURN {
                turn = 0;
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

/// For the messages of TLS; it isn't checked.
fn server_name(address: &Address) -> ServerName<'static> {
    let name = ServerName::try_from(address.host.clone());
    name.unwrap_or(ServerName::IpAddress(PkiIp::V4(Ipv4Addr::from([0, 0, 0, 0]))))
}

/// The first of the host's addresses that answers. Each gets its share of the time.
async fn dial(
    address: &Address,
    peer: &str,
    start: Instant,
    timeout: Duration,
) -> Result<Async<TcpStream>, NetError> {
    let failed = |source| NetError::Connect { address: peer.to_owned(), source };
    let found = resolve(&address.host, address.port).await.map_err(failed)?;
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

/// The addresses of a host, from the system, which may take its time.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    blocking::unblock(move || Ok((&*host, port).to_socket_addrs()?.collect())).await
}

/// What a future gives, if it does so in time.
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
