//! EKs as Azure's keys: s3veil makes a DEK, Azure wraps and unwraps it.
//!
//! A wrapped DEK does not say which version of the key wrapped it, so the envelope does, and unwrapping names it. There
//! is no associated data: only the KEK binds a DEK to its context. A key has many versions, each with its own `enabled`,
//! and Azure goes on wrapping with a disabled one: so `generate` reads the key first, and `disable` reaches every version.

use azure_core::http::{Pager, RequestContent};
use azure_security_keyvault_keys::models::{
    CreateKeyParameters, EncryptionAlgorithm, Key, KeyAttributes, KeyClientUpdateKeyPropertiesOptions,
    KeyClientWrapKeyOptions, KeyOperation, KeyOperationParameters, KeyProperties, KeyType,
    UpdateKeyPropertiesParameters,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use futures_util::TryStreamExt as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::vault::is_version;
use super::{Account, error, patiently};
use crate::kms::secrets::random;
use crate::kms::{
    Answer, ConfigError, Context, DataKey, EkInfo, EkName, Error, Kms, State, WrappedDek, dek_from_answer,
};
use crate::seal::Dek;

const KIND: &str = "azure-keys";
const KEYS: &str = "keys";

/// A KMS of Azure's keys.
pub(super) struct AzureKeys {
    client: KeyClient,
    account: Account,
    new: NewKey,
    purge: bool,
}

/// The key that `create` makes.
pub(super) struct NewKey {
    kind: KeyType,
    bits: i32,
}

impl NewKey {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn parse(kind: Option<&str>, bits: Option<u32>, hsm: bool) -> Result<Self, String> {
        let (kind, sizes): (_, &[u32]) = match kind.unwrap_or(if hsm { "oct-HSM" } else { "RSA" }) {
            "RSA" if !hsm => (KeyType::Rsa, &[2048, 3072, 4096]),
            "RSA-HSM" => (KeyType::RsaHsm, &[2048, 3072, 4096]),
            "oct-HSM" if hsm => (KeyType::OctHsm, &[256]),
            other => {
                let there = if hsm { "\"oct-HSM\" or \"RSA-HSM\"" } else { "\"RSA\" or \"RSA-HSM\"" };
                return Err(format!("key_type: '{other}' can't be used there. Write {there}"));
            }
        };
        let bits = bits.unwrap_or(sizes[0]);
        if !sizes.contains(&bits) {
            return Err(format!("key_size: {bits} is no size of such a key. Write one of {sizes:?}"));
        }
        Ok(Self { kind, bits: bits.cast_signed() })
    }
}

/// One version of a key.
struct Version {
    id: String,
    enabled: bool,
    created: Option<OffsetDateTime>,
}

impl AzureKeys {
    pub(super) fn new(account: Account, new: NewKey, purge: bool) -> Result<Self, ConfigError> {
        let options = KeyClientOptions {
            client_options: account.options.clone(),
            // Narrower than the crate's own check: one audience, named or known by the vault's domain.
            verify_challenge_resource: Some(false),
            ..KeyClientOptions::default()
        };
        let client = KeyClient::new(&account.vault.origin, account.credential.clone(), Some(options))
            .map_err(|why| format!("vault: {why}"))?;
        Ok(Self { client, account, new, purge })
    }

    /// The key in its current version, whose id is checked.
    async fn current(&self, ek: &EkName) -> Result<(Key, String), Error> {
        let name = self.account.vault.name(ek)?;
        let answer = self.client.get_key(name, None).await.and_then(|answer| answer.into_model());
        let key = answer.map_err(error::about(ek))?;
        let version = self.version(name, key.key.as_ref().and_then(|key| key.kid.as_deref()))?;
        Ok((key, version))
    }

    fn version(&self, name: &str, kid: Option<&str>) -> Result<String, Error> {
        self.account.vault.version(KEYS, name, kid)
    }

    /// Every version. Never empty.
    async fn versions(&self, ek: &EkName) -> Result<Vec<Version>, Error> {
        let name = self.account.vault.name(ek)?;
        let pages: Pager<_> =
            self.client.list_key_properties_versions(name, None).map_err(error::about(ek))?;
        let listed: Vec<KeyProperties> = pages.try_collect().await.map_err(error::about(ek))?;
        let versions = listed.into_iter().map(|item| {
            let attributes = item.attributes.unwrap_or_default();
            Ok(Version {
                id: self.version(name, item.kid.as_deref())?,
                enabled: attributes.enabled.unwrap_or(true),
                created: attributes.created,
            })
        });
        let versions = versions.collect::<Result<Vec<_>, Error>>()?;
        if versions.is_empty() { Err(Error::NoSuchKey(ek.clone())) } else { Ok(versions) }
    }

    async fn set_enabled(&self, ek: &EkName, enabled: bool) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        for version in self.versions(ek).await?.into_iter().filter(|version| version.enabled != enabled) {
            let attributes = KeyAttributes { enabled: Some(enabled), ..KeyAttributes::default() };
            let change =
                UpdateKeyPropertiesParameters { key_attributes: Some(attributes), ..Default::default() };
            let options =
                KeyClientUpdateKeyPropertiesOptions { key_version: Some(version.id), ..Default::default() };
            let change = content(change)?;
            self.client.update_key_properties(name, change, Some(options)).await.map_err(error::about(ek))?;
        }
        Ok(())
    }

    async fn wrap(&self, ek: &EkName) -> Result<DataKey, Error> {
        let name = self.account.vault.name(ek)?;
        let (key, version) = self.current(ek).await?;
        let algorithm = usable(ek, &key)?;
        let dek = random::<32>();
        let options = KeyClientWrapKeyOptions { key_version: Some(version.clone()), ..Default::default() };
        let asked = content(parameters(algorithm.clone(), dek.as_slice()))?;
        let answer = self.client.wrap_key(name, asked, Some(options)).await;
        let answer = answer.and_then(|answer| answer.into_model()).map_err(error::about(ek))?;
        if self.version(name, answer.kid.as_deref())? != version {
            return Err(Error::Malformed(format!("Azure wrapped with another version of key '{ek}'")));
        }
        let wrapped = answer.result.unwrap_or_default();
        if algorithm_of(&wrapped) != Some(algorithm) {
            return Err(Error::Malformed(format!("Azure answers a wrapped DEK of {} bytes", wrapped.len())));
        }
        Ok(DataKey { dek: Dek::from(*dek), wrapped: WrappedDek::new(wrapped), version: Some(version) })
    }

    async fn unwrap(&self, ek: &EkName, version: Option<&str>, wrapped: &WrappedDek) -> Result<Dek, Error> {
        let name = self.account.vault.name(ek)?;
        let not_ours =
            || Error::Malformed(format!("a DEK that is not wrapped by key '{ek}' in that version"));
        let version = version.filter(|version| is_version(version)).ok_or_else(not_ours)?;
        let algorithm = algorithm_of(wrapped.as_bytes()).ok_or_else(not_ours)?;
        let asked = content(parameters(algorithm, wrapped.as_bytes()))?;
        let answer = self.client.unwrap_key(name, version, asked, None).await;
        let answer = match answer.and_then(|answer| answer.into_model()).map_err(error::about(ek)) {
            // The version is not there: is the key?
            Err(Error::NoSuchKey(_)) => return self.current(ek).await.and(Err(not_ours())),
            Err(Error::Malformed(why)) => return Err(Error::Malformed(format!("{}: {why}", not_ours()))),
            other => other?,
        };
        let bytes = Zeroizing::new(answer.result.unwrap_or_default());
        if self.version(name, answer.kid.as_deref())? != version {
            return Err(Error::Malformed(format!("Azure unwrapped with another version of key '{ek}'")));
        }
        dek_from_answer(&bytes)
    }

    async fn make(&self, ek: &EkName) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        match self.current(ek).await {
            // A key that is created once more gets another version: the old ones stay, but that is `rotate`.
            Ok(_) => return Err(Error::Exists(ek.clone())),
            Err(Error::NoSuchKey(_)) => {}
            Err(why) => return Err(why),
        }
        let new = CreateKeyParameters {
            kty: Some(self.new.kind.clone()),
            key_size: Some(self.new.bits),
            key_ops: Some(vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey]),
            ..CreateKeyParameters::default()
        };
        let answer = self.client.create_key(name, content(new)?, None).await;
        let key = answer.and_then(|answer| answer.into_model()).map_err(error::about(ek))?;
        self.version(name, key.key.as_ref().and_then(|key| key.kid.as_deref())).map(drop)
    }

    async fn names(&self) -> Result<Vec<EkName>, Error> {
        let pages = self.client.list_key_properties(None).map_err(|why| error::of_call(&why))?;
        let listed: Vec<KeyProperties> = pages.try_collect().await.map_err(|why| error::of_call(&why))?;
        let mut names = Vec::new();
        for item in listed.into_iter().filter(|item| item.managed != Some(true)) {
            names.extend(self.account.vault.eks(KEYS, item.kid.as_deref())?);
        }
        names.sort();
        Ok(names)
    }

    async fn info(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let version = match self.current(ek).await {
            Ok((_, version)) => version,
            Err(Error::NoSuchKey(_)) => {
                let name = self.account.vault.name(ek)?;
                self.client.get_deleted_key(name, None).await.map_err(error::about(ek))?;
                return Ok(EkInfo::new(ek.clone(), State::PendingDeletion));
            }
            Err(why) => return Err(why),
        };
        let versions = self.versions(ek).await?;
        // Locked is only what no version opens any more.
        let state =
            if versions.iter().any(|version| version.enabled) { State::Enabled } else { State::Disabled };
        let created = versions.iter().filter_map(|version| version.created).min();
        Ok(EkInfo { created, version: Some(version), ..EkInfo::new(ek.clone(), state) })
    }

    async fn unlock(&self, ek: &EkName) -> Result<(), Error> {
        match self.set_enabled(ek, true).await {
            Err(Error::NoSuchKey(_)) => {}
            done => return done,
        }
        let name = self.account.vault.name(ek)?;
        self.client.recover_deleted_key(name, None).await.map_err(error::about(ek))?;
        patiently(|| self.set_enabled(ek, true)).await
    }

    async fn renew(&self, ek: &EkName) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        let (key, old) = self.current(ek).await?;
        if !is_enabled(&key) {
            // A new version would be enabled, and the EK with it.
            return Err(Error::Disabled(ek.clone()));
        }
        let answer = self.client.rotate_key(name, None).await;
        let key = answer.and_then(|answer| answer.into_model()).map_err(error::about(ek))?;
        if self.version(name, key.key.as_ref().and_then(|key| key.kid.as_deref()))? == old {
            return Err(Error::Malformed(format!("key '{ek}' has no new version after its rotation")));
        }
        Ok(())
    }

    async fn erase(&self, ek: &EkName) -> Result<(), Error> {
        let name = self.account.vault.name(ek)?;
        let purge =
            || async { self.client.purge_deleted_key(name, None).await.map(drop).map_err(error::about(ek)) };
        match self.client.delete_key(name, None).await.map(drop).map_err(error::about(ek)) {
            // Deleted before, perhaps: what is left is to purge it.
            Err(Error::NoSuchKey(_)) if self.purge => purge().await,
            Ok(()) if self.purge => patiently(purge).await,
            done => done,
        }
    }
}

