//! What requests to the store are signed with: credentials of the configuration, or of AWS's chain.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::aws::credentials::{Credentials, CredentialsConfig, RoleConfig};
#[cfg(feature = "aws")]
use crate::aws::{chain::AccessConfig, renewed::Renewed};
use crate::secret::SecretSource;

/// `[store.credentials.NAME]` as typed: keys, or `chain = true`. One flat table, so that each mistake names its key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreCredentialsConfig {
    /// The access key.
    pub access_key: Option<SecretSource>,
    /// The secret key.
    pub secret_key: Option<SecretSource>,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretSource>,
    /// Whether AWS's chain finds them: environment, profile, web identity, container, instance.
    #[serde(default)]
    pub chain: bool,
    /// The chain's profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// A role to take on with what the chain has found.
    pub assume_role: Option<RoleConfig>,
}

impl StoreCredentialsConfig {
    /// The files whose change changes them. The chain looks after its own.
    pub fn files(&self) -> Vec<PathBuf> {
        let sources = [&self.access_key, &self.secret_key, &self.session_token];
        sources.into_iter().flatten().flat_map(SecretSource::files).collect()
    }

    /// Reads files and variables. Nobody is asked. `region`: that of the store.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build(self, region: &str) -> Result<StoreCredentials, String> {
        let keys = [
            ("access_key", self.access_key.is_some()),
            ("secret_key", self.secret_key.is_some()),
            ("session_token", self.session_token.is_some()),
        ];
        if self.chain {
            return match keys.into_iter().find(|(_, there)| *there) {
                Some((key, _)) => Err(format!(
                    "{key}: the value (not shown) can't stand beside chain = true, which finds it. Remove one of the two"
                )),
                None => chained(self.profile, self.assume_role, region),
            };
        }
        let only_chained = [
            ("profile", self.profile.as_ref()),
            ("assume_role.role_arn", self.assume_role.as_ref().map(|role| &role.role_arn)),
        ];
        if let Some((key, Some(value))) = only_chained.into_iter().find(|(_, value)| value.is_some()) {
            return Err(format!(
                "{key}: '{value}' is for AWS's chain alone. Write chain = true instead of access_key and secret_key, or \
                 remove it"
            ));
        }
        let needed = |key: &str, source: Option<SecretSource>| {
            source.ok_or_else(|| format!("{key}: missing. Add it, or write chain = true for AWS's chain"))
        };
        let config = CredentialsConfig {
            access_key: needed("access_key", self.access_key)?,
            secret_key: needed("secret_key", self.secret_key)?,
            session_token: self.session_token,
        };
        config.build().map(StoreCredentials::Fixed)
    }
}

#[cfg(feature = "aws")]
fn chained(
    profile: Option<String>,
    assume_role: Option<RoleConfig>,
    region: &str,
) -> Result<StoreCredentials, String> {
    let fallback_region = Some(region.to_owned());
    let access = AccessConfig { profile, assume_role, fallback_region, ..AccessConfig::default() };
    access.build().map(Renewed::new).map(StoreCredentials::Chain)
}

#[cfg(not(feature = "aws"))]
fn chained(_: Option<String>, _: Option<RoleConfig>, _: &str) -> Result<StoreCredentials, String> {
    Err("chain: 'true', and this s3veil was built without it. Take a full build, add --features aws, or write access_key \
         and secret_key"
        .into())
}

/// What signs.
pub(super) enum StoreCredentials {
    /// As the configuration has them.
    Fixed(Credentials),
    /// As AWS's chain has them now.
    #[cfg(feature = "aws")]
    Chain(Renewed),
}

impl StoreCredentials {
    /// Whether they are not in the configuration.
    pub(super) fn is_chain(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// Those for a request. The chain may have to be asked.
    ///
    /// Errors: why there are none, and the remedy.
    pub(super) async fn get(&self) -> Result<ForRequest<'_>, String> {
        match self {
            Self::Fixed(credentials) => Ok(ForRequest::Fixed(credentials)),
            #[cfg(feature = "aws")]
            Self::Chain(renewed) => renewed.get().await.map(ForRequest::Chain),
        }
    }
}

/// Credentials as a request needs them.
pub(super) enum ForRequest<'a> {
    Fixed(&'a Credentials),
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only AWS's chain makes these"))]
    Chain(Arc<Credentials>),
}

impl Deref for ForRequest<'_> {
    type Target = Credentials;

    fn deref(&self) -> &Credentials {
        match self {
            Self::Fixed(credentials) => credentials,
            Self::Chain(credentials) => credentials,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> Result<StoreCredentials, String> {
        toml::from_str::<StoreCredentialsConfig>(text).unwrap().build("us-east-1")
    }

    #[test]
    fn each_mistake_names_key_value_and_remedy() {
        for (text, parts) in [
            ("", &["access_key: missing", "chain = true"][..]),
            ("access_key = 'a'", &["secret_key: missing", "Add it"]),
            ("chain = false\nsecret_key = 'hidden'", &["access_key: missing"]),
            ("chain = true\naccess_key = 'hidden'", &["access_key: the value (not shown)", "Remove one"]),
            ("chain = true\nsession_token = 'hidden'", &["session_token: the value", "Remove one"]),
            ("access_key = 'a'\nsecret_key = 'hidden'\nprofile = 'ops'", &["profile: 'ops'", "chain = true"]),
            ("assume_role = { role_arn = 'r' }", &["assume_role.role_arn: 'r'", "chain = true"]),
        ] {
            let why = build(text).err().unwrap();
            assert!(parts.iter().all(|part| why.contains(part)) && !why.contains("hidden"), "{why}");
        }
        let why = toml::from_str::<StoreCredentialsConfig>("chian = true").unwrap_err().to_string();
        assert!(why.contains("`chian`") && why.contains("`chain`"), "{why}");
    }

    #[cfg(feature = "aws")]
    #[test]
    fn the_chain_is_not_asked_before_it_is_needed() {
        let role = "chain = true\nprofile = 'p'\nassume_role = { role_arn = 'arn:aws:iam::1:role/r', external_id = 'x' }";
        assert!(matches!(build(role), Ok(StoreCredentials::Chain(_))));
        let why = build("chain = true\nassume_role = { role_arn = 'r' }").err().unwrap();
        assert!(why.contains("assume_role.role_arn: 'r' is not a role. Write arn:"), "{why}");
    }

    #[cfg(not(feature = "aws"))]
    #[test]
    fn a_build_without_the_chain_says_so() {
        let why = build("chain = true").err().unwrap();
        assert!(why.contains("chain: 'true'") && why.contains("--features aws"), "{why}");
    }
}
