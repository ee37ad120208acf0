//! Files that change under a running process: read again once they have.
//!
//! A certificate or token that is renewed in place, by hand, by an agent or by Kubernetes' atomic links, is taken at its
//! next use. There is no watcher to start or to lose events: a look at the file's status is cheaper than any request that
//! needs what is in it.

mod content;

pub use content::Contents;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What a file's status says of its content: inode, times of the last change of content and of anything, length. The second
/// time can't be set by hand, so a copy that keeps the first is seen too.
type Stamp = Option<(u64, [i64; 4], u64)>;

/// A value that was made from files, made again when one of them is another.
pub struct Watched<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    seen: Mutex<(Vec<Stamp>, Arc<T>)>,
}

impl<T> Watched<T> {
    /// Loads the value. `files`: what it depends on; none for a value that never changes.
    ///
    /// Errors: those of `load`.
    pub fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Before the value: what changes in between is seen as a change.
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        Ok(Self { files, load: Box::new(load), seen: Mutex::new((stamps, value)) })
    }

    /// The value as the files have it now. The last good one if they can't be read, which is logged once per change.
    pub fn get(&self) -> Arc<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if seen.0 != now {
            match (self.load)() {
                Ok(value) => {
                    tracing::info!(files = ?self.files, "read again after a change");
                    seen.1 = Arc::new(value);
                }
                Err(why) => {
                    tracing::warn!(files = ?self.files, %why, "changed, and not usable; the last one stays")
                }
            }
            seen.0 = now;
        }
        seen.1.clone()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let data = fs::metadata(file).ok()?;
    let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
    Some((data.ino(), times, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_a_broken_one_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        // As Kubernetes and careful agents do it: another file in its place.
        let put = |text: &str| {
            let beside = directory.path().join("beside");
            fs::write(&beside, text).unwrap();
            fs::rename(beside, &file).unwrap();
        };
        put("1");
        let path = file.clone();
        let read = move || {
            fs::read_to_string(&path)
                .map_err(|why| why.to_string())?
                .parse::<u32>()
                .map_err(|why| why.to_string())
        };
        let watched = Watched::new(vec![file.clone()], read).unwrap();
        assert_eq!(*watched.get(), 1);
        put("2");
        assert_eq!(*watched.get(), 2);
        put("not a number");
        assert_eq!(*watched.get(), 2);
        fs::remove_file(&file).unwrap();
        assert_eq!(*watched.get(), 2);
        put("3");
        assert_eq!(*watched.get(), 3);
    }
}
