//! A process of stock Dask, which never outlives ours.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::error::{ClusterError, Problem};
use crate::dask::folder;

/// Loaded into the process, which it ends when the other end of its standard input is closed: by us, or by the
/// system when our process is gone, whatever killed it.
const GUARD: &str = include_str!("guard.py");

/// How much of a log is shown in an error: what a traceback of Dask usually takes.
const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 30;

/// Where the cluster's processes keep their logs, and the scheduler says where it listens.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Result<Self, ClusterError> {
        let within = std::env::temp_dir();
        let folder = folder::private("ensue-cluster-", &within).map_err(Problem::Folder)?;
        fs::write(folder.path().join("guard.py"), GUARD).map_err(Problem::Folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Killed when dropped.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    // Held: it's what tells the process that ours is there.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts `dask` with these arguments, from an environment or the PATH.
    pub(super) fn start(
        environment: Option<&Path>,
        folder: &Folder,
        name: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self, ClusterError> {
        let program = program(environment);
        let log = folder.path().join(name).with_extension("log");
        let errors = File::create(&log).map_err(Problem::Folder)?;
        let output = errors.try_clone().map_err(Problem::Folder)?;
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
            (ErrorKind::NotFound, None) => Problem::NotInstalled,
            (ErrorKind::NotFound, Some(_)) if !program.exists() => Problem::NotThere(program),
            _ => Problem::Start(program, error),
        })?;
        let stdin = child.stdin.take();
        Ok(Self { child, log, _stdin: stdin })
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // It can't be asked for only if it isn't our child.
        self.child.try_wait().ok().flatten()
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut log| {
            let length = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            log.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("(its log can't be read: {error})");
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only where it has ended already.
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
