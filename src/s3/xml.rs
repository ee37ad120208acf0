//! The few XML documents that s3veil itself reads or writes.

use std::borrow::Cow;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, Event};

use serde::Deserialize;

use super::checksum::Algorithm;
use super::{Code, Error, Result};

/// The most objects of one DeleteObjects.
const MAX_DELETES: usize = 1000;

/// The deepest element that a document may have. S3's are three deep.
const MAX_DEPTH: usize = 8;

/// Escapes text for an XML element.
pub fn escape(text: &str) -> Cow<'_, str> {
    writable(quick_xml::escape::escape(text))
}

/// Text without the characters that XML has no form for, so that a client can read what is beside them. In a key they are
/// allowed; stores replace them in the same way.
pub fn writable(text: Cow<'_, str>) -> Cow<'_, str> {
    let unwritable =
        |c: char| (c < ' ' && !['\t', '\n', '\r'].contains(&c)) || ['\u{fffe}', '\u{ffff}'].contains(&c);
    if text.contains(unwritable) { text.replace(unwritable, "\u{fffd}").into() } else { text }
}

/// An object of DeleteObjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteEntry {
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
}

/// The objects that a DeleteObjects document names.
///
/// The document goes on to the store, whose parser must find the same keys: what two parsers could read in two ways
/// (a field twice, elements or comments within one, text around the document, another encoding) is refused.
///
/// Source: Amazon S3 API Reference, DeleteObjects. Errors: MalformedXML.
pub fn delete_keys(document: &[u8]) -> Result<Vec<DeleteEntry>> {
    let mut reader = Reader::from_str(std::str::from_utf8(document).map_err(|_| malformed())?);
    let mut path: Vec<String> = Vec::new();
    let mut entries: Vec<DeleteEntry> = Vec::new();
    let mut ended = false;
    loop {
        let event = reader.read_event().map_err(|_| malformed())?;
        match (event, field(&path, entries.last_mut())) {
            (Event::Start(tag), None) if !ended && path.len() < MAX_DEPTH => {
                path.push(tag.local_name().into_inner().to_owned());
                begin(&path, &mut entries)?;
            }
            (Event::Empty(tag), None) if !path.is_empty() => {
                path.push(tag.local_name().into_inner().to_owned());
                begin(&path, &mut entries)?;
                path.pop();
            }
            (Event::End(_), _) => {
                path.pop();
                ended |= path.is_empty();
            }
            (Event::Text(part), Some(field)) => field.push_str(&part),
            (Event::CData(part), Some(field)) => field.push_str(&part),
            (Event::GeneralRef(entity), Some(field)) => match entity.resolve_char_ref() {
                Ok(Some(character)) => field.push(character),
                Ok(None) => field.push_str(named(&entity).ok_or_else(malformed)?),
                Err(_) => return Err(malformed()),
            },
            (Event::Text(_) | Event::CData(_) | Event::GeneralRef(_), None) if !path.is_empty() => {}
            (Event::Text(part), None) if part.trim().is_empty() => {}
            (Event::Decl(declaration), None) if is_utf8(&declaration) => {}
            (Event::Comment(_), None) => {}
            (Event::Eof, _) => break,
            _ => return Err(malformed()),
        }
    }
    let keys = entries.iter().all(|entry| !entry.key.is_empty());
    if path.is_empty() && ended && !entries.is_empty() && keys { Ok(entries) } else { Err(malformed()) }
}

/// An element begins: an object, or a field that its object does not have yet.
fn begin(path: &[String], entries: &mut Vec<DeleteEntry>) -> Result<()> {
    if is(path, &["Delete", "Object"]) {
        entries.push(DeleteEntry::default());
        return if entries.len() <= MAX_DELETES { Ok(()) } else { Err(malformed()) };
    }
    let entry = entries.last_mut();
    if is(path, &["Delete", "Object", "VersionId"])
        && let Some(entry) = entry
    {
        let twice = entry.version_id.replace(String::new()).is_some();
        return if twice { Err(malformed()) } else { Ok(()) };
    }
    // A key that is empty at its end is refused, so one that is not empty has had its element.
    let twice = is(path, &["Delete", "Object", "Key"]) && entry.is_some_and(|entry| !entry.key.is_empty());
    if twice { Err(malformed()) } else { Ok(()) }
}

