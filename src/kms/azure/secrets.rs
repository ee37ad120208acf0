//! EKs as Azure's secrets, laid out as MinIO KES does: one secret per EK, of which the first version counts.
//!
//! Whoever may set secrets can add versions, but not put one before the first. So two that create an EK at once do not
//! overwrite each other: the one whose version is not the first is told that the EK exists. Azure tells times in whole
//! seconds, and of two versions of one second the first is that with the lesser id, which is random: so `create` looks
//! again when that second is over, and nothing can come before its version any more.

use std::time::Duration;

use azure_core::http::RequestContent;
use azure_security_keyvault_secrets::models::{
    SecretAttributes, SecretClientGetSecretOptions, SecretClientUpdateSecretPropertiesOptions,
    SecretProperties, SetSecretParameters, UpdateSecretPropertiesParameters,
};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Account, error, patiently};
use crate::kms::secrets::SecretStore;
use crate::kms::{Answer, ConfigError, EkInfo, EkName, Error, State};

const KIND: &str = "azure-secrets";
const SECRETS: &str = "secrets";

/// Azure's secrets as a store of EKs.
pub(super) struct AzureSecrets {
    client: SecretClient,
    account: Account,
    purge: bool,
}

/// One version of a secret, the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    created: OffsetDateTime,
    id: String,
    enabled: bool,
}

/// How long until the second in which Azure answered has surely passed there, with room for clocks that differ.
///
/// It is waited for, as nothing can be asked that ends with it; only an administrator's `key create` does.
const SECOND: Duration = Duration::from_millis(1500);

impl AzureSecrets {
    pub(super) fn new(account: Account, purge: bool) -> Result<Self, ConfigError> {
        let options = SecretClientOptions {
            client_options: account.options.clone(),
            // Narrower than the crate's own check: one audience, named or known by the vault's domain.
            verify_challenge_resource: Some(false),
            ..SecretClientOptions::default()
        };
        let client = SecretClient::new(&account.vault.origin, account.credential.clone(), Some(options))
            .map_err(|why| format!("vault: {why}"))?;
        Ok(Self { client, account, purge })
    }

    fn version(&self, name: &str, id: Option<&str>) -> Result<String, Error> {
        self.account.vault.version(SECRETS, name, id)
    }

    /// The version that counts.
    async fn first(&self, ek: &EkName) -> Result<Version, Error> {
        let name = self.account.vault.name(ek)?;
        let pages = self.client.list_secret_properties_versions(name, None).map_err(error::about(ek))?;
        let listed: Vec<SecretProperties> = pages.try_collect().await.map_err(error::about(ek))?;
        let versions = listed.into_iter().map(|item| {
            let attributes = item.attributes.unwrap_or_default();
            let id = self.version(name, item.id.as_deref())?;
            // Without it, which one is the first would be a guess, and a wrong guess another EK.
            let created = attributes.created.ok_or_else(|| {
                Error::Malformed(format!(
                    "Azure does not say when version {id} of secret '{name}' was created"
                ))
            })?;
            Ok(Version { created, id, enabled: attributes.enabled.unwrap_or(true) })
        });
        let versions = versions.collect::<Result<Vec<_>, Error>>()?;
        versions.into_iter().min().ok_or_else(|| Error::NoSuchKey(ek.clone()))
    }

    async fn read(&self, ek: &EkName) -> Result<Zeroizing<Vec<u8>>, Error> {
        let name = self.account.vault.name(ek)?;
        let first = self.first(ek).await?;
        if !first.enabled {
            return Err(Error::Disabled(ek.clone()));
        }
        let options =
            SecretClientGetSecretOptions { secret_version: Some(first.id.clone()), ..Default::default() };
        let answer = self.client.get_secret(name, Some(options)).await;
        let secret = answer.and_then(|answer| answer.into_model()).map_err(error::about(ek))?;
        let value = Zeroizing::new(secret.value.unwrap_or_default().into_bytes());
        if self.version(name, secret.id.as_deref())? != first.id {
            return Err(Error::Malformed(format!("Azure answers another version of secret '{name}'")));
        }
        Ok(value)
    }

