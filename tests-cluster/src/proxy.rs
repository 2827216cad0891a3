//! A TCP proxy that can cut its connections, also in the middle of a message, or stall them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// A proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    /// The address that it listens on.
    pub address: SocketAddr,
    cable: Arc<Cable>,
}

#[derive(Debug, Default)]
struct Cable {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Both ends of each connection.
    streams: Vec<TcpStream>,
    /// Bytes from the server.
    carried: u64,
    /// The action after this number of further bytes from the server.
    then: Option<(u64, Then)>,
    stalled: bool,
    cut: bool,
}

/// An action of a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// Closes all connections. New ones are served.
    Cut,
    /// Forwards nothing, and closes nothing.
    Stall,
}

impl Proxy {
    /// Listens on `listen`, and forwards connections to `server`.
    pub fn start(listen: &str, server: SocketAddr) -> Self {
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

    /// Does this after `bytes` further bytes from the server.
    pub fn after(&self, bytes: u64, then: Then) {
        self.cable.lock().then = Some((bytes, then));
    }

    /// Forwards again after a stall.
    pub fn resume(&self) {
        self.cable.lock().stalled = false;
        self.cable.changed.notify_all();
    }

    /// Returns whether it's stalled.
    pub fn is_stalled(&self) -> bool {
        self.cable.lock().stalled
    }

    /// Returns whether the action of [`Proxy::after`] has happened.
    pub fn has_happened(&self) -> bool {
        self.cable.lock().then.is_none()
    }

    /// Returns the number of bytes from the server.
    pub fn carried(&self) -> u64 {
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
        // Wakes the listener, which sees that it's cut.
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
                // The rest is forwarded after a stall; after a cut, writing it fails.
                self.wait_to_act();
                if to.write_all(&buffer[pass..read]).is_err() {
                    break;
                }
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Counts bytes from the server, and returns how many of them pass before the action.
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
