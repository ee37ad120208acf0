//! The directory of a KES's own key store (`keystore: fs`): a file per EK, not encrypted, in KES's form.
//!
//! What KES made is used as it is, and KES uses what is made here. A file is made as KES makes it: under its name at once
//! and only if it is new, because anything beside it would count as a key of KES's. Source: minio/kes v0.24.0,
//! `internal/keystore/fs/fs.go`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::kms::disk::{self, blocking, key_error, unusable};
use crate::kms::secrets::{SecretKms, SecretStore, created};
use crate::kms::{Answer, ConfigError, EkInfo, EkName, Kms, State};

/// KES's directory as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KesFilesConfig {
    /// The directory: `keystore.fs.path` in KES's configuration. It must be there.
    pub path: PathBuf,
}

impl KesFilesConfig {
    /// Checks that the directory is there, and that only its owner can change what is in it.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        // KES makes its directory for others to look into; the files in it it does not.
        disk::owner_writes(&self.path).map_err(|why| match why {
            ConfigError::Path { path, problem } => {
                let problem = format!("path: {problem}. Give the directory that KES has as keystore.fs.path");
                ConfigError::Path { path, problem }
            }
            other => other,
        })?;
        if !self.path.is_dir() {
            return Err(ConfigError::Path {
                path: self.path,
                problem: "path: not a directory. Give the one that KES has as keystore.fs.path".into(),
            });
        }
        Ok(Box::new(SecretKms::new(Directory(self.path))))
    }
}

struct Directory(PathBuf);

impl Directory {
    /// An EK's file. Its name is checked, so it can't lead out of the directory.
    fn file(&self, name: &EkName) -> PathBuf {
        self.0.join(name.as_str())
    }
}

impl SecretStore for Directory {
    fn kind(&self) -> &'static str {
        "kes-files"
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        let (name, file) = (name.clone(), self.file(name));
        blocking(move || disk::read(&name, &file))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        let (name, directory, file) = (name.clone(), self.0.clone(), self.file(name));
        blocking(move || {
            let written = write_new(&file, &secret).and_then(|()| sync(&directory));
            written.map_err(|why| key_error(&name, &file, &why))
        })
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        let directory = self.0.clone();
        blocking(move || names(&directory).map_err(|why| unusable(&directory, &why)))
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        let (name, file) = (name.clone(), self.file(name));
        blocking(move || {
            let secret = disk::read(&name, &file)?;
            Ok(EkInfo { created: created(&secret), ..EkInfo::new(name, State::Enabled) })
        })
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        let (name, directory, file) = (name.clone(), self.0.clone(), self.file(name));
        blocking(move || {
            let removed = fs::remove_file(&file).and_then(|()| sync(&directory));
            removed.map_err(|why| key_error(&name, &file, &why))
        })
    }
}

/// Writes a file that must not be there yet. One that can't be finished is taken away.
fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).inspect_err(|_| {
        fs::remove_file(file).ok();
    })
}

/// The directory's entry is what a crash could lose.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn names(directory: &Path) -> io::Result<Vec<EkName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().to_str().and_then(|name| EkName::parse(name).ok()));
    }
    names.sort();
    Ok(names)
}
