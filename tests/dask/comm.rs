//! Connections to schedulers and workers that block.

// Each test file is a crate of its own and uses a part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use ensue_dask_proto::frame::{Limits, Outgoing, Reader};
use ensue_dask_proto::pack::Batch;
use ensue_dask_proto::value::{Map, Value};
use ensue_dask_proto::{handshake, unpack};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Comm {
    stream: TcpStream,
    reader: Reader,
    operations: VecDeque<Map>,
}

impl Comm {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, reader: Reader::new(Limits::default()), operations: VecDeque::new() }
    }

    pub(crate) fn connect(address: &str) -> Self {
        let mut comm = Self::new(TcpStream::connect(address.trim_start_matches("tcp://")).unwrap());
        comm.send(handshake::ours());
        let theirs = handshake::theirs(comm.receive().unwrap()).unwrap();
        assert_eq!((theirs.pickle, theirs.compression), (5, None));
        comm
    }

    pub(crate) fn send(&mut self, mut message: Outgoing) {
        while message.has_remaining() {
            let slices: Vec<IoSlice<'_>> = message.slices();
            let written = self.stream.write_vectored(&slices).unwrap();
            message.advance(written);
        }
    }

    pub(crate) fn batch(&mut self, write: impl FnOnce(&mut Batch)) {
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

    pub(crate) fn receive(&mut self) -> Option<Value> {
        Some(unpack::message(&self.frames()?).unwrap())
    }

    pub(crate) fn call(&mut self, message: Outgoing) -> Value {
        self.send(message);
        self.receive().expect("an answer")
    }

    /// The first operation of the stream that is wanted.
    pub(crate) fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Map) -> Option<T>) -> T {
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
