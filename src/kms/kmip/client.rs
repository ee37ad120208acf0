//! The KMIP operations that s3veil uses, each one request.

use time::OffsetDateTime;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::message::{
    Attribute, Failure, Operation, Version, answer, read_attributes, request, tag, write_attributes,
};

use super::pool::Pool;
use super::ttlv::{Item, Writer};
use crate::kms::gcm::{IV_LEN, Sealed, TAG_LEN};
use crate::kms::{Error, WrappedDek};

const AES: u32 = 3;
const SYMMETRIC_KEY: u32 = 2;
const GCM: u32 = 9;
const RAW: u32 = 1;
const CESSATION_OF_OPERATION: u32 = 6;
/// Encrypt and Decrypt.
const USAGE: i32 = 0x04 | 0x08;
const REPLACEMENT_OBJECT: u32 = 0x106;
const REPLACED_OBJECT: u32 = 0x107;

/// The longest identifier that an envelope has room for, in bytes.
const MAX_ID: usize = 256;

/// A KMIP server, its version found out at first use if it is not configured.
pub(super) struct Client {
    pool: Pool,
    version: OnceCell<Version>,
}

/// Where a key is in its life. Source: specification 1.4, section 3.22 "State".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    PreActive,
    Active,
    Deactivated,
    Compromised,
    /// The material is gone; some servers keep the rest.
    Destroyed,
}

/// What a server says of a key.
#[derive(Debug, PartialEq)]
pub(super) struct Facts {
    pub life: Life,
    pub names: Vec<String>,
    pub created: Option<OffsetDateTime>,
    /// The key that this one came after.
    pub predecessor: Option<String>,
    /// The key that came after this one.
    pub successor: Option<String>,
    /// False for a key of another algorithm or length.
    pub is_aes256: bool,
}

/// Who chooses the IV of an encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iv<'a> {
    Ours(&'a [u8; IV_LEN]),
    Theirs,
}

impl Client {
    pub(super) fn new(pool: Pool, version: Option<Version>) -> Self {
        Self { pool, version: OnceCell::new_with(version) }
    }

    /// Asks for an operation.
    async fn ask<T>(
        &self,
        operation: Operation,
        payload: impl FnOnce(&mut Writer, Version),
        read: impl FnOnce(&Item<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let version = *self.version.get_or_try_init(|| self.discover()).await?;
        self.exchange(version, operation, |w| payload(w, version), read).await
    }

    async fn exchange<T>(
        &self,
        version: Version,
        operation: Operation,
        payload: impl FnOnce(&mut Writer),
        read: impl FnOnce(&Item<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let request = request(version, operation, payload);
        let message = self.pool.exchange(&request).await.map_err(Failure::Kms)?;
        answer(&message, operation, read)
    }

    /// The highest version that both sides speak. A server that can't say speaks 1.4 or nothing.
    async fn discover(&self) -> Result<Version, Failure> {
        let read = |payload: &Item<'_>| {
            let spoken: Vec<_> = payload.all(tag::PROTOCOL_VERSION).map(numbers).collect();
            let common =
                Version::ALL.into_iter().rev().find(|version| spoken.contains(&Some(version.numbers())));
            common.ok_or_else(|| {
                Error::Denied(format!("the server speaks none of KMIP 1.4, 2.0 and 2.1, but {spoken:?}"))
            })
        };
        match self.exchange(Version::V1_4, Operation::DiscoverVersions, |_| {}, read).await {
            Err(failure) if failure.is_unsupported() => Ok(Version::V1_4),
            other => other,
        }
    }

    /// Creates an AES-256 key. It can't be used yet.
    pub(super) async fn create(&self, name: &str) -> Result<String, Failure> {
        let key = [
            Attribute::Algorithm(AES),
            Attribute::Length(256),
            Attribute::UsageMask(USAGE),
            Attribute::Name(name),
        ];
        let payload = |w: &mut Writer, version| {
            w.enumeration(tag::OBJECT_TYPE, SYMMETRIC_KEY);
            write_attributes(w, version, Some(tag::TEMPLATE_ATTRIBUTE), &key);
        };
        self.ask(Operation::Create, payload, identifier).await
    }

    /// The identifiers of all symmetric keys, or of those of a name.
    pub(super) async fn locate(&self, name: Option<&str>) -> Result<Vec<String>, Failure> {
        let mut wanted = vec![Attribute::ObjectType(SYMMETRIC_KEY)];
        wanted.extend(name.map(Attribute::Name));
        let payload = |w: &mut Writer, version| write_attributes(w, version, None, &wanted);
        let read = |payload: &Item<'_>| payload.all(tag::UNIQUE_IDENTIFIER).map(text).collect();
        self.ask(Operation::Locate, payload, read).await
    }

    /// What the server says of a key.
    pub(super) async fn facts(&self, id: &str) -> Result<Facts, Failure> {
        let read = |payload: &Item<'_>| {
            same(payload, id)?;
            Facts::read(payload)
        };
        self.ask(Operation::GetAttributes, only(id), read).await
    }

