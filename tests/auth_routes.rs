//! Every route × every form of authentication × every bad signature, through the whole proxy: each is refused, nothing
//! of it reaches the store, and the answer tells nothing. The same request signed well gets past authentication.

mod auth_support;
mod support;

use std::time::{Duration, SystemTime};

use auth_support::{Draft, sha256, signed_chunks, signed_trailer};
use http::{Request, StatusCode};
use s3veil::s3::checksum::{Algorithm, Hasher};
use support::client::{Reply, exchange, full, get, put};
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::Upload;
use time::OffsetDateTime;
use time::macros::format_description;

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"];

/// Path, and sub-resources or parameters.
const ROUTES: [(&str, &[(&str, &str)]); 24] = [
    ("/", &[]),
    ("/b", &[]),
    ("/b", &[("list-type", "2")]),
    ("/b", &[("versions", "")]),
    ("/b", &[("delete", "")]),
    ("/b", &[("uploads", "")]),
    ("/b", &[("policy", "")]),
    ("/b", &[("lifecycle", "")]),
    ("/b", &[("encryption", "")]),
    ("/b", &[("unheard-of", "")]),
    ("/b/k", &[]),
    ("/b/k", &[("versionId", "v")]),
    ("/b/k", &[("partNumber", "1")]),
    ("/b/k", &[("attributes", "")]),
    ("/b/k", &[("acl", "")]),
    ("/b/k", &[("tagging", "")]),
    ("/b/k", &[("retention", "")]),
    ("/b/k", &[("legal-hold", "")]),
    ("/b/k", &[("restore", "")]),
    ("/b/k", &[("uploads", "")]),
    ("/b/k", &[("partNumber", "1"), ("uploadId", "u")]),
    ("/b/k", &[("uploadId", "u")]),
    ("/b/k", &[("select", ""), ("select-type", "2")]),
    ("/b/.s3veil/k", &[]),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Presigned,
    UnsignedPayload,
    PayloadHash,
    SignedChunks,
    SignedChunksAndTrailer,
    UnsignedTrailer,
}

const FORMS: [Form; 6] = [
    Form::Presigned,
    Form::UnsignedPayload,
    Form::PayloadHash,
    Form::SignedChunks,
    Form::SignedChunksAndTrailer,
    Form::UnsignedTrailer,
];

/// CRC-32 of the body "x".
const TRAILER: &str = "x-amz-checksum-crc32:jNwbgw==";

impl Form {
    fn prepare(self, draft: Draft) -> Draft {
        let trailing = |draft: Draft| {
            draft.header("x-amz-decoded-content-length", "1").header("x-amz-trailer", "x-amz-checksum-crc32")
        };
        match self {
            Self::Presigned | Self::UnsignedPayload => draft,
            Self::PayloadHash => draft.content_sha256(&sha256("x")),
            Self::SignedChunks => draft
                .content_sha256("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
                .header("x-amz-decoded-content-length", "1"),
            Self::SignedChunksAndTrailer => {
                trailing(draft.content_sha256("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"))
            }
            Self::UnsignedTrailer => trailing(draft.content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")),
        }
    }

    /// Signs, and sends with a body "x" in this form.
    async fn send(self, proxy: &Proxy, draft: Draft) -> Reply {
        if self == Self::Presigned {
            return send(proxy, draft.presigned("60"), b"x".to_vec()).await;
        }
        let (parts, seed) = draft.clone().signed_with_seed();
        let body = match self {
            Self::SignedChunks => signed_chunks(&draft, &seed, &[b"x"]).0,
            Self::SignedChunksAndTrailer => {
                let (mut body, last) = signed_chunks(&draft, &seed, &[b"x"]);
                body.extend(signed_trailer(&draft, &last, TRAILER));
                body
            }
            Self::UnsignedTrailer => format!("1\r\nx\r\n0\r\n{TRAILER}\r\n\r\n").into_bytes(),
            _ => b"x".to_vec(),
        };
        send(proxy, parts, body).await
    }
}

async fn send(proxy: &Proxy, mut parts: http::request::Parts, body: Vec<u8>) -> Reply {
    parts.headers.insert("content-length", body.len().into());
    exchange(proxy.address, Request::from_parts(parts, full(body))).await.expect("an answer")
}

/// S3's time, so long ago.
fn stamp(ago: Duration) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    OffsetDateTime::from(SystemTime::now() - ago).format(format).unwrap()
}

fn at(time: String) -> impl Fn(Draft) -> Draft {
    move |draft| draft.with(|d| (d.day, d.time) = (time[..8].to_owned(), time.clone()))
}

/// What is wrong, and the codes for it: in the header, in the query.
type Bad = (&'static str, Box<dyn Fn(Draft) -> Draft>, [&'static str; 2]);

