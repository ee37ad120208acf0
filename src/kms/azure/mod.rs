//! Azure: Key Vault and Managed HSM.
//!
//! Two kinds on Azure's own crates. `azure-keys` asks it to wrap DEKs with keys that never leave it (`keys`);
//! `azure-secrets` keeps EKs in its secrets as MinIO KES does (`secrets`). The crates do the protocol; HTTP is s3veil's
//! (`transport`), and each call is one attempt.

mod credential;
mod error;
mod keys;
mod secrets;
mod transport;
mod vault;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::http::{ClientOptions, RetryOptions, Transport as Http};
use serde::Deserialize;

use super::secrets::SecretKms;
use super::{ConfigError, EkName, Error, Kms};
use crate::secret::SecretSource;
use credential::{Credential, LoginConfig};
use keys::{AzureKeys, NewKey};
use secrets::AzureSecrets;
use transport::Transport;
use vault::Vault;

pub use credential::Auth;

/// How often Azure is asked again while it still deletes, purges or recovers.
const TRIES: usize = 30;

/// How long it is given in between.
const PAUSE: Duration = Duration::from_millis(500);

/// A vault or HSM as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureConfig {
    /// `https://NAME.vault.azure.net` or `https://NAME.managedhsm.azure.net`, or their like in another cloud.
    pub vault: String,
    /// Where a token comes from. Without it: an application if there is a `client_secret`, else what the machine has.
    pub auth: Option<Auth>,
    /// The tenant of the application.
    pub tenant_id: Option<String>,
    /// The application, or the user-assigned managed identity.
    pub client_id: Option<String>,
    /// The application's secret.
    pub client_secret: Option<SecretSource>,
    /// The file with the token of a workload identity, where the environment does not name it.
    pub federated_token_file: Option<PathBuf>,
    /// Who gives tokens, such as `https://login.microsoftonline.us`. Without it: the cloud of the vault's domain.
    pub authority: Option<String>,
    /// What tokens are for, where the vault's domain does not say it: `https://vault.azure.net`.
    pub audience: Option<String>,
    /// Roots to trust instead of the system's, in PEM, for the vault and the authority.
    pub ca_file: Option<PathBuf>,
    /// EKs whose name at Azure is another.
    #[serde(default)]
    pub keys: BTreeMap<EkName, String>,
    /// Whether deleting an EK also purges it, so that it cannot be recovered. For keys no, for secrets yes.
    pub purge: Option<bool>,
    /// The kind of key that is created: `RSA`, `RSA-HSM`, or `oct-HSM` in a Managed HSM.
    pub key_type: Option<String>,
    /// The size of the key that is created, in bits: 2048, 3072 or 4096 for RSA.
    pub key_size: Option<u32>,
}

impl AzureConfig {
    /// A KMS of Azure's keys. Azure is not contacted.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build_keys(self) -> Result<Box<dyn Kms>, ConfigError> {
        let purge = self.purge.unwrap_or(false);
        let (key_type, key_size) = (self.key_type.clone(), self.key_size);
        let account = self.account()?;
        let new = NewKey::parse(key_type.as_deref(), key_size, account.vault.is_hsm())?;
        Ok(Box::new(AzureKeys::new(account, new, purge)?))
    }

    /// A KMS on Azure's secrets. Azure is not contacted.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build_secrets(self) -> Result<Box<dyn Kms>, ConfigError> {
        for (key, is_set) in [("key_type", self.key_type.is_some()), ("key_size", self.key_size.is_some())] {
            if is_set {
                return Err(format!("{key}: only for kind = \"azure-keys\". Remove it").into());
            }
        }
        let purge = self.purge.unwrap_or(true);
        let account = self.account()?;
        if account.vault.is_hsm() {
            let vault = &account.vault.origin;
            return Err(format!(
                "vault: '{vault}' is a Managed HSM, which keeps no secrets. Name a Key Vault"
            )
            .into());
        }
        Ok(Box::new(SecretKms::new(AzureSecrets::new(account, purge)?)))
    }

    fn account(self) -> Result<Account, String> {
        let cloud = match &self.authority {
            Some(text) => {
                let mut custom = CustomConfiguration::default();
                custom.authority_host =
                    vault::origin("authority", text, "https://login.microsoftonline.com")?;
                Some(custom.into())
            }
            None => cloud(&self.vault),
        };
        let vault = Vault::new(&self.vault, self.audience, self.keys)?;
        let transport = Transport::new(self.ca_file)?;
        let options = |transport| ClientOptions {
            transport: Some(Http::new(Arc::new(transport))),
            // `Keys` asks again; here it would only be waited for.
            retry: RetryOptions::none(),
            cloud: cloud.clone().map(Arc::new),
            ..ClientOptions::default()
        };
        let login = LoginConfig {
            auth: self.auth,
            tenant_id: self.tenant_id,
            client_id: self.client_id,
            client_secret: self.client_secret,
            federated_token_file: self.federated_token_file,
        };
        let scope = format!("{}/.default", vault.audience);
        let credential = Arc::new(login.build(scope, options(transport.clone()))?);
        let options = options(transport.only(&vault.origin, credential.clone()));
        Ok(Account { vault, credential, options })
    }
}

/// The cloud that a vault outside the public one is in. In the public one the authority may come from the environment.
fn cloud(vault: &str) -> Option<CloudConfiguration> {
    let vault = vault.trim_end_matches('/');
    if vault.ends_with(".azure.cn") {
        Some(CloudConfiguration::AzureChina)
    } else if vault.ends_with(".usgovcloudapi.net") {
        Some(CloudConfiguration::AzureGovernment)
    } else {
        None
    }
}

/// A vault, and s3veil's way into it.
struct Account {
    vault: Vault,
    credential: Arc<Credential>,
    options: ClientOptions,
}

/// Does what Azure may not be ready for: it deletes, purges and recovers in its own time.
async fn patiently<F>(mut attempt: impl FnMut() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    for _ in 1..TRIES {
        match attempt().await {
            Err(Error::NoSuchKey(_) | Error::Unavailable(_)) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    attempt().await
}
