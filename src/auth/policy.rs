//! The policy of a browser's form: until when it is good, and what its fields and its file may be.
//!
//! ```text
//! { "expiration": "2015-12-30T12:00:00.000Z",
//!   "conditions": [ {"bucket": "b"}, ["eq", "$acl", "private"], ["starts-with", "$key", "user/"],
//!                   ["content-length-range", 1, 1048576] ] }
//! ```
//!
//! Source: Amazon S3 API Reference, "POST Policy".

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::body::form::{Fields, is_ignored};
use crate::s3::{Bucket, Code, Error, Result};

/// Fields that no condition need name: what proves the policy can't stand in it.
const UNCONDITIONAL: [&str; 5] = ["awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"];

/// Fields whose values are secrets, which no message may show.
const SECRET: [&str; 2] = ["x-amz-security-token", "x-amz-server-side-encryption-customer-key"];

/// A policy, read but not yet held against anything.
pub(super) struct Policy {
    expiration: SystemTime,
    conditions: Vec<Condition>,
    lengths: Lengths,
}

/// What a field must be. Names in lower case.
enum Condition {
    Equals { name: String, value: String },
    StartsWith { name: String, prefix: String },
}

/// How long a form's file may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    least: u64,
    most: u64,
}

impl Lengths {
    /// Any length.
    pub const ANY: Self = Self { least: 0, most: u64::MAX };

    /// At most so much.
    pub fn at_most(self, most: u64) -> Self {
        Self { most: self.most.min(most), ..self }
    }

    /// Judges a file of which so many bytes have come.
    ///
    /// Errors: EntityTooLarge.
    pub fn so_far(self, len: u64) -> Result<()> {
        if len <= self.most {
            return Ok(());
        }
        Err(Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size.")
            .detail("ProposedSize", len.to_string())
            .detail("MaxSizeAllowed", self.most.to_string()))
    }

    /// Judges a file that has come whole.
    ///
    /// Errors: EntityTooLarge, EntityTooSmall.
    pub fn whole(self, len: u64) -> Result<()> {
        if len < self.least {
            return Err(Error::new(
                Code::EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size.",
            )
            .detail("ProposedSize", len.to_string())
            .detail("MinSizeAllowed", self.least.to_string()));
        }
        self.so_far(len)
    }
}

