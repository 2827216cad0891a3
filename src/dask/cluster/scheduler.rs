//! Dask's own scheduler, on loopback.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::error::{ClusterError, Problem};
use super::process::{Folder, Process};

/// It takes a second or two; a minute on a machine that has other things to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// How long between two looks whether it's there. Short beside the time it takes.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Stopped when dropped.
pub(super) struct Scheduler {
    #[expect(dead_code, reason = "it's there to be dropped")]
    process: Process,
    address: String,
    dashboard: Option<String>,
}

impl Scheduler {
    /// Starts it and waits until it listens, but no longer than `patience`.
    ///
    /// Dropping the future stops what was started.
    pub(super) async fn start(
        environment: Option<&Path>,
        folder: &Folder,
        dashboard: bool,
        patience: Duration,
    ) -> Result<Self, ClusterError> {
        let shown = if dashboard { "--dashboard" } else { "--no-dashboard" };
        // Its HTTP server runs in any case, by default on all addresses of the machine.
        let arguments = [
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
            shown,
        ];
        let mut process = Process::start(environment, folder, "scheduler", arguments)?;
        let started = Instant::now();
        let (address, dashboard) = loop {
            if let Some(found) = read_address(folder)? {
                break found;
            }
            let what = "`dask scheduler`";
            if let Some(status) = process.ended() {
                return Err(Problem::Ended { what, status, log: process.tail() }.into());
            }
            if started.elapsed() > patience {
                return Err(Problem::Slow { what, after: patience, log: process.tail() }.into());
            }
            Timer::after(PAUSE).await;
        };
        Ok(Self { process, address, dashboard })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The address of its pages, if it can show any.
    pub(super) fn dashboard(&self) -> Option<&str> {
        self.dashboard.as_deref()
    }
}

/// What the guard has written, once it's there.
fn read_address(folder: &Folder) -> Result<Option<(String, Option<String>)>, ClusterError> {
    let text = match fs::read_to_string(folder.path().join("address")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::Folder(error).into()),
    };
    let mut lines = text.lines();
    let address = lines.next().unwrap_or_default().to_owned();
    let port = lines.next().filter(|port| !port.is_empty());
    Ok(Some((address, port.map(|port| format!("http://127.0.0.1:{port}/status")))))
}

// The programs are shell scripts.
#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use futures_lite::future::block_on;

    use super::*;

    /// An environment whose `dask` is this script.
    fn environment(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/dask");
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn start(script: &str, patience: Duration) -> Result<Scheduler, ClusterError> {
        let environment = environment(script);
        let folder = Folder::new().unwrap();
        block_on(Scheduler::start(Some(environment.path()), &folder, true, patience))
    }

    #[test]
    fn a_scheduler_that_is_not_installed() {
        let folder = Folder::new().unwrap();
        let nowhere = PathBuf::from("/nowhere");
        let error = block_on(Scheduler::start(Some(&nowhere), &folder, true, PATIENCE));
        let error = error.err().unwrap();
        assert!(error.is_not_installed());
        let text = error.to_string();
        assert!(text.starts_with("there is no `/nowhere/bin/dask`"), "{text}");
        assert!(text.contains("pip install \"dask[distributed]\""), "{text}");
    }

    #[test]
    fn a_scheduler_that_ends_at_once() {
        let error = start("echo no module named distributed >&2; exit 3", PATIENCE).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("(exit status: 3) before it was ready"), "{text}");
        assert!(text.ends_with("no module named distributed"), "{text}");
        assert!(!error.is_not_installed());
    }

    #[test]
    fn a_scheduler_that_is_never_ready() {
        let started = Instant::now();
        let slow = start("echo $$; echo at work; exec sleep 100", Duration::from_millis(300));
        let text = slow.err().unwrap().to_string();
        assert!(text.contains("wasn't ready after 300ms"), "{text}");
        assert!(text.ends_with("at work"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(20));
        let pid = text.lines().rev().nth(1).unwrap();
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is still there");
    }

    #[test]
    fn a_scheduler_that_is_ready() {
        let script =
            "printf 'tcp://127.0.0.1:1\\n2\\n' > $ENSUE_CLUSTER_FOLDER/address; exec sleep 100";
        let scheduler = start(script, PATIENCE).unwrap();
        assert_eq!(scheduler.address(), "tcp://127.0.0.1:1");
        assert_eq!(scheduler.dashboard(), Some("http://127.0.0.1:2/status"));
    }

    #[test]
    fn the_tail_of_a_long_log() {
        let text = start("seq 1 100000; exit 1", PATIENCE).err().unwrap().to_string();
        assert_eq!(text.lines().count(), 31, "{text}");
        assert!(text.ends_with("\n99999\n100000"), "{text}");
    }
}