    pub(super) async fn activate(&self, id: &str) -> Result<(), Failure> {
        self.ask(Operation::Activate, only(id), |payload| same(payload, id)).await
    }

    /// Deactivates a key.
    pub(super) async fn revoke(&self, id: &str) -> Result<(), Failure> {
        let payload = |w: &mut Writer, _| {
            w.text(tag::UNIQUE_IDENTIFIER, id);
            w.structure(tag::REVOCATION_REASON, |w| {
                w.enumeration(tag::REVOCATION_REASON_CODE, CESSATION_OF_OPERATION);
            });
        };
        self.ask(Operation::Revoke, payload, |payload| same(payload, id)).await
    }

    pub(super) async fn destroy(&self, id: &str) -> Result<(), Failure> {
        self.ask(Operation::Destroy, only(id), |payload| same(payload, id)).await
    }

    /// A new key that takes over the name and the attributes of this one, active at once where the server does so.
    pub(super) async fn rekey(&self, id: &str) -> Result<String, Failure> {
        let payload = |w: &mut Writer, _| {
            w.text(tag::UNIQUE_IDENTIFIER, id);
            w.interval(tag::OFFSET, 0);
        };
        self.ask(Operation::ReKey, payload, identifier).await
    }

    /// A DEK, wrapped.
    pub(super) async fn encrypt(
        &self,
        id: &str,
        dek: &[u8; 32],
        iv: Iv<'_>,
        aad: &[u8],
    ) -> Result<WrappedDek, Failure> {
        let payload = |w: &mut Writer, _| {
            w.text(tag::UNIQUE_IDENTIFIER, id);
            parameters(w, iv == Iv::Theirs);
            w.bytes(tag::DATA, dek);
            if let Iv::Ours(iv) = iv {
                w.bytes(tag::IV_COUNTER_NONCE, iv);
            }
            w.bytes(tag::AEAD_ADDITIONAL_DATA, aad);
        };
        let read = |payload: &Item<'_>| {
            same(payload, id)?;
            let answered = payload.find(tag::IV_COUNTER_NONCE).and_then(Item::bytes);
            let iv = match (iv, answered) {
                (Iv::Ours(iv), None) => iv.as_slice(),
                (Iv::Ours(iv), Some(answered)) if iv == answered => answered,
                (Iv::Ours(_), Some(_)) => return Err(lie("it encrypted under another IV")),
                (Iv::Theirs, Some(answered)) if answered.len() == IV_LEN => answered,
                (Iv::Theirs, Some(_)) => return Err(lie("its IV is not 12 bytes long; set iv = \"client\"")),
                (Iv::Theirs, None) => return Err(lie("it chose no IV; set iv = \"client\"")),
            };
            let ciphertext = field(payload, tag::DATA, "no ciphertext")?;
            let tag = field(payload, tag::AEAD_TAG, "no authentication tag")?;
            Sealed { iv, ciphertext, tag }.join()
        };
        self.ask(Operation::Encrypt, payload, read).await
    }

    /// What [`encrypt`](Self::encrypt) wrapped.
    pub(super) async fn decrypt(
        &self,
        id: &str,
        sealed: &Sealed<'_>,
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let payload = |w: &mut Writer, _| {
            w.text(tag::UNIQUE_IDENTIFIER, id);
            parameters(w, false);
            w.bytes(tag::DATA, sealed.ciphertext);
            w.bytes(tag::IV_COUNTER_NONCE, sealed.iv);
            w.bytes(tag::AEAD_ADDITIONAL_DATA, aad);
            w.bytes(tag::AEAD_TAG, sealed.tag);
        };
        let read = |payload: &Item<'_>| {
            same(payload, id)?;
            Ok(Zeroizing::new(field(payload, tag::DATA, "no plaintext")?.to_vec()))
        };
        self.ask(Operation::Decrypt, payload, read).await
    }

    /// The key's own bytes.
    pub(super) async fn get(&self, id: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let payload = |w: &mut Writer, _| {
            w.text(tag::UNIQUE_IDENTIFIER, id);
            w.enumeration(tag::KEY_FORMAT_TYPE, RAW);
        };
        let read = |payload: &Item<'_>| {
            same(payload, id)?;
            let material = payload
                .find(tag::SYMMETRIC_KEY)
                .and_then(|key| key.find(tag::KEY_BLOCK))
                .and_then(|block| block.find(tag::KEY_VALUE))
                .and_then(|value| value.find(tag::KEY_MATERIAL))
                .and_then(Item::bytes);
            let material = material.ok_or_else(|| lie("no key material"))?;
            let bytes = <[u8; 32]>::try_from(material).map(Zeroizing::new);
            bytes.map_err(|_| lie("a key that is not 32 bytes long"))
        };
        self.ask(Operation::Get, payload, read).await
    }
}

