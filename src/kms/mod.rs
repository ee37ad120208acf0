//! Where EKs live: one trait for every KMS, and the cache of DEKs in front of it.
//!
//! Two families implement [`Kms`]. One asks a service to do the cryptography; the other keeps a secret in some
//! store and does the cryptography here ([`secrets`]). The embedded keystore ([`local`]) is of the second. Other rooms
//! call only [`Keys`].

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
pub mod ciphertrust;
pub mod config;
pub mod context;
mod disk;
mod endpoints;
pub mod error;
mod gcm;
#[cfg(feature = "google")]
pub mod google;
mod guard;
pub mod kes;
pub mod keys;
pub mod kmip;
pub mod local;
pub mod name;
#[cfg(any(test, not(all(feature = "aws", feature = "google", feature = "azure"))))]
mod not_built;
mod rest;
pub mod secrets;
mod shelf;
pub mod vault;

use std::fmt;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::seal::{Dek, WRAPPED_DEK_MAX};

pub use config::Config;
pub use context::{Bound, Context, InvalidContext};
pub use error::{ConfigError, Error};
pub use guard::Health;
pub use keys::{CacheConfig, Keys, WriteKey};
pub use name::EkName;

/// What a KMS gives back, in its own time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A key management service, or something that plays one.
///
/// The first two methods serve requests. The others serve `s3veil key`; a KMS that is managed elsewhere keeps the
/// default, which is [`Error::Unsupported`].
pub trait Kms: Send + Sync {
    /// The kind, as in the configuration: `local`, ...
    fn kind(&self) -> &'static str;

    /// A new DEK, in clear and wrapped under the EK, bound to the context where the KMS can.
    ///
    /// Fails when the EK does not exist or is disabled. Every KMS must check that on this side too: some go on
    /// wrapping with a disabled key unless asked.
    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey>;

    /// The DEK that [`generate`](Self::generate) wrapped under this EK, EK version and context.
    ///
    /// [`Error::Malformed`] when it was wrapped under any other, or not by this KMS at all.
    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        context: &'a Context,
    ) -> Answer<'a, Dek>;

    /// Creates an EK. [`Error::Exists`] when there is one of that name: an EK is never overwritten.
    fn create<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "create")
    }

    /// The names of all EKs, sorted.
    fn list(&self) -> Answer<'_, Vec<EkName>> {
        unsupported(self.kind(), "list")
    }

    /// What is known of an EK without using it.
    fn describe<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, EkInfo> {
        unsupported(self.kind(), "describe")
    }

    /// Makes a disabled EK usable again. Nothing happens to one that is enabled.
    fn enable<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "enable")
    }

    /// Makes an EK refuse both to generate and to unwrap, until it is enabled.
    fn disable<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "disable")
    }

    /// What disabling an EK brings with it here, if `enable` does not simply undo it. Whoever asks for it is told first.
    fn disable_warning(&self) -> Option<&'static str> {
        None
    }

    /// Gives an EK a new version that wraps from now on. The old ones go on unwrapping.
    fn rotate<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "rotate")
    }

    /// Destroys an EK, and with it every object sealed under it.
    fn delete<'a>(&'a self, _ek: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "delete")
    }
}

fn unsupported<'a, T: Send + 'a>(kind: &'static str, operation: &'static str) -> Answer<'a, T> {
    Box::pin(async move { Err(Error::Unsupported { kind, operation }) })
}

/// A DEK, wrapped: what stands in an envelope. Only the KMS that made it knows its form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WrappedDek(Vec<u8>);

impl WrappedDek {
    /// The bytes as a KMS gave them, or as an envelope holds them.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes in a KMS's answer.
    ///
    /// Errors: [`Error::Malformed`] if there are none, or more than an envelope holds.
    fn from_answer(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        match bytes.len() {
            1..=WRAPPED_DEK_MAX => Ok(Self(bytes)),
            len => Err(Error::Malformed(format!("the KMS gives a wrapped DEK of {len} bytes"))),
        }
    }

    /// The bytes, for the envelope.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WrappedDek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedDek({} bytes)", self.0.len())
    }
}

/// The DEK in a KMS's answer.
///
/// Errors: [`Error::Malformed`] if it is not of 32 bytes.
fn dek_from_answer(bytes: &[u8]) -> Result<Dek, Error> {
    Dek::try_from(bytes)
        .map_err(|_| Error::Malformed(format!("the KMS gives a DEK of {} bytes", bytes.len())))
}

/// What [`Kms::generate`] gives.
#[derive(Debug)]
pub struct DataKey {
    /// The DEK in clear.
    pub dek: Dek,
    /// The same, wrapped under the EK.
    pub wrapped: WrappedDek,
    /// The EK's version that wrapped it, where the KMS has versions and does not write it into the wrapped DEK.
    pub version: Option<String>,
}

/// Whether an EK may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In use.
    Enabled,
    /// Locked: its objects cannot be read or written until it is enabled.
    Disabled,
    /// Deleted, and not yet destroyed: the KMS keeps it for some days, in which `enable` brings it back.
    #[serde(rename = "pending-deletion")]
    PendingDeletion,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion => "pending-deletion",
        })
    }
}

/// What is known of an EK without using it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EkInfo {
    /// The name.
    pub name: EkName,
    /// Whether it may be used.
    pub state: State,
    /// When it was created, where the KMS tells.
    #[serde(with = "time::serde::rfc3339::option")]
    pub created: Option<OffsetDateTime>,
    /// The version that wraps now, where the KMS has versions.
    pub version: Option<String>,
}

impl EkInfo {
    /// An EK of which no more is known.
    pub fn new(name: EkName, state: State) -> Self {
        Self { name, state, created: None, version: None }
    }
}
