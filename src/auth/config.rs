//! The `[auth]` section of the configuration, and how it becomes an [`Authenticator`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::secret::{SecretError, SecretSource};

use super::identity::{Identities, Identity};
use super::verify::Authenticator;

/// `[auth]` as typed.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether signatures are verified.
    pub mode: Mode,
    /// The region that signatures must name; `*` accepts any.
    pub region: String,
    /// Domains under which `bucket.domain` names a bucket (virtual-host style).
    pub domains: Vec<String>,
    /// Whether browser forms may be signed with Signature Version 2, as old ones are.
    pub sigv2_forms: bool,
    /// Who may sign.
    pub identities: Vec<IdentityConfig>,
}

/// How requests are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By their Signature Version 4.
    Sigv4,
    /// Not at all: for a sidecar on loopback. Signatures are ignored.
    Trusted,
}

/// `[[auth.identities]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The name in policies and logs.
    pub name: String,
    /// The access key that clients send.
    pub access_key: String,
    /// The secret key that they sign with.
    pub secret_key: SecretSource,
    /// The session token that must go with it.
    pub session_token: Option<SecretSource>,
    /// The store credentials, by name, that this identity's requests are signed with. Default: the store's own default.
    pub store: Option<String>,
}

/// Why `[auth]` can't be used, and what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Every request would be refused.
    #[error(
        "auth has no identities: add [[auth.identities]], or set auth.mode = \"trusted\" behind loopback"
    )]
    NoIdentities,
    /// Two identities can't be told apart.
    #[error("two identities in auth share the {what} {value:?}: make them different")]
    Duplicate {
        /// `name` or `access_key`.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// Nothing there.
    #[error("auth.{0} is empty: fill it in")]
    Empty(&'static str),
    /// Not a host name.
    #[error("auth.domains has {0:?}, which is not a host name: write it without scheme, port and slash")]
    Domain(String),
    /// A secret can't be had.
    #[error("auth.identities: the {what} of {name:?}: {source}")]
    Secret {
        /// The identity.
        name: String,
        /// `secret_key` or `session_token`.
        what: &'static str,
        /// Why.
        source: SecretError,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Sigv4,
            region: "*".to_owned(),
            domains: Vec::new(),
            sigv2_forms: false,
            identities: Vec::new(),
        }
    }
}

impl Config {
    /// The files that secrets are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let sources = |identity: &'_ IdentityConfig| {
            let token = identity.session_token.iter().flat_map(SecretSource::files);
            identity.secret_key.files().into_iter().chain(token).collect::<Vec<_>>()
        };
        self.identities.iter().flat_map(sources).collect()
    }

    /// Reads the secrets and checks everything once.
    pub fn build(self) -> Result<Authenticator, ConfigError> {
        if self.mode == Mode::Sigv4 && self.identities.is_empty() {
            return Err(ConfigError::NoIdentities);
        }
        if self.region.is_empty() {
            return Err(ConfigError::Empty("region"));
        }
        let region = (self.region != "*").then_some(self.region);
        let domains = self.domains.into_iter().map(domain).collect::<Result<_, _>>()?;
        Ok(Authenticator::new(self.mode, region, domains, identities(self.identities)?)
            .with_old_forms(self.sigv2_forms))
    }
}

fn identities(configs: Vec<IdentityConfig>) -> Result<Identities, ConfigError> {
    let mut by_access_key = HashMap::<String, Arc<Identity>>::new();
    for config in configs {
        let identity = config.build()?;
        if by_access_key.values().any(|other| other.name == identity.name) {
            return Err(ConfigError::Duplicate { what: "name", value: identity.name });
        }
        if by_access_key.contains_key(&identity.access_key) {
            return Err(ConfigError::Duplicate { what: "access_key", value: identity.access_key });
        }
        by_access_key.insert(identity.access_key.clone(), Arc::new(identity));
    }
    Ok(Identities::new(by_access_key))
}

impl IdentityConfig {
    fn build(self) -> Result<Identity, ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::Empty("identities.name"));
        }
        if self.access_key.is_empty() {
            return Err(ConfigError::Empty("identities.access_key"));
        }
        let load = |what, source: &SecretSource| {
            source.load().map_err(|source| ConfigError::Secret { name: self.name.clone(), what, source })
        };
        let secret = load("secret_key", &self.secret_key)?;
        let token = self.session_token.as_ref().map(|source| load("session_token", source)).transpose()?;
        Ok(Identity {
            name: self.name,
            access_key: self.access_key,
            secret,
            token,
            store_credentials: self.store,
        })
    }
}

fn domain(text: String) -> Result<String, ConfigError> {
    let lower = text.to_ascii_lowercase();
    let clean = lower.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let named = !lower.is_empty() && !lower.starts_with('.') && !lower.ends_with('.');
    if clean && named { Ok(lower) } else { Err(ConfigError::Domain(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(toml: &str) -> Result<Authenticator, ConfigError> {
        toml::from_str::<Config>(toml).expect("the test's configuration has the right form").build()
    }

    const ALICE: &str = "[[identities]]\nname = 'alice'\naccess_key = 'AK'\nsecret_key = 'sk'\n";

    #[test]
    fn a_good_configuration() {
        build(&format!("region = 'eu-west-1'\ndomains = ['S3.example.com']\n{ALICE}")).unwrap();
        build("mode = 'trusted'").unwrap();
    }

    #[test]
    fn every_mistake_is_said_in_words() {
        let missing_file = ALICE.replace("'sk'", "{ file = '/no/such/file' }");
        let cases = [
            ("", "no identities"),
            (&format!("{ALICE}{ALICE}"), "share the name \"alice\""),
            (&format!("{ALICE}{}", ALICE.replace("alice", "bob")), "share the access_key \"AK\""),
            (&format!("region = ''\n{ALICE}"), "auth.region is empty"),
            (&format!("domains = ['http://x']\n{ALICE}"), "not a host name"),
            (&missing_file, "secret_key of \"alice\": cannot read the secret file /no/such/file"),
        ];
        for (toml, words) in cases {
            let error = build(toml).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(toml::from_str::<Config>("regoin = 'x'").is_err());
    }
}
