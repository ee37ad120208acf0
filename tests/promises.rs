//! The promises of s3veil, tried by a store that an attacker owns and by clients that lie.
//!
//! Each test goes through the whole proxy: signed requests in, a store in this process behind it.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use proptest::prelude::{Strategy, proptest};
use s3veil::aws::sign::BodyHash;
use s3veil::kms::EkName;
use support::client::{self, AnyBody, exchange, full, get, get_range, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::Upload;

const ENVELOPE: &str = "x-amz-meta-s3veil";
const CHUNK: usize = 65_536;
const SEALED_CHUNK: usize = CHUNK + 16;

/// The next read is an error: a clear one, or a connection that breaks, but never other bytes.
async fn refuses(proxy: &Proxy, path: &str, original: &[u8], what: &str) {
    let reply = get(proxy.address, path).await;
    match &reply.body {
        Ok(body) if reply.status.is_success() => panic!("{what}: served {} bytes", body.len()),
        Ok(_) => assert!(!reply.status.is_success(), "{what}"),
        // What came before the damage may have been sent, and nothing else.
        Err(_) => assert!(reply.status.is_success() && !original.is_empty(), "{what}"),
    }
}

// --- promise 1: the store sees nothing -----------------------------------------------------------------------------

#[tokio::test]
async fn the_store_never_sees_plaintext() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(200_000);
    for headers in [
        &[][..],
        &[("x-amz-server-side-encryption", "aws:kms")],
        &[("x-amz-server-side-encryption", "AES256")],
    ] {
        let reply = send(proxy.address, "PUT", "/b/k", headers, &plain).await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        let stored = store.get("/b/k").unwrap();
        assert_eq!(stored.body.len(), 200_000 + 4 * 16 + 80);
        let windows: std::collections::HashSet<&[u8]> = plain.windows(16).collect();
        assert!(!stored.body.windows(16).any(|window| windows.contains(window)));
        assert!(stored.headers.contains_key(ENVELOPE));
        assert_eq!(get(proxy.address, "/b/k").await.bytes(), plain);
    }
}

#[tokio::test]
async fn what_could_store_plaintext_is_refused_in_words() {
    let (store, proxy) = start(SEALED).await;
    let copy = [("x-amz-copy-source", "b/other")];
    for (method, path, headers) in [
        ("POST", "/b/k?select&select-type=2", &[][..]),
        ("PUT", "/b/k?renameObject", &[]),
        ("PUT", "/b/k?encryption", &[]),
        ("GET", "/b?session", &[]),
    ] {
        let reply = send(proxy.address, method, path, headers, b"plain text that must not be stored").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code().as_str()),
            (501, "NotImplemented"),
            "{method} {path}"
        );
    }
    // Two sub-resources at once could mean one thing here and another at the store.
    for path in ["/b/k?acl&uploadId=u&partNumber=1", "/b/k?tagging&uploads"] {
        assert_eq!(send(proxy.address, "PUT", path, &[], b"plain").await.code(), "InvalidArgument", "{path}");
    }
    assert_eq!(send(proxy.address, "PUT", "/b/k?acl", &copy, b"plain").await.code(), "InvalidArgument");
    assert!(store.paths().is_empty());
    assert!(store.take_seen().is_empty(), "nothing reached the store");
    // An unknown parameter is no way past: the object is sealed, and the parameter stays here.
    assert_eq!(send(proxy.address, "PUT", "/b/k?unknown=1", &[], b"plain").await.status, 200);
    assert!(store.get("/b/k").unwrap().headers.contains_key(ENVELOPE));
    assert_eq!(store.take_seen()[0].query, "");
}

