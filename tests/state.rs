//! What s3veil keeps at the store of an upload under way: hidden, out of reach, never in the way, and not believed.

mod support;

use http::HeaderMap;
use support::client::{get, put, send};
use support::memory::{Fault, MemoryStore, Object};
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::{Upload, inner};

/// An upload under way with a part of each kind, in a bucket with one object.
async fn under_way(proxy: &Proxy) -> Upload {
    assert_eq!(put(proxy.address, "/b/seen", b"x").await.status, 200);
    let upload = Upload::start(proxy.address, "/b/k", &[]).await;
    upload.part(1, b"short").await;
    upload
}

fn state(store: &MemoryStore) -> Vec<String> {
    store.paths().into_iter().filter(|path| path.contains("/.s3veil/")).collect()
}

#[tokio::test]
async fn no_listing_shows_it() {
    let (store, proxy) = start(SEALED).await;
    under_way(&proxy).await;
    assert_eq!(state(&store).len(), 2, "the record and a part kept aside");
    let dot = "prefix=.s3veil%2F";
    for query in [
        "",
        "list-type=2",
        "versions",
        "delimiter=/",
        "list-type=2&delimiter=/",
        "versions&delimiter=/",
        dot,
        &format!("{dot}&delimiter=/"),
        &format!("list-type=2&{dot}&delimiter=/"),
        &format!("versions&{dot}uploads%2F&delimiter=/"),
        "list-type=2&delimiter=d",
        "list-type=2&prefix=.s3&delimiter=/u",
    ] {
        let listing = get(proxy.address, &format!("/b?{query}")).await;
        assert_eq!(listing.status, 200, "{query}");
        let text = String::from_utf8_lossy(listing.bytes()).into_owned();
        assert!(!text.contains(".s3veil"), "{query}: {text}");
        assert_eq!(text.contains("<Key>seen</Key>"), !query.contains(".s3"), "{query}: {text}");
    }
    let uploads = get(proxy.address, "/b?uploads").await;
    assert_eq!(inner(&uploads, "Key"), "k");
    assert!(!String::from_utf8_lossy(uploads.bytes()).contains(".s3veil"));
}

#[tokio::test]
async fn no_client_reaches_it() {
    let (store, proxy) = start(SEALED).await;
    let upload = under_way(&proxy).await;
    let before: Vec<_> = state(&store).iter().map(|path| store.get(path).unwrap().body).collect();
    store.take_seen();
    let record = state(&store)[1].clone();
    let (_, key) = record.trim_start_matches('/').split_once('/').unwrap();
    for key in [
        key.to_owned(),
        format!("/{key}"),
        format!("./{key}"),
        key.replacen('.', "%2E", 1),
        ".s3veil/new".into(),
    ] {
        let path = format!("/b/{key}");
        for (method, query) in [
            ("GET", ""),
            ("HEAD", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("GET", "?attributes"),
            ("GET", "?acl"),
            ("PUT", "?tagging"),
            ("POST", "?uploads"),
            ("PUT", "?partNumber=1&uploadId=u"),
            ("POST", "?uploadId=u"),
            ("GET", "?uploadId=u"),
            ("DELETE", "?uploadId=u"),
        ] {
            let reply = send(proxy.address, method, &format!("{path}{query}"), &[], b"").await;
            assert_eq!(reply.status, 403, "{method} {path}{query}");
        }
        for source in [format!("b/{key}"), format!("/b/{key}?versionId=null")] {
            let copy = [("x-amz-copy-source", source.as_str())];
            for target in ["/b/copy".to_owned(), format!("/b/k?partNumber=2&uploadId={}", upload.id)] {
                assert_eq!(
                    send(proxy.address, "PUT", &target, &copy, b"").await.code(),
                    "AccessDenied",
                    "{source}"
                );
            }
        }
        let document = format!("<Delete><Object><Key>{}</Key></Object></Delete>", key.replace("%2E", "."));
        assert_eq!(
            send(proxy.address, "POST", "/b?delete", &[], document.as_bytes()).await.code(),
            "AccessDenied"
        );
    }
    assert!(store.take_seen().is_empty(), "nothing reached the store");
    let after: Vec<_> = state(&store).iter().map(|path| store.get(path).unwrap().body).collect();
    assert!(after == before);
}

#[tokio::test]
async fn it_may_stand_in_another_bucket() {
    let store = MemoryStore::start().await;
    let policy = format!("{SEALED}[state]\nbucket = \"kept\"\n");
    let proxy = Proxy::start(&store.endpoint, &policy).await;
    let upload = under_way(&proxy).await;
    assert!(state(&store).iter().all(|path| path.starts_with("/kept/.s3veil/")), "{:?}", store.paths());
    assert_eq!(state(&store).len(), 2);
    for bucket in ["/b", "/kept"] {
        let listing = get(proxy.address, bucket).await;
        assert!(!String::from_utf8_lossy(listing.bytes()).contains(".s3veil"), "{bucket}");
    }
    // The same upload id in another bucket has state of its own.
    let etag = upload.part(1, b"longer").await;
    assert_eq!(inner(&upload.list().await, "Size"), "6");
    let aborted = Upload::start(proxy.address, "/c/k", &[]).await;
    aborted.part(1, b"x").await;
    assert_eq!(state(&store).len(), 4);
    assert_eq!(aborted.abort().await.status, 204);
    assert_eq!(state(&store).len(), 2);
    // What is kept there is others': it does not go with the bucket.
    assert_eq!(send(proxy.address, "DELETE", "/kept", &[], b"").await.code(), "BucketNotEmpty");
    assert_eq!(upload.complete(&[(1, etag)]).await.status, 200);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"longer");
    assert_eq!(store.paths(), ["/b/k", "/b/seen"]);
    assert_eq!(send(proxy.address, "DELETE", "/kept", &[], b"").await.status, 204);
}

