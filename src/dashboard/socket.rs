//! A connection as hyper wants it: reading, writing, and the clock, with async-io underneath.

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Async;
use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};

/// As much is read at a time. Requests are a few hundred bytes.
const CHUNK: usize = 4096;

/// A TCP connection. A reader who takes nothing for as long as `patience` is given up.
pub(super) struct Socket {
    stream: Async<TcpStream>,
    patience: Duration,
    stalled: Option<async_io::Timer>,
}

impl Socket {
    pub(super) fn new(stream: Async<TcpStream>, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    /// What `attempt` gives, tried again whenever `ready` says that it's worth it.
    fn poll<T>(
        &self,
        poller: &mut Context<'_>,
        poll_ready: fn(&Async<TcpStream>, &mut Context<'_>) -> Poll<io::Result<()>>,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match attempt(self.stream.as_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => return Poll::Ready(done),
            }
            ready!(poll_ready(&self.stream, poller))?;
        }
    }

    /// Writing can't go on for now: since when?
    fn wait(&mut self, poller: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| async_io::Timer::after(patience));
        ready!(Pin::new(stalled).poll(poller));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        poller: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = buffer.remaining().min(CHUNK);
        let attempt = |mut stream: &TcpStream| stream.read(&mut chunk[..room]);
        let read = ready!(self.poll(poller, Async::poll_readable, attempt))?;
        buffer.put_slice(&chunk[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        poller: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let attempt = |mut stream: &TcpStream| stream.write(bytes);
        match self.poll(poller, Async::poll_writable, attempt) {
            Poll::Ready(done) => {
                self.stalled = None;
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(poller),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = self.stream.as_ref();
        Poll::Ready(stream.shutdown(Shutdown::Write))
    }
}

/// The clock, for the time that a request's head may take.
#[derive(Debug)]
pub(super) struct Clock;

struct Alarm(async_io::Timer);

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(poller).map(drop)
    }
}

impl Sleep for Alarm {}

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(async_io::Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Alarm(async_io::Timer::at(deadline)))
    }
}
