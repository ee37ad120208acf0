//! Signature Version 4 in the header and the query. Input: a byte of kind, one of method, then lines: the address and
//! a header each. Kind 0 is verified as it is, kind 1 is signed in the header first, kind 2 in the query, and kind 3
//! goes to one who trusts everybody; bit 2 adds the last header after the signing; with bit 3 three bytes more come
//! before the lines, and say where what was signed is then altered.
//!
//! Holds: what is signed rightly is never a wrong signature, and is routed to where it was signed for; what was
//! altered behind its signature passes only if it means the same, and so does what is made of the requests that AWS
//! has published with theirs; a request with anything of a signature is never anonymous; what is not signed reaches
//! no other room.

use std::sync::OnceLock;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use s3veil::auth::{Authenticator, Mode, Verified, Who};
use s3veil::s3::{Code, Query};

use super::input::Input;
use super::signer::{Draft, authenticator, now, words};

struct World {
    sigv4: Authenticator,
    trusted: Authenticator,
    /// What the signatures that AWS publishes cover.
    published: Vec<String>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let sigv4 = authenticator(Mode::Sigv4);
        let published = PUBLISHED.map(|text| {
            let parts = parts(Method::GET, &lines(text.as_bytes())).expect("good");
            meaning(&sigv4.verify(parts, now()).expect("verified by its publisher"))
        });
        World { sigv4, trusted: authenticator(Mode::Trusted), published: published.to_vec() }
    })
}

/// Verifies a request.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, method) = (input.byte(), input.byte());
    let methods = [Method::GET, Method::PUT, Method::POST, Method::HEAD, Method::DELETE, Method::OPTIONS];
    let method = methods[usize::from(method) % methods.len()].clone();
    let form = kind & 3;
    let damage = (kind & 8 > 0 && matches!(form, 1 | 2)).then(|| (input.u16(), input.byte()));
    let lines = lines(input.rest());
    match form {
        0 => as_it_is(method, &lines, &world().published),
        3 => trusted(method, &lines),
        form => signed(form == 1, kind & 4 > 0, damage, method, lines),
    }
}

/// The address, and names and values of headers.
type Lines = (Vec<u8>, Vec<(HeaderName, HeaderValue)>);

fn lines(text: &[u8]) -> Lines {
    let mut lines = text.split(|byte| *byte == b'\n');
    let address = lines.next().unwrap_or_default().to_vec();
    let headers = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':')?;
        Some((HeaderName::from_bytes(&line[..at]).ok()?, HeaderValue::from_bytes(&line[at + 1..]).ok()?))
    });
    (address, headers.collect())
}

fn parts(method: Method, (address, headers): &Lines) -> Option<Parts> {
    let (mut parts, ()) = Request::builder().method(method).uri(&address[..]).body(()).ok()?.into_parts();
    for (name, value) in headers {
        parts.headers.append(name, value.clone());
    }
    Some(parts)
}

/// Nobody has signed anything but what means one of these.
fn as_it_is(method: Method, lines: &Lines, covered: &[String]) {
    let Some(parts) = parts(method.clone(), lines) else { return };
    let anything = looks_signed(&parts);
    let Ok(verified) = world().sigv4.verify(parts, now()) else { return };
    check(&verified);
    match verified.who() {
        Who::Identity(_) => {
            let meaning = meaning(&verified);
            assert!(covered.contains(&meaning), "nobody signed {meaning}");
        }
        Who::Anonymous => assert!(!anything || method == Method::OPTIONS, "something of a signature"),
        Who::Trusted => panic!("nobody is trusted"),
    }
}

/// One byte of a signed request is another one.
fn altered(parts: Parts, at: usize, change: u8) {
    let method = parts.method.clone();
    let mut text = parts.uri.to_string().into_bytes();
    for (name, value) in &parts.headers {
        text.extend([b"\n", name.as_str().as_bytes(), b":", value.as_bytes()].concat());
    }
    let Ok(verified) = world().sigv4.verify(parts, now()) else { return };
    let at = at % text.len();
    text[at] ^= change;
    as_it_is(method, &lines(&text), &[meaning(&verified)]);
}

/// Whether anything in it is of a signature.
fn looks_signed(parts: &Parts) -> bool {
    const PARAMETERS: [&str; 7] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-signature",
        "x-amz-security-token",
    ];
    let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let named = |name: &str| PARAMETERS.contains(&name.to_ascii_lowercase().as_str());
    ["authorization", "x-amz-security-token"].iter().any(|name| parts.headers.contains_key(*name))
        || query.iter().any(|(name, _)| named(name) || name == "AWSAccessKeyId" || name == "Signature")
}

fn trusted(method: Method, lines: &Lines) {
    let Some(parts) = parts(method, lines) else { return };
    if let Ok(verified) = world().trusted.verify(parts, now()) {
        check(&verified);
        assert!(matches!(verified.who(), Who::Trusted));
    }
}

