//! Ways past the rules: requests that mean one thing here and another at the store, and answers that lead elsewhere.

mod support;

use s3veil::aws::sign::BodyHash;
use s3veil::s3::checksum::{Algorithm, Hasher};
use support::client::{exchange, full, get, get_range, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, start};

#[tokio::test]
async fn a_sub_resource_goes_with_its_own_methods_only() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"x").await;
    store.take_seen();
    let form = [("content-type", "multipart/form-data; boundary=x")];
    for (method, path, headers) in [
        ("PUT", "/b/new?restore", &[][..]),
        ("GET", "/b/k?restore", &[]),
        ("HEAD", "/b/k?acl", &[]),
        ("HEAD", "/b/k?tagging", &[]),
        ("DELETE", "/b/k?acl", &[]),
        ("DELETE", "/b/k?retention", &[]),
        ("POST", "/b/k?acl", &[]),
        ("PATCH", "/b/k?tagging", &[]),
        ("POST", "/b?acl", &[]),
        ("HEAD", "/b?versioning", &[]),
        ("PATCH", "/b?tagging", &[]),
    ] {
        let reply = send(proxy.address, method, path, headers, b"plain").await;
        assert_eq!(reply.status, 405, "{method} {path}");
    }
    for path in ["/b?delete", "/b?policy"] {
        assert_eq!(
            send(proxy.address, "POST", path, &form, b"<Delete/>").await.code(),
            "InvalidRequest",
            "{path}"
        );
    }
    assert!(store.take_seen().is_empty(), "nothing reached the store");
    for (method, path) in [("PUT", "/b/k?acl"), ("GET", "/b/k?tagging"), ("POST", "/b/k?restore")] {
        send(proxy.address, method, path, &[], b"<x/>").await;
        assert_eq!(store.take_seen().len(), 1, "{method} {path}");
    }
}

#[tokio::test]
async fn a_redirect_of_the_store_goes_no_further() {
    let (store, proxy) = start(SEALED).await;
    for status in [301, 302, 303, 307, 308] {
        for (method, path) in
            [("PUT", "/b/k"), ("GET", "/b/k"), ("HEAD", "/b/k"), ("GET", "/b"), ("PUT", "/b/k?acl")]
        {
            store.fail_next(Fault::Status(status));
            let reply = send(proxy.address, method, path, &[], b"<x/>").await;
            assert!(reply.status.is_server_error(), "{method} {path} {status}: {}", reply.status);
            assert!(!reply.headers.contains_key("location"));
        }
        // A POST of which nobody sees the next page either.
        let several = b"<Delete><Object><Key>k</Key></Object></Delete>";
        let sum = Hasher::digest(Algorithm::Md5, several).to_base64();
        for (path, headers, body) in [
            ("/b/k?uploads", &[][..], &b""[..]),
            ("/b?delete", &[("content-md5", &*sum)], several),
            ("/b/k?restore", &[], b"<x/>"),
        ] {
            store.fail_next(Fault::Redirect(status, "https://elsewhere.example/b/k"));
            let reply = send(proxy.address, "POST", path, headers, body).await;
            assert_eq!(reply.code(), "InternalError", "{path} {status}");
            assert!(!reply.headers.contains_key("location"), "{path} {status}");
            assert!(store.take_fault().is_none(), "{path}: the store was asked");
        }
    }
}

#[tokio::test]
async fn a_customer_key_is_not_handed_to_the_store() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"x").await;
    store.take_seen();
    let key = [("x-amz-server-side-encryption-customer-key", "c2VjcmV0")];
    for (method, path) in [("GET", "/b/k"), ("HEAD", "/b/k"), ("GET", "/b/k?attributes"), ("PUT", "/b/k")] {
        let reply = send(proxy.address, method, path, &key, b"").await;
        assert_eq!(reply.status, 400, "{method} {path}");
    }
    assert!(store.take_seen().is_empty());
}

