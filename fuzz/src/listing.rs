//! The listing rewriter. Input: a byte (bit 0: keys are URL-encoded), one of piecing, then the store's document.
//!
//! Holds: where the document is cut makes no difference; untouched it is the same bytes; a well-formed one stays so,
//! whatever sizes are changed and entries left out; a reader of XML finds the same entries as the rewriter, those
//! that are left, and the sizes that were set.

use bytes::Bytes;
use quick_xml::Reader;
use quick_xml::events::Event;
use s3veil::s3::listing::ObjectListing;
use s3veil::s3::multipart::from_store;
use s3veil::s3::rewrite::{Encoding, Entry, Kind, Segment, Splitter};
use s3veil::s3::{Code, Result, address};

use super::input::{Input, keeps_in_xml, pieces};

/// The size that entries get.
const SIZE: u64 = 1_234_567;

/// Takes a document apart, and puts it together again in several ways.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let encoding = if input.byte() & 1 > 0 { Encoding::Url } else { Encoding::None };
    let seed = input.byte();
    let document = Bytes::copy_from_slice(input.rest());
    let whole = split(&document, encoding, 0);
    for seed in [seed, 1] {
        let again = split(&document, encoding, seed);
        match (&whole, &again) {
            (Ok(one), Ok(other)) => assert!(join(one, Some) == join(other, Some) && keys(one) == keys(other)),
            (Err(_), Err(_)) => {}
            _ => panic!("how it is cut makes a difference"),
        }
    }
    let Ok(segments) = whole else { return };
    assert!(join(&segments, Some) == document, "an untouched listing");
    let shown = |piece: Piece| {
        let hidden = piece.key.as_deref().is_some_and(|key| key.starts_with(address::RESERVED_PREFIX));
        (!hidden).then(|| Piece { bytes: piece.resized.clone(), ..piece })
    };
    let rewritten = join(&segments, shown);
    if well_formed(&document) {
        assert!(well_formed(&rewritten), "{}", String::from_utf8_lossy(&rewritten));
        as_read(&document, &rewritten, &segments, encoding);
    }
}

/// A segment as it was and as it is with another size.
#[derive(Clone)]
struct Piece {
    bytes: Bytes,
    resized: Bytes,
    key: Option<String>,
    kind: Option<Kind>,
    size: Option<u64>,
}

impl Piece {
    fn of_entry(plain: Entry, resized: Entry) -> Self {
        let (kind, size, key) = (Some(plain.kind), plain.size, Some(plain.key.clone()));
        Self { bytes: plain.into_bytes(), resized: resized.with_size(SIZE), key, kind, size }
    }
}

fn split(document: &Bytes, encoding: Encoding, seed: u8) -> Result<Vec<Piece>> {
    // Twice, for an entry is used up by what is made of it.
    let one = segments(document, encoding, seed)?;
    let other = segments(document, encoding, seed)?;
    let pair = |pair| match pair {
        (Segment::Entry(one), Segment::Entry(other)) => Piece::of_entry(one, other),
        (Segment::Raw(bytes), _) | (_, Segment::Raw(bytes)) => {
            Piece { resized: bytes.clone(), bytes, key: None, kind: None, size: None }
        }
    };
    Ok(one.into_iter().zip(other).map(pair).collect())
}

fn segments(document: &Bytes, encoding: Encoding, seed: u8) -> Result<Vec<Segment>> {
    let mut splitter = Splitter::new(encoding);
    let mut segments = Vec::new();
    for piece in pieces(document, seed) {
        segments.extend(
            splitter.push(&piece).inspect_err(|error| assert_eq!(error.code(), Code::InternalError))?,
        );
    }
    segments.extend(splitter.finish()?);
    Ok(segments)
}

fn join(pieces: &[Piece], make: impl Fn(Piece) -> Option<Piece>) -> Vec<u8> {
    let made = pieces.iter().cloned().filter_map(make);
    made.fold(Vec::new(), |out, piece| [out, piece.bytes.to_vec()].concat())
}

