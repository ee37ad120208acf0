//! The sealed format from outside: the test vectors, what an attacker who owns the store can do, and the second
//! reader.
//!
//! `docs/format.md` is the specification.

#[path = "support/reader.rs"]
mod reader;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::Config;
use reader::SecondReader;
use serde_json::Value;
use sha2::{Digest, Sha256};

use s3veil::kms::Context;
use s3veil::seal::{
    ClientSum, Dek, Envelope, Error, Header, Layout, MAGIC, Opened, Place, PlainAsk, PlainLen, PlainRange,
    SealedAsk, SealedLen, SealedRange, Sse, SumAlgorithm, TRAILER_LEN, Trailer,
};

const CHUNK: usize = 65_536;
const SEALED_CHUNK: usize = CHUNK + 16;
const PLACE: Place<'static> = Place { bucket: "bucket", key: "a/b" };

// The vectors.

#[test]
fn vectors_open() {
    for vector in vectors("stream-v1.json") {
        let (name, length) = (&vector["name"], vector["length"].as_u64().unwrap());
        let envelope = Envelope::parse(text(&vector, "envelope")).unwrap();
        assert_eq!(envelope.encode(), text(&vector, "envelope"), "{name}");
        let header = envelope.header();
        assert_eq!(header.layout, Layout::Stream(plain_len(length)), "{name}");
        assert_eq!((&*header.kms, &*header.ek), (text(&vector, "kms"), text(&vector, "ek")), "{name}");
        assert_eq!(header.ek_version.as_deref(), vector["ek_version"].as_str(), "{name}");
        assert_eq!(hex::encode(&header.wrapped_dek), text(&vector, "wrapped_dek"), "{name}");
        let sse = [Sse::Kms, Sse::S3, Sse::Customer, Sse::KmsBucketKey];
        assert_eq!(header.sse, sse[vector["sse"].as_u64().unwrap() as usize - 1], "{name}");
        assert_eq!(header.context.map(hex::encode).as_deref(), vector["context"].as_str(), "{name}");
        if let Some(kept) = vector["context_header"].as_str() {
            let context = Context::of_client(kept).unwrap().unwrap();
            assert_eq!(
                (context.to_header().as_str(), Some(context.digest())),
                (kept, header.context),
                "{name}"
            );
            let entries: BTreeMap<_, _> =
                context.entries().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(serde_json::to_value(entries).unwrap(), vector["entries"], "{name}");
        }

        // Long bodies are not in the file; `src/seal/vectors.rs` makes them and compares their hashes.
        let opened = envelope.open(&dek_of(&vector), place_of(&vector)).unwrap();
        let Some(body) = vector["body"].as_str() else { continue };
        let (plain, trailer) = open(opened, &hex::decode(body).unwrap()).unwrap();
        assert!(plain == plaintext(length), "{name}");
        let client = trailer.client.map(|sum| (sum.algorithm() as u64, hex::encode(sum.value())));
        let expected = vector["client"]
            .as_object()
            .map(|c| (c["algorithm"].as_u64().unwrap(), c["value"].as_str().unwrap().to_owned()));
        assert_eq!(client, expected, "{name}");
    }
}

#[test]
fn negative_vectors_fail_as_they_say() {
    for vector in vectors("stream-v1-negative.json") {
        let error = match text(&vector, "error") {
            "NotAnEnvelope" => Error::NotAnEnvelope,
            "UnknownVersion" => Error::UnknownVersion,
            "Tampered" => Error::Tampered,
            other => panic!("no such error: {other}"),
        };
        let step = (text(&vector, "step"), error);
        assert_eq!(failure(&vector), Some(step), "{}", vector["name"]);
    }
}