#[tokio::test]
async fn a_delete_document_that_can_be_read_in_two_ways_is_refused() {
    let policy = "[[policy]]\nbucket = 'b'\nek = 's3veil-dev-key'\n[[policy]]\nbucket = 'b'\nprefix = 'no/'\nmode = 'deny'\n";
    let (store, proxy) = start(policy).await;
    let one = |inner: &str| format!("<Delete><Object>{inner}</Object></Delete>");
    for document in [
        one("<Key>no/secret</Key><Key>yes</Key>"),
        one("<Key>no/<x></x>yes</Key>"),
        one("<Key>no/<x/>yes</Key>"),
        one("<Key>yes<!-- --></Key>"),
        one("<Key>yes</Key><VersionId>1</VersionId><VersionId>2</VersionId>"),
        format!("--x\r\n{}", one("<Key>yes</Key>")),
        format!("{}--x", one("<Key>yes</Key>")),
        format!("{0}{0}", one("<Key>yes</Key>")),
        format!("<?xml version='1.0' encoding='utf-7'?>{}", one("<Key>yes</Key>")),
        one(&format!("<Key>yes</Key>{}{}", "<a>".repeat(100), "</a>".repeat(100))),
    ] {
        let reply = send(proxy.address, "POST", "/b?delete", &[], document.as_bytes()).await;
        assert_eq!(reply.code(), "MalformedXML", "{document}");
    }
    assert!(store.take_seen().is_empty());
    let good = format!("<?xml version='1.0' encoding='UTF-8'?>\n{}\n", one("\n<Key>yes</Key>\n"));
    send(proxy.address, "POST", "/b?delete", &[], good.as_bytes()).await;
    assert_eq!(store.take_seen().len(), 1);
}

#[tokio::test]
async fn a_key_that_a_store_may_tidy_up_falls_under_no_weaker_rule() {
    let policy = "[[policy]]\nbucket = 'b'\nmode = 'passthrough'\n\
                  [[policy]]\nbucket = 'b'\nprefix = 'secret/'\nek = 's3veil-dev-key'\n";
    let (store, proxy) = start(policy).await;
    for key in
        ["/secret/k", "./secret/k", "a/../secret/k", "//secret/k", "secret//../secret/k", "../secret/k"]
    {
        let path = format!("/b/{key}");
        assert_eq!(put(proxy.address, &path, b"plain").await.status, 200, "{key}");
        assert!(store.get(&path).unwrap().headers.contains_key("x-amz-meta-s3veil"), "{key}");
        assert_eq!(get(proxy.address, &path).await.bytes(), b"plain", "{key}");
    }
    for key in ["a//b", "a/./b", "a/secret/k", "/a"] {
        let path = format!("/b/{key}");
        assert_eq!(put(proxy.address, &path, b"plain").await.status, 200, "{key}");
        assert_eq!(store.get(&path).unwrap().body, b"plain", "{key}");
    }
    assert_eq!(get(proxy.address, "/b//.s3veil/k").await.code(), "AccessDenied");
}

