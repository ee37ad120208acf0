//! The body of CompleteMultipartUpload. Input: the document.
//!
//! Holds: no more parts than an upload can have; what was understood, written again, is understood the same; so is
//! the list that goes to the store.

use s3veil::s3::Code;
use s3veil::s3::checksum::Algorithm;
use s3veil::s3::multipart::{
    Complete, CompleteRequest, MAX_PARTS, bare, complete_request, from_client, to_xml,
};

use super::input::keeps_in_xml;

/// Reads a document, and writes what it says.
pub fn run(data: &[u8]) {
    let list: CompleteRequest = match from_client(data) {
        Ok(list) => list,
        Err(error) => return assert_eq!(error.code(), Code::MalformedXML),
    };
    assert!(list.parts.len() <= MAX_PARTS);
    let mut parts = Vec::new();
    for part in &list.parts {
        let sums: Vec<_> =
            Algorithm::all().filter_map(|algorithm| part.checksum(algorithm).ok().flatten()).collect();
        assert!(bare(&part.etag).len() <= part.etag.len());
        parts.push((part.part_number, part.etag.clone(), sums.into_iter().next()));
    }
    if parts.iter().any(|(_, etag, _)| !keeps_in_xml(etag) || etag.trim() != etag) {
        return;
    }
    let again: CompleteRequest = from_client(complete_request(&parts).as_bytes()).expect("written well");
    assert_eq!(again.parts.len(), parts.len());
    for (part, (number, etag, sum)) in again.parts.iter().zip(&parts) {
        assert_eq!((part.part_number, &part.etag), (*number, etag));
        if let Some(sum) = sum {
            assert_eq!(part.checksum(sum.algorithm()).expect("written well").as_ref(), Some(sum));
        }
    }
    let for_store = to_xml(&Complete::new(parts.iter().map(|(number, etag, _)| (*number, etag.as_str()))));
    let again: CompleteRequest = from_client(for_store.as_bytes()).expect("written well");
    let read = again.parts.iter().map(|part| (part.part_number, &part.etag));
    assert!(read.eq(parts.iter().map(|(number, etag, _)| (*number, etag))), "{for_store}");
}

/// Lists of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "<CompleteMultipartUpload xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Part><ETag>&quot;a&#34;</ETag><PartNumber>1\
         </PartNumber><ChecksumCRC32>jNwbgw==</ChecksumCRC32></Part><Part><PartNumber>2</PartNumber><ETag>b</ETag></Part>\
         </CompleteMultipartUpload>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<c><Part><PartNumber>10000</PartNumber><ETag>\"e\"</ETag><ChecksumSHA256>\
         47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=</ChecksumSHA256></Part></c>",
        "<c><x:Part><x:PartNumber> 1 </x:PartNumber><x:ETag><![CDATA[<e>]]></x:ETag></x:Part><!-- c --></c>",
        "<c><Part/><Other><Part><PartNumber>1</PartNumber></Part></Other><Part></Part></c>",
        "<c><Part><PartNumber>4294967296</PartNumber></Part></c>",
        "<c><Part><ETag>a</ETag><ETag>b</ETag></Part></c>",
        "<!DOCTYPE c [<!ENTITY e 'x'>]><c><Part><ETag>&e;</ETag></Part></c>",
        "<c><Part><ETag>a",
        "",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
