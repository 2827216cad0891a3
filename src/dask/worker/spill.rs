//! Results in files: the header and the frames as they are on the wire, after their lengths.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use tempfile::TempDir;

#[cfg(target_os = "linux")]
use super::leftovers;
use crate::dask::folder;
use crate::dask::wire::serialized::Serialized;
use crate::engine::base::lock::Lock;

/// What the folders of workers begin with.
const PREFIX: &str = "ensue-worker-";

/// The directory that a worker spills to. Results are written to a folder within it that is created by the first
/// write and removed with the worker.
#[derive(Debug)]
pub(crate) struct Directory {
    within: PathBuf,
    /// Files are created, and the folder is removed, under this lock: no file can appear in a folder that is being
    /// removed. Content is written without the lock, since a disk may be slow.
    folder: Lock<FolderState>,
    next: AtomicU64,
}

#[derive(Debug)]
enum FolderState {
    NotCreated,
    Created(Folder),
    /// Writes fail. Contains the folder if it couldn't be removed; dropping it tries again.
    Removed(Option<Folder>),
}

#[derive(Debug)]
struct Folder {
    folder: TempDir,
    /// By this others see that its worker lives.
    #[cfg(target_os = "linux")]
    _mark: Option<File>,
}

/// A result in a file, which goes with it.
#[derive(Debug)]
pub(crate) struct Spilled {
    path: PathBuf,
    size: u64,
}

impl Directory {
    /// For a folder within this one, which is made if it isn't there. That it can be written to is found out now.
    pub(crate) fn new(within: &Path) -> io::Result<Self> {
        fs::create_dir_all(within)?;
        // This file has no name, and goes at once.
        tempfile::tempfile_in(within)?;
        let folder = Lock::new(FolderState::NotCreated);
        Ok(Self { within: within.to_owned(), folder, next: AtomicU64::new(0) })
    }

    /// Where the folder is, or would be.
    pub(crate) fn within(&self) -> &Path {
        &self.within
    }

    /// Removes what workers that were killed have left in there, as far as it's certain that they were.
    pub(crate) fn tidy(within: &Path) {
        #[cfg(target_os = "linux")]
        leftovers::take_away(within, PREFIX);
        #[cfg(not(target_os = "linux"))]
        let _ = within;
    }

    /// Removes the folder with all files in it, before it returns; later writes fail. A write that is under way
    /// isn't waited for: it goes on with a file that has no name any more.
    pub(crate) fn remove(&self) {
        let mut state = self.folder.lock();
        *state = match std::mem::replace(&mut *state, FolderState::Removed(None)) {
            FolderState::Created(folder) => FolderState::Removed(folder.remove().err()),
            FolderState::NotCreated => FolderState::Removed(None),
            removed @ FolderState::Removed(_) => removed,
        };
    }

