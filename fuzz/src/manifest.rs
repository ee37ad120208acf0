//! The manifest of a composite object. Input: a byte of kind, then for kind 0 eight bytes of the size of what stands
//! before the block, and the manifest's text, which is sealed for the object here, as only who has its key could; for
//! kind 1 parts, a checksum, and where to damage the block.
//!
//! Holds: what can be read is one form of one manifest; a manifest that was sealed opens to itself, and a damaged
//! block or one for another size does not; every range lies within the object's sealed bytes.

use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use s3veil::seal::{
    BLOCK_MAX, Envelope, Error, FOOTER_LEN, Manifest, ObjectSum, Opened, Part, PartNumber, PlainAsk,
    PlainLen, SealedLen, SumAlgorithm, SumKind, block_len,
};
use sha2::Sha256;

use super::envelope::{PLACE, bytes32, sealed, text, vectors};
use super::input::Input;

/// A composite object, and its key.
struct Object {
    opened: Opened,
    oek: [u8; 32],
}

fn object() -> &'static Object {
    static OBJECT: OnceLock<Object> = OnceLock::new();
    OBJECT.get_or_init(|| {
        let vector = &vectors("composite")[0];
        let envelope = Envelope::parse(text(vector, "envelope")).expect("a vector is an envelope");
        let opened = envelope.open(&sealed().dek(), PLACE).expect("and opens");
        Object { opened, oek: bytes32(vector, "oek") }
    })
}

/// Opens a block.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() == 0 {
        let before = input.u64();
        return of_text(before, input.rest());
    }
    of_parts(input);
}

fn of_text(before: u64, text: &[u8]) {
    let opened = &object().opened;
    let length = 32 + text.len() as u64 + 16 + FOOTER_LEN;
    let size = before.saturating_add(length);
    let block = seal(text, size);
    let footer = block.last_chunk().expect("a block ends in its footer");
    assert_eq!(block_len(footer, SealedLen::new(size)), Ok(length));
    let Ok(manifest) = opened.open_manifest(&block, SealedLen::new(size)) else { return };
    let parts = manifest.parts().to_vec();
    let again = Manifest::new(parts, manifest.checksum().cloned(), *manifest.upload());
    assert_eq!(again.as_ref(), Ok(&manifest));
    assert_eq!(before, sealed_parts(&manifest));
    let again = unseal(opened.seal_manifest(&manifest).expect("random bytes").bytes(), before);
    assert_eq!(unpadded(text), unpadded(&again), "two forms of one manifest");
    locate(&manifest, 0, 1);
}

fn unpadded(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &text[..end]
}

/// The sealed manifest block of the vectors' object, made by the letter of `docs/format.md`.
fn seal(text: &[u8], size: u64) -> Vec<u8> {
    let salt = [7; 32];
    let length = 32 + text.len() as u64 + 16 + FOOTER_LEN;
    let footer = [&b"\x93s3veil\x01"[..], &length.to_be_bytes()].concat();
    let aad = [&size.to_be_bytes()[..], &footer].concat();
    let mut message = text.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key(&salt).seal_in_place_append_tag(nonce, Aad::from(aad), &mut message).expect("a short message");
    [&salt[..], &message, &footer].concat()
}

/// What such a block behind so many bytes holds.
fn unseal(block: &[u8], before: u64) -> Vec<u8> {
    let (salt, rest) = block.split_at(32);
    let (message, footer) = rest.split_at(rest.len() - FOOTER_LEN as usize);
    let aad = [&(before + block.len() as u64).to_be_bytes()[..], footer].concat();
    let mut message = message.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let text = key(salt).open_in_place(nonce, Aad::from(aad), &mut message).expect("as the format has it");
    text.to_vec()
}

fn key(salt: &[u8]) -> LessSafeKey {
    let mut key = [0; 32];
    let hkdf = Hkdf::<Sha256>::new(Some(salt), &object().oek);
    hkdf.expand(b"s3veil/v1/manifest", &mut key).expect("32 bytes");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"))
}

