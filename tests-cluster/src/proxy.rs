//! A cable between two programs that can be cut, also in the middle of a message, or stop to carry anything.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Connections to `address` are carried on to another address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cable: Arc<Cable>,
}

#[derive(Default)]
struct Cable {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// All that is connected through it.
    streams: Vec<TcpStream>,
    /// How many bytes came from the server's side.
    carried: u64,
    /// What happens after so many more bytes from the server.
    then: Option<(u64, Then)>,
    stalled: bool,
    cut: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    /// All connections end; new ones are carried.
    Cut,
    /// Nothing is carried any more, and nothing ends.
    Stall,
}

impl Proxy {
    pub(crate) fn start(listen: &str, server: SocketAddr) -> Self {
        let listener =
            TcpListener::bind(listen).unwrap_or_else(|error| panic!("{listen}: {error}"));
        let address = listener.local_addr().expect("an address");
        let cable = Arc::new(Cable::default());
        let shared = cable.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                if shared.lock().cut {
                    return;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                shared.join(client, server);
            }
        });
        Self { address, cable }
    }

    /// Does so after that many more bytes from the server's side.
    pub(crate) fn after(&self, bytes: u64, then: Then) {
        self.cable.lock().then = Some((bytes, then));
    }

    /// Carries again after a stall.
    pub(crate) fn go_on(&self) {
        self.cable.lock().stalled = false;
        self.cable.changed.notify_all();
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.cable.lock().stalled
    }

    /// Whether what was asked for with [`Proxy::after`] has happened.
    pub(crate) fn has_happened(&self) -> bool {
        self.cable.lock().then.is_none()
    }

    /// How many bytes came from the server's side.
    pub(crate) fn carried(&self) -> u64 {
        self.cable.lock().carried
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.cable.lock();
        state.cut = true;
        state.stalled = false;
        state.end_all();
        drop(state);
        self.cable.changed.notify_all();
        // Its listener sees that it's cut.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl State {
    fn end_all(&mut self) {
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Cable {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("a copy");
        self.lock().streams.extend([copy(&client), copy(&server)]);
        for (from, to, counted) in [(copy(&server), copy(&client), true), (client, server, false)] {
            let cable = self.clone();
            thread::spawn(move || cable.carry(from, to, counted));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let pass = if counted { self.count(read) } else { read };
            self.wait_while_stalled();
            if to.write_all(&buffer[..pass]).is_err() {
                break;
            }
            if pass < read {
                // The rest is carried after a stall; after a cut there's nobody to have it.
                self.wait_to_act();
                if to.write_all(&buffer[pass..read]).is_err() {
                    break;
                }
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// How many of the bytes may pass before something happens.
    fn count(&self, read: usize) -> usize {
        let mut state = self.lock();
        state.carried += read as u64;
        let Some((left, _)) = &mut state.then else { return read };
        let pass = (*left).min(read as u64);
        *left -= pass;
        pass as usize
    }

    fn wait_to_act(&self) {
        let mut state = self.lock();
        match state.then.take() {
            Some((0, Then::Cut)) => state.end_all(),
            Some((0, Then::Stall)) => state.stalled = true,
            other => state.then = other,
        }
        drop(state);
        self.wait_while_stalled();
    }

    fn wait_while_stalled(&self) {
        let mut state = self.lock();
        while state.stalled {
            state = self.changed.wait(state).unwrap();
        }
    }
}