impl Policy {
    /// Reads a policy as a form has it, in base64.
    ///
    /// Errors: InvalidPolicyDocument.
    pub(super) fn parse(base64: &str) -> Result<Self> {
        let packed: String = base64.split_ascii_whitespace().collect();
        let text = STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| invalid("it is not the base64 of a text in UTF-8"))?;
        let Ok(Value::Object(mut document)) = serde_json::from_str(&plain_json(&text)) else {
            return Err(invalid("it is not a JSON object"));
        };
        let expiration = document.remove("expiration").ok_or_else(|| invalid("it has no 'expiration'"))?;
        let conditions = document.remove("conditions").ok_or_else(|| invalid("it has no 'conditions'"))?;
        if let Some((name, _)) = document.iter().next() {
            return Err(invalid(&format!("'{name}' is unexpected: there are 'expiration' and 'conditions'")));
        }
        let Value::Array(conditions) = conditions else {
            return Err(invalid("'conditions' is not a list"));
        };
        let expiration = time(&expiration)?;
        let mut policy = Self { expiration, conditions: Vec::new(), lengths: Lengths::ANY };
        conditions.into_iter().try_for_each(|condition| policy.add(condition))?;
        Ok(policy)
    }

    fn add(&mut self, condition: Value) -> Result<()> {
        match condition {
            Value::Object(properties) => {
                let mut properties = properties.into_iter();
                let (Some((name, value)), None) = (properties.next(), properties.next()) else {
                    return Err(invalid(
                        "a condition of the form {\"name\": \"value\"} has exactly one property",
                    ));
                };
                let Value::String(value) = value else {
                    return Err(invalid(
                        "the value of a condition of the form {\"name\": \"value\"} is a string",
                    ));
                };
                self.conditions.push(Condition::Equals { name: name.to_ascii_lowercase(), value });
            }
            Value::Array(items) => {
                let [Value::String(operator), first, second] = &items[..] else {
                    return Err(invalid("a condition of the form [...] has an operator and two arguments"));
                };
                match operator.to_ascii_lowercase().as_str() {
                    "eq" => {
                        let (name, value) = field(first, second)?;
                        self.conditions.push(Condition::Equals { name, value });
                    }
                    "starts-with" => {
                        let (name, prefix) = field(first, second)?;
                        self.conditions.push(Condition::StartsWith { name, prefix });
                    }
                    "content-length-range" => {
                        let (least, most) = (bytes(first)?, bytes(second)?);
                        self.lengths = Lengths {
                            least: least.max(self.lengths.least),
                            most: most.min(self.lengths.most),
                        };
                    }
                    _ => {
                        return Err(invalid(&format!(
                            "'{operator}' is no operator: there are eq, starts-with and content-length-range"
                        )));
                    }
                }
            }
            _ => return Err(invalid("a condition is a list or an object")),
        }
        Ok(())
    }

    /// Holds the form for this bucket against the policy, and gives what its file may be.
    ///
    /// Errors: AccessDenied, with what does not hold.
    pub(super) fn check(&self, bucket: &Bucket, fields: &Fields, now: SystemTime) -> Result<Lengths> {
        if self.expiration <= now {
            return Err(against("Policy expired."));
        }
        // The bucket is that of the request, whatever a field says.
        let value = |name: &str| if name == "bucket" { Some(bucket.as_str()) } else { fields.get(name) };
        if let Some(failed) =
            self.conditions.iter().find(|condition| !condition.holds(value(condition.name())))
        {
            return Err(against(&format!("Policy Condition failed: {}", failed.shown())));
        }
        let named = |name: &str| self.conditions.iter().any(|condition| condition.name() == name);
        let names = ["bucket"].into_iter().chain(fields.iter().map(|(name, _)| name));
        let free = |name: &str| UNCONDITIONAL.contains(&name) || is_ignored(name);
        match names.filter(|name| !free(name)).find(|name| !named(name)) {
            Some(extra) => Err(against(&format!("Extra input fields: {extra}"))),
            None => Ok(self.lengths),
        }
    }
}

impl Condition {
    fn name(&self) -> &str {
        match self {
            Self::Equals { name, .. } | Self::StartsWith { name, .. } => name,
        }
    }

    /// A field that is not there fulfils nothing, as at S3: not even that it may begin with anything.
    fn holds(&self, field: Option<&str>) -> bool {
        match (self, field) {
            (_, None) => false,
            (Self::Equals { value, .. }, Some(field)) => field == value,
            // The only field that is a list, each of which must fit.
            (Self::StartsWith { name, prefix }, Some(field)) if name == "content-type" => {
                field.split(',').all(|kind| kind.trim_start().starts_with(prefix.as_str()))
            }
            (Self::StartsWith { prefix, .. }, Some(field)) => field.starts_with(prefix.as_str()),
        }
    }

    /// As S3 shows it.
    fn shown(&self) -> String {
        let (operator, name, value) = match self {
            Self::Equals { name, value } => ("eq", name, value.as_str()),
            Self::StartsWith { name, prefix } => ("starts-with", name, prefix.as_str()),
        };
        let value = if SECRET.contains(&name.as_str()) { "***" } else { value };
        format!("[\"{operator}\", \"${name}\", {}]", Value::from(value))
    }
}

/// A policy may escape more than JSON does: `\$` and `\v`.
fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('$') => plain.push('$'),
            Some('v') => plain.push_str("\\u000b"),
            Some(other) => plain.extend([character, other]),
            None => plain.push(character),
        }
    }
    plain
}

