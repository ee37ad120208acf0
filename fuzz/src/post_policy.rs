//! The policy of a browser's form. Input: a byte of kind, then lines `name=value` of fields, an empty line, and the
//! policy: bits 0 and 1 say how it is signed (not at all, for one who trusts everybody; by version 4; by version 2),
//! bit 2 that the text is the field as it is sent and no document before base64, bit 3 that the policy is altered
//! behind its signature.
//!
//! Holds: what a policy lets in, a plain reader of it lets in too, and files of the same lengths; a policy that was
//! altered is no longer signed; what becomes a header is one of the form's fields, and none that no form may have.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use s3veil::auth::{Authenticator, Lengths, Mode, VerifiedForm, Who};
use s3veil::body::form::Fields;
use s3veil::s3::{Bucket, xml};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::input::Input;
use super::signer::{ACCESS_KEY, ALGORITHM, SCOPE, SECRET_KEY, TIME, authenticator, now, sign_text};

const BUCKET: &str = "bucket";

/// The most fields: those of the input, and those of a signature.
const MOST: usize = 24;

/// Names that fill up what the input does not use; S3 ignores them.
const FILL: [&str; MOST] = [
    "x-ignore-00",
    "x-ignore-01",
    "x-ignore-02",
    "x-ignore-03",
    "x-ignore-04",
    "x-ignore-05",
    "x-ignore-06",
    "x-ignore-07",
    "x-ignore-08",
    "x-ignore-09",
    "x-ignore-10",
    "x-ignore-11",
    "x-ignore-12",
    "x-ignore-13",
    "x-ignore-14",
    "x-ignore-15",
    "x-ignore-16",
    "x-ignore-17",
    "x-ignore-18",
    "x-ignore-19",
    "x-ignore-20",
    "x-ignore-21",
    "x-ignore-22",
    "x-ignore-23",
];

fn authenticators() -> &'static [Authenticator; 2] {
    static BOTH: OnceLock<[Authenticator; 2]> = OnceLock::new();
    BOTH.get_or_init(|| [Mode::Trusted, Mode::Sigv4].map(authenticator))
}

/// Verifies a form.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let (lines, document) = text.split_once("\n\n").unwrap_or(("key=k", text));
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in lines.lines().filter_map(|line| line.split_once('=')) {
        // A form with a field twice is refused before.
        if fields.len() < 16 && !fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    let policy = if kind & 4 > 0 { document.to_owned() } else { STANDARD.encode(document) };
    let form = kind & 3;
    if form > 0 {
        const OWN: [&str; 8] = [
            "awsaccesskeyid",
            "policy",
            "signature",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-security-token",
            "x-amz-signature",
        ];
        fields.retain(|(name, _)| !OWN.contains(&name.as_str()));
        sign(&mut fields, form, &policy);
    }
    let altered = kind & 8 > 0;
    let policy = if altered { format!("{policy} ") } else { policy };
    fields.retain(|(name, _)| name != "policy");
    fields.push(("policy".to_owned(), policy.clone()));

    let filled: [(&str, &str); MOST] = std::array::from_fn(|index| match fields.get(index) {
        Some((name, value)) => (name.as_str(), value.as_str()),
        None => (FILL[index], ""),
    });
    let authenticator = &authenticators()[usize::from(form > 0)];
    let bucket = Bucket::parse(BUCKET).expect("a good name");
    let verified =
        authenticator.verify_posted((&Who::Anonymous, false), &bucket, &Fields::from(filled), now());
    let Ok(verified) = verified else { return };
    assert!(form == 0 || !altered, "an altered policy");
    match (form, &verified.who) {
        (0, Who::Trusted) => {}
        (0, who) => panic!("trusted, and yet {}", who.name()),
        (_, Who::Identity(identity)) => assert_eq!(identity.name, "alice"),
        (_, who) => panic!("signed, and yet {}", who.name()),
    }
    check(&verified, &fields);
    lets_in(&policy, &fields, verified.lengths);
}

fn sign(fields: &mut Vec<(String, String)>, form: u8, policy: &str) {
    let own = if form == 1 {
        vec![
            ("x-amz-algorithm", ALGORITHM.to_owned()),
            ("x-amz-credential", format!("{ACCESS_KEY}/{SCOPE}")),
            ("x-amz-date", TIME.to_owned()),
            ("x-amz-signature", sign_text(policy)),
        ]
    } else {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET_KEY.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, policy.as_bytes()));
        vec![("awsaccesskeyid", ACCESS_KEY.to_owned()), ("signature", signature)]
    };
    fields.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
}

fn check(verified: &VerifiedForm, fields: &[(String, String)]) {
    let field = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    assert_eq!(Some(verified.key.as_str()), field("key"));
    for (name, value) in &verified.headers {
        let name = name.as_str();
        assert!(!name.starts_with("x-amz-copy-") && name != "x-amz-meta-s3veil" && name != "authorization");
        let coding = name == "content-encoding";
        let tags = || field("tagging").and_then(|tags| xml::tags_of_client(tags.as_bytes()).ok());
        let of_field = field(name).is_some_and(|field| coding || field.as_bytes() == value.as_bytes())
            || (name == "x-amz-acl" && field("acl").map(str::as_bytes) == Some(value.as_bytes()))
            || (name == "x-amz-tagging" && tags().is_some_and(|tags| tags.as_bytes() == value.as_bytes()));
        assert!(of_field, "{name} is no field of the form");
    }
}

