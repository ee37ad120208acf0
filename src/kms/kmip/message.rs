//! A KMIP message: one request and its answer, and attributes in the forms of 1.x and 2.x.
//!
//! ```text
//! RequestMessage  { RequestHeader { ProtocolVersion { major, minor }, BatchCount 1 },
//!                   BatchItem { Operation, RequestPayload } }
//! ResponseMessage { ResponseHeader { ... }, BatchItem { Operation, ResultStatus, ResultReason, ResultMessage,
//!                   ResponsePayload } }
//! 1.x: Attribute { AttributeName "State", AttributeValue }    2.x: Attributes { State }
//! ```
//!
//! Source: Key Management Interoperability Protocol Specification 1.4, sections 7 and 9.1.3; 2.1, sections 8 and 11.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::ttlv::{self, Item, Tag, Writer};
use crate::kms::{EkName, Error};

/// The tags that s3veil writes or reads.
pub(super) mod tag {
    use super::Tag;

    pub(in super::super) const ATTRIBUTE: Tag = 0x42_0008;
    pub(in super::super) const ATTRIBUTE_NAME: Tag = 0x42_000a;
    pub(in super::super) const ATTRIBUTE_VALUE: Tag = 0x42_000b;
    pub(in super::super) const BATCH_COUNT: Tag = 0x42_000d;
    pub(in super::super) const BATCH_ITEM: Tag = 0x42_000f;
    pub(in super::super) const BLOCK_CIPHER_MODE: Tag = 0x42_0011;
    pub(in super::super) const CRYPTOGRAPHIC_ALGORITHM: Tag = 0x42_0028;
    pub(in super::super) const CRYPTOGRAPHIC_LENGTH: Tag = 0x42_002a;
    pub(in super::super) const CRYPTOGRAPHIC_PARAMETERS: Tag = 0x42_002b;
    pub(in super::super) const CRYPTOGRAPHIC_USAGE_MASK: Tag = 0x42_002c;
    pub(in super::super) const INITIAL_DATE: Tag = 0x42_0039;
    pub(in super::super) const IV_COUNTER_NONCE: Tag = 0x42_003d;
    pub(in super::super) const KEY_BLOCK: Tag = 0x42_0040;
    pub(in super::super) const KEY_FORMAT_TYPE: Tag = 0x42_0042;
    pub(in super::super) const KEY_MATERIAL: Tag = 0x42_0043;
    pub(in super::super) const KEY_VALUE: Tag = 0x42_0045;
    pub(in super::super) const LINK: Tag = 0x42_004a;
    pub(in super::super) const LINK_TYPE: Tag = 0x42_004b;
    pub(in super::super) const LINKED_OBJECT_IDENTIFIER: Tag = 0x42_004c;
    pub(in super::super) const NAME: Tag = 0x42_0053;
    pub(in super::super) const NAME_TYPE: Tag = 0x42_0054;
    pub(in super::super) const NAME_VALUE: Tag = 0x42_0055;
    pub(in super::super) const OBJECT_TYPE: Tag = 0x42_0057;
    pub(in super::super) const OFFSET: Tag = 0x42_0058;
    pub(in super::super) const OPERATION: Tag = 0x42_005c;
    pub(in super::super) const PROTOCOL_VERSION: Tag = 0x42_0069;
    pub(in super::super) const PROTOCOL_VERSION_MAJOR: Tag = 0x42_006a;
    pub(in super::super) const PROTOCOL_VERSION_MINOR: Tag = 0x42_006b;
    pub(in super::super) const REQUEST_HEADER: Tag = 0x42_0077;
    pub(in super::super) const REQUEST_MESSAGE: Tag = 0x42_0078;
    pub(in super::super) const REQUEST_PAYLOAD: Tag = 0x42_0079;
    pub(in super::super) const RESPONSE_MESSAGE: Tag = 0x42_007b;
    pub(in super::super) const RESPONSE_PAYLOAD: Tag = 0x42_007c;
    pub(in super::super) const RESULT_MESSAGE: Tag = 0x42_007d;
    pub(in super::super) const RESULT_REASON: Tag = 0x42_007e;
    pub(in super::super) const RESULT_STATUS: Tag = 0x42_007f;
    pub(in super::super) const REVOCATION_REASON: Tag = 0x42_0081;
    pub(in super::super) const REVOCATION_REASON_CODE: Tag = 0x42_0082;
    pub(in super::super) const STATE: Tag = 0x42_008d;
    pub(in super::super) const SYMMETRIC_KEY: Tag = 0x42_008f;
    pub(in super::super) const TEMPLATE_ATTRIBUTE: Tag = 0x42_0091;
    pub(in super::super) const UNIQUE_IDENTIFIER: Tag = 0x42_0094;
    pub(in super::super) const DATA: Tag = 0x42_00c2;
    pub(in super::super) const RANDOM_IV: Tag = 0x42_00c5;
    pub(in super::super) const IV_LENGTH: Tag = 0x42_00cd;
    pub(in super::super) const TAG_LENGTH: Tag = 0x42_00ce;
    pub(in super::super) const AEAD_ADDITIONAL_DATA: Tag = 0x42_00fe;
    pub(in super::super) const AEAD_TAG: Tag = 0x42_00ff;
    pub(in super::super) const ATTRIBUTES: Tag = 0x42_0125;
}

