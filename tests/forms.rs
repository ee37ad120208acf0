//! PostObject: browser forms, from every field and condition to what becomes of the file. The store is in this process.

mod support;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use serde_json::{Value, json};
use support::client::{exchange, full, get, send, signed};
use support::form::{BOUNDARY, Form, content_type, post};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::inner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ENVELOPE: &str = "x-amz-meta-s3veil";
const CHUNK: usize = 65_536;
const PART: usize = 8 * 1024 * 1024;

/// What stands at the store: nothing, in the bucket or under way.
fn assert_nothing(store: &MemoryStore, what: &str) {
    assert!(store.paths().is_empty(), "{what}: {:?}", store.paths());
    assert!(store.uploads().is_empty(), "{what}: an upload is left");
}

#[tokio::test]
async fn a_file_is_sealed_and_read_back() {
    let (store, proxy) = start(SEALED).await;
    for len in [0, 5, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_003, PART] {
        let plain = pattern(len);
        let form = Form::new("dir/${filename}").signed(&[]).file("é.bin", &plain).behind("submit", "Upload");
        // The condition names the variable; what is compared is the key.
        assert_eq!(form.post(proxy.address).await.code(), "AccessDenied", "{len}");
        let form = Form::default()
            .field("Content-Type", "image/png")
            .field("x-amz-meta-Who", "a browser")
            .signed(&[json!(["starts-with", "$key", "dir/"])])
            .field("key", "dir/${filename}")
            .file("C:\\pictures\\a b.bin", &plain)
            .behind("submit", "Upload");
        let reply = form.post(proxy.address).await;
        assert_eq!((reply.status.as_u16(), reply.bytes()), (204, &b""[..]), "{len}");
        assert_eq!(reply.header("location"), "/b/dir/a%20b.bin");
        assert_eq!(reply.header("x-amz-server-side-encryption"), "aws:kms");

        let path = "/b/dir/a%20b.bin";
        let stored = store.get(path).unwrap();
        assert!(stored.headers.contains_key(ENVELOPE));
        if len <= CHUNK + 1 {
            let windows: std::collections::HashSet<&[u8]> = plain.windows(16).collect();
            assert!(!stored.body.windows(16).any(|window| windows.contains(window)), "{len}");
        }
        let read = get(proxy.address, path).await;
        assert!(read.bytes() == plain, "{len}");
        assert_eq!((read.header("content-type"), read.header("x-amz-meta-who")), ("image/png", "a browser"));
        assert_eq!(read.header("etag"), reply.header("etag"));
        assert!(store.uploads().is_empty());
        assert_eq!(store.paths(), [path]);
    }
}

#[tokio::test]
async fn a_long_file_goes_up_in_parts() {
    let (store, proxy) = start(SEALED).await;
    for (len, parts) in [(PART + 1, 2), (2 * PART, 2), (2 * PART + 6_000_000, 3)] {
        let plain = pattern(len);
        store.take_seen();
        let reply = Form::new("k")
            .field("x-amz-meta-a", "b")
            .field("success_action_status", "201")
            .signed(&[json!(["content-length-range", len, len])])
            .file("f", &plain)
            .post(proxy.address)
            .await;
        assert_eq!(reply.status, 201, "{}", reply.code());
        let sent = store.take_seen();
        let sent = sent.iter().filter(|seen| seen.query.contains("partNumber") && seen.method == Method::PUT);
        // The manifest is the last part of the store; a short last part of the file goes with it.
        let of_store = if len == PART + 1 { parts } else { parts + 1 };
        assert_eq!(sent.count(), of_store, "{len}");
        assert!(store.get("/b/k").unwrap().headers.contains_key(ENVELOPE));
        let read = send(proxy.address, "GET", "/b/k", &[("x-amz-checksum-mode", "ENABLED")], &[]).await;
        assert!(read.bytes() == plain, "{len}");
        assert_eq!(inner(&reply, "ETag"), read.header("etag").replace('"', "&quot;"));
        assert_eq!(reply.header("etag"), read.header("etag"));
        assert_eq!((read.header("x-amz-meta-a"), read.header("x-amz-checksum-type")), ("b", "FULL_OBJECT"));
        assert!(!read.header("x-amz-checksum-crc64nvme").is_empty());
        assert_eq!(store.paths(), ["/b/k"], "no state is left");
        assert!(store.uploads().is_empty());
    }
}

