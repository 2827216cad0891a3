//! Removal of the folders that killed workers have left on disk. The counterpart of Dask's `diskutils`.
//!
//! A worker that is killed can't remove its folder, so the next worker that is given the same directory does. It must
//! never remove the folder of a live worker, and directories are shared: by users, containers and machines. A kernel
//! releases file locks when a process ends, however it ended; but it knows only its own processes, and it may keep the
//! locks of two mounts of one file system apart. Therefore each folder contains a *lock file*, an empty file that its
//! worker keeps locked and whose name identifies the kernel (the boot id, which containers share) and the mounted file
//! system under which it was locked. A folder is removed only if
//!
//! * it belongs to the user of this process, and isn't a symbolic link;
//! * the name of its lock file has this kernel and this mounted file system;
//! * the lock can be acquired.
//!
//! The lock file gets its name only when it's locked, so a live worker looks dead at no moment. Where locks don't
//! work, or the kernel has no boot id, there's no lock file, and the folder of a killed worker is kept. So is one from
//! before a reboot, which could be another machine's. When in doubt, keep the directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

/// The name of the lock file until it's locked.
const UNLOCKED: &str = "unlocked";

/// Marks a folder as in use for as long as the returned file is open. Returns `None` where that's impossible.
pub(super) fn lock_folder(folder: &Path) -> Option<File> {
    let locked = open_folder(folder).and_then(|folder| {
        let Some(name) = lock_file_name(&folder)? else { return Ok(None) };
        let options = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let new = options | OFlags::CREATE | OFlags::EXCL;
        let lock_file = openat(&folder, UNLOCKED, new, Mode::RUSR | Mode::WUSR)?;
        let again = openat(&folder, UNLOCKED, options, Mode::empty())?;
        // Some file systems grant every lock, also a second one.
        if !try_lock(&lock_file)? || try_lock(&again)? {
            return Ok(None);
        }
        renameat(&folder, UNLOCKED, &folder, name)?;
        Ok(Some(File::from(lock_file)))
    });
    locked.unwrap_or_else(|error| {
        log::debug!("no lock file in {}: {error}", folder.display());
        None
    })
}

/// Removes the folders of killed workers: those in `within` that begin with `prefix`.
pub(super) fn remove_stale(within: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let folder = entry.path();
        match remove_if_stale(&folder) {
            Ok(true) => log::info!("removed {}: its worker was killed", folder.display()),
            Ok(false) => {}
            // Mostly another user's folder, or another worker was faster.
            Err(error) => log::debug!("{} is kept: {error}", folder.display()),
        }
    }
}

/// Removes a folder of files. The lock file is removed last: if this is interrupted, the next worker finds it, and
/// removes the rest.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let open = open_folder(folder)?;
    let name = lock_file_name(&open)?;
    remove_open(folder, &open, name.as_deref())
}

fn remove_if_stale(folder: &Path) -> io::Result<bool> {
    let open = open_folder(folder)?;
    if fstat(&open)?.st_uid != geteuid().as_raw() {
        return Ok(false);
    }
    let Some(name) = lock_file_name(&open)? else { return Ok(false) };
    let options = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock_file = match openat(&open, &*name, options, Mode::empty()) {
        Ok(lock_file) => lock_file,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !try_lock(&lock_file)? {
        return Ok(false);
    }
    remove_open(folder, &open, Some(&name))?;
    Ok(true)
}

fn remove_open(folder: &Path, open: &OwnedFd, lock_file: Option<&str>) -> io::Result<()> {
    for entry in Dir::read_from(open)? {
        let entry = entry?;
        let name = entry.file_name();
        let kept = [Some("."), Some(".."), lock_file];
        if !kept.contains(&name.to_str().ok()) {
            unlink(open, name)?;
        }
    }
    if let Some(lock_file) = lock_file {
        unlink(open, lock_file)?;
    }
    fs::remove_dir(folder)
}

/// Removes a file, which may not exist any more: the file of a result is removed when its last reference is dropped,
/// on any thread, also while the whole folder is being removed.
fn unlink(folder: &OwnedFd, name: impl Arg) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder. All operations through the returned descriptor are on this very folder, even if its name is given
/// to another one meanwhile.
fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    let options = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, folder, options, Mode::empty())?)
}

/// Returns the name of the lock files of all processes under this kernel that see the folder in this mount.
fn lock_file_name(folder: &OwnedFd) -> io::Result<Option<String>> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.trim();
    // It becomes part of a file name.
    if boot.is_empty() || !boot.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Ok(None);
    }
    Ok(Some(format!("{boot}-{}.lock", fstat(folder)?.st_dev)))
}