    async fn make(&self, ek: &EkName, secret: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        match self.first(ek).await {
            Ok(_) => return Err(Error::Exists(ek.clone())),
            Err(Error::NoSuchKey(_)) => {}
            Err(why) => return Err(why),
        }
        let text = str::from_utf8(&secret).expect("a stored EK is base64").to_owned();
        let new = SetSecretParameters { value: Some(text), ..SetSecretParameters::default() };
        let new: RequestContent<_> = new.try_into().map_err(|why| error::of_call(&why))?;
        let answer = self.client.set_secret(name, new, None).await;
        let made = answer.and_then(|answer| answer.into_model()).map_err(error::about(ek))?;
        let ours = self.version(name, made.id.as_deref())?;
        self.must_be_first(ek, &ours).await?;
        tokio::time::sleep(SECOND).await;
        self.must_be_first(ek, &ours).await
    }

    async fn must_be_first(&self, ek: &EkName, version: &str) -> Result<(), Error> {
        if self.first(ek).await?.id == version { Ok(()) } else { Err(Error::Exists(ek.clone())) }
    }

    async fn names(&self) -> Result<Vec<EkName>, Error> {
        let pages = self.client.list_secret_properties(None).map_err(|why| error::of_call(&why))?;
        let listed: Vec<SecretProperties> = pages.try_collect().await.map_err(|why| error::of_call(&why))?;
        let mut names = Vec::new();
        for item in listed.into_iter().filter(|item| item.managed != Some(true)) {
            names.extend(self.account.vault.eks(SECRETS, item.id.as_deref())?);
        }
        names.sort();
        Ok(names)
    }

    async fn info(&self, ek: &EkName) -> Result<EkInfo, Error> {
        match self.first(ek).await {
            Ok(first) => {
                let state = if first.enabled { State::Enabled } else { State::Disabled };
                Ok(EkInfo { created: Some(first.created), ..EkInfo::new(ek.clone(), state) })
            }
            Err(Error::NoSuchKey(_)) => {
                let name = self.account.vault.name(ek)?;
                self.client.get_deleted_secret(name, None).await.map_err(error::about(ek))?;
                Ok(EkInfo::new(ek.clone(), State::PendingDeletion))
            }
            Err(why) => Err(why),
        }
    }

    async fn set_enabled(&self, ek: &EkName, enabled: bool) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        let first = self.first(ek).await?;
        let attributes = SecretAttributes { enabled: Some(enabled), ..SecretAttributes::default() };
        let change =
            UpdateSecretPropertiesParameters { secret_attributes: Some(attributes), ..Default::default() };
        let change: RequestContent<_> = change.try_into().map_err(|why| error::of_call(&why))?;
        let options = SecretClientUpdateSecretPropertiesOptions {
            secret_version: Some(first.id),
            ..Default::default()
        };
        let answer = self.client.update_secret_properties(name, change, Some(options)).await;
        answer.map(drop).map_err(error::about(ek))
    }

    async fn unlock(&self, ek: &EkName) -> Result<(), Error> {
        match self.set_enabled(ek, true).await {
            Err(Error::NoSuchKey(_)) => {}
            done => return done,
        }
        let name = self.account.vault.name(ek)?;
        self.client.recover_deleted_secret(name, None).await.map_err(error::about(ek))?;
        patiently(|| self.set_enabled(ek, true)).await
    }

    async fn erase(&self, ek: &EkName) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        let purge = || async {
            self.client.purge_deleted_secret(name, None).await.map(drop).map_err(error::about(ek))
        };
        match self.client.delete_secret(name, None).await.map(drop).map_err(error::about(ek)) {
            // Deleted before, perhaps: what is left is to purge it.
            Err(Error::NoSuchKey(_)) if self.purge => purge().await,
            Ok(()) if self.purge => patiently(purge).await,
            done => done,
        }
    }
}

impl SecretStore for AzureSecrets {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(self.read(name))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        Box::pin(self.make(name, secret))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.names())
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.info(name))
    }

    fn enable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.unlock(name))
    }

    fn disable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.set_enabled(name, false))
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.erase(name))
    }
}