#[tokio::test]
async fn fields_are_headers_of_the_write() {
    let (store, proxy) = start(SEALED).await;
    let form = Form::new("k")
        .field("acl", "public-read")
        .field("Cache-Control", "no-store")
        .field("content-disposition", "attachment")
        .field("Content-Encoding", "gzip,aws-chunked")
        .field("Expires", "Thu, 01 Dec 2033 16:00:00 GMT")
        .field("x-amz-storage-class", "STANDARD_IA")
        .field("x-amz-website-redirect-location", "/other")
        .field("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>")
        .field("x-ignore-this", "x")
        .field("x-amz-meta-n", "${filename}")
        .file("f.txt", b"text");
    let form = form.clone().without("x-amz-meta-n").without("x-ignore-this").signed(&[json!([
        "starts-with",
        "$x-amz-meta-n",
        ""
    ])]);
    let form =
        form.field("x-amz-meta-n", "is ${filename}").field("x-ignore-this", "x").field("X-Ignore-This", "y");
    // Headers of the request itself are judged by nobody, and go nowhere.
    let request = Request::post("/b")
        .header("host", proxy.address.to_string())
        .header("content-type", content_type())
        .header("content-length", form.body().len())
        .header("x-amz-grant-read", "id=everybody")
        .header("x-amz-copy-source", "/b/other")
        .header("origin", "https://example.com")
        .body(full(form.body()))
        .unwrap();
    let reply = exchange(proxy.address, request).await.unwrap();
    assert_eq!(reply.status, 204, "{}", reply.code());
    let seen = store.take_seen();
    let [seen] = &seen[..] else { panic!("one request: {seen:?}") };
    assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.query.as_str()), ("PUT", "/b/k", ""));
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("cache-control", "no-store"),
        ("content-disposition", "attachment"),
        ("content-encoding", "aws-chunked,gzip"),
        ("expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-website-redirect-location", "/other"),
        ("x-amz-tagging", "a=b%20c"),
        ("x-amz-meta-n", "is f.txt"),
        ("origin", "https://example.com"),
    ] {
        assert_eq!(seen.headers.get(name).unwrap(), value, "{name}");
    }
    for name in [
        "x-amz-grant-read",
        "x-amz-copy-source",
        "x-ignore-this",
        "content-type",
        "x-amz-credential",
        "policy",
        "key",
    ] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn the_answer_is_the_one_that_was_asked_for() {
    let (_store, proxy) = start(SEALED).await;
    for (status, expected) in [("200", 200), ("201", 201), ("204", 204), ("404", 204), ("", 204)] {
        let form = Form::new("a b/é").field("success_action_status", status).signed(&[]).file("f", b"text");
        let reply = form.post(proxy.address).await;
        assert_eq!(reply.status, expected, "{status}");
        assert!(reply.header("etag").starts_with('"'));
        if expected == 201 {
            assert_eq!(reply.header("content-type"), "application/xml");
            assert_eq!(inner(&reply, "Location"), "/b/a%20b/%C3%A9");
            assert_eq!((inner(&reply, "Bucket"), inner(&reply, "Key")), ("b".into(), "a b/é".into()));
        } else {
            assert!(reply.bytes().is_empty());
        }
    }
    for field in ["success_action_redirect", "redirect"] {
        let form =
            Form::new("a b").field(field, "https://example.com/done?n=1").signed(&[]).file("f", b"text");
        let reply = form.post(proxy.address).await;
        let etag = reply.header("etag").trim_matches('"').to_owned();
        assert_eq!(reply.status, 303);
        let expected = format!("https://example.com/done?n=1&bucket=b&key=a%20b&etag=%22{etag}%22");
        assert_eq!(reply.header("location"), expected);
    }
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_not_stored() {
    let (store, proxy) = start(SEALED).await;
    let policy =
        |conditions: Value| json!({ "expiration": "2100-01-01T00:00:00Z", "conditions": conditions });
    let good = json!([{ "bucket": "b" }, ["starts-with", "$key", "user/"], { "acl": "private" }]);
    let form = || Form::new("user/k").field("acl", "private").file("f", b"12345");
    let cases = [
        (form(), policy(good.clone()), 204, "", ""),
        (
            form().with("key", "other/k"),
            policy(good.clone()),
            403,
            "AccessDenied",
            "[\"starts-with\", \"$key\", \"user/\"]",
        ),
        (
            form().with("acl", "public-read"),
            policy(good.clone()),
            403,
            "AccessDenied",
            "[\"eq\", \"$acl\", \"private\"]",
        ),
        (form().without("acl"), policy(good.clone()), 403, "AccessDenied", "[\"eq\", \"$acl\", \"private\"]"),
        (
            form().field("x-amz-meta-a", "b"),
            policy(good.clone()),
            403,
            "AccessDenied",
            "Extra input fields: x-amz-meta-a",
        ),
        (form().field("bucket", "other"), policy(good.clone()), 403, "AccessDenied", "field 'bucket'"),
        (
            form(),
            policy(json!([{ "bucket": "other" }, ["starts-with", "$key", ""], { "acl": "private" }])),
            403,
            "AccessDenied",
            "$bucket",
        ),
        (
            form(),
            policy(json!([["starts-with", "$key", ""], { "acl": "private" }])),
            403,
            "AccessDenied",
            "Extra input fields: bucket",
        ),
        (
            form(),
            json!({ "expiration": "2020-01-01T00:00:00Z", "conditions": good }),
            403,
            "AccessDenied",
            "Policy expired.",
        ),
        (
            form(),
            json!({ "expiration": "2100-01-01", "conditions": good }),
            400,
            "InvalidPolicyDocument",
            "expiration",
        ),
        (form(), json!({ "conditions": good }), 400, "InvalidPolicyDocument", "expiration"),
        (form(), json!({ "expiration": "2100-01-01T00:00:00Z" }), 400, "InvalidPolicyDocument", "conditions"),
        (form(), policy(json!([{}])), 400, "InvalidPolicyDocument", "exactly one property"),
        (form(), policy(json!([["content-length-range", 0]])), 400, "InvalidPolicyDocument", "two arguments"),
        (
            form(),
            policy(json!([["matches", "$key", "x"]])),
            400,
            "InvalidPolicyDocument",
            "'matches' is no operator",
        ),
    ];
    for (form, policy, status, code, message) in cases {
        let reply = form.signed_by(&policy).post(proxy.address).await;
        let text = String::from_utf8_lossy(reply.bytes()).replace("&quot;", "\"").replace("&apos;", "'");
        assert_eq!(reply.status, status, "{policy}: {text}");
        if status == 204 {
            assert_eq!(store.paths(), ["/b/user/k"]);
            send(proxy.address, "DELETE", "/b/user/k", &[], &[]).await;
            continue;
        }
        assert_eq!(reply.code(), code, "{policy}");
        assert!(text.contains(message), "{message}: {text}");
        assert_nothing(&store, message);
    }
}

#[tokio::test]
async fn a_file_has_the_length_that_its_policy_allows() {
    let (store, proxy) = start(SEALED).await;
    let form = |len: usize, range: Value| Form::new("k").signed(&[range]).file("f", &pattern(len));
    for (len, range, status, code) in [
        (5, json!(["content-length-range", 5, 5]), 204, ""),
        (0, json!(["content-length-range", 0, 5]), 204, ""),
        (4, json!(["content-length-range", 5, 6]), 400, "EntityTooSmall"),
        (7, json!(["content-length-range", 5, 6]), 400, "EntityTooLarge"),
        (PART + 5, json!(["content-length-range", 0, PART + 4]), 400, "EntityTooLarge"),
        (PART + 5, json!(["content-length-range", PART + 6, 1_000_000_000]), 400, "EntityTooSmall"),
        (PART + 5, json!(["content-length-range", PART + 5, PART + 5]), 204, ""),
    ] {
        let reply = form(len, range.clone()).post(proxy.address).await;
        assert_eq!(reply.status, status, "{len} {range}: {}", reply.code());
        if status == 204 {
            assert!(get(proxy.address, "/b/k").await.bytes() == pattern(len));
            send(proxy.address, "DELETE", "/b/k", &[], &[]).await;
        } else {
            assert_eq!(reply.code(), code);
            let of_limit = if code == "EntityTooLarge" { "MaxSizeAllowed" } else { "MinSizeAllowed" };
            assert!(!inner(&reply, "ProposedSize").is_empty() && !inner(&reply, of_limit).is_empty());
        }
        assert_nothing(&store, &range.to_string());
    }
}

#[tokio::test]
async fn half_a_signature_is_none() {
    let (store, proxy) = start(SEALED).await;
    let good = Form::new("k").signed(&[]).file("f", b"text");
    for (form, status, code) in [
        (good.clone().without("policy"), 400, "InvalidArgument"),
        (good.clone().without("x-amz-signature"), 400, "InvalidArgument"),
        (good.clone().without("x-amz-credential"), 400, "InvalidArgument"),
        (good.clone().without("x-amz-algorithm"), 400, "InvalidArgument"),
        (good.clone().without("x-amz-date"), 400, "InvalidArgument"),
        (Form::new("k").field("policy", "e30=").file("f", b"text"), 400, "InvalidArgument"),
        (Form::new("k").field("x-amz-security-token", "t").file("f", b"text"), 400, "InvalidArgument"),
        (good.clone().with("x-amz-signature", &"0".repeat(64)), 403, "SignatureDoesNotMatch"),
        (good.clone().with("x-amz-signature", "x"), 400, "InvalidArgument"),
        (good.clone().with("policy", "e30="), 403, "SignatureDoesNotMatch"),
        (
            good.clone().with("x-amz-credential", "AKIDNOBODY/20260101/us-east-1/s3/aws4_request"),
            403,
            "InvalidAccessKeyId",
        ),
        (good.clone().with("x-amz-algorithm", "AWS4-HMAC-SHA1"), 400, "InvalidRequest"),
        (good.clone().with("x-amz-date", "20260102T000000Z"), 400, "InvalidArgument"),
        (good.clone().field("x-amz-security-token", "t"), 400, "InvalidToken"),
        (good.clone().field("AWSAccessKeyId", "k"), 400, "InvalidArgument"),
        // Nobody's.
        (Form::new("k").file("f", b"text"), 403, "AccessDenied"),
        // Off unless it is asked for.
        (Form::new("k").signed_the_old_way().file("f", b"text"), 400, "InvalidRequest"),
    ] {
        let reply = form.post(proxy.address).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{form:?}");
        assert_nothing(&store, code);
    }
    assert!(store.take_seen().is_empty(), "nothing reached the store");
}

#[tokio::test]
async fn old_forms_are_let_in_where_that_is_wanted() {
    let (store, proxy) = start(&format!("{SEALED}[auth]\nsigv2_forms = true\n")).await;
    let good = Form::new("k").signed_the_old_way().file("f", b"text");
    for (form, status, code) in [
        (good.clone().with("signature", "AAAA"), 403, "SignatureDoesNotMatch"),
        (good.clone().with("AWSAccessKeyId", "nobody"), 403, "InvalidAccessKeyId"),
        (good.clone().without("signature"), 400, "InvalidArgument"),
        (good.clone().without("AWSAccessKeyId"), 400, "InvalidArgument"),
        (good.clone().without("policy"), 400, "InvalidArgument"),
        (good.clone().with("key", "other"), 403, "AccessDenied"),
        (good.clone().field("x-amz-algorithm", "AWS4-HMAC-SHA256"), 400, "InvalidArgument"),
    ] {
        let reply = form.post(proxy.address).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{form:?}");
        assert_nothing(&store, code);
    }
    assert_eq!(good.post(proxy.address).await.status, 204);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"text");
}

