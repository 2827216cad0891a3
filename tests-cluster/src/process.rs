//! Child processes of a test, with their logs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// The processes that run now: a test that hangs never drops its own.
static ALIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A child process, which is killed when this is dropped. If this process is killed, the child sees the end of its input.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a process, with a log in `folder`.
    pub fn start(mut command: Command, name: &str, folder: &Path) -> Self {
        let log = folder.join(name).with_extension("log");
        let errors = File::options().append(true).create(true).open(&log).expect("a log");
        command.stdin(Stdio::piped());
        command.stdout(errors.try_clone().expect("a log")).stderr(errors);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        ALIVE.lock().unwrap().push(child.id());
        let stdin = child.stdin.take();
        Self { child, name: name.to_owned(), log, _stdin: stdin }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its output so far, with its errors.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it with `SIGKILL`, and waits for its exit.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.ended_within(Duration::from_secs(10));
    }

    /// Sends a signal, such as `STOP`, `CONT`, `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Returns its status, if it has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is ours")
    }

    /// Waits for its exit, and returns its status.
    ///
    /// # Panics
    ///
    /// If it still runs after `limit`.
    #[track_caller]
    pub fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let (name, log) = (&self.name, self.log());
            assert!(start.elapsed() < limit, "{name} still runs after {limit:?}:\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- {}:\n{}", self.name, tail.join("\n"));
        }
        ALIVE.lock().unwrap().retain(|id| *id != self.child.id());
    }
}

/// Sends a signal to a process.
pub fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &id.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "{name} to {id}");
}

/// Kills all processes: a test that hangs never drops its own.
pub fn kill_all() {
    for id in ALIVE.lock().unwrap().drain(..) {
        signal(id, "KILL");
    }
}