fn keys(pieces: &[Piece]) -> Vec<&str> {
    pieces.iter().filter_map(|piece| piece.key.as_deref()).collect()
}

/// Whether an XML reader gets through it, and finds every element closed.
fn well_formed(document: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(document) else { return false };
    let mut reader = Reader::from_str(text);
    let (mut depth, mut roots) = (0_usize, 0);
    loop {
        match reader.read_event() {
            Ok(event @ (Event::Start(_) | Event::Empty(_))) => {
                roots += usize::from(depth == 0);
                depth += usize::from(matches!(event, Event::Start(_)));
            }
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// What s3veil's own reader of listings finds, before and after.
fn as_read(document: &[u8], rewritten: &[u8], segments: &[Piece], encoding: Encoding) {
    let (Ok(before), Ok(after)) =
        (from_store::<ObjectListing>(document), from_store::<ObjectListing>(rewritten))
    else {
        return;
    };
    // The reader decodes keys where the document says that they are encoded.
    if encoding != Encoding::None || !std::str::from_utf8(document).is_ok_and(keeps_in_xml) {
        return;
    }
    let objects: Vec<&Piece> = segments.iter().filter(|piece| piece.kind == Some(Kind::Contents)).collect();
    let found: Vec<(&str, Option<u64>)> =
        objects.iter().map(|piece| (piece.key.as_deref().unwrap_or_default().trim(), piece.size)).collect();
    let read: Vec<(&str, Option<u64>)> =
        before.contents.iter().map(|listed| (listed.key.trim(), Some(listed.size))).collect();
    assert_eq!(found.len(), read.len(), "{}", String::from_utf8_lossy(document));
    for (found, read) in found.iter().zip(&read) {
        assert_eq!(found.0, read.0);
        assert!(found.1 == read.1 || (found.1.is_none() && read.1 == Some(0)), "{found:?} {read:?}");
    }
    assert_eq!(
        after.contents.len(),
        read.iter().filter(|(key, _)| !key.starts_with(address::RESERVED_PREFIX)).count()
    );
    assert!(after.contents.iter().all(|listed| listed.size == SIZE || listed.size == 0));
}

/// Listings of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let documents = [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Name>b</Name><Prefix></Prefix><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key>\
         <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>96</Size></Contents>\
         <Contents><Key>.s3veil/x</Key><ETag>e</ETag><Size>5</Size></Contents></ListBucketResult>",
        "<ListVersionsResult><Version><Key>k</Key><VersionId>v</VersionId><IsLatest>true</IsLatest><Size> 112 </Size>\
         </Version><DeleteMarker><Key>k</Key><VersionId>w</VersionId></DeleteMarker></ListVersionsResult>",
        "<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>u</UploadId></Upload><CommonPrefixes><Prefix>\
         .s3veil/</Prefix></CommonPrefixes></ListMultipartUploadsResult>",
        "<ListBucketResult><!-- <Contents> --><x:Contents a=\"1>2\"><Key>%C3%A9+%2B</Key><Size>1</Size><Prefix/>\
         </x:Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Owner><Key>not this</Key><Size>9</Size></Owner><Size>1</Size></Contents>\
         </ListBucketResult>",
        "<ListBucketResult><Contents><Key><![CDATA[k]]></Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>&#233;&#x20;&unknown;</Key></Contents></ListBucketResult>",
        "<!DOCTYPE e [<!ENTITY e 'x'>]><ListBucketResult></ListBucketResult>",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult/><ListBucketResult><Contents><Key>k</Key><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key>",
        "<html><Contents><Key>k</Key><Size>1</Size></Contents></html>",
        "<Error><Code>SlowDown</Code><Message>m</Message></Error>",
    ];
    documents
        .iter()
        .flat_map(|document| [0, 1].map(|encoding| [&[encoding, 7], document.as_bytes()].concat()))
        .collect()
}
