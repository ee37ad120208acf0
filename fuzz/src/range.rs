//! The Range header, and what becomes of it. Input: eight bytes of an object's length, then the header's value.
//!
//! Holds: what is resolved lies within the object; a range survives its header; the sealed bytes that are asked for
//! on a guess hold every chunk of the range, and are numbers that a store can read.

use http::HeaderValue;
use http::header::HeaderMap;
use s3veil::s3::copy;
use s3veil::s3::range::{ContentRange, RangeSpec};
use s3veil::seal::{PlainAsk, PlainLen, SealedAsk, SealedRange};

use super::input::Input;

/// Reads a header, and maps what it asks for to sealed bytes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let len = input.u64();
    let Ok(value) = HeaderValue::from_bytes(input.rest()) else { return };
    if let Some(given) = ContentRange::parse(&value) {
        assert!(given.start < given.end && given.end <= given.total);
        assert_eq!(ContentRange::parse(&given.to_header()), Some(given));
    }
    let spec = RangeSpec::parse(&value);
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-copy-source-range", value);
    assert_eq!(
        copy::range(&headers).ok(),
        spec.filter(|spec| matches!(spec, RangeSpec::FromTo(..))).map(Some),
        "a copy takes the ranges with both ends"
    );
    let Some(spec) = spec else { return };
    assert_eq!(RangeSpec::parse(&spec.to_header()), Some(spec));
    if let Some((start, end)) = spec.resolve(len) {
        assert!(start < end && end <= len);
    }
    // A length that an object can have.
    let total = PlainLen::new(len % (PlainLen::MAX.get() + 1)).expect("at most the longest");
    sealed(ask(spec), spec, total);
}

fn ask(spec: RangeSpec) -> PlainAsk {
    match spec {
        RangeSpec::FromTo(first, last) => PlainAsk::Between { start: first, end: last.saturating_add(1) },
        RangeSpec::From(first) => PlainAsk::From(first),
        RangeSpec::Suffix(len) => PlainAsk::Suffix(len),
    }
}

fn sealed(ask: PlainAsk, spec: RangeSpec, total: PlainLen) {
    let stored = total.sealed().get();
    let served = match ask.sealed() {
        SealedAsk::From(start) => {
            assert!(start < 1 << 63);
            SealedRange::new(start, stored)
        }
        SealedAsk::Between { start, end } => {
            assert!(start < end && end < 1 << 63);
            SealedRange::new(start, end.min(stored))
        }
        SealedAsk::Suffix(len) => {
            assert!(0 < len && len < 1 << 63);
            SealedRange::new(stored.saturating_sub(len), stored)
        }
    };
    let range = ask.resolve(total);
    assert_eq!(range.map(|range| (range.start(), range.end())), spec.resolve(total.get()));
    if let Some(range) = range {
        let wanted = range.chunks().sealed(total);
        assert!(wanted.end() <= stored);
        served.expect("something is served").skip_to(wanted).expect("all of it is served");
    }
}

/// Every form, at lengths around a chunk's and the longest.
pub fn seeds() -> Vec<Vec<u8>> {
    let values = [
        "bytes=0-0",
        "bytes=5-",
        "bytes=-5",
        "bytes=0-18446744073709551615",
        "bytes=65535-65536",
        "Bytes= 5 - 9",
        "bytes=9-5",
        "bytes=0-1,3-4",
        "bytes=99999999999999999999-",
        "bytes 0-9/10",
        "bytes 0-9/*",
        "items=0-1",
    ];
    let lengths = [0, 1, 65_535, 65_536, 65_537, 5 << 40, u64::MAX];
    let seed = |(i, value): (usize, &&str)| {
        [&lengths[i % lengths.len()].to_le_bytes()[..], value.as_bytes()].concat()
    };
    values.iter().enumerate().map(seed).collect()
}