    /// Creates the next file, and the folder before it if there's none yet.
    fn create_file(&self) -> io::Result<(Spilled, File)> {
        let mut state = self.folder.lock();
        if let FolderState::NotCreated = *state {
            *state = FolderState::Created(Folder::create(&self.within)?);
        }
        let FolderState::Created(folder) = &*state else {
            return Err(io::Error::other("the worker is shutting down"));
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = folder.folder.path().join(number.to_string());
        let file = File::create_new(&path)?;
        Ok((Spilled { path, size: 0 }, file))
    }

    /// Writes a result to a file. Nothing is left of one that can't be written whole.
    pub(crate) fn write(&self, value: &Serialized) -> io::Result<Spilled> {
        // Dropping `spilled` removes the file, also where writing fails.
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

impl Folder {
    fn create(within: &Path) -> io::Result<Self> {
        let folder = folder::private(PREFIX, within)?;
        #[cfg(target_os = "linux")]
        let _mark = leftovers::mark(folder.path());
        Ok(Self {
            #[cfg(target_os = "linux")]
            _mark,
            folder,
        })
    }

    /// Removes the folder. Returns it if that fails.
    fn remove(self) -> Result<(), Self> {
        let path = self.folder.path();
        #[cfg(target_os = "linux")]
        let removed = leftovers::remove(path);
        #[cfg(not(target_os = "linux"))]
        let removed = fs::remove_dir_all(path);
        if let Err(error) = removed {
            log::debug!("{} stays: {error}", path.display());
            return Err(self);
        }
        // It's removed already, so dropping it must not try to.
        let _ = self.folder.keep();
        Ok(())
    }
}

impl Spilled {
    /// What it takes on disk.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. Its frames share one piece of memory.
    pub(crate) fn read(&self) -> io::Result<Serialized> {
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidData, "the file isn't as it was written");
        let length = usize::try_from(self.size).map_err(|_| wrong())?;
        let mut content = Vec::with_capacity(length);
        File::open(&self.path)?.take(self.size + 1).read_to_end(&mut content)?;
        if content.len() != length {
            return Err(wrong());
        }
        let mut left = Bytes::from(content);
        let number = |left: &mut Bytes| {
            let number = if left.len() < 8 { Err(wrong()) } else { Ok(left.get_u64_le()) };
            number.and_then(|number| usize::try_from(number).map_err(|_| wrong()))
        };
        let count = number(&mut left)?;
        let mut lengths = Vec::new();
        for _ in 0..count {
            lengths.push(number(&mut left)?);
        }
        let mut parts = Vec::with_capacity(count);
        for length in lengths {
            if length > left.len() {
                return Err(wrong());
            }
            parts.push(left.split_to(length));
        }
        if parts.is_empty() || !left.is_empty() {
            return Err(wrong());
        }
        let header = parts.remove(0);
        Ok(Serialized::from_wire(header, parts))
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
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

    /// What is in there besides the mark.
    fn files(folder: &Path) -> usize {
        let is_file = |path: &PathBuf| path.extension().is_none_or(|it| it != "lock");
        folders(folder).iter().filter(|path| is_file(path)).count()
    }

    #[test]
    fn what_is_written_is_read() {
        let within = tempfile::tempdir().unwrap();
        let directory = Directory::new(within.path()).unwrap();
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
    fn a_folder_that_was_removed_is_not_made_again() {
        let within = tempfile::tempdir().unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        for has_written in [false, true] {
            let directory = Directory::new(within.path()).unwrap();
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
        let directory = Directory::new(within.path()).unwrap();
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
            let directory = Directory::new(within.path()).unwrap();
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
    fn what_the_dead_have_left_is_removed() {
        let within = tempfile::tempdir().unwrap();
        let value = Serialized::bytes(vec![1; 1000].into());
        let living = Directory::new(within.path()).unwrap();
        let file = living.write(&value).unwrap();
        let killed = Folder::create(within.path()).unwrap();
        fs::write(killed.folder.path().join("0"), "a result").unwrap();
        Directory::tidy(within.path());
        assert_eq!(folders(within.path()).len(), 2);
        // As it's when the process is gone: the mark isn't locked any more, and nobody has cleared away.
        let left = {
            let killed = killed;
            killed.folder.keep()
        };
        // A process that another test starts has a copy of what is open here, for a moment.
        let was_removed = (0..1000).any(|_| {
            Directory::tidy(within.path());
            std::thread::sleep(std::time::Duration::from_millis(1));
            !left.exists()
        });
        assert_eq!(was_removed, cfg!(target_os = "linux"));
        assert_eq!(file.read().unwrap(), value);
    }

    #[test]
    fn where_nothing_can_be_made_it_is_known_at_once() {
        let within = tempfile::tempdir().unwrap();
        let file = within.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Directory::new(&file).is_err() && Directory::new(&file.join("more")).is_err());
    }

    #[test]
    fn a_file_that_was_changed_is_an_error() {
        let directory = Directory::new(&std::env::temp_dir()).unwrap();
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
    fn where_nothing_can_be_written_nothing_is_left() {
        let directory = Directory::new(&std::env::temp_dir()).unwrap();
        let value = Serialized::bytes(Bytes::from_static(b"x"));
        let first = directory.write(&value).unwrap();
        fs::create_dir(first.path().with_file_name("1")).unwrap();
        assert!(directory.write(&value).is_err());
        assert!(directory.write(&value).is_ok());
    }
}