#[tokio::test]
async fn a_bucket_that_looks_empty_can_be_deleted() {
    let (store, proxy) = start(SEALED).await;
    let delete = async || send(proxy.address, "DELETE", "/b", &[], b"").await;
    assert_eq!(delete().await.status, 204, "empty");
    let upload = under_way(&proxy).await;
    assert_eq!(delete().await.code(), "BucketNotEmpty");
    assert_eq!(state(&store).len(), 2, "as long as a client's object is there, nothing is touched");
    // Before the prefix, behind it, and beside it.
    for key in ["%21", "-x", ".s3veil", ".s3veil0", ".s3veils/x", "z"] {
        assert_eq!(put(proxy.address, &format!("/b/{key}"), b"x").await.status, 200);
        send(proxy.address, "DELETE", "/b/seen", &[], b"").await;
        assert_eq!(delete().await.code(), "BucketNotEmpty", "{key}");
        assert_eq!(state(&store).len(), 2, "{key}");
        send(proxy.address, "DELETE", &format!("/b/{key}"), &[], b"").await;
    }
    // A store that fails meanwhile: its first answer stands, and the client may try again.
    store.fail_next_of(http::Method::GET, Fault::Status(500));
    store.fail_next_of(http::Method::GET, Fault::Status(500));
    assert_eq!(delete().await.code(), "BucketNotEmpty");
    assert_eq!(delete().await.status, 204);
    assert!(store.paths().is_empty());
    assert_eq!(upload.send_part(2, &[], b"x").await.code(), "NoSuchUpload");
}

/// More than a page of it, and a client's object behind that.
#[tokio::test]
async fn a_bucket_with_much_left_behind_can_be_deleted() {
    let (store, proxy) = start(SEALED).await;
    for at in 0..2500 {
        let path = format!("/b/.s3veil/uploads/{at:05}/record");
        store.put(&path, Object { body: Vec::new(), headers: HeaderMap::new() });
    }
    put(proxy.address, "/b/z", b"x").await;
    assert_eq!(send(proxy.address, "DELETE", "/b", &[], b"").await.code(), "BucketNotEmpty");
    assert_eq!(store.paths().len(), 2501);
    send(proxy.address, "DELETE", "/b/z", &[], b"").await;
    assert_eq!(send(proxy.address, "DELETE", "/b", &[], b"").await.status, 204);
    assert!(store.paths().is_empty());
}

