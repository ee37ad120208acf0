//! The way of a request: what goes to the store for it, what comes back, and what is refused on the way.
//!
//! Each test goes through the whole proxy, with a store in this process behind it.

mod support;

use http::HeaderMap;
use s3veil::aws::sign::BodyHash;
use support::client::{get, get_range, put, send, signed};
use support::memory::{Fault, Object};
use support::proxy::{Proxy, SEALED, pattern, start};

#[tokio::test]
async fn a_store_that_is_away_is_503_with_retry_after() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"x").await;
    // A read is tried once more, in case the connection was an old one; a write can't be.
    store.fail_next(Fault::Close);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"x");
    store.fail_next(Fault::Close);
    let reply = put(proxy.address, "/b/k", &pattern(100_000)).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "ServiceUnavailable"));
    assert!(!reply.header("retry-after").is_empty());
    let away = Proxy::start("http://127.0.0.1:9", SEALED).await;
    for method in ["GET", "PUT", "DELETE"] {
        let reply = send(away.address, method, "/b/k", &[], b"").await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "2"), "{method}");
    }
}

/// Clients that send all before they look for an answer must find it.
#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (store, proxy) = start(SEALED).await;
    for bad_signature in [true, false] {
        let length = (8 * 1024 * 1024).to_string();
        let head =
            signed(proxy.address, "PUT", "/b/k", &[("content-length", length.as_str())], BodyHash::Unsigned);
        let mut text = String::from("PUT /b/k HTTP/1.1\r\n");
        for (name, value) in head.headers() {
            let value = value.to_str().unwrap();
            let value = match name == "authorization" && bad_signature {
                true => {
                    format!("{}{}", &value[..value.len() - 1], if value.ends_with('0') { '1' } else { '0' })
                }
                false => value.to_owned(),
            };
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        store.fail_next(Fault::Status(409));
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        for piece in pattern(8 * 1024 * 1024).chunks(65_536) {
            stream.write_all(piece).await.expect("the client can send all of it");
        }
        let mut answer = vec![0; 12];
        stream.read_exact(&mut answer).await.expect("the answer is there");
        assert_eq!(answer, if bad_signature { b"HTTP/1.1 403" } else { b"HTTP/1.1 409" });
        if bad_signature {
            assert_eq!(get(proxy.address, "/b/k").await.status, 409, "the injected fault is still to come");
        }
    }
}

/// two ways to say where a body ends.
#[tokio::test]
async fn a_16_ambiguous_framing_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (store, proxy) = start(SEALED).await;
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "transfer-encoding:\tchunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: +5\r\n",
        " content-length: 5\r\n",
    ] {
        let head = signed(proxy.address, "PUT", "/b/k", &[], BodyHash::Unsigned);
        let mut text = String::from("PUT /b/k HTTP/1.1\r\n");
        for (name, value) in head.headers() {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        text.push_str(framing);
        text.push_str("\r\n5\r\nhello\r\n0\r\n\r\n");
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        if stream.read_exact(&mut answer).await.is_ok() {
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{framing:?}: {}", String::from_utf8_lossy(&answer));
        }
    }
    assert!(store.paths().is_empty());
}

#[tokio::test]
async fn an_empty_plain_object_has_no_range() {
    for rule in ["ek = \"s3veil-dev-key\"\nplaintext = \"read\"", "mode = \"passthrough\""] {
        let (store, proxy) = start(&format!("[[policy]]\nbucket = \"*\"\n{rule}\n")).await;
        store.put("/b/empty", Object { body: Vec::new(), headers: HeaderMap::new() });
        for range in ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=70000-"] {
            assert_eq!(
                get_range(proxy.address, "/b/empty", range).await.code(),
                "InvalidRange",
                "{rule} {range}"
            );
        }
        assert_eq!(get(proxy.address, "/b/empty").await.bytes(), b"");
    }
}

#[tokio::test]
async fn no_client_is_sent_past_s3veil() {
    let (store, proxy) = start(SEALED).await;
    assert_eq!(put(proxy.address, "/b/k", b"x").await.status, 200);
    for (status, method, path) in [
        (307, "PUT", "/b/k"),
        (301, "GET", "/b/k"),
        (302, "HEAD", "/b/k"),
        (303, "GET", "/b/k"),
        (308, "POST", "/b?delete"),
        (301, "GET", "/b"),
        (307, "PUT", "/b?tagging"),
    ] {
        store.fail_next(Fault::Redirect(status, "http://elsewhere.example/b/k"));
        let body = b"<Delete><Object><Key>k</Key></Object></Delete>";
        let reply = send(proxy.address, method, path, &[], body).await;
        assert_eq!(reply.status, 500, "{status} {method} {path}");
        assert!(!reply.headers.contains_key("location"), "{status} {method} {path}");
        assert!(!String::from_utf8_lossy(reply.bytes()).contains("elsewhere"));
    }
}

