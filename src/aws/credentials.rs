//! Credentials of the store: static, from files or from the environment.

use serde::Deserialize;

use crate::secret::{Secret, SecretSource};

/// Credentials as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsConfig {
    /// The access key.
    pub access_key: SecretSource,
    /// The secret key.
    pub secret_key: SecretSource,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretSource>,
}

/// Credentials, loaded.
#[derive(Debug)]
pub struct Credentials {
    /// The access key. Not secret by itself, but of no interest to a log.
    pub access_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
}

impl CredentialsConfig {
    /// Reads the files and variables.
    ///
    /// Errors: a message that names the key, the file or variable, and the remedy.
    pub fn build(self) -> Result<Credentials, String> {
        let load = |name: &str, source: &SecretSource| source.load().map_err(|why| format!("{name}: {why}"));
        Ok(Credentials {
            access_key: load("access_key", &self.access_key)?,
            secret_key: load("secret_key", &self.secret_key)?,
            session_token: self.session_token.as_ref().map(|s| load("session_token", s)).transpose()?,
        })
    }
}
