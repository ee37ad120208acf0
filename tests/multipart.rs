//! Multipart uploads through the whole proxy: parts of any size, what a client does wrong, how an upload ends.

mod support;

use std::collections::HashSet;

use http::Method;
use s3veil::aws::sign::BodyHash;
use s3veil::s3::checksum::{Algorithm, Hasher};
use support::client::{get, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, pattern};
use support::upload::{Upload, document, inner};

const CHUNK: usize = 65_536;

/// The least bytes of a part in the middle, here.
const LEAST: usize = 1000;

async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with(&store.endpoint, &format!("min_part_bytes = {LEAST}"), SEALED).await;
    (store, proxy)
}

/// Bytes that no other part has.
fn plain(number: u32, len: usize) -> Vec<u8> {
    pattern(len).into_iter().map(|byte| byte ^ (number * 37) as u8).collect()
}

#[tokio::test]
async fn parts_of_any_size_in_any_order() {
    let (store, proxy) = start().await;
    let metadata = [("x-amz-meta-a", "b"), ("content-type", "text/x")];
    let upload = Upload::start(proxy.address, "/b/a%20k", &metadata).await;
    let sizes = [(9_999, 7), (4, 3 * CHUNK + 1), (1, LEAST), (2, CHUNK), (17, 2 * CHUNK - 1)];
    upload.part(4, &plain(99, 5 * CHUNK)).await;
    upload.part(9_999, &plain(98, 2 * CHUNK)).await;
    let mut parts = Vec::new();
    for (number, len) in sizes {
        parts.push((number, upload.part(number, &plain(number, len)).await));
    }
    upload.part(5, &plain(5, 2000)).await; // Left out.
    parts.sort();
    let done = upload.complete(&parts).await;
    assert_eq!(done.status, 200, "{}", done.code());
    assert_eq!((inner(&done, "Bucket"), inner(&done, "Key")), ("b".into(), "a k".into()));
    let expected: Vec<u8> = [(1, LEAST), (2, CHUNK), (4, 3 * CHUNK + 1), (17, 2 * CHUNK - 1), (9_999, 7)]
        .iter()
        .flat_map(|(number, len)| plain(*number, *len))
        .collect();
    let reply = get(proxy.address, "/b/a%20k").await;
    assert!(reply.bytes() == expected);
    let head = send(proxy.address, "HEAD", "/b/a%20k", &[], b"").await;
    for reply in [&reply, &head] {
        assert_eq!(reply.header("content-length"), expected.len().to_string());
        assert_eq!((reply.header("x-amz-meta-a"), reply.header("content-type")), ("b", "text/x"));
        assert_eq!(reply.header("etag"), inner(&done, "ETag").replace("&quot;", "\""));
        assert_eq!(reply.header("x-amz-server-side-encryption"), "aws:kms");
        assert!(!reply.headers.contains_key("x-amz-meta-s3veil"));
    }
    let listing = get(proxy.address, "/b").await;
    assert_eq!(inner(&listing, "Size"), expected.len().to_string());
    assert_eq!(store.paths(), ["/b/a%20k"], "nothing is left of the upload");
    assert!(store.uploads().is_empty());
}

#[tokio::test]
async fn one_part_alone_may_have_any_size() {
    let (store, proxy) = start().await;
    for len in [0, 1, LEAST - 1, LEAST, CHUNK, CHUNK + 1] {
        let done = Upload::whole(proxy.address, "/b/k", &[(3, plain(3, len))]).await;
        assert_eq!(done.status, 200, "{len}: {}", done.code());
        assert!(get(proxy.address, "/b/k").await.bytes() == plain(3, len), "{len}");
        let part = get(proxy.address, "/b/k?partNumber=3").await;
        assert!(part.status.is_success() && part.bytes() == plain(3, len), "{len}: {}", part.code());
        assert_eq!(part.header("x-amz-mp-parts-count"), "1", "{len}");
        assert_eq!(store.paths(), ["/b/k"], "{len}");
    }
}

