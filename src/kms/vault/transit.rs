//! The transit engine: the EK stays at the server, which wraps a DEK that is made here.
//!
//! `encrypt` with associated data, and not `datakey`: HashiCorp's `datakey` binds no context. The ciphertext holds the
//! EK's version, and is kept as the server writes it: `vault:vVERSION:BASE64`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::client::{Call, Data, Failure, Vault};
use crate::kms::rest::decode;
use crate::kms::secrets::random;
use crate::kms::{Answer, Context, DataKey, EkInfo, EkName, Error, Kms, State, WrappedDek, dek_from_answer};
use crate::seal::Dek;
use crate::secret::Secret;

const KIND: &str = "vault-transit";

/// The type of a new EK: what the engine takes by itself too.
const KEY_TYPE: &str = "aes256-gcm96";

/// The longest ciphertext that is taken, in bytes: some 90 are usual.
const CIPHERTEXT_MAX: usize = 1024;

/// EKs of a transit engine.
pub(super) struct Transit {
    vault: Vault,
    mount: String,
}

/// What the engine says of a key.
#[derive(Deserialize)]
struct Key {
    name: String,
    latest_version: u64,
    /// OpenBao alone has it.
    soft_deleted: Option<bool>,
    /// By version; for a symmetric key the seconds at which it was made.
    keys: std::collections::HashMap<String, serde_json::Value>,
}

impl Key {
    fn info(&self, ek: &EkName) -> EkInfo {
        let state = if self.soft_deleted == Some(true) { State::Disabled } else { State::Enabled };
        let created = self.keys.get("1").and_then(serde_json::Value::as_i64);
        EkInfo {
            created: created.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()),
            version: Some(self.latest_version.to_string()),
            ..EkInfo::new(ek.clone(), state)
        }
    }
}

impl Transit {
    pub(super) fn new(vault: Vault, mount: String) -> Self {
        Self { vault, mount }
    }

    async fn wrap(&self, ek: &EkName, context: &Context) -> Result<DataKey, Error> {
        let dek = random::<32>();
        let context = context.canonical();
        match encrypt(&self.vault, &self.mount, ek.as_str(), dek.as_slice(), &context).await {
            Ok(ciphertext) => {
                Ok(DataKey { dek: Dek::from(*dek), wrapped: WrappedDek::new(ciphertext), version: None })
            }
            Err(failure) => Err(self.refused(ek, failure).await),
        }
    }

    async fn open(
        &self,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        context: &Context,
    ) -> Result<Dek, Error> {
        let ciphertext = str::from_utf8(wrapped.as_bytes()).ok();
        let ciphertext = ciphertext.filter(|text| version.is_none() && is_ciphertext(text));
        let Some(ciphertext) = ciphertext else {
            return Err(Error::Malformed(format!("a DEK that key '{ek}' of a transit engine did not wrap")));
        };
        let context = context.canonical();
        match decrypt(&self.vault, &self.mount, ek.as_str(), ciphertext, &context).await {
            Ok(plaintext) => dek_from_answer(&plaintext),
            Err(failure) if failure.says("authentication failed") || failure.says("invalid ciphertext") => {
                Err(Error::Malformed(failure.word()))
            }
            Err(failure) => Err(self.refused(ek, failure).await),
        }
    }

    async fn key(&self, ek: &EkName) -> Result<Key, Error> {
        let path = self.path(ek);
        match self.vault.get::<Key>(&path).await {
            Ok(key) if key.name == ek.as_str() => Ok(key),
            Ok(key) => Err(Error::Malformed(format!("asked for key '{ek}', the KMS told of '{}'", key.name))),
            Err(failure) if failure.is_nothing() => Err(Error::NoSuchKey(ek.clone())),
            Err(failure) => Err(failure.into()),
        }
    }

    /// What a refusal means for this EK.
    async fn refused(&self, ek: &EkName, failure: Failure) -> Error {
        let missing = [
            // By `encrypt`, `decrypt` and `rotate`.
            "key not found",
            // By `encrypt`, to one who may create keys.
            "convergent encryption requires derivation",
            // By `config` and `delete`.
            "no existing key named",
            "could not delete key; not found",
        ];
        if missing.iter().any(|word| failure.says(word)) {
            return Error::NoSuchKey(ek.clone());
        }
        if failure.says("soft-deleted") {
            return Error::Disabled(ek.clone());
        }
        // One who may not create keys is told no more of a missing one.
        if failure.is(StatusCode::FORBIDDEN)
            && let Err(missing @ Error::NoSuchKey(_)) = self.key(ek).await
        {
            return missing;
        }
        failure.into()
    }