#[tokio::test]
async fn a_client_can_neither_see_nor_set_the_envelope() {
    let (store, proxy) = start(SEALED).await;
    assert_eq!(put(proxy.address, "/b/k", b"x").await.status, 200);
    for method in ["GET", "HEAD"] {
        assert!(!send(proxy.address, method, "/b/k", &[], &[]).await.headers.contains_key(ENVELOPE));
    }
    let before = store.get("/b/k").unwrap().headers;
    for path in ["/b/k", "/b/k?x-amz-meta-s3veil=forged", "/b/k?X-Amz-Meta-S3veil=forged"] {
        let headers: &[_] = if path == "/b/k" { &[(ENVELOPE, "forged")] } else { &[] };
        assert_eq!(send(proxy.address, "PUT", path, headers, b"y").await.code(), "InvalidArgument", "{path}");
    }
    assert_eq!(store.get("/b/k").unwrap().headers, before);
}

/// Whatever writes metadata, sealed or not: the names under which s3veil keeps its own are nobody else's.
#[tokio::test]
async fn no_write_takes_the_envelopes_names() {
    let open = "[[policy]]\nbucket = \"b\"\nprefix = \"open/\"\nmode = \"passthrough\"\n";
    let (store, proxy) = start(&format!("{SEALED}{open}")).await;
    put(proxy.address, "/b/k", b"x").await;
    let upload = Upload::start(proxy.address, "/b/up", &[]).await;
    let (part, before) = (format!("{}&partNumber=1", upload.at()), store.paths());
    store.take_seen();
    let replace = [("x-amz-copy-source", "b/k"), ("x-amz-metadata-directive", "REPLACE")];
    for (method, path, more) in [
        ("PUT", "/b/new", &[][..]),
        ("PUT", "/b/open/new", &[]),
        ("POST", "/b/new?uploads", &[]),
        ("POST", "/b/open/new?uploads", &[]),
        ("PUT", "/b/new", &replace),
        ("PUT", "/b/k", &replace),
        ("PUT", "/b/open/new", &replace),
        ("PUT", &part, &[]),
        ("PUT", &part, &replace[..1]),
        ("POST", &upload.at(), &[]),
        ("PUT", "/b/k?tagging", &[]),
    ] {
        for name in [ENVELOPE, "x-amz-meta-s3veil-context"] {
            let headers = [more, &[(name, "forged")]].concat();
            let mark = if path.contains('?') { '&' } else { '?' };
            for (path, headers) in [
                (path.to_owned(), headers.as_slice()),
                (format!("{path}{mark}{name}=forged"), more),
                (format!("{path}{mark}{}=forged", name.to_uppercase()), more),
            ] {
                let reply = send(proxy.address, method, &path, headers, b"").await;
                assert_eq!(reply.code(), "InvalidArgument", "{method} {path} {headers:?}");
            }
        }
    }
    assert!(store.take_seen().is_empty(), "nothing reached the store");
    assert_eq!(store.paths(), before);
}

#[tokio::test]
async fn reserved_keys_are_out_of_reach() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/seen", b"x").await;
    let object = store.get("/b/seen").unwrap();
    store.put("/b/.s3veil/state", object);
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        assert_eq!(send(proxy.address, method, "/b/.s3veil/state", &[], b"").await.status, 403, "{method}");
    }
    let document = b"<Delete><Object><Key>.s3veil/state</Key></Object></Delete>";
    assert_eq!(send(proxy.address, "POST", "/b?delete", &[], document).await.code(), "AccessDenied");
    let listing = get(proxy.address, "/b").await;
    let listing = String::from_utf8_lossy(listing.bytes()).into_owned();
    assert!(listing.contains("<Key>seen</Key>") && !listing.contains(".s3veil"), "{listing}");
}

// --- promise 2: exactly the bytes, or an error ---------------------------------------------------------------------

