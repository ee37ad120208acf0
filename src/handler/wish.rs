//! What part of an object a read wants: all, a range, or a part of a multipart upload.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use crate::operation::Call;
use crate::s3::range::{ContentRange, RangeSpec};
use crate::s3::{Code, Error, Result};
use crate::seal::{Manifest, PlainAsk, PlainLen, PlainRange, SealedAsk};

/// What part of an object a read wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// All of it.
    Whole,
    /// A range, in plaintext bytes.
    Range(RangeSpec),
    /// A part by its number.
    Part(u32),
}

impl Wish {
    /// Reads `Range` and `partNumber`. As S3, a range that can't be read is ignored.
    ///
    /// Errors: InvalidRequest for both at once, InvalidArgument for a number that is none.
    pub(super) fn of(call: &Call) -> Result<Self> {
        let range = call.headers().get(header::RANGE).and_then(RangeSpec::parse);
        let Some(number) = call.query().get("partNumber") else {
            return Ok(range.map_or(Self::Whole, Self::Range));
        };
        if call.headers().contains_key(header::RANGE) {
            return Err(Error::new(
                Code::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter.",
            ));
        }
        match number.parse() {
            Ok(number @ 1..=10_000) => Ok(Self::Part(number)),
            _ => Err(Error::new(
                Code::InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive.",
            )),
        }
    }

    /// What to ask the store for, if the object is a sealed stream. A store's parts are not the client's.
    pub(super) fn sealed_guess(self) -> Self {
        let sealed = match self {
            Self::Range(RangeSpec::FromTo(first, last)) => {
                PlainAsk::Between { start: first, end: last.saturating_add(1) }
            }
            Self::Range(RangeSpec::From(first)) => PlainAsk::From(first),
            Self::Range(RangeSpec::Suffix(len)) => PlainAsk::Suffix(len),
            Self::Whole | Self::Part(_) => return Self::Whole,
        };
        Self::Range(match sealed.sealed() {
            SealedAsk::Between { start, end } => RangeSpec::FromTo(start, end - 1),
            SealedAsk::From(start) => RangeSpec::From(start),
            SealedAsk::Suffix(len) => RangeSpec::Suffix(len),
        })
    }

    /// The wish as far as a store honours it that answers with the whole object.
    pub(super) fn without_range(self) -> Self {
        match self {
            Self::Range(_) => Self::Whole,
            other => other,
        }
    }

    /// The status: 206 for a range or a part. An empty part has no range to show.
    pub(super) fn status(self, range: PlainRange) -> StatusCode {
        if self == Self::Whole || range.len() == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT }
    }

    /// Content-Length and, for a range or a part, Content-Range.
    pub(super) fn describe(self, headers: &mut HeaderMap, range: PlainRange, total: PlainLen) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.len()));
        if self.status(range) == StatusCode::PARTIAL_CONTENT {
            let shown = ContentRange { start: range.start(), end: range.end(), total: total.get() };
            headers.insert(header::CONTENT_RANGE, shown.to_header());
        }
    }

    /// The plaintext bytes wanted of a composite object.
    ///
    /// Errors: InvalidRange with the object's size, InvalidPartNumber for a part that it does not have.
    pub(super) fn resolve_parts(self, manifest: &Manifest) -> Result<PlainRange> {
        let Self::Part(wanted) = self else { return self.resolve(manifest.length()) };
        let index = manifest.parts().iter().position(|part| u32::from(part.number.get()) == wanted);
        index.and_then(|index| manifest.part_range(index)).ok_or_else(no_such_part)
    }

    /// The plaintext bytes wanted of a sealed stream of this length.
    ///
    /// Errors: InvalidRange with the object's size, InvalidPartNumber for any but the first part.
    pub(super) fn resolve(self, total: PlainLen) -> Result<PlainRange> {
        match self {
            Self::Whole | Self::Part(1) => Ok(PlainRange::whole(total)),
            Self::Part(_) => Err(no_such_part()),
            Self::Range(spec) => spec
                .resolve(total.get())
                .and_then(|(start, end)| PlainAsk::Between { start, end }.resolve(total))
                .ok_or_else(|| unsatisfiable(spec, total)),
        }
    }
}

fn no_such_part() -> Error {
    Error::new(Code::InvalidPartNumber, "The requested partnumber is not satisfiable.")
}

fn unsatisfiable(spec: RangeSpec, total: PlainLen) -> Error {
    Error::new(Code::InvalidRange, "The requested range is not satisfiable.")
        .detail("RangeRequested", spec.to_header().to_str().unwrap_or_default())
        .detail("ActualObjectSize", total.to_string())
        .header(header::CONTENT_RANGE, ContentRange::unsatisfied(total.get()))
}