#[tokio::test]
async fn a_signed_request_answers_for_its_form_only_if_it_covers_it() {
    use s3veil::aws::sign::BodyHash;
    let (store, proxy) = start(SEALED).await;
    let to = proxy.address;
    let (kind, bare) = (content_type(), Form::new("k").file("f", b"text"));
    let headers = [("content-type", kind.as_str())];
    let form = bare.body();
    let length = form.len().to_string();
    let unsigned = [headers[0], ("content-length", length.as_str())];
    let head = signed(to, "POST", "/b", &unsigned, BodyHash::Unsigned);
    let reply = exchange(to, head.map(|()| full(form.clone()))).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "AccessDenied"));
    let two = Form::new("k").signed(&[]).file("f", b"text").body();
    assert_eq!(send(to, "POST", "/b", &headers, &two).await.code(), "InvalidArgument");
    assert_nothing(&store, "not covered");
    assert_eq!(send(to, "POST", "/b", &headers, &form).await.status, 204);
    assert_eq!(get(to, "/b/k").await.bytes(), b"text");
}

#[tokio::test]
async fn a_trusted_hop_needs_no_signature_but_keeps_to_the_policy() {
    let (store, proxy) = start(&format!("{SEALED}[auth]\nmode = 'trusted'\n")).await;
    let form =
        Form::new("k").signed(&[]).with("x-amz-signature", "x").with("key", "other").file("f", b"text");
    assert_eq!(form.post(proxy.address).await.code(), "AccessDenied");
    assert_nothing(&store, "another key");
    assert_eq!(Form::new("k").file("f", b"text").post(proxy.address).await.status, 204);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"text");
    // Any page could have a browser on this machine send one.
    store.take_seen();
    let of_page = async |to, name: &str, value: &str| {
        let body = Form::new("k").signed(&[]).file("f", b"of a page").body();
        let request = Request::post("/b")
            .header("host", "a")
            .header("content-type", content_type())
            .header("content-length", body.len())
            .header(name, value)
            .body(full(body));
        exchange(to, request.unwrap()).await.unwrap()
    };
    for (name, value) in [
        ("origin", "https://example.com"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let reply = of_page(proxy.address, name, value).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "AccessDenied"), "{name}: {value}");
        assert!(String::from_utf8_lossy(reply.bytes()).contains("auth.mode = "), "it says what to do");
    }
    assert!(store.take_seen().is_empty());
    assert_eq!(of_page(proxy.address, "sec-fetch-site", "none").await.status, 204);
    // Where a form is signed, its page is as good as its signature.
    let (_store, signed) = start(SEALED).await;
    assert_eq!(of_page(signed.address, "sec-fetch-site", "cross-site").await.status, 204);
}

