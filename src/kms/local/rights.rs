//! Only the owner may read or change a key.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::kms::ConfigError;

/// Refuses a file or directory that its group or others have any right to.
pub(super) fn owner_only(path: &Path) -> Result<(), ConfigError> {
    let data = std::fs::metadata(path).map_err(|why| ConfigError::Path {
        path: path.to_owned(),
        problem: format!("can't be read: {why}"),
    })?;
    check(path, &data)
}

/// The same, of what has been opened already.
pub(super) fn check(path: &Path, data: &Metadata) -> Result<(), ConfigError> {
    let mode = data.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let remedy = if data.is_dir() { "700" } else { "600" };
    Err(ConfigError::Rights { path: path.to_owned(), mode, remedy })
}