fn bads() -> Vec<Bad> {
    let differs = ["SignatureDoesNotMatch"; 2];
    vec![
        ("another secret", Box::new(|draft| draft.with(|d| d.secret.push('x'))), differs),
        (
            "a signature of another path",
            Box::new(|draft| {
                draft.with(|d| d.raw_path = Some(std::mem::replace(&mut d.path, "/other".into())))
            }),
            differs,
        ),
        (
            "a signed header that is not there",
            Box::new(|draft| draft.with(|d| d.also_signed.push("x-not-there"))),
            differs,
        ),
        (
            "an unknown access key",
            Box::new(|draft| draft.with(|d| d.access_key = "AKIAUNKNOWN".into())),
            ["InvalidAccessKeyId"; 2],
        ),
        (
            "another region",
            Box::new(|draft| draft.with(|d| d.region = "eu-west-9".into())),
            ["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"],
        ),
        (
            "another service",
            Box::new(|draft| draft.with(|d| d.service = "ec2".into())),
            ["AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"],
        ),
        (
            "an old one",
            Box::new(at(stamp(Duration::from_secs(3600)))),
            ["RequestTimeTooSkewed", "AccessDenied"],
        ),
        // In the query nothing else is signed, and SignedHeaders is empty.
        (
            "an unsigned host",
            Box::new(|draft| draft.unsigned("host")),
            ["AccessDenied", "AuthorizationQueryParametersError"],
        ),
        (
            "an unsigned x-amz header",
            Box::new(|draft| draft.header("x-amz-acl", "public-read").unsigned("x-amz-acl")),
            ["AccessDenied"; 2],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_a_bad_signature_in_any_form() {
    let (store, proxy) = start(SEALED).await;
    let bads = bads();
    for method in METHODS {
        for (path, query) in ROUTES {
            for form in FORMS {
                let draft = || {
                    let draft =
                        at(stamp(Duration::ZERO))(Draft::new(method, path).host(&proxy.address.to_string()));
                    form.prepare(query.iter().fold(draft, |draft, (name, value)| draft.query(name, value)))
                };
                for (what, spoil, codes) in &bads {
                    let case = format!("{method} {path} {query:?} {form:?}: {what}");
                    let reply = form.send(&proxy, spoil(draft())).await;
                    let text = String::from_utf8_lossy(reply.bytes());
                    assert!(!text.contains("StringToSign") && !text.contains("wJalr"), "{case}: {text}");
                    assert!(
                        matches!(reply.status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST),
                        "{case}: {text}"
                    );
                    if method != "HEAD" {
                        assert_eq!(reply.code(), codes[usize::from(form == Form::Presigned)], "{case}");
                    }
                    assert!(store.take_seen().is_empty(), "{case}: the store heard of it");
                }
                let reply = form.send(&proxy, draft()).await;
                let refused = bads.iter().flat_map(|(_, _, codes)| codes).any(|code| {
                    // The policy's refusal of the reserved prefix is AccessDenied as well.
                    *code != "AccessDenied" && method != "HEAD" && reply.body.is_ok() && reply.code() == *code
                });
                assert!(!refused, "{method} {path} {query:?} {form:?}, signed well: {reply:?}");
                store.take_seen();
            }
        }
    }
}

#[tokio::test]
async fn no_route_takes_a_request_without_a_signature() {
    let (store, proxy) = start(SEALED).await;
    for method in METHODS {
        for (path, query) in ROUTES {
            let draft = Draft::new(method, path).host(&proxy.address.to_string());
            let draft = query.iter().fold(draft, |draft, (name, value)| draft.query(name, value));
            // MethodNotAllowed where S3 has no such operation, whoever asks.
            for (authorization, statuses) in
                [(None, [403, 405]), (Some("AWS4-HMAC-SHA256 nonsense"), [400, 400])]
            {
                let mut parts = draft.clone().plain();
                if let Some(value) = authorization {
                    parts.headers.insert("authorization", value.parse().unwrap());
                }
                let reply = send(&proxy, parts, b"x".to_vec()).await;
                assert!(
                    statuses.contains(&reply.status.as_u16()),
                    "{method} {path} {query:?} {authorization:?}"
                );
            }
        }
    }
    assert!(store.take_seen().is_empty(), "nothing reached the store");
}

/// a body that was not signed as it came. Its last chunk, and its trailer, are known only at the end: nothing of it
/// is stored, and what was there stays.
#[tokio::test]
async fn a_09_a_body_that_was_not_signed_leaves_nothing() {
    const CHUNK: usize = 65_536;
    let (store, proxy) = start(SEALED).await;
    assert_eq!(put(proxy.address, "/b/k", b"old").await.status, 200);
    let upload = Upload::start(proxy.address, "/b/up", &[]).await;
    let before: Vec<_> =
        store.paths().into_iter().map(|path| (store.get(&path).unwrap().body, path)).collect();
    for len in [5, CHUNK, 3 * CHUNK + 9] {
        let plain = pattern(len);
        let chunks: Vec<&[u8]> = plain.chunks(CHUNK).collect();
        for (path, query) in
            [("/b/k", vec![]), ("/b/up", vec![("partNumber", "1"), ("uploadId", upload.id.as_str())])]
        {
            for sha in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"] {
                let trailing = sha.ends_with("-TRAILER");
                let sum = Hasher::digest(Algorithm::Crc32, &plain).to_base64();
                let trailer = format!("x-amz-checksum-crc32:{sum}");
                let draft =
                    at(stamp(Duration::ZERO))(Draft::new("PUT", path).host(&proxy.address.to_string()));
                let mut draft = query.iter().fold(draft, |draft, (name, value)| draft.query(name, value));
                draft = draft.content_sha256(sha).header("x-amz-decoded-content-length", len.to_string());
                if trailing {
                    draft = draft.header("x-amz-trailer", "x-amz-checksum-crc32");
                }
                let signed = || {
                    let (parts, seed) = draft.clone().signed_with_seed();
                    let (mut body, last) = signed_chunks(&draft, &seed, &chunks);
                    match trailing {
                        true => body.extend(signed_trailer(&draft, &last, &trailer)),
                        false => body.extend_from_slice(b"\r\n"),
                    }
                    (parts, body)
                };
                let (_, good) = signed();
                // Where the last chunk of data, and the empty one behind it, say their signatures.
                let marks: Vec<usize> = memchr::memmem::find_iter(&good, b";chunk-signature=").collect();
                let [.., data, end] = marks[..] else { panic!("two chunks at the least") };
                let mut places = vec![("the last byte", end - 4), ("the last chunk's signature", data + 20)];
                places.push(("the empty chunk's signature", end + 20));
                if trailing {
                    let mark = memchr::memmem::find(&good, b"x-amz-trailer-signature:").unwrap();
                    places.push(("the trailer's signature", mark + 30));
                }
                for (what, at) in places {
                    let (parts, mut body) = signed();
                    body[at] = if body[at] == b'0' { b'1' } else { b'0' };
                    let case = format!("{path} {sha}, {len} bytes: {what}");
                    let reply = send(&proxy, parts, body).await;
                    assert_eq!(reply.code(), "SignatureDoesNotMatch", "{case}");
                    let after = store.paths().into_iter().map(|path| (store.get(&path).unwrap().body, path));
                    assert!(after.eq(before.iter().cloned()), "{case}: something is stored");
                    assert!(store.uploads()[&upload.id].parts.is_empty(), "{case}: a part is stored");
                }
                if path == "/b/k" {
                    let (parts, body) = signed();
                    assert_eq!(
                        send(&proxy, parts, body).await.status,
                        200,
                        "{sha}, {len} bytes: signed well"
                    );
                    assert!(get(proxy.address, path).await.bytes() == plain);
                    let old = before.iter().find(|(_, path)| path == "/b/k").unwrap();
                    assert_ne!(store.get("/b/k").unwrap().body, old.0);
                    store.change("/b/k", |object| object.body = old.0.clone());
                }
            }
        }
    }
}