/// The field whose text is being read.
fn field<'e>(path: &[String], entry: Option<&'e mut DeleteEntry>) -> Option<&'e mut String> {
    let entry = entry?;
    if is(path, &["Delete", "Object", "Key"]) {
        return Some(&mut entry.key);
    }
    entry.version_id.as_mut().filter(|_| is(path, &["Delete", "Object", "VersionId"]))
}

/// No encoding named, or UTF-8.
fn is_utf8(declaration: &BytesDecl<'_>) -> bool {
    let encoding = declaration.encoding();
    encoding.is_none_or(|encoding| encoding.is_ok_and(|encoding| encoding.eq_ignore_ascii_case("utf-8")))
}

fn is(path: &[String], names: &[&str]) -> bool {
    path.len() == names.len() && path.iter().zip(names).all(|(have, want)| have == want)
}

/// The five entities of XML itself. No other is known, so none can expand.
fn named(entity: &str) -> Option<&'static str> {
    Some(match entity {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "apos" => "'",
        "quot" => "\"",
        _ => return None,
    })
}

fn malformed() -> Error {
    Error::new(
        Code::MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema: a Delete with 1 \
         to 1,000 Objects, each with a Key.",
    )
}

/// What GetObjectAttributes shows of an object.
#[derive(Clone, Debug)]
pub struct ObjectAttributes<'a> {
    /// The ETag without quotes.
    pub etag: Option<&'a str>,
    /// The checksum of the object as S3 writes it, and its type.
    pub checksum: Option<(Algorithm, String, &'static str)>,
    /// The parts of a multipart upload.
    pub parts: Option<PartsPage>,
    /// The storage class.
    pub storage_class: Option<&'a str>,
    /// Plaintext bytes.
    pub object_size: Option<u64>,
}

/// Number, plaintext bytes, checksum in base64.
pub type ShownPart = (u32, u64, Option<(Algorithm, String)>);

/// A page of an object's parts.
#[derive(Clone, Debug)]
pub struct PartsPage {
    /// How many the object has.
    pub total: usize,
    /// Parts of this and lower numbers are on earlier pages.
    pub marker: u32,
    /// The most parts of a page.
    pub max: usize,
    /// Whether more follow.
    pub truncated: bool,
    /// The parts. S3 shows them only where they have checksums.
    pub parts: Vec<ShownPart>,
}

/// The document of GetObjectAttributes.
pub fn object_attributes(attributes: &ObjectAttributes<'_>) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <GetObjectAttributesResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    if let Some(etag) = attributes.etag {
        push(&mut xml, "ETag", etag);
    }
    if let Some((algorithm, value, kind)) = &attributes.checksum {
        xml.push_str("<Checksum>");
        push(&mut xml, algorithm.element(), value);
        push(&mut xml, "ChecksumType", kind);
        xml.push_str("</Checksum>");
    }
    if let Some(page) = &attributes.parts {
        xml.push_str("<ObjectParts>");
        push(&mut xml, "PartsCount", &page.total.to_string());
        push(&mut xml, "PartNumberMarker", &page.marker.to_string());
        let next = page.parts.last().map_or(page.marker, |part| part.0);
        push(&mut xml, "NextPartNumberMarker", &next.to_string());
        push(&mut xml, "MaxParts", &page.max.to_string());
        push(&mut xml, "IsTruncated", if page.truncated { "true" } else { "false" });
        for (number, size, checksum) in &page.parts {
            xml.push_str("<Part>");
            push(&mut xml, "PartNumber", &number.to_string());
            push(&mut xml, "Size", &size.to_string());
            if let Some((algorithm, value)) = checksum {
                push(&mut xml, algorithm.element(), value);
            }
            xml.push_str("</Part>");
        }
        xml.push_str("</ObjectParts>");
    }
    if let Some(class) = attributes.storage_class {
        push(&mut xml, "StorageClass", class);
    }
    if let Some(size) = attributes.object_size {
        push(&mut xml, "ObjectSize", &size.to_string());
    }
    xml.push_str("</GetObjectAttributesResponse>");
    xml
}

/// The document of a copy: `CopyObjectResult` or `CopyPartResult`.
pub fn copy_result(name: &str, etag: &str, last_modified: &str) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    );
    push(&mut xml, "LastModified", last_modified);
    push(&mut xml, "ETag", etag);
    write!(xml, "</{name}>").expect("a string takes all");
    xml
}

