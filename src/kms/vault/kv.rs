//! A KV engine as a store of secrets, laid out as MinIO KES does.
//!
//! ```text
//! version 1   MOUNT/PREFIX/EK         { EK: secret }
//! version 2   MOUNT/data/PREFIX/EK    { EK: secret }, always its version 1; written once, with check-and-set
//! ```
//!
//! The secret may be sealed with a key of a transit engine once more.
//! Source: minio/kes, `internal/keystore/vault/vault.go`.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::Version;
use super::client::{Call, Failure, Vault};
use super::transit::{decrypt, encrypt};
use crate::kms::secrets::SecretStore;
use crate::kms::{Answer, EkInfo, EkName, Error, State, unsupported};
use crate::secret::Secret;

const KIND: &str = "vault-kv";

/// How a secret begins that is sealed with transit. None that is not does: base64 has no colon.
const SEALED: &str = "vault:v";

/// EKs in a KV engine.
pub(super) struct Kv {
    pub vault: Vault,
    pub mount: String,
    pub prefix: Option<String>,
    pub version: Version,
    pub seal: Option<Seal>,
}

/// A key of a transit engine that secrets are sealed with once more. It binds nothing, as in KES.
pub(super) struct Seal {
    pub mount: String,
    pub key: String,
}

/// What version 2 knows of a secret.
#[derive(Deserialize)]
struct Metadata {
    versions: HashMap<String, Known>,
}

/// What version 2 knows of a version of a secret.
#[derive(Clone, Deserialize)]
struct Known {
    created_time: String,
    /// Empty, or when the secret is not given any more.
    deletion_time: String,
    destroyed: bool,
}

impl Known {
    fn state(&self) -> Option<State> {
        let deleted = time(&self.deletion_time).is_some_and(|at| at <= OffsetDateTime::now_utc());
        match (self.destroyed, deleted) {
            (true, _) => None,
            (false, true) => Some(State::Disabled),
            (false, false) => Some(State::Enabled),
        }
    }
}

fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// What belongs to a secret; in version 1 that is all one.
#[derive(Clone, Copy)]
enum Part {
    Data,
    Metadata,
    Delete,
    Undelete,
}

impl Kv {
    /// The path of one secret, or of the place of all.
    fn path(&self, part: Part, name: Option<&EkName>) -> String {
        let part = match (self.version, part) {
            (Version::V1, _) => None,
            (Version::V2, Part::Data) => Some("data"),
            (Version::V2, Part::Metadata) => Some("metadata"),
            (Version::V2, Part::Delete) => Some("delete"),
            (Version::V2, Part::Undelete) => Some("undelete"),
        };
        let steps = [Some(self.mount.as_str()), part, self.prefix.as_deref(), name.map(EkName::as_str)];
        steps.into_iter().flatten().collect::<Vec<_>>().join("/")
    }

