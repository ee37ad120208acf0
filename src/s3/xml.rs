//! The few XML documents that s3veil itself reads or writes.

use std::borrow::Cow;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, Event};

use super::checksum::Checksum;
use super::{Code, Error, Result};

/// The most objects of one DeleteObjects.
const MAX_DELETES: usize = 1000;

/// The deepest element that a document may have. S3's are three deep.
const MAX_DEPTH: usize = 8;

/// Escapes text for an XML element.
pub fn escape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
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

/// What GetObjectAttributes shows of an object of one part.
#[derive(Clone, Copy, Debug)]
pub struct ObjectAttributes<'a> {
    /// The ETag without quotes.
    pub etag: Option<&'a str>,
    /// The checksum of the whole object.
    pub checksum: Option<&'a Checksum>,
    /// The storage class.
    pub storage_class: Option<&'a str>,
    /// Plaintext bytes.
    pub object_size: Option<u64>,
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
    if let Some(checksum) = attributes.checksum {
        xml.push_str("<Checksum>");
        push(&mut xml, checksum.algorithm().element(), &checksum.to_base64());
        push(&mut xml, "ChecksumType", "FULL_OBJECT");
        xml.push_str("</Checksum>");
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

fn push(xml: &mut String, name: &str, text: &str) {
    write!(xml, "<{name}>{}</{name}>", escape(text)).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::checksum::{Algorithm, Hasher};

    fn keys(document: &str) -> Result<Vec<String>> {
        Ok(delete_keys(document.as_bytes())?.into_iter().map(|entry| entry.key).collect())
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
            checksum: Some(&checksum),
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