/// Promise 1: at no time does the store hold plaintext, be it of a whole part, of one kept aside, or in the record.
#[tokio::test]
async fn the_store_never_sees_plaintext_of_a_part() {
    let (store, proxy) = start().await;
    let parts = [(1, plain(1, 70_000)), (2, plain(2, 999)), (3, plain(3, 40))];
    let windows: HashSet<&[u8]> = parts.iter().flat_map(|(_, plain)| plain.windows(12)).collect();
    let clean = |when: &str| {
        let objects = store.paths().into_iter().map(|path| store.get(&path).unwrap().body);
        let parts = store.uploads().into_values().flat_map(|upload| upload.parts.into_values());
        for body in objects.chain(parts.map(|part| part.body)) {
            assert!(!body.windows(12).any(|window| windows.contains(window)), "{when}");
        }
    };
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    clean("begun");
    let mut list = Vec::new();
    for (number, plain) in &parts {
        list.push((*number, upload.part(*number, plain).await));
        clean("with a part");
    }
    assert_eq!(store.paths().len(), 3, "the record and two parts kept aside");
    let list = [list[0].clone(), list[2].clone()];
    assert_eq!(upload.complete(&list).await.status, 200);
    clean("completed");
    assert!(store.get("/b/k").unwrap().headers.contains_key("x-amz-meta-s3veil"));
    let read = get(proxy.address, "/b/k").await;
    assert!(read.bytes() == [parts[0].1.as_slice(), &parts[2].1].concat());
}

/// Promise 3, by parts: what fails a check leaves no part.
#[tokio::test]
async fn a_part_that_fails_a_check_is_not_there() {
    let (store, proxy) = start().await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    for len in [1, LEAST - 1, LEAST, CHUNK, 3 * CHUNK + 1] {
        for (name, value) in [
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ] {
            let reply = upload.send_part(1, &[(name, value)], &plain(1, len)).await;
            assert_eq!(reply.code(), "BadDigest", "{name} {len}");
        }
    }
    assert!(inner(&upload.list().await, "PartNumber").is_empty());
    assert!(store.uploads()[&upload.id].parts.is_empty());
    assert_eq!(store.paths().len(), 1, "the record");
    // One that was there stays as it was.
    let good = upload.part(1, &plain(1, 5000)).await;
    upload.send_part(1, &[("x-amz-checksum-crc32", "AAAAAA==")], &plain(2, 5000)).await;
    assert_eq!(upload.complete(&[(1, good)]).await.status, 200);
    assert!(get(proxy.address, "/b/k").await.bytes() == plain(1, 5000));
}

#[tokio::test]
async fn errors_are_those_of_s3() {
    let (store, proxy) = start().await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    let (one, short, three) = (
        upload.part(1, &plain(1, 5000)).await,
        upload.part(2, b"x").await,
        upload.part(3, &plain(3, 5000)).await,
    );
    let none = "\"00000000000000000000000000000000\"".to_owned();
    let (a, b, c) = ((1, one.clone()), (2, short.clone()), (3, three.clone()));
    for (what, list, code) in [
        ("wrong ETag", vec![(1, none.clone())], "InvalidPart"),
        ("wrong ETag of a part kept aside", vec![a.clone(), (2, none.clone())], "InvalidPart"),
        ("ETag of another part", vec![a.clone(), (3, one.clone())], "InvalidPart"),
        ("no such part", vec![a.clone(), (4, three.clone())], "InvalidPart"),
        ("order", vec![c.clone(), a.clone()], "InvalidPartOrder"),
        ("twice", vec![a.clone(), a.clone()], "InvalidPartOrder"),
        ("small in the middle", vec![a.clone(), b.clone(), c.clone()], "EntityTooSmall"),
        ("small in front", vec![b.clone(), c.clone()], "EntityTooSmall"),
        ("none", vec![], "MalformedXML"),
        ("number 0", vec![(0, one.clone())], "MalformedXML"),
        ("the manifest's number", vec![a.clone(), (10_000, one.clone())], "MalformedXML"),
    ] {
        let reply = upload.complete(&list).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, code), "{what}");
        assert!(store.get("/b/k").is_none(), "{what}");
    }
    for number in [0, 10_000, 10_001] {
        assert_eq!(upload.send_part(number, &[], b"x").await.code(), "InvalidArgument", "{number}");
    }
    for other in [
        Upload { id: "upload-77".into(), ..upload.clone() },
        Upload { path: "/b/other".into(), ..upload.clone() },
        Upload { path: "/c/k".into(), ..upload.clone() },
    ] {
        for reply in [
            other.send_part(1, &[], &plain(1, 5000)).await,
            other.send_part(1, &[], b"short").await,
            other.complete(&[(1, one.clone())]).await,
            other.list().await,
            other.abort().await,
        ] {
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "NoSuchUpload"), "{other:?}");
        }
    }
    let reply = upload.complete_with(&[(1, one.clone())], &[("x-amz-mp-object-size", "4999")]).await;
    assert_eq!(reply.code(), "InvalidRequest");
    let copy = [("x-amz-copy-source", "b/missing")];
    assert_eq!(upload.send_part(5, &copy, b"").await.code(), "NoSuchKey");
    // After all that, the upload is as good as before.
    let reply = upload.complete_with(&[a, c], &[("x-amz-mp-object-size", "10000")]).await;
    assert_eq!(reply.status, 200, "{}", reply.code());
    assert!(get(proxy.address, "/b/k").await.bytes() == [plain(1, 5000), plain(3, 5000)].concat());
    assert_eq!(store.paths(), ["/b/k"]);
}

