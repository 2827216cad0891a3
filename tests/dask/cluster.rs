//! A stock scheduler for a test, and connections to it that block.

use std::collections::VecDeque;
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use ensue::dask::wire::frame::{Limits, Outgoing, Reader};
use ensue::dask::wire::pack::Batch;
use ensue::dask::wire::value::{Map, Value};
use ensue::dask::wire::{call, handshake, unpack};

const PATIENCE: Duration = Duration::from_secs(60);

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
            self.operations.extend(unpack::operations(&frames).unwrap());
        }
    }
}

/// A scheduler of its own, which ends with this.
pub(crate) struct Cluster {
    pub(crate) address: String,
    environment: PathBuf,
    log: PathBuf,
    process: Process,
}

pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    pub(crate) fn start(environment: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::env::temp_dir().join(format!("ensue-dask-{port}.log"));
        let port = port.to_string();
        let arguments = ["scheduler", "--host", "127.0.0.1", "--port", &port, "--no-dashboard"];
        let process = run_dask(environment, &arguments, &log);
        let address = format!("tcp://127.0.0.1:{port}");
        let start = Instant::now();
        while TcpStream::connect(&address[6..]).is_err() {
            assert!(start.elapsed() < PATIENCE, "{}", fs::read_to_string(&log).unwrap());
            thread::sleep(Duration::from_millis(100));
        }
        Self { address, environment: environment.to_owned(), log, process }
    }

    /// Waits for it: the name of a worker that isn't there yet is taken for that of a host, which may be ours.
    pub(crate) fn stock_worker(&self, calls: &mut Comm) -> Process {
        let arguments = [
            "worker",
            &self.address,
            "--no-nanny",
            "--name",
            "python",
            "--nthreads",
            "1",
            "--no-dashboard",
        ];
        let process = run_dask(&self.environment, &arguments, &self.log.with_extension("worker"));
        let start = Instant::now();
        loop {
            let identity = call::map_reply(calls.call(call::identity())).unwrap();
            let workers = identity.get("workers").and_then(Value::as_map).unwrap();
            let mut names = workers.named().filter_map(|(_, worker)| worker.as_map()?.text("id"));
            if names.any(|name| name == "python") {
                return process;
            }
            assert!(start.elapsed() < PATIENCE, "no stock worker");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it wrote.
    pub(crate) fn stop(self) -> String {
        drop(self.process);
        let log = fs::read_to_string(&self.log).unwrap();
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(self.log.with_extension("worker"));
        log
    }
}

fn run_dask(environment: &Path, arguments: &[&str], log: &Path) -> Process {
    let file = fs::File::create(log).unwrap();
    let child = Command::new(environment.join("bin/dask"))
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("DASK_DISTRIBUTED__SCHEDULER__VALIDATE", "True")
        .stdout(Stdio::null())
        .stderr(file)
        .spawn();
    Process(child.expect("`bin/dask` in the environment"))
}
