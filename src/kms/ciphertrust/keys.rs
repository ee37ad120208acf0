//! The keys of CipherTrust Manager: `/api/v1/vault/keys2` and `/api/v1/crypto`.
//!
//! A version is a key of its own, with an identifier and a state; all versions have the EK's name, and the newest is what
//! the name means. So what locks, unlocks or erases an EK does it to each. Source: Thales' Ansible collection
//! `thalesgroup.ciphertrust`, modules `vault_keys2_create` and `vault_keys2_op`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::KIND;
use super::session::{Session, escaped};
use crate::kms::gcm::{IV_LEN, Sealed};
use crate::kms::rest::{Ask, Reply, decode};
use crate::kms::{EkInfo, EkName, Error, State};
use crate::secret::Secret;

const KEYS: &str = "/api/v1/vault/keys2";

/// Encrypt and Decrypt, in the bits of KMIP.
const USAGE: u32 = 0x04 | 0x08;

/// The EKs of one server, and their names there.
pub(super) struct Keys {
    pub session: Session,
    pub names: HashMap<EkName, String>,
}

/// One version of a key.
#[derive(Debug, Deserialize)]
pub(super) struct Key {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub version: u32,
    state: String,
    algorithm: Option<String>,
    size: Option<u32>,
    #[serde(rename = "createdAt")]
    created: Option<String>,
}

/// What an encryption gives beside the IV that it was asked with.
pub(super) struct Encrypted {
    pub ciphertext: Zeroizing<Vec<u8>>,
    pub tag: Zeroizing<Vec<u8>>,
}

#[derive(Serialize)]
struct CryptoRequest<'a> {
    id: &'a str,
    r#type: &'static str,
    version: u32,
    mode: &'static str,
    iv: String,
    aad: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

#[derive(Deserialize)]
struct EncryptAnswer {
    ciphertext: Secret,
    tag: Secret,
    id: Option<String>,
    version: Option<u32>,
    iv: Option<String>,
}

#[derive(Deserialize)]
struct DecryptAnswer {
    plaintext: Secret,
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    name: &'a str,
    algorithm: &'static str,
    size: u32,
    #[serde(rename = "usageMask")]
    usage_mask: u32,
}

#[derive(Serialize)]
struct StateRequest {
    reason: &'static str,
    message: &'static str,
}

impl Key {
    /// The same, if it may be used. The server goes on decrypting with a deactivated key, as KMIP allows.
    pub(super) fn usable(self, ek: &EkName) -> Result<Self, Error> {
        if !self.is_aes256() {
            return Err(Error::Denied(format!("key '{ek}' is not one for AES-256: create another")));
        }
        match self.is("Active") {
            true => Ok(self),
            false => Err(Error::Disabled(ek.clone())),
        }
    }

    fn is(&self, state: &str) -> bool {
        self.state.eq_ignore_ascii_case(state)
    }

    fn is_destroyed(&self) -> bool {
        self.state.to_ascii_lowercase().starts_with("destroyed")
    }

    fn is_aes256(&self) -> bool {
        self.algorithm.as_ref().is_none_or(|name| name.eq_ignore_ascii_case("aes"))
            && self.size.is_none_or(|bits| bits == 256)
    }
}

impl Keys {
    fn name<'a>(&'a self, ek: &'a EkName) -> &'a str {
        self.names.get(ek).map_or(ek.as_str(), String::as_str)
    }

    /// The newest version.
    pub(super) async fn current(&self, ek: &EkName) -> Result<Key, Error> {
        self.key(ek, "").await?.ok_or_else(|| Error::NoSuchKey(ek.clone()))
    }

    /// That version, or none if it is not there or destroyed.
    pub(super) async fn version(&self, ek: &EkName, version: u32) -> Result<Option<Key>, Error> {
        let key = self.key(ek, &format!("&version={version}")).await?;
        match key {
            Some(key) if key.version != version => {
                Err(Error::Malformed(format!("the server gave version {} for {version}", key.version)))
            }
            other => Ok(other),
        }
    }