#[tokio::test]
async fn what_is_no_form_is_refused_in_words() {
    let (store, proxy) = start(SEALED).await;
    let good = || Form::new("k").signed(&[]).file("f", b"text");
    let cut = |form: Form, from_end: usize| {
        let body = form.body();
        body[..body.len() - from_end].to_vec()
    };
    let replace =
        |from: &str, to: &str| String::from_utf8(good().body()).unwrap().replace(from, to).into_bytes();
    let long = Form::default().field("x-ignore-long", &"x".repeat(20_500)).file("f", b"text").body();
    let names = format!("{}k", "${filename}".repeat(200));
    for (body, status, code) in [
        (b"".to_vec(), 400, "MalformedPOSTRequest"),
        (b"no form".to_vec(), 400, "MalformedPOSTRequest"),
        (format!("--{BOUNDARY}--").into_bytes(), 400, "IncorrectNumberOfFilesInPostRequest"),
        (Form::new("k").signed(&[]).body(), 400, "IncorrectNumberOfFilesInPostRequest"),
        (good().file("g", b"more").body(), 400, "IncorrectNumberOfFilesInPostRequest"),
        // Its last boundary, or half of it, is missing.
        (cut(good(), 4), 400, "MalformedPOSTRequest"),
        (cut(good(), BOUNDARY.len()), 400, "MalformedPOSTRequest"),
        (replace(&format!("{BOUNDARY}--"), "another--"), 400, "MalformedPOSTRequest"),
        (replace("form-data; name=\"key\"", "form-data"), 400, "MalformedPOSTRequest"),
        (
            replace("Content-Type: application", "Content-Transfer-Encoding: base64\r\nX: application"),
            400,
            "MalformedPOSTRequest",
        ),
        (
            replace("Content-Type: application", &format!("X: {}", "x".repeat(5000))),
            400,
            "MalformedPOSTRequest",
        ),
        (replace("form-data; name=\"key\"", "form-data;\r\n name=\"key\""), 400, "MalformedPOSTRequest"),
        (replace("name=\"key\"", "name=\"key\"; name=\"acl\""), 400, "MalformedPOSTRequest"),
        (good().field("key", "other").body(), 400, "InvalidArgument"),
        (Form::default().signed(&[]).file("f", b"text").body(), 400, "UserKeyMustBeSpecified"),
        (Form::new("").signed(&[]).file("f", b"text").body(), 400, "UserKeyMustBeSpecified"),
        (Form::new(&"k".repeat(1025)).signed(&[]).file("f", b"text").body(), 400, "KeyTooLongError"),
        (Form::new(".s3veil/x").signed(&[]).file("f", b"text").body(), 403, "AccessDenied"),
        (Form::new("k").field(ENVELOPE, "x").signed(&[]).file("f", b"text").body(), 400, "InvalidArgument"),
        (
            Form::new("k").field("x-amz-copy-source", "/b/o").signed(&[]).file("f", b"text").body(),
            400,
            "InvalidArgument",
        ),
        (
            Form::new("k").field("tagging", "<Tagging>").signed(&[]).file("f", b"text").body(),
            400,
            "MalformedXML",
        ),
        (
            Form::new("k").field("content-md5", "x").signed(&[]).file("f", b"text").body(),
            400,
            "InvalidDigest",
        ),
        (long, 400, "MaxPostPreDataLengthExceededError"),
        (Form::new(&names).file(&"f".repeat(200), b"text").body(), 400, "MaxPostPreDataLengthExceededError"),
    ] {
        let reply = post(proxy.address, body.clone()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(3000)]).into_owned();
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{shown}");
        assert_nothing(&store, code);
    }
    // Without a length, and without a boundary.
    let request =
        |kind: &str| Request::post("/b").header("host", "a").header("content-type", kind.to_owned());
    let stream =
        request(&content_type()).header("transfer-encoding", "chunked").body(full(good().body())).unwrap();
    let reply = exchange(proxy.address, stream).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (411, "MissingContentLength"));
    let body = good().body();
    for kind in ["multipart/form-data", &content_type().replace("form-data", "form-data-x")] {
        let form = request(kind).header("content-length", body.len()).body(full(body.clone())).unwrap();
        assert_eq!(exchange(proxy.address, form).await.unwrap().code(), "MalformedPOSTRequest", "{kind}");
    }
    assert_nothing(&store, "all");
}