#[tokio::test]
async fn every_flipped_byte_of_body_and_envelope_is_an_error() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(100);
    put(proxy.address, "/b/k", &plain).await;
    let good = store.get("/b/k").unwrap();
    for at in 0..good.body.len() {
        store.change("/b/k", |object| object.body[at] ^= 1);
        refuses(&proxy, "/b/k", &plain, &format!("byte {at}")).await;
        store.put("/b/k", good.clone());
    }
    let envelope = good.headers[ENVELOPE].to_str().unwrap().to_owned();
    for at in 0..envelope.len() {
        let mut bytes = envelope.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        store.change("/b/k", |object| {
            object.headers.insert(ENVELOPE, String::from_utf8(bytes).unwrap().parse().unwrap());
        });
        refuses(&proxy, "/b/k", &plain, &format!("envelope character {at}")).await;
        let head = send(proxy.address, "HEAD", "/b/k", &[], &[]).await;
        assert!(!head.status.is_success(), "a HEAD believes envelope character {at}");
        store.put("/b/k", good.clone());
    }
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), plain);
}

/// What a store can make of the body of an object of three chunks and ten bytes, and what each is called.
fn damages(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = |chunk: usize| 16 + chunk * SEALED_CHUNK;
    let mut damages: Vec<(String, Vec<u8>)> = Vec::new();
    for len in [
        0,
        1,
        15,
        16,
        boundary(1),
        boundary(2),
        boundary(3),
        boundary(3) + 5,
        body.len() - 64,
        body.len() - 1,
    ] {
        damages.push((format!("cut to {len}"), body[..len].to_vec()));
    }
    damages.push(("grown".into(), [body, b"x"].concat()));
    damages.push(("doubled".into(), [body, body].concat()));
    let chunk = |at: usize| &body[boundary(at)..boundary(at + 1)];
    let tail = &body[boundary(3)..];
    damages.push(("swapped".into(), [&body[..16], chunk(1), chunk(0), chunk(2), tail].concat()));
    damages.push(("repeated".into(), [&body[..16], chunk(0), chunk(0), chunk(2), tail].concat()));
    damages.push(("dropped".into(), [&body[..16], chunk(0), chunk(2), tail].concat()));
    damages
}

#[tokio::test]
async fn cut_grown_swapped_and_doubled_bodies_are_errors() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(3 * CHUNK + 10);
    put(proxy.address, "/b/k", &plain).await;
    let good = store.get("/b/k").unwrap();
    for (what, body) in damages(&good.body) {
        store.change("/b/k", |object| object.body = body);
        refuses(&proxy, "/b/k", &plain, &what).await;
        store.put("/b/k", good.clone());
    }
}

/// A range of a damaged body is that range, or an error; and an error if its size alone tells.
#[tokio::test]
async fn a_range_of_a_damaged_body_is_never_other_bytes() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(3 * CHUNK + 10);
    put(proxy.address, "/b/k", &plain).await;
    let good = store.get("/b/k").unwrap();
    let edges = [0, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK - 1, 3 * CHUNK, plain.len() - 1];
    let inside = edges.map(|at| (format!("bytes={at}-{}", at + 1), at, (at + 2).min(plain.len())));
    let open = edges.map(|at| (format!("bytes={at}-"), at, plain.len()));
    let suffixes =
        [1, 10, 11, CHUNK + 10].map(|len| (format!("bytes=-{len}"), plain.len() - len, plain.len()));
    for (what, body) in damages(&good.body) {
        let resized = body.len() != good.body.len();
        store.change("/b/k", |object| object.body = body);
        for (range, from, to) in inside.iter().chain(&open).chain(&suffixes) {
            let Some(reply) = client::attempt(proxy.address, "/b/k", &[("range", range)]).await else {
                continue;
            };
            if !reply.status.is_success() {
                continue;
            }
            let asked = &plain[*from..*to];
            assert!(asked.starts_with(&reply.received), "{what}, {range}: other bytes");
            match reply.body {
                Ok(_) => assert!(!resized && reply.received == asked, "{what}, {range}: served"),
                Err(_) => {
                    assert!(reply.received.len() < asked.len(), "{what}, {range}: all of it, and broken off")
                }
            }
        }
        store.put("/b/k", good.clone());
    }
    for (range, from, to) in inside.iter().chain(&open).chain(&suffixes) {
        assert!(get_range(proxy.address, "/b/k", range).await.bytes() == &plain[*from..*to], "{range}");
    }
}

