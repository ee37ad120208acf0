//! Thales CipherTrust Manager, over its REST API: it wraps the DEK, and the EK never leaves it.
//!
//! ```text
//! wrapped = iv[12] ‖ ciphertext[32] ‖ tag[16] = AES-256-GCM(EK's version, iv, DEK, aad)
//! aad     = Context { ..., "s3veil:ek": EK's name } in canonical form
//! ```
//!
//! The IV is s3veil's, random and new for each: a version of an EK may wrap 2^32 DEKs (NIST SP 800-38D, section 8.3),
//! one each time that the cache asks. A second kind keeps secrets there, as MinIO KES does: see `secrets`.

mod keys;
mod secrets;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::endpoints::Endpoints;
use super::gcm::{IV_LEN, Sealed, aad};
use super::rest::{IdentitySource, RestConfig};
use super::secrets::{SecretKms, random};
use super::{Answer, ConfigError, Context, DataKey, EkInfo, EkName, Error, Kms, WrappedDek};
use crate::seal::Dek;
use crate::secret::SecretSource;
use keys::Keys;
use secrets::Secrets;
use session::{Login, Session};

const KIND: &str = "ciphertrust";

/// CipherTrust Manager as typed in `proxy.toml`, for its keys or for its secrets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CipherTrustConfig {
    /// `https://HOST[:PORT]`, or a list of them, each a node of the same cluster.
    endpoint: Endpoints,
    /// Roots to trust instead of the system's, in PEM.
    ca_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<SecretSource>,
    /// Instead of the two above.
    refresh_token: Option<SecretSource>,
    /// The domain to log in to; the root domain if left out.
    domain: Option<String>,
    /// Names at the server of EKs that are called otherwise there. Not for secrets.
    #[serde(default)]
    keys: HashMap<EkName, String>,
}

impl CipherTrustConfig {
    /// The KMS on the server's keys. It is not contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(mut self) -> Result<Box<dyn Kms>, ConfigError> {
        let names = std::mem::take(&mut self.keys);
        Ok(Box::new(CipherTrust { keys: Keys { session: self.session()?, names } }))
    }

    /// The KMS on the server's secrets. It is not contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build_secrets(self) -> Result<Box<dyn Kms>, ConfigError> {
        if let Some(ek) = self.keys.keys().next() {
            return Err(
                format!("keys.{ek}: a secret has the name of its EK, as in MinIO KES. Remove it").into()
            );
        }
        Ok(Box::new(SecretKms::new(Secrets { session: self.session()? })))
    }

    /// Reads certificates and credentials.
    fn session(self) -> Result<Session, String> {
        let login = match (self.username, self.password, self.refresh_token) {
            (None, None, Some(token)) => {
                let token = token.watch().map_err(|why| format!("refresh_token: {why}"))?;
                Login::RefreshToken(token)
            }
            (Some(username), Some(password), None) => {
                let password = password.watch().map_err(|why| format!("password: {why}"))?;
                Login::Password { username, password }
            }
            _ => return Err("credentials: give either refresh_token, or username and password".into()),
        };
        let rest = RestConfig {
            endpoints: self.endpoint.into(),
            ca_file: self.ca_file,
            identity: IdentitySource::None,
        };
        Ok(Session::new(rest.build()?, login, self.domain))
    }
}

struct CipherTrust {
    keys: Keys,
}

impl CipherTrust {
    async fn wrap(&self, ek: &EkName, context: &Context) -> Result<DataKey, Error> {
        let key = self.keys.current(ek).await?.usable(ek)?;
        let (dek, iv) = (random::<32>(), random::<IV_LEN>());
        let encrypted = self.keys.encrypt(ek, &key, &dek, &iv, &aad(ek, context)).await?;
        let sealed = Sealed { iv: iv.as_slice(), ciphertext: &encrypted.ciphertext, tag: &encrypted.tag };
        let wrapped = sealed.join()?;
        Ok(DataKey { dek: Dek::from(*dek), wrapped, version: Some(key.version.to_string()) })
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
                self.keys.current(ek).await?;
                let version = version.unwrap_or_default();
                Err(Error::Malformed(format!(
                    "a DEK that is not wrapped by version {version:?} of key '{ek}' for this context, or that version \
                     is destroyed"
                )))
            }
        }
    }

    /// The DEK, if that version of the EK wrapped it.
    async fn open(
        &self,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        context: &Context,
    ) -> Result<Option<Dek>, Error> {
        let number = version.and_then(|text| text.parse::<u32>().ok().filter(|n| n.to_string() == text));
        let Some(number) = number else { return Ok(None) };
        let Some(key) = self.keys.version(ek, number).await? else { return Ok(None) };
        let key = key.usable(ek)?;
        let Ok(sealed) = Sealed::split(wrapped) else { return Ok(None) };
        let plaintext = self.keys.decrypt(ek, &key, &sealed, &aad(ek, context)).await?;
        Ok(plaintext.and_then(|plaintext| Dek::try_from(plaintext.as_slice()).ok()))
    }
}

impl Kms for CipherTrust {
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
        Box::pin(self.keys.create(ek))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.keys.list())
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.keys.describe(ek))
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.keys.enable(ek))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.keys.disable(ek))
    }

    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.keys.rotate(ek))
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.keys.delete(ek))
    }
}
