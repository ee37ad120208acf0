//! The time of a request: `20130524T000000Z`, or the Date header where there is no x-amz-date.
//!
//! Source: AWS Signature Version 4 for S3, "String to Sign"; RFC 9110, section 5.6.7 (HTTP dates).

use std::time::{Duration, SystemTime};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const BASIC: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// A second in UTC, with the text that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timestamp {
    text: String,
    time: SystemTime,
}

impl Timestamp {
    /// From ISO 8601's basic form, and no other.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The parser would take a year with a sign.
        let digits = text.len() == 16 && text.bytes().filter(u8::is_ascii_digit).count() == 14;
        let time = PrimitiveDateTime::parse(text, BASIC).ok().filter(|_| digits)?.assume_utc();
        Some(Self { text: text.to_owned(), time: time.into() })
    }

    /// From a Date header.
    pub(super) fn parse_http(text: &str) -> Option<Self> {
        Some(Self::new(httpdate::parse_http_date(text).ok()?))
    }

    /// This second.
    pub(super) fn new(time: SystemTime) -> Self {
        let text = OffsetDateTime::from(time).format(BASIC).expect("every field of the form is known");
        Self { text, time }
    }

    /// The text as it is signed.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The day, `20130524`.
    pub(super) fn day(&self) -> &str {
        &self.text[..8]
    }

    /// The time.
    pub(super) fn time(&self) -> SystemTime {
        self.time
    }

    /// Distance to another time, whichever comes first.
    pub(super) fn distance(&self, other: SystemTime) -> Duration {
        self.time.duration_since(other).unwrap_or_else(|earlier| earlier.duration())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_second() {
        let basic = Timestamp::parse("20130524T000000Z").unwrap();
        assert_eq!(Timestamp::parse_http("Fri, 24 May 2013 00:00:00 GMT"), Some(basic.clone()));
        assert_eq!(basic.day(), "20130524");
        assert_eq!(basic.distance(SystemTime::UNIX_EPOCH).as_secs(), 1_369_353_600);
    }

    #[test]
    fn nothing_else_is_a_timestamp() {
        for text in [
            "",
            "20130524",
            "2013-05-24T00:00:00Z",
            "20130532T000000Z",
            "+0130524T000000Z",
            "20130524T000000z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
