//! The stock client: a Python process that reads the names of programs.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ensue_tests_cluster::Cluster;

pub(crate) struct Stock {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stock {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let mut command = Command::new(cluster.environment.join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/dask_speed/stock.py"));
        let log = File::create(cluster.folder().join("stock.log")).expect("a log");
        command.arg(&cluster.address).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("Python");
        let input = process.stdin.take().expect("a pipe");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, input, output }
    }

    /// Runs a program, and returns its time in seconds.
    pub(crate) fn run(&mut self, program: &str, n: u64) -> f64 {
        writeln!(self.input, "{program} {n}").expect("a running client");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        let took = line.split(' ').next().and_then(|took| took.parse().ok());
        took.unwrap_or_else(|| panic!("{program}: {line}"))
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
