//! The checksum of a multipart upload, from what its client says when it completes it.
//!
//! Each part's checksum was verified when the part came. No replica remembers it: the client, who had it in the answer,
//! names it again. Source: Amazon S3 User Guide, "Checking object integrity", multipart uploads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::state::Record;
use crate::body::{sum_algorithm, sum_of};
use crate::s3::checksum::{Algorithm, Checksum, Hasher};
use crate::s3::multipart::CompletedPart;
use crate::s3::{Code, Error, Result};
use crate::seal::{Manifest, ObjectSum, PartNumber, PlainLen, SumKind};

/// The checksum of the object, and of how many parts' checksums it is one.
pub(super) struct ObjectChecksum {
    value: Checksum,
    /// None: of the object's bytes.
    parts: Option<usize>,
}

impl ObjectChecksum {
    /// The checksum that the upload's settings and the client's list give, compared with the one that the client
    /// claims; `None` if there is nothing to know one by.
    ///
    /// Errors: InvalidRequest if a part's is missing with which to verify it, BadDigest if the claimed one is another.
    pub(super) fn of(
        record: &Record,
        client: &HeaderMap,
        wanted: &[(PartNumber, CompletedPart)],
        parts: &[(PartNumber, PlainLen)],
    ) -> Result<Option<Self>> {
        let claimed = Algorithm::all().find(|algorithm| client.contains_key(algorithm.header()));
        let chosen = record
            .checksum
            .as_ref()
            .and_then(|(name, kind)| Some((Algorithm::from_header(name)?, kind.as_str())));
        let Some((algorithm, kind)) = chosen.or(claimed.map(|algorithm| (algorithm, "FULL_OBJECT"))) else {
            return Ok(None);
        };
        let sums: Vec<Option<Checksum>> =
            wanted.iter().map(|(_, part)| part.checksum(algorithm)).collect::<Result<_>>()?;
        let all: Option<Vec<&Checksum>> = sums.iter().map(Option::as_ref).collect();
        let computed = match (kind, &all) {
            ("COMPOSITE", Some(all)) => Some(of_checksums(algorithm, all)),
            ("COMPOSITE", None) => return Err(missing(algorithm)),
            (_, Some(all)) => combined(algorithm, all, parts),
            _ => None,
        };
        match (&computed, claimed_value(client, algorithm)?) {
            // No replica has seen the whole: without the parts' checksums a claim can't be verified, so it is not kept.
            (None, Some(_)) => return Err(missing(algorithm)),
            (Some(computed), Some(claimed)) if *computed != claimed => {
                return Err(Error::new(
                    Code::BadDigest,
                    format!("The {} you specified is not that of the parts.", algorithm.header()),
                ));
            }
            _ => {}
        }
        let parts = (kind == "COMPOSITE").then_some(wanted.len());
        Ok(computed.map(|value| Self { value, parts }))
    }

    /// As the manifest keeps it. SHA-512 is not kept: see `docs/format.md`.
    pub(super) fn kept(&self) -> Option<ObjectSum> {
        let kind = if self.parts.is_some() { SumKind::Composite } else { SumKind::FullObject };
        let algorithm = sum_algorithm(self.value.algorithm())?;
        Some(ObjectSum { algorithm, kind, value: self.value.value().to_vec() })
    }

    /// A part's checksum, as the manifest keeps it.
    pub(super) fn of_part(&self, part: &CompletedPart) -> Option<Vec<u8>> {
        sum_algorithm(self.value.algorithm())?;
        let sum = part.checksum(self.value.algorithm()).ok().flatten()?;
        Some(sum.value().to_vec())
    }

    /// As S3 shows it.
    pub(super) fn shown(&self) -> (Algorithm, String, &'static str) {
        let (value, kind) = shown(&self.value, self.parts);
        (self.value.algorithm(), value, kind)
    }
}

/// A checksum that a manifest keeps, as S3 shows it: algorithm, value, type.
pub(in super::super) fn of_manifest(
    sum: &ObjectSum,
    parts: usize,
) -> Option<(Algorithm, String, &'static str)> {
    let value = sum_of(sum.algorithm, &sum.value)?;
    let (text, kind) = shown(&value, (sum.kind == SumKind::Composite).then_some(parts));
    Some((value.algorithm(), text, kind))
}

/// The checksum of a part, the same way.
pub(in super::super) fn of_part(
    manifest: &Manifest,
    number: u32,
) -> Option<(Algorithm, String, &'static str)> {
    let sum = manifest.checksum()?;
    let part = manifest.parts().iter().find(|part| u32::from(part.number.get()) == number)?;
    let value = sum_of(sum.algorithm, part.checksum.as_deref()?)?;
    let kind = if sum.kind == SumKind::Composite { "COMPOSITE" } else { "FULL_OBJECT" };
    Some((value.algorithm(), value.to_base64(), kind))
}

fn shown(value: &Checksum, parts: Option<usize>) -> (String, &'static str) {
    match parts {
        Some(parts) => (format!("{}-{parts}", value.to_base64()), "COMPOSITE"),
        None => (value.to_base64(), "FULL_OBJECT"),
    }
}

/// The checksum of checksums.
fn of_checksums(algorithm: Algorithm, parts: &[&Checksum]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    parts.iter().for_each(|part| hasher.update(part.value()));
    hasher.finish()
}

/// The CRC of the whole, by the CRCs of its parts and their lengths.
fn combined(algorithm: Algorithm, sums: &[&Checksum], parts: &[(PartNumber, PlainLen)]) -> Option<Checksum> {
    let crc = match algorithm {
        Algorithm::Crc32 => crc_fast::CrcAlgorithm::Crc32IsoHdlc,
        Algorithm::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
        Algorithm::Crc64Nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
        _ => return None,
    };
    let number =
        |sum: &Checksum| sum.value().iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let mut whole = number(sums.first()?);
    for (sum, (_, length)) in sums.iter().zip(parts).skip(1) {
        whole = crc_fast::checksum_combine(crc, whole, number(sum), length.get());
    }
    Checksum::new(algorithm, &whole.to_be_bytes()[8 - algorithm.len()..])
}

/// The checksum that the client claims of the object, with or without the number of parts behind it.
fn claimed_value(client: &HeaderMap, algorithm: Algorithm) -> Result<Option<Checksum>> {
    let Some(value) = client.get(algorithm.header()) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let text = text.split_once('-').map_or(text, |(value, _)| value);
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| Checksum::new(algorithm, &bytes));
    bytes.map(Some).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("Value for {} header is invalid.", algorithm.header()))
    })
}

fn missing(algorithm: Algorithm) -> Error {
    Error::new(
        Code::InvalidRequest,
        format!(
            "The checksum of the object is verified by those of its parts. Name the {} of each part.",
            algorithm.element()
        ),
    )
}