#[tokio::test]
async fn body_and_envelope_open_only_where_they_were_written() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(500);
    put(proxy.address, "/b/a/b", &plain).await;
    put(proxy.address, "/b/other", &plain).await;
    let moved = store.get("/b/a/b").unwrap();
    for path in ["/c/a/b", "/b/a//b", "/b/a/./b", "/b/a%2525b", "/b/A/b", "/b/a/b%20", "/b/other"] {
        let mut object = moved.clone();
        store.put(path, object.clone());
        refuses(&proxy, path, &plain, &format!("whole object at {path}")).await;
        put(proxy.address, path, &plain).await;
        let own = store.get(path).unwrap();
        // Only the envelope, or only the body, of the other object.
        object.body = own.body.clone();
        store.put(path, object);
        refuses(&proxy, path, &plain, &format!("envelope at {path}")).await;
        let mut object = own.clone();
        object.body = moved.body.clone();
        store.put(path, object);
        refuses(&proxy, path, &plain, &format!("body at {path}")).await;
    }
}

#[tokio::test]
async fn a_stripped_envelope_is_refused_in_every_policy() {
    let mixed = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\nplaintext = \"read\"\n";
    let open = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n[[policy]]\nbucket = \"b\"\nprefix = \"k\"\nmode = \"passthrough\"\n";
    for (policy, status) in [(SEALED, 403), (mixed, 500), (open, 500)] {
        let (store, proxy) = start(policy).await;
        let plain = pattern(3 * CHUNK);
        put(proxy.address, "/b/x", &plain).await;
        let mut object = store.get("/b/x").unwrap();
        object.headers.remove(ENVELOPE);
        store.put("/b/k", object);
        assert_eq!(get(proxy.address, "/b/k").await.status, status);
        if policy != open {
            for range in ["bytes=0-10", "bytes=70000-70010", "bytes=-5"] {
                assert_eq!(get_range(proxy.address, "/b/k", range).await.status, status, "{range}");
            }
        }
    }
}

#[tokio::test]
async fn plain_objects_are_served_or_refused_as_the_policy_says() {
    let plain = pattern(70_020);
    for (plaintext, served) in [("deny", false), ("read", true)] {
        let policy =
            format!("[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\nplaintext = \"{plaintext}\"\n");
        let (store, proxy) = start(&policy).await;
        put(proxy.address, "/b/sealed", b"x").await;
        let mut object = store.get("/b/sealed").unwrap();
        object.headers.remove(ENVELOPE);
        object.body = plain.clone();
        store.put("/b/k", object);
        for (range, start, end) in [
            ("bytes=0-9", 0, 10),
            ("bytes=65536-65540", 65_536, 65_541),
            ("bytes=70000-", 70_000, 70_020),
            ("bytes=-70", 69_950, 70_020),
            ("bytes=70019-70019", 70_019, 70_020),
        ] {
            let reply = get_range(proxy.address, "/b/k", range).await;
            match served {
                true => {
                    assert_eq!((reply.status.as_u16(), reply.bytes()), (206, &plain[start..end]), "{range}");
                    assert_eq!(reply.header("content-range"), format!("bytes {start}-{}/70020", end - 1));
                }
                false => assert_eq!(reply.code(), "AccessDenied", "{range}"),
            }
        }
        let listing = String::from_utf8(get(proxy.address, "/b").await.bytes().to_vec()).unwrap();
        let sizes = if served { ["<Size>70020<", "<Size>1<"] } else { ["<Size>69908<", "<Size>1<"] };
        assert!(sizes.iter().all(|size| listing.contains(size)), "{listing}");
        assert_eq!(get(proxy.address, "/b/k").await.status.is_success(), served);
        assert_eq!(send(proxy.address, "HEAD", "/b/k", &[], &[]).await.status.is_success(), served);
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]

    #[test]
    fn ranges_are_right_to_the_byte(
        len in proptest::prelude::prop_oneof![0..200usize, (0..4usize).prop_map(|k| k * CHUNK), 60_000..200_000usize],
        cuts in proptest::collection::vec((0..210_000usize, 0..140_000usize), 8),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (store, proxy) = start(SEALED).await;
            let plain = pattern(len);
            put(proxy.address, "/b/k", &plain).await;
            assert!(get(proxy.address, "/b/k").await.bytes() == plain);
            store.take_seen();
            for (start, more) in cuts {
                for (range, from, to) in [
                    (format!("bytes={start}-{}", start + more), start, start + more + 1),
                    (format!("bytes={start}-"), start, usize::MAX),
                    (format!("bytes=-{more}"), len.saturating_sub(more), if more == 0 { 0 } else { usize::MAX }),
                ] {
                    let (from, to) = (from.min(len), to.min(len));
                    let reply = get_range(proxy.address, "/b/k", &range).await;
                    if from < to {
                        assert_eq!(reply.status, 206, "{range} of {len}");
                        assert!(reply.bytes() == &plain[from..to], "{range} of {len}");
                        assert_eq!(reply.header("content-range"), format!("bytes {from}-{}/{len}", to - 1));
                        assert_eq!(reply.header("content-length"), (to - from).to_string());
                        assert_eq!(store.take_seen().len(), 1, "one request to the store for {range} of {len}");
                    } else {
                        assert_eq!(reply.code(), "InvalidRange", "{range} of {len}");
                        assert_eq!(reply.header("content-range"), format!("bytes */{len}"));
                        store.take_seen();
                    }
                }
            }
        });
    }
}

