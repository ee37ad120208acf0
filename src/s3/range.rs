//! HTTP's byte ranges. Their inclusive ends exist only here: everywhere else an end is exclusive.
//!
//! Source: RFC 9110, section 14; Amazon S3 API Reference, GetObject: one range, and one that can't be read is ignored.

use http::HeaderValue;

/// A range as a client or s3veil asks for it, before the object's length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `a-b`, both inclusive.
    FromTo(u64, u64),
    /// `a-`.
    From(u64),
    /// `-n`: the last n bytes.
    Suffix(u64),
}

impl RangeSpec {
    /// Reads a `Range` header. `None` where S3 ignores it: several ranges, another unit, `b < a`, not a number. A
    /// number past u64 stands for the largest.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?.trim();
        let (unit, range) = text.split_once('=')?;
        let (first, last) = range.split_once('-')?;
        match (unit.trim().eq_ignore_ascii_case("bytes"), number(first), number(last)) {
            (true, Some(first), Some(last)) => (first <= last).then_some(Self::FromTo(first, last)),
            (true, Some(first), None) if last.trim().is_empty() => Some(Self::From(first)),
            (true, None, Some(len)) if first.trim().is_empty() => Some(Self::Suffix(len)),
            _ => None,
        }
    }

    /// First byte and one past the last in an object of `len` bytes; `None` if no byte of it is there.
    pub fn resolve(self, len: u64) -> Option<(u64, u64)> {
        let (start, end) = match self {
            Self::FromTo(first, last) => (first, last.saturating_add(1).min(len)),
            Self::From(first) => (first, len),
            Self::Suffix(suffix) => (len.saturating_sub(suffix), len),
        };
        (start < end).then_some((start, end))
    }

    /// As a `Range` header.
    pub fn to_header(self) -> HeaderValue {
        let text = match self {
            Self::FromTo(first, last) => format!("bytes={first}-{last}"),
            Self::From(first) => format!("bytes={first}-"),
            Self::Suffix(len) => format!("bytes=-{len}"),
        };
        HeaderValue::from_str(&text).expect("digits are a header value")
    }
}

/// A decimal number, saturating; `None` if it is none.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// What an answer with status 206 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// All bytes of the object.
    pub total: u64,
}

impl ContentRange {
    /// Reads `bytes a-b/total`; `None` for anything else, such as an unknown total.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let (range, total) = value.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (start, last, total) = (number(first)?, number(last)?, number(total)?);
        (start <= last && last < total).then(|| Self { start, end: last + 1, total })
    }

    /// As a `Content-Range` header.
    pub fn to_header(self) -> HeaderValue {
        let last = self.end.saturating_sub(1);
        HeaderValue::from_str(&format!("bytes {}-{last}/{}", self.start, self.total))
            .expect("digits are a header value")
    }

    /// The header of an answer with status 416.
    pub fn unsatisfied(total: u64) -> HeaderValue {
        HeaderValue::from_str(&format!("bytes */{total}")).expect("digits are a header value")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn parse(text: &'static str) -> Option<RangeSpec> {
        RangeSpec::parse(&HeaderValue::from_static(text))
    }

    #[test]
    fn what_is_read_and_what_is_ignored() {
        assert_eq!(parse("bytes=0-0"), Some(RangeSpec::FromTo(0, 0)));
        assert_eq!(parse("Bytes= 5 - 9"), Some(RangeSpec::FromTo(5, 9)));
        assert_eq!(parse("bytes=5-"), Some(RangeSpec::From(5)));
        assert_eq!(parse("bytes=-5"), Some(RangeSpec::Suffix(5)));
        assert_eq!(parse("bytes=0-99999999999999999999999"), Some(RangeSpec::FromTo(0, u64::MAX)));
        for ignored in [
            "bytes=5-2",
            "bytes=0-1,3-4",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "items=0-1",
            "bytes",
            "",
            "bytes=1",
        ] {
            assert_eq!(parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn what_is_there_of_a_range() {
        assert_eq!(RangeSpec::FromTo(2, 4).resolve(10), Some((2, 5)));
        assert_eq!(RangeSpec::FromTo(2, u64::MAX).resolve(10), Some((2, 10)));
        assert_eq!(RangeSpec::From(9).resolve(10), Some((9, 10)));
        assert_eq!(RangeSpec::From(10).resolve(10), None);
        assert_eq!(RangeSpec::Suffix(20).resolve(10), Some((0, 10)));
        assert_eq!(RangeSpec::Suffix(0).resolve(10), None);
        assert_eq!(RangeSpec::Suffix(1).resolve(0), None);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        for text in ["bytes 0-9/10", "bytes 9-9/10"] {
            assert!(ContentRange::parse(&HeaderValue::from_static(text)).is_some(), "{text}");
        }
        for text in ["bytes 0-10/10", "bytes 5-4/10", "bytes 0-9/*", "bytes */10", "0-9/10", "bytes 0-9"] {
            assert!(ContentRange::parse(&HeaderValue::from_static(text)).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_spec_survives_its_header(first in any::<u64>(), more in any::<u64>()) {
            let last = first.saturating_add(more);
            for spec in [RangeSpec::FromTo(first, last), RangeSpec::From(first), RangeSpec::Suffix(more)] {
                prop_assert_eq!(RangeSpec::parse(&spec.to_header()), Some(spec));
            }
        }

        #[test]
        fn any_text_is_read_or_ignored(text in "[ -~]{0,40}") {
            if let Some(spec) = HeaderValue::from_str(&text).ok().as_ref().and_then(RangeSpec::parse) {
                prop_assert!(spec.resolve(100).is_none_or(|(start, end)| start < end && end <= 100));
            }
        }
    }
}