/// Which KMIP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Version {
    /// The last of 1.x, and the first with the tag of an AEAD cipher.
    #[serde(rename = "1.4")]
    V1_4,
    /// Spoken by PyKMIP; for what is used here the same as 2.1.
    #[serde(rename = "2.0")]
    V2_0,
    #[serde(rename = "2.1")]
    V2_1,
}

impl Version {
    pub(super) const ALL: [Self; 3] = [Self::V1_4, Self::V2_0, Self::V2_1];

    pub(super) fn numbers(self) -> (i32, i32) {
        match self {
            Self::V1_4 => (1, 4),
            Self::V2_0 => (2, 0),
            Self::V2_1 => (2, 1),
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create = 0x01,
    ReKey = 0x04,
    Locate = 0x08,
    Get = 0x0a,
    GetAttributes = 0x0b,
    Activate = 0x12,
    Revoke = 0x13,
    Destroy = 0x14,
    DiscoverVersions = 0x1e,
    Encrypt = 0x1f,
    Decrypt = 0x20,
}

/// A request with this payload.
pub(super) fn request(
    version: Version,
    operation: Operation,
    payload: impl FnOnce(&mut Writer),
) -> Zeroizing<Vec<u8>> {
    let (major, minor) = version.numbers();
    let mut writer = Writer::default();
    writer.structure(tag::REQUEST_MESSAGE, |w| {
        w.structure(tag::REQUEST_HEADER, |w| {
            w.structure(tag::PROTOCOL_VERSION, |w| {
                w.integer(tag::PROTOCOL_VERSION_MAJOR, major);
                w.integer(tag::PROTOCOL_VERSION_MINOR, minor);
            });
            w.integer(tag::BATCH_COUNT, 1);
        });
        w.structure(tag::BATCH_ITEM, |w| {
            w.enumeration(tag::OPERATION, operation as u32);
            w.structure(tag::REQUEST_PAYLOAD, payload);
        });
    });
    writer.finish()
}

/// What the payload of an answer holds for `read`.
///
/// Errors: the server's refusal; [`Error::Malformed`] for an answer that is not one to this operation.
pub(super) fn answer<T>(
    message: &[u8],
    operation: Operation,
    read: impl FnOnce(&Item<'_>) -> Result<T, Error>,
) -> Result<T, Failure> {
    let broken = |why: &str| Failure::Kms(Error::Malformed(format!("the server's answer: {why}")));
    let message = ttlv::parse(message).map_err(|why| Failure::Kms(Error::Malformed(why.to_string())))?;
    let mut items = message.all(tag::BATCH_ITEM);
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(broken("not one batch item"));
    };
    match item.find(tag::RESULT_STATUS).and_then(Item::enumeration) {
        Some(0) => {}
        Some(_) => return Err(Failure::refused(item)),
        None => return Err(broken("no result")),
    }
    if item.find(tag::OPERATION).and_then(Item::enumeration) != Some(operation as u32) {
        return Err(broken("it is for another operation"));
    }
    let payload = item.find(tag::RESPONSE_PAYLOAD).ok_or_else(|| broken("no payload"))?;
    read(payload).map_err(Failure::Kms)
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// The server could not be asked, or lies.
    Kms(Error),
    /// The server says no.
    Refused {
        /// KMIP's result reason.
        reason: u32,
        /// The server's words.
        message: String,
    },
}

impl Failure {
    fn refused(item: &Item<'_>) -> Self {
        let reason = item.find(tag::RESULT_REASON).and_then(Item::enumeration).unwrap_or(0x100);
        let message = item.find(tag::RESULT_MESSAGE).and_then(Item::text).unwrap_or("no words");
        let message: String = message.chars().take(200).collect();
        Self::Refused { reason, message: message.split_whitespace().collect::<Vec<_>>().join(" ") }
    }

    /// True if there is no such object: ItemNotFound, ObjectDestroyed, ObjectNotFound.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { reason: 0x01 | 0x36 | 0x37, .. })
    }

    /// True if the server does not do that at all: OperationNotSupported, FeatureNotSupported.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { reason: 0x05 | 0x08, .. })
    }