impl Facts {
    fn read(payload: &Item<'_>) -> Result<Self, Error> {
        let mut life = None;
        let mut facts = Self {
            life: Life::Destroyed,
            names: Vec::new(),
            created: None,
            predecessor: None,
            successor: None,
            is_aes256: true,
        };
        for (tag, value) in read_attributes(payload) {
            match tag {
                tag::STATE => life = value.enumeration(),
                tag::NAME => facts.names.push(text(value.find(tag::NAME_VALUE).unwrap_or(value))?),
                tag::INITIAL_DATE => {
                    facts.created =
                        value.date_time().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
                }
                tag::CRYPTOGRAPHIC_ALGORITHM => facts.is_aes256 &= value.enumeration() == Some(AES),
                tag::CRYPTOGRAPHIC_LENGTH => facts.is_aes256 &= value.integer() == Some(256),
                tag::LINK => {
                    let to = value.find(tag::LINKED_OBJECT_IDENTIFIER).and_then(Item::text);
                    match value.find(tag::LINK_TYPE).and_then(Item::enumeration) {
                        Some(REPLACED_OBJECT) => facts.predecessor = to.map(str::to_owned),
                        Some(REPLACEMENT_OBJECT) => facts.successor = to.map(str::to_owned),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        facts.life = match life {
            Some(1) => Life::PreActive,
            Some(2) => Life::Active,
            Some(3) => Life::Deactivated,
            Some(4) => Life::Compromised,
            Some(5 | 6) => Life::Destroyed,
            other => return Err(lie(&format!("a key in state {other:?}"))),
        };
        Ok(facts)
    }
}

/// A payload that names a key and nothing else.
fn only(id: &str) -> impl FnOnce(&mut Writer, Version) {
    move |w, _| w.text(tag::UNIQUE_IDENTIFIER, id)
}

fn parameters(w: &mut Writer, random_iv: bool) {
    w.structure(tag::CRYPTOGRAPHIC_PARAMETERS, |w| {
        w.enumeration(tag::BLOCK_CIPHER_MODE, GCM);
        w.enumeration(tag::CRYPTOGRAPHIC_ALGORITHM, AES);
        if random_iv {
            w.boolean(tag::RANDOM_IV, true);
            w.integer(tag::IV_LENGTH, IV_LEN as i32);
        }
        w.integer(tag::TAG_LENGTH, TAG_LEN as i32);
    });
}

fn numbers(version: &Item<'_>) -> Option<(i32, i32)> {
    Some((
        version.find(tag::PROTOCOL_VERSION_MAJOR)?.integer()?,
        version.find(tag::PROTOCOL_VERSION_MINOR)?.integer()?,
    ))
}

fn lie(why: &str) -> Error {
    Error::Malformed(format!("the server's answer: {why}"))
}

fn text(item: &Item<'_>) -> Result<String, Error> {
    item.text().map(str::to_owned).ok_or_else(|| lie("a name or identifier that is not a text"))
}

fn identifier(payload: &Item<'_>) -> Result<String, Error> {
    let id = payload.find(tag::UNIQUE_IDENTIFIER).ok_or_else(|| lie("no identifier"))?;
    let id = text(id)?;
    if id.is_empty() || id.len() > MAX_ID {
        return Err(lie(&format!("an identifier of {} bytes", id.len())));
    }
    Ok(id)
}

/// Every answer names the key that it is about.
fn same(payload: &Item<'_>, id: &str) -> Result<(), Error> {
    match identifier(payload)? {
        answered if answered == id => Ok(()),
        answered => Err(lie(&format!("it is about the key '{answered}', not about '{id}'"))),
    }
}

fn field<'a>(payload: &Item<'a>, tag: u32, missing: &str) -> Result<&'a [u8], Error> {
    payload.find(tag).and_then(Item::bytes).ok_or_else(|| lie(missing))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// The answer to Get Attributes, in 2.x.
    fn message() -> Vec<u8> {
        let mut w = Writer::default();
        w.structure(tag::RESPONSE_MESSAGE, |w| {
            w.structure(tag::BATCH_ITEM, |w| {
                w.enumeration(tag::OPERATION, Operation::GetAttributes as u32);
                w.enumeration(tag::RESULT_STATUS, 0);
                w.structure(tag::RESPONSE_PAYLOAD, |w| {
                    w.text(tag::UNIQUE_IDENTIFIER, "id");
                    w.structure(tag::ATTRIBUTES, |w| {
                        w.enumeration(tag::STATE, 2);
                        w.integer(tag::CRYPTOGRAPHIC_LENGTH, 128);
                        w.structure(tag::NAME, |w| w.text(tag::NAME_VALUE, "a"));
                        w.structure(tag::LINK, |w| {
                            w.enumeration(tag::LINK_TYPE, REPLACED_OBJECT);
                            w.text(tag::LINKED_OBJECT_IDENTIFIER, "older");
                        });
                    });
                });
            });
        });
        w.finish().to_vec()
    }

    fn read(message: &[u8]) -> Result<Facts, Failure> {
        answer(message, Operation::GetAttributes, Facts::read)
    }

    #[test]
    fn facts() {
        let facts = read(&message()).unwrap();
        let expected = Facts {
            life: Life::Active,
            names: vec!["a".into()],
            created: None,
            predecessor: Some("older".into()),
            successor: None,
            is_aes256: false,
        };
        assert_eq!(facts, expected);
    }

    proptest! {
        #[test]
        fn no_damage_panics(at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
            let mut message = message();
            let len = message.len();
            message[at % len] = byte;
            let _ = read(&message);
            assert!(read(&message[..cut % len]).is_err());
        }
    }
}
