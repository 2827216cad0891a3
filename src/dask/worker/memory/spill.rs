//! Results in files. A file contains the number of parts, their lengths, and the parts: the header and the frames of
//! the result as they are on the wire.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use super::stale_dirs;
use crate::dask::folder;
use crate::dask::wire::serialized::Serialized;
use crate::engine::base::lock::Lock;

/// The prefix of the folders' names.
const PREFIX: &str = "ensue-worker-";

/// The directory that a worker spills to. Results are written to a folder within it that is created by the first
/// write and removed with the worker.
#[derive(Debug)]
pub(crate) struct SpillDirectory {
    within: PathBuf,
    /// Files are created, and the folder is removed, under this lock: no file can appear in a folder that is being
    /// removed. Content is written without the lock, since a disk may be slow.
    folder: Lock<FolderState>,
    next: AtomicU64,
}

#[derive(Debug)]
enum FolderState {
    NotCreated,
    Created(SpillFolder),
    /// Writes fail. Contains the folder if it couldn't be removed; the next call and dropping it try again.
    Removed(Option<SpillFolder>),
}

#[derive(Debug)]
struct SpillFolder {
    folder: TempDir,
    /// Locked while this process lives, so that no other one takes the folder for stale.
    #[cfg(target_os = "linux")]
    _lock_file: Option<File>,
}

/// A result in a file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SpilledFile {
    path: PathBuf,
    size: u64,
}

impl SpillDirectory {
    /// Creates `within` if it doesn't exist, and checks that it's writable: the worker must not find out only when
    /// its memory is full.
    pub(crate) fn new(within: &Path) -> io::Result<Self> {
        fs::create_dir_all(within)?;
        // This file is removed at once, mostly without ever having a name.
        tempfile::tempfile_in(within)?;
        let folder = Lock::new(FolderState::NotCreated);
        Ok(Self { within: within.to_owned(), folder, next: AtomicU64::new(0) })
    }

    /// Returns the directory in which the folder is created.
    pub(crate) fn within(&self) -> &Path {
        &self.within
    }

    /// Removes the folders of killed workers from a directory, where it's certain that they were killed.
    pub(crate) fn remove_stale(within: &Path) {
        #[cfg(target_os = "linux")]
        stale_dirs::remove_stale(within, PREFIX);
        #[cfg(not(target_os = "linux"))]
        let _ = within;
    }

    /// Removes the folder with all files in it, before it returns; later writes fail. Doesn't wait for a write that
    /// is under way: the write continues with a file that has no name any more.
    pub(crate) fn remove(&self) {
        let mut state = self.folder.lock();
        *state = match std::mem::replace(&mut *state, FolderState::Removed(None)) {
            FolderState::Created(folder) | FolderState::Removed(Some(folder)) => {
                FolderState::Removed(folder.remove().err())
            }
            FolderState::NotCreated | FolderState::Removed(None) => FolderState::Removed(None),
        };
    }

    /// Creates the next file, and the folder if it doesn't exist yet.
    fn create_file(&self) -> io::Result<(SpilledFile, File)> {
        let mut state = self.folder.lock();
        if let FolderState::NotCreated = *state {
            *state = FolderState::Created(SpillFolder::create(&self.within)?);
        }
        let FolderState::Created(folder) = &*state else {
            return Err(io::Error::other("the worker is shutting down"));
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = folder.folder.path().join(number.to_string());
        let file = File::create_new(&path)?;
        Ok((SpilledFile { path, size: 0 }, file))
    }

    /// Writes a result to a file. If that fails, the file is removed.
    pub(crate) fn write(&self, value: &Serialized) -> io::Result<SpilledFile> {
        // Dropping `spilled` removes the file, also on an early return.
        let (mut spilled, file) = self.create_file()?;
        let parts = || std::iter::once(value.raw_header()).chain(value.frames());
        let mut file = BufWriter::new(file);
        file.write_all(&(parts().count() as u64).to_le_bytes())?;
        for part in parts() {
            file.write_all(&(part.len() as u64).to_le_bytes())?;
        }
        parts().try_for_each(|part| file.write_all(part))?;
        file.flush()?;
        let lengths = 8 * (1 + parts().count() as u64);
        spilled.size = lengths + value.nbytes();
        Ok(spilled)
    }
}

impl SpillFolder {
    fn create(within: &Path) -> io::Result<Self> {
        let folder = folder::private(PREFIX, within)?;
        #[cfg(target_os = "linux")]
        let _lock_file = stale_dirs::lock_folder(folder.path());
        Ok(Self {
            #[cfg(target_os = "linux")]
            _lock_file,
            folder,
        })
    }