    /// True if the server's own trouble is the reason: InternalServerError, ServerLimitExceeded,
    /// ProtectionStorageUnavailable.
    fn is_trouble(&self) -> bool {
        matches!(self, Self::Refused { reason: 0x2a | 0x3a | 0x44, .. })
    }

    /// True if the object's state, the server's, or who asks, is what is refused, and not the data:
    /// AuthenticationNotSuccessful, PermissionDenied, NotAuthorised, WrongKeyLifecycleState and those above.
    /// GeneralFailure is not among them: it is what some servers call a wrong tag.
    pub(super) fn is_not_about_data(&self) -> bool {
        self.is_not_found()
            || self.is_unsupported()
            || self.is_trouble()
            || matches!(self, Self::Kms(_) | Self::Refused { reason: 0x03 | 0x0c | 0x39 | 0x43, .. })
    }

    /// The error for an EK. Source of the numbers: specification 2.1, section 11.46 "Result Reason Enumeration".
    pub(super) fn for_ek(self, ek: &EkName) -> Error {
        let (not_found, trouble) = (self.is_not_found(), self.is_trouble());
        match self {
            Self::Kms(error) => error,
            Self::Refused { .. } if not_found => Error::NoSuchKey(ek.clone()),
            // ObjectAlreadyExists, NonUniqueNameAttribute
            Self::Refused { reason: 0x18 | 0x35, .. } => Error::Exists(ek.clone()),
            // WrongKeyLifecycleState
            Self::Refused { reason: 0x43, .. } => Error::Disabled(ek.clone()),
            // 0x100: GeneralFailure
            Self::Refused { reason, message } if trouble || reason == 0x100 => {
                Error::Unavailable(format!("{message} (KMIP reason {reason:#x})"))
            }
            Self::Refused { reason, message } => {
                Error::Denied(format!("{message} (KMIP reason {reason:#x})"))
            }
        }
    }
}

/// An attribute as written.
#[derive(Clone, Copy)]
pub(super) enum Attribute<'a> {
    Name(&'a str),
    ObjectType(u32),
    Algorithm(u32),
    /// In bits.
    Length(i32),
    UsageMask(i32),
}

impl Attribute<'_> {
    /// Its names in 1.x and 2.x.
    fn names(self) -> (&'static str, Tag) {
        match self {
            Self::Name(_) => ("Name", tag::NAME),
            Self::ObjectType(_) => ("Object Type", tag::OBJECT_TYPE),
            Self::Algorithm(_) => ("Cryptographic Algorithm", tag::CRYPTOGRAPHIC_ALGORITHM),
            Self::Length(_) => ("Cryptographic Length", tag::CRYPTOGRAPHIC_LENGTH),
            Self::UsageMask(_) => ("Cryptographic Usage Mask", tag::CRYPTOGRAPHIC_USAGE_MASK),
        }
    }

    fn write(self, w: &mut Writer, tag: Tag) {
        const UNINTERPRETED_TEXT: u32 = 1;
        match self {
            Self::Name(name) => w.structure(tag, |w| {
                w.text(tag::NAME_VALUE, name);
                w.enumeration(tag::NAME_TYPE, UNINTERPRETED_TEXT);
            }),
            Self::ObjectType(number) | Self::Algorithm(number) => w.enumeration(tag, number),
            Self::Length(number) | Self::UsageMask(number) => w.integer(tag, number),
        }
    }
}