#[tokio::test]
async fn a_refused_look_is_said_in_the_stores_words() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"x").await;
    let wanted = [("x-amz-object-attributes", "ETag")];
    // The HEAD has no words: they are those of the GET that follows.
    for code in ["AccessDenied", "NoSuchBucket"] {
        store.fail_next(Fault::Status(404));
        store.fail_next(Fault::Refuse(code));
        assert_eq!(send(proxy.address, "GET", "/b/k?attributes", &wanted, &[]).await.code(), code);
    }
    store.fail_next(Fault::Status(416));
    store.fail_next(Fault::Status(403));
    store.fail_next(Fault::Refuse("AccessDenied"));
    assert_eq!(get_range(proxy.address, "/b/k", "bytes=0-0").await.code(), "AccessDenied");
}

#[tokio::test]
async fn keys_of_a_listing_are_read_as_the_store_writes_them() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/seen", b"x").await;
    let object = store.get("/b/seen").unwrap();
    store.put("/b/.s3veil%2Fstate", object.clone());
    store.put("/b/.s3veil%252Fstate", object);
    // The second is a client's: what is written for it without an encoding is what is written for the first with one.
    let (own, encoded) = ("<Key>.s3veil%2Fstate</Key>", "<Key>.s3veil%252Fstate</Key>");
    for (query, own) in [
        ("", own),
        ("?encoding-type=", own),
        ("?encoding-type=url", encoded),
        ("?encoding-type=URL", encoded),
    ] {
        let reply = get(proxy.address, &format!("/b{query}")).await;
        let listing = String::from_utf8_lossy(reply.bytes()).into_owned();
        assert!(listing.contains("<Key>seen</Key>"), "{query}: {listing}");
        assert!(listing.contains(own), "{query}: {listing}");
        assert_eq!(listing.matches(".s3veil").count(), 1, "{query}: {listing}");
    }
    for query in ["?encoding-type=other", "?encoding-type=url&encoding-type=other"] {
        assert_eq!(get(proxy.address, &format!("/b{query}")).await.code(), "InvalidArgument", "{query}");
    }
}

#[tokio::test]
async fn a_content_coding_goes_with_the_framing_and_without_it() {
    let (store, proxy) = start(SEALED).await;
    for (own, sent) in [("", ""), ("gzip", "aws-chunked,gzip")] {
        let headers: &[_] = if own.is_empty() { &[] } else { &[("content-encoding", own)] };
        assert_eq!(send(proxy.address, "PUT", "/b/k", headers, b"x").await.status, 200);
        let seen = store.take_seen().remove(0).headers;
        assert_eq!(seen.get("content-encoding").map_or("", |value| value.to_str().unwrap()), sent);
        // This store keeps the framing's name, as some do.
        for method in ["GET", "HEAD"] {
            assert_eq!(send(proxy.address, method, "/b/k", &[], &[]).await.header("content-encoding"), own);
        }
        store.take_seen();
    }
}

#[tokio::test]
async fn an_error_of_the_store_is_the_clients() {
    let (store, proxy) = start(SEALED).await;
    let reply = get(proxy.address, "/b/none").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "NoSuchKey"));
    assert_eq!(reply.header("x-amz-request-id"), "THESTORE");
    for status in [403, 409, 500, 503] {
        store.fail_next(Fault::Status(status));
        let reply = put(proxy.address, "/b/k", &pattern(100_000)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, "Injected"));
    }
}

#[tokio::test]
async fn a_put_that_is_none_is_refused() {
    let (store, proxy) = start(SEALED).await;
    for (path, header) in [
        ("/b/k", ("x-amz-write-offset-bytes", "3")),
        ("/b/k?append&position=3", ("x-amz-meta-a", "b")),
        ("/b/k", ("x-amz-meta-snowball-auto-extract", "true")),
    ] {
        let reply = send(proxy.address, "PUT", path, &[header], b"abc").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (501, "NotImplemented"),
            "{path} {header:?}"
        );
    }
    assert!(store.take_seen().is_empty());
}

#[tokio::test]
async fn one_request_to_the_store_for_one_of_the_client() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", &pattern(300_000)).await;
    get(proxy.address, "/b/k").await;
    get_range(proxy.address, "/b/k", "bytes=100000-200000").await;
    send(proxy.address, "HEAD", "/b/k", &[], &[]).await;
    get(proxy.address, "/b?list-type=2").await;
    send(proxy.address, "DELETE", "/b/k", &[], &[]).await;
    let seen: Vec<String> =
        store.take_seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    assert_eq!(seen, ["PUT /b/k", "GET /b/k", "GET /b/k", "HEAD /b/k", "GET /b", "DELETE /b/k"]);
}