#[tokio::test]
async fn part_one_is_the_whole_object() {
    let (_store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"hello").await;
    let reply = get(proxy.address, "/b/k?partNumber=1").await;
    assert_eq!(
        (reply.status.as_u16(), reply.bytes(), reply.header("content-range")),
        (206, &b"hello"[..], "bytes 0-4/5")
    );
    assert_eq!(get(proxy.address, "/b/k?partNumber=2").await.code(), "InvalidPartNumber");
    let both = send(proxy.address, "GET", "/b/k?partNumber=1", &[("range", "bytes=0-1")], &[]).await;
    assert_eq!(both.code(), "InvalidRequest");
}

#[tokio::test]
async fn if_range_gives_all_or_the_range() {
    let (_store, proxy) = start(SEALED).await;
    let etag = put(proxy.address, "/b/k", b"hello").await.header("etag").to_owned();
    let range = |etag: &str| [("range", "bytes=1-2".to_owned()), ("if-range", etag.to_owned())];
    for (etag, status, body) in [(etag.as_str(), 206, &b"el"[..]), ("\"other\"", 200, b"hello")] {
        let headers = range(etag);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = send(proxy.address, "GET", "/b/k", &headers, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.bytes()), (status, body));
    }
}

#[tokio::test]
async fn a_store_that_dies_or_stalls_within_a_body_never_looks_whole() {
    let (store, proxy) = start(SEALED).await;
    let plain = pattern(5 * CHUNK);
    put(proxy.address, "/b/k", &plain).await;
    for len in [
        0,
        10,
        16 + SEALED_CHUNK,
        16 + 2 * SEALED_CHUNK + 7,
        16 + 5 * SEALED_CHUNK,
        16 + 5 * SEALED_CHUNK + 63,
    ] {
        for fault in [Fault::CloseAfter(len), Fault::StallAfter(len)] {
            store.fail_next(fault);
            let reply = tokio::time::timeout(Duration::from_secs(8), get(proxy.address, "/b/k"))
                .await
                .expect("no hang");
            match reply.body {
                // Broken before the head came through, so that it could be asked again: whole and right.
                Ok(ref body) if reply.status == 200 => assert!(*body == plain, "{fault:?}"),
                Ok(_) => assert_eq!(
                    (reply.status.as_u16(), reply.code().as_str()),
                    (503, "ServiceUnavailable"),
                    "{fault:?}"
                ),
                Err(_) => assert_eq!(reply.status, 200, "{fault:?}"),
            }
        }
    }
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), plain);
}