/// Writes attributes; in 1.x within `frame`, if the operation has one there.
pub(super) fn write_attributes(
    w: &mut Writer,
    version: Version,
    frame: Option<Tag>,
    attributes: &[Attribute<'_>],
) {
    let old = |w: &mut Writer| {
        for attribute in attributes {
            w.structure(tag::ATTRIBUTE, |w| {
                w.text(tag::ATTRIBUTE_NAME, attribute.names().0);
                attribute.write(w, tag::ATTRIBUTE_VALUE);
            });
        }
    };
    match (version, frame) {
        (Version::V1_4, Some(frame)) => w.structure(frame, old),
        (Version::V1_4, None) => old(w),
        (Version::V2_0 | Version::V2_1, _) => w.structure(tag::ATTRIBUTES, |w| {
            attributes.iter().for_each(|attribute| attribute.write(w, attribute.names().1));
        }),
    }
}

/// The attributes in a payload, in either form, by their tags in 2.x. Those that s3veil does not know are left out.
pub(super) fn read_attributes<'p, 'a>(payload: &'p Item<'a>) -> impl Iterator<Item = (Tag, &'p Item<'a>)> {
    let old = payload.all(tag::ATTRIBUTE).filter_map(|attribute| {
        let tag = match attribute.find(tag::ATTRIBUTE_NAME)?.text()? {
            "Name" => tag::NAME,
            "State" => tag::STATE,
            "Initial Date" => tag::INITIAL_DATE,
            "Link" => tag::LINK,
            "Cryptographic Algorithm" => tag::CRYPTOGRAPHIC_ALGORITHM,
            "Cryptographic Length" => tag::CRYPTOGRAPHIC_LENGTH,
            _ => return None,
        };
        Some((tag, attribute.find(tag::ATTRIBUTE_VALUE)?))
    });
    let new = payload.all(tag::ATTRIBUTES).flat_map(Item::items).map(|item| (item.tag, item));
    old.chain(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text.split_whitespace().collect::<String>()).unwrap()
    }

    /// A Create of an AES key as KMIP's published test cases lay it out: 1.x with a TemplateAttribute, 2.x without.
    #[test]
    fn attributes_in_both_forms() {
        let attributes = [Attribute::Algorithm(3), Attribute::Name("a")];
        let write = |version| {
            let mut w = Writer::default();
            write_attributes(&mut w, version, Some(tag::TEMPLATE_ATTRIBUTE), &attributes);
            w.finish().to_vec()
        };
        let algorithm = hex::encode("Cryptographic Algorithm");
        let name = "42005507 00000001 6100000000000000 42005405 00000004 0000000100000000";
        let old = hex(&format!(
            "42009101 00000078
             42000801 00000030 42000a07 00000017 {algorithm}00 42000b05 00000004 0000000300000000
             42000801 00000038 42000a07 00000004 4e616d6500000000 42000b01 00000020 {name}"
        ));
        assert_eq!(write(Version::V1_4), old);
        let new =
            hex(&format!("42012501 00000038 42002805 00000004 0000000300000000 42005301 00000020 {name}"));
        assert_eq!(write(Version::V2_1), new);
        for bytes in [old, new] {
            let frame = [&hex("42007901")[..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat();
            let payload = ttlv::parse(&frame).unwrap();
            // In an answer, the attributes of 1.x stand in the payload itself.
            let payload = payload.find(tag::TEMPLATE_ATTRIBUTE).unwrap_or(&payload);
            let read: Vec<Tag> = read_attributes(payload).map(|(tag, _)| tag).collect();
            assert_eq!(read, [tag::CRYPTOGRAPHIC_ALGORITHM, tag::NAME]);
        }
    }

    #[test]
    fn only_an_answer_to_the_operation_is_one() {
        let message = |items: &[(u32, u32, bool)]| {
            let mut w = Writer::default();
            w.structure(tag::RESPONSE_MESSAGE, |w| {
                for &(operation, status, payload) in items {
                    w.structure(tag::BATCH_ITEM, |w| {
                        w.enumeration(tag::OPERATION, operation);
                        w.enumeration(tag::RESULT_STATUS, status);
                        if payload {
                            w.structure(tag::RESPONSE_PAYLOAD, |_| {});
                        } else {
                            w.enumeration(tag::RESULT_REASON, 0x0c);
                            w.text(tag::RESULT_MESSAGE, "not\nyou");
                        }
                    });
                }
            });
            w.finish()
        };
        let read = |items: &[_]| answer(&message(items), Operation::Activate, |_| Ok(()));
        assert_eq!(read(&[(0x12, 0, true)]), Ok(()));
        for lie in [&[][..], &[(0x12, 0, true), (0x12, 0, true)], &[(0x13, 0, true)], &[(0x12, 0, false)]] {
            assert!(matches!(read(lie), Err(Failure::Kms(Error::Malformed(_)))), "{lie:?}");
        }
        let refused = read(&[(0x12, 1, false)]).unwrap_err();
        let ek = EkName::parse("a").unwrap();
        assert_eq!(refused.for_ek(&ek), Error::Denied("not you (KMIP reason 0xc)".into()));
    }
}