fn signed(in_header: bool, add: bool, damage: Option<(u16, u8)>, method: Method, (address, headers): Lines) {
    let Ok(address) = String::from_utf8(address) else { return };
    let (path, query) = address.split_once('?').unwrap_or((&address, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query: Vec<(String, String)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    let own = ["host", "authorization", "x-amz-date", "x-amz-content-sha256"];
    let mut draft = Draft { method, path: format!("/{path}"), query, headers: Vec::new() };
    let mut headers = headers.into_iter();
    let added = if add { headers.next_back() } else { None };
    let mut hash = "UNSIGNED-PAYLOAD".to_owned();
    let host = HeaderValue::from_static("localhost:9000");
    for (name, value) in headers.chain([(http::header::HOST, host)]) {
        if name == "x-amz-content-sha256" && in_header {
            hash = value.to_str().unwrap_or_default().trim().to_owned();
        } else if !draft.headers.iter().any(|(other, _)| *other == name)
            && (name == "host" || !own.contains(&name.as_str()))
        {
            draft.headers.push((name, value));
        }
    }
    let (method, path) = (draft.method.clone(), draft.path.clone());
    let has_signature = draft.query.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-signature"));
    let parts = if in_header { draft.signed(&hash) } else { draft.presigned() };
    let Some(mut parts) = parts else { return };
    if let Some((at, change)) = damage {
        return altered(parts, usize::from(at), change);
    }
    let known = parts.headers.clone();
    if let Some((name, value)) = &added {
        parts.headers.append(name, value.clone());
    }
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let verified = match world().sigv4.verify(parts, now()) {
        Ok(verified) => verified,
        Err(error) => {
            let wrong = error.code() == Code::SignatureDoesNotMatch;
            assert!(!wrong || added.is_some() || has_signature, "signed rightly: {error:?}");
            return;
        }
    };
    check(&verified);
    if method == Method::OPTIONS {
        return;
    }
    assert!(matches!(verified.who(), Who::Identity(identity) if identity.name == "alice"));
    if !host.to_ascii_lowercase().contains("s3.amazonaws.com") {
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        assert_eq!(verified.bucket().map_or("", |bucket| bucket.as_str()), bucket);
        assert_eq!(verified.key().map_or("", |key| key.as_str()), key);
    }
    if let Some((name, _)) = added {
        assert!(!known.contains_key(&name), "another {name} beside the one that is signed");
        assert!(!name.as_str().starts_with("x-amz-") || !verified.headers().contains_key(&name));
    }
}

/// What holds of every verified request.
fn check(verified: &Verified) {
    for name in
        ["authorization", "host", "x-amz-date", "x-amz-content-sha256", "x-amz-meta-s3veil", "connection"]
    {
        assert!(!verified.headers().contains_key(name), "{name} is handed on");
    }
    let amz = |name: &str| name.to_ascii_lowercase().starts_with("x-amz-");
    assert!(!verified.query().iter().any(|(name, _)| amz(name)), "a header is left in the query");
    assert!(verified.key().is_none() || verified.bucket().is_some());
    let shown = |name: &str| name.ends_with("-customer-key");
    assert!(verified.headers().iter().all(|(name, value)| !shown(name.as_str()) || value.is_sensitive()));
}

/// What of a request a signature must have covered.
fn meaning(verified: &Verified) -> String {
    let mut headers: Vec<String> = verified
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-amz-"))
        .map(|(name, value)| format!("{name}:{}", words(value.as_bytes()).escape_ascii()))
        .collect();
    headers.sort();
    format!(
        "{} {:?} {:?} {} {headers:?} {:?}",
        verified.method(),
        verified.bucket(),
        verified.key(),
        verified.query().to_canonical(),
        verified.payload().sha256.map(hex::encode),
    )
}

/// Amazon S3 API Reference, "Signature Calculations for the Authorization Header" and "Authenticating Requests: Using Query
/// Parameters".
const PUBLISHED: [&str; 4] = [
    "/test.txt\nHost:examplebucket.s3.amazonaws.com\nRange:bytes=0-9\nx-amz-content-sha256:\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nx-amz-date:20130524T000000Z\nAuthorization:\
         AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;\
         x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    "/?lifecycle\nHost:examplebucket.s3.amazonaws.com\nx-amz-content-sha256:\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nx-amz-date:20130524T000000Z\nAuthorization:\
         AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;\
         x-amz-content-sha256;x-amz-date,Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    "/?max-keys=2&prefix=J\nHost:examplebucket.s3.amazonaws.com\nx-amz-content-sha256:\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nx-amz-date:20130524T000000Z\nAuthorization:\
         AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;\
         x-amz-content-sha256;x-amz-date,Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
         aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
         aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404\nHost:examplebucket.s3.amazonaws.com",
];

/// The published requests, and drafts of every form of a body.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = PUBLISHED.iter().map(|text| [&[0, 0], text.as_bytes()].concat()).collect();
    for draft in [
        "b/k",
        "b/a b/\u{e9}//../?list-type=2&prefix=a/ b+c&X-Amz-Acl=private&x-id=PutObject",
        "b/k\nx-amz-meta-a: one  two \nContent-Length:5\nContent-MD5:XUFAKrxLKna5cZ2REBfFkg==\nx-amz-checksum-crc32:NhCmhg==",
        "b/k\nx-amz-content-sha256:STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\nx-amz-decoded-content-length:5\n\
         x-amz-trailer:x-amz-checksum-crc32\nContent-Encoding:aws-chunked,gzip\nTransfer-Encoding:chunked",
        "b/k\nx-amz-content-sha256:STREAMING-UNSIGNED-PAYLOAD-TRAILER\nx-amz-decoded-content-length:5\nContent-Length:9\n\
         Connection:x-a, keep-alive\nx-a:b",
        "k\nHost:b.s3.amazonaws.com:443\nx-amz-security-token:t",
        "b/k?uploadId=u&partNumber=1\nx-amz-meta-s3veil:x",
        "b/k?AWSAccessKeyId=a&Signature=s",
        "b/k\nx-amz-server-side-encryption-customer-key:c2VjcmV0\nx-amz-meta-late:x",
    ] {
        for kind in [1, 2, 3, 5, 6] {
            let draft =
                if kind == 3 { format!("/{draft}\nHost:h").replace(' ', "%20") } else { draft.to_owned() };
            seeds.push([&[kind, 1], draft.as_bytes()].concat());
        }
        for kind in [9, 10] {
            seeds.push([&[kind, 1, 2, 0, 1], draft.as_bytes()].concat());
        }
    }
    seeds
}