// --- promise 3: whole or not at all --------------------------------------------------------------------------------

/// Sends a PUT whose body breaks off, or stalls, after some bytes.
async fn broken_put(proxy: &Proxy, announced: usize, sent: usize) {
    let length = announced.to_string();
    let head =
        signed(proxy.address, "PUT", "/b/k", &[("content-length", length.as_str())], BodyHash::Unsigned);
    let pieces: Vec<Result<_, std::io::Error>> =
        vec![Ok(Frame::data(Bytes::from(pattern(sent)))), Err(std::io::Error::other("the client goes away"))];
    let body: AnyBody = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
    assert!(
        exchange(proxy.address, head.map(|()| body)).await.is_none_or(|reply| !reply.status.is_success())
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let (store, proxy) = start(SEALED).await;
    for (announced, sent) in
        [(10, 0), (10, 9), (CHUNK, CHUNK - 1), (2 * CHUNK, CHUNK), (3 * CHUNK + 1, 3 * CHUNK)]
    {
        broken_put(&proxy, announced, sent).await;
    }
    // Whatever reached the store was cut: once a good write has come through, nothing else is there.
    put(proxy.address, "/b/good", b"x").await;
    assert_eq!(store.paths(), ["/b/good"]);
}

#[tokio::test]
async fn a_body_that_fails_a_check_leaves_the_old_object() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"old").await;
    let wrong_md5 = "1B2M2Y8AsgTpgAmY7PhCfg==";
    for len in [1, 100, CHUNK, 2 * CHUNK, 3 * CHUNK + 1] {
        let body = pattern(len);
        let hash = BodyHash::Sha256("00".repeat(32));
        let request = signed(proxy.address, "PUT", "/b/k", &[], hash).map(|()| full(body.clone()));
        let reply = exchange(proxy.address, request).await.unwrap();
        assert_eq!(reply.code(), "XAmzContentSHA256Mismatch", "{len}");
        for (name, value) in [
            ("content-md5", wrong_md5),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-crc32c", "AAAAAA=="),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("x-amz-checksum-md5", wrong_md5),
            ("x-amz-checksum-xxhash64", "AAAAAAAAAAA="),
            ("x-amz-checksum-xxhash3", "AAAAAAAAAAA="),
            ("x-amz-checksum-xxhash128", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ] {
            let reply = send(proxy.address, "PUT", "/b/k", &[(name, value)], &body).await;
            assert_eq!(reply.code(), "BadDigest", "{name} {len}");
        }
        let trailer = framed(&proxy, &body, "AAAAAA==").await;
        assert_eq!(trailer.code(), "BadDigest", "trailer {len}");
    }
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"old");
    assert_eq!(store.paths(), ["/b/k"]);
}