#[tokio::test]
async fn the_file_must_be_what_its_checksum_says() {
    use s3veil::s3::checksum::{Algorithm, Hasher};
    let (store, proxy) = start(SEALED).await;
    for len in [1000, PART + 1000] {
        let plain = pattern(len);
        let sum = |algorithm, bytes: &[u8]| Hasher::digest(algorithm, bytes).to_base64();
        for (field, algorithm) in [
            ("Content-MD5", Algorithm::Md5),
            ("x-amz-checksum-sha256", Algorithm::Sha256),
            ("x-amz-checksum-crc32", Algorithm::Crc32),
        ] {
            let wrong = Form::new("k").field(field, &sum(algorithm, b"other")).signed(&[]).file("f", &plain);
            let reply = wrong.post(proxy.address).await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "BadDigest"), "{field} {len}");
            assert_nothing(&store, field);
            let right = Form::new("k").field(field, &sum(algorithm, &plain)).signed(&[]).file("f", &plain);
            assert_eq!(right.post(proxy.address).await.status, 204, "{field} {len}");
            let read = send(proxy.address, "GET", "/b/k", &[("x-amz-checksum-mode", "ENABLED")], &[]).await;
            assert!(read.bytes() == plain);
            if algorithm == Algorithm::Crc32 {
                assert_eq!(read.header(field), sum(algorithm, &plain));
            }
            send(proxy.address, "DELETE", "/b/k", &[], &[]).await;
        }
    }
}

/// For the store's CORS rules, whose headers a script in a page must find in the answer.
#[tokio::test]
async fn where_a_page_is_from_is_said_to_the_store() {
    let (store, proxy) = start(SEALED).await;
    for (len, method) in [(5, Method::PUT), (PART + 5, Method::POST)] {
        let body = Form::new("k").signed(&[]).file("f", &pattern(len)).body();
        let request = Request::post("/b")
            .header("host", proxy.address.to_string())
            .header("content-type", content_type())
            .header("content-length", body.len())
            .header("origin", "https://example.com")
            .body(full(body));
        store.take_seen();
        assert_eq!(exchange(proxy.address, request.unwrap()).await.unwrap().status, 204);
        let seen = store.take_seen();
        let last = seen.iter().rfind(|seen| seen.path == "/b/k").unwrap();
        assert_eq!(last.method, method);
        assert_eq!(last.headers["origin"], "https://example.com");
    }
}

#[test]
fn values_of_fields_are_never_printed() {
    let fields = s3veil::body::form::Fields::from([("x-amz-server-side-encryption-customer-key", "hidden")]);
    assert_eq!(format!("{fields:?}"), "[\"x-amz-server-side-encryption-customer-key\"]");
}

