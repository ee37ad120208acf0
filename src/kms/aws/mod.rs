//! Amazon's two: AWS KMS, whose keys never leave it, and AWS Secrets Manager, whose secrets are the EKs.
//!
//! Both are asked with AWS's own clients, one attempt per call and without their timeouts and retries: those are
//! `Keys`'. What AWS's clients copy of a key on its way can't be wiped from here; what they hand over is.

mod error;
mod id;
mod keys;
mod secrets;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};

use aws_config::SdkConfig;
use aws_sdk_kms::config::SharedHttpClient;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;
use serde::Deserialize;
use time::OffsetDateTime;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::secrets::SecretKms;
use super::{ConfigError, EkName, Kms, rest};
use crate::aws::chain::{AccessConfig, Lazy};
use crate::aws::credentials::{CredentialsConfig, RoleConfig};
use crate::net;
use error::Failure;
use id::EkKeys;

/// How many days AWS keeps what was deleted, at least and at most. Source: ScheduleKeyDeletion, DeleteSecret.
const WINDOW_DAYS: std::ops::RangeInclusive<i32> = 7..=30;

/// AWS KMS as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKmsConfig {
    /// The region. AWS's chain finds one if left out.
    pub region: Option<String>,
    /// Where the service is, if not where AWS has it: a VPC endpoint, an emulator.
    pub endpoint: Option<String>,
    /// Roots to trust at the endpoint instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// Credentials to use instead of those that AWS's chain finds.
    pub credentials: Option<CredentialsConfig>,
    /// A role to take on.
    pub assume_role: Option<RoleConfig>,
    /// Keys of EKs, where they are not `alias/EK`.
    #[serde(default)]
    pub keys: HashMap<EkName, id::KeysConfig>,
    /// Days for which AWS keeps a deleted key.
    pub pending_window_in_days: Option<i32>,
}

/// AWS Secrets Manager as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsSecretsConfig {
    /// The region. AWS's chain finds one if left out.
    pub region: Option<String>,
    /// Where the service is, if not where AWS has it: a VPC endpoint, an emulator.
    pub endpoint: Option<String>,
    /// Roots to trust at the endpoint instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// Credentials to use instead of those that AWS's chain finds.
    pub credentials: Option<CredentialsConfig>,
    /// A role to take on.
    pub assume_role: Option<RoleConfig>,
    /// What stands before an EK's name in its secret's.
    #[serde(default)]
    pub prefix: String,
    /// The key in AWS KMS under which new secrets are kept: its ARN, id or alias. The account's own if left out.
    pub kms_key_id: Option<String>,
    /// Days after which a disabled EK is gone.
    pub recovery_window_in_days: Option<i32>,
}

impl AwsKmsConfig {
    /// Reads files, asks nobody.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        let access = AccessConfig {
            region: self.region,
            fallback_region: None,
            profile: self.profile,
            credentials: self.credentials,
            assume_role: self.assume_role,
        };
        let place = Place::new(self.endpoint, self.ca_file.as_deref())?;
        let service = Service(Lazy::new(access.build()?, move |found: &SdkConfig| {
            let mut config = aws_sdk_kms::config::Builder::from(found);
            config.set_endpoint_url(place.endpoint.clone());
            if let Some(http) = &place.http {
                config.set_http_client(Some(http.clone()));
            }
            aws_sdk_kms::Client::from_conf(config.build())
        }));
        let keys = self.keys.into_iter().map(|(ek, config)| {
            let keys = EkKeys::parse(config).map_err(|why| format!("keys.{ek}: {why}"))?;
            Ok((ek, keys))
        });
        Ok(Box::new(keys::AwsKms {
            service,
            keys: keys.collect::<Result<_, String>>()?,
            window: window("pending_window_in_days", self.pending_window_in_days)?,
        }))
    }
}

impl AwsSecretsConfig {
    /// Reads files, asks nobody.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        let access = AccessConfig {
            region: self.region,
            fallback_region: None,
            profile: self.profile,
            credentials: self.credentials,
            assume_role: self.assume_role,
        };
        let place = Place::new(self.endpoint, self.ca_file.as_deref())?;
        let service = Service(Lazy::new(access.build()?, move |found: &SdkConfig| {
            let mut config = aws_sdk_secretsmanager::config::Builder::from(found);
            config.set_endpoint_url(place.endpoint.clone());
            if let Some(http) = &place.http {
                config.set_http_client(Some(http.clone()));
            }
            aws_sdk_secretsmanager::Client::from_conf(config.build())
        }));
        Ok(Box::new(SecretKms::new(secrets::AwsSecrets {
            service,
            prefix: prefix(self.prefix)?,
            kms_key_id: self.kms_key_id,
            window: window("recovery_window_in_days", self.recovery_window_in_days)?,
        })))
    }
}

/// Source: CreateSecret, `Name`.
fn prefix(prefix: String) -> Result<String, String> {
    let clean = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    if prefix.len() > 256 || !prefix.bytes().all(clean) {
        return Err(format!(
            "prefix: '{prefix}' can't begin a secret's name. Use letters, digits and /_+=.@-"
        ));
    }
    Ok(prefix)
}

fn window(key: &str, days: Option<i32>) -> Result<i32, String> {
    let days = days.unwrap_or(*WINDOW_DAYS.end());
    if !WINDOW_DAYS.contains(&days) {
        return Err(format!("{key}: '{days}' is not possible at AWS. Write 7 to 30"));
    }
    Ok(days)
}

/// Where a service is, if not where AWS has it.
struct Place {
    /// None: AWS's own for the region, whatever the environment says. A variable that was set for an S3 store must not
    /// send keys there.
    endpoint: Option<String>,
    http: Option<SharedHttpClient>,
}

impl Place {
    fn new(endpoint: Option<String>, ca_file: Option<&Path>) -> Result<Self, String> {
        let endpoint = endpoint.map(|text| rest::endpoint(&text)).transpose()?;
        Ok(Self { endpoint, http: ca_file.map(trusting).transpose()? })
    }
}

/// A client of HTTPS that trusts the roots of this file alone.
fn trusting(ca_file: &Path) -> Result<SharedHttpClient, String> {
    // AWS's client would only say at its first use that there is no root in the file.
    net::tls(Some(ca_file), None)?;
    let wrong = |why: &dyn std::fmt::Display| {
        format!("ca_file: '{}' can't be used: {why}. Give a file of PEM certificates", ca_file.display())
    };
    let roots = std::fs::read(ca_file).map_err(|why| wrong(&why))?;
    let context = tls::TlsContext::builder()
        .with_trust_store(tls::TrustStore::empty().with_pem_certificate(roots))
        .build()
        .map_err(|why| wrong(&why))?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    Ok(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https())
}

/// One of AWS's services, by its client.
struct Service<C>(Lazy<C>);

impl<C: Clone> Service<C> {
    /// Asks once. Credentials that are refused are forgotten, so that the next call looks for new ones.
    async fn ask<T, E, F>(&self, question: impl FnOnce(C) -> F) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let client = self.0.get().await.map_err(Failure::no_region)?;
        // At the level `trace` AWS's clients log whole answers, DEKs and credentials in them.
        let unlogged = question(client).with_subscriber(NoSubscriber::default());
        let answer = unlogged.await.map_err(Failure::of);
        if answer.as_ref().is_err_and(Failure::blames_credentials) {
            self.0.forget().await;
        }
        answer
    }
}

fn moment(at: Option<&aws_sdk_kms::primitives::DateTime>) -> Option<OffsetDateTime> {
    at.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok())
}
