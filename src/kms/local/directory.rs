//! Files that appear whole or not at all, written by one process at a time. All calls block.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::kms::secrets::random;

/// The file that a writer locks.
const LOCK: &str = ".lock";
/// The end of the name of a file that is not whole yet.
const TEMPORARY: &str = "tmp";

/// Makes a directory, for its owner only, if it is not there.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// The only writer of a directory, as long as it lives.
///
/// Without it, one process could put a file back that another has just deleted: it had read it to change its state.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    directory: &'a Path,
    _lock: File,
}

impl<'a> Writer<'a> {
    /// Waits for other writers, then clears away what one that died has left behind: it may be a second link to an
    /// EK file, which must not outlive its deletion.
    pub(super) fn lock(directory: &'a Path) -> io::Result<Self> {
        let lock = OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join(LOCK))?;
        lock.lock()?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == TEMPORARY) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory, _lock: lock })
    }

    /// Writes a file that must not be there yet: written beside, then linked.
    pub(super) fn create(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_beside(file, bytes)?;
        let linked = fs::hard_link(&temporary, self.directory.join(file));
        fs::remove_file(&temporary)?;
        linked.and_then(|()| self.sync())
    }

    /// Puts another file in a file's place.
    pub(super) fn replace(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.write_beside(file, bytes)?;
        fs::rename(&temporary, self.directory.join(file)).inspect_err(|_| {
            fs::remove_file(&temporary).ok();
        })?;
        self.sync()
    }

    /// Removes a file.
    pub(super) fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(file))?;
        self.sync()
    }

    fn write_beside(&self, file: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let unique = hex::encode(random::<8>().as_slice());
        let temporary = self.directory.join(format!("{file}.{unique}.{TEMPORARY}"));
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        out.write_all(bytes).and_then(|()| out.sync_all()).inspect_err(|_| {
            fs::remove_file(&temporary).ok();
        })?;
        Ok(temporary)
    }

    /// The directory's entry is what a crash could lose.
    fn sync(&self) -> io::Result<()> {
        File::open(self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_whole_and_new_ones_overwrite_nothing() {
        let directory = tempfile::TempDir::new().unwrap();
        let writer = Writer::lock(directory.path()).unwrap();
        writer.create("a", b"1").unwrap();
        assert_eq!(writer.create("a", b"2").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"1");
        writer.replace("a", b"3").unwrap();
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"3");
        writer.remove("a").unwrap();
        assert_eq!(writer.remove("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        let left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn one_writer_at_a_time_clears_up_after_a_dead_one() {
        let directory = tempfile::TempDir::new().unwrap();
        let writer = Writer::lock(directory.path()).unwrap();
        let other = File::open(directory.path().join(LOCK)).unwrap();
        assert!(other.try_lock().is_err());
        let leftover = writer.write_beside("a", b"1").unwrap();
        drop(writer);
        Writer::lock(directory.path()).unwrap();
        assert!(!leftover.exists());
    }
}