/// The algorithm of a key that may wrap now.
fn usable(ek: &EkName, key: &Key) -> Result<EncryptionAlgorithm, Error> {
    let now = OffsetDateTime::now_utc();
    let attributes = key.attributes.clone().unwrap_or_default();
    if !is_enabled(key) {
        return Err(Error::Disabled(ek.clone()));
    }
    if attributes.expires.is_some_and(|end| end <= now) {
        return Err(Error::Denied(format!("key '{ek}' has expired: rotate it, or give it a later end")));
    }
    if attributes.not_before.is_some_and(|begin| begin > now) {
        return Err(Error::Denied(format!("key '{ek}' may not be used yet: see its activation date")));
    }
    match key.key.as_ref().and_then(|key| key.kty.as_ref()) {
        Some(KeyType::Rsa | KeyType::RsaHsm) => Ok(EncryptionAlgorithm::RsaOaep256),
        Some(KeyType::OctHsm) => Ok(EncryptionAlgorithm::A256Kw),
        other => Err(Error::Denied(format!(
            "key '{ek}' is of type {other:?}, which wraps no keys: use RSA or oct-HSM"
        ))),
    }
}

fn is_enabled(key: &Key) -> bool {
    key.attributes.as_ref().and_then(|attributes| attributes.enabled) != Some(false)
}