#[tokio::test]
async fn parts_are_listed_as_they_were_sent() {
    let (store, proxy) = start().await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    for (number, len) in [(7, 0), (2, 999), (1, CHUNK), (5, CHUNK + 1), (6, 5000)] {
        upload.part(number, &plain(number, len)).await;
    }
    let sizes = |reply: &support::client::Reply| {
        let text = String::from_utf8_lossy(reply.bytes()).into_owned();
        let part = |text: &str| {
            let of = |name: &str| {
                let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
                rest.split_once('<').unwrap().0.parse::<usize>().unwrap()
            };
            (of("PartNumber"), of("Size"))
        };
        text.split("<Part>").skip(1).map(part).collect::<Vec<_>>()
    };
    let all = [(1, CHUNK), (2, 999), (5, CHUNK + 1), (6, 5000), (7, 0)];
    let reply = upload.list().await;
    assert_eq!(sizes(&reply), all);
    assert_eq!(inner(&reply, "IsTruncated"), "false");
    // Page by page, of any length.
    for most in 1..=6 {
        let (mut marker, mut seen) = ("0".to_owned(), Vec::new());
        loop {
            let path = format!("{}&max-parts={most}&part-number-marker={marker}", upload.at());
            let page = get(proxy.address, &path).await;
            assert!(sizes(&page).len() <= most);
            seen.extend(sizes(&page));
            marker = inner(&page, "NextPartNumberMarker");
            if inner(&page, "IsTruncated") != "true" {
                break;
            }
        }
        assert_eq!(seen, all, "{most} at a time");
    }
    // A completion that the store refused leaves the manifest as a part there: nobody sees it.
    let list = [(1, upload.part(1, &plain(1, CHUNK)).await)];
    store.fail_next_of(Method::POST, Fault::Refuse("AccessDenied"));
    assert_eq!(upload.complete(&list).await.code(), "AccessDenied");
    assert!(store.uploads()[&upload.id].parts.contains_key(&10_000));
    assert_eq!(sizes(&upload.list().await), all);
}

