//! Taking away what killed workers have left on disk.
//!
//! A worker that is killed can't remove its folder, so the next one that is given the same directory does. It must
//! never take a folder from one that lives, and directories are shared: by users, by containers, by machines.
//! What one knows of the others is their locks, which the kernel releases when a process is gone, however it
//! went; but a kernel knows only its own, and a file system that is mounted twice may keep them apart. So each
//! folder has a mark, an empty file that its worker keeps locked, and which says by its name under which kernel
//! (the id of its boot, which containers have in common) and in which mounted file system it was locked. A folder
//! goes only if
//!
//! * it belongs to the user that this process runs as, and is no symbolic link;
//! * its mark is of this kernel, and of this mounted file system;
//! * the lock can be had.
//!
//! The mark gets its name when it's locked, so there's no moment at which one that lives looks dead. Where locks
//! don't work or the kernel doesn't say which it is, there's no mark, and the folder stays when its worker is
//! killed; so does one that was left before the machine was started anew, since it could be another machine's.
//! Rather something stays than that somebody misses it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::fs::{flock, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::geteuid;

/// What the mark is called until it's locked.
const UNLOCKED: &str = "unlocked";

/// Marks a folder as that of one who lives, for as long as the file is open.
pub(super) fn mark(folder: &Path) -> Option<File> {
    let marked = open_folder(folder).and_then(|folder| {
        let Some(name) = mark_name(&folder)? else { return Ok(None) };
        let options = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let new = options | OFlags::CREATE | OFlags::EXCL;
        let mark = openat(&folder, UNLOCKED, new, Mode::RUSR | Mode::WUSR)?;
        let again = openat(&folder, UNLOCKED, options, Mode::empty())?;
        // There are file systems where everybody gets a lock.
        if !lock(&mark)? || lock(&again)? {
            return Ok(None);
        }
        renameat(&folder, UNLOCKED, &folder, name)?;
        Ok(Some(File::from(mark)))
    });
    marked.unwrap_or_else(|error| {
        log::debug!("{} isn't marked: {error}", folder.display());
        None
    })
}

/// Removes the folders in there that begin with this and whose workers are dead.
pub(super) fn take_away(within: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let folder = entry.path();
        match remove_if_dead(&folder) {
            Ok(true) => log::info!("{} is removed: its worker was killed", folder.display()),
            Ok(false) => {}
            // Mostly somebody else's, or somebody else was faster.
            Err(error) => log::debug!("{} stays: {error}", folder.display()),
        }
    }
}

/// Removes a folder of files. The mark is the last of them to go, so that the rest isn't left for ever if this
/// is interrupted.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let open = open_folder(folder)?;
    let name = mark_name(&open)?;
    remove_open(folder, &open, name.as_deref())
}

fn remove_if_dead(folder: &Path) -> io::Result<bool> {
    let open = open_folder(folder)?;
    if fstat(&open)?.st_uid != geteuid().as_raw() {
        return Ok(false);
    }
    let Some(name) = mark_name(&open)? else { return Ok(false) };
    let options = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mark = match openat(&open, &*name, options, Mode::empty()) {
        Ok(mark) => mark,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !lock(&mark)? {
        return Ok(false);
    }
    remove_open(folder, &open, Some(&name))?;
    Ok(true)
}

fn remove_open(folder: &Path, open: &OwnedFd, mark: Option<&str>) -> io::Result<()> {
    for entry in Dir::read_from(open)? {
        let entry = entry?;
        let name = entry.file_name();
        let stays = [Some("."), Some(".."), mark];
        if !stays.contains(&name.to_str().ok()) {
            unlink(open, name)?;
        }
    }
    if let Some(mark) = mark {
        unlink(open, mark)?;
    }
    fs::remove_dir(folder)
}

/// Removes a file. It may be gone already: the files of results are removed when the last reference is dropped, on
/// any thread, and that may happen while the whole folder is removed.
fn unlink(folder: &OwnedFd, name: impl Arg) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is done there from now on is done in that very folder, whatever becomes of its name.
fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    let options = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, folder, options, Mode::empty())?)
}

/// What a mark in there is called, of whoever runs under the same kernel and sees the same file system.
fn mark_name(folder: &OwnedFd) -> io::Result<Option<String>> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.trim();
    if boot.is_empty() || !boot.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Ok(None);
    }
    Ok(Some(format!("{boot}-{}.lock", fstat(folder)?.st_dev)))
}