#[tokio::test]
async fn a_rule_says_whether_the_file_is_sealed() {
    let rules = "[[policy]]\nbucket = 'b'\nprefix = 'plain/'\nmode = 'passthrough'\n\
        [[policy]]\nbucket = 'b'\nprefix = 'no/'\nmode = 'deny'\n";
    let (store, proxy) = start(&format!("{SEALED}{rules}")).await;
    for len in [10, 2 * PART + 3] {
        let plain = pattern(len);
        let form = |key: &str| Form::new(key).field("x-amz-meta-a", "b").signed(&[]).file("f", &plain);
        assert_eq!(form("no/k").post(proxy.address).await.code(), "AccessDenied");
        assert_nothing(&store, "denied");
        assert_eq!(form("plain/k").post(proxy.address).await.status, 204);
        let stored = store.get("/b/plain/k").unwrap();
        assert!(stored.body == plain && !stored.headers.contains_key(ENVELOPE));
        assert_eq!(stored.headers["x-amz-meta-a"], "b");
        assert!(get(proxy.address, "/b/plain/k").await.bytes() == plain);
        send(proxy.address, "DELETE", "/b/plain/k", &[], &[]).await;
        assert_nothing(&store, "deleted");
    }
}

/// A form is a write like any other: its fields name a key, or bring one along, only where the rule lets them.
#[tokio::test]
async fn a_form_chooses_no_key_that_its_rule_does_not_allow() {
    use s3veil::s3::checksum::{Algorithm, Hasher};
    const SSE: &str = "x-amz-server-side-encryption";
    let named =
        |key: &str| vec![(SSE.to_owned(), "aws:kms".into()), (format!("{SSE}-aws-kms-key-id"), key.into())];
    let key = [1_u8; 32];
    let customers = [
        ("algorithm", "AES256".to_owned()),
        ("key", STANDARD.encode(key)),
        ("key-md5", Hasher::digest(Algorithm::Md5, &key).to_base64()),
    ];
    let customers = customers.map(|(name, value)| (format!("{SSE}-customer-{name}"), value)).to_vec();
    let locked = "[[policy]]\nbucket = 'b'\nprefix = 'locked/'\nek = 's3veil-dev-key'\nlocked = true\n";
    let (store, proxy) = start(&format!("{SEALED}{locked}")).await;
    for (path, fields, status, code) in [
        ("k", named("other"), 403, "AccessDenied"),
        ("locked/k", named("other"), 403, "AccessDenied"),
        ("k", named("other")[1..].to_vec(), 400, "InvalidArgument"),
        ("k", vec![(SSE.to_owned(), "aes256".into())], 400, "InvalidArgument"),
        ("locked/k", customers.clone(), 403, "AccessDenied"),
        ("k", customers[1..].to_vec(), 400, "InvalidArgument"),
        ("k", named("s3veil-dev-key"), 204, ""),
        ("locked/k", named("s3veil-dev-key"), 204, ""),
    ] {
        for len in [4, PART + 5] {
            let form = fields.iter().fold(Form::new(path), |form, (name, value)| form.field(name, value));
            let reply = form.signed(&[]).file("f", &pattern(len)).post(proxy.address).await;
            assert_eq!(reply.status, status, "{path} {fields:?} {len}: {:?}", reply.body);
            if status == 204 {
                assert!(store.get(&format!("/b/{path}")).unwrap().headers.contains_key(ENVELOPE));
                send(proxy.address, "DELETE", &format!("/b/{path}"), &[], &[]).await;
            } else {
                assert_eq!(reply.code(), code, "{path} {fields:?} {len}");
            }
            assert_nothing(&store, path);
        }
    }
}

#[tokio::test]
async fn what_the_store_refuses_is_passed_on_and_leaves_nothing() {
    let (store, proxy) = start(SEALED).await;
    let short = Form::new("k").signed(&[]).file("f", b"text");
    let long = Form::new("k").signed(&[]).file("f", &pattern(2 * PART + 6_000_000));
    store.fail_next_of(Method::PUT, Fault::Refuse("QuotaExceeded"));
    let reply = short.post(proxy.address).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "QuotaExceeded"));
    assert_nothing(&store, "short");
    // The upload itself, its record, its first and its second part, its manifest.
    let put = |passed: usize| {
        (0..passed).for_each(|_| store.fail_next_of(Method::PUT, Fault::Pass));
        store.fail_next_of(Method::PUT, Fault::Refuse("QuotaExceeded"));
    };
    let cases: [(&str, &dyn Fn()); 5] = [
        ("create", &|| store.fail_next_of(Method::POST, Fault::Refuse("QuotaExceeded"))),
        ("part 1", &|| put(1)),
        ("part 2", &|| put(2)),
        ("manifest", &|| put(4)),
        ("complete", &|| {
            store.fail_next_of(Method::POST, Fault::Pass);
            store.fail_next_of(Method::POST, Fault::Refuse("QuotaExceeded"));
        }),
    ];
    for (what, fault) in cases {
        fault();
        let reply = long.post(proxy.address).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "QuotaExceeded"), "{what}");
        assert_nothing(&store, what);
        assert!(store.take_fault().is_none(), "{what}");
    }
    for (fault, status, code) in [
        (Fault::Refuse("QuotaExceeded"), 403, "AccessDenied"),
        (Fault::Status(500), 503, "ServiceUnavailable"),
    ] {
        store.fail_next_of(Method::PUT, fault);
        let reply = long.post(proxy.address).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (status, code),
            "the record can't be kept"
        );
        assert_nothing(&store, "record");
    }
    assert_eq!(long.post(proxy.address).await.status, 204);
}