    async fn key(&self, ek: &EkName, query: &str) -> Result<Option<Key>, Error> {
        let name = self.name(ek);
        let path = format!("{KEYS}/{}?type=name{query}", escaped(name));
        let reply = self.session.send(|| Ask::new(Method::GET, &*path)).await?;
        match reply.status {
            StatusCode::OK => {
                let key: Key = reply.json()?;
                if key.name != name {
                    return Err(Error::Malformed(format!("the server gave key '{}' for '{name}'", key.name)));
                }
                Ok(Some(key).filter(|key| !key.is_destroyed()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(ek, &reply)),
        }
    }

    /// All versions, the oldest first.
    async fn versions(&self, ek: &EkName) -> Result<Vec<Key>, Error> {
        let name = self.name(ek);
        let mut keys: Vec<Key> = self.session.list(&format!("{KEYS}?name={}", escaped(name))).await?;
        // The filter takes patterns.
        keys.retain(|key| key.name == name);
        keys.sort_by_key(|key| key.version);
        match keys.is_empty() {
            true => Err(Error::NoSuchKey(ek.clone())),
            false => Ok(keys),
        }
    }

    /// Encrypts with that very version.
    pub(super) async fn encrypt(
        &self,
        ek: &EkName,
        key: &Key,
        dek: &[u8; 32],
        iv: &[u8; IV_LEN],
        aad: &[u8],
    ) -> Result<Encrypted, Error> {
        let plaintext = Zeroizing::new(BASE64_STANDARD.encode(dek));
        let request = CryptoRequest { plaintext: Some(&plaintext), ..CryptoRequest::new(key, iv, aad) };
        let reply =
            self.session.send(|| Ask::new(Method::POST, "/api/v1/crypto/encrypt").json(&request)).await?;
        if reply.status != StatusCode::OK {
            return Err(refused(ek, &reply));
        }
        let answer: EncryptAnswer = reply.json()?;
        let same = answer.id.is_none_or(|id| id == key.id)
            && answer.version.is_none_or(|version| version == key.version)
            && answer.iv.is_none_or(|iv| iv == request.iv);
        if !same {
            return Err(Error::Malformed("the server encrypted with another key, version or IV".into()));
        }
        Ok(Encrypted { ciphertext: decode(&answer.ciphertext)?, tag: decode(&answer.tag)? })
    }

    /// What that version encrypted; none if it did not.
    pub(super) async fn decrypt(
        &self,
        ek: &EkName,
        key: &Key,
        sealed: &Sealed<'_>,
        aad: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let request = CryptoRequest {
            ciphertext: Some(BASE64_STANDARD.encode(sealed.ciphertext)),
            tag: Some(BASE64_STANDARD.encode(sealed.tag)),
            ..CryptoRequest::new(key, sealed.iv, aad)
        };
        let reply =
            self.session.send(|| Ask::new(Method::POST, "/api/v1/crypto/decrypt").json(&request)).await?;
        match reply.status {
            StatusCode::OK => Ok(Some(decode(&reply.json::<DecryptAnswer>()?.plaintext)?)),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Ok(None),
            _ => Err(refused(ek, &reply)),
        }
    }

    pub(super) async fn create(&self, ek: &EkName) -> Result<(), Error> {
        let name = self.name(ek);
        let request = CreateRequest { name, algorithm: "aes", size: 256, usage_mask: USAGE };
        let reply = self.session.send(|| Ask::new(Method::POST, KEYS).json(&request)).await?;
        done(ek, &reply)
    }

    pub(super) async fn list(&self) -> Result<Vec<EkName>, Error> {
        let keys: Vec<Key> = self.session.list(KEYS).await?;
        let mut names = Vec::new();
        for key in keys.into_iter().filter(|key| key.is_aes256() && !key.is_destroyed()) {
            names.extend(self.names.iter().filter(|(_, name)| **name == key.name).map(|(ek, _)| ek.clone()));
            names.extend(EkName::parse(&key.name).ok().filter(|ek| !self.names.contains_key(ek)));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(super) async fn describe(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let key = self.current(ek).await?;
        let state = if key.is("Active") { State::Enabled } else { State::Disabled };
        let created = key.created.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        Ok(EkInfo { created, version: Some(key.version.to_string()), ..EkInfo::new(ek.clone(), state) })
    }

    /// The versions that are not destroyed.
    async fn living(&self, ek: &EkName) -> Result<Vec<Key>, Error> {
        let mut keys = self.versions(ek).await?;
        keys.retain(|key| !key.is_destroyed());
        if keys.is_empty() { Err(Error::NoSuchKey(ek.clone())) } else { Ok(keys) }
    }

    pub(super) async fn disable(&self, ek: &EkName) -> Result<(), Error> {
        for key in self.living(ek).await?.iter().filter(|key| key.is("Active")) {
            self.set_state(ek, key, "revoke", "CessationOfOperation").await?;
        }
        Ok(())
    }

    pub(super) async fn enable(&self, ek: &EkName) -> Result<(), Error> {
        for key in self.living(ek).await?.iter().filter(|key| !key.is("Active")) {
            if !key.is("Deactivated") {
                return Err(Error::Unsupported { kind: KIND, operation: "enable compromised or pre-active" });
            }
            self.set_state(ek, key, "reactivate", "DeactivatedToActive").await?;
        }
        Ok(())
    }

    pub(super) async fn rotate(&self, ek: &EkName) -> Result<(), Error> {
        let key = self.current(ek).await?.usable(ek)?;
        let path = format!("{KEYS}/{}/versions?type=id", escaped(&key.id));
        let nothing = HashMap::<&str, &str>::new();
        let reply = self.session.send(|| Ask::new(Method::POST, &*path).json(&nothing)).await?;
        done(ek, &reply)
    }

    /// The oldest first: what is left after a failure still has the name.
    pub(super) async fn delete(&self, ek: &EkName) -> Result<(), Error> {
        for key in self.versions(ek).await? {
            let path = format!("{KEYS}/{}?type=id", escaped(&key.id));
            let reply = self.session.send(|| Ask::new(Method::DELETE, &*path)).await?;
            done(ek, &reply)?;
        }
        Ok(())
    }

    async fn set_state(&self, ek: &EkName, key: &Key, how: &str, reason: &'static str) -> Result<(), Error> {
        let path = format!("{KEYS}/{}/{how}?type=id", escaped(&key.id));
        let request = StateRequest { reason, message: "s3veil key" };
        let reply = self.session.send(|| Ask::new(Method::POST, &*path).json(&request)).await?;
        done(ek, &reply)
    }
}

impl<'a> CryptoRequest<'a> {
    fn new(key: &'a Key, iv: &[u8], aad: &[u8]) -> Self {
        Self {
            id: &key.id,
            r#type: "id",
            version: key.version,
            mode: "gcm",
            iv: BASE64_STANDARD.encode(iv),
            aad: BASE64_STANDARD.encode(aad),
            plaintext: None,
            ciphertext: None,
            tag: None,
        }
    }
}

fn done(ek: &EkName, reply: &Reply) -> Result<(), Error> {
    if reply.status.is_success() { Ok(()) } else { Err(refused(ek, reply)) }
}

/// What an answer that is an error means for an EK, or for the secret that holds one.
pub(super) fn refused(ek: &EkName, reply: &Reply) -> Error {
    match reply.status {
        StatusCode::NOT_FOUND => Error::NoSuchKey(ek.clone()),
        StatusCode::CONFLICT => Error::Exists(ek.clone()),
        _ => Error::Denied(reply.summary()),
    }
}
