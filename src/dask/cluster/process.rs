//! A process of stock Dask, which never outlives this one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::{ClusterError, ClusterErrorKind};
use crate::dask::folder;

/// A module for the process that ends it when its standard input is closed: by this process, or by the system when this
/// process has ended, however that happened.
const GUARD: &str = include_str!("guard.py");

/// The interval at which a process that is starting is checked. Short compared to the time that starting takes.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The part of a log that is shown in an error. A traceback of Dask usually fits.
const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 30;

/// The folder for the logs of the cluster's processes, and for the file in which the scheduler announces its address.
pub(super) struct ClusterFolder(TempDir);

impl ClusterFolder {
    pub(super) fn new() -> Result<Self, ClusterError> {
        let within = std::env::temp_dir();
        let folder =
            folder::private("ensue-cluster-", &within).map_err(ClusterErrorKind::Folder)?;
        fs::write(folder.path().join("guard.py"), GUARD).map_err(ClusterErrorKind::Folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A Dask process, which is killed when this is dropped.
pub(super) struct DaskProcess {
    child: Child,
    log: PathBuf,
    // Never written to. The guard module ends the process when it's closed.
    _stdin: Option<ChildStdin>,
}

impl DaskProcess {
    /// Starts `dask` with these arguments, from an environment or from the PATH.
    pub(super) fn start(
        environment: Option<&Path>,
        folder: &ClusterFolder,
        name: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self, ClusterError> {
        let program = program(environment);
        let log = folder.path().join(name).with_extension("log");
        let errors = File::create(&log).map_err(ClusterErrorKind::Folder)?;
        let output = errors.try_clone().map_err(ClusterErrorKind::Folder)?;
        let child = Command::new(&program)
            .args(arguments)
            .arg("--preload")
            .arg(folder.path().join("guard.py"))
            .env("ENSUE_CLUSTER_FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn();
        let mut child = child.map_err(|error| match (error.kind(), environment) {
            (ErrorKind::NotFound, None) => ClusterErrorKind::NotOnPath,
            (ErrorKind::NotFound, Some(_)) if !program.exists() => {
                ClusterErrorKind::NotInEnvironment(program)
            }
            _ => ClusterErrorKind::Start(program, error),
        })?;
        let stdin = child.stdin.take();
        Ok(Self { child, log, _stdin: stdin })
    }

    /// Fails if the process has exited, or has been starting for longer than `timeout`. Errors call it `program`.
    pub(super) fn check_start(
        &mut self,
        program: &'static str,
        started: Instant,
        timeout: Duration,
    ) -> Result<(), ClusterError> {
        // `try_wait` fails only for a process that isn't a child of this one.
        if let Some(status) = self.child.try_wait().ok().flatten() {
            let log = self.log_tail();
            return Err(ClusterErrorKind::Exited { program, status, log }.into());
        }
        if started.elapsed() > timeout {
            let log = self.log_tail();
            return Err(ClusterErrorKind::NotReady { program, after: timeout, log }.into());
        }
        Ok(())
    }

    /// Returns the last lines of the log.
    fn log_tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            let length = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            log.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(can't read its log: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for DaskProcess {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(environment: Option<&Path>) -> PathBuf {
    match environment {
        None => "dask".into(),
        Some(folder) if cfg!(windows) => folder.join("Scripts").join("dask.exe"),
        Some(folder) => folder.join("bin").join("dask"),
    }
}