    /// Removes the folder. Returns it if that fails.
    fn remove(self) -> Result<(), Self> {
        let path = self.folder.path();
        #[cfg(target_os = "linux")]
        let removed = stale_dirs::remove(path);
        #[cfg(not(target_os = "linux"))]
        let removed = fs::remove_dir_all(path);
        if let Err(error) = removed {
            log::debug!("{} can't be removed: {error}", path.display());
            return Err(self);
        }
        // The folder doesn't exist any more: dropping `TempDir` must not try to remove it.
        let _ = self.folder.keep();
        Ok(())
    }
}

impl SpilledFile {
    /// Returns the size on disk in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the result. Its frames share one allocation.
    pub(crate) fn read(&self) -> io::Result<Serialized> {
        let changed = || {
            io::Error::new(io::ErrorKind::InvalidData, "the file was changed after it was written")
        };
        let length = usize::try_from(self.size).map_err(|_| changed())?;
        let mut content = Vec::with_capacity(length);
        // One byte more than expected, to notice a file that has grown.
        File::open(&self.path)?.take(self.size + 1).read_to_end(&mut content)?;
        if content.len() != length {
            return Err(changed());
        }
        let mut left = Bytes::from(content);
        let number = |left: &mut Bytes| {
            let number = if left.len() < 8 { Err(changed()) } else { Ok(left.get_u64_le()) };
            number.and_then(|number| usize::try_from(number).map_err(|_| changed()))
        };
        let count = number(&mut left)?;
        let mut lengths = Vec::new();
        for _ in 0..count {
            lengths.push(number(&mut left)?);
        }
        let mut parts = Vec::with_capacity(count);
        for length in lengths {
            if length > left.len() {
                return Err(changed());
            }
            parts.push(left.split_to(length));
        }
        if parts.is_empty() || !left.is_empty() {
            return Err(changed());
        }
        let header = parts.remove(0);
        Ok(Serialized::from_wire(header, parts))
    }
}

impl Drop for SpilledFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            // The worker may have removed the whole folder before.
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("{} can't be removed: {error}", self.path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(within: &Path) -> Vec<PathBuf> {
        fs::read_dir(within).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Returns the number of files besides the lock file.
    fn files(folder: &Path) -> usize {
        let is_file = |path: &PathBuf| path.extension().is_none_or(|it| it != "lock");
        folders(folder).iter().filter(|path| is_file(path)).count()
    }

    #[test]
    fn a_result_is_read_as_it_was_written() {
        let within = tempfile::tempdir().unwrap();
        let directory = SpillDirectory::new(within.path()).unwrap();
        assert!(folders(within.path()).is_empty());
        let odd = Serialized::from_wire(
            Bytes::from_static(b"header"),
            vec![Bytes::new(), vec![3; 100_000].into(), Bytes::from_static(b"x")],
        );
        let bare = Serialized::from_wire(Bytes::from_static(b"header"), Vec::new());
        for value in [odd, bare, Serialized::bytes(Bytes::new())] {
            let file = directory.write(&value).unwrap();
            assert_eq!(file.read().unwrap(), value);
            assert_eq!(fs::metadata(file.path()).unwrap().len(), file.size());
        }
        let [folder] = &*folders(within.path()) else { panic!("one folder per worker") };
        assert_eq!(files(folder), 0);
        drop(directory);
        assert!(folders(within.path()).is_empty());
    }

    #[test]
    fn a_removed_folder_is_not_created_again() {
        let within = tempfile::tempdir().unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        for has_written in [false, true] {
            let directory = SpillDirectory::new(within.path()).unwrap();
            let file = has_written.then(|| directory.write(&value).unwrap());
            directory.remove();
            directory.remove();
            assert!(folders(within.path()).is_empty());
            assert!(directory.write(&value).is_err());
            assert!(folders(within.path()).is_empty());
            assert!(file.is_none_or(|file| file.read().is_err()));
        }
    }

    #[test]
    fn removal_does_not_wait_for_a_write_that_is_under_way() {
        let within = tempfile::tempdir().unwrap();
        let directory = SpillDirectory::new(within.path()).unwrap();
        let (spilled, mut file) = directory.create_file().unwrap();
        directory.remove();
        assert!(folders(within.path()).is_empty());
        // The rest of the write, which has no effect on the directory.
        file.write_all(b"a result").unwrap();
        drop((spilled, file));
        assert!(folders(within.path()).is_empty());
    }

    /// A worker may end while one thread writes a result and another removes the files of results.
    #[test]
    fn removal_leaves_nothing_while_other_threads_write_and_remove_files() {
        let within = tempfile::tempdir().unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        for _ in 0..200 {
            let directory = SpillDirectory::new(within.path()).unwrap();
            let begin = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                let kept: Vec<_> = (0..50).map(|_| directory.write(&value).unwrap()).collect();
                scope.spawn(|| {
                    begin.wait();
                    drop(kept);
                });
                scope.spawn(|| {
                    begin.wait();
                    while directory.write(&value).is_ok() {}
                });
                begin.wait();
                directory.remove();
                assert!(folders(within.path()).is_empty());
            });
        }
    }