    /// Changes the EK at the server.
    async fn change(&self, ek: &EkName, call: impl Fn() -> Call + Send) -> Result<(), Error> {
        match self.vault.call(call).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.refused(ek, failure).await),
        }
    }

    async fn make(&self, ek: &EkName) -> Result<(), Error> {
        // The engine has no word for a key that is there already, and leaves it as it is.
        match self.key(ek).await {
            Ok(_) => return Err(Error::Exists(ek.clone())),
            Err(Error::NoSuchKey(_)) => {}
            Err(other) => return Err(other),
        }
        let path = self.path(ek);
        let call = || Call::new(Method::POST, &path).json(&serde_json::json!({ "type": KEY_TYPE }));
        self.vault.call(call).await?;
        Ok(())
    }

    /// Takes the EK away, or gives it back.
    async fn lock(&self, ek: &EkName, lock: bool) -> Result<(), Error> {
        let path = self.path(ek);
        match self.key(ek).await?.soft_deleted {
            None => {
                Err(Error::Unsupported { kind: KIND, operation: if lock { "disable" } else { "enable" } })
            }
            Some(locked) if locked == lock => Ok(()),
            Some(false) => {
                self.change(ek, || Call::new(Method::DELETE, &format!("{path}/soft-delete"))).await
            }
            Some(true) => {
                self.change(ek, || Call::new(Method::POST, &format!("{path}/soft-delete-restore"))).await
            }
        }
    }

    async fn turn(&self, ek: &EkName) -> Result<(), Error> {
        if self.key(ek).await?.soft_deleted == Some(true) {
            return Err(Error::Disabled(ek.clone()));
        }
        let path = format!("{}/rotate", self.path(ek));
        self.change(ek, || Call::new(Method::POST, &path)).await
    }

    async fn destroy(&self, ek: &EkName) -> Result<(), Error> {
        let path = self.path(ek);
        let allow = serde_json::json!({ "deletion_allowed": true });
        self.change(ek, || Call::new(Method::POST, &format!("{path}/config")).json(&allow)).await?;
        self.change(ek, || Call::new(Method::DELETE, &path)).await
    }

    fn path(&self, ek: &EkName) -> String {
        format!("{}/keys/{ek}", self.mount)
    }
}

/// Encrypts under a key of a transit engine. `bound`: what it must be decrypted with; empty for nothing.
pub(super) async fn encrypt(
    vault: &Vault,
    mount: &str,
    key: &str,
    plaintext: &[u8],
    bound: &[u8],
) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Question<'a> {
        plaintext: &'a str,
        associated_data: &'a str,
        /// Keeps a misspelt key from being made. `encrypt` makes a key that is not there, if the token may create keys; a
        /// convergent one it can't make without a `context`. Of a key that is there it does not mind this.
        convergent_encryption: bool,
    }
    #[derive(Deserialize)]
    struct Encrypted {
        ciphertext: String,
    }

    let plaintext = Zeroizing::new(BASE64_STANDARD.encode(plaintext));
    let associated_data = BASE64_STANDARD.encode(bound);
    let question =
        Question { plaintext: &plaintext, associated_data: &associated_data, convergent_encryption: true };
    let path = format!("{mount}/encrypt/{key}");
    let reply = vault.call(|| Call::new(Method::POST, &path).json(&question)).await?;
    let Encrypted { ciphertext } = reply.json::<Data<Encrypted>>()?.data;
    match is_ciphertext(&ciphertext) {
        true => Ok(ciphertext),
        false => Err(Error::Malformed("the KMS's answer holds no transit ciphertext".into()).into()),
    }
}

/// The reverse of [`encrypt`].
pub(super) async fn decrypt(
    vault: &Vault,
    mount: &str,
    key: &str,
    ciphertext: &str,
    bound: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    #[derive(Serialize)]
    struct Question<'a> {
        ciphertext: &'a str,
        associated_data: &'a str,
    }
    #[derive(Deserialize)]
    struct Decrypted {
        plaintext: Secret,
    }

    let associated_data = BASE64_STANDARD.encode(bound);
    let question = Question { ciphertext, associated_data: &associated_data };
    let path = format!("{mount}/decrypt/{key}");
    let reply = vault.call(|| Call::new(Method::POST, &path).json(&question)).await?;
    Ok(decode(&reply.json::<Data<Decrypted>>()?.data.plaintext)?)
}

/// Whether a text is a ciphertext in its one form. The server itself reads others that mean the same: version 0 for 1, or
/// line breaks in the base64. A wrapped DEK that was changed must not open.
fn is_ciphertext(text: &str) -> bool {
    let Some((version, base64)) = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let plain = version.parse().is_ok_and(|number: u32| number > 0 && number.to_string() == version);
    plain && text.len() <= CIPHERTEXT_MAX && BASE64_STANDARD.decode(base64).is_ok()
}

impl Kms for Transit {
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
        Box::pin(self.open(ek, version, wrapped, context))
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.make(ek))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(async { Ok(self.vault.list(&format!("{}/keys", self.mount)).await?) })
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(async { Ok(self.key(ek).await?.info(ek)) })
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.lock(ek, false))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.lock(ek, true))
    }

    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.turn(ek))
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.destroy(ek))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_has_one_form() {
        for good in ["vault:v1:AAAA", "vault:v12:QUE=", "vault:v4294967295:"] {
            assert!(is_ciphertext(good), "{good}");
        }
        for bad in [
            "",
            "vault:v1",
            "vault:v0:AAAA",
            "vault:v01:AAAA",
            "vault:v+1:AAAA",
            "vault:v:AAAA",
            "Vault:v1:AAAA",
            "vault:v1:AAAA\n",
            "vault:v1:AA\nAA",
            "vault:v1:QUF=",
            "vault:v1:AAA",
            "vault:v1:AAAA:AAAA",
            "vault:v4294967296:AAAA",
        ] {
            assert!(!is_ciphertext(bad), "{bad:?}");
        }
    }
}
