//! Credentials as the configuration gives them: static, from files or from the environment.

use std::fmt;
use std::path::PathBuf;

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use serde::Deserialize;

use crate::secret::{Secret, SecretSource};
use crate::watch::Watched;

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

/// A role to take on, as typed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// Its ARN.
    pub role_arn: String,
    /// What the role's trust policy may ask for (`sts:ExternalId`).
    pub external_id: Option<String>,
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
    /// The files whose change changes them.
    pub fn files(&self) -> Vec<PathBuf> {
        let sources = [Some(&self.access_key), Some(&self.secret_key), self.session_token.as_ref()];
        sources.into_iter().flatten().flat_map(SecretSource::files).collect()
    }

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

    /// The same for AWS's own clients, each part read again whenever its file has changed.
    ///
    /// Errors: those of [`build`](Self::build).
    pub fn watch(self) -> Result<WatchedCredentials, String> {
        let watch = |name: &str, source: SecretSource| source.watch().map_err(|why| format!("{name}: {why}"));
        Ok(WatchedCredentials {
            access_key: watch("access_key", self.access_key)?,
            secret_key: watch("secret_key", self.secret_key)?,
            session_token: self.session_token.map(|s| watch("session_token", s)).transpose()?,
        })
    }
}

/// Credentials that are as their files are now.
pub struct WatchedCredentials {
    access_key: Watched<Secret>,
    secret_key: Watched<Secret>,
    session_token: Option<Watched<Secret>>,
}

impl ProvideCredentials for WatchedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let token = self.session_token.as_ref().map(|token| token.get().as_str().to_owned());
        let (access_key, secret_key) = (self.access_key.get(), self.secret_key.get());
        let now = AwsCredentials::new(access_key.as_str(), secret_key.as_str(), token, None, "proxy.toml");
        future::ProvideCredentials::ready(Ok(now))
    }
}

impl fmt::Debug for WatchedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedCredentials(***)")
    }
}