/// The step at which a vector fails, and how.
fn failure(vector: &Value) -> Option<(&'static str, Error)> {
    let body = hex::decode(text(vector, "body")).unwrap();
    let envelope = match Envelope::parse(text(vector, "envelope")) {
        Ok(envelope) => envelope,
        Err(error) => return Some(("parse", error)),
    };
    let opened = match envelope.open(&dek_of(vector), place_of(vector)) {
        Ok(opened) => opened,
        Err(error) => return Some(("open", error)),
    };
    let length = match opened.layout(sealed_len(&body)) {
        Ok(Layout::Stream(length)) => length,
        Ok(Layout::Composite) => panic!("no vector is composite"),
        Err(error) => return Some(("size", error)),
    };
    let mut opener = opened.into_opener(PlainRange::whole(length)).unwrap();
    let mut left = &body[..];
    while let Some(len) = opener.next_len() {
        let (piece, rest) = left.split_at(len);
        let mut chunk = BytesMut::from(piece);
        if let Err(error) = opener.open(&mut chunk) {
            assert!(chunk.is_empty(), "bytes that did not authenticate are left");
            return Some(("body", error));
        }
        left = rest;
    }
    opener.open_trailer(left).err().map(|error| ("trailer", error))
}

// What a store can do.

/// A stored object, as the store sees it.
struct Stored {
    envelope: String,
    body: Vec<u8>,
}

#[test]
fn every_flipped_byte_of_a_body_is_an_error() {
    let stored = store(PLACE, &plaintext(100));
    for at in 0..stored.body.len() {
        for bit in [0x01, 0x80] {
            let mut body = stored.body.clone();
            body[at] ^= bit;
            assert_eq!(read(&stored.envelope, &body, PLACE), Err(Error::Tampered), "byte {at}");
        }
    }
}

#[test]
fn every_flipped_character_of_an_envelope_is_an_error() {
    let stored = store(PLACE, b"text");
    for at in 0..stored.envelope.len() {
        for other in ['A', 'B', '_', '=', ' ', 'é'] {
            let mut chars: Vec<char> = stored.envelope.chars().collect();
            if chars[at] == other {
                continue;
            }
            chars[at] = other;
            let altered: String = chars.into_iter().collect();
            assert!(read(&altered, &stored.body, PLACE).is_err(), "character {at}");
        }
        assert!(read(&stored.envelope[..at], &stored.body, PLACE).is_err(), "cut to {at}");
    }
}

#[test]
fn a_body_of_another_length_is_an_error() {
    let stored = store(PLACE, &plaintext(3 * CHUNK as u64 + 5));
    let boundaries = (0..=3).map(|k| 16 + k * SEALED_CHUNK);
    for cut in boundaries.flat_map(|b| [b - 1, b, b + 1, b + 1000]).filter(|cut| *cut < stored.body.len()) {
        assert!(read(&stored.envelope, &stored.body[..cut], PLACE).is_err(), "cut to {cut}");
    }
    let extra = [&[0][..], &stored.body[16..16 + SEALED_CHUNK], &stored.body];
    for tail in extra {
        assert!(read(&stored.envelope, &[&stored.body, tail].concat(), PLACE).is_err());
    }
}

/// A store may name the right size and yet send less: the opener notices, whatever it is given.
#[test]
fn a_body_that_ends_early_is_an_error_at_its_chunk() {
    let stored = store(PLACE, &plaintext(2 * CHUNK as u64));
    let opened = opened(&stored.envelope, PLACE).unwrap();
    let mut opener = opened.into_opener(PlainRange::whole(plain_len(2 * CHUNK as u64))).unwrap();
    let (first, rest) = stored.body.split_at(opener.next_len().unwrap());
    opener.open(&mut BytesMut::from(first)).unwrap();
    for len in [0, 1, 15, 16, 17, SEALED_CHUNK - 1] {
        let mut chunk = BytesMut::from(&rest[..len]);
        assert_eq!(opener.open(&mut chunk), Err(Error::Tampered), "{len}");
        assert!(chunk.is_empty());
    }
    assert_eq!(opener.open_trailer(&[]), Err(Error::Tampered));
}

