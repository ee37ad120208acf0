//! Google Cloud KMS: EKs that never leave it.
//!
//! It makes no data keys, so a DEK is random from here and wrapped by `encrypt`, with the encryption context as associated
//! data. The key version that wrapped it stands in the ciphertext, in Google's own form. Checksums go both ways, as
//! <https://cloud.google.com/kms/docs/data-integrity-guidelines> asks.

use std::collections::HashMap;

use bytes::Bytes;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::crypto_key::CryptoKeyPurpose;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as VersionState;
use google_cloud_kms_v1::model::{CryptoKey, EncryptResponse};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::answer::{Problem, check, crc32c, general, problem, refusal, same_resource};
use super::login::{Access, Login};
use crate::kms::secrets::random;
use crate::kms::{
    Answer, ConfigError, Context, DataKey, EkInfo, EkName, Error, Kms, WrappedDek, dek_from_answer,
};
use crate::s3::error::chain;
use crate::seal::Dek;
use crate::secret::SecretSource;

/// The longest id of a key at Google.
const ID_MAX: usize = 63;

/// Google Cloud KMS as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleKmsConfig {
    /// `projects/PROJECT/locations/LOCATION/keyRings/RING`. It must be there.
    pub key_ring: String,
    /// The ids of EKs that are not called so at Google.
    #[serde(default)]
    pub keys: HashMap<EkName, String>,
    /// The JSON of a service account's key or of a federated identity; without it, Application Default Credentials.
    pub credentials: Option<SecretSource>,
    /// Where Cloud KMS is, instead of `https://cloudkms.googleapis.com`.
    pub endpoint: Option<String>,
    /// No credentials at all, for an emulator.
    #[serde(default)]
    pub anonymous: bool,
}

impl GoogleKmsConfig {
    /// Checks the settings and reads the credentials. Google is not asked.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        if !is_key_ring(&self.key_ring) {
            return Err(ConfigError::Setting(format!(
                "key_ring: '{}' is not one. Write projects/PROJECT/locations/LOCATION/keyRings/RING",
                self.key_ring
            )));
        }
        if let Some((ek, id)) = self.keys.iter().find(|(_, id)| !is_id(id)) {
            return Err(ConfigError::Setting(format!(
                "keys.{ek}: '{id}' is not a key's id. Write its last part alone: up to {ID_MAX} letters, digits, '-' and '_'"
            )));
        }
        let access =
            Access { credentials: self.credentials, endpoint: self.endpoint, anonymous: self.anonymous };
        let login = access.build(|settings| {
            Box::pin(async move { settings.apply(KeyManagementService::builder()).build().await })
        })?;
        Ok(Box::new(CloudKms { key_ring: self.key_ring, keys: self.keys, login }))
    }
}

fn is_key_ring(text: &str) -> bool {
    let steps: Vec<&str> = text.split('/').collect();
    matches!(steps[..], ["projects", p, "locations", l, "keyRings", r]
        if [p, l, r].iter().all(|step| !step.is_empty() && step.bytes().all(|b| b.is_ascii_graphic() && !b"?#%".contains(&b))))
}

fn is_id(text: &str) -> bool {
    let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (1..=ID_MAX).contains(&text.len()) && clean
}

/// One key ring.
pub(super) struct CloudKms {
    key_ring: String,
    keys: HashMap<EkName, String>,
    pub(super) login: Login<KeyManagementService>,
}

impl CloudKms {
    /// The EK's name at Google.
    pub(super) fn resource(&self, ek: &EkName) -> String {
        let id = self.keys.get(ek).map_or(ek.as_str(), String::as_str);
        format!("{}/cryptoKeys/{id}", self.key_ring)
    }

    /// The EK of a key at Google, if it can be one: a mapped id is that EK alone.
    fn ek(&self, key: &CryptoKey) -> Option<EkName> {
        let usable = key.purpose == CryptoKeyPurpose::EncryptDecrypt
            && key.primary.as_ref().is_some_and(|primary| primary.state != VersionState::Destroyed);
        let id = key.name.rsplit('/').next().filter(|_| usable)?;
        match self.keys.iter().find(|(_, mapped)| *mapped == id) {
            Some((ek, _)) => Some(ek.clone()),
            None => EkName::parse(id).ok().filter(|ek| !self.keys.contains_key(ek)),
        }
    }