#[tokio::test]
async fn a_form_writes_nowhere_that_no_rule_names() {
    let (store, proxy) = start("[[policy]]\nbucket = 'b'\nprefix = 'open/'\nmode = 'passthrough'\n").await;
    let form = [("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(
        send(proxy.address, "POST", "/b", &form, b"--x--").await.code(),
        "IncorrectNumberOfFilesInPostRequest"
    );
    let body = |key: &str| {
        let part = |name: &str, value: &str| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        format!("{}{}--x--", part("key", key), part("file", "plain")).into_bytes()
    };
    for key in ["closed/k", "k", "open", "/open/k", "open/../k", ".s3veil/k", "open//../.s3veil/k"] {
        let reply = send(proxy.address, "POST", "/b", &form, &body(key)).await;
        assert_eq!(reply.code(), "AccessDenied", "{key}");
    }
    assert!(store.take_seen().is_empty());
    assert_eq!(send(proxy.address, "POST", "/b", &form, &body("open/k")).await.status, 204);
    assert_eq!(store.get("/b/open/k").unwrap().body, b"plain");
}

#[tokio::test]
async fn what_moves_an_object_is_judged_by_both_of_its_ends() {
    let policy = "[[policy]]\nbucket = 'b'\nmode = 'passthrough'\n[[policy]]\nbucket = 'b'\nprefix = 'no/'\nmode = 'deny'\n";
    let (store, proxy) = start(policy).await;
    let rename = [("x-amz-rename-source", "no/k")];
    assert_eq!(send(proxy.address, "PUT", "/b/k?renameObject", &rename, b"").await.code(), "NotImplemented");
    assert!(store.take_seen().is_empty());
    let (store, proxy) = start(&format!("{policy}[auth]\nmode = 'trusted'\n")).await;
    for sources in [["b/yes", "b/no/k"], ["b/no/k", "b/yes"]] {
        let mut request =
            signed(proxy.address, "PUT", "/b/k", &[("content-length", "0")], BodyHash::Unsigned);
        for source in sources {
            request.headers_mut().append("x-amz-copy-source", source.parse().unwrap());
        }
        let reply = exchange(proxy.address, request.map(|()| full(""))).await.unwrap();
        assert!(reply.status.is_client_error(), "{sources:?} {}", reply.status);
    }
    assert!(store.take_seen().is_empty());
}

#[tokio::test]
async fn no_listing_comes_as_the_answer_to_something_else() {
    let policy = format!("{SEALED}[[policy]]\nbucket = 'b'\nprefix = 'no/'\nmode = 'deny'\n");
    let (store, proxy) = start(&policy).await;
    put(proxy.address, "/b/k", b"x").await;
    let object = store.get("/b/k").unwrap();
    store.put("/b/no/hidden", object);
    store.take_seen();
    for path in ["/b?abac", "/b?usage&list-type=2&metadata=true", "/b?encryption"] {
        let reply = get(proxy.address, path).await;
        assert!(!String::from_utf8_lossy(reply.bytes()).contains("hidden"), "{path}");
        assert!(!store.take_seen()[0].query.contains("list-type"), "{path}");
    }
}

#[tokio::test]
async fn bucket_names_in_the_host_differ_by_more_than_case() {
    let store = MemoryStore::start().await;
    let policy = "[[policy]]\nbucket = '*'\nmode = 'passthrough'\n[[policy]]\nbucket = 'secret'\nek = 's3veil-dev-key'\n";
    let endpoint = store.endpoint.replace("127.0.0.1", "localhost");
    let proxy = Proxy::start_with(&endpoint, "addressing = 'virtual'", policy).await;
    assert_eq!(put(proxy.address, "/SECRET/k", b"plain").await.status, 400);
    assert!(store.take_seen().is_empty());
}

#[tokio::test]
async fn a_length_that_no_object_has_is_refused() {
    let (store, proxy) = start("[[policy]]\nbucket = '*'\nmode = 'passthrough'\n").await;
    for length in ["18446744073709551615", "18446744073709000000", "5497558138881"] {
        let headers = [
            ("x-amz-decoded-content-length", length),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
            ("content-length", "5"),
        ];
        let request = signed(proxy.address, "PUT", "/b/k", &headers, BodyHash::UnsignedTrailer);
        let reply = exchange(proxy.address, request.map(|()| full("0\r\n\r\n"))).await.expect("an answer");
        assert_eq!(reply.code(), "EntityTooLarge", "{length}");
    }
    assert!(store.take_seen().is_empty());
}

#[tokio::test]
async fn a_second_look_keeps_what_the_client_asked_of_the_head() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", &vec![7; 200_000]).await;
    let passthrough =
        Proxy::start_beside(&proxy, &store.endpoint, "[[policy]]\nbucket = '*'\nmode = 'passthrough'\n")
            .await;
    store.take_seen();
    let reply = get_range(passthrough.address, "/b/k?response-content-type=a%2Fb", "bytes=70000-70001").await;
    assert_eq!((reply.status.as_u16(), reply.bytes()), (206, &[7, 7][..]));
    assert_eq!((store.take_seen().len(), reply.header("content-type")), (2, "a%2Fb"));
}

#[tokio::test]
async fn a_304_says_nothing_of_the_stored_body() {
    let (store, proxy) = start(SEALED).await;
    let etag = put(proxy.address, "/b/k", b"x").await.header("etag").to_owned();
    store.change("/b/k", |object| {
        drop(object.headers.insert("x-amz-checksum-crc32", "AAAAAA==".parse().unwrap()))
    });
    for method in ["GET", "HEAD"] {
        let reply = send(proxy.address, method, "/b/k", &[("if-none-match", &etag)], b"").await;
        assert_eq!((reply.status.as_u16(), reply.header("etag")), (304, etag.as_str()));
        for name in ["content-length", "x-amz-checksum-crc32", "x-amz-meta-s3veil"] {
            assert!(!reply.headers.contains_key(name), "{method} {name}");
        }
    }
}

#[tokio::test]
async fn a_stripped_envelope_is_seen_without_a_length_too() {
    let (store, proxy) = start(&format!("{SEALED}plaintext = 'read'\n")).await;
    put(proxy.address, "/b/k", b"x").await;
    store.change("/b/k", |object| drop(object.headers.remove("x-amz-meta-s3veil")));
    store.fail_next(Fault::NoLength);
    let reply = get(proxy.address, "/b/k").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "InternalError"));
}

