//! A socket, plain or with TLS, that can be read and written at the same time.

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

/// After so long without a byte the system asks whether the other side is still there, and after this again,
/// so often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(3), 10);
/// How long what was sent may be without an acknowledgement.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// A connected socket. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) enum Socket {
    Plain(Arc<Async<TcpStream>>),
    Tls(Arc<Mutex<TlsStream<Async<TcpStream>>>>),
}

/// Small messages go at once, and a side that has vanished is noticed.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
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
                    // Dask closes without a farewell. A message that is cut is noticed by its length.
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

    /// Whether nothing has come, not even the end, since the last message was read.
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

/// Ends a wait in which no byte moves for too long.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    moved: Instant,
    timer: Option<Timer>,
}

impl Patience {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, moved: Instant::now(), timer: None }
    }

    /// A byte moved.
    pub(super) fn moved(&mut self) {
        if self.limit.is_some() {
            self.moved = Instant::now();
        }
    }

    /// What is polled, unless it takes too long; then how long that was.
    pub(super) async fn bound<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Duration> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let Some(limit) = self.limit else { return Poll::Pending };
            // The timer isn't set anew for each byte: it's looked at when it ends.
            let Some(end) = self.moved.checked_add(limit) else { return Poll::Pending };
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
