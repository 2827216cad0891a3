//! A stock scheduler that validates its state, and its workers and clients.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ensue::dask::{self, Registry, Tls};
use ensue_dask_proto::call;
use ensue_dask_proto::value::Value;

use super::certificates::Certificates;
use super::hosts::Host;
use super::process::Process;
use super::{eventually, wait};
use crate::comm::Comm;

/// The preload script that the crate passes to the processes of a `LocalCluster`.
const GUARD: &str = include_str!("../../src/dask/cluster/guard.py");

/// The time limit of a program in Python, which takes a second or two.
const PATIENCE: Duration = Duration::from_secs(90);

/// The Dask and the functions of a cluster.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The folder of a Python environment, with `bin/dask` and `bin/python`.
    pub environment: PathBuf,
    /// Returns the functions of the clients. The program registers the same ones as a worker.
    pub registry: fn() -> Registry,
}

/// Returns the environments of Dask in the variable `ENSUE_DASK`, which are separated by colons.
pub fn environments() -> Vec<PathBuf> {
    let environments = std::env::var("ENSUE_DASK").unwrap_or_default();
    environments.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
}

/// A scheduler, which is killed when this is dropped.
///
/// # Panics
///
/// Dropping it panics if the scheduler has logged an error, unless the thread panics already.
#[derive(Debug)]
pub struct Cluster {
    /// The address of the scheduler.
    pub address: String,
    /// The process of the scheduler.
    pub scheduler: Process,
    /// As in [`Setting`].
    pub environment: PathBuf,
    registry: fn() -> Registry,
    folder: tempfile::TempDir,
    tls: Option<Tls>,
    /// The log was taken by [`Cluster::stop`].
    is_stopped: bool,
}

/// Options of a scheduler.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Environment variables with Dask's configuration.
    pub variables: &'a [(&'a str, &'a str)],
    /// The certificates of a scheduler with TLS.
    pub certificates: Option<&'a Certificates>,
    /// The host that it runs on, instead of this one.
    pub host: Option<&'a Host>,
    /// The port of its HTTP pages, if it serves any.
    pub pages: Option<u16>,
}

impl Cluster {
    /// Starts a scheduler without options.
    pub fn start(setting: &Setting) -> Self {
        Self::start_with(setting, &Options::default())
    }

    /// Starts a scheduler.
    pub fn start_with(setting: &Setting, options: &Options<'_>) -> Self {
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
        let registry = setting.registry;
        Self { address, scheduler, environment, registry, folder, tls, is_stopped: false }
    }

    /// Returns the folder of its logs, which is removed in the end.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Connects a client.
    pub fn client(&self) -> dask::Client {
        let client = dask::Client::connect(&self.address, (self.registry)());
        let client = match &self.tls {
            Some(tls) => client.tls(tls.clone()),
            None => client,
        };
        wait(client).expect("a client")
    }

    /// Starts a worker of the crate with one thread, and waits until the scheduler knows it.
    pub fn worker(&self, name: &str) -> Process {
        self.worker_with(name, &[])
    }

    /// Does the same, with further options on its command line.
    pub fn worker_with(&self, name: &str, options: &[&str]) -> Process {
        let mut worker = self.start_worker(&self.address, name, options);
        self.wait_for(name, &mut worker);
        worker
    }

    /// Starts a worker of the crate without waiting for its registration.
    pub fn start_worker(&self, scheduler: &str, name: &str, options: &[&str]) -> Process {
        Process::start(worker_command(scheduler, name, options), name, self.folder())
    }

    /// Starts a worker of the crate on another host, and waits until the scheduler knows it.
    pub fn worker_on(&self, host: &Host, name: &str) -> Process {
        let command = host.command(&worker_command(&self.address, name, &[]));
        let mut worker = Process::start(command, name, self.folder());
        self.wait_for(name, &mut worker);
        worker
    }

    /// Starts a stock worker with one thread and the resource `python`, and waits until the scheduler knows it.
    pub fn python_worker(&self, name: &str) -> Process {
        let mut command = stock(&self.environment, self.folder(), "worker");
        command.args([&self.address, "--name", name, "--nthreads", "1", "--no-nanny"]);
        command.args(["--no-dashboard", "--resources", "python=1"]);
        let mut worker = Process::start(command, name, self.folder());
        self.wait_for(name, &mut worker);
        worker
    }