#[tokio::test]
async fn metadata_passes_and_the_clients_signature_does_not() {
    let (store, proxy) = start(SEALED).await;
    let headers = [
        ("content-type", "text/x-test"),
        ("cache-control", "max-age=60"),
        ("content-disposition", "attachment; filename=\"a b\""),
        ("content-encoding", "gzip"),
        ("x-amz-meta-color", "blue  green"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-tagging", "a=b"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-minio-source-etag", "forged"),
        ("cookie", "secret"),
    ];
    assert_eq!(send(proxy.address, "PUT", "/b/k", &headers, b"x").await.status, 200);
    let sent = store.take_seen().remove(0).headers;
    for name in ["x-forwarded-for", "x-minio-source-etag", "cookie", "x-amz-server-side-encryption"] {
        assert!(!sent.contains_key(name), "{name}");
    }
    assert_eq!(sent["x-amz-tagging"], "a=b");
    assert!(sent["authorization"].to_str().unwrap().contains("Credential=store/"));
    let reply = send(proxy.address, "HEAD", "/b/k", &[], &[]).await;
    for (name, value) in &headers[..5] {
        let collapsed = value.replace("  ", " ");
        assert!(
            reply.header(name) == *value || reply.header(name) == collapsed,
            "{name}: {}",
            reply.header(name)
        );
    }
    assert_eq!(reply.header("content-length"), "1");
    assert_eq!(reply.header("x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(reply.header("x-amz-server-side-encryption-aws-kms-key-id"), "s3veil-dev-key");
}

#[tokio::test]
async fn keys_arrive_as_they_were_meant() {
    let (store, proxy) = start(SEALED).await;
    let long = format!("/b/{}", "k".repeat(1024));
    for path in [
        "/b/a//b",
        "/b/a/./b",
        "/b/a/../b",
        "/b/%20x%20",
        "/b/a%2Bb",
        "/b/a%25b",
        "/b/%C3%A9",
        "/b/e%CC%81",
        "/b/a/",
        "/b//a",
        "/b/%23%3F%26%3D",
        "/b/%E2%82%AC%F0%9F%98%80",
        "/b/..",
        "/b/.",
        &long,
    ] {
        assert_eq!(put(proxy.address, path, path.as_bytes()).await.status, 200, "{path}");
        assert_eq!(get(proxy.address, path).await.bytes(), path.as_bytes(), "{path}");
        assert!(store.get(path).is_some(), "{path} in {:?}", store.paths());
    }
    let over = format!("/b/{}", "k".repeat(1025));
    assert_eq!(put(proxy.address, &over, b"x").await.code(), "KeyTooLongError");
    assert_eq!(put(proxy.address, "/b/%FF", b"x").await.code(), "InvalidURI");
}

/// A client that waits for a sign and is refused may send its next request instead of the body: no byte of it is taken for
/// the body.
#[tokio::test]
async fn a_refusal_before_a_body_ends_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_store, proxy) = start(SEALED).await;
    let put = "PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n";
    let next = "GET /b/k HTTP/1.1\r\nhost: x\r\n\r\n";
    for sent in [put.to_owned(), format!("{put}{next}")] {
        let mut client = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        // Bytes that nobody read may end the connection with an error.
        client.read_to_end(&mut answers).await.ok();
        let text = String::from_utf8_lossy(&answers).into_owned();
        assert_eq!(text.matches("HTTP/1.1 403").count(), 1, "{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
    }
}

/// Nobody is asked for a body of no bytes, and a client that heard no sign may be confused about what follows on the same
/// connection (the AWS CLI is). It connects again instead.
#[tokio::test]
async fn an_answer_without_a_sign_ends_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (store, proxy) = start(SEALED).await;
    for (path, body) in [("/b/empty", ""), ("/b/one", "x")] {
        let length = body.len().to_string();
        let headers = [("content-length", length.as_str()), ("expect", "100-continue")];
        let request = signed(proxy.address, "PUT", path, &headers, BodyHash::Unsigned);
        let mut text = format!("PUT {path} HTTP/1.1\r\n");
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        let next = "GET /b/next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let mut client = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(format!("{text}\r\n{body}{next}").as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.ok();
        let answers = String::from_utf8_lossy(&answers);
        assert!(answers.contains("HTTP/1.1 200 OK\r\n"), "{answers}");
        assert_eq!(answers.contains("HTTP/1.1 100 Continue\r\n"), !body.is_empty(), "{answers}");
        assert_eq!(answers.contains("HTTP/1.1 403"), !body.is_empty(), "{answers}");
        assert!(store.get(path).is_some());
    }
}
