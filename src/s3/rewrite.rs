//! A store's listing, taken apart while it streams by, so that entries can be changed or left out.
//!
//! An incremental splitter: bytes in, segments out. What is not an entry passes byte for byte, and of an entry only
//! the digits of its size are ever replaced. Nothing is held but the entry being read.
//!
//! Source: Amazon S3 API Reference, ListObjects, ListObjectsV2, ListObjectVersions, ListMultipartUploads.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};

use super::query::decode_form;
use super::{Code, Error, Result};

/// The longest entry, or markup between entries, in bytes. A key is at most 1,024, escaped or not.
const LIMIT: usize = 64 * 1024;

/// The elements that a listing is, and an error that a store has found when it had already said 200 (S3's own way).
const ROOTS: [&[u8]; 4] =
    [b"ListBucketResult", b"ListVersionsResult", b"ListMultipartUploadsResult", b"Error"];

/// How keys are written in the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As XML text.
    None,
    /// URL-encoded, then as XML text: `encoding-type=url`.
    Url,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object of ListObjects.
    Contents,
    /// An object of ListObjectVersions.
    Version,
    /// A delete marker of ListObjectVersions.
    DeleteMarker,
    /// An upload of ListMultipartUploads.
    Upload,
    /// A group of keys under a delimiter.
    CommonPrefix,
}

/// A piece of the listing, in order.
#[derive(Debug)]
pub enum Segment {
    /// Not an entry: passes as it is.
    Raw(Bytes),
    /// An entry.
    Entry(Entry),
}

/// An entry of the listing.
#[derive(Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The key, or the common prefix, decoded.
    pub key: String,
    /// The version's id, if the store gives one.
    pub version_id: Option<String>,
    /// The ETag as it stands, with quotes if there are any.
    pub etag: Option<String>,
    /// The size that the store gives, in stored bytes.
    pub size: Option<u64>,
    raw: Bytes,
    digits: Range<usize>,
}

impl Entry {
    /// The entry as the store wrote it.
    pub fn into_bytes(self) -> Bytes {
        self.raw
    }

    /// The entry with another size; as it is, if it has none.
    pub fn with_size(self, size: u64) -> Bytes {
        if self.size.is_none() {
            return self.raw;
        }
        let mut out = BytesMut::with_capacity(self.raw.len() + 20);
        out.extend_from_slice(&self.raw[..self.digits.start]);
        out.extend_from_slice(size.to_string().as_bytes());
        out.extend_from_slice(&self.raw[self.digits.end..]);
        out.freeze()
    }
}

/// Takes a listing apart.
#[derive(Debug)]
pub struct Splitter {
    encoding: Encoding,
    /// Bytes not yet given out.
    buffer: BytesMut,
    /// How much of the buffer has been read as markup.
    read: usize,
    /// Open elements.
    depth: usize,
    /// The document's element has begun.
    begun: bool,
    entry: Option<Open>,
}

/// An entry whose end has not come.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// The child element being read: which field it is, and where its text begins.
    field: Option<(Field, usize)>,
    spans: Vec<(Field, Range<usize>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    VersionId,
    ETag,
    Size,
    Prefix,
}

