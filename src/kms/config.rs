//! The `[kms.NAME]` sections of the configuration.

use std::collections::HashMap;

use serde::Deserialize;

use super::Kms;
use super::ciphertrust::CipherTrustConfig;
use super::kmip::KmipConfig;
use super::local::LocalConfig;

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
    /// A KMIP server.
    Kmip(KmipConfig),
    /// Thales CipherTrust Manager, which does the cryptography.
    #[serde(rename = "ciphertrust")]
    CipherTrust(CipherTrustConfig),
    /// Secrets in Thales CipherTrust Manager, or in a Gemalto KeySecure, laid out as MinIO KES does.
    #[serde(rename = "ciphertrust-secrets")]
    CipherTrustSecrets(CipherTrustConfig),
}

/// One address, or several ways to the same KMS.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an address, or a list of addresses")]
pub(super) enum Endpoints {
    One(String),
    Several(Vec<String>),
}

impl From<Endpoints> for Vec<String> {
    fn from(endpoints: Endpoints) -> Self {
        match endpoints {
            Endpoints::One(endpoint) => vec![endpoint],
            Endpoints::Several(endpoints) => endpoints,
        }
    }
}

impl Config {
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