/// Whether the lock could be had.
fn lock(file: impl AsFd) -> io::Result<bool> {
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

    /// A folder with a file, and its mark.
    fn folder(within: &Path, name: &str) -> (PathBuf, File) {
        let folder = within.join(format!("{PREFIX}{name}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("0"), "a result").unwrap();
        let mark = mark(&folder).expect("locks work here");
        (folder, mark)
    }

    /// A process that another test starts has a copy of what is open here, for a moment.
    fn is_taken_away(folder: &Path) -> bool {
        let start = Instant::now();
        while folder.exists() && start.elapsed() < Duration::from_secs(5) {
            take_away(folder.parent().unwrap(), PREFIX);
        }
        !folder.exists()
    }

    fn mark_of(folder: &Path) -> PathBuf {
        let name = mark_name(&open_folder(folder).unwrap()).unwrap().unwrap();
        let path = folder.join(name);
        assert!(path.exists(), "{}", path.display());
        path
    }

    #[test]
    fn the_folders_of_the_dead_go_and_those_of_the_living_stay() {
        let within = tempfile::tempdir().unwrap();
        let (living, held) = folder(within.path(), "living");
        let (dead, mark) = folder(within.path(), "dead");
        let (other, other_mark) = folder(within.path(), "other");
        let renamed = within.path().join("not-a-worker's");
        fs::rename(&other, &renamed).unwrap();
        drop((mark, other_mark));
        assert!(is_taken_away(&dead));
        assert!(living.join("0").exists() && mark_of(&living).exists());
        assert!(renamed.join("0").exists());
        drop(held);
        assert!(is_taken_away(&living));
    }

    #[test]
    fn what_may_be_anothers_stays() {
        let within = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (of_another_kernel, mark) = folder(within.path(), "kernel");
        let path = mark_of(&of_another_kernel);
        let name = path.file_name().unwrap().to_str().unwrap();
        let flipped = if name.starts_with('0') { "1" } else { "0" };
        fs::rename(&path, path.with_file_name(format!("{flipped}{}", &name[1..]))).unwrap();
        drop(mark);
        let (of_another_mount, mark) = folder(within.path(), "mount");
        let path = mark_of(&of_another_mount);
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(&path, path.with_file_name(name.replace(".lock", "1.lock"))).unwrap();
        drop(mark);
        let (unmarked, mark) = folder(within.path(), "unmarked");
        fs::remove_file(mark_of(&unmarked)).unwrap();
        drop(mark);
        let (unlocked, mark) = folder(within.path(), "unlocked");
        fs::rename(mark_of(&unlocked), unlocked.join(UNLOCKED)).unwrap();
        drop(mark);
        let (target, mark) = folder(elsewhere.path(), "target");
        drop(mark);
        let (dead, mark) = folder(within.path(), "dead");
        drop(mark);
        let link = within.path().join(format!("{PREFIX}link"));
        symlink(&target, &link).unwrap();
        let file = within.path().join(format!("{PREFIX}file"));
        fs::write(&file, "").unwrap();

        assert!(is_taken_away(&dead));
        for folder in [of_another_kernel, of_another_mount, unmarked, unlocked, target, link] {
            assert!(folder.join("0").exists(), "{}", folder.display());
        }
        assert!(file.exists());
    }

    /// Only root can give folders away.
    #[test]
    fn another_users_stays() {
        let within = tempfile::tempdir().unwrap();
        let (folder, mark) = folder(within.path(), "anothers");
        drop(mark);
        if chown(&folder, Some(12_345), None).is_err() {
            return;
        }
        take_away(within.path(), PREFIX);
        assert!(folder.join("0").exists());
        chown(&folder, Some(geteuid().as_raw()), None).unwrap();
        assert!(is_taken_away(&folder));
    }

    #[test]
    fn what_could_not_be_removed_whole_can_be_the_next_time() {
        let within = tempfile::tempdir().unwrap();
        let (folder, mark) = folder(within.path(), "odd");
        drop(mark);
        fs::create_dir(folder.join("a-folder")).unwrap();
        take_away(within.path(), PREFIX);
        assert!(mark_of(&folder).exists());
        fs::remove_dir(folder.join("a-folder")).unwrap();
        assert!(is_taken_away(&folder));
    }

    /// A child that a task starts doesn't keep the lock: the file is closed for it.
    #[test]
    fn a_child_does_not_hold_the_lock() {
        let within = tempfile::tempdir().unwrap();
        let (folder, mark) = folder(within.path(), "parent");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(mark);
        let is_taken_away = is_taken_away(&folder);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_taken_away);
    }
}
