//! The query of a request, decoded; and S3's percent-encoding.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)", `UriEncode()`; RFC 3986,
//! section 2.3 (unreserved characters).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::code::Code;
use super::error::{Error, Result};

/// Everything but the unreserved characters of RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same, but slashes stay.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// Encodes a path: all but unreserved characters and slashes, as S3 signs it.
pub fn encode_path(path: &str) -> PercentEncode<'_> {
    utf8_percent_encode(path, PATH)
}

/// Encodes a name or value of a query: all but unreserved characters.
pub fn encode_component(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, COMPONENT)
}

/// Decodes `%XX` once, strictly: a stray `%` or bytes that are not UTF-8 are `InvalidURI`.
pub fn decode(raw: &str) -> Result<String> {
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            decoded.push(byte);
            at += 1;
            continue;
        }
        let digit = |offset: usize| bytes.get(at + offset).and_then(|&b| (b as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(1), digit(2)) else { return Err(unreadable()) };
        decoded.push((high * 16 + low) as u8);
        at += 3;
    }
    String::from_utf8(decoded).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    Error::new(Code::InvalidURI, "Couldn't parse the specified URI: percent-encode it as UTF-8.")
}

/// The parameters of a query in their order, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a raw query. `+` is a space here, as at S3, so that what `URLSearchParams`, Go's `url.Values` and old
    /// clients write verifies; a plus sign itself is always `%2B` in a signed query.
    pub fn parse(raw: &str) -> Result<Self> {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?, decode_form(value)?))
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    /// True if there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True if the parameter is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// The first value of a parameter; empty if it was given without one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The only value of a parameter. Two of them are an error: another reader could take the other one.
    pub fn only(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.iter().filter(|(n, _)| *n == name).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("The query parameter {name} is given more than once. Give it once."),
            ));
        }
        Ok(first)
    }

    /// A query of these parameters.
    pub fn from_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Only the parameters of these names, each once: what one reader takes the first of, another takes the last.
    pub fn pick(&self, names: &[&str]) -> Self {
        let first = |name: &&str| self.get(name).map(|value| ((*name).to_owned(), value.to_owned()));
        Self(names.iter().filter_map(first).collect())
    }

    /// Adds a parameter at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Takes out the parameters whose name fits, in their order.
    pub fn extract(&mut self, mut fits: impl FnMut(&str) -> bool) -> Vec<(String, String)> {
        self.0.extract_if(.., |(name, _)| fits(name)).collect()
    }

    /// The query as S3 signs it: encoded, sorted by name and value, always with `=`.
    pub fn to_canonical(&self) -> String {
        self.canonical_without(|_| false)
    }

    /// The same without the parameters whose name fits.
    pub fn canonical_without(&self, mut fits: impl FnMut(&str) -> bool) -> String {
        let encode = |text| Cow::<str>::from(encode_component(text));
        let mut pairs: Vec<_> =
            self.iter().filter(|(name, _)| !fits(name)).map(|(n, v)| (encode(n), encode(v))).collect();
        pairs.sort();
        let mut canonical = String::new();
        for (name, value) in &pairs {
            let separator = if canonical.is_empty() { "" } else { "&" };
            canonical.extend([separator, name, "=", value]);
        }
        canonical
    }
}

/// Decodes one component in which `+` is a space.
pub(super) fn decode_form(raw: &str) -> Result<String> {
    if raw.contains('+') { decode(&raw.replace('+', " ")) } else { decode(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_in_its_order() {
        let query = Query::parse("b=1&a&b=%202+%2B&&%C3%A9=%3D=").unwrap();
        let pairs: Vec<_> = query.iter().collect();
        assert_eq!(pairs, [("b", "1"), ("a", ""), ("b", " 2 +"), ("é", "==")]);
        assert!(query.has("a") && !query.has("A"));
        assert_eq!((query.get("b"), query.get("a"), query.get("c")), (Some("1"), Some(""), None));
        assert_eq!(query.only("é").unwrap(), Some("=="));
        assert_eq!(query.only("b").unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn the_canonical_form_is_sorted_by_encoded_bytes() {
        let query = Query::parse("b=2&b=10&a-b=~&a=%2f&A&%C3%A9=x+y").unwrap();
        assert_eq!(query.to_canonical(), "%C3%A9=x%20y&A=&a=%2F&a-b=~&b=10&b=2");
    }

    #[test]
    fn a_parameter_can_be_taken_out() {
        let mut query = Query::parse("x=1&y=2&x=3").unwrap();
        assert_eq!(query.extract(|name| name == "x").len(), 2);
        assert_eq!(query.to_canonical(), "y=2");
    }

    #[test]
    fn what_is_not_percent_encoded_utf8_is_an_error() {
        for raw in ["%", "%4", "%zz", "%+1", "a=%FF", "%c3%28=1"] {
            assert_eq!(Query::parse(raw).unwrap_err().code(), Code::InvalidURI, "{raw}");
        }
    }

    #[test]
    fn encoding_keeps_only_the_unreserved() {
        assert_eq!(encode_path("/a b/é+~*'(%2F)").to_string(), "/a%20b/%C3%A9%2B~%2A%27%28%252F%29");
        assert_eq!(encode_component("a/b").to_string(), "a%2Fb");
    }
}