/// S3's own way: a store that has said 200 can still find that it can't.
#[tokio::test]
async fn an_error_behind_a_200_is_an_error_and_leaves_nothing() {
    let plain = "[[policy]]\nbucket = 'b'\nprefix = 'plain/'\nmode = 'passthrough'\n";
    let (store, proxy) = start(&format!("{SEALED}{plain}")).await;
    for key in ["k", "plain/k"] {
        let long = Form::new(key).signed(&[]).file("f", &pattern(PART + 6_000_000));
        for (begun, fault, status, code) in [
            (true, Fault::ErrorIn200("InternalError"), 500, "InternalError"),
            (true, Fault::ErrorIn200("SlowDown"), 503, "SlowDown"),
            (true, Fault::ErrorIn200("NeverHeardOf"), 500, "InternalError"),
            (false, Fault::ErrorIn200("SlowDown"), 500, "InternalError"),
            (false, Fault::Damaged, 500, "InternalError"),
        ] {
            if begun {
                store.fail_next_of(Method::POST, Fault::Pass);
            }
            store.fail_next_of(Method::POST, fault);
            let reply = long.post(proxy.address).await;
            let what = format!("{key} {begun} {fault:?}");
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}");
            assert_nothing(&store, &what);
            assert!(store.take_fault().is_none(), "{what}");
        }
        assert_eq!(long.post(proxy.address).await.status, 204);
        assert_eq!(send(proxy.address, "DELETE", &format!("/b/{key}"), &[], &[]).await.status, 204);
    }
}

#[tokio::test]
async fn only_so_many_long_forms_are_held_in_memory() {
    const LONG: usize = 256 * 1024;
    let store = MemoryStore::start().await;
    // On a busy machine it takes a while until the last one is silent.
    let proxy = Proxy::start_with_root(&store.endpoint, "limits.client_idle_secs = 60", SEALED).await;
    let room = || proxy.app.rooms.long_forms.free();
    assert_eq!(room(), 32);
    let form = |number: usize| Form::new(&format!("k{number}")).signed(&[]).file("f", &pattern(2 * LONG));
    let mut under_way = Vec::new();
    for number in 0..32 {
        let body = form(number).body();
        let head = format!(
            "POST /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
            content_type(),
            body.len()
        );
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..LONG + LONG / 2]).await.unwrap();
        under_way.push((stream, body));
    }
    until(|| room() == 0, "all have gathered more than the short").await;
    let reply = form(32).post(proxy.address).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "SlowDown"));
    assert_eq!(reply.header("retry-after"), "1");
    assert!(store.paths().is_empty());
    // Short ones hold next to nothing.
    assert_eq!(Form::new("short").signed(&[]).file("f", b"text").post(proxy.address).await.status, 204);

    let (mut stream, body) = under_way.pop().unwrap();
    stream.write_all(&body[LONG + LONG / 2..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    until(|| room() == 1, "one has ended").await;
    assert_eq!(form(32).post(proxy.address).await.status, 204);
    // Those that break off give theirs back too.
    drop(under_way);
    until(|| room() == 32, "all have ended").await;
    assert_eq!(store.paths(), ["/b/k31", "/b/k32", "/b/short"]);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let (store, proxy) = start(SEALED).await;
    let form = Form::new("k").signed(&[]).file("f", &pattern(3 * PART)).body();
    let head = format!(
        "POST /b HTTP/1.1\r\nhost: a\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        content_type(),
        form.len()
    );
    // Within the fields, the first part, a later one, and a byte before the end.
    for (sent, begun) in
        [(500, false), (PART / 2, false), (2 * PART + PART / 2, true), (form.len() - 1, true)]
    {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&form[..sent]).await.unwrap();
        stream.flush().await.unwrap();
        if begun {
            until(|| !store.uploads().is_empty(), "the upload has begun").await;
        }
        drop(stream);
        until(|| store.uploads().is_empty() && store.paths().is_empty(), "all is gone").await;
        until(|| proxy.app.metrics.in_flight.get() == 0, "the request has ended").await;
        let completed = store
            .take_seen()
            .iter()
            .any(|seen| seen.method == Method::POST && seen.query.contains("uploadId"));
        assert!(!completed, "{sent}");
        assert_nothing(&store, "after all");
    }
}

/// The bytes of a file and of fields, in whatever pieces the form comes, whatever in it looks like a boundary.
mod framing {
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;
    use proptest::prelude::*;
    use s3veil::auth::{Authenticator, Config, Payload, Who};
    use s3veil::body::form::{self, Fields};
    use s3veil::body::{ByteBody, Checked, gather};
    use s3veil::s3::{Bucket, Error};

    const BOUNDARY: &str = "--x-y";

