//! KMIP 1.4 and 2.x: the protocol of hardware security modules and key managers.
//!
//! In `mode = "encrypt"` the server wraps the DEK and the EK never leaves it:
//!
//! ```text
//! wrapped = iv[12] ‖ ciphertext[32] ‖ tag[16] = AES-256-GCM(EK, iv, DEK, aad)
//! aad     = Context { ..., "s3veil:ek": EK's name } in canonical form
//! version = the identifier of the key at the server
//! ```
//!
//! In `mode = "get"` the key is fetched for each call and does the same work here, sealed as `secrets` does. The name in
//! the associated data keeps one EK from opening what another of the same key, or a swapped identifier, wrapped.

mod client;
mod eks;
mod message;
mod pool;
mod ttlv;

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::endpoints::Endpoints;
use super::gcm::{IV_LEN, Sealed, aad};
use super::secrets::{Cipher, SecretKey, random};
use super::{Answer, ConfigError, Context, DataKey, EkInfo, EkName, Error, Kms, WrappedDek};
use crate::seal::Dek;
use client::{Client, Iv};
use eks::{Eks, Key};
use message::Version;
use pool::PoolConfig;

const KIND: &str = "kmip";

/// A KMIP server as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmipConfig {
    /// `HOST[:PORT]`, or a list of them, each a way to the same keys; port 5696 if left out.
    endpoint: Endpoints,
    /// Roots to trust instead of the system's, in PEM.
    ca_file: Option<PathBuf>,
    /// Who s3veil is, in PEM: the certificate and those between it and a root.
    certificate_file: PathBuf,
    /// The certificate's private key, in PEM.
    key_file: PathBuf,
    /// The version to speak. The highest that the server says it does, if left out.
    version: Option<Version>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    iv: IvBy,
    /// Identifiers of the keys of EKs that are not found by their name.
    #[serde(default)]
    keys: HashMap<EkName, String>,
}

/// Where the cryptography is done.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// At the server, by Encrypt and Decrypt.
    #[default]
    Encrypt,
    /// Here, with the key that Get gives.
    Get,
}

/// Who chooses the IV.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IvBy {
    /// s3veil, at random.
    #[default]
    Client,
    /// The server: some modules take none from outside.
    Server,
}

impl KmipConfig {
    /// Reads the certificates. The server is not contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        if let Some((ek, id)) = self.keys.iter().find(|(_, id)| id.is_empty() || id.len() > 256) {
            return Err(format!("keys.{ek}: '{id}' is no identifier. Give one of 1 to 256 bytes").into());
        }
        let pool = PoolConfig {
            endpoints: self.endpoint.into(),
            ca_file: self.ca_file,
            certificate: self.certificate_file,
            key: self.key_file,
        };
        let client = Client::new(pool.build()?, self.version);
        let eks = Eks { client, pinned: self.keys };
        Ok(Box::new(Kmip { eks, mode: self.mode, iv: self.iv }))
    }
}

struct Kmip {
    eks: Eks,
    mode: Mode,
    iv: IvBy,
}

impl Kmip {
    async fn wrap(&self, ek: &EkName, context: &Context) -> Result<DataKey, Error> {
        let Key { id, .. } = self.eks.current(ek).await?.usable(ek)?;
        let dek = random::<32>();
        let aad = aad(ek, context);
        let wrapped = match self.mode {
            Mode::Get => WrappedDek::new(self.fetch(ek, &id).await?.seal(dek.as_slice(), &aad)),
            Mode::Encrypt => {
                let iv = random::<IV_LEN>();
                let iv = match self.iv {
                    IvBy::Client => Iv::Ours(&iv),
                    IvBy::Server => Iv::Theirs,
                };
                let wrapped = self.eks.client.encrypt(&id, &dek, iv, &aad).await;
                wrapped.map_err(|failure| failure.for_ek(ek))?
            }
        };
        Ok(DataKey { dek: Dek::from(*dek), wrapped, version: Some(id) })
    }

    async fn unwrap(
        &self,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        context: &Context,
    ) -> Result<Dek, Error> {
        match self.open(ek, version, wrapped, context).await? {
            Some(dek) => Ok(dek),
            // It may be that there is no such EK at all: then that is the reason.
            None => {
                self.eks.current(ek).await?;
                let version = version.unwrap_or_default();
                Err(Error::Malformed(format!(
                    "a DEK that is not wrapped by version {version:?} of key '{ek}' for this context, or that version \
                     is destroyed"
                )))
            }
        }
    }

    /// The DEK, if that key wrapped it.
    async fn open(
        &self,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        context: &Context,
    ) -> Result<Option<Dek>, Error> {
        let Some(id) = version else { return Ok(None) };
        let Some(key) = self.eks.key(ek, id).await? else { return Ok(None) };
        let Key { id, .. } = key.usable(ek)?;
        let aad = aad(ek, context);
        let plaintext = match self.mode {
            Mode::Get => self.fetch(ek, &id).await?.open(wrapped.as_bytes(), &aad),
            Mode::Encrypt => self.decrypt(ek, &id, wrapped, &aad).await?,
        };
        Ok(plaintext.and_then(|plaintext| Dek::try_from(plaintext.as_slice()).ok()))
    }

    /// What the server decrypts. Servers have many words for what is not authentic, so each that is not about anything
    /// else means that.
    async fn decrypt(
        &self,
        ek: &EkName,
        id: &str,
        wrapped: &WrappedDek,
        aad: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Ok(sealed) = Sealed::split(wrapped) else { return Ok(None) };
        match self.eks.client.decrypt(id, &sealed, aad).await {
            Ok(plaintext) => Ok(Some(plaintext)),
            Err(failure) if failure.is_not_about_data() => Err(failure.for_ek(ek)),
            Err(_) => Ok(None),
        }
    }

    async fn fetch(&self, ek: &EkName, id: &str) -> Result<SecretKey, Error> {
        let bytes = self.eks.client.get(id).await.map_err(|failure| failure.for_ek(ek))?;
        Ok(SecretKey { cipher: Cipher::Aes256, bytes })
    }
}

impl Kms for Kmip {
    fn kind(&self) -> &'static str {
        KIND
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
        Box::pin(self.unwrap(ek, version, wrapped, context))
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.eks.create(ek))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.eks.list())
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.eks.describe(ek))
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.eks.enable(ek))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.eks.disable(ek))
    }

    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.eks.rotate(ek))
    }

    fn disable_warning(&self) -> Option<&'static str> {
        Some(
            "most KMIP servers never let a deactivated key be activated again, and what it sealed then stays locked for \
             good. To lock it for a time, take the rights of s3veil's certificate away at the server",
        )
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.eks.delete(ek))
    }
}
