//! One EK as the keystore writes it: a JSON record whose secret is sealed under the master key.
//!
//! ```text
//! sealed = nonce[12] ‖ AES-256-GCM(master key, nonce, secret, aad)
//! aad    = "s3veil/keystore/v1" ‖ len(name) ‖ name ‖ len(state) ‖ state ‖ seconds since 1970      (lengths: u32, big-endian)
//! ```
//!
//! A random nonce is right here: the master key seals a few files, far from the 2^32 of SP 800-38D, section 8.3.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::kms::secrets::random;
use crate::kms::{EkName, State};

const DOMAIN: &[u8] = b"s3veil/keystore/v1";
const NONCE_LEN: usize = 12;

/// What opens the keystore.
pub(super) struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

/// An EK file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    version: u8,
    name: EkName,
    pub(super) state: State,
    #[serde(with = "time::serde::timestamp")]
    pub(super) created: OffsetDateTime,
    sealed: String,
}

impl KeyFile {
    /// Seals a secret with its name, state and time of creation (to the second).
    pub(super) fn seal(
        name: &EkName,
        state: State,
        created: OffsetDateTime,
        secret: &[u8],
        master: &MasterKey,
    ) -> Self {
        let nonce = random::<NONCE_LEN>();
        let mut file = Self { version: 1, name: name.clone(), state, created, sealed: String::new() };
        let payload = Payload { msg: secret, aad: &file.aad() };
        let sealed =
            master.cipher().encrypt(&(*nonce).into(), payload).expect("a secret is far below GCM's limit");
        file.sealed = BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat());
        file
    }

    /// Reads a file that lies under this name. Nothing in it is to be believed before `open`.
    pub(super) fn parse(text: &[u8], name: &EkName) -> Result<Self, &'static str> {
        let file: Self = serde_json::from_slice(text).map_err(|_| "not a file of the keystore")?;
        match file.version {
            1 if file.name == *name => Ok(file),
            1 => Err("it holds a key of another name; a key can't be renamed"),
            _ => Err("made by a newer s3veil"),
        }
    }

    /// The secret; `None` if anything in the file was changed, or the master key is another.
    pub(super) fn open(&self, master: &MasterKey) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = BASE64_STANDARD.decode(&self.sealed).ok()?;
        let (nonce, msg) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let payload = Payload { msg, aad: &self.aad() };
        master.cipher().decrypt(&(*nonce).into(), payload).ok().map(Zeroizing::new)
    }

    /// The form on disk.
    pub(super) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a record of strings and numbers is JSON");
        json.push('\n');
        json
    }

    fn aad(&self) -> Vec<u8> {
        let mut aad = DOMAIN.to_vec();
        for field in [self.name.as_str(), &self.state.to_string()] {
            let len = u32::try_from(field.len()).expect("names are short");
            aad.extend_from_slice(&len.to_be_bytes());
            aad.extend_from_slice(field.as_bytes());
        }
        aad.extend_from_slice(&self.created.unix_timestamp().to_be_bytes());
        aad
    }
}
