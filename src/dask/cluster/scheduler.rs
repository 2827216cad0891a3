//! Dask's own scheduler as a process that listens on loopback.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use async_io::Timer;

use super::error::{ClusterError, ClusterErrorKind};
use super::process::{ClusterFolder, DaskProcess, POLL_INTERVAL};

/// The time in which Dask processes must be ready. Mostly they need a second or two, but a minute on a busy machine.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// A scheduler process, which is killed when this is dropped.
pub(super) struct SchedulerProcess {
    #[expect(dead_code, reason = "dropping it kills the process")]
    process: DaskProcess,
    address: String,
    dashboard: Option<String>,
}

impl SchedulerProcess {
    /// Starts a scheduler and waits until it listens. Dropping the future kills the process.
    pub(super) async fn start(
        environment: Option<&Path>,
        folder: &ClusterFolder,
        dashboard: bool,
        timeout: Duration,
    ) -> Result<Self, ClusterError> {
        let shown = if dashboard { "--dashboard" } else { "--no-dashboard" };
        // The HTTP server runs in any case, by default on all addresses of the machine.
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
        let mut process = DaskProcess::start(environment, folder, "scheduler", arguments)?;
        let started = Instant::now();
        let (address, dashboard) = loop {
            if let Some(found) = read_address(folder)? {
                break found;
            }
            process.check_start("`dask scheduler`", started, timeout)?;
            Timer::after(POLL_INTERVAL).await;
        };
        Ok(Self { process, address, dashboard })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the address of the dashboard, if bokeh is installed.
    pub(super) fn dashboard(&self) -> Option<&str> {
        self.dashboard.as_deref()
    }
}

/// Reads the address and the dashboard's port, if the guard module has written them already.
fn read_address(folder: &ClusterFolder) -> Result<Option<(String, Option<String>)>, ClusterError> {
    let text = match fs::read_to_string(folder.path().join("address")) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ClusterErrorKind::Folder(error).into()),
    };
    let mut lines = text.lines();
    let address = lines.next().unwrap_or_default().to_owned();
    let port = lines.next().filter(|port| !port.is_empty());
    Ok(Some((address, port.map(|port| format!("http://127.0.0.1:{port}/status")))))
}

// The programs are shell scripts.
#[cfg(all(test, unix))]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use futures_lite::future::block_on;

    use super::*;

    /// Creates an environment whose `dask` is this script.
    ///
    /// A shell writes the file. If this process did, a child that another test is starting would have the file open for
    /// writing until it executes its program, and the script couldn't be executed until then.
    fn environment(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin/dask");
        fs::create_dir(folder.path().join("bin")).unwrap();
        let written = Command::new("/bin/sh")
            .args(["-c", r#"printf '%s\n' "$1" > "$2" && chmod 755 "$2""#, "sh"])
            .arg(format!("#!/bin/sh\n{script}"))
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        folder
    }

    fn start(script: &str, timeout: Duration) -> Result<SchedulerProcess, ClusterError> {
        let environment = environment(script);
        let folder = ClusterFolder::new().unwrap();
        block_on(SchedulerProcess::start(Some(environment.path()), &folder, true, timeout))
    }

    #[test]
    fn a_scheduler_that_is_not_installed() {
        let folder = ClusterFolder::new().unwrap();
        let nowhere = PathBuf::from("/nowhere");
        let error = block_on(SchedulerProcess::start(Some(&nowhere), &folder, true, READY_TIMEOUT));
        let error = error.err().unwrap();
        assert!(error.is_not_installed());
        let text = error.to_string();
        assert!(text.starts_with("there is no `/nowhere/bin/dask`"), "{text}");
        assert!(text.contains("pip install \"dask[distributed]\""), "{text}");
    }

    #[test]
    fn a_scheduler_that_exits_at_once() {
        let error =
            start("echo no module named distributed >&2; exit 3", READY_TIMEOUT).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("(exit status: 3) before it was ready"), "{text}");
        assert!(text.ends_with("no module named distributed"), "{text}");
        assert!(!error.is_not_installed());
    }

    #[test]
    fn a_scheduler_that_is_never_ready() {
        let started = Instant::now();
        // On a busy machine, even a shell may need longer than the shortest timeout to write its log.
        let text = [300, 2000, 10_000].into_iter().find_map(|millis| {
            let timeout = Duration::from_millis(millis);
            let not_ready = start("echo $$; echo at work; exec sleep 100", timeout);
            let text = not_ready.err().unwrap().to_string();
            assert!(text.contains(&format!("wasn't ready after {timeout:?}")), "{text}");
            text.ends_with("at work").then_some(text)
        });
        let text = text.expect("the log is shown");
        assert!(started.elapsed() < Duration::from_secs(60));
        let pid = text.lines().rev().nth(1).unwrap();
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} still exists");
    }

    #[test]
    fn a_scheduler_that_is_ready() {
        let script =
            "printf 'tcp://127.0.0.1:1\\n2\\n' > $ENSUE_CLUSTER_FOLDER/address; exec sleep 100";
        let scheduler = start(script, READY_TIMEOUT).unwrap();
        assert_eq!(scheduler.address(), "tcp://127.0.0.1:1");
        assert_eq!(scheduler.dashboard(), Some("http://127.0.0.1:2/status"));
    }

    #[test]
    fn the_tail_of_a_long_log() {
        let text = start("seq 1 100000; exit 1", READY_TIMEOUT).err().unwrap().to_string();
        assert_eq!(text.lines().count(), 31, "{text}");
        assert!(text.ends_with("\n99999\n100000"), "{text}");
    }
}