#[tokio::test]
async fn checksums_of_an_upload_are_checked_and_kept() {
    let (_store, proxy) = start().await;
    let (one, two) = (plain(1, 5000), plain(2, 300));
    let whole = [one.as_slice(), &two].concat();
    let sum = |algorithm, bytes: &[u8]| Hasher::digest(algorithm, bytes);
    for (algorithm, name, kind) in [
        (Algorithm::Crc32, "CRC32", "COMPOSITE"),
        (Algorithm::Crc32, "CRC32", "FULL_OBJECT"),
        (Algorithm::Crc64Nvme, "CRC64NVME", "FULL_OBJECT"),
        (Algorithm::Sha256, "SHA256", "COMPOSITE"),
    ] {
        let asked = [("x-amz-checksum-algorithm", name), ("x-amz-checksum-type", kind)];
        let upload = Upload::start(proxy.address, "/b/k", &asked).await;
        let mut parts = String::new();
        for (number, bytes) in [(1, &one), (2, &two)] {
            let text = sum(algorithm, bytes).to_base64();
            let header = algorithm.header();
            let reply = upload.send_part(number, &[(header.as_str(), &text)], bytes).await;
            assert_eq!(reply.header(header.as_str()), text, "{name} {kind}");
            let etag = reply.header("etag");
            parts.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Checksum{name}>{text}</Checksum{name}></Part>"
            ));
        }
        let expected = match kind {
            "COMPOSITE" => {
                let sums = [sum(algorithm, &one).value(), sum(algorithm, &two).value()].concat();
                format!("{}-2", sum(algorithm, &sums).to_base64())
            }
            _ => sum(algorithm, &whole).to_base64(),
        };
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let header = algorithm.header();
        let wrong = sum(algorithm, b"other").to_base64();
        let claim = [(header.as_str(), wrong.as_str())];
        let reply = send(proxy.address, "POST", &upload.at(), &claim, list.as_bytes()).await;
        assert_eq!(reply.code(), "BadDigest", "{name} {kind}");
        let claim = [(header.as_str(), expected.as_str())];
        let reply = send(proxy.address, "POST", &upload.at(), &claim, list.as_bytes()).await;
        assert_eq!(reply.status, 200, "{name} {kind}: {}", reply.code());
        assert_eq!(inner(&reply, &format!("Checksum{name}")), expected);
        for method in ["GET", "HEAD"] {
            let mode = [("x-amz-checksum-mode", "ENABLED")];
            let reply = send(proxy.address, method, "/b/k", &mode, b"").await;
            assert_eq!(reply.header(header.as_str()), expected, "{method} {name} {kind}");
            assert_eq!(reply.header("x-amz-checksum-type"), kind);
        }
        assert!(get(proxy.address, "/b/k").await.bytes() == whole);
    }
}

// --- how an upload ends --------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_completion_may_be_repeated() {
    let (store, proxy) = start().await;
    for len in [10, 5000] {
        let upload = Upload::start(proxy.address, "/b/k", &[]).await;
        let list = [(1, upload.part(1, &plain(1, 5000)).await), (2, upload.part(2, &plain(2, len)).await)];
        let first = upload.complete(&list).await;
        let stored = store.get("/b/k").unwrap();
        let second = upload.complete(&list).await;
        assert_eq!(second.status, 200, "{}", second.code());
        assert_eq!(inner(&second, "ETag"), inner(&first, "ETag"));
        assert_eq!(store.get("/b/k").unwrap().body, stored.body);
        let other = [(1, list[0].1.clone())];
        assert_eq!(upload.complete(&other).await.code(), "NoSuchUpload", "with other parts");
        assert_eq!(refused(&upload, 1).await, "NoSuchUpload");
        // Another object is there by now.
        put(proxy.address, "/b/k", b"x").await;
        assert_eq!(upload.complete(&list).await.code(), "NoSuchUpload");
        assert_eq!(store.paths(), ["/b/k"]);
    }
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let (store, proxy) = start().await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    let list = [(1, upload.part(1, &plain(1, 5000)).await), (2, upload.part(2, b"short").await)];
    assert_eq!(upload.abort().await.status, 204);
    assert!(store.paths().is_empty() && store.uploads().is_empty());
    assert_eq!(upload.complete(&list).await.code(), "NoSuchUpload");
    assert_eq!(refused(&upload, 5000).await, "NoSuchUpload");
    assert_eq!(refused(&upload, 1).await, "NoSuchUpload");
    assert_eq!(upload.abort().await.code(), "NoSuchUpload");
    assert!(store.paths().is_empty());
}

