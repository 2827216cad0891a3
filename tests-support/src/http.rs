//! A blocking HTTP client for the dashboard's server. It sends any bytes, also malformed requests, and reads streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The time limit of any read, longer than the server needs on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The status code, or 0 if there's none.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body, as it was sent.
    pub body: String,
}

impl Answer {
    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// If it isn't JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Returns the value of a header, whose name is compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Connects to the server, with [`LONG`] as the limit of each read.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    stream
}

/// Sends the bytes of a request as they are, and reads the response to its end.
pub fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = connect(address);
    // The server may refuse the request before it has all of it.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.into(), body: body.into() }
}

/// Sends a request without a body, and reads the response to its end.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    raw(address, format!("{request}\r\n").as_bytes())
}

/// Sends a `GET` request, and reads the response to its end.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, &[])
}

/// A reader of the dashboard's stream of server-sent events.
#[derive(Debug)]
pub struct Reader {
    /// The connection.
    pub stream: BufReader<TcpStream>,
    text: String,
}

impl Reader {
    /// Connects to the server and requests the stream.
    pub fn open(address: SocketAddr) -> Self {
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

    /// Returns the data of the next event with this name.
    pub fn next(&mut self, name: &str) -> Value {
        let start = format!("event: {name}\ndata: ");
        loop {
            let event = self.text.split_once(&start).and_then(|(_, rest)| rest.split_once("\n\n"));
            if let Some((data, rest)) = event {
                let value = serde_json::from_str(data).expect(data);
                self.text = rest.to_owned();
                return value;
            }
            // The headers, and then chunks: the length of each in a line of its own, and a line break after it.
            let line = self.line();
            if let Ok(length) = usize::from_str_radix(line.trim(), 16) {
                let mut chunk = vec![0; length + 2];
                self.stream.read_exact(&mut chunk).expect("a chunk");
                self.text += std::str::from_utf8(&chunk[..length]).expect("text");
            }
        }
    }

    /// Returns the first update in which this number of tasks has finished.
    ///
    /// # Panics
    ///
    /// If none comes within [`LONG`].
    pub fn until_finished(&mut self, tasks: u64) -> Value {
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