    fn wait_for(&self, name: &str, worker: &mut Process) {
        let start = Instant::now();
        // `Comm` has no TLS.
        while self.tls.is_none() && !self.workers().iter().any(|known| known == name) {
            let log = worker.log();
            assert!(worker.ended().is_none(), "{name} has ended:\n{log}");
            assert!(start.elapsed() < PATIENCE, "{name} isn't known:\n{log}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the names of the workers that the scheduler knows.
    pub fn workers(&self) -> Vec<String> {
        self.worker_addresses().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns the names and addresses of the workers that the scheduler knows.
    pub fn worker_addresses(&self) -> Vec<(String, String)> {
        let mut comm = Comm::connect(&self.address);
        let identity = call::map_reply(comm.call(call::identity())).expect("an answer");
        let workers = identity.get("workers").and_then(Value::as_map).expect("workers");
        let of = |(address, worker): (&str, &Value)| {
            Some((worker.as_map()?.text("id")?.to_owned(), address.to_owned()))
        };
        workers.named().filter_map(of).collect()
    }

    /// Waits until the scheduler knows exactly this number of workers.
    #[track_caller]
    pub fn wait_for_workers(&self, count: usize) {
        eventually(format_args!("{count} workers"), || self.workers().len() == count);
    }

    /// Kills the scheduler, and returns its log without checking it for errors.
    pub fn stop(mut self) -> String {
        self.is_stopped = true;
        self.scheduler.kill();
        self.scheduler.log()
    }

    /// Runs a Python program with a stock client in the variable `client`, and returns its output.
    #[track_caller]
    pub fn python(&self, program: &str) -> String {
        let text = format!(
            "import faulthandler, sys\nfrom distributed import Client\n\
             faulthandler.dump_traceback_later(60, exit=True)\n\
             client = Client(sys.argv[1], timeout=60)\n{program}\nclient.close()\n"
        );
        self.run_python(&text)
    }

    /// Runs a Python program with the scheduler's address as its argument, and returns its output.
    ///
    /// # Panics
    ///
    /// If the program fails, or takes more than 90 seconds.
    #[track_caller]
    pub fn run_python(&self, program: &str) -> String {
        let file = self.folder().join("program.py");
        fs::write(&file, program).expect("a file");
        let mut command = Command::new(self.environment.join("bin/python"));
        command.arg(file).arg(&self.address).current_dir(self.folder());
        // Without the output of an earlier program.
        let _ = fs::remove_file(self.folder().join("program.log"));
        let mut process = Process::start(command, "program", self.folder());
        let status = process.ended_within(PATIENCE);
        assert!(status.success(), "{program}\n{}", process.log());
        process.log()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.is_stopped && !thread::panicking() {
            let log = self.scheduler.log();
            let bad: Vec<_> = records(&log).filter(|record| is_bad(record)).collect();
            assert!(bad.is_empty(), "the scheduler has written:\n{}", bad.join("\n20"));
        }
    }
}

/// Returns the entries of a log: each begins with a date.
fn records(log: &str) -> impl Iterator<Item = &str> {
    log.split("\n20").filter(|record| !record.is_empty())
}

/// Returns whether an entry is an unexpected error. Dask also logs a traceback when it writes to a connection that was
/// closed, which is expected.
fn is_bad(record: &str) -> bool {
    let expected = [" - INFO - Batched Comm Closed ", " - CRITICAL - Closed comm "];
    // A warning may follow, when it reads the last messages of a client that has left.
    let error = record.trim_end().lines().take_while(|line| !line.contains(": RuntimeWarning: "));
    let last = error.last().unwrap_or_default();
    // Expected when a worker that was chosen for scattered data leaves: the client scatters it again.
    let has_gone = record.contains(", in update_data\n") && last.starts_with("KeyError: 'tcp://")
        || record.contains(", in scatter_to_workers\n")
            && last.starts_with("OSError: Timed out trying to connect to tcp://");
    record.contains("Traceback")
        && !has_gone
        && !expected.iter().any(|text| record.contains(text))
        && !last.starts_with("distributed.comm.core.CommClosedError: ")
}

/// Returns the command of a program of Dask.
fn stock(environment: &Path, folder: &Path, program: &str) -> Command {
    let mut command = Command::new(environment.join("bin/dask"));
    command.arg(program).arg("--preload").arg(folder.join("guard.py"));
    command.env("ENSUE_CLUSTER_FOLDER", folder).env("TMPDIR", folder).current_dir(folder);
    command
}

/// Returns the command of this program as a worker.
fn worker_command(scheduler: &str, name: &str, options: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["worker", scheduler, "--name", name, "--threads", "1"]).args(options);
    command
}

/// Returns a free port of the loopback interface, outside the range from which the system assigns ports: it stays free
/// until the test uses it.
pub fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_000));
    let mut free = ports.take(1_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}