    async fn read(&self, name: &EkName) -> Result<Zeroizing<Vec<u8>>, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            data: HashMap<String, Secret>,
        }

        let path = self.path(Part::Data, Some(name));
        let fields = match self.version {
            Version::V1 => self.vault.get::<HashMap<String, Secret>>(&path).await,
            // The first, as in KES: one that was written over the EK is not it.
            Version::V2 => self.vault.get::<Versioned>(&format!("{path}?version=1")).await.map(|of| of.data),
        };
        let fields = fields.map_err(|failure| missing(name, failure))?;
        let Some(secret) = fields.get(name.as_str()) else {
            return Err(Error::Malformed(format!("{path} holds no field '{name}'")));
        };
        match &self.seal {
            // One from before there was a seal is none the worse.
            _ if !secret.as_str().starts_with(SEALED) => Ok(Zeroizing::new(secret.as_bytes().to_vec())),
            Some(Seal { mount, key }) => decrypt(&self.vault, mount, key, secret.as_str(), &[])
                .await
                .map_err(|failure| unusable(name, failure)),
            None => Err(Error::Malformed(format!("{path} is sealed with transit: set transit.key"))),
        }
    }

    async fn write(&self, name: &EkName, secret: &[u8]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            options: Options,
            data: HashMap<&'a str, &'a str>,
        }
        #[derive(Serialize)]
        struct Options {
            /// The version that there must be: none yet.
            cas: u32,
        }

        self.check_version().await?;
        let text: Cow<str> = match &self.seal {
            Some(Seal { mount, key }) => encrypt(&self.vault, mount, key, secret, &[])
                .await
                .map_err(|failure| unusable(name, failure))?
                .into(),
            None => str::from_utf8(secret).expect("an EK is stored as text").into(),
        };
        let data = HashMap::from([(name.as_str(), &*text)]);
        let path = self.path(Part::Data, Some(name));
        let written = match self.version {
            Version::V1 => {
                // Version 1 overwrites, unless the token may only create.
                self.expect_none(name).await?;
                self.vault.call(|| Call::new(Method::POST, &path).json(&data)).await
            }
            Version::V2 => {
                let body = Versioned { options: Options { cas: 0 }, data };
                self.vault.call(|| Call::new(Method::POST, &path).json(&body)).await
            }
        };
        match written {
            Ok(_) if self.version == Version::V1 => {
                // The server looks whether it is a creation before it writes: another's may have come in between.
                let there = self.read(name).await?;
                if *there == *secret { Ok(()) } else { Err(Error::Exists(name.clone())) }
            }
            Ok(_) => Ok(()),
            Err(failure) if failure.is(StatusCode::FORBIDDEN) || failure.says("check-and-set") => {
                self.expect_none(name).await?;
                match failure.says("check-and-set") {
                    true => Err(Error::Denied(format!(
                        "{path} has lost its version 1, which was an EK: `s3veil key delete {name}` frees the name"
                    ))),
                    false => Err(failure.into()),
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn expect_none(&self, name: &EkName) -> Result<(), Error> {
        match self.info(name).await {
            Ok(_) => Err(Error::Exists(name.clone())),
            Err(Error::NoSuchKey(_)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Whether the engine is of the version that the configuration says. At the paths of version 2, one of version 1
    /// would take everything for plain names, and overwrite.
    async fn check_version(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Mount {
            options: Option<HashMap<String, String>>,
        }

        let mount: Mount = self.vault.get(&format!("sys/internal/ui/mounts/{}", self.mount)).await?;
        let two = mount.options.is_some_and(|options| options.get("version").is_some_and(|v| v == "2"));
        match (two, self.version) {
            (true, Version::V2) | (false, Version::V1) => Ok(()),
            (true, Version::V1) => {
                Err(Error::Denied(format!("{} is a KV engine of version 2: set version = 2", self.mount)))
            }
            (false, Version::V2) => {
                Err(Error::Denied(format!("{} is a KV engine of version 1: set version = 1", self.mount)))
            }
        }
    }

    async fn info(&self, name: &EkName) -> Result<EkInfo, Error> {
        if self.version == Version::V1 {
            return self.read(name).await.map(|_| EkInfo::new(name.clone(), State::Enabled));
        }
        let metadata = self.metadata(name).await?;
        let first = metadata.versions.get("1").and_then(|known| Some((known, known.state()?)));
        let (known, state) = first.ok_or_else(|| Error::NoSuchKey(name.clone()))?;
        Ok(EkInfo { created: time(&known.created_time), ..EkInfo::new(name.clone(), state) })
    }

    async fn metadata(&self, name: &EkName) -> Result<Metadata, Error> {
        let metadata = self.vault.get(&self.path(Part::Metadata, Some(name))).await;
        metadata.map_err(|failure| missing(name, failure))
    }

    /// Takes back the version that is the EK, or gives it again.
    async fn set(&self, name: &EkName, part: Part) -> Result<(), Error> {
        self.info(name).await?;
        let path = self.path(part, Some(name));
        let first = serde_json::json!({ "versions": [1] });
        self.vault.call(|| Call::new(Method::POST, &path).json(&first)).await?;
        Ok(())
    }

    /// The server does not say that there was nothing to delete, so it is asked first. What is left of a secret without
    /// the version that was the EK goes too: it holds the name.
    async fn destroy(&self, name: &EkName) -> Result<(), Error> {
        match self.version {
            Version::V1 => self.read(name).await.map(drop)?,
            Version::V2 => self.metadata(name).await.map(drop)?,
        }
        let path = self.path(Part::Metadata, Some(name));
        self.vault.call(|| Call::new(Method::DELETE, &path)).await?;
        Ok(())
    }
}

/// What it means that the seal can't be used.
fn unusable(name: &EkName, failure: Failure) -> Error {
    match failure.says("soft-deleted") {
        true => Error::Disabled(name.clone()),
        false => failure.into(),
    }
}

/// What it means that a secret was not given.
fn missing(name: &EkName, failure: Failure) -> Error {
    #[derive(Deserialize)]
    struct Versioned {
        metadata: Known,
    }

    if failure.is_nothing() {
        return Error::NoSuchKey(name.clone());
    }
    match failure.data::<Versioned>().map(|of| of.metadata.state()) {
        Some(Some(_)) => Error::Disabled(name.clone()),
        Some(None) => Error::NoSuchKey(name.clone()),
        None => failure.into(),
    }
}

impl SecretStore for Kv {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(self.read(name))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        Box::pin(async move { self.write(name, &secret).await })
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(async { Ok(self.vault.list(&self.path(Part::Metadata, None)).await?) })
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.info(name))
    }

    fn enable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        match self.version {
            Version::V1 => unsupported(KIND, "enable"),
            Version::V2 => Box::pin(self.set(name, Part::Undelete)),
        }
    }

    fn disable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        match self.version {
            Version::V1 => unsupported(KIND, "disable"),
            Version::V2 => Box::pin(self.set(name, Part::Delete)),
        }
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.destroy(name))
    }
}