/// Which algorithm wrapped a DEK of 32 bytes: AES key wrap adds 8 (RFC 3394); RSA gives as many as its modulus has.
fn algorithm_of(wrapped: &[u8]) -> Option<EncryptionAlgorithm> {
    match wrapped.len() {
        40 => Some(EncryptionAlgorithm::A256Kw),
        256 | 384 | 512 => Some(EncryptionAlgorithm::RsaOaep256),
        _ => None,
    }
}

fn parameters(algorithm: EncryptionAlgorithm, value: &[u8]) -> KeyOperationParameters {
    KeyOperationParameters { algorithm: Some(algorithm), value: Some(value.to_vec()), ..Default::default() }
}

fn content<T>(parameters: T) -> Result<RequestContent<T>, Error>
where
    RequestContent<T>: TryFrom<T, Error = azure_core::Error>,
{
    parameters.try_into().map_err(|why| error::of_call(&why))
}

impl Kms for AzureKeys {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn generate<'a>(&'a self, ek: &'a EkName, _context: &'a Context) -> Answer<'a, DataKey> {
        Box::pin(self.wrap(ek))
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        _context: &'a Context,
    ) -> Answer<'a, Dek> {
        Box::pin(self.unwrap(ek, version, wrapped))
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.make(ek))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.names())
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.info(ek))
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.unlock(ek))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.set_enabled(ek, false))
    }

    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.renew(ek))
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.erase(ek))
    }
}