/// A PUT as today's SDKs send it: unsigned chunks, a CRC-32 behind them.
async fn framed(proxy: &Proxy, body: &[u8], crc32: &str) -> client::Reply {
    let length = body.len().to_string();
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", length.as_str()),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let head = signed(proxy.address, "PUT", "/b/k", &headers, BodyHash::UnsignedTrailer);
    let mut wire = Vec::new();
    for piece in body.chunks(50_000) {
        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{crc32}\r\n\r\n").as_bytes());
    exchange(proxy.address, head.map(|()| full(wire))).await.unwrap()
}

#[tokio::test]
async fn checksums_are_kept_and_given_back() {
    use s3veil::s3::checksum::{Algorithm, Hasher};
    let (store, proxy) = start(SEALED).await;
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    for len in [0, 5, CHUNK, 2 * CHUNK + 1] {
        let body = pattern(len);
        for algorithm in Algorithm::all() {
            let sum = Hasher::digest(algorithm, &body).to_base64();
            let name = algorithm.header();
            let reply = send(proxy.address, "PUT", "/b/k", &[(name.as_str(), &sum)], &body).await;
            assert_eq!((reply.status.as_u16(), reply.header(name.as_str())), (200, sum.as_str()));
            // SHA-512 is verified but not kept: the trailer has no room for it.
            let kept = if algorithm == Algorithm::Sha512 { Algorithm::Crc64Nvme } else { algorithm };
            let expected = Hasher::digest(kept, &body).to_base64();
            for method in ["GET", "HEAD"] {
                let reply = send(proxy.address, method, "/b/k", &mode, &[]).await;
                assert_eq!(reply.header(kept.header().as_str()), expected, "{method} {algorithm:?} {len}");
                assert_eq!(reply.header("x-amz-checksum-type"), "FULL_OBJECT");
            }
        }
        let crc32 = Hasher::digest(Algorithm::Crc32, &body).to_base64();
        assert_eq!(framed(&proxy, &body, &crc32).await.status, 200);
        assert_eq!(
            send(proxy.address, "HEAD", "/b/k", &mode, &[]).await.header("x-amz-checksum-crc32"),
            crc32
        );
        put(proxy.address, "/b/k", &body).await;
        let reply = send(proxy.address, "GET", "/b/k", &mode, &[]).await;
        assert_eq!(
            reply.header("x-amz-checksum-crc64nvme"),
            Hasher::digest(Algorithm::Crc64Nvme, &body).to_base64()
        );
    }
    // Asking for it costs no request where the object is one chunk.
    put(proxy.address, "/b/k", b"small").await;
    store.take_seen();
    send(proxy.address, "GET", "/b/k", &mode, &[]).await;
    assert_eq!(store.take_seen().len(), 1);
}

/// A checksum of the plaintext would prove a guess at it: none goes to the store, in no header, object or record.
#[tokio::test]
async fn no_checksum_of_plaintext_reaches_the_store() {
    use s3veil::s3::checksum::{Algorithm, Hasher};
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 1000", SEALED).await;
    let plains = [pattern(100), pattern(70_000), b"a short last part".to_vec()];
    let mut sums: Vec<(String, Vec<u8>)> = Vec::new();
    for plain in &plains {
        for algorithm in Algorithm::all() {
            let sum = Hasher::digest(algorithm, plain);
            let bytes = sum.value().to_vec();
            let what = format!("{algorithm:?} of {} bytes", plain.len());
            sums.push((what.clone(), sum.to_base64().into_bytes()));
            // Fewer may stand anywhere by chance.
            if bytes.len() >= 16 {
                sums.extend([(what.clone(), hex::encode(&bytes).into_bytes()), (what, bytes)]);
            }
        }
    }
    let clean = |when: &str| {
        let objects: Vec<_> = store.paths().iter().map(|path| store.get(path).unwrap()).collect();
        let uploads: Vec<_> = store.uploads().into_values().collect();
        let seen = store.take_seen();
        assert!(!seen.is_empty(), "{when}");
        let heads =
            objects.iter().map(|object| &object.headers).chain(uploads.iter().map(|upload| &upload.headers));
        let heads = heads.chain(seen.iter().map(|seen| &seen.headers));
        let values = heads.flat_map(|headers| headers.values().map(|value| value.as_bytes()));
        let parts = uploads.iter().flat_map(|upload| upload.parts.values().map(|part| part.body.as_slice()));
        let all: Vec<&[u8]> = values
            .chain(objects.iter().map(|object| object.body.as_slice()))
            .chain(seen.iter().map(|seen| seen.query.as_bytes()))
            .chain(parts)
            .collect();
        for (what, sum) in &sums {
            let there = |bytes: &&[u8]| memchr::memmem::find(bytes, sum).is_some();
            assert!(!all.iter().any(there), "{when}: {what}");
        }
    };
    for plain in &plains {
        for algorithm in Algorithm::all() {
            let (name, sum) = (algorithm.header(), Hasher::digest(algorithm, plain).to_base64());
            let reply = send(proxy.address, "PUT", "/b/k", &[(name.as_str(), &sum)], plain).await;
            assert_eq!(reply.status, 200, "{algorithm:?}: {}", reply.code());
            clean(&format!("PUT with {algorithm:?}"));
        }
        let md5 = Hasher::digest(Algorithm::Md5, plain).to_base64();
        assert_eq!(send(proxy.address, "PUT", "/b/k", &[("content-md5", &md5)], plain).await.status, 200);
        clean("PUT with Content-MD5");
        let crc32 = Hasher::digest(Algorithm::Crc32, plain).to_base64();
        assert_eq!(framed(&proxy, plain, &crc32).await.status, 200);
        clean("PUT with a trailer");
    }
    for (algorithm, name) in [(Algorithm::Sha256, "SHA256"), (Algorithm::Sha1, "SHA1")] {
        let upload = Upload::start(proxy.address, "/b/up", &[("x-amz-checksum-algorithm", name)]).await;
        clean("an upload");
        let mut list = String::new();
        for (number, plain) in (1..).zip(&plains[1..]) {
            let (header, sum) = (algorithm.header(), Hasher::digest(algorithm, plain).to_base64());
            let reply = upload.send_part(number, &[(header.as_str(), &sum)], plain).await;
            assert_eq!(reply.status, 200, "{}", reply.code());
            clean("a part");
            list.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag><Checksum{name}>{sum}</Checksum{name}></Part>",
                reply.header("etag")
            ));
        }
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let reply = send(proxy.address, "POST", &upload.at(), &[], list.as_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        clean("a completion");
    }
}