/// The time of an expiration: ISO 8601 in UTC, and no other.
fn time(value: &Value) -> Result<SystemTime> {
    let wrong = || invalid("'expiration' is not a time like 2030-12-30T12:00:00.000Z");
    let text = value.as_str().filter(|text| text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'));
    let time = text.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()).ok_or_else(wrong)?;
    // A time that the clock can't show would be a panic.
    SystemTime::UNIX_EPOCH
        .checked_add(std::time::Duration::from_secs(
            u64::try_from(time.unix_timestamp()).map_err(|_| wrong())?,
        ))
        .ok_or_else(wrong)
}

/// The name and the value of a condition on a field.
fn field(name: &Value, value: &Value) -> Result<(String, String)> {
    let name = name.as_str().and_then(|name| name.strip_prefix('$'));
    match (name, value.as_str()) {
        (Some(name), Some(value)) => Ok((name.to_ascii_lowercase(), value.to_owned())),
        _ => Err(invalid("eq and starts-with take the name of a field, which begins with '$', and a string")),
    }
}

/// A number of bytes, which some write as a string.
fn bytes(value: &Value) -> Result<u64> {
    let text = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let number = value.as_u64().or_else(|| value.as_str().and_then(text));
    number.ok_or_else(|| invalid("content-length-range takes two whole numbers of bytes"))
}

fn invalid(what: &str) -> Error {
    Error::new(Code::InvalidPolicyDocument, format!("Invalid Policy: {what}."))
}

