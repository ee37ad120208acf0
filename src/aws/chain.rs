//! Credentials and region for AWS's own clients: from the configuration, or from wherever AWS's chain finds them.
//!
//! The chain is AWS's: environment, profile, web identity (IRSA), container (ECS, EKS Pod Identity), instance (IMDSv2).
//! It reads the environment and asks the network, so it is started at the first call and not when s3veil is built.

use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::meta::ProviderChainError;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::Mutex;

use super::credentials::{CredentialsConfig, RoleConfig, WatchedCredentials};
use crate::net::among;

/// The name of s3veil in AWS's logs, and of its sessions in a role.
const NAME: &str = "s3veil";

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How s3veil signs in to AWS, as typed.
#[derive(Debug, Default)]
pub struct AccessConfig {
    /// The region. The chain's own if left out.
    pub region: Option<String>,
    /// The region where the chain has none either.
    pub fallback_region: Option<String>,
    /// The profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// Credentials to use instead of the chain's.
    pub credentials: Option<CredentialsConfig>,
    /// A role to take on with whatever was found.
    pub assume_role: Option<RoleConfig>,
}

/// How s3veil signs in to AWS.
#[derive(Debug)]
pub struct Access {
    region: Option<String>,
    fallback_region: Option<String>,
    profile: Option<String>,
    credentials: Option<Arc<WatchedCredentials>>,
    role: Option<RoleConfig>,
}

impl AccessConfig {
    /// Reads the credentials' files. Nobody is asked.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Access, String> {
        if let (Some(_), Some(profile)) = (&self.credentials, &self.profile) {
            return Err(format!(
                "profile: '{profile}' and credentials can't both be used. Remove one of the two"
            ));
        }
        if self.credentials.is_some() && self.region.is_none() {
            return Err("region: missing, and needed beside credentials. Write region = \"...\"".into());
        }
        if let Some(RoleConfig { role_arn, .. }) = &self.assume_role
            && !(role_arn.starts_with("arn:") && role_arn.contains(":role/"))
        {
            return Err(format!(
                "assume_role.role_arn: '{role_arn}' is not a role. Write arn:aws:iam::ACCOUNT:role/NAME"
            ));
        }
        let credentials = self.credentials.map(CredentialsConfig::watch).transpose();
        let credentials = credentials.map_err(|why| format!("credentials.{why}"))?.map(Arc::new);
        Ok(Access {
            region: self.region,
            fallback_region: self.fallback_region,
            profile: self.profile,
            credentials,
            role: self.assume_role,
        })
    }
}

impl Access {
    /// Starts the chain: finds the region and where credentials come from, and fetches none yet.
    ///
    /// Clients made with it ask once per call, and wait as long as they are let.
    ///
    /// Errors: a message, when there is no region.
    async fn load(&self) -> Result<SdkConfig, String> {
        let found = self.find(self.region.as_deref()).await;
        let found = match &self.fallback_region {
            // What gives credentials has been told a region, too, so it is made anew.
            Some(region) if found.region().is_none() => self.find(Some(region)).await,
            _ => found,
        };
        if found.region().is_none() {
            return Err("no region is known. Write region = \"...\", or set AWS_REGION".into());
        }
        let Some(role) = &self.role else { return Ok(found) };
        let mut taken = AssumeRoleProvider::builder(&role.role_arn).session_name(NAME).configure(&found);
        if let Some(id) = &role.external_id {
            taken = taken.external_id(id);
        }
        let taken = SharedCredentialsProvider::new(taken.build().await);
        Ok(found.into_builder().credentials_provider(taken).build())
    }

    /// The same without the role, and perhaps without a region.
    async fn find(&self, region: Option<&str>) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .app_name(AppName::new(NAME).expect("the name is valid"));
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(credentials) = &self.credentials {
            loader =
                loader.credentials_provider(SharedCredentialsProvider::from(credentials.clone() as Arc<_>));
            if self.role.is_none() {
                // They cost a look at their files, so that a change is seen at once.
                loader = loader.identity_cache(IdentityCache::no_cache());
            }
        }
        loader.load().await
    }
}

/// A client of one of AWS's services, made at its first use.
pub struct Lazy<C> {
    access: Access,
    make: Box<dyn Fn(&SdkConfig) -> C + Send + Sync>,
    made: Mutex<Option<C>>,
}

impl<C: Clone> Lazy<C> {
    /// A client that `make` makes, once there is a region.
    pub fn new(access: Access, make: impl Fn(&SdkConfig) -> C + Send + Sync + 'static) -> Self {
        Self { access, make: Box::new(make), made: Mutex::new(None) }
    }

    /// The client. All who wait for it share one start of the chain.
    ///
    /// Errors: a message, when there is no region; the next call looks again.
    pub async fn get(&self) -> Result<C, String> {
        let mut made = self.made.lock().await;
        if let Some(client) = &*made {
            return Ok(client.clone());
        }
        let client = (self.make)(&self.access.load().await?);
        Ok(made.insert(client).clone())
    }

    /// Forgets the client and the credentials that it has kept: they were refused. The next call reads the chain's
    /// files anew.
    pub async fn forget(&self) {
        *self.made.lock().await = None;
    }
}

/// Whether credentials may be there at another time: the chain takes a metadata service that it can't reach for one that is
/// not there.
pub fn metadata_is_away(why: &CredentialsError) -> bool {
    let mut asked = among::<ProviderChainError<CredentialsError>>(why).flat_map(ProviderChainError::attempts);
    asked.any(|attempt| has_no_connection(attempt.error()))
}

/// Whether a failure is that of a connection.
pub fn has_no_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    among::<ConnectorError>(error).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Option<CredentialsConfig> {
        Some(CredentialsConfig { access_key: "a".into(), secret_key: "hidden".into(), session_token: None })
    }

    #[test]
    fn each_mistake_names_key_value_and_remedy() {
        let region = || Some("eu-central-1".to_owned());
        let profile = Some("ops".to_owned());
        let role = |arn: &str| Some(RoleConfig { role_arn: arn.into(), external_id: None });
        for (config, parts) in [
            (
                AccessConfig { credentials: credentials(), region: region(), profile, ..Default::default() },
                &["profile: 'ops'", "Remove one"][..],
            ),
            (
                AccessConfig { credentials: credentials(), ..Default::default() },
                &["region: missing", "Write"],
            ),
            (
                AccessConfig { assume_role: role("s3veil"), ..Default::default() },
                &["assume_role.role_arn: 's3veil'", "arn:aws:iam::ACCOUNT:role/NAME"],
            ),
        ] {
            let error = config.build().unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
        let good = AccessConfig {
            credentials: credentials(),
            region: region(),
            assume_role: role("arn:aws:iam::111122223333:role/s3veil"),
            ..Default::default()
        };
        let access = good.build().unwrap();
        assert!(!format!("{access:?}").contains("hidden"));
    }
}
