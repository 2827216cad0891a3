//! A TCP connection for hyper, with a time limit for writing.

use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use hyper::rt::{Read, ReadBufCursor, Write};
use smol_hyper::rt::FuturesIo;

/// A TCP connection on which a write fails with [`io::ErrorKind::TimedOut`] if the peer accepts no byte for
/// `write_timeout`.
///
/// | state | `stalled` | leaves it when |
/// |---|---|---|
/// | flowing | `None` | the socket's buffer is full: stalled |
/// | stalled | a timer | the peer accepts bytes: flowing; the timer expires: the connection ends |
pub(super) struct Socket {
    stream: FuturesIo<Async<TcpStream>>,
    write_timeout: Duration,
    stalled: Option<Timer>,
}

impl Socket {
    pub(super) fn new(stream: Async<TcpStream>, write_timeout: Duration) -> Self {
        Self { stream: FuturesIo::new(stream), write_timeout, stalled: None }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        // The timer starts at the first write that blocks, and later ones don't restart it.
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Timer::after(write_timeout));
        ready!(Pin::new(stalled).poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    // `Async` only flushes when it's closed, and the peer needs to see the end of the stream.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = self.stream.get_ref().as_ref();
        Poll::Ready(stream.shutdown(Shutdown::Write))
    }
}
