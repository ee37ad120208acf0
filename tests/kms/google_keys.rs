//! The keys of the tests' own Cloud KMS: versions, their states, and what is done with them.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::google_server::{
    Ask, DISABLED, ENABLED, RING, Refused, SCHEDULED, STATES, bytes, crc32c, error, invalid, not_found,
    precondition, verified,
};

/// A key and its versions, counted from 1.
pub struct CryptoKey {
    pub versions: Vec<Version>,
    pub primary: usize,
}

/// A version of a key.
pub struct Version {
    key: [u8; 32],
    pub state: usize,
}

impl CryptoKey {
    pub fn new() -> Self {
        Self { versions: vec![Version::new()], primary: 1 }
    }

    pub fn show(&self, id: &str, ask: &Ask) -> Value {
        json!({
            "name": format!("{RING}/cryptoKeys/{id}"),
            "purpose": if ask.names { json!("ENCRYPT_DECRYPT") } else { json!(1) },
            "createTime": "2026-11-25T12:00:00.5Z",
            "primary": self.show_version(id, self.primary, ask),
        })
    }

    fn show_version(&self, id: &str, number: usize, ask: &Ask) -> Value {
        json!({ "name": version_name(id, number), "state": ask.state(self.versions[number - 1].state) })
    }

    pub fn answer(&mut self, id: &str, rest: &[&str], verb: &str, ask: &Ask) -> Result<Value, Refused> {
        match (rest, verb, ask.method.as_str()) {
            ([], "", "GET") => Ok(self.show(id, ask)),
            ([], "encrypt", "POST") => self.encrypt(id, &ask.json()),
            ([], "decrypt", "POST") => self.decrypt(id, &ask.json()),
            ([], "updatePrimaryVersion", "POST") => {
                let wanted = ask.json()["cryptoKeyVersionId"].as_str().and_then(|text| text.parse().ok());
                let wanted = wanted.filter(|number| (1..=self.versions.len()).contains(number));
                let number: usize = wanted.ok_or_else(|| not_found("version"))?;
                self.usable(id, number)?;
                self.primary = number;
                Ok(self.show(id, ask))
            }
            (["cryptoKeyVersions"], "", "GET") => {
                Ok(ask.page("cryptoKeyVersions", 1..=self.versions.len(), |number| {
                    self.show_version(id, number, ask)
                }))
            }
            (["cryptoKeyVersions"], "", "POST") => {
                self.versions.push(Version::new());
                Ok(self.show_version(id, self.versions.len(), ask))
            }
            (["cryptoKeyVersions", number], ..) => {
                let number: usize = number.parse().map_err(|_| invalid("version"))?;
                let version = self.versions.get_mut(number - 1).ok_or_else(|| not_found("version"))?;
                let was = STATES[version.state];
                version.state = match (verb, ask.method.as_str(), version.state) {
                    ("", "GET", state) => state,
                    ("destroy", "POST", ENABLED | DISABLED) => SCHEDULED,
                    ("restore", "POST", SCHEDULED) => DISABLED,
                    ("", "PATCH", ENABLED | DISABLED) => {
                        if ask.query.get("updateMask").map(String::as_str) != Some("state") {
                            return Err(invalid("update_mask"));
                        }
                        let wanted = &ask.json()["state"];
                        (ENABLED..=DISABLED)
                            .find(|state| *wanted == json!(state) || *wanted == json!(STATES[*state]))
                            .ok_or_else(|| invalid("state"))?
                    }
                    _ => return Err(precondition(&format!("{} has state {was}.", version_name(id, number)))),
                };
                Ok(self.show_version(id, number, ask))
            }
            _ => Err(error(404, "NOT_FOUND", "no such method")),
        }
    }

    fn usable(&self, id: &str, number: usize) -> Result<&Version, Refused> {
        let version = &self.versions[number - 1];
        match version.state {
            ENABLED => Ok(version),
            state => Err(precondition(&format!(
                "{} is not enabled, current state is: {}.",
                version_name(id, number),
                STATES[state]
            ))),
        }
    }

    fn encrypt(&self, id: &str, ask: &Value) -> Result<Value, Refused> {
        let (msg, aad) = (bytes(&ask["plaintext"])?, bytes(&ask["additionalAuthenticatedData"])?);
        let plain = verified(ask, "plaintext", "plaintextCrc32c", &msg)?;
        let bound =
            verified(ask, "additional_authenticated_data", "additionalAuthenticatedDataCrc32c", &aad)?;
        let version = self.usable(id, self.primary)?;
        let nonce: [u8; 12] = random();
        let payload = Payload { msg: &msg, aad: &aad };
        let sealed = Aes256Gcm::new((&version.key).into()).encrypt(&nonce.into(), payload).unwrap();
        let number = u32::try_from(self.primary).unwrap().to_be_bytes();
        let ciphertext = [&number[..], &nonce, &sealed].concat();
        Ok(json!({
            "name": version_name(id, self.primary),
            "ciphertext": BASE64_STANDARD.encode(&ciphertext),
            "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
            "verifiedPlaintextCrc32c": plain,
            "verifiedAdditionalAuthenticatedDataCrc32c": bound,
            "protectionLevel": 1,
        }))
    }

    fn decrypt(&self, id: &str, ask: &Value) -> Result<Value, Refused> {
        let (sealed, aad) = (bytes(&ask["ciphertext"])?, bytes(&ask["additionalAuthenticatedData"])?);
        verified(ask, "ciphertext", "ciphertextCrc32c", &sealed)?;
        verified(ask, "additional_authenticated_data", "additionalAuthenticatedDataCrc32c", &aad)?;
        let failed = || invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.");
        let (number, rest) = sealed.split_first_chunk::<4>().ok_or_else(failed)?;
        let (nonce, msg) = rest.split_first_chunk::<12>().ok_or_else(failed)?;
        let number = u32::from_be_bytes(*number) as usize;
        if !(1..=self.versions.len()).contains(&number) {
            return Err(failed());
        }
        let version = self.usable(id, number)?;
        let cipher = Aes256Gcm::new((&version.key).into());
        let plain = cipher.decrypt(&(*nonce).into(), Payload { msg, aad: &aad }).map_err(|_| failed())?;
        Ok(json!({
            "plaintext": BASE64_STANDARD.encode(&plain),
            "plaintextCrc32c": crc32c(&plain).to_string(),
            "usedPrimary": number == self.primary,
        }))
    }
}

impl Version {
    fn new() -> Self {
        Self { key: random(), state: ENABLED }
    }
}

fn version_name(id: &str, number: usize) -> String {
    format!("{RING}/cryptoKeys/{id}/cryptoKeyVersions/{number}")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