/// The document that answers a form.
pub fn post_response(location: &str, bucket: &str, key: &str, etag: &str) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse>");
    for (name, text) in [("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag)] {
        push(&mut xml, name, text);
    }
    xml.push_str("</PostResponse>");
    xml
}

/// The time, as S3's documents write it.
pub fn now() -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");
    time::OffsetDateTime::now_utc().format(format).expect("every time has these parts")
}

/// The tags of a GetObjectTagging document, as `x-amz-tagging` takes them.
///
/// Errors: InternalError for a document that is none.
pub fn tags_as_query(document: &[u8]) -> Result<String> {
    let tagging: Tagging = super::multipart::from_store(document)?;
    Ok(tagging.into_query())
}

/// The same of a client's document.
///
/// Errors: MalformedXML.
pub fn tags_of_client(document: &[u8]) -> Result<String> {
    let tagging: Result<Tagging> = super::multipart::from_client(document);
    tagging.map(Tagging::into_query).map_err(|_| {
        Error::new(
            Code::MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema: a Tagging with \
             a TagSet of Tags, each with Key and Value.",
        )
    })
}

#[derive(Deserialize)]
struct Tagging {
    #[serde(rename = "TagSet")]
    tag_set: TagSet,
}

impl Tagging {
    fn into_query(self) -> String {
        let mut query = super::Query::default();
        self.tag_set.tags.into_iter().for_each(|tag| query.push(tag.key, tag.value));
        query.to_canonical()
    }
}

#[derive(Deserialize)]
struct TagSet {
    #[serde(rename = "Tag", default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// Adds an element with a text.
pub(super) fn push(xml: &mut String, name: &str, text: &str) {
    write!(xml, "<{name}>{}</{name}>", escape(text)).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::checksum::Hasher;

    fn keys(document: &str) -> Result<Vec<String>> {
        Ok(delete_keys(document.as_bytes())?.into_iter().map(|entry| entry.key).collect())
    }

    #[test]
    fn what_xml_has_no_form_for_is_replaced() {
        assert_eq!(escape("a\u{1}<\t\u{ffff}é"), "a\u{fffd}&lt;\t\u{fffd}é");
        assert!(matches!(escape("plain é"), Cow::Borrowed(_)));
    }

    #[test]
    fn keys_to_delete() {
        let document = "<?xml version='1.0'?><Delete xmlns='x'><Quiet>true</Quiet><Object><Key>a&amp;b &#233;&#x20;</Key>\
            <VersionId>v</VersionId></Object><x:Object><Key><![CDATA[<c>]]></Key><ETag>e</ETag></x:Object></Delete>";
        assert_eq!(keys(document).unwrap(), ["a&b é ", "<c>"]);
        assert_eq!(delete_keys(document.as_bytes()).unwrap()[0].version_id.as_deref(), Some("v"));
    }

    #[test]
    fn what_is_no_delete_is_malformed() {
        let many = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1001));
        for bad in [
            "",
            "<Delete></Delete>",
            "<Delete><Object></Object></Delete>",
            "<Delete><Object><Key>k</Key></Object>",
            "<Delete><Object><Key>&evil;</Key></Object></Delete>",
            "<!DOCTYPE d [<!ENTITY evil 'x'>]><Delete><Object><Key>k</Key></Object></Delete>",
            "<Delete><Object><Key>k</Wrong></Object></Delete>",
            &many,
        ] {
            assert_eq!(keys(bad).unwrap_err().code(), Code::MalformedXML, "{bad}");
        }
    }

    #[test]
    fn attributes_show_what_was_asked() {
        let checksum = Hasher::digest(Algorithm::Crc32, b"123456789");
        let xml = object_attributes(&ObjectAttributes {
            etag: Some("e&"),
            checksum: Some((Algorithm::Crc32, checksum.to_base64(), "FULL_OBJECT")),
            parts: None,
            storage_class: None,
            object_size: Some(9),
        });
        assert!(
            xml.contains("<ETag>e&amp;</ETag><Checksum><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>"),
            "{xml}"
        );
        assert!(xml.ends_with("<ObjectSize>9</ObjectSize></GetObjectAttributesResponse>"), "{xml}");
    }
}