#[test]
fn chunks_in_another_order_are_an_error() {
    let stored = store(PLACE, &plaintext(4 * CHUNK as u64));
    let chunk = |i: usize| 16 + i * SEALED_CHUNK..16 + (i + 1) * SEALED_CHUNK;
    for (to, from) in [(0, 1), (1, 0), (1, 2), (2, 3), (3, 2), (0, 3), (3, 0)] {
        let mut copied = stored.body.clone();
        copied.copy_within(chunk(from), chunk(to).start);
        assert_eq!(read(&stored.envelope, &copied, PLACE), Err(Error::Tampered), "{from} over {to}");
        let mut swapped = copied;
        swapped[chunk(from)].copy_from_slice(&stored.body[chunk(to)]);
        assert_eq!(read(&stored.envelope, &swapped, PLACE), Err(Error::Tampered), "{from} and {to}");
    }
}

#[test]
fn an_object_at_another_place_is_an_error() {
    let places = ["a/b", "a//b", "a/./b", "a%2Fb", "a/b/", "é", "e\u{301}"];
    for key in places {
        let stored = store(Place { bucket: "bucket", key }, b"text");
        for (bucket, other) in
            places.iter().map(|k| ("bucket", *k)).chain([("bucket2", key), ("Bucket", key)])
        {
            let moved = read(&stored.envelope, &stored.body, Place { bucket, key: other });
            assert_eq!(moved.is_ok(), bucket == "bucket" && other == key, "{key} at {bucket}/{other}");
        }
    }
}

/// Two objects of the same place, DEK and length: neither envelope nor body, chunk nor trailer, serves the other.
#[test]
fn nothing_of_another_object_fits() {
    let (one, other) =
        (store(PLACE, &plaintext(CHUNK as u64 + 1)), store(PLACE, &plaintext(CHUNK as u64 + 1)));
    assert_ne!(one.body, other.body);
    assert_eq!(read(&one.envelope, &other.body, PLACE), Err(Error::Tampered));
    let cuts =
        [16..16 + SEALED_CHUNK, 16 + SEALED_CHUNK..one.body.len() - 64, one.body.len() - 64..one.body.len()];
    for cut in cuts {
        let mut mixed = one.body.clone();
        mixed[cut.clone()].copy_from_slice(&other.body[cut]);
        assert_eq!(read(&one.envelope, &mixed, PLACE), Err(Error::Tampered));
    }
}

#[test]
fn a_copy_opens_at_its_new_place_only() {
    let stored = store(PLACE, b"text");
    let (there, dek) = (Place { bucket: "other", key: "k" }, || Dek::from([8; 32]));
    let from = opened(&stored.envelope, PLACE).unwrap();
    let copy = from.rewrap(header(4), &dek(), there).unwrap();
    let copy = Envelope::parse(&copy.encode()).unwrap();
    assert!(copy.open(&Dek::from([9; 32]), there).is_err() && copy.open(&dek(), PLACE).is_err());
    let (plain, _) = open(copy.open(&dek(), there).unwrap(), &stored.body).unwrap();
    assert_eq!(plain, b"text");
    assert!(matches!(from.rewrap(header(5), &dek(), there), Err(Error::Misuse(_))));
}

#[test]
fn a_range_of_a_longer_object_is_refused() {
    let stored = store(PLACE, b"text");
    let range = PlainRange::whole(plain_len(5));
    assert!(matches!(opened(&stored.envelope, PLACE).unwrap().into_opener(range), Err(Error::Misuse(_))));
}

#[test]
fn an_envelope_is_short() {
    let stored = store(PLACE, &plaintext(100_000));
    assert!(stored.envelope.len() <= 315, "{}", stored.envelope.len());
}

