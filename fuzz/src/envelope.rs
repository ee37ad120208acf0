//! The envelope. Input: a byte that says what the rest is: 0 its text, 1 its bytes before base64, 2 the bytes of its
//! header.
//!
//! Holds: an envelope that can be read encodes to the same text, and its fields are within the format's bounds; none
//! opens but those that were sealed.

use std::collections::HashSet;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3veil::seal::{Dek, Envelope, Layout, Place, PlainLen, Sse, WRAPPED_DEK_MAX};
use serde_json::Value;

use super::input::Input;

/// The texts that were sealed, and under what: one DEK, at one place.
pub(super) struct Sealed {
    texts: HashSet<String>,
    dek: [u8; 32],
}

impl Sealed {
    pub(super) fn dek(&self) -> Dek {
        Dek::from(self.dek)
    }
}

pub(super) const PLACE: Place<'static> = Place { bucket: "bucket", key: "a/b" };

/// What `docs/format.md`'s test vectors hold.
pub(super) fn vectors(name: &str) -> Vec<Value> {
    let text = match name {
        "stream" => include_str!("../../tests/vectors/stream-v1.json"),
        "composite" => include_str!("../../tests/vectors/composite-v1.json"),
        _ => include_str!("../../tests/vectors/stream-v1-negative.json"),
    };
    serde_json::from_str(text).expect("the vectors are JSON")
}

pub(super) fn text<'v>(vector: &'v Value, name: &str) -> &'v str {
    vector[name].as_str().expect("the vectors have the field")
}

pub(super) fn bytes32(vector: &Value, name: &str) -> [u8; 32] {
    hex::decode(text(vector, name)).expect("hex").try_into().expect("32 bytes")
}

pub(super) fn sealed() -> &'static Sealed {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    SEALED.get_or_init(|| {
        // Of the negative ones those that are wrong in their body, or in the DEK that they are opened with.
        let mut negative = vectors("negative");
        let dek = bytes32(&vectors("stream")[0], "dek");
        let sealed = |step: &str| step != "parse" && step != "open";
        negative.retain(|vector| sealed(text(vector, "step")) || bytes32(vector, "dek") != dek);
        let all: Vec<Value> = [vectors("stream"), vectors("composite"), negative].concat();
        let texts = all.iter().map(|vector| text(vector, "envelope").to_owned()).collect();
        Sealed { texts, dek }
    })
}

/// Reads a text, and tries to open what it says.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let rest = input.rest();
    let text = match kind {
        0 => match std::str::from_utf8(rest) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
        1 => URL_SAFE_NO_PAD.encode(rest),
        _ => URL_SAFE_NO_PAD.encode(around(rest)),
    };
    let Ok(envelope) = Envelope::parse(&text) else { return };
    assert_eq!(envelope.encode(), text);
    assert_eq!(Envelope::parse(&envelope.encode()).as_ref(), Ok(&envelope));

    let header = envelope.header();
    let customer = header.sse == Sse::Customer;
    assert_eq!(header.kms.is_empty(), customer);
    assert_eq!(header.ek.is_empty(), customer);
    assert_eq!(header.wrapped_dek.is_empty(), customer);
    assert!(header.kms.len() <= 64 && header.ek.len() <= 512 && header.wrapped_dek.len() <= WRAPPED_DEK_MAX);
    if let Layout::Stream(length) = header.layout {
        assert!(length <= PlainLen::MAX);
    }
    let sealed = sealed();
    if envelope.open(&sealed.dek(), PLACE).is_ok() {
        assert!(sealed.texts.contains(&text), "an envelope opens that was never sealed");
    }
}

/// An envelope of this header, its key and commitment zero.
fn around(header: &[u8]) -> Vec<u8> {
    let len = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let mut out = vec![0x83];
    match len {
        0..=23 => out.push(0x40 | len as u8),
        24..=255 => out.extend([0x58, len as u8]),
        _ => out.extend([&[0x59][..], &len.to_be_bytes()].concat()),
    }
    out.extend_from_slice(header);
    out.extend([0x58, 48]);
    out.extend([0; 48]);
    out.extend([0x58, 32]);
    out.extend([0; 32]);
    out
}

/// The vectors' envelopes, and what must not be read or opened.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for vector in vectors("stream").iter().chain(&vectors("composite")).chain(&vectors("negative")) {
        let text = text(vector, "envelope");
        if text.len() > 1024 {
            continue;
        }
        seeds.push([&[0], text.as_bytes()].concat());
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { continue };
        seeds.push([&[1], &bytes[..]].concat());
        // The header is the byte string behind `83 58 len`.
        if let [0x83, 0x58, len, rest @ ..] = &bytes[..]
            && let Some(header) = rest.get(..usize::from(*len))
        {
            seeds.push([&[2], header].concat());
        }
    }
    seeds
}
