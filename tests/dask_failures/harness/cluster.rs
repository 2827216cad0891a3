//! A stock scheduler that checks itself, and the processes around it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ensue::dask::{self, Tls};
use ensue_dask_proto::call;
use ensue_dask_proto::value::Value;

use super::certificates::Certificates;
use super::hosts::Host;
use super::process::Process;
use super::run::Setting;
use super::{eventually, wait};
use crate::comm::Comm;
use crate::functions;

/// What the crate itself gives to the processes of a `LocalCluster`.
const GUARD: &str = include_str!("../../../src/dask/cluster/guard.py");

/// How long a program in Python may take. It's used to a second or two.
const PATIENCE: Duration = Duration::from_secs(90);

/// A scheduler. What it has written is looked through in the end, unless the test has failed before.
pub(crate) struct Cluster {
    pub(crate) address: String,
    pub(crate) scheduler: Process,
    pub(crate) environment: PathBuf,
    folder: tempfile::TempDir,
    tls: Option<Tls>,
}

/// What is unusual about the scheduler.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// Dask's configuration, by the names of environment variables.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    pub(crate) certificates: Option<&'a Certificates>,
    pub(crate) host: Option<&'a Host>,
    /// Where it serves its HTTP pages, if it's told to.
    pub(crate) pages: Option<u16>,
}

impl Cluster {
    pub(crate) fn start(setting: &Setting) -> Self {
        Self::start_with(setting, &Options::default())
    }

    pub(crate) fn start_with(setting: &Setting, options: &Options<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("guard.py"), GUARD).expect("a file");
        let environment = setting.environment.clone();
        let mut command = stock(&environment, folder.path(), "scheduler");
        let host = options.host.map_or("127.0.0.1", |host| &host.address);
        let shown = if options.pages.is_some() { "--dashboard" } else { "--no-dashboard" };
        let pages = format!("127.0.0.1:{}", options.pages.unwrap_or(0));
        command.args(["--port", "0", "--dashboard-address", &pages, shown]);
        match options.certificates {
            None => command.args(["--host", host]),
            Some(files) => command
                .args(["--host", &format!("tls://{host}")])
                .args(files.options(["--tls-ca-file", "--tls-cert", "--tls-key"])),
        };
        command.env("DASK_DISTRIBUTED__SCHEDULER__VALIDATE", "True");
        command.envs(options.variables.iter().copied());
        if let Some(host) = options.host {
            command = host.command(&command);
        }
        let mut scheduler = Process::start(command, "scheduler", folder.path());
        let start = Instant::now();
        let address = loop {
            if let Ok(text) = fs::read_to_string(folder.path().join("address")) {
                break text.lines().next().unwrap_or_default().to_owned();
            }
            let ended = scheduler.ended().is_some();
            assert!(!ended && start.elapsed() < PATIENCE, "no scheduler:\n{}", scheduler.log());
            thread::sleep(Duration::from_millis(5));
        };
        let tls = options.certificates.map(Certificates::tls);
        Self { address, scheduler, environment, folder, tls }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn client(&self) -> dask::Client {
        let client = dask::Client::connect(&self.address, functions::registry());
        let client = match &self.tls {
            Some(tls) => client.tls(tls.clone()),
            None => client,
        };
        wait(client).expect("a client")
    }

    /// A worker of ours with one thread, that the scheduler knows.
    pub(crate) fn worker(&self, name: &str) -> Process {
        self.worker_with(name, &[])
    }

    pub(crate) fn worker_with(&self, name: &str, options: &[&str]) -> Process {
        let mut worker = self.start_worker(&self.address, name, options);
        self.wait_for(name, &mut worker);
        worker
    }

    /// A worker that may never be known.
    pub(crate) fn start_worker(&self, scheduler: &str, name: &str, options: &[&str]) -> Process {
        Process::start(worker_command(scheduler, name, options), name, self.folder())
    }

    pub(crate) fn worker_on(&self, host: &Host, name: &str) -> Process {
        let command = host.command(&worker_command(&self.address, name, &[]));
        let mut worker = Process::start(command, name, self.folder());
        self.wait_for(name, &mut worker);
        worker
    }

    /// A worker in Python with one thread. It has the resource `python`.
    pub(crate) fn python_worker(&self, name: &str) -> Process {
        let mut command = stock(&self.environment, self.folder(), "worker");
        command.args([&self.address, "--name", name, "--nthreads", "1", "--no-nanny"]);
        command.args(["--no-dashboard", "--resources", "python=1"]);
        let mut worker = Process::start(command, name, self.folder());
        self.wait_for(name, &mut worker);
        worker
    }

