//! The `[kms.NAME]` sections of the configuration.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::Kms;
#[cfg(feature = "aws")]
use super::aws::{AwsKmsConfig, AwsSecretsConfig};
#[cfg(feature = "azure")]
use super::azure::AzureConfig;
use super::ciphertrust::CipherTrustConfig;
#[cfg(feature = "google")]
use super::google::{GoogleKmsConfig, GoogleSecretManagerConfig};
use super::kes::KesConfig;
use super::kes::files::KesFilesConfig;
use super::kmip::KmipConfig;
use super::local::LocalConfig;
use super::vault::{KvConfig, TransitConfig};

#[cfg(not(feature = "azure"))]
use super::not_built::NotBuilt as AzureConfig;
#[cfg(not(feature = "aws"))]
use super::not_built::{NotBuilt as AwsKmsConfig, NotBuilt as AwsSecretsConfig};
#[cfg(not(feature = "google"))]
use super::not_built::{NotBuilt as GoogleKmsConfig, NotBuilt as GoogleSecretManagerConfig};

/// The KMSs by name, as typed. The name stands in every envelope.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Config(HashMap<String, KmsConfig>);

/// One KMS as typed.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum KmsConfig {
    /// The embedded keystore.
    Local(LocalConfig),
    /// MinIO KES.
    Kes(KesConfig),
    /// The directory of a KES's own key store.
    KesFiles(KesFilesConfig),
    /// HashiCorp Vault or OpenBao: the transit engine.
    VaultTransit(TransitConfig),
    /// HashiCorp Vault or OpenBao: a KV engine.
    VaultKv(KvConfig),
    /// Google Cloud KMS.
    GoogleKms(GoogleKmsConfig),
    /// Google Secret Manager, which keeps EKs as MinIO KES does.
    GoogleSecretManager(GoogleSecretManagerConfig),
    /// AWS KMS.
    AwsKms(AwsKmsConfig),
    /// AWS Secrets Manager.
    AwsSecretsManager(AwsSecretsConfig),
    /// Azure Key Vault or Managed HSM: keys that never leave it.
    AzureKeys(AzureConfig),
    /// Azure Key Vault: secrets, as MinIO KES keeps them.
    AzureSecrets(AzureConfig),
    /// A KMIP server.
    Kmip(KmipConfig),
    /// Thales CipherTrust Manager, which does the cryptography.
    #[serde(rename = "ciphertrust")]
    CipherTrust(CipherTrustConfig),
    /// Secrets in Thales CipherTrust Manager, or in a Gemalto KeySecure, laid out as MinIO KES does.
    #[serde(rename = "ciphertrust-secrets")]
    CipherTrustSecrets(CipherTrustConfig),
}

impl Config {
    /// The KMSs' names.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The files that KMSs are made from, read once. All others are read again whenever they have changed.
    pub fn files(&self) -> Vec<PathBuf> {
        let once = |kms: &KmsConfig| match kms {
            KmsConfig::Local(config) => config.master_key.files(),
            _ => Vec::new(),
        };
        self.0.values().flat_map(once).collect()
    }

    /// Builds every KMS. None is contacted.
    ///
    /// Errors: a message that names the key and the remedy.
    pub fn build(self) -> Result<HashMap<String, Box<dyn Kms>>, String> {
        if self.0.is_empty() {
            return Err("kms: none configured. Add [kms.NAME], for instance with kind = \"local\"".into());
        }
        self.0.into_iter().map(build).collect()
    }
}

fn build((name, config): (String, KmsConfig)) -> Result<(String, Box<dyn Kms>), String> {
    let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !clean || name.len() > 64 {
        return Err(format!("kms.{name}: not a name. Use up to 64 letters, digits, '-' and '_'"));
    }
    let kms = match config {
        KmsConfig::Local(config) => config.build(),
        KmsConfig::Kes(config) => config.build(),
        KmsConfig::KesFiles(config) => config.build(),
        KmsConfig::VaultTransit(config) => config.build(),
        KmsConfig::VaultKv(config) => config.build(),
        KmsConfig::GoogleKms(config) => config.build(),
        KmsConfig::GoogleSecretManager(config) => config.build(),
        KmsConfig::AwsKms(config) => config.build(),
        KmsConfig::AwsSecretsManager(config) => config.build(),
        KmsConfig::AzureKeys(config) => config.build_keys(),
        KmsConfig::AzureSecrets(config) => config.build_secrets(),
        KmsConfig::Kmip(config) => config.build(),
        KmsConfig::CipherTrust(config) => config.build(),
        KmsConfig::CipherTrustSecrets(config) => config.build_secrets(),
    };
    let kms = kms.map_err(|why| match std::error::Error::source(&why) {
        Some(cause) => format!("kms.{name}: {why}: {cause}"),
        None => format!("kms.{name}: {why}"),
    })?;
    Ok((name, kms))
}
