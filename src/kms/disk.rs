//! What the KMSs that keep files on this machine have in common: rights, errors, and calls that block.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Answer, ConfigError, EkName, Error};

/// The longest EK file that is read, in bytes; they have some 500. What is cut here does not parse.
const MAX_FILE_LEN: u64 = 16 * 1024;

/// Refuses a file or directory that its group or others have any right to.
pub(super) fn owner_only(path: &Path) -> Result<(), ConfigError> {
    check(path, &metadata(path)?)
}

/// The same, of what has been opened already.
fn check(path: &Path, data: &Metadata) -> Result<(), ConfigError> {
    let remedy = if data.is_dir() { "700" } else { "600" };
    refuse(path, data, 0o077, remedy)
}

/// Refuses a directory that its group or others can write to. They may see what is in it.
pub(super) fn owner_writes(path: &Path) -> Result<(), ConfigError> {
    refuse(path, &metadata(path)?, 0o022, "go-w")
}

fn metadata(path: &Path) -> Result<Metadata, ConfigError> {
    fs::metadata(path)
        .map_err(|why| ConfigError::Path { path: path.to_owned(), problem: format!("can't be read: {why}") })
}

fn refuse(path: &Path, data: &Metadata, rights: u32, remedy: &'static str) -> Result<(), ConfigError> {
    let mode = data.permissions().mode() & 0o7777;
    match mode & rights {
        0 => Ok(()),
        _ => Err(ConfigError::Rights { path: path.to_owned(), mode, remedy }),
    }
}

/// Reads an EK's file, unless others may read it too.
pub(super) fn read(name: &EkName, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |why: io::Error| key_error(name, path, &why);
    let file = File::open(path).map_err(failed)?;
    check(path, &file.metadata().map_err(failed)?).map_err(|why| Error::Denied(why.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN as usize));
    file.take(MAX_FILE_LEN).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

/// What it means that the system refuses an EK's file. Without the directory, a disk is missing and not the EK.
pub(super) fn key_error(name: &EkName, path: &Path, why: &io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::NotFound if path.parent().is_some_and(Path::exists) => Error::NoSuchKey(name.clone()),
        io::ErrorKind::AlreadyExists => Error::Exists(name.clone()),
        _ => unusable(path, why),
    }
}

/// What it means that the system refuses the directory, or anything in it.
pub(super) fn unusable(path: &Path, why: &io::Error) -> Error {
    let problem = format!("{}: {why}", path.display());
    match why.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied(problem),
        _ => Error::Unavailable(problem),
    }
}

/// Runs a job off the threads that serve requests.
pub(super) fn blocking<'a, T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Answer<'a, T> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(job).await;
        done.unwrap_or_else(|why| Err(Error::Unavailable(why.to_string())))
    })
}
