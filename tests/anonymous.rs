//! Requests that nobody has signed: refused, or sent on unsigned, on every route; and before MinIO, whose own policy decides.

#[path = "support/servers.rs"]
mod servers;
mod support;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use md5::{Digest as _, Md5};
use s3veil::s3::checksum::{Algorithm, Hasher};
use support::client::{Reply, exchange, full, put, send, send_as};
use support::memory::MemoryStore;
use support::proxy::{Proxy, pattern, start};
use support::upload::{document, inner};

/// Private buckets, one that is sealed and open to all, one that is plain and open to all, one that is open in part.
const OPEN: &str = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n\
     [[policy]]\nbucket = \"pub\"\nek = \"s3veil-dev-key\"\nanonymous = \"forward\"\n\
     [[policy]]\nbucket = \"old\"\nek = \"s3veil-dev-key\"\nplaintext = \"read\"\nanonymous = \"forward\"\n\
     [[policy]]\nbucket = \"plain\"\nmode = \"passthrough\"\nanonymous = \"forward\"\n\
     [[policy]]\nbucket = \"half\"\nek = \"s3veil-dev-key\"\n\
     [[policy]]\nbucket = \"half\"\nprefix = \"pub/\"\nek = \"s3veil-dev-key\"\nanonymous = \"forward\"\n";