    async fn wrap(&self, ek: &EkName, context: &Context) -> Result<DataKey, Error> {
        let name = self.resource(ek);
        let dek = random::<32>();
        let plaintext = Bytes::from_owner(Zeroizing::new(dek.to_vec()));
        let aad = Bytes::from(context.canonical());
        let answer = self
            .login
            .call(|client| {
                client
                    .encrypt()
                    .set_name(&name)
                    .set_plaintext(plaintext.clone())
                    .set_plaintext_crc32c(crc32c(&plaintext))
                    .set_additional_authenticated_data(aad.clone())
                    .set_additional_authenticated_data_crc32c(crc32c(&aad))
                    .send()
            })
            .await
            .map_err(|why| refusal(&why, ek))?;
        let wrapped = wrapped(answer, &name)?;
        Ok(DataKey { dek: Dek::from(*dek), wrapped, version: None })
    }

    async fn open(&self, ek: &EkName, wrapped: &WrappedDek, context: &Context) -> Result<Dek, Error> {
        let name = self.resource(ek);
        let ciphertext = Bytes::copy_from_slice(wrapped.as_bytes());
        let aad = Bytes::from(context.canonical());
        let answer = self
            .login
            .call(|client| {
                client
                    .decrypt()
                    .set_name(&name)
                    .set_ciphertext(ciphertext.clone())
                    .set_ciphertext_crc32c(crc32c(&ciphertext))
                    .set_additional_authenticated_data(aad.clone())
                    .set_additional_authenticated_data_crc32c(crc32c(&aad))
                    .send()
            })
            .await
            .map_err(|why| match problem(&why) {
                // Another key, context or ciphertext: Google does not tell which.
                Problem::Invalid => Error::Malformed(chain(&why)),
                _ => refusal(&why, ek),
            })?;
        check("a DEK", &answer.plaintext, answer.plaintext_crc32c)?;
        dek_from_answer(&answer.plaintext)
    }
}

/// The wrapped DEK, if Google wrapped what it was sent, with the key that it was told.
fn wrapped(answer: EncryptResponse, name: &str) -> Result<WrappedDek, Error> {
    let key = answer.name.rsplit_once("/cryptoKeyVersions/").map_or("", |(key, _)| key);
    if !same_resource(key, name) {
        return Err(Error::Malformed(format!("asked for '{name}', Google wrapped with '{}'", answer.name)));
    }
    if !answer.verified_plaintext_crc32c || !answer.verified_additional_authenticated_data_crc32c {
        return Err(Error::Unavailable(
            "Google did not check what it was sent: the CRC-32C did not arrive".into(),
        ));
    }
    check("a wrapped DEK", &answer.ciphertext, answer.ciphertext_crc32c)?;
    WrappedDek::from_answer(answer.ciphertext)
}

impl Kms for CloudKms {
    fn kind(&self) -> &'static str {
        "google-kms"
    }

    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey> {
        Box::pin(self.wrap(ek, context))
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        context: &'a Context,
    ) -> Answer<'a, Dek> {
        Box::pin(async move {
            match version {
                None => self.open(ek, wrapped, context).await,
                Some(_) => Err(Error::Malformed("Google's ciphertexts name their version themselves".into())),
            }
        })
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = self.resource(ek);
            let id = name.rsplit('/').next().unwrap_or_default();
            let made = self.login.call(|client| {
                client
                    .create_crypto_key()
                    .set_parent(&self.key_ring)
                    .set_crypto_key_id(id)
                    .set_crypto_key(CryptoKey::new().set_purpose(CryptoKeyPurpose::EncryptDecrypt))
                    .send()
            });
            match made.await {
                Ok(_) => Ok(()),
                // The key ring is missing then.
                Err(why) if problem(&why) == Problem::Missing => Err(general(&why)),
                Err(why) => Err(refusal(&why, ek)),
            }
        })
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(async move {
            let listed = self.login.call(async |client| {
                let mut keys = client.list_crypto_keys().set_parent(&self.key_ring).by_item();
                let mut found = Vec::new();
                while let Some(key) = keys.next().await {
                    found.extend(self.ek(&key?));
                }
                Ok(found)
            });
            let mut found = listed.await.map_err(|why| general(&why))?;
            found.sort();
            Ok(found)
        })
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.info(ek))
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.unlock(ek))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.lock(ek))
    }

    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.renew(ek))
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.erase(ek))
    }
}
