//! How a KMS fails. Never holds key material; written for the log.

use std::path::PathBuf;

use super::EkName;
use crate::secret::SecretError;

/// Why a KMS did not do what it was asked. Cheap to clone: callers that wait for one call share its error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such EK: it never was, or it was deleted. Then what it sealed is gone for good.
    #[error("no key '{0}' in the KMS")]
    NoSuchKey(EkName),
    /// The EK is disabled. What it sealed comes back when it is enabled.
    #[error("key '{0}' is disabled")]
    Disabled(EkName),
    /// The KMS, or the system under it, refuses this proxy.
    #[error("the KMS refuses access: {0}")]
    Denied(String),
    /// No answer, or one that may differ next time.
    #[error("the KMS is not available: {0}")]
    Unavailable(String),
    /// A wrapped DEK, or a stored EK, that is not authentic: changed, wrapped under another EK, version or context, or
    /// of an unknown form.
    #[error("not authentic: {0}")]
    Malformed(String),
    /// There is an EK of that name already.
    #[error("key '{0}' exists already")]
    Exists(EkName),
    /// This kind of KMS is managed with its own tools.
    #[error("a KMS of kind '{kind}' cannot {operation} keys from here; use its own tools")]
    Unsupported {
        /// The kind of KMS.
        kind: &'static str,
        /// What was asked for.
        operation: &'static str,
    },
    /// An object, or a policy, names a KMS that the configuration does not have.
    #[error("no KMS '{0}' in the configuration")]
    NoSuchKms(String),
}

impl Error {
    /// True when asking again at once would bring the same answer: worth remembering for a moment.
    pub fn is_verdict(&self) -> bool {
        match self {
            Self::NoSuchKey(_) | Self::Disabled(_) | Self::Denied(_) => true,
            Self::Unavailable(_)
            | Self::Malformed(_)
            | Self::Exists(_)
            | Self::Unsupported { .. }
            | Self::NoSuchKms(_) => false,
        }
    }
}

impl From<String> for ConfigError {
    fn from(why: String) -> Self {
        Self::Setting(why)
    }
}

/// Why a configured KMS could not be built. Says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The master key could not be loaded.
    #[error("the keystore's master key cannot be loaded")]
    Secret(#[from] SecretError),
    /// The master key is not a key.
    #[error(
        "the keystore's master key must be 32 bytes, as base64 or as 64 hex digits; make one with `openssl rand -base64 32`"
    )]
    MasterKey,
    /// A path that others than its owner can read or change.
    #[error("{path} is open to others (mode {mode:o}); run `chmod {remedy} {path}`", path = path.display())]
    Rights {
        /// The file or directory.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
        /// What to give to chmod.
        remedy: &'static str,
    },
    /// The file system said no.
    #[error("{path}: {problem}", path = path.display())]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting that can't be used. Names the key, its value and the remedy.
    #[error("{0}")]
    Setting(String),
    /// The EK of `s3veil dev` could not be made or read.
    #[error("the keystore is not usable")]
    Keystore(#[from] Error),
}
