//! Every route × every form of authentication × every bad signature, through the whole proxy: each is refused, nothing
//! of it reaches the store, and the answer tells nothing. The same request signed well gets past authentication.

mod auth_support;
mod support;

use std::time::{Duration, SystemTime};

use auth_support::{Draft, sha256, signed_chunks, signed_trailer};
use http::{Request, StatusCode};
use support::client::{Reply, exchange, full};
use support::proxy::{Proxy, SEALED, start};
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