    fn wait_for(&self, name: &str, worker: &mut Process) {
        let start = Instant::now();
        // A scheduler with TLS isn't asked: it would have to be by a client.
        while self.tls.is_none() && !self.workers().iter().any(|known| known == name) {
            let log = worker.log();
            assert!(worker.ended().is_none(), "{name} has ended:\n{log}");
            assert!(start.elapsed() < PATIENCE, "{name} isn't known:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The names of the workers that the scheduler knows.
    pub(crate) fn workers(&self) -> Vec<String> {
        self.worker_addresses().into_iter().map(|(name, _)| name).collect()
    }

    /// The same, with the addresses.
    pub(crate) fn worker_addresses(&self) -> Vec<(String, String)> {
        let mut comm = Comm::connect(&self.address);
        let identity = call::map_reply(comm.call(call::identity())).expect("an answer");
        let workers = identity.get("workers").and_then(Value::as_map).expect("workers");
        let of = |(address, worker): (&str, &Value)| {
            Some((worker.as_map()?.text("id")?.to_owned(), address.to_owned()))
        };
        workers.named().filter_map(of).collect()
    }

    #[track_caller]
    pub(crate) fn wait_for_workers(&self, count: usize) {
        eventually(format_args!("{count} workers"), || self.workers().len() == count);
    }

    /// Runs a program of a stock client, which is there as `client`, and gives what it prints.
    #[track_caller]
    pub(crate) fn python(&self, program: &str) -> String {
        let text = format!(
            "import faulthandler, sys\nfrom distributed import Client\n\
             faulthandler.dump_traceback_later(60, exit=True)\n\
             client = Client(sys.argv[1], timeout=60)\n{program}\nclient.close()\n"
        );
        self.run_python(&text)
    }

    #[track_caller]
    pub(crate) fn run_python(&self, program: &str) -> String {
        let file = self.folder().join("program.py");
        fs::write(&file, program).expect("a file");
        let mut command = Command::new(self.environment.join("bin/python"));
        command.arg(file).arg(&self.address).current_dir(self.folder());
        // Its log is its alone.
        let _ = fs::remove_file(self.folder().join("program.log"));
        let mut process = Process::start(command, "program", self.folder());
        let status = process.ended_within(PATIENCE);
        assert!(status.success(), "{program}\n{}", process.log());
        process.log()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !thread::panicking() {
            let log = self.scheduler.log();
            let bad: Vec<_> = records(&log).filter(|record| is_bad(record)).collect();
            assert!(bad.is_empty(), "the scheduler has written:\n{}", bad.join("\n20"));
        }
    }
}

/// The entries of a log: what follows a date, to the next.
fn records(log: &str) -> impl Iterator<Item = &str> {
    log.split("\n20").filter(|record| !record.is_empty())
}

/// That a connection ended which Dask was about to write to is nothing bad, though it says so with a traceback.
fn is_bad(record: &str) -> bool {
    let expected = [" - INFO - Batched Comm Closed ", " - CRITICAL - Closed comm "];
    // As when it reads what a client has sent before it went.
    let error = record.trim_end().lines().take_while(|line| !line.contains(": RuntimeWarning: "));
    let last = error.last().unwrap_or_default();
    // As when a worker goes that was to take a value of a client, which then gives it to another.
    let has_gone = record.contains(", in update_data\n") && last.starts_with("KeyError: 'tcp://")
        || record.contains(", in scatter_to_workers\n")
            && last.starts_with("OSError: Timed out trying to connect to tcp://");
    record.contains("Traceback")
        && !has_gone
        && !expected.iter().any(|text| record.contains(text))
        && !last.starts_with("distributed.comm.core.CommClosedError: ")
}

/// One of Dask's own programs.
fn stock(environment: &Path, folder: &Path, program: &str) -> Command {
    let mut command = Command::new(environment.join("bin/dask"));
    command.arg(program).arg("--preload").arg(folder.join("guard.py"));
    command.env("ENSUE_CLUSTER_FOLDER", folder).env("TMPDIR", folder).current_dir(folder);
    command
}

/// This program, as a worker.
fn worker_command(scheduler: &str, name: &str, options: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["worker", scheduler, "--name", name, "--threads", "1"]).args(options);
    command
}

/// A port of loopback on which nobody listens now. It's none of those that the system gives by itself, so that it
/// gives it to nobody meanwhile.
pub(crate) fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_000));
    let mut free = ports.take(1_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}
