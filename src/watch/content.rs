//! What is in some files, to tell whether it is another by now.
//!
//! A file's status says so for nothing, with one gap: two writes within one tick of the file system's clock can leave the same
//! status behind. So as long as the last change is not old enough, the content itself is looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Stamp, stamp};

/// How old a change must be so that another one is sure to leave another status. File systems with the coarsest clocks count
/// in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Files, and what was in them. It holds no byte of them, only hashes.
#[derive(Clone, Debug, Default)]
pub struct Contents(BTreeMap<PathBuf, Seen>);

#[derive(Clone, Debug)]
struct Seen {
    stamp: Stamp,
    settled: bool,
    /// None: it can't be read.
    hash: Option<[u8; 32]>,
}

impl Contents {
    /// Looks at these files. What changes after that is seen as a change, so look before reading them.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|file| (file.clone(), Seen::of(&file, None))).collect())
    }

    /// The same files as they are now.
    pub fn again(&self) -> Self {
        let seen = |(file, seen): (&PathBuf, _)| (file.clone(), Seen::of(file, Some(seen)));
        Self(self.0.iter().map(seen).collect())
    }

    /// These and others.
    pub fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.iter().map(|(file, seen)| (file.clone(), seen.clone())));
        self
    }
}

/// The same files with the same in them, however it came there.
impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        let hashes = |contents: &'_ Self| {
            contents.0.iter().map(|(file, seen)| (file.clone(), seen.hash)).collect::<Vec<_>>()
        };
        hashes(self) == hashes(other)
    }
}

impl Seen {
    fn of(file: &Path, before: Option<&Self>) -> Self {
        // The clock first, then the status, then the content: each may only be older than what comes after it.
        let now = SystemTime::now();
        let stamp = stamp(file);
        if let Some(before) = before.filter(|before| before.settled && before.stamp == stamp) {
            return before.clone();
        }
        Self { stamp, settled: is_settled(stamp, now), hash: hash(file) }
    }
}

/// Of a file only: what a pipe holds can be read once, and not by whoever only looks.
fn hash(file: &Path) -> Option<[u8; 32]> {
    let content = file.is_file().then(|| fs::read(file).ok()).flatten()?;
    Some(Sha256::digest(Zeroizing::new(content)).into())
}

/// Whether a later change is sure to show in the status. A clock that has been set back only makes it take longer.
fn is_settled(stamp: Stamp, now: SystemTime) -> bool {
    let Some((_, [_, _, seconds, _], _)) = stamp else { return false };
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    now.duration_since(changed).is_ok_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_them_counts_and_not_how_it_came_there() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, "1").unwrap();
        let first = Contents::of([file.clone(), other.clone()]);
        assert!(first == first.again());

        // Of the same length, in the same tick of the clock, in the same file.
        fs::write(&file, "2").unwrap();
        let second = first.again();
        assert!(first != second && second == second.again());

        fs::write(&other, "1").unwrap();
        assert!(second != second.again(), "a file that was not there");
        fs::remove_file(&other).unwrap();
        assert!(second == second.again());

        fs::remove_file(&file).unwrap();
        assert!(second != second.again(), "a file that is gone");
        fs::write(&file, "1").unwrap();
        assert!(first == second.again(), "the same again, in another file");
        assert!(first != Contents::of([file]), "a file less");
    }

    #[test]
    fn a_status_is_believed_once_it_is_old_enough() {
        let stamp = Some((1, [0, 0, 1_000_000, 0], 1));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!is_settled(stamp, at(1_000_001)) && is_settled(stamp, at(1_000_005)));
        assert!(!is_settled(stamp, at(999_000)), "the clock was set back");
        assert!(!is_settled(None, at(1)));
    }
}