#[test]
fn a_composite_envelope_has_no_stream() {
    let dek = Dek::from([9; 32]);
    let composite = Header { layout: Layout::Composite, ..header(0) };
    let (envelope, fresh) = Envelope::seal(composite, &dek, PLACE).unwrap();
    assert!(matches!(fresh.into_sealer(), Err(Error::Misuse(_))));
    let opened = Envelope::parse(&envelope.encode()).unwrap().open(&dek, PLACE).unwrap();
    assert_eq!(opened.layout(SealedLen::new(80 + 65_552 + 1)), Ok(Layout::Composite));
    assert_eq!(opened.layout(plain_len(10).sealed()), Err(Error::Tampered));
    assert!(matches!(opened.into_opener(PlainRange::whole(plain_len(0))), Err(Error::Misuse(_))));
}

// Any length, any range.

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0..2 * CHUNK, (0_usize..6, 0_usize..5).prop_map(|(k, d)| (k * CHUNK + d).saturating_sub(2))]
}

fn ask() -> impl Strategy<Value = PlainAsk> {
    let byte = || {
        prop_oneof![
            0..7 * CHUNK as u64,
            (0_u64..6, 0_u64..3).prop_map(|(k, d)| k * CHUNK as u64 + d),
            any::<u64>()
        ]
    };
    prop_oneof![
        byte().prop_map(PlainAsk::From),
        (byte(), byte()).prop_map(|(start, end)| PlainAsk::Between { start, end }),
        byte().prop_map(PlainAsk::Suffix),
    ]
}

/// What an envelope can say, of every kind, with lengths at their limits too.
fn any_header() -> impl Strategy<Value = Header> {
    let layout = prop_oneof![
        Just(Layout::Composite),
        prop_oneof![0..300_u64, 0..70_000_u64, 0..=PlainLen::MAX.get()]
            .prop_map(|l| Layout::Stream(plain_len(l))),
    ];
    let version = option::of("[0-9a-zé/]{1,128}");
    let of_an_ek =
        ("[a-z]{1,64}", "[a-zé/]{1,256}", version, vec(any::<u8>(), 1..=1024), option::of(any::<[u8; 32]>()));
    let sse = prop_oneof![Just(Sse::Kms), Just(Sse::S3), Just(Sse::KmsBucketKey), Just(Sse::Customer)];
    (layout, sse, of_an_ek).prop_map(|(layout, sse, (kms, ek, ek_version, wrapped_dek, context))| match sse {
        Sse::Customer => customers(layout),
        _ => Header { layout, kms, ek, ek_version, wrapped_dek, sse, context },
    })
}

/// The most characters of an envelope, as `docs/format.md` has it.
fn most_characters(header: &Header) -> usize {
    let stream = matches!(header.layout, Layout::Stream(_));
    let bytes = match header.sse {
        Sse::Customer => 139,
        _ => {
            let named = header.kms.len() + header.ek.len() + header.wrapped_dek.len();
            let version = header.ek_version.as_ref().map_or(0, |version| 4 + version.len());
            151 + named + version + header.context.map_or(0, |_| 35)
        }
    };
    (4 * (bytes - if stream { 0 } else { 10 })).div_ceil(3)
}