fn against(what: &str) -> Error {
    Error::new(Code::AccessDenied, format!("Invalid according to Policy: {what}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(json: &str) -> Result<Policy> {
        Policy::parse(&STANDARD.encode(json))
    }

    fn of(conditions: &str) -> Result<Policy> {
        policy(&format!(
            "{{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": [{{\"bucket\": \"b\"}}, {conditions}]}}"
        ))
    }

    fn check<const N: usize>(conditions: &str, fields: [(&str, &str); N]) -> Result<Lengths> {
        of(conditions).unwrap().check(
            &Bucket::parse("b").unwrap(),
            &Fields::from(fields),
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn conditions_that_hold() {
        let ignored = [("key", "a"), ("x-ignore-1", "x"), ("x-ignore-2", "y")];
        check("{\"key\": \"a\"}, [\"starts-with\", \"$x-ignore-1\", \"\"]", ignored).unwrap();
        check("{\"KEY\": \"a\"}", [("kEy", "a")]).unwrap();
        check("[\"EQ\", \"$Key\", \"a\"]", [("key", "a")]).unwrap();
        check("[\"Starts-With\", \"$key\", \"a/\"]", [("key", "a/b")]).unwrap();
        check("[\"starts-with\", \"$key\", \"\"]", [("key", "")]).unwrap();
        check("[\"starts-with\", \"$Content-Type\", \"image/\"]", [("content-type", "image/png, image/gif")])
            .unwrap();
        // Twice named, both must hold; what proves the policy, nobody need name.
        let fields = [
            ("key", "a"),
            ("policy", "p"),
            ("signature", "s"),
            ("AWSAccessKeyId", "k"),
            ("x-amz-signature", "s"),
        ];
        check("[\"starts-with\", \"$key\", \"\"], {\"key\": \"a\"}", fields).unwrap();
        assert_eq!(
            check(
                "{\"key\": \"a\"}, [\"content-length-range\", 1, \"10\"], [\"content-length-range\", 0, 5]",
                [("key", "a")]
            )
            .unwrap(),
            Lengths { least: 1, most: 5 }
        );
        check("{\"key\": \"\\$a\\\\$\\\"\"}", [("key", "$a\\$\"")]).unwrap();
    }

    #[test]
    fn what_does_not_hold_is_said() {
        for (conditions, fields, message) in [
            (
                "{\"key\": \"a\"}",
                [("key", "A"), ("acl", "x")],
                "Policy Condition failed: [\"eq\", \"$key\", \"a\"]",
            ),
            (
                "[\"starts-with\", \"$key\", \"b\\\"\"]",
                [("key", "a"), ("acl", "x")],
                "Policy Condition failed: [\"starts-with\", \"$key\", \"b\\\"\"]",
            ),
            ("[\"starts-with\", \"$key\", \"\"]", [("key", "a"), ("acl", "x")], "Extra input fields: acl"),
            (
                "[\"starts-with\", \"$key\", \"\"], [\"starts-with\", \"$acl\", \"\"], [\"starts-with\", \"$tagging\", \"\"]",
                [("key", "a"), ("acl", "x")],
                "Policy Condition failed: [\"starts-with\", \"$tagging\", \"\"]",
            ),
            (
                "[\"starts-with\", \"$content-type\", \"image/\"]",
                [("key", "a"), ("content-type", "image/png,text/html")],
                "Policy Condition failed: [\"starts-with\", \"$content-type\", \"image/\"]",
            ),
            (
                "{\"x-amz-security-token\": \"hidden\"}",
                [("key", "a"), ("x-amz-security-token", "other")],
                "Policy Condition failed: [\"eq\", \"$x-amz-security-token\", \"***\"]",
            ),
            // The bucket is the request's.
            (
                "{\"bucket\": \"other\"}",
                [("key", "a"), ("bucket", "other")],
                "Policy Condition failed: [\"eq\", \"$bucket\", \"other\"]",
            ),
        ] {
            let error = check(conditions, fields).unwrap_err();
            assert_eq!(error.code(), Code::AccessDenied);
            assert_eq!(error.message(), format!("Invalid according to Policy: {message}"));
        }
        let policy =
            policy("{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": [{\"key\": \"a\"}]}").unwrap();
        let bucket = Bucket::parse("b").unwrap();
        let fields = Fields::from([("key", "a")]);
        let error = policy.check(&bucket, &fields, SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.message(), "Invalid according to Policy: Extra input fields: bucket");
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let error = policy.check(&bucket, &fields, late).unwrap_err();
        assert_eq!(error.message(), "Invalid according to Policy: Policy expired.");
    }

    #[test]
    fn what_is_no_policy() {
        let no_base64 = Policy::parse("{}").err().unwrap();
        assert_eq!(no_base64.code(), Code::InvalidPolicyDocument);
        let good = "\"expiration\": \"2030-01-01T00:00:00Z\"";
        for json in [
            "",
            "[]",
            "{}",
            &format!("{{{good}}}"),
            &format!("{{{good}, \"CONDITIONS\": []}}"),
            &format!("{{{good}, \"conditions\": {{}}}}"),
            &format!("{{{good}, \"conditions\": [], \"more\": 1}}"),
            "{\"conditions\": []}",
            "{\"EXPIRATION\": \"2030-01-01T00:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2030-01-01 00:00:00Z\", \"conditions\": []}",
            "{\"expiration\": \"2030-01-01T00:00:00+00:00\", \"conditions\": []}",
            "{\"expiration\": \"0000-01-01T00:00:00Z\", \"conditions\": []}",
            "{\"expiration\": 1893456000, \"conditions\": []}",
        ] {
            assert_eq!(policy(json).err().map(|e| e.code()), Some(Code::InvalidPolicyDocument), "{json}");
        }
        for condition in [
            "{}",
            "{\"a\": \"b\", \"c\": \"d\"}",
            "{\"a\": 1}",
            "[]",
            "1",
            "[\"eq\", \"$a\"]",
            "[\"eq\", \"a\", \"b\"]",
            "[\"eq\", \"$a\", 1]",
            "[\"ends-with\", \"$a\", \"b\"]",
            "[\"content-length-range\", 0]",
            "[\"content-length-range\", -1, 0]",
            "[\"content-length-range\", 0, \"x\"]",
            "[\"content-length-range\", 0, 1.5]",
        ] {
            assert_eq!(
                of(condition).err().map(|e| e.code()),
                Some(Code::InvalidPolicyDocument),
                "{condition}"
            );
        }
    }
}
