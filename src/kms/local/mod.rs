//! The embedded keystore: a directory of EK files, each sealed under one master key.
//!
//! It keeps secrets, no more: the cryptography of an EK is that of `secrets`. Every call reads the file, so that a
//! running s3veil sees at once what `s3veil key` changed.

mod directory;
mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::disk::{self, key_error, unusable};
use super::secrets::{SecretKms, SecretStore, random};
use super::{Answer, ConfigError, EkInfo, EkName, Error, Kms, State};
use crate::secret::{FileSource, Secret, SecretSource};
use directory::Writer;
use file::{KeyFile, MasterKey};

/// The EK of `s3veil dev`.
pub const DEV_EK: &str = "s3veil-dev-key";

/// The master key's file of `s3veil dev`. No EK's file ends so.
const DEV_MASTER_KEY: &str = "master.key";

/// The end of an EK file's name.
const SUFFIX: &str = ".ek";

/// The embedded keystore as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// The directory. Made, for its owner only, if it is not there.
    pub path: PathBuf,
    /// 32 bytes in base64 or hex.
    pub master_key: SecretSource,
}

impl LocalConfig {
    /// Reads the master key and checks the rights of everything.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        if let SecretSource::File(source) = &self.master_key {
            disk::owner_only(&source.file).map_err(|why| match why {
                ConfigError::Path { path, problem } => {
                    let problem = format!("master_key: {problem}. Make one with `openssl rand -hex 32`");
                    ConfigError::Path { path, problem }
                }
                other => other,
            })?;
        }
        let store = Keystore { directory: self.path, master: master_key(&self.master_key.load()?)? };
        store.prepare()?;
        Ok(Box::new(SecretKms::new(Shared(Arc::new(store)))))
    }
}

fn master_key(secret: &Secret) -> Result<MasterKey, ConfigError> {
    let text = secret.as_str().trim();
    let bytes = match text.len() {
        64 => hex::decode(text).ok(),
        _ => BASE64_STANDARD.decode(text).ok(),
    };
    let bytes = bytes.map(Zeroizing::new).ok_or(ConfigError::MasterKey)?;
    let bytes = bytes.as_slice().try_into().map_err(|_| ConfigError::MasterKey)?;
    Ok(MasterKey::new(bytes))
}