#[tokio::test]
async fn a_preflight_is_never_signed_for_the_store() {
    let (store, proxy) = start(SEALED).await;
    send(proxy.address, "OPTIONS", "/b/k", &[("origin", "http://o")], b"").await;
    let seen = store.take_seen();
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("authorization")), "{seen:?}");
}

/// F-13: one envelope, or none that counts.
#[tokio::test]
async fn two_envelopes_are_none() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"x").await;
    let envelope = store.get("/b/k").unwrap().headers["x-amz-meta-s3veil"].clone();
    for second in [envelope, "other".parse().unwrap()] {
        store.change("/b/k", |object| assert!(object.headers.append("x-amz-meta-s3veil", second)));
        for method in ["GET", "HEAD", "GET"] {
            assert_eq!(send(proxy.address, method, "/b/k", &[], b"").await.status, 500);
        }
    }
}

/// F-11: what a store says of lengths and places is believed only as far as the envelope agrees.
#[tokio::test]
async fn a_store_that_lies_about_what_it_sends() {
    let (store, proxy) = start(SEALED).await;
    let plain: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    put(proxy.address, "/b/k", &plain).await;
    for lie in [
        "bytes 0-0/1",
        "bytes 0-96/97",
        "bytes 65568-131119/200144",
        "bytes 0-200143/200144",
        "bytes 16-200143/200144",
        "bytes 0-18446744073709551614/18446744073709551615",
        "bytes */200144",
        "nonsense",
    ] {
        store.change("/b/k", |object| drop(object.headers.insert("content-range", lie.parse().unwrap())));
        let whole = get(proxy.address, "/b/k").await;
        let right = whole.status == 200 && whole.body.as_deref() == Ok(&plain[..]);
        assert!(right || whole.status.is_server_error() || whole.body.is_err(), "{lie}: {}", whole.status);
        let head = send(proxy.address, "HEAD", "/b/k", &[], b"").await;
        assert!(head.status == 500 || head.header("content-length") == "200000", "{lie}: {:?}", head.headers);
    }
}

/// over HTTP/2 too, a body is as long as its Content-Length says, or nothing is stored.
#[tokio::test]
async fn a_16_http2_lengths() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (store, proxy) = start(SEALED).await;
    for (length, body, stored) in
        [("5", "hello", true), ("4", "hello", false), ("6", "hello", false), ("0", "hello", false)]
    {
        let path = format!("/b/{length}");
        let (mut parts, ()) =
            signed(proxy.address, "PUT", &path, &[("content-length", length)], BodyHash::Unsigned)
                .into_parts();
        parts.uri = format!("http://{}{path}", proxy.address).parse().unwrap();
        parts.headers.remove("host");
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let reply = sender.send_request(http::Request::from_parts(parts, full(body))).await;
        assert_eq!(reply.is_ok_and(|reply| reply.status() == 200), stored, "{length}");
        assert_eq!(store.get(&path).is_some(), stored, "{length}");
    }
}

/// a presigned URL with another signature opens no route.
#[tokio::test]
async fn a_07_every_route_refuses_a_bad_presigned_signature() {
    let (store, proxy) = start(SEALED).await;
    let now = time::OffsetDateTime::now_utc();
    let day = format!("{}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
    let signature = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F{day}%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date={day}T{:02}{:02}{:02}Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        now.hour(),
        now.minute(),
        now.second(),
        "0".repeat(64)
    );
    for method in ["GET", "PUT", "POST", "DELETE", "HEAD"] {
        for path in [
            "/",
            "/b",
            "/b/k",
            "/b?delete",
            "/b?versions",
            "/b/k?acl",
            "/b/k?uploads",
            "/b/k?partNumber=1&uploadId=u",
            "/b?policy",
        ] {
            let mark = if path.contains('?') { '&' } else { '?' };
            for sha256 in ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
                let request = http::Request::builder().method(method).uri(format!("{path}{mark}{signature}"));
                let request =
                    request.header("host", proxy.address.to_string()).header("x-amz-content-sha256", sha256);
                let reply = exchange(proxy.address, request.body(full("x")).unwrap()).await.unwrap();
                assert_eq!(reply.status, 403, "{method} {path}");
                assert!(method == "HEAD" || reply.code() == "SignatureDoesNotMatch", "{}", reply.code());
            }
        }
    }
    assert!(store.take_seen().is_empty());
}
