//! Asking a server over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// More than anything here needs on a busy machine, and less than to wait for ever.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    stream
}

/// Sends this as it is, and reads to the end.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = connect(address);
    // The server may have refused it before it's all there.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.into(), body: body.into() }
}

pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    raw(address, format!("{request}\r\n").as_bytes())
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[])
}

/// Someone who reads the stream of updates.
pub(crate) struct Reader {
    pub(crate) stream: BufReader<TcpStream>,
    text: String,
}

impl Reader {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut stream = BufReader::new(connect(address));
        let request = format!("GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("a request");
        Self { stream, text: String::new() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("more of the stream");
        assert_ne!(read, 0, "the stream ended");
        line
    }

    /// The data of the next event with this name.
    pub(crate) fn next(&mut self, name: &str) -> Value {
        let start = format!("event: {name}\ndata: ");
        loop {
            let event = self.text.split_once(&start).and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((data, rest)) = event {
                let value = serde_json::from_str(data).expect(data);
                self.text = rest.to_owned();
                return value;
            }
            // The head, and then chunks: their length in a line of its own, and a line's end behind them.
            let line = self.line();
            if let Ok(length) = usize::from_str_radix(line.trim(), 16) {
                let mut chunk = vec![0; length + 2];
                self.stream.read_exact(&mut chunk).expect("a chunk");
                self.text += std::str::from_utf8(&chunk[..length]).expect("text");
            }
        }
    }

    /// Reads on until an update says that so many tasks have finished.
    pub(crate) fn until_finished(&mut self, tasks: u64) -> Value {
        let started = Instant::now();
        loop {
            let update = self.next("update");
            if update["stats"]["finished"].as_u64() >= Some(tasks) {
                return update;
            }
            assert!(started.elapsed() < LONG, "{update}");
        }
    }
}