/// The policy, read again.
fn lets_in(policy: &str, fields: &[(String, String)], lengths: Lengths) {
    let packed: String = policy.split_ascii_whitespace().collect();
    let text = String::from_utf8(STANDARD.decode(packed).expect("base64")).expect("UTF-8");
    if text.contains('\\') {
        // Policies may escape more than JSON can.
        return;
    }
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let expiration = document["expiration"].as_str().expect("a time");
    let expiration = OffsetDateTime::parse(expiration, &Rfc3339).expect("a time").unix_timestamp();
    let expiration = Duration::from_secs(expiration.try_into().expect("since 1970"));
    assert!(SystemTime::UNIX_EPOCH + expiration > now(), "expired");
    let (mut named, mut least, mut most) = (Vec::new(), 0, u64::MAX);
    for condition in document["conditions"].as_array().expect("a list") {
        let (starts, name, wanted) = match condition {
            Value::Object(property) => {
                let (name, value) = property.iter().next().expect("one property");
                (false, name.to_ascii_lowercase(), value.as_str().expect("a text"))
            }
            condition => {
                let operator = condition[0].as_str().expect("a text").to_ascii_lowercase();
                if operator == "content-length-range" {
                    (least, most) = (least.max(number(&condition[1])), most.min(number(&condition[2])));
                    continue;
                }
                let name = condition[1].as_str().and_then(|name| name.strip_prefix('$')).expect("a name");
                (operator == "starts-with", name.to_ascii_lowercase(), condition[2].as_str().expect("a text"))
            }
        };
        let value = match name.as_str() {
            "bucket" => BUCKET,
            name => {
                let field = fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
                match field {
                    Some(value) => value,
                    None => {
                        assert!(
                            FILL[fields.len()..].contains(&name) && wanted.is_empty(),
                            "{name} is not there"
                        );
                        continue;
                    }
                }
            }
        };
        let holds = if starts { value.starts_with(wanted) } else { value == wanted };
        assert!(holds || (starts && name == "content-type"), "{name} is {value} and not {wanted}");
        named.push(name);
    }
    let free = ["awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"];
    assert!(named.iter().any(|name| name == "bucket"), "the bucket is not named");
    for (name, _) in fields {
        let free = free.contains(&name.as_str()) || name.starts_with("x-ignore-");
        assert!(free || named.contains(name), "{name} is in no condition");
    }
    for len in [0, least.saturating_sub(1), least, most, most.saturating_add(1), u64::MAX] {
        assert_eq!(lengths.whole(len).is_ok(), (least..=most).contains(&len), "a file of {len} bytes");
    }
}

/// A number, or one in a text.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().expect("a text").parse().expect("a number"))
}

/// Policies of every form, some wrong in one way.
pub fn seeds() -> Vec<Vec<u8>> {
    let own = format!(
        "[\"starts-with\", \"$x-amz-algorithm\", \"\"], [\"starts-with\", \"$x-amz-date\", \"\"], \
         {{\"x-amz-credential\": \"{ACCESS_KEY}/{SCOPE}\"}}"
    );
    let mut seeds = Vec::new();
    for (fields, conditions) in [
        ("key=k", "{\"key\": \"k\"}"),
        (
            "key=dir/k\nContent-Type=image/png, image/gif\nacl=private\nx-amz-meta-a=\u{e9}",
            "[\"starts-with\", \"$key\", \"dir/\"], [\"starts-with\", \"$Content-Type\", \"image/\"], [\"eq\", \"$acl\", \
             \"private\"], [\"starts-with\", \"$x-amz-meta-A\", \"\"], [\"content-length-range\", 1, \"10\"]",
        ),
        ("key=$k\nx-amz-copy-source=/b/k", "{\"key\": \"\\$k\"}, {\"x-amz-copy-source\": \"/b/k\"}"),
        (
            "key=k\ntagging=<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>",
            "{\"key\": \"k\"}, [\"starts-with\", \"$tagging\", \"<Tag\"]",
        ),
        ("key=k\nextra=1", "{\"key\": \"k\"}"),
        ("key=k", "{\"key\": \"j\"}"),
    ] {
        let document = |end: &str, own: &str| {
            format!(
                "{fields}\n\n{{\"expiration\": \"{end}\", \"conditions\": [{{\"bucket\": \"{BUCKET}\"}}, {conditions}{own}]}}"
            )
        };
        let good = document("2030-01-01T00:00:00.000Z", "");
        seeds.push([&[0], good.as_bytes()].concat());
        seeds.push([&[2], good.as_bytes()].concat());
        let signed = document("2030-01-01T00:00:00.000Z", &format!(", {own}"));
        seeds.push([&[1], signed.as_bytes()].concat());
        seeds.push([&[9], signed.as_bytes()].concat());
        seeds.push([&[0], document("2000-01-01T00:00:00Z", "").as_bytes()].concat());
    }
    let text = STANDARD
        .encode("{\"expiration\": \"2030-01-01T00:00:00Z\", \"conditions\": [{\"bucket\": \"bucket\"}]}");
    seeds.push([&[4], format!("key=k\n\n{text}").as_bytes()].concat());
    seeds
}
