//! Copies through the whole proxy: sealed bodies stay in the store, and what streams through is whole or not there.

mod support;

use http::Method;
use support::client::{Reply, get, put, send};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, pattern};
use support::upload::{Upload, inner};

const CHUNK: usize = 65_536;
const ENVELOPE: &str = "x-amz-meta-s3veil";

/// Buckets that seal, and one, `plain`, that does not.
async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let policy = format!("{SEALED}[[policy]]\nbucket = \"plain\"\nmode = \"passthrough\"\n");
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", &policy).await;
    (store, proxy)
}

async fn copy(proxy: &Proxy, from: &str, to: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("x-amz-copy-source", from)], headers].concat();
    send(proxy.address, "PUT", to, &headers, b"").await
}

/// A stream and a composite object, and what they say.
async fn sources(proxy: &Proxy) -> [(&'static str, Vec<u8>); 2] {
    let (stream, parts) = (pattern(3 * CHUNK + 5), [(1, pattern(CHUNK + 1)), (4, pattern(70_000))]);
    let metadata = [("x-amz-meta-a", "b"), ("content-type", "text/x")];
    assert_eq!(send(proxy.address, "PUT", "/b/stream", &metadata, &stream).await.status, 200);
    let upload = Upload::start(proxy.address, "/b/parts", &metadata).await;
    let mut list = Vec::new();
    for (number, part) in &parts {
        list.push((*number, upload.part(*number, part).await));
    }
    assert_eq!(upload.complete(&list).await.status, 200);
    [("stream", stream), ("parts", [parts[0].1.as_slice(), &parts[1].1].concat())]
}

#[tokio::test]
async fn a_sealed_body_never_travels() {
    let (store, proxy) = start().await;
    for (name, whole) in sources(&proxy).await {
        let source = format!("/b/{name}");
        let before = store.get(&source).unwrap();
        for (to, replaced) in
            [("/b/copy", false), ("/c/k%20%C3%A9", false), ("/c/k", true), (source.as_str(), true)]
        {
            let metadata: &[_] = match replaced {
                true => &[("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-c", "d")],
                false => &[("x-amz-meta-c", "ignored")],
            };
            store.take_seen();
            let reply = copy(&proxy, &source, to, metadata).await;
            assert_eq!(reply.status, 200, "{to}: {}", reply.code());
            let sent = store.take_seen();
            let put = sent.iter().find(|seen| seen.method == Method::PUT).unwrap();
            assert!(put.headers.contains_key("x-amz-copy-source"));
            assert_eq!(put.headers["x-amz-copy-source-if-match"], before.headers["etag"]);
            assert!(
                sent.iter().all(|seen| seen.headers.get("content-length").is_none_or(|length| length == "0"))
            );
            let after = store.get(to).unwrap();
            assert!(after.body == before.body, "the same bytes");
            assert_ne!(after.headers[ENVELOPE], before.headers[ENVELOPE], "another envelope");
            let read = get(proxy.address, to).await;
            assert!(read.bytes() == whole, "{to}");
            let (a, c) = if replaced { ("", "d") } else { ("b", "") };
            assert_eq!((read.header("x-amz-meta-a"), read.header("x-amz-meta-c")), (a, c), "{to}");
            let quoted = inner(&reply, "ETag").replace("&quot;", "\"");
            assert_eq!(read.header("etag"), quoted, "{to}");
        }
        // The envelope of the copy is of its place.
        let copied = store.get("/b/copy").unwrap();
        store.put("/b/moved", copied);
        assert!(!get(proxy.address, "/b/moved").await.status.is_success());
        let part = get(proxy.address, "/b/copy?partNumber=1").await;
        assert_eq!(part.header("x-amz-mp-parts-count"), if name == "parts" { "2" } else { "" });
    }
}

#[tokio::test]
async fn between_sealed_and_plain_the_bytes_stream_through() {
    let (store, proxy) = start().await;
    for (name, whole) in sources(&proxy).await {
        assert_eq!(copy(&proxy, &format!("b/{name}"), "/plain/k", &[]).await.status, 200);
        let plain = store.get("/plain/k").unwrap();
        assert!(plain.body == whole && !plain.headers.contains_key(ENVELOPE), "{name}");
        assert_eq!(plain.headers["x-amz-meta-a"], "b");
        assert_eq!(copy(&proxy, "plain/k", "/b/back", &[]).await.status, 200);
        assert!(store.get("/b/back").unwrap().headers.contains_key(ENVELOPE));
        let read = get(proxy.address, "/b/back").await;
        assert!(read.bytes() == whole && read.header("x-amz-meta-a") == "b", "{name}");
        assert_eq!(copy(&proxy, "plain/k", "/plain/other", &[]).await.status, 200);
        assert!(store.get("/plain/other").unwrap().body == whole);
    }
}

#[tokio::test]
async fn what_s3_refuses_is_refused() {
    let (store, proxy) = start().await;
    sources(&proxy).await;
    let etag = send(proxy.address, "HEAD", "/b/parts", &[], b"").await.header("etag").to_owned();
    for (from, to, headers, code) in [
        ("b/missing", "/b/new", &[][..], "NoSuchKey"),
        ("b/stream", "/b/stream", &[], "InvalidRequest"),
        ("b/parts", "/b/new", &[("x-amz-copy-source-if-match", "\"other\"")], "PreconditionFailed"),
        ("b/parts", "/b/new", &[("x-amz-copy-source-if-none-match", &etag)], "PreconditionFailed"),
        ("b/parts", "/plain/new", &[("x-amz-copy-source-if-match", "\"other\"")], "PreconditionFailed"),
        ("nowhere", "/b/new", &[], "InvalidArgument"),
    ] {
        assert_eq!(copy(&proxy, from, to, headers).await.code(), code, "{from} {to} {headers:?}");
    }
    assert!(store.get("/b/new").is_none() && store.get("/plain/new").is_none());
    assert_eq!(copy(&proxy, "b/parts", "/b/new", &[("x-amz-copy-source-if-match", &etag)]).await.status, 200);
}

/// A source that the store has damaged, or that breaks off, leaves nothing where its plaintext streams to.
#[tokio::test]
async fn a_damaged_source_leaves_no_copy() {
    let (store, proxy) = start().await;
    for (name, _) in sources(&proxy).await {
        let (source, path) = (format!("b/{name}"), format!("/b/{name}"));
        let good = store.get(&path).unwrap();
        let upload = Upload::start(proxy.address, "/b/target", &[]).await;
        let refused = async |what: &str| {
            let reply = copy(&proxy, &source, "/plain/k", &[]).await;
            assert!(!reply.status.is_success(), "{name}, {what}");
            assert!(store.get("/plain/k").is_none(), "{name}, {what}");
            let from = [("x-amz-copy-source", source.as_str())];
            let reply = upload.send_part(1, &from, b"").await;
            assert!(!reply.status.is_success(), "{name}, {what}");
            assert!(store.uploads()[&upload.id].parts.is_empty(), "{name}, {what}");
        };
        for at in [100, CHUNK + 200, 2 * CHUNK + 300] {
            store.change(&path, |object| object.body[at] ^= 1);
            refused(&format!("byte {at}")).await;
            store.put(&path, good.clone());
        }
        store.change(&path, |object| object.body.truncate(good.body.len() - CHUNK - 16));
        refused("cut by a chunk").await;
        store.put(&path, good.clone());
        for len in [0, 100, CHUNK + 500] {
            // Each read of a body meets it: no second try is better than the first.
            for _ in 0..2 {
                store.fail_next_of(Method::GET, Fault::CloseAfter(len));
            }
            let reply = copy(&proxy, &source, "/plain/k", &[]).await;
            let whole = store.get("/plain/k").map(|object| object.body);
            match reply.status.is_success() {
                true => assert!(whole.unwrap() == get(proxy.address, &path).await.bytes(), "{name} {len}"),
                false => assert_eq!(whole, None, "{name} {len}"),
            }
            send(proxy.address, "DELETE", "/plain/k", &[], b"").await;
            while store.take_fault().is_some() {}
        }
        upload.abort().await;
    }
}

#[tokio::test]
async fn parts_may_be_copies() {
    let (store, proxy) = start().await;
    let sources = sources(&proxy).await;
    put(proxy.address, "/plain/source", &sources[0].1).await;
    let plain = ("plain", sources[0].1.clone());
    for (name, whole) in sources.into_iter().chain([plain]) {
        let source = if name == "plain" { "plain/source".to_owned() } else { format!("b/{name}") };
        for target in ["/c/k", "/plain/k"] {
            let upload = Upload::start(proxy.address, target, &[]).await;
            let (mut list, mut expected) = (Vec::new(), Vec::new());
            for (number, range) in [
                (1, None),
                (2, Some((0, 9))),
                (3, Some((CHUNK - 1, CHUNK + 3))),
                (5, Some((70_000, whole.len() - 1))),
            ] {
                let text = range.map(|(first, last)| format!("bytes={first}-{last}"));
                let mut headers = vec![("x-amz-copy-source", source.as_str())];
                headers.extend(text.iter().map(|text| ("x-amz-copy-source-range", text.as_str())));
                let reply = upload.send_part(number, &headers, b"").await;
                assert_eq!(reply.status, 200, "{source} to {target}, {range:?}: {}", reply.code());
                list.push((number, inner(&reply, "ETag").replace("&quot;", "\"")));
                let (first, last) = range.unwrap_or((0, whole.len() - 1));
                expected.extend_from_slice(&whole[first..=last]);
            }
            let beyond = format!("bytes=5-{}", whole.len());
            let headers = [("x-amz-copy-source", source.as_str()), ("x-amz-copy-source-range", &beyond)];
            assert_eq!(
                upload.send_part(6, &headers, b"").await.code(),
                "InvalidArgument",
                "{source} to {target}"
            );
            assert_eq!(upload.complete(&list).await.status, 200);
            assert!(get(proxy.address, target).await.bytes() == expected, "{source} to {target}");
            assert_eq!(store.get(target).unwrap().headers.contains_key(ENVELOPE), target == "/c/k");
        }
    }
}

/// Replaced metadata, as a copy within the store always has it, makes some stores take tags that nobody asked for.
#[tokio::test]
async fn tags_count_only_with_the_directive_to_replace_them() {
    let (store, proxy) = start().await;
    put(proxy.address, "/b/k", b"x").await;
    for (directive, counts) in [(None, false), (Some("COPY"), false), (Some("REPLACE"), true)] {
        let mut headers = vec![("x-amz-tagging", "a=1")];
        headers.extend(directive.map(|directive| ("x-amz-tagging-directive", directive)));
        store.take_seen();
        assert_eq!(copy(&proxy, "/b/k", "/b/copy", &headers).await.status, 200);
        let sent = store.take_seen();
        let sent = sent.iter().find(|seen| seen.method == Method::PUT).unwrap();
        assert_eq!(sent.headers.contains_key("x-amz-tagging"), counts, "{directive:?}");
    }
}
