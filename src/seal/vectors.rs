//! Sealing with the random bytes of the test vectors gives the objects of the second implementation, byte for byte.
//!
//! Here and not in `tests/`, because salt and OEK can be chosen only inside this room. `tests/format.rs` opens the
//! vectors.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use bytes::{BufMut, BytesMut};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::envelope::Envelope;
use super::error::Error;
use super::header::{Header, Sse};
use super::key::tests::oek;
use super::key::{Dek, Place};
use super::len::{CHUNK, Layout, PlainLen, SealedLen};
use super::magic::MAGIC;
use super::manifest::{Manifest, ObjectSum, Part, SumKind};
use super::opener::Opener;
use super::part::PartNumber;
use super::range::PlainRange;
use super::sealer::Sealer;
use super::trailer::{ClientSum, SumAlgorithm, Trailer};

fn text<'v>(vector: &'v Value, name: &str) -> &'v str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
}

fn bytes<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    hex::decode(text(vector, name)).unwrap().try_into().unwrap()
}

fn plaintext(len: u64) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn body(mut sealer: Sealer, plain: &[u8], client: Option<ClientSum>) -> Vec<u8> {
    let mut body = sealer.head().to_vec();
    let mut left = plain;
    while let Some(len) = sealer.next_len() {
        let (piece, rest) = left.split_at(len);
        let mut chunk = BytesMut::from(piece);
        sealer.seal(&mut chunk).unwrap();
        body.put(chunk);
        left = rest;
    }
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, plain);
    body.extend(sealer.finish(&Trailer { crc64, client }).unwrap().into_iter().flatten());
    body
}

#[test]
fn sealing_gives_the_vectors() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/vectors/stream-v1.json")).unwrap();
    for vector in &vectors {
        let length = PlainLen::new(vector["length"].as_u64().unwrap()).unwrap();
        let header = Header {
            layout: Layout::Stream(length),
            kms: text(vector, "kms").into(),
            ek: text(vector, "ek").into(),
            ek_version: vector["ek_version"].as_str().map(str::to_owned),
            wrapped_dek: hex::decode(text(vector, "wrapped_dek")).unwrap(),
            sse: Sse::from_id(vector["sse"].as_u64().unwrap() as u8).unwrap(),
            context: vector["context"].is_string().then(|| bytes(vector, "context")),
        };
        let client = vector["client"].as_object().map(|client| {
            let id = usize::try_from(client["algorithm"].as_u64().unwrap()).unwrap();
            let value = hex::decode(client["value"].as_str().unwrap()).unwrap();
            ClientSum::new(SumAlgorithm::ALL[id - 1], &value).unwrap()
        });
        let place = Place { bucket: text(vector, "bucket"), key: text(vector, "key") };
        let (oek, dek) = (oek(bytes(vector, "oek")), Dek::from(bytes(vector, "dek")));

        let envelope = Envelope::wrap_with(header, bytes(vector, "salt"), &oek, &dek, place).unwrap();
        assert_eq!(envelope.encode(), text(vector, "envelope"), "{}", vector["name"]);
        let body = body(Sealer::stream(&oek, length), &plaintext(length.get()), client);
        assert_eq!(hex::encode(Sha256::digest(&body)), text(vector, "body_sha256"), "{}", vector["name"]);
    }
}

