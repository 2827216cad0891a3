//! A socket, plain or with TLS, that can be read and written concurrently.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::TlsStream;
use socket2::{SockRef, TcpKeepalive};

/// TCP keepalive: the idle time before the first probe, the interval between probes, and their number.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(3), 10);
/// The time after which unacknowledged data closes the connection.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// A connected socket. Clones refer to the same one.
#[derive(Clone, Debug)]
pub(super) enum Socket {
    Plain(Arc<Async<TcpStream>>),
    Tls(Arc<Mutex<TlsStream<Async<TcpStream>>>>),
}

/// Sets the options of a socket: small messages are sent at once, and a peer that has vanished is detected.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Calls and heartbeats are small, and must not wait for further data to fill a packet.
    stream.set_nodelay(true)?;
    let (idle, interval, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle);
    #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
    let keepalive = keepalive.with_interval(interval);
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let keepalive = keepalive.with_retries(times);
    let _ = (interval, times);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    // Keepalive probes only idle connections. This covers those with data under way.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

impl Socket {
    fn with_tls<T>(
        stream: &Mutex<TlsStream<Async<TcpStream>>>,
        then: impl FnOnce(Pin<&mut TlsStream<Async<TcpStream>>>) -> T,
    ) -> T {
        then(Pin::new(&mut *stream.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(&mut &**stream).poll_read(cx, space),
            Self::Tls(stream) => {
                match ready!(Self::with_tls(stream, |stream| stream.poll_read(cx, space))) {
                    // Dask closes connections without TLS's close message. A truncated message is detected by its
                    // length, so this is a normal end.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Poll::Ready(Ok(0))
                    }
                    other => Poll::Ready(other),
                }
            }
        }
    }

    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(&mut &**stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => {
                Self::with_tls(stream, |stream| stream.poll_write_vectored(cx, pieces))
            }
        }
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Self::with_tls(stream, |stream| stream.poll_flush(cx)),
        }
    }

    /// Returns whether neither data nor the end of the stream has arrived since the last message was read.
    pub(super) fn is_quiet(&self) -> bool {
        let peek = |stream: &Async<TcpStream>| match stream.get_ref().peek(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        match self {
            Self::Plain(stream) => peek(stream),
            Self::Tls(stream) => Self::with_tls(stream, |stream| peek(stream.get_ref().0)),
        }
    }

    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        let address = match self {
            Self::Plain(stream) => stream.get_ref().local_addr(),
            Self::Tls(stream) => {
                Self::with_tls(stream, |stream| stream.get_ref().0.get_ref().local_addr())
            }
        };
        address.ok().map(|address| address.ip())
    }
}

/// A timeout for the time without progress.
#[derive(Debug)]
pub(super) struct ProgressTimeout {
    limit: Option<Duration>,
    last_progress: Instant,
    timer: Option<Timer>,
}

impl ProgressTimeout {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, last_progress: Instant::now(), timer: None }
    }

    /// Starts the timeout anew.
    pub(super) fn progress(&mut self) {
        if self.limit.is_some() {
            self.last_progress = Instant::now();
        }
    }

    /// Polls until the result is ready. Fails with the limit after the timeout.
    pub(super) async fn bound<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Duration> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let Some(limit) = self.limit else { return Poll::Pending };
            // Setting the timer for each byte would be expensive. It's left as it is, and checked when it fires.
            let Some(end) = self.last_progress.checked_add(limit) else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Timer::at(end));
            while timer.poll(cx).is_ready() {
                if end <= Instant::now() {
                    return Poll::Ready(Err(limit));
                }
                timer.set_at(end);
            }
            Poll::Pending
        })
        .await
    }
}