    #[test]
    fn the_folder_of_a_killed_worker_is_removed() {
        let within = tempfile::tempdir().unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        let alive = SpillDirectory::new(within.path()).unwrap();
        let file = alive.write(&value).unwrap();
        let killed = SpillFolder::create(within.path()).unwrap();
        fs::write(killed.folder.path().join("0"), "a result").unwrap();
        SpillDirectory::remove_stale(within.path());
        assert_eq!(folders(within.path()).len(), 2);
        // As after the death of the process: the lock is released, and the folder still exists.
        let stale = {
            let killed = killed;
            killed.folder.keep()
        };
        // A process that another test is starting holds a copy of the lock until it executes its program.
        let was_removed = (0..5000).any(|_| {
            SpillDirectory::remove_stale(within.path());
            std::thread::sleep(std::time::Duration::from_millis(1));
            !stale.exists()
        });
        assert_eq!(was_removed, cfg!(target_os = "linux"));
        assert_eq!(file.read().unwrap(), value);
    }

    #[test]
    fn a_directory_that_is_not_writable_is_an_error_at_the_start() {
        let within = tempfile::tempdir().unwrap();
        let file = within.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            SpillDirectory::new(&file).is_err() && SpillDirectory::new(&file.join("more")).is_err()
        );
    }

    #[test]
    fn a_changed_file_is_an_error() {
        let directory = SpillDirectory::new(&std::env::temp_dir()).unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        let file = directory.write(&value).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for bad in
            [&whole[..500], &[&whole[..], b"more"].concat(), &[&[9; 8], &whole[8..]].concat()]
        {
            fs::write(file.path(), bad).unwrap();
            assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let directory = SpillDirectory::new(&std::env::temp_dir()).unwrap();
        let value = Serialized::bytes(Bytes::from_static(b"x"));
        let first = directory.write(&value).unwrap();
        fs::create_dir(first.path().with_file_name("1")).unwrap();
        assert!(directory.write(&value).is_err());
        assert!(directory.write(&value).is_ok());
    }
}