/// What the store could not finish can be tried again, by whichever way it failed.
#[tokio::test]
async fn a_completion_that_failed_can_be_tried_again() {
    let (store, proxy) = start().await;
    // Status 200 with an error in the body is S3's own way to fail late.
    for (method, fault) in [
        (Method::POST, Fault::Status(200)),
        (Method::POST, Fault::Status(500)),
        (Method::POST, Fault::Close),
        (Method::PUT, Fault::Status(503)),
        (Method::PUT, Fault::Close),
        (Method::GET, Fault::Status(500)),
    ] {
        let upload = Upload::start(proxy.address, "/b/k", &[]).await;
        let list = [(1, upload.part(1, &plain(1, 5000)).await), (2, upload.part(2, &plain(2, 9)).await)];
        store.fail_next_of(method.clone(), fault);
        let reply = upload.complete(&list).await;
        assert!(!reply.status.is_success() || reply.code() == "Injected", "{method} {fault:?}");
        let reply = upload.complete(&list).await;
        assert_eq!(reply.status, 200, "{method} {fault:?}: {}", reply.code());
        assert!(get(proxy.address, "/b/k").await.bytes() == [plain(1, 5000), plain(2, 9)].concat());
        assert_eq!(store.paths(), ["/b/k"], "{method} {fault:?}");
    }
}

#[tokio::test]
async fn a_completion_goes_on_when_its_client_hangs_up() {
    use tokio::io::AsyncWriteExt;
    let (store, proxy) = start().await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    let list = [(1, upload.part(1, &plain(1, 5000)).await), (2, upload.part(2, &plain(2, 9)).await)];
    let body = document(&list);
    let length = body.len().to_string();
    let hash = BodyHash::Sha256(hex::encode(Hasher::digest(Algorithm::Sha256, &body).value()));
    let head = signed(proxy.address, "POST", &upload.at(), &[("content-length", &length)], hash);
    let mut text = format!("POST {} HTTP/1.1\r\n", upload.at());
    for (name, value) in head.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str("\r\n");
    let held = store.hold_next_of(Method::POST);
    let mut client = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(&[text.as_bytes(), &body].concat()).await.unwrap();
    held.met().await;
    drop(client);
    // Whatever a hang-up stops has stopped when other requests have gone through.
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/b/k").await.code(), "NoSuchKey");
    }
    held.release();
    let gone = async {
        while store.paths() != ["/b/k"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .expect("the object is there, its state gone");
    assert!(get(proxy.address, "/b/k").await.bytes() == [plain(1, 5000), plain(2, 9)].concat());
}

#[tokio::test]
async fn a_condition_on_a_completion_is_the_stores() {
    let (store, proxy) = start().await;
    put(proxy.address, "/b/k", b"old").await;
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    let list = [(1, upload.part(1, b"new").await)];
    let reply = upload.complete_with(&list, &[("if-none-match", "*")]).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (412, "PreconditionFailed"));
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"old");
    send(proxy.address, "DELETE", "/b/k", &[], b"").await;
    assert_eq!(upload.complete_with(&list, &[("if-none-match", "*")]).await.status, 200);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"new");
    assert_eq!(store.paths(), ["/b/k"]);
}

/// Two replicas share nothing but the store.
#[tokio::test]
async fn any_replica_goes_on_with_any_upload() {
    let (store, one) = start().await;
    let two =
        Proxy::run(one.keys.clone(), &store.endpoint, &format!("min_part_bytes = {LEAST}"), SEALED).await;
    let upload = Upload::start(one.address, "/b/k", &[]).await;
    let there = Upload { to: two.address, ..upload.clone() };
    let list = [
        (1, upload.part(1, &plain(1, 5000)).await),
        (2, there.part(2, &plain(2, 70_000)).await),
        (3, there.part(3, &plain(3, 9)).await),
    ];
    assert_eq!(inner(&get(two.address, "/b?uploads").await, "UploadId"), upload.id);
    assert_eq!(upload.complete(&list).await.status, 200);
    assert_eq!(refused(&there, 9).await, "NoSuchUpload", "it remembers an upload that ended elsewhere");
    assert_eq!(there.complete(&list).await.status, 200, "repeated at the other one");
    for replica in [&one, &two] {
        let body = get(replica.address, "/b/k").await;
        assert!(body.bytes() == [plain(1, 5000), plain(2, 70_000), plain(3, 9)].concat());
    }
    assert_eq!(store.paths(), ["/b/k"]);
}

/// The code that another part of this length is refused with.
async fn refused(upload: &Upload, len: usize) -> String {
    upload.send_part(9, &[], &plain(9, len)).await.code()
}