/// An envelope of a customer's key says nothing of a KMS, and any other says all of it: nothing else is written.
#[test]
fn fields_of_another_kind_are_not_written() {
    let dek = Dek::from([9; 32]);
    let (none, all) = (customers(Layout::Composite), header(1));
    let digest = Some([0; 32]);
    for wrong in [
        Header { kms: "kes".into(), ..none.clone() },
        Header { ek: "my-key".into(), ..none.clone() },
        Header { ek_version: Some("1".into()), ..none.clone() },
        Header { wrapped_dek: vec![1], ..none.clone() },
        Header { context: digest, ..none.clone() },
        Header { sse: Sse::Customer, ..all.clone() },
        Header { sse: Sse::Kms, ..none.clone() },
        Header { sse: Sse::S3, ..none },
        Header { kms: String::new(), ..all.clone() },
        Header { ek: String::new(), ..all.clone() },
        Header { wrapped_dek: Vec::new(), ..all.clone() },
        Header { ek_version: Some(String::new()), ..all },
    ] {
        assert!(matches!(Envelope::seal(wrong.clone(), &dek, PLACE), Err(Error::Misuse(_))), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 200, ..Config::default() })]

    /// What is written is what is read, of every kind, and no longer than the specification says.
    #[test]
    fn an_envelope_of_any_kind_reads_as_it_was_written(header in any_header()) {
        let dek = Dek::from([9; 32]);
        let (envelope, _) = Envelope::seal(header.clone(), &dek, PLACE).unwrap();
        let text = envelope.encode();
        prop_assert!(text.len() <= most_characters(&header), "{} characters", text.len());
        let parsed = Envelope::parse(&text).unwrap();
        prop_assert_eq!(&parsed, &envelope);
        let opened = parsed.open(&dek, PLACE).unwrap();
        prop_assert_eq!(opened.header(), &header);
        prop_assert_eq!(parsed.open(&Dek::from([8; 32]), PLACE).unwrap_err(), Error::Tampered);
    }

    /// A GET from end to end: guess, store's answer, opening; the bytes are those of the plaintext.
    #[test]
    fn a_guessed_range_opens_to_its_slice(length in length(), ask in ask()) {
        let plain = plaintext(length as u64);
        let stored = store(PLACE, &plain);
        let opened = opened(&stored.envelope, PLACE).unwrap();
        let total = plain_len(length as u64);
        if let Some(range) = ask.resolve(total) {
            let (got, bytes) = served(ask.sealed(), &stored.body);
            let skip = got.skip_to(range.chunks().sealed(total)).unwrap();
            let mut left = &bytes[usize::try_from(skip).unwrap()..];
            let mut opener = opened.into_opener(range).unwrap();
            let mut out = Vec::new();
            while let Some(len) = opener.next_len() {
                let mut chunk = BytesMut::from(&left[..len]);
                opener.open(&mut chunk).unwrap();
                out.extend_from_slice(&chunk);
                left = &left[len..];
            }
            prop_assert_eq!(&out[..], &plain[usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap()]);
            if let Ok(skip) = got.skip_to(SealedRange::trailer(total)) {
                prop_assert_eq!(opener.open_trailer(&bytes[usize::try_from(skip).unwrap()..]).unwrap().crc64, crc64(&plain));
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in "[A-Za-z0-9_=-]{0,400}") {
        let _ = Envelope::parse(&text);
    }
}

fn served(ask: SealedAsk, body: &[u8]) -> (SealedRange, &[u8]) {
    let total = body.len() as u64;
    let (start, end) = match ask {
        SealedAsk::From(start) => (start, total),
        SealedAsk::Between { start, end } => (start, end.min(total)),
        SealedAsk::Suffix(len) => (total.saturating_sub(len), total),
    };
    let range = SealedRange::new(start, end).unwrap();
    (range, &body[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()])
}

// The second reader.

#[test]
fn the_second_reader_opens_the_vectors() {
    let Some(reader) = SecondReader::find() else { return };
    reader.check_vectors(&["stream-v1.json", "stream-v1-negative.json"]);
}

#[test]
fn the_second_reader_opens_what_is_sealed_here() {
    let Some(reader) = SecondReader::find() else { return };
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let plain = plaintext(length);
        let place = Place { bucket: "bucket", key: "a//é b" };
        let customers = customers(Layout::Stream(plain_len(length)));
        for header in [header(length), Header { sse: Sse::KmsBucketKey, ..header(length) }, customers] {
            let stored = store_as(header, place, &plain);
            assert!(
                reader.read(&stored.envelope, &stored.body, [9; 32], place).unwrap() == plain,
                "{length}"
            );
            reader.read(&stored.envelope, &stored.body, [8; 32], place).unwrap_err();
        }
    }
}