/// A piece of markup.
enum Tag<'a> {
    Start(&'a [u8]),
    End,
    Empty(&'a [u8]),
    /// Comment, declaration, CDATA.
    Other,
}

impl Splitter {
    /// A splitter for a listing whose keys are written so.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, buffer: BytesMut::new(), read: 0, depth: 0, begun: false, entry: None }
    }

    /// Takes more of the listing and gives what is complete.
    ///
    /// Errors: the store's XML is not a listing, or an entry is longer than 64 KiB.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Segment>> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some((tag, range)) = next_tag(&self.buffer, self.read)? {
            self.read = range.end;
            match tag {
                Tag::Start(name) => {
                    let (kind, field) = (kind(name), field(name));
                    self.begun = self.begun || is_root(name)?;
                    self.depth += 1;
                    self.start(kind, field, &range, &mut out);
                }
                Tag::End => self.end(&range, &mut out)?,
                Tag::Empty(name) => self.begun = self.begun || is_root(name)?,
                Tag::Other => {}
            }
        }
        // Nothing goes out before it is clear that this is a listing.
        if self.begun && self.entry.is_none() {
            self.give_raw(self.read, &mut out);
        }
        if self.buffer.len() > LIMIT {
            return Err(unreadable("an entry, or what stands before the first one, is longer than 64 KiB"));
        }
        Ok(out)
    }

    /// The listing has ended.
    ///
    /// Errors: it broke off inside an element, or before the first one.
    pub fn finish(mut self) -> Result<Vec<Segment>> {
        if self.depth > 0 || !self.begun {
            return Err(unreadable("it broke off"));
        }
        let mut out = Vec::new();
        self.give_raw(self.buffer.len(), &mut out);
        Ok(out)
    }

    fn start(
        &mut self,
        kind: Option<Kind>,
        field: Option<Field>,
        tag: &Range<usize>,
        out: &mut Vec<Segment>,
    ) {
        match (&mut self.entry, kind, self.depth) {
            // Entries are children of the document's element.
            (None, Some(kind), 2) => {
                self.give_raw(tag.start, out);
                self.entry = Some(Open { kind, field: None, spans: Vec::new() });
            }
            (Some(open), _, 3) => open.field = field.map(|field| (field, tag.end)),
            _ => {}
        }
    }

    fn end(&mut self, tag: &Range<usize>, out: &mut Vec<Segment>) -> Result<()> {
        self.depth =
            self.depth.checked_sub(1).ok_or_else(|| unreadable("an element ends that did not begin"))?;
        match (&mut self.entry, self.depth) {
            (Some(open), 2) => {
                if let Some((field, start)) = open.field.take() {
                    open.spans.push((field, start..tag.start));
                }
            }
            (Some(_), 1) => {
                let open = self.entry.take().expect("matched above");
                let raw = self.buffer.split_to(self.read).freeze();
                self.read = 0;
                out.push(Segment::Entry(open.close(raw, self.encoding)?));
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives out what stands before `end`, and counts from there.
    fn give_raw(&mut self, end: usize, out: &mut Vec<Segment>) {
        if end > 0 {
            out.push(Segment::Raw(self.buffer.split_to(end).freeze()));
            self.read -= end.min(self.read);
        }
    }
}

impl Open {
    fn close(self, raw: Bytes, encoding: Encoding) -> Result<Entry> {
        let wanted = if self.kind == Kind::CommonPrefix { Field::Prefix } else { Field::Key };
        let text = |field: Field| -> Result<Option<String>> {
            let Some((_, span)) = self.spans.iter().find(|(name, _)| *name == field) else { return Ok(None) };
            let text = std::str::from_utf8(&raw[span.clone()]).map_err(|_| unreadable("it is not UTF-8"))?;
            // No store writes elements, comments or CDATA into these; what they would mean is not to be guessed.
            if text.contains('<') {
                return Err(unreadable("a field of an entry has markup in it"));
            }
            quick_xml::escape::unescape(text)
                .map(|text| Some(text.into_owned()))
                .map_err(|_| unreadable("an entity is not known"))
        };
        let mut key = text(wanted)?.ok_or_else(|| unreadable("an entry has no key"))?;
        if encoding == Encoding::Url {
            key = decode_form(&key).map_err(|_| unreadable("a key is not URL-encoded UTF-8"))?;
        }
        let size = text(Field::Size)?;
        let span =
            self.spans.iter().find(|(name, _)| *name == Field::Size).map_or(0..0, |(_, span)| span.clone());
        Ok(Entry {
            kind: self.kind,
            key,
            version_id: text(Field::VersionId)?,
            etag: text(Field::ETag)?,
            size: size.and_then(|size| size.trim().parse().ok()),
            raw,
            digits: span,
        })
    }
}

/// The next complete piece of markup at or after `from`; `None` until more has come.
fn next_tag(buffer: &[u8], from: usize) -> Result<Option<(Tag<'_>, Range<usize>)>> {
    let Some(start) = memchr(b'<', &buffer[from..]).map(|at| from + at) else { return Ok(None) };
    let rest = &buffer[start..];
    // Comment, CDATA and declaration end in their own ways; wait until it is clear which it is.
    for (open, close) in [(&b"<!--"[..], &b"-->"[..]), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")] {
        if rest.starts_with(open) {
            let end =
                memmem::find(&rest[open.len()..], close).map(|at| start + open.len() + at + close.len());
            return Ok(end.map(|end| (Tag::Other, start..end)));
        }
        if open.starts_with(rest) {
            return Ok(None);
        }
    }
    if rest.starts_with(b"<!") {
        return Err(unreadable("it has a document type"));
    }
    let Some(len) = tag_len(rest) else { return Ok(None) };
    let inner = &rest[1..len - 1];
    let tag = match (inner.first(), inner.last()) {
        (Some(b'/'), _) => Tag::End,
        (_, Some(b'/')) => Tag::Empty(local_name(&inner[..inner.len() - 1])),
        _ => Tag::Start(local_name(inner)),
    };
    Ok(Some((tag, start..start + len)))
}

/// Length of the tag that begins here, its `>` included: the first one that is not in an attribute's quotes.
fn tag_len(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in rest.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The element's name without its namespace prefix.
fn local_name(tag: &[u8]) -> &[u8] {
    let name = tag.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    memchr(b':', name).map_or(name, |at| &name[at + 1..])
}

/// True for what a listing begins with.
///
/// Errors: it is another document. A client would take it for a listing of nothing.
fn is_root(name: &[u8]) -> Result<bool> {
    if ROOTS.contains(&name) { Ok(true) } else { Err(unreadable("it is another document")) }
}

fn kind(name: &[u8]) -> Option<Kind> {
    Some(match name {
        b"Contents" => Kind::Contents,
        b"Version" => Kind::Version,
        b"DeleteMarker" => Kind::DeleteMarker,
        b"Upload" => Kind::Upload,
        b"CommonPrefixes" => Kind::CommonPrefix,
        _ => return None,
    })
}

fn field(name: &[u8]) -> Option<Field> {
    Some(match name {
        b"Key" => Field::Key,
        b"VersionId" => Field::VersionId,
        b"ETag" => Field::ETag,
        b"Size" => Field::Size,
        b"Prefix" => Field::Prefix,
        _ => return None,
    })
}

fn unreadable(why: &str) -> Error {
    Error::new(Code::InternalError, format!("The store's listing can't be read: {why}."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    const LISTING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix><KeyCount>3</KeyCount>
<!-- <Contents> in a comment --><Contents><Key>a&amp;b &lt;x&gt;</Key><ETag>&quot;e1&quot;</ETag><Size>96</Size>
<Owner><ID>i</ID><Key>not this</Key></Owner><ChecksumAlgorithm>CRC32</ChecksumAlgorithm></Contents>
<x:Contents a="1>2"><Key>%C3%A9+%2B</Key><Size> 112 </Size><Prefix/></x:Contents>
<DeleteMarker><Key>gone</Key><VersionId>v1</VersionId></DeleteMarker>
<CommonPrefixes><Prefix>.s3veil/</Prefix></CommonPrefixes><IsTruncated>false</IsTruncated></ListBucketResult>
"#;

    /// The listing pushed in pieces, each entry through `change`.
    fn rewrite(pieces: &[&[u8]], encoding: Encoding, change: impl Fn(Entry) -> Bytes) -> Result<Vec<u8>> {
        let mut splitter = Splitter::new(encoding);
        let mut segments = Vec::new();
        for piece in pieces {
            segments.extend(splitter.push(piece)?);
        }
        segments.extend(splitter.finish()?);
        Ok(segments.into_iter().fold(Vec::new(), |mut out, segment| {
            out.extend_from_slice(&match segment {
                Segment::Raw(bytes) => bytes,
                Segment::Entry(entry) => change(entry),
            });
            out
        }))
    }

    fn entries(encoding: Encoding) -> Vec<Entry> {
        let mut splitter = Splitter::new(encoding);
        let segments = splitter.push(LISTING.as_bytes()).unwrap();
        let entry = |segment| if let Segment::Entry(entry) = segment { Some(entry) } else { None };
        segments.into_iter().filter_map(entry).collect()
    }

    #[test]
    fn entries_are_found_and_decoded() {
        let found = entries(Encoding::None);
        let keys: Vec<_> = found.iter().map(|entry| (entry.kind, entry.key.as_str(), entry.size)).collect();
        assert_eq!(
            keys,
            [
                (Kind::Contents, "a&b <x>", Some(96)),
                (Kind::Contents, "%C3%A9+%2B", Some(112)),
                (Kind::DeleteMarker, "gone", None),
                (Kind::CommonPrefix, ".s3veil/", None),
            ]
        );
        assert_eq!(found[0].etag.as_deref(), Some("\"e1\""));
        assert_eq!(found[2].version_id.as_deref(), Some("v1"));
        assert_eq!(entries(Encoding::Url)[1].key, "é +");
    }

    #[test]
    fn only_the_digits_change() {
        let out = rewrite(&[LISTING.as_bytes()], Encoding::None, |entry| entry.with_size(7)).unwrap();
        let expected = LISTING
            .replace("<Size>96</Size>", "<Size>7</Size>")
            .replace("<Size> 112 </Size>", "<Size>7</Size>");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_no_listing_is_an_error() {
        for bad in [
            "<ListBucketResult><Contents><Key>k</Key>",
            "</a>",
            "",
            "words",
            "<?xml version=\"1.0\"?><!-- <ListBucketResult/> -->",
            "<html><body>Come back later.</body></html>",
            "<html/>",
            "<ListBucketResult><IsTruncated>false</IsTruncated>",
            "<!DOCTYPE x [<!ENTITY y 'z'>]><a></a>",
            "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key><![CDATA[k]]></Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>&unknown;</Key></Contents></ListBucketResult>",
        ] {
            assert!(rewrite(&[bad.as_bytes()], Encoding::None, Entry::into_bytes).is_err(), "{bad}");
        }
        let long = format!("<ListBucketResult><Contents><Key>{}", "k".repeat(LIMIT));
        assert!(rewrite(&[long.as_bytes()], Encoding::None, Entry::into_bytes).is_err());
    }

    #[test]
    fn an_error_and_a_listing_of_nothing_pass() {
        for good in
            ["<ListBucketResult/>", "<s3:ListVersionsResult a='b'/>", "<Error><Code>SlowDown</Code></Error>"]
        {
            let out = rewrite(&[good.as_bytes()], Encoding::None, Entry::into_bytes).unwrap();
            assert_eq!(out, good.as_bytes());
        }
    }

    #[test]
    fn nothing_is_given_out_before_it_is_a_listing() {
        let mut splitter = Splitter::new(Encoding::None);
        for before in ["\u{feff}", "<?xml version=\"1.0\"?>", "\n<!-- a store -->", "<ListBucketRes"] {
            assert!(splitter.push(before.as_bytes()).unwrap().is_empty(), "{before}");
        }
        assert_eq!(splitter.push(b"ult>").unwrap().len(), 1);

        let mut splitter = Splitter::new(Encoding::None);
        assert!(splitter.push(b"<?xml version=\"1.0\"?>").unwrap().is_empty());
        assert!(splitter.push(b"<html>").is_err());
    }

    proptest! {
        #[test]
        fn where_it_is_cut_makes_no_difference(mut cuts in proptest::collection::vec(0..LISTING.len(), 0..12)) {
            cuts.extend([0, LISTING.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &LISTING.as_bytes()[cut[0]..cut[1]]).collect();
            let whole = rewrite(&[LISTING.as_bytes()], Encoding::None, |entry| entry.with_size(1)).unwrap();
            prop_assert_eq!(rewrite(&pieces, Encoding::None, |entry| entry.with_size(1)).unwrap(), whole);
        }

        #[test]
        fn an_untouched_listing_is_the_same_bytes(at in 0..LISTING.len(), byte in any::<u8>()) {
            let mut listing = LISTING.as_bytes().to_vec();
            listing[at] = byte;
            if let Ok(out) = rewrite(&[&listing], Encoding::Url, Entry::into_bytes) {
                prop_assert_eq!(out, listing);
            }
        }
    }
}