/// The record and the parts kept aside are the store's to change: what comes of it is an error, or what was written.
#[tokio::test]
async fn it_is_not_believed() {
    let (store, proxy) = start(SEALED).await;
    let parts = [pattern(5 << 20), pattern(100)];
    let begin = async |path: &str| {
        let before = store.paths();
        let upload = Upload::start(proxy.address, path, &[]).await;
        let list = [(1, upload.part(1, &parts[0]).await), (2, upload.part(2, &parts[1]).await)];
        let paths: Vec<String> = store.paths().into_iter().filter(|path| !before.contains(path)).collect();
        let [aside, record] = paths.try_into().expect("a part kept aside, and the record");
        (upload, list, aside, record)
    };
    let (_, _, other_aside, other_record) = begin("/b/other").await;
    let aside_of = |path: &str| store.get(path).unwrap();
    // The record of another upload, one that is cut, one of nothing: no completion believes it.
    for (what, change) in [
        ("another's", &(|_: Vec<u8>| aside_of(&other_record).body) as &dyn Fn(Vec<u8>) -> Vec<u8>),
        ("cut", &|record| record[..record.len() - 5].to_vec()),
        ("empty", &|_| Vec::new()),
        ("with another's envelope", &|record| {
            let envelope = |record: &[u8]| {
                let text = String::from_utf8(record.to_vec()).unwrap();
                let (_, rest) = text.split_once("\"envelope\":\"").unwrap();
                rest.split_once('"').unwrap().0.to_owned()
            };
            let (mine, other) = (envelope(&record), envelope(&aside_of(&other_record).body));
            String::from_utf8(record).unwrap().replace(&mine, &other).into_bytes()
        }),
    ] {
        let (upload, list, _, record) = begin("/b/k").await;
        let good = store.get(&record).unwrap();
        let changed = change(good.body.clone());
        store.change(&record, |object| object.body = changed);
        let reply = upload.complete(&list).await;
        assert!(!reply.status.is_success(), "{what}");
        assert_eq!(get(proxy.address, "/b/k").await.code(), "NoSuchKey", "{what}");
        store.put(&record, good);
        assert_eq!(upload.complete(&list).await.status, 200, "{what}: put right");
        assert!(get(proxy.address, "/b/k").await.bytes() == parts.concat());
        send(proxy.address, "DELETE", "/b/k", &[], b"").await;
    }
    // Another body under the ETag of a part kept aside: the object does not open.
    for (what, body) in [
        ("another upload's", aside_of(&other_aside).body),
        ("another length", vec![0; 164 + 1]),
        ("plaintext", pattern(164)),
    ] {
        let (upload, list, aside, _) = begin("/b/k").await;
        store.change(&aside, |object| object.body = body);
        upload.complete(&list).await;
        let reply = get(proxy.address, "/b/k").await;
        assert!(reply.body.is_err() || !reply.status.is_success(), "{what}");
        assert!(parts.concat().starts_with(&reply.received) || !reply.status.is_success(), "{what}");
    }
}

/// S3: parts that are on their way when an upload is aborted may come after it. One of them stays for good where nobody looks
/// for it any more.
#[tokio::test]
async fn a_part_that_comes_after_the_end_leaves_nothing() {
    let (store, proxy) = start(SEALED).await;
    let upload = under_way(&proxy).await;
    let held = store.hold_next_of(http::Method::PUT);
    let late = tokio::spawn({
        let path = upload.path.clone();
        let at = format!("{path}?partNumber=2&uploadId={}", upload.id);
        async move { send(proxy.address, "PUT", &at, &[], b"late").await }
    });
    held.met().await;
    assert_eq!(upload.abort().await.status, 204);
    assert_eq!(state(&store), [""; 0]);
    held.release();
    let late = late.await.unwrap();
    assert_eq!((late.status.as_u16(), late.code().as_str()), (404, "NoSuchUpload"));
    assert_eq!(state(&store), [""; 0]);
}