#[tokio::test]
async fn wrong_lengths_and_missing_lengths() {
    let (store, proxy) = start(SEALED).await;
    let head = signed(proxy.address, "PUT", "/b/k", &[], BodyHash::Unsigned);
    let pieces: Vec<Result<_, std::io::Error>> = vec![Ok(Frame::data(Bytes::from_static(b"no length")))];
    let body: AnyBody = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
    let reply = exchange(proxy.address, head.map(|()| body)).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (411, "MissingContentLength"));
    let huge = (5u64 << 30).to_string();
    let head = signed(proxy.address, "PUT", "/b/k", &[("content-length", huge.as_str())], BodyHash::Unsigned);
    let endless = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
    let body: AnyBody = StreamBody::new(endless).boxed_unsync();
    assert_eq!(exchange(proxy.address, head.map(|()| body)).await.unwrap().code(), "EntityTooLarge");
    assert!(store.paths().is_empty());
}

// --- promise 4: lock and erase -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_disabled_ek_locks_an_enabled_one_unlocks_a_deleted_one_erases() {
    let policy = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n[cache]\nttl_secs = 3600\n\
                  [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"a token of the operator\"\n";
    let (store, proxy) = start(policy).await;
    let admin = proxy.admin().await;
    let flush = async || {
        let request = Request::post("/cache/flush").header("authorization", "Bearer a token of the operator");
        assert_eq!(exchange(admin, request.body(full("")).unwrap()).await.unwrap().status, 200);
    };
    let kms = proxy.kms();
    let ek = EkName::parse("s3veil-dev-key").unwrap();
    assert_eq!(put(proxy.address, "/b/k", b"x").await.status, 200);

    kms.disable(&ek).await.unwrap();
    assert_eq!(get(proxy.address, "/b/k").await.status, 200, "the cached key still serves");
    flush().await;
    for (method, code) in [("GET", "KMS.DisabledException"), ("PUT", "KMS.DisabledException")] {
        let reply = send(proxy.address, method, "/b/k", &[], b"").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, code), "{method}");
    }
    assert!(!send(proxy.address, "HEAD", "/b/k", &[], &[]).await.status.is_success());

    kms.enable(&ek).await.unwrap();
    flush().await;
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"x");

    kms.delete(&ek).await.unwrap();
    flush().await;
    assert_eq!(get(proxy.address, "/b/k").await.code(), "KMS.NotFoundException");
    kms.create(&ek).await.unwrap();
    flush().await;
    assert_eq!(
        get(proxy.address, "/b/k").await.code(),
        "KMS.InvalidCiphertextException",
        "a key of the same name is another"
    );
    assert_eq!(store.paths(), ["/b/k"]);
}