/// Returns whether the lock was acquired.
fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    const PREFIX: &str = "worker-";

    /// Creates a folder with a file, and its lock file.
    fn folder(within: &Path, name: &str) -> (PathBuf, File) {
        let folder = within.join(format!("{PREFIX}{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("0"), "a result").unwrap();
        let lock_file = lock_folder(&folder).expect("locks work in temporary folders");
        (folder, lock_file)
    }

    /// Returns whether the folder is removed, possibly after a while: a process that another test is starting holds a
    /// copy of the lock until it executes its program.
    fn is_removed(folder: &Path) -> bool {
        let start = Instant::now();
        while folder.exists() && start.elapsed() < Duration::from_secs(5) {
            remove_stale(folder.parent().unwrap(), PREFIX);
        }
        !folder.exists()
    }

    fn lock_file_of(folder: &Path) -> PathBuf {
        let name = lock_file_name(&open_folder(folder).unwrap()).unwrap().unwrap();
        let path = folder.join(name);
        assert!(path.exists(), "{}", path.display());
        path
    }

    #[test]
    fn folders_of_dead_workers_are_removed_and_those_of_live_workers_kept() {
        let within = tempfile::tempdir().unwrap();
        let (alive, held) = folder(within.path(), "alive");
        let (dead, lock_file) = folder(within.path(), "dead");
        let (other, other_lock_file) = folder(within.path(), "other");
        let renamed = within.path().join("not-a-worker's");
        fs::rename(&other, &renamed).unwrap();
        drop((lock_file, other_lock_file));
        assert!(is_removed(&dead));
        assert!(alive.join("0").exists() && lock_file_of(&alive).exists());
        assert!(renamed.join("0").exists());
        drop(held);
        assert!(is_removed(&alive));
    }

    #[test]
    fn folders_that_may_be_in_use_are_kept() {
        let within = tempfile::tempdir().unwrap();
        let other_directory = tempfile::tempdir().unwrap();
        let (of_another_kernel, lock_file) = folder(within.path(), "kernel");
        let path = lock_file_of(&of_another_kernel);
        let name = path.file_name().unwrap().to_str().unwrap();
        let flipped = if name.starts_with('0') { "1" } else { "0" };
        fs::rename(&path, path.with_file_name(format!("{flipped}{}", &name[1..]))).unwrap();
        drop(lock_file);
        let (of_another_mount, lock_file) = folder(within.path(), "mount");
        let path = lock_file_of(&of_another_mount);
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(&path, path.with_file_name(name.replace(".lock", "1.lock"))).unwrap();
        drop(lock_file);
        let (without_lock_file, lock_file) = folder(within.path(), "without");
        fs::remove_file(lock_file_of(&without_lock_file)).unwrap();
        drop(lock_file);
        let (unlocked, lock_file) = folder(within.path(), "unlocked");
        fs::rename(lock_file_of(&unlocked), unlocked.join(UNLOCKED)).unwrap();
        drop(lock_file);
        let (target, lock_file) = folder(other_directory.path(), "target");
        drop(lock_file);
        let (dead, lock_file) = folder(within.path(), "dead");
        drop(lock_file);
        let link = within.path().join(format!("{PREFIX}link"));
        symlink(&target, &link).unwrap();
        let file = within.path().join(format!("{PREFIX}file"));
        fs::write(&file, "").unwrap();

        assert!(is_removed(&dead));
        for folder in
            [of_another_kernel, of_another_mount, without_lock_file, unlocked, target, link]
        {
            assert!(folder.join("0").exists(), "{}", folder.display());
        }
        assert!(file.exists());
    }

    /// Only root can change the owner of a folder; without root, the test passes without a check.
    #[test]
    fn the_folder_of_another_user_is_kept() {
        let within = tempfile::tempdir().unwrap();
        let (folder, lock_file) = folder(within.path(), "anothers");
        drop(lock_file);
        if chown(&folder, Some(12_345), None).is_err() {
            return;
        }
        remove_stale(within.path(), PREFIX);
        assert!(folder.join("0").exists());
        chown(&folder, Some(geteuid().as_raw()), None).unwrap();
        assert!(is_removed(&folder));
    }

    #[test]
    fn a_folder_that_was_removed_in_part_is_removed_the_next_time() {
        let within = tempfile::tempdir().unwrap();
        let (folder, lock_file) = folder(within.path(), "odd");
        drop(lock_file);
        fs::create_dir(folder.join("a-folder")).unwrap();
        remove_stale(within.path(), PREFIX);
        assert!(lock_file_of(&folder).exists());
        fs::remove_dir(folder.join("a-folder")).unwrap();
        assert!(is_removed(&folder));
    }

    /// The descriptor of the lock file is closed in child processes that tasks start.
    #[test]
    fn a_child_does_not_hold_the_lock() {
        let within = tempfile::tempdir().unwrap();
        let (folder, lock_file) = folder(within.path(), "parent");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(lock_file);
        let is_removed = is_removed(&folder);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_removed);
    }
}