fn of_parts(mut input: Input<'_>) {
    let (count, with_sums, kind, algorithm) = (input.byte() % 32, input.byte(), input.byte(), input.byte());
    let algorithm = SumAlgorithm::ALL[usize::from(algorithm) % SumAlgorithm::ALL.len()];
    let (at, change) = (input.u16(), input.byte());
    let (start, len) = (input.u64(), input.u64());
    let sum = || vec![with_sums; algorithm.value_len()];
    let mut number = 0;
    let mut parts = Vec::new();
    for _ in 0..count {
        number += input.u16() % 512;
        let (Some(number), Some(length)) = (PartNumber::new(number), PlainLen::new(input.u64() >> 20)) else {
            return;
        };
        parts.push(Part { number, length, checksum: (with_sums & 1 > 0).then(sum) });
    }
    let kind = if kind & 1 > 0 { SumKind::FullObject } else { SumKind::Composite };
    let checksum = (with_sums > 0).then(|| ObjectSum { algorithm, kind, value: sum() });
    let manifest = match Manifest::new(parts, checksum, [with_sums; 32]) {
        Ok(manifest) => manifest,
        Err(error) => return assert!(matches!(error, Error::Misuse(_))),
    };
    let opened = &object().opened;
    let block = opened.seal_manifest(&manifest).expect("random bytes").bytes().clone();
    assert!(block.len() as u64 <= BLOCK_MAX);
    let size = SealedLen::new(sealed_parts(&manifest) + block.len() as u64);
    opened.layout(size).expect("the size is a composite object's");
    assert_eq!(opened.open_manifest(&block, size).as_ref(), Ok(&manifest));
    locate(&manifest, start, len);

    let mut damaged = block.to_vec();
    let at = usize::from(at) % damaged.len();
    damaged[at] ^= change;
    let other = SealedLen::new(size.get() + u64::from(change == 0));
    assert_eq!(opened.open_manifest(&damaged, other), Err(Error::Tampered));
}

fn sealed_parts(manifest: &Manifest) -> u64 {
    manifest.parts().iter().map(|part| part.length.sealed_part().get()).sum()
}

/// A range of the object, if it has it, and the whole.
fn locate(manifest: &Manifest, start: u64, len: u64) {
    let total = manifest.length();
    let within = PlainAsk::Between { start: start % (total.get() + 1), end: start.saturating_add(len) };
    for ask in [within, PlainAsk::Between { start, end: start.saturating_add(len) }, PlainAsk::Suffix(len)] {
        let Some(range) = ask.resolve(total) else { continue };
        let located = manifest.locate(range).expect("a range of the object is somewhere");
        assert!(located.sealed.end() <= sealed_parts(manifest) && located.sealed.len() >= range.len());
        if let Some(head) = located.head {
            assert!(head.end() <= located.sealed.start());
        }
    }
    for index in 0..manifest.parts().len() {
        let range = manifest.part_range(index).expect("each part has a range");
        assert_eq!(range.len(), manifest.parts()[index].length.get());
    }
    assert_eq!(manifest.part_range(manifest.parts().len()), None);
}

/// Manifests as the format has them, padded and not; and parts of all kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    // Two parts of 5 and 70,000 bytes, without checksums.
    let upload = [&[0x58, 32][..], &[9; 32]].concat();
    let before: u64 =
        [5, 70_000].into_iter().map(|len| PlainLen::new(len).unwrap().sealed_part().get()).sum();
    let plain =
        [&[0x83, 0x82, 0x82, 1, 5, 0x82, 0x18, 200, 0x1a, 0, 1, 0x11, 0x70, 0x80][..], &upload].concat();
    // The same with CRC-32 of each and of all.
    let part = |number: &[u8], len: &[u8]| [&[0x83][..], number, len, &[0x44, 1, 2, 3, 4]].concat();
    let summed = [
        &[0x83, 0x82][..],
        &part(&[1], &[5]),
        &part(&[0x18, 200], &[0x1a, 0, 1, 0x11, 0x70]),
        &[0x83, 1, 2, 0x44, 5, 6, 7, 8],
        &upload,
    ]
    .concat();
    let mut seeds = Vec::new();
    for text in [plain, summed] {
        for padding in [0, 1, 100] {
            seeds.push([&[0], &before.to_le_bytes()[..], &text, &vec![0; padding]].concat());
        }
        seeds.push([&[0], &before.to_le_bytes()[..], &text, &[1]].concat());
        seeds.push([&[0], &(before + 1).to_le_bytes()[..], &text].concat());
    }
    for sums in [0, 1, 2] {
        for count in [0, 1, 3] {
            let mut seed = vec![1, count, sums, 1, sums, 9, 0, 1];
            seed.extend_from_slice(&3_u64.to_le_bytes());
            seed.extend_from_slice(&70_000_u64.to_le_bytes());
            for part in 1..=u64::from(count) {
                seed.extend([2, 0]);
                seed.extend_from_slice(&((part * 65_536 - 1) << 20).to_le_bytes());
            }
            seeds.push(seed);
        }
    }
    seeds
}