// Helpers.

fn vector_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn vectors(name: &str) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(vector_file(name)).unwrap()).unwrap()
}

fn text<'v>(vector: &'v Value, name: &str) -> &'v str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {}", vector["name"]))
}

fn dek_of(vector: &Value) -> Dek {
    Dek::try_from(&hex::decode(text(vector, "dek")).unwrap()[..]).unwrap()
}

fn place_of(vector: &Value) -> Place<'_> {
    Place { bucket: text(vector, "bucket"), key: text(vector, "key") }
}

fn plain_len(bytes: u64) -> PlainLen {
    PlainLen::new(bytes).unwrap()
}

fn sealed_len(body: &[u8]) -> SealedLen {
    SealedLen::new(body.len() as u64)
}

fn plaintext(len: u64) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn crc64(plain: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, plain)
}

fn header(length: u64) -> Header {
    Header {
        layout: Layout::Stream(plain_len(length)),
        kms: "kes".into(),
        ek: "my-key".into(),
        ek_version: None,
        wrapped_dek: vec![0x5a; 76],
        sse: Sse::Kms,
        context: None,
    }
}

/// Under a customer's key.
fn customers(layout: Layout) -> Header {
    let (kms, ek, ek_version, wrapped_dek, context) = Default::default();
    Header { layout, kms, ek, ek_version, wrapped_dek, sse: Sse::Customer, context }
}

/// Seals a plaintext as a PUT does.
fn store(place: Place<'_>, plain: &[u8]) -> Stored {
    store_as(header(plain.len() as u64), place, plain)
}

fn store_as(header: Header, place: Place<'_>, plain: &[u8]) -> Stored {
    let (envelope, fresh) = Envelope::seal(header, &Dek::from([9; 32]), place).unwrap();
    let mut sealer = fresh.into_sealer().unwrap();
    let (mut body, mut left) = (MAGIC.to_vec(), plain);
    while let Some(len) = sealer.next_len() {
        let mut chunk = BytesMut::from(&left[..len]);
        sealer.seal(&mut chunk).unwrap();
        body.extend_from_slice(&chunk);
        left = &left[len..];
    }
    let client = ClientSum::new(SumAlgorithm::Sha256, &Sha256::digest(plain));
    body.extend_from_slice(&sealer.finish(&Trailer { crc64: crc64(plain), client }).unwrap().unwrap());
    assert_eq!(sealed_len(&body), plain_len(plain.len() as u64).sealed());
    Stored { envelope: envelope.encode(), body }
}

fn opened(envelope: &str, place: Place<'_>) -> Result<Opened, Error> {
    Envelope::parse(envelope)?.open(&Dek::from([9; 32]), place)
}

/// Opens a whole object as a GET does.
fn read(envelope: &str, body: &[u8], place: Place<'_>) -> Result<Vec<u8>, Error> {
    open(opened(envelope, place)?, body).map(|(plain, _)| plain)
}

fn open(opened: Opened, body: &[u8]) -> Result<(Vec<u8>, Trailer), Error> {
    let Layout::Stream(length) = opened.layout(sealed_len(body))? else { panic!("a stream") };
    let first = opened.open_trailer(&body[body.len() - usize::try_from(TRAILER_LEN).unwrap()..]);
    let mut opener = opened.into_opener(PlainRange::whole(length))?;
    let (mut plain, mut left) = (Vec::new(), body);
    while let Some(len) = opener.next_len() {
        let mut chunk = BytesMut::from(&left[..len]);
        opener.open(&mut chunk)?;
        plain.extend_from_slice(&chunk);
        left = &left[len..];
    }
    let trailer = opener.open_trailer(left)?;
    assert_eq!(first, Ok(trailer));
    assert_eq!(trailer.crc64, crc64(&plain));
    Ok((plain, trailer))
}