/// Makes the keystore of `s3veil dev` on first start: directory, master key, one EK.
pub async fn init_dev(directory: &Path) -> Result<(), ConfigError> {
    make_dev_master_key(directory).map_err(|why| path_error(directory, &why))?;
    let master_key = SecretSource::File(FileSource { file: directory.join(DEV_MASTER_KEY) });
    let kms = LocalConfig { path: directory.to_owned(), master_key }.build()?;
    match kms.create(&EkName::parse(DEV_EK).expect("the name is valid")).await {
        Ok(()) | Err(Error::Exists(_)) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

fn make_dev_master_key(directory: &Path) -> io::Result<()> {
    directory::make(directory)?;
    let key = Zeroizing::new(hex::encode(random::<32>().as_slice()));
    match Writer::lock(directory)?.create(DEV_MASTER_KEY, key.as_bytes()) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(()),
    }
}

/// The directory and the key to what is in it. All its calls block.
#[derive(Debug)]
struct Keystore {
    directory: PathBuf,
    master: MasterKey,
}

impl Keystore {
    fn prepare(&self) -> Result<(), ConfigError> {
        directory::make(&self.directory).map_err(|why| ConfigError::Path {
            path: self.directory.clone(),
            problem: format!("path: can't be made a directory: {why}. Name another one"),
        })?;
        disk::owner_only(&self.directory)?;
        for name in self
            .names()
            .map_err(|why| ConfigError::Path { path: self.directory.clone(), problem: why.to_string() })?
        {
            disk::owner_only(&self.path(&name))?;
        }
        Ok(())
    }

    fn path(&self, name: &EkName) -> PathBuf {
        self.directory.join(file_name(name))
    }

    fn writer(&self) -> Result<Writer<'_>, Error> {
        Writer::lock(&self.directory).map_err(|why| unusable(&self.directory, &why))
    }

    fn read(&self, name: &EkName) -> Result<KeyFile, Error> {
        let path = self.path(name);
        let text = disk::read(name, &path)?;
        KeyFile::parse(&text, name).map_err(|why| Error::Malformed(format!("{}: {why}", path.display())))
    }

    fn open(&self, name: &EkName) -> Result<(KeyFile, Zeroizing<Vec<u8>>), Error> {
        let file = self.read(name)?;
        let secret = file.open(&self.master).ok_or_else(|| {
            let path = self.path(name);
            Error::Malformed(format!(
                "{}: it was changed, or sealed under another master key",
                path.display()
            ))
        })?;
        Ok((file, secret))
    }

    fn get(&self, name: &EkName) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (file, secret) = self.open(name)?;
        match file.state {
            State::Enabled => Ok(secret),
            State::Disabled | State::PendingDeletion => Err(Error::Disabled(name.clone())),
        }
    }

    fn create(&self, name: &EkName, secret: &[u8]) -> Result<(), Error> {
        let file = KeyFile::seal(name, State::Enabled, OffsetDateTime::now_utc(), secret, &self.master);
        let created = self.writer()?.create(&file_name(name), file.to_json().as_bytes());
        created.map_err(|why| key_error(name, &self.path(name), &why))
    }

    fn set_state(&self, name: &EkName, state: State) -> Result<(), Error> {
        // The lock comes first, so that a key which is deleted meanwhile does not come back.
        let writer = self.writer()?;
        let (file, secret) = self.open(name)?;
        let changed = KeyFile::seal(name, state, file.created, &secret, &self.master);
        let replaced = writer.replace(&file_name(name), changed.to_json().as_bytes());
        replaced.map_err(|why| key_error(name, &self.path(name), &why))
    }

    fn delete(&self, name: &EkName) -> Result<(), Error> {
        let removed = self.writer()?.remove(&file_name(name));
        removed.map_err(|why| key_error(name, &self.path(name), &why))
    }

    fn names(&self) -> Result<Vec<EkName>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|why| unusable(&self.directory, &why))? {
            let file = entry.map_err(|why| unusable(&self.directory, &why))?.file_name();
            names.extend(file.to_str().and_then(|file| EkName::parse(file.strip_suffix(SUFFIX)?).ok()));
        }
        names.sort();
        Ok(names)
    }
}

/// An EK's file. Its name is checked, so it can't lead out of the directory.
fn file_name(name: &EkName) -> String {
    format!("{name}{SUFFIX}")
}

fn path_error(path: &Path, why: &io::Error) -> ConfigError {
    ConfigError::Path { path: path.to_owned(), problem: why.to_string() }
}

/// The keystore, off the threads that serve requests.
struct Shared(Arc<Keystore>);

impl Shared {
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Keystore) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'_, T> {
        let store = self.0.clone();
        disk::blocking(move || job(&store))
    }
}

impl SecretStore for Shared {
    fn kind(&self) -> &'static str {
        "local"
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        let name = name.clone();
        self.run(move |store| store.get(&name))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        let name = name.clone();
        self.run(move |store| store.create(&name, &secret))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        self.run(Keystore::names)
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        let name = name.clone();
        self.run(move |store| {
            let (file, _) = store.open(&name)?;
            Ok(EkInfo { created: Some(file.created), ..EkInfo::new(name, file.state) })
        })
    }

    fn enable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        let name = name.clone();
        self.run(move |store| store.set_state(&name, State::Enabled))
    }

    fn disable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        let name = name.clone();
        self.run(move |store| store.set_state(&name, State::Disabled))
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        let name = name.clone();
        self.run(move |store| store.delete(&name))
    }
}
