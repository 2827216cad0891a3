//! Blocking connections to schedulers and workers, at the level of Dask's messages.

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use ensue_dask_proto::frame::{Limits, Outgoing, Reader};
use ensue_dask_proto::pack::Batch;
use ensue_dask_proto::value::{Map, Value};
use ensue_dask_proto::{handshake, unpack};

/// The time limit of each read and of [`Comm::wait`].
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub struct Comm {
    stream: TcpStream,
    reader: Reader,
    operations: VecDeque<Map>,
}

impl Comm {
    /// Takes a connection whose handshake is still to come.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, reader: Reader::new(Limits::default()), operations: VecDeque::new() }
    }

    /// Connects to an address such as `tcp://127.0.0.1:8786`.
    ///
    /// # Panics
    ///
    /// If that fails, or if the other side speaks another protocol.
    pub fn connect(address: &str) -> Self {
        let mut comm = Self::new(TcpStream::connect(address.trim_start_matches("tcp://")).unwrap());
        comm.send(handshake::ours());
        let theirs = handshake::theirs(comm.receive().unwrap()).unwrap();
        assert_eq!((theirs.pickle, theirs.compression), (5, None));
        comm
    }

    /// Sends a message.
    pub fn send(&mut self, mut message: Outgoing) {
        while message.has_remaining() {
            let slices: Vec<IoSlice<'_>> = message.slices();
            let written = self.stream.write_vectored(&slices).unwrap();
            message.advance(written);
        }
    }

    /// Sends a batch of operations.
    pub fn batch(&mut self, write: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        write(&mut batch);
        self.send(batch.finish());
    }

    fn frames(&mut self) -> Option<Vec<Bytes>> {
        loop {
            if let Some(frames) = self.reader.message().unwrap() {
                return Some(frames);
            }
            match self.stream.read(self.reader.space()) {
                Ok(0) => return None,
                Ok(bytes) => self.reader.filled(bytes),
                Err(_) => return None,
            }
        }
    }

    /// Receives a message. `None` if the connection is closed.
    pub fn receive(&mut self) -> Option<Value> {
        Some(unpack::message(&self.frames()?).unwrap())
    }

    /// Sends a message and receives the reply.
    pub fn call(&mut self, message: Outgoing) -> Value {
        self.send(message);
        self.receive().expect("an answer")
    }

    /// Returns the first value that `wanted` makes of an operation of the stream.
    ///
    /// # Panics
    ///
    /// If there's none within [`PATIENCE`].
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Map) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = self.operations.pop_front().map(&mut wanted) {
                if let Some(found) = found {
                    return found;
                }
                continue;
            }
            assert!(start.elapsed() < PATIENCE, "no {what}");
            let frames = self.frames().unwrap_or_else(|| panic!("the stream ended before {what}"));
            self.operations.extend(unpack::operations(&frames, Ok).unwrap());
        }
    }
}
