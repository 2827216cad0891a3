//! Results in files: the header and the frames as they are on the wire, after their lengths.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use tempfile::TempDir;

use crate::dask::wire::serialized::Serialized;

/// A folder of a worker's own, which goes with it.
#[derive(Debug)]
pub(crate) struct Directory {
    folder: TempDir,
    next: AtomicU64,
}

/// A result in a file, which goes with it.
#[derive(Debug)]
pub(crate) struct Spilled {
    path: PathBuf,
    size: u64,
}

impl Directory {
    /// A new folder in this one.
    pub(crate) fn create(within: &Path) -> io::Result<Self> {
        fs::create_dir_all(within)?;
        let folder = tempfile::Builder::new().prefix("ensue-worker-").tempdir_in(within)?;
        Ok(Self { folder, next: AtomicU64::new(0) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder now. What is written later fails.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(self.path()) {
            log::debug!("{} stays: {error}", self.path().display());
        }
    }

    /// Writes a result to a file. Nothing is left of one that can't be written whole.
    pub(crate) fn write(&self, value: &Serialized) -> io::Result<Spilled> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // It's removed when it's dropped, which also happens where writing fails.
        let mut spilled = Spilled { path: self.path().join(number.to_string()), size: 0 };
        let parts = || std::iter::once(value.raw_header()).chain(value.frames());
        let mut file = BufWriter::new(File::create_new(&spilled.path)?);
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

    #[test]
    fn what_is_written_is_read() {
        let directory = Directory::create(&std::env::temp_dir()).unwrap();
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
        let folder = directory.path().to_owned();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        drop(directory);
        assert!(!folder.exists());
    }

    #[test]
    fn a_file_that_was_changed_is_an_error() {
        let directory = Directory::create(&std::env::temp_dir()).unwrap();
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
        let directory = Directory::create(&std::env::temp_dir()).unwrap();
        fs::create_dir(directory.path().join("0")).unwrap();
        let value = Serialized::bytes(Bytes::from_static(b"x"));
        assert!(directory.write(&value).is_err());
        assert!(directory.write(&value).is_ok());
    }
}
