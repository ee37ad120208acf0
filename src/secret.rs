//! Secrets: from a file, the environment or inline; zeroized when dropped, printed as `***`.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::watch::Watched;

/// A secret text. It has no `Clone`: where it is shared, it stands in an `Arc`.
#[derive(Zeroize, ZeroizeOnDrop, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for cryptography and login requests, never for a message.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Compares in constant time, as far as the length allows.
    pub fn matches(&self, other: &str) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the configuration says a secret is: `"inline"`, `{ file = "path" }` or `{ env = "NAME" }`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a secret is a string, { file = \"path\" } or { env = \"NAME\" }")]
pub enum SecretSource {
    /// The secret itself, in the configuration.
    Inline(Secret),
    /// A file that holds the secret and nothing else.
    File(FileSource),
    /// An environment variable.
    Env(EnvSource),
}

/// `{ file = "path" }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The file. One trailing newline is not part of the secret.
    pub file: PathBuf,
}

/// `{ env = "NAME" }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvSource {
    /// The variable's name.
    pub env: String,
}

/// Why a secret could not be had. Names the place and the remedy, never the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("cannot read the secret file {}: check that it exists and that s3veil may read it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The variable is not there, or not UTF-8.
    #[error("the environment variable {name} is not set to text: set it, or name another source")]
    Env {
        /// The variable.
        name: String,
    },
    /// Nothing in it.
    #[error("the secret from {place} is empty: put the secret there")]
    Empty {
        /// File, variable or configuration.
        place: String,
    },
}

impl SecretSource {
    /// Reads the secret from where it is.
    pub fn load(&self) -> Result<Secret, SecretError> {
        let (secret, place) = match self {
            Self::Inline(secret) => (Secret::new(secret.as_str()), "the configuration".to_owned()),
            Self::File(FileSource { file }) => (read(file)?, format!("the file {}", file.display())),
            Self::Env(EnvSource { env }) => {
                let text = std::env::var(env).map_err(|_| SecretError::Env { name: env.clone() })?;
                (Secret(text), format!("the environment variable {env}"))
            }
        };
        if secret.0.is_empty() { Err(SecretError::Empty { place }) } else { Ok(secret) }
    }
}

impl SecretSource {
    /// The file whose change changes the secret, if it comes from one.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::File(FileSource { file }) => vec![file.clone()],
            Self::Inline(_) | Self::Env(_) => Vec::new(),
        }
    }

    /// The secret, read again whenever its file has changed.
    ///
    /// Errors: those of [`SecretSource::load`], in words.
    pub fn watch(self) -> Result<Watched<Secret>, String> {
        Watched::new(self.files(), move || self.load().map_err(|why| why.to_string()))
    }
}

impl From<&str> for SecretSource {
    fn from(inline: &str) -> Self {
        Self::Inline(Secret::new(inline))
    }
}

fn read(path: &PathBuf) -> Result<Secret, SecretError> {
    let mut secret = std::fs::read_to_string(path)
        .map(Secret)
        .map_err(|source| SecretError::File { path: path.clone(), source })?;
    let trimmed = secret.0.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text).len());
    if let Some(len) = trimmed {
        secret.0.truncate(len);
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        secret: SecretSource,
    }

    fn parse(toml: &str) -> Result<SecretSource, toml::de::Error> {
        toml::from_str::<Holder>(toml).map(|holder| holder.secret)
    }

    #[test]
    fn inline_file_and_environment() {
        assert_eq!(parse("secret = 'a b'").unwrap().load().unwrap().as_str(), "a b");

        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b" from file \r\n").unwrap();
        let source = parse(&format!("secret = {{ file = {:?} }}", file.path())).unwrap();
        assert_eq!(source.load().unwrap().as_str(), " from file ");

        // Any variable that every test process has.
        let source = parse("secret = { env = 'PATH' }").unwrap();
        assert_eq!(source.load().unwrap().as_str(), std::env::var("PATH").unwrap());
    }

    #[test]
    fn a_failure_names_the_place_and_the_remedy() {
        let missing = parse("secret = { file = '/no/such/file' }").unwrap().load().unwrap_err();
        assert!(missing.to_string().contains("/no/such/file"), "{missing}");
        let unset = parse("secret = { env = 'S3VEIL_TEST_UNSET' }").unwrap().load().unwrap_err();
        assert!(unset.to_string().contains("S3VEIL_TEST_UNSET"), "{unset}");
        assert!(matches!(parse("secret = ''").unwrap().load(), Err(SecretError::Empty { .. })));
    }

    #[test]
    fn two_sources_at_once_are_refused_in_words() {
        let error = parse("secret = { file = 'a', env = 'B' }").err().unwrap().to_string();
        assert!(error.contains("{ file = \"path\" } or { env = \"NAME\" }"), "{error}");
    }

    #[test]
    fn nothing_prints_a_secret() {
        let source = SecretSource::from("hidden");
        let secret = source.load().unwrap();
        assert_eq!(format!("{source:?} {secret:?} {secret}"), "Inline(***) *** ***");
        assert!(secret.matches("hidden") && !secret.matches("hiddem") && !secret.matches("hidde"));
    }
}
