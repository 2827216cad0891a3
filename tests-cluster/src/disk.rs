//! A small disk, which is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted `tmpfs`, which is unmounted when dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts a file system of this size.
    ///
    /// # Errors
    ///
    /// If the system refuses it, with its reason: mounting takes root.
    pub fn new(bytes: u64, at: PathBuf) -> Result<Self, String> {
        std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let size = format!("size={bytes}");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        let output = output.map_err(|error| format!("`mount` can't be run: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Self(at))
    }

    /// Returns where it's mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is exiting may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