/// A request without any signature.
async fn bare(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("host", to.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if matches!(method, "PUT" | "POST") {
        request = request.header("content-length", body.len());
    }
    exchange(to, request.body(full(body.to_vec())).unwrap()).await.expect("an answer")
}

fn md5_of(body: &[u8]) -> String {
    STANDARD.encode(Md5::digest(body))
}

/// A body in the framing that clients use who put a checksum behind it, and its headers.
fn framed(body: &[u8]) -> (Vec<u8>, Vec<(&'static str, String)>) {
    let sum = Hasher::digest(Algorithm::Crc32, body).to_base64();
    let mut wire = format!("{:x}\r\n", body.len()).into_bytes();
    wire.extend_from_slice(body);
    wire.extend_from_slice(format!("\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n").as_bytes());
    let headers = vec![
        ("content-encoding", "aws-chunked".to_owned()),
        ("x-amz-trailer", "x-amz-checksum-crc32".to_owned()),
        ("x-amz-decoded-content-length", body.len().to_string()),
    ];
    (wire, headers)
}

async fn put_framed(to: SocketAddr, path: &str, body: &[u8], more: &[(&str, &str)]) -> Reply {
    let (wire, headers) = framed(body);
    let mut headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.extend_from_slice(more);
    bare(to, "PUT", path, &headers, &wire).await
}

/// Fails for a request that the store has seen with anything of a signature, or that it has not seen at all.
fn unsigned(store: &MemoryStore, route: &str) {
    let seen = store.take_seen();
    assert!(!seen.is_empty(), "{route}: the store has not been asked");
    for request in seen {
        for name in ["authorization", "x-amz-date", "x-amz-security-token"] {
            assert!(!request.headers.contains_key(name), "{route}: {name} in {request:?}");
        }
        assert!(!request.query.to_ascii_lowercase().contains("x-amz-"), "{route}: {request:?}");
    }
}

#[tokio::test]
async fn nothing_of_an_anonymous_request_is_signed() {
    let (store, proxy) = start(OPEN).await;
    let to = proxy.address;
    let ok = |reply: &Reply, route: &str| {
        assert!(reply.status.is_success(), "{route}: {} {}", reply.status, reply.code());
        unsigned(&store, route);
    };
    let long = pattern(300_000);

    for bucket in ["pub", "plain"] {
        let path = format!("/{bucket}/k");
        ok(&bare(to, "PUT", &path, &[], &long).await, "PUT");
        assert_eq!(store.get(&path).unwrap().body == long, bucket == "plain");
        assert_eq!(store.get(&path).unwrap().headers.contains_key("x-amz-meta-s3veil"), bucket == "pub");
        let whole = bare(to, "GET", &path, &[], b"").await;
        ok(&whole, "GET");
        assert_eq!(whole.bytes(), long);
        let range = bare(to, "GET", &path, &[("range", "bytes=70000-80000")], b"").await;
        ok(&range, "GET of a range");
        assert_eq!(range.bytes(), &long[70_000..=80_000]);
        let checked = [("x-amz-checksum-mode", "ENABLED")];
        ok(&bare(to, "GET", &path, &checked, b"").await, "GET with its checksum");
        ok(&bare(to, "HEAD", &path, &checked, b"").await, "HEAD with its checksum");
        ok(&put_framed(to, &path, b"framed", &[]).await, "PUT with a trailer");
        assert_eq!(bare(to, "GET", &path, &[], b"").await.bytes(), b"framed");
        let wrong = put_framed(to, &path, b"other", &[("content-md5", &md5_of(b"x"))]).await;
        assert_eq!(wrong.code(), "BadDigest");
        assert_eq!(bare(to, "GET", &path, &[], b"").await.bytes(), b"framed", "what fails is not stored");
        store.take_seen();
    }
    let attributes = [("x-amz-object-attributes", "ObjectSize,ETag,Checksum")];
    ok(&bare(to, "GET", "/pub/k?attributes", &attributes, b"").await, "GetObjectAttributes");

    for (from, target) in [("pub/k", "/pub/copy"), ("pub/k", "/plain/copy"), ("plain/k", "/pub/copy2")] {
        let route = format!("copy of {from} to {target}");
        ok(&bare(to, "PUT", target, &[("x-amz-copy-source", from)], b"").await, &route);
        assert_eq!(bare(to, "GET", target, &[], b"").await.bytes(), b"framed", "{route}");
        store.take_seen();
    }

    // A listing that has to look at an object, and at the manifest of one that was uploaded in parts.
    let (wire, _) = framed(b"x");
    ok(&bare(to, "PUT", "/old/k", &[], &wire).await, "PUT");
    for path in ["/pub/u", "/old/u"] {
        let created = bare(to, "POST", &format!("{path}?uploads"), &[], b"").await;
        ok(&created, "CreateMultipartUpload");
        let id = inner(&created, "UploadId");
        let first = pattern(5 << 20);
        let at = |number: u32| format!("{path}?partNumber={number}&uploadId={id}");
        let one = bare(to, "PUT", &at(1), &[], &first).await;
        ok(&one, "UploadPart");
        let source = [("x-amz-copy-source", "pub/k")];
        let copied = bare(to, "PUT", &at(2), &source, b"").await;
        ok(&copied, "UploadPartCopy");
        let two = bare(to, "PUT", &at(2), &[], b"the end").await;
        ok(&two, "UploadPart, kept aside");
        let upload = format!("{path}?uploadId={id}");
        ok(&bare(to, "GET", &upload, &[], b"").await, "ListParts");
        let list = document(&[(1, one.header("etag").to_owned()), (2, two.header("etag").to_owned())]);
        ok(&bare(to, "POST", &upload, &[], &list).await, "CompleteMultipartUpload");
        assert!(!store.paths().iter().any(|path| path.contains(".s3veil")), "{:?}", store.paths());
        let middle = bare(to, "GET", path, &[("range", "bytes=5242870-5242886")], b"").await;
        ok(&middle, "GET of a range over two parts");
        assert_eq!(middle.bytes(), [&first[5_242_870..], b"the end"].concat());
        ok(&bare(to, "HEAD", &format!("{path}?partNumber=2"), &[], b"").await, "HEAD of a part");
    }
    for (bucket, parameters) in [("pub", ""), ("pub", "?list-type=2"), ("old", ""), ("old", "?uploads")] {
        ok(&bare(to, "GET", &format!("/{bucket}{parameters}"), &[], b"").await, "a listing");
    }

    let created = bare(to, "POST", "/pub/gone?uploads", &[], b"").await;
    ok(&created, "CreateMultipartUpload");
    let id = inner(&created, "UploadId");
    ok(&bare(to, "DELETE", &format!("/pub/gone?uploadId={id}"), &[], b"").await, "AbortMultipartUpload");

    let several = b"<Delete><Object><Key>k</Key></Object></Delete>";
    ok(
        &bare(to, "POST", "/pub?delete", &[("content-md5", &md5_of(several))], several).await,
        "DeleteObjects",
    );
    ok(&bare(to, "DELETE", "/pub/copy", &[], b"").await, "DeleteObject");
    for (method, path, headers) in [
        ("PUT", "/pub/copy2?acl", &[("x-amz-acl", "private")][..]),
        ("GET", "/pub?location", &[]),
        ("PUT", "/pub", &[]),
        ("DELETE", "/pub", &[]),
    ] {
        bare(to, method, path, headers, b"").await;
        unsigned(&store, &format!("{method} {path}"));
    }
}

#[tokio::test]
async fn what_no_rule_opens_is_refused_before_the_store_hears_of_it() {
    let (store, proxy) = start(OPEN).await;
    let to = proxy.address;
    for path in ["/private/k", "/half/k", "/half/pub/k"] {
        assert_eq!(put(to, path, b"secret").await.status, 200);
    }
    store.take_seen();
    let source = |from| [("x-amz-copy-source", from)];
    for (method, path, headers) in [
        ("GET", "/", &[][..]),
        ("GET", "/private/k", &[]),
        ("HEAD", "/private/k", &[]),
        ("PUT", "/private/k", &[]),
        ("DELETE", "/private/k", &[]),
        ("GET", "/private", &[]),
        ("PUT", "/private", &[]),
        ("GET", "/half/k", &[]),
        ("GET", "/half/pub/../k", &[]),
        ("GET", "/half//k", &[]),
        ("GET", "/half?prefix=pub/", &[]),
        ("POST", "/half?delete", &[]),
        ("PUT", "/pub/k", &source("private/k")),
        ("PUT", "/pub/k", &source("half/pub/../k")),
        ("PUT", "/private/k", &source("pub/k")),
        ("PUT", "/pub/k?partNumber=1&uploadId=x", &source("private/k")),
        ("GET", "/pub/.s3veil/uploads/x/record", &[]),
    ] {
        let reply = bare(to, method, path, headers, b"").await;
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(method == "HEAD" || reply.code() == "AccessDenied", "{method} {path}: {}", reply.code());
    }
    assert!(store.take_seen().is_empty());
    assert_eq!(bare(to, "GET", "/half/pub/k", &[], b"").await.bytes(), b"secret");
}

#[tokio::test]
async fn a_signature_that_is_wrong_or_half_there_is_never_anonymous() {
    let (store, proxy) = start(OPEN).await;
    let to = proxy.address;
    assert_eq!(put(to, "/pub/k", b"for all").await.status, 200);
    assert_eq!(bare(to, "GET", "/pub/k", &[], b"").await.bytes(), b"for all");
    let bad = ("AKIAIOSFODNN7EXAMPLE", "another secret key", "us-east-1");
    let stranger = ("AKIANOBODYKNOWS", "another secret key", "us-east-1");
    store.take_seen();
    for (signer, code) in [(bad, "SignatureDoesNotMatch"), (stranger, "InvalidAccessKeyId")] {
        assert_eq!(send_as(signer, to, "GET", "/pub/k", &[], b"").await.code(), code);
    }
    let date = "X-Amz-Date=20261125T000000Z";
    for (path, headers) in [
        ("/pub/k", &[("authorization", "")][..]),
        ("/pub/k", &[("authorization", "AWS4-HMAC-SHA256 ")]),
        ("/pub/k", &[("authorization", "AWS4-HMAC-SHA256 Credential=a/20261125/us-east-1/s3/aws4_request")]),
        ("/pub/k", &[("authorization", "AWS AKIAIOSFODNN7EXAMPLE:c2lnbmF0dXJl")]),
        ("/pub/k", &[("authorization", "Bearer token")]),
        ("/pub/k", &[("x-amz-security-token", "token")]),
        ("/pub/k?X-Amz-Signature=00", &[]),
        ("/pub/k?x-amz-signature=00", &[]),
        ("/pub/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", &[]),
        ("/pub/k?X-Amz-Credential=a", &[]),
        (&format!("/pub/k?{date}"), &[]),
        ("/pub/k?AWSAccessKeyId=a&Expires=1&Signature=b", &[]),
        ("/pub/k?Signature=b", &[]),
    ] {
        let reply = bare(to, "GET", path, headers, b"").await;
        assert!(reply.status.is_client_error(), "{path} {headers:?}: {}", reply.status);
    }
    // Chunks can't be signed where the request is not.
    let signed_chunks = [
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("x-amz-decoded-content-length", "1"),
    ];
    let reply = bare(to, "PUT", "/pub/k", &signed_chunks, b"0;chunk-signature=00\r\n\r\n").await;
    assert_eq!(reply.code(), "InvalidRequest");
    assert!(store.take_seen().is_empty());
    // An identity's own requests are signed there as everywhere.
    assert_eq!(send(to, "GET", "/pub/k", &[], b"").await.bytes(), b"for all");
    assert!(store.take_seen().iter().all(|seen| seen.headers.contains_key("authorization")));
}

/// A bucket's own policy: what anyone may do.
fn public(bucket: &str, on_objects: &str, on_bucket: &str) -> String {
    let statement = |actions: &str, resource: String| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":[{actions}],"Resource":["arn:aws:s3:::{resource}"]}}"#
        )
    };
    let statements = [statement(on_objects, format!("{bucket}/*")), statement(on_bucket, bucket.to_owned())];
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

const READ: (&str, &str) = (r#""s3:GetObject""#, r#""s3:GetBucketLocation""#);
const WRITE: (&str, &str) = (
    r#""s3:GetObject","s3:PutObject","s3:DeleteObject","s3:AbortMultipartUpload","s3:ListMultipartUploadParts""#,
    r#""s3:ListBucket","s3:ListBucketMultipartUploads""#,
);

#[tokio::test]
async fn at_minio_the_bucket_policy_decides() {
    let store = match servers::minio() {
        Ok(store) => store,
        Err(why) => return servers::skip(&why),
    };
    // s3veil's own credentials are good for nothing here: whatever it signed would be refused.
    let policy = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\nanonymous = \"forward\"\n\
                  [[policy]]\nbucket = \"plain-b\"\nmode = \"passthrough\"\nanonymous = \"forward\"\n";
    let proxy = Proxy::start(&store.endpoint, policy).await;
    let own = |method: &'static str, path: String, body: String| {
        let (signer, at) = (store.signer(), store.address());
        async move { send_as(signer, at, method, &path, &[], body.as_bytes()).await }
    };
    const BUCKETS: [&str; 3] = ["direct", "plain-b", "sealed"];
    for bucket in BUCKETS {
        assert_eq!(own("PUT", format!("/{bucket}"), String::new()).await.status, 200);
    }

    let long = pattern(200_000);
    let several = b"<Delete><Object><Key>gone</Key></Object></Delete>";
    let (through, direct) = (proxy.address, store.address());
    // The same requests straight to the store say what the answers are. What is written first is there to be read.
    for (name, rights) in [("write", Some(WRITE)), ("read", Some(READ)), ("closed", None)] {
        let settle = async || {
            for bucket in BUCKETS {
                let path = format!("/{bucket}?policy");
                let set = match rights {
                    Some((objects, itself)) => own("PUT", path, public(bucket, objects, itself)).await,
                    None => own("DELETE", path, String::new()).await,
                };
                assert_eq!(set.status, 204, "{}", set.code());
            }
        };
        settle().await;
        for (method, path, headers, body) in [
            ("PUT", "/k", &[][..], &long[..]),
            ("PUT", "/other", &[("content-md5", &*md5_of(b"hello"))], b"hello"),
            ("GET", "/k", &[], b""),
            ("GET", "/k", &[("range", "bytes=100000-100009")], b""),
            ("HEAD", "/k", &[], b""),
            ("GET", "/missing", &[], b""),
            ("GET", "?list-type=2", &[], b""),
            ("GET", "?policy", &[], b""),
            ("GET", "?uploads", &[], b""),
            ("PUT", "/copy", &[("x-amz-copy-source", "BUCKET/other")], b""),
            ("GET", "/copy", &[], b""),
            ("PUT", "/gone", &[], b"x"),
            ("POST", "?delete", &[("content-md5", &*md5_of(several))], several),
            ("GET", "/gone", &[], b""),
            ("DELETE", "/copy", &[], b""),
            ("POST", "/up?uploads", &[], b""),
            ("PUT", "", &[], b""),
        ] {
            let ask = async || {
                let mut answers = Vec::new();
                for (to, bucket) in [direct, through, through].into_iter().zip(BUCKETS) {
                    let source = format!("{bucket}/other");
                    let headers: Vec<(&str, &str)> = headers
                        .iter()
                        .map(|(name, value)| {
                            (*name, if *value == "BUCKET/other" { &*source } else { *value })
                        })
                        .collect();
                    let reply = bare(to, method, &format!("/{bucket}{path}"), &headers, body).await;
                    let body = match (method, path) {
                        ("GET", "/k" | "/other" | "/copy") if reply.status.is_success() => {
                            reply.bytes().to_vec()
                        }
                        _ if reply.status.is_success() || method == "HEAD" => Vec::new(),
                        _ => reply.code().into_bytes(),
                    };
                    answers.push((reply.status, body));
                }
                answers
            };
            let mut answers = ask().await;
            // A MinIO that has just started reads what it knows of its buckets once more, and may forget a policy that was
            // set meanwhile. What differs for another reason differs still.
            if answers.iter().any(|answer| answer != &answers[0]) {
                settle().await;
                answers = ask().await;
            }
            assert!(
                answers.iter().all(|answer| answer == &answers[0]),
                "{name}: {method} {path}: {answers:?}"
            );
            // It is the policy that decides, and not one answer to all.
            let allowed = answers[0].0.is_success();
            assert!(
                path != "/k" || allowed == (name == "write" || name == "read" && method != "PUT"),
                "{name} {method}"
            );
        }
    }

    let raw = own("GET", "/sealed/k".into(), String::new()).await;
    assert_eq!(raw.bytes().len(), long.len() + 4 * 16 + 80);
    // A checksum behind the body; clients send it so without a signature, too.
    for bucket in ["sealed", "plain-b"] {
        let text = public(bucket, WRITE.0, WRITE.1);
        assert_eq!(own("PUT", format!("/{bucket}?policy"), text).await.status, 204);
        let path = format!("/{bucket}/framed");
        let reply = put_framed(through, &path, &long, &[]).await;
        assert_eq!(reply.status, 200, "{bucket}: {}", reply.code());
        let read = bare(through, "GET", &path, &[("x-amz-checksum-mode", "ENABLED")], b"").await;
        assert_eq!(read.bytes(), long, "{bucket}");
        let sum = Hasher::digest(Algorithm::Crc32, &long).to_base64();
        assert_eq!(read.header("x-amz-checksum-crc32"), sum, "{bucket}");
    }
    // In parts, for the state of an upload is written by the same leave.
    let path = "/sealed/parts";
    let created = bare(through, "POST", &format!("{path}?uploads"), &[], b"").await;
    let id = inner(&created, "UploadId");
    let mut list = Vec::new();
    for (number, part) in [(1, pattern(5 << 20)), (2, b"the end".to_vec())] {
        let at = format!("{path}?partNumber={number}&uploadId={id}");
        let reply = bare(through, "PUT", &at, &[], &part).await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        list.push((number, reply.header("etag").to_owned()));
    }
    let done = bare(through, "POST", &format!("{path}?uploadId={id}"), &[], &document(&list)).await;
    assert_eq!(done.status, 200, "{}", done.code());
    assert_eq!(
        bare(through, "GET", path, &[], b"").await.bytes(),
        [pattern(5 << 20), b"the end".to_vec()].concat()
    );
}