#[test]
fn sealing_parts_gives_the_vectors() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/vectors/composite-v1.json")).unwrap();
    for vector in &vectors {
        let oek = oek(bytes(vector, "oek"));
        let listed = vector["parts"].as_array().unwrap();
        let lengths: Vec<u64> = listed.iter().map(|part| part["length"].as_u64().unwrap()).collect();
        let plain = plaintext(lengths.iter().sum());
        let (mut object, mut parts, mut left) = (Vec::new(), Vec::new(), plain.as_slice());
        for (i, part) in listed.iter().enumerate() {
            let number = PartNumber::new(part["number"].as_u64().unwrap().try_into().unwrap()).unwrap();
            let length = PlainLen::new(lengths[i]).unwrap();
            let (piece, rest) = left.split_at(lengths[i] as usize);
            object.extend(body(Sealer::part(&oek, number, &bytes(part, "salt"), length), piece, None));
            let checksum = vector["values"].as_array().map(|values| unhex(&values[i]));
            parts.push(Part { number, length, checksum });
            left = rest;
        }
        let checksum = vector["checksum"].as_object().map(|sum| ObjectSum {
            algorithm: SumAlgorithm::ALL[sum["algorithm"].as_u64().unwrap() as usize - 1],
            kind: if sum["kind"] == 1 { SumKind::FullObject } else { SumKind::Composite },
            value: unhex(&sum["value"]),
        });
        let manifest = Manifest::new(parts, checksum, bytes(vector, "upload")).unwrap();
        let block = manifest.seal_with(&oek, bytes(vector, "manifest_salt"));
        object.extend_from_slice(block.bytes());
        assert_eq!(hex::encode(Sha256::digest(&object)), text(vector, "body_sha256"), "{}", vector["name"]);
        let size = SealedLen::new(object.len() as u64);
        assert_eq!(Manifest::open(&oek, block.bytes(), size).unwrap(), manifest);

        let envelope = Envelope::parse(text(vector, "envelope")).unwrap();
        let place = Place { bucket: text(vector, "bucket"), key: text(vector, "key") };
        let dek = Dek::from(bytes(vector, "dek"));
        let header = envelope.header().clone();
        assert_eq!(header.sse, Sse::from_id(vector["sse"].as_u64().unwrap_or(1) as u8).unwrap());
        let again = Envelope::wrap_with(header, bytes(vector, "salt"), &oek, &dek, place).unwrap();
        assert_eq!(again, envelope, "{}", vector["name"]);
        let opened = envelope.open(&dek, place).unwrap();
        assert_eq!(opened.layout(size).unwrap(), Layout::Composite);
    }
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The two ciphers read each other: chunks are sealed by aws-lc-rs, and by aes-gcm here.
#[test]
fn aes_gcm_and_aws_lc_agree() {
    let (oek, length) = (oek([7; 32]), PlainLen::new(CHUNK + 9).unwrap());
    let plain = plaintext(length.get());
    let chunks = plain.chunks(65_536).enumerate();
    let key = hkdf::Hkdf::<Sha256>::from_prk(&[7; 32]).unwrap();
    let mut body_key = [0; 32];
    key.expand(b"s3veil/v1/stream", &mut body_key).unwrap();
    let other = Aes256Gcm::new(&body_key.into());
    let nonce =
        |i: usize| Nonce::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(i).unwrap(), u8::from(i == 1)]);

    let mut sealer = Sealer::stream(&oek, length);
    let mut opener = Opener::stream(&oek, length, PlainRange::whole(length));
    for (i, piece) in chunks {
        let mut ours = BytesMut::from(piece);
        sealer.seal(&mut ours).unwrap();
        let theirs = other.encrypt(&nonce(i), Payload { msg: piece, aad: &[] }).unwrap();
        assert!(ours == theirs, "chunk {i}");
        assert!(other.decrypt(&nonce(i), ours.as_ref()).unwrap() == piece);

        let mut sealed = BytesMut::from(if i == 0 { &MAGIC[..] } else { &[] });
        sealed.extend_from_slice(&theirs);
        opener.open(&mut sealed).unwrap();
        assert!(sealed == piece);
    }
}

#[test]
fn a_sealer_and_an_opener_keep_their_order() {
    let (oek, length) = (oek([7; 32]), PlainLen::new(3).unwrap());
    let mut sealer = Sealer::stream(&oek, length);
    let mut short = BytesMut::from(&b"ab"[..]);
    assert!(matches!(sealer.seal(&mut short), Err(Error::Misuse(_))));
    assert_eq!(short, &b"ab"[..]);
    let trailer = Trailer { crc64: 0, client: None };
    assert!(matches!(sealer.finish(&trailer), Err(Error::Misuse(_))));

    let mut sealer = Sealer::stream(&oek, length);
    sealer.seal(&mut BytesMut::from(&b"abc"[..])).unwrap();
    assert_eq!(sealer.next_len(), None);
    assert!(matches!(sealer.seal(&mut BytesMut::new()), Err(Error::Misuse(_))));
}

/// SP 800-38D: a nonce never repeats under a key; the counter has room past 2^32 chunks, and past 2^56.
#[test]
fn the_longest_object_has_distinct_nonces() {
    let last = PlainLen::MAX.chunks() - 1;
    assert!(PlainLen::MAX.is_last(last) && !PlainLen::MAX.is_last(last - 1) && !PlainLen::MAX.is_last(0));
    assert_eq!(PlainLen::MAX.chunk_len(last), Some(65_536));
    assert_eq!(PlainLen::MAX.chunk_len(last + 1), None);
}
