//! The body of DeleteObjects, and tags. Input: the document.
//!
//! Holds: what was understood, written again, is understood the same; another reader of XML, as a store has one,
//! finds the same keys; tags survive the header that they become.

use quick_xml::de::from_str;
use s3veil::s3::xml::{DeleteEntry, delete_keys, escape, tags_of_client};
use s3veil::s3::{Code, Query};
use serde::Deserialize;

use super::input::keeps_in_xml;

#[derive(Deserialize)]
struct Delete {
    #[serde(rename = "Object", default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    key: String,
    version_id: Option<String>,
}

/// Reads a document.
pub fn run(data: &[u8]) {
    if let Ok(query) = tags_of_client(data) {
        assert_eq!(Query::parse(&query).expect("encoded well").to_canonical(), query);
    }
    let entries = match delete_keys(data) {
        Ok(entries) => entries,
        Err(error) => return assert_eq!(error.code(), Code::MalformedXML),
    };
    assert!((1..=1000).contains(&entries.len()));
    assert!(entries.iter().all(|entry| !entry.key.is_empty()));
    let text = std::str::from_utf8(data).expect("only text is read");
    if let Ok(other) = from_str::<Delete>(text)
        && keeps_in_xml(text)
    {
        let other =
            other.objects.into_iter().map(|Object { key, version_id }| DeleteEntry { key, version_id });
        let trimmed = |entry: DeleteEntry| {
            let version_id = entry.version_id.map(|id| id.trim().to_owned());
            DeleteEntry { key: entry.key.trim().to_owned(), version_id }
        };
        let ours = entries.iter().cloned().map(trimmed);
        assert!(ours.eq(other.map(trimmed)), "another reader finds other keys");
    }
    let texts = |entry: &DeleteEntry| [Some(entry.key.clone()), entry.version_id.clone()];
    if entries.iter().flat_map(texts).flatten().all(|text| keeps_in_xml(&text)) {
        assert_eq!(delete_keys(write(&entries).as_bytes()).expect("written well"), entries);
    }
}

fn write(entries: &[DeleteEntry]) -> String {
    let mut xml = String::from("<Delete>");
    for entry in entries {
        xml.push_str(&format!("<Object><Key>{}</Key>", escape(&entry.key)));
        if let Some(version) = &entry.version_id {
            xml.push_str(&format!("<VersionId>{}</VersionId>", escape(version)));
        }
        xml.push_str("</Object>");
    }
    xml + "</Delete>"
}

/// Documents of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "<?xml version='1.0' encoding='UTF-8'?><Delete xmlns='x'><Quiet>true</Quiet><Object><Key>a&amp;b &#233;&#x20;</Key>\
         <VersionId>v</VersionId></Object><x:Object><Key><![CDATA[<c>]]></Key><ETag>e</ETag></x:Object></Delete>",
        "<Delete><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
        "<Delete><Object><Key>a<!-- c -->b</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key><VersionId/></Object><Object/></Delete>",
        "<Delete><Other><Object><Key>k</Key></Object></Other></Delete>",
        "<Delete><Object><Key>&evil;</Key></Object></Delete>",
        "<!DOCTYPE d [<!ENTITY evil 'x'>]><Delete><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object></Delete><Delete><Object><Key>l</Key></Object></Delete>",
        "<?xml version='1.0' encoding='ISO-8859-1'?><Delete><Object><Key>k</Key></Object></Delete>",
        "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag><Tag><Key>c</Key></Tag></TagSet></Tagging>",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