    /// Bytes of which many pieces are parts of a delimiter.
    fn odd_bytes(pieces: usize) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (0..=9usize).prop_map(|len| format!("\r\n--{BOUNDARY}").as_bytes()[..len].to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n----x-yz".to_vec()),
            Just(b"\r\n----x-y-\r".to_vec()),
            Just(b"----x-y--\r\n".to_vec()),
        ];
        proptest::collection::vec(piece, 0..pieces).prop_map(|pieces| pieces.concat())
    }

    /// A body in frames of these lengths, over and over.
    fn body(bytes: &[u8], frames: &[usize]) -> ByteBody {
        let (mut rest, mut lengths) = (Bytes::copy_from_slice(bytes), frames.iter().cycle());
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let len = (*lengths.next().unwrap()).clamp(1, rest.len());
            pieces.push(Ok(Frame::data(rest.split_to(len))));
        }
        StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
    }

    type Read = (Vec<(String, String)>, Vec<u8>);

    /// Fields and file of a form; the error that S3 has for it.
    fn read(bytes: &[u8], frames: &[usize]) -> Result<Read, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let payload = Payload::of_length(bytes.len() as u64);
            let checked = Checked::new(body(bytes, frames), payload, Duration::from_secs(5))?;
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            let form = form::read(checked, &kind).await?;
            let fields =
                form.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let file = gather(form.file.into_body(), 1 << 20)
                .await
                .map_err(|why| *why.downcast::<Error>().unwrap())?;
            Ok((fields, file.to_vec()))
        })
    }

    fn part(head: &str, value: &[u8]) -> Vec<u8> {
        [format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(), value, b"\r\n"]
            .concat()
    }

    /// Without the line of a real delimiter, which no value of a form may hold (RFC 2046).
    fn allowed(bytes: Vec<u8>) -> Vec<u8> {
        let mut whole = [b"\r\n", &bytes[..], b"\r\n"].concat();
        let delimiter = [b"\r\n--", BOUNDARY.as_bytes()].concat();
        for at in 0..whole.len() {
            let Some(rest) = whole[at..].strip_prefix(&delimiter[..]) else { continue };
            if rest.starts_with(b"--")
                || rest.starts_with(b"\r\n")
                || rest.starts_with(b" ")
                || rest.starts_with(b"\t")
            {
                whole[at + delimiter.len() - 1] = b'z';
            }
        }
        whole[2..whole.len() - 2].to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..Default::default() })]

        #[test]
        fn bytes_come_out_as_they_were_sent(
            file in odd_bytes(30).prop_map(allowed),
            value in "[a-z\r\n-]{0,30}",
            preamble in any::<bool>(),
            behind in odd_bytes(5).prop_map(allowed),
            frames in proptest::collection::vec(prop_oneof![1..12usize, 1..400usize], 1..8),
        ) {
            let whole = [
                if preamble { b"This is a form.\r\n".to_vec() } else { Vec::new() },
                part("name=\"key\"", value.as_bytes()),
                part("name=\"file\"; filename=\"f\"", &file),
                part("name=\"submit\"", &behind),
                format!("--{BOUNDARY}--\r\nepilogue").into_bytes(),
            ].concat();
            let (fields, read_file) = read(&whole, &frames).unwrap();
            prop_assert_eq!(fields, [("key".to_owned(), value)]);
            prop_assert_eq!(read_file, file);
            // Cut anywhere before its last boundary is whole, it is no form.
            for cut in [whole.len() - 11, whole.len() - 13, whole.len() / 2] {
                prop_assert!(read(&whole[..cut], &frames).is_err(), "{}", cut);
            }
        }

        #[test]
        fn nothing_makes_the_reader_panic(
            parts in proptest::collection::vec(prop_oneof![
                odd_bytes(4),
                Just(part("name=\"a\"", b"b")),
                Just(part("name=\"file\"", b"b")),
                Just(part("name=\"file; filename=\"\\", b"b")),
                Just(format!("--{BOUNDARY}\r\n").into_bytes()),
                Just(format!("\r\n--{BOUNDARY}--").into_bytes()),
                "Content-Disposition: [a-z;=\" \\\\-]{0,40}\r\n\r\n".prop_map(String::into_bytes),
            ], 0..12),
            frames in proptest::collection::vec(1..50usize, 1..4),
        ) {
            if let Err(error) = read(&parts.concat(), &frames) {
                prop_assert!(error.code().status().is_client_error(), "{error}");
            }
        }

        #[test]
        fn nothing_makes_the_policy_panic(
            text in prop_oneof![
                any::<String>(),
                "[{}\\[\\]\",:$\\\\a-z0-9-]{0,80}",
                "\\{\"expiration\": \"[0-9TZ:.+-]{0,30}\", \"conditions\": \\[[\\[\\]{}\",:$a-z0-9-]{0,60}\\]\\}",
            ],
        ) {
            let trusted: Authenticator = toml::from_str::<Config>("mode = 'trusted'").unwrap().build().unwrap();
            let fields = Fields::from([("key", "k"), ("policy", &STANDARD.encode(text))]);
            let bucket = Bucket::parse("b").unwrap();
            let verified = trusted.verify_posted((&Who::Trusted, false), &bucket, &fields, SystemTime::UNIX_EPOCH);
            if let Err(error) = verified {
                prop_assert!(error.code().status().is_client_error(), "{error}");
            }
        }
    }
}

/// Waits for what must come.
async fn until(holds: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_listing_and_another_proxy_know_the_object() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(2 * PART + 1);
    assert_eq!(Form::new("long").signed(&[]).file("f", &plain).post(proxy.address).await.status, 204);
    assert_eq!(Form::new("short").signed(&[]).file("f", b"12345").post(proxy.address).await.status, 204);
    let other = Proxy::start_beside(&proxy, &store.endpoint, SEALED).await;
    assert!(get(other.address, "/b/long").await.bytes() == plain);
    let listing = get(other.address, "/b?list-type=2").await;
    let text = String::from_utf8_lossy(listing.bytes()).into_owned();
    assert!(
        text.contains(&format!("<Size>{}</Size>", plain.len())) && text.contains("<Size>5</Size>"),
        "{text}"
    );
}
