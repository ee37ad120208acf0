//! Composite objects read through the whole proxy: every range against a plain model, and what a store can do to them.

mod support;

use proptest::prelude::*;
use support::client::{Reply, attempt, get, get_range, put, send};
use support::memory::{Fault, MemoryStore, Object};
use support::proxy::{Proxy, SEALED, pattern};
use support::upload::Upload;

const CHUNK: usize = 65_536;
const ENVELOPE: &str = "x-amz-meta-s3veil";

/// A store and a proxy that takes parts of any size where they are.
async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", SEALED).await;
    (store, proxy)
}

/// Bytes that no other part has.
fn plain(number: u32, len: usize) -> Vec<u8> {
    pattern(len).into_iter().map(|byte| byte ^ (number * 37) as u8).collect()
}

fn parts(sizes: &[(u32, usize)]) -> Vec<(u32, Vec<u8>)> {
    sizes.iter().map(|(number, len)| (*number, plain(*number, *len))).collect()
}

fn joined(parts: &[(u32, Vec<u8>)]) -> Vec<u8> {
    parts.iter().flat_map(|(_, plain)| plain.clone()).collect()
}

// --- every range against a plain model -----------------------------------------------------------------------------

/// Reads bytes `from` to `to` by this range, and compares.
async fn agrees(proxy: &Proxy, range: &str, whole: &[u8], (from, to): (usize, usize)) {
    let len = whole.len();
    let (from, to) = (from.min(len), to.min(len));
    let reply = get_range(proxy.address, "/b/k", range).await;
    if from < to {
        assert_eq!(reply.status, 206, "{range} of {len}: {}", reply.code());
        assert!(reply.bytes() == &whole[from..to], "{range} of {len}");
        assert_eq!(reply.header("content-range"), format!("bytes {from}-{}/{len}", to - 1));
        assert_eq!(reply.header("content-length"), (to - from).to_string());
    } else {
        assert_eq!(reply.code(), "InvalidRange", "{range} of {len}");
        assert_eq!(reply.header("content-range"), format!("bytes */{len}"));
    }
}

fn layouts() -> impl Strategy<Value = Vec<(u32, usize)>> {
    let length = prop_oneof![
        0..200_usize,
        (0..3_usize, -2..=2_isize).prop_map(|(k, d)| (k * CHUNK).saturating_add_signed(d)),
        0..150_000_usize,
    ];
    proptest::collection::btree_map(1..=9_999_u32, length, 1..6).prop_map(|parts| parts.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..Default::default() })]

    #[test]
    fn ranges_and_parts_are_right_to_the_byte(
        sizes in layouts(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..140_000_usize), 6),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (store, writer) = start().await;
            let parts = parts(&sizes);
            let whole = joined(&parts);
            assert_eq!(Upload::whole(writer.address, "/b/k", &parts).await.status, 200);
            for (at, more) in cuts {
                let start = at.index(whole.len() + 2);
                // The first read by this one knows nothing of the object.
                let proxy = Proxy::start_beside(&writer, &store.endpoint, SEALED).await;
                agrees(&proxy, &format!("bytes={start}-{}", start + more), &whole, (start, start + more + 1)).await;
                agrees(&proxy, &format!("bytes={start}-"), &whole, (start, usize::MAX)).await;
                let end = if more == 0 { 0 } else { usize::MAX };
                agrees(&proxy, &format!("bytes=-{more}"), &whole, (whole.len().saturating_sub(more), end)).await;
            }
            assert!(get(writer.address, "/b/k").await.bytes() == whole);
            let mut before = 0;
            for (number, plain) in &parts {
                let path = format!("/b/k?partNumber={number}");
                let reply = get(writer.address, &path).await;
                assert!(reply.status.is_success() && reply.bytes() == plain, "part {number}");
                let head = send(writer.address, "HEAD", &path, &[], b"").await;
                for reply in [&reply, &head] {
                    assert_eq!(reply.header("x-amz-mp-parts-count"), parts.len().to_string());
                    assert_eq!(reply.header("content-length"), plain.len().to_string());
                    if !plain.is_empty() {
                        let end = before + plain.len() - 1;
                        assert_eq!(reply.header("content-range"), format!("bytes {before}-{end}/{}", whole.len()));
                    }
                }
                before += plain.len();
            }
            let missing = (1..).find(|number| parts.iter().all(|(known, _)| known != number)).unwrap();
            let reply = get(writer.address, &format!("/b/k?partNumber={missing}")).await;
            assert_eq!(reply.code(), "InvalidPartNumber");
        });
    }
}

/// What a replica remembers of a key is no more than a guess: whatever takes the object's place is read as it is.
#[tokio::test]
async fn another_object_in_its_place_is_read_as_it_is() {
    let policy = format!("{SEALED}plaintext = \"read\"\n");
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", &policy).await;
    let composite = parts(&[(1, 3 * CHUNK), (2, 100_000), (3, 10)]);
    let reads = ["bytes=0-9", "bytes=5-70000", "bytes=196600-196700", "bytes=-5", "bytes=70000-70001"];
    for turn in ["stream", "short", "plain", "parts", "empty"] {
        assert_eq!(Upload::whole(proxy.address, "/b/k", &composite).await.status, 200);
        agrees(&proxy, "bytes=200000-200009", &joined(&composite), (200_000, 200_010)).await;
        let whole = match turn {
            "stream" => pattern(300_000),
            "short" => pattern(100),
            "plain" => pattern(250_000),
            "parts" => joined(&parts(&[(1, 10), (2, 2 * CHUNK), (3, 100_000)])),
            _ => Vec::new(),
        };
        match turn {
            "plain" => {
                store.put("/b/k", Object { body: whole.clone(), headers: [etag()].into_iter().collect() })
            }
            "parts" => {
                let parts = parts(&[(1, 10), (2, 2 * CHUNK), (3, 100_000)]);
                assert_eq!(Upload::whole(proxy.address, "/b/k", &parts).await.status, 200);
            }
            _ => assert_eq!(put(proxy.address, "/b/k", &whole).await.status, 200),
        }
        for range in reads {
            let spec = s3veil::s3::range::RangeSpec::parse(&range.parse().unwrap()).unwrap();
            let (from, to) = spec.resolve(whole.len() as u64).unwrap_or((0, 0));
            agrees(&proxy, range, &whole, (from as usize, to as usize)).await;
        }
        assert!(get(proxy.address, "/b/k").await.bytes() == whole, "{turn}");
    }
}

fn etag() -> (http::HeaderName, http::HeaderValue) {
    (http::header::ETAG, http::HeaderValue::from_static("\"plain\""))
}

#[tokio::test]
async fn conditions_hold_for_composite_objects() {
    let (_store, proxy) = start().await;
    let parts = parts(&[(1, 70_000), (2, 10)]);
    Upload::whole(proxy.address, "/b/k", &parts).await;
    let etag = send(proxy.address, "HEAD", "/b/k", &[], b"").await.header("etag").to_owned();
    let read = async |headers: &[(&str, &str)]| send(proxy.address, "GET", "/b/k", headers, b"").await;
    for range in ["bytes=3-5", "bytes=69999-70001"] {
        assert_eq!(read(&[("range", range), ("if-range", &etag)]).await.status, 206, "{range}");
        let all = read(&[("range", range), ("if-range", "\"other\"")]).await;
        assert_eq!(all.status, 200, "{range}");
        assert!(all.bytes() == joined(&parts), "{range}");
        assert_eq!(read(&[("range", range), ("if-match", "\"other\"")]).await.status, 412, "{range}");
        assert_eq!(read(&[("range", range), ("if-none-match", &etag)]).await.status, 304, "{range}");
    }
}

/// What a client says of the answer's headers holds however many requests the answer took.
#[tokio::test]
async fn overridden_headers_are_in_every_answer() {
    let (_store, proxy) = start().await;
    Upload::whole(proxy.address, "/b/k", &parts(&[(1, 3 * CHUNK), (2, 100_000), (3, 10)])).await;
    let path = "/b/k?response-content-type=text";
    for turn in ["cold", "warm"] {
        for range in ["bytes=0-9", "bytes=100000-100009", "bytes=290000-290009", "bytes=-5"] {
            let reply = get_range(proxy.address, path, range).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("content-type")),
                (206, "text"),
                "{turn} {range}"
            );
        }
        for part in 1..=3 {
            let reply = get(proxy.address, &format!("{path}&partNumber={part}")).await;
            assert_eq!((reply.status.as_u16(), reply.header("content-type")), (206, "text"), "{turn} {part}");
        }
    }
}

// --- what a store can do -------------------------------------------------------------------------------------------

/// A composite object in pieces: its parts as sealed, and the block.
#[derive(Clone)]
struct Stored {
    headers: http::HeaderMap,
    parts: Vec<Vec<u8>>,
    block: Vec<u8>,
}

impl Stored {
    fn of(store: &MemoryStore, path: &str, parts: &[(u32, Vec<u8>)]) -> Self {
        let object = store.get(path).unwrap();
        let (mut rest, mut pieces) = (object.body.as_slice(), Vec::new());
        for (_, plain) in parts {
            let sealed = plain.len() + 16 * plain.len().div_ceil(CHUNK).max(1) + 48;
            let (part, behind) = rest.split_at(sealed);
            pieces.push(part.to_vec());
            rest = behind;
        }
        Self { headers: object.headers, parts: pieces, block: rest.to_vec() }
    }

    fn put(&self, store: &MemoryStore, path: &str) {
        let body = [self.parts.concat().as_slice(), &self.block].concat();
        store.put(path, Object { body, headers: self.headers.clone() });
    }
}

/// What a store does to an object, by its name.
type Damage<'a> = (&'a str, Box<dyn Fn(&mut Stored) + 'a>);

fn damage<'a>(what: &'a str, change: impl Fn(&mut Stored) + 'a) -> Damage<'a> {
    (what, Box::new(change))
}

/// The bytes of the plaintext from `from` on, and no others, or an error. Whether it is an error.
fn never_other(reply: Option<Reply>, whole: &[u8], from: usize, what: &str) -> bool {
    // A connection may close before the head has gone out.
    let Some(reply) = reply else { return true };
    let refused = !reply.status.is_success() || reply.body.is_err();
    if reply.status.is_success() {
        assert!(whole[from..].starts_with(&reply.received), "{what}: other bytes");
    }
    refused
}

/// F-8, F-9 through the whole proxy, by one that knows the object and by one that does not.
#[tokio::test]
async fn parts_and_manifest_stay_where_they_are() {
    let (store, warm) = start().await;
    let parts = parts(&[(1, 70_000), (2, 70_000), (5, 70_000)]);
    let whole = joined(&parts);
    let upload = async |path: &str| {
        assert_eq!(Upload::whole(warm.address, path, &parts).await.status, 200);
        Stored::of(&store, path, &parts)
    };
    let (older, elsewhere) = (upload("/b/k").await, upload("/b/other").await);
    let good = upload("/b/k").await;
    put(warm.address, "/b/stream", &whole).await;
    let stream = store.get("/b/stream").unwrap();
    let damages = [
        damage("a part dropped", |s| drop(s.parts.remove(1))),
        damage("the last part dropped", |s| drop(s.parts.pop())),
        damage("doubled", |s| s.parts.insert(1, s.parts[1].clone())),
        damage("one in the place of another", |s| s.parts[1] = s.parts[0].clone()),
        damage("swapped", |s| s.parts.swap(0, 1)),
        damage("of an older upload of the key", |s| s.parts[1] = older.parts[1].clone()),
        damage("of another key", |s| s.parts[2] = elsewhere.parts[2].clone()),
        damage("all parts of an older upload", |s| s.parts = older.parts.clone()),
        damage("another salt", |s| s.parts[1][20] ^= 1),
        damage("another magic", |s| s.parts[1][3] ^= 1),
        damage("no manifest", |s| s.block.clear()),
        damage("the manifest cut at its end", |s| s.block.truncate(s.block.len() - 1)),
        damage("the manifest cut in front", |s| drop(s.block.drain(..1))),
        damage("the manifest twice", |s| s.block = [s.block.clone(), s.block.clone()].concat()),
        damage("the manifest in front", |s| s.parts.insert(0, std::mem::take(&mut s.block))),
        damage("the manifest of an older upload", |s| s.block = older.block.clone()),
        damage("the manifest of another key", |s| s.block = elsewhere.block.clone()),
        damage("manifest and envelope of an older upload", |s| {
            (s.block, s.headers) = (older.block.clone(), older.headers.clone());
        }),
        damage("the envelope of an older upload", |s| s.headers = older.headers.clone()),
        damage("another key's object", |s| *s = elsewhere.clone()),
        damage("the envelope of a stream", |s| s.headers = stream.headers.clone()),
        damage("the body of a stream", |s| (s.parts, s.block) = (vec![stream.body.clone()], Vec::new())),
        damage("padding altered", |s| {
            let at = s.block.len() - 100;
            s.block[at] ^= 1;
        }),
        damage("padding shorter by a chunk's size", |s| drop(s.parts[0].drain(48..48 + CHUNK + 16))),
        damage("padding longer by a chunk's size", |s| {
            s.block.splice(60..60, vec![0; CHUNK + 16]).for_each(drop)
        }),
        damage("the footer says less", |s| {
            let at = s.block.len() - 1;
            s.block[at] = s.block[at].wrapping_sub(1);
        }),
        damage("no envelope", |s| drop(s.headers.remove(ENVELOPE))),
    ];
    for (what, change) in &damages {
        let cold = Proxy::start_beside(&warm, &store.endpoint, SEALED).await;
        assert!(get(warm.address, "/b/k").await.bytes() == whole);
        let mut bad = good.clone();
        change(&mut bad);
        bad.put(&store, "/b/k");
        for (proxy, who) in [(&cold, "cold"), (&warm, "warm")] {
            let what = format!("{what}, {who}");
            let read = attempt(proxy.address, "/b/k", &[]).await;
            // Who has the manifest does not read it again.
            let right = who == "warm" && read.as_ref().is_some_and(|read| read.received == whole);
            assert!(never_other(read, &whole, 0, &what) || right, "{what}: served");
            for from in [0, 1, 69_998, 69_999, 70_000, 100_000, 139_999, 140_000, 209_998] {
                let range = format!("bytes={from}-{}", from + 1);
                never_other(attempt(proxy.address, "/b/k", &[("range", &range)]).await, &whole, from, &what);
            }
            for (number, from) in [(1, 0), (2, 70_000), (5, 140_000)] {
                let path = format!("/b/k?partNumber={number}");
                never_other(attempt(proxy.address, &path, &[]).await, &whole, from, &what);
            }
        }
        // And nothing of it is remembered.
        good.put(&store, "/b/k");
        for (proxy, who) in [(&cold, "cold"), (&warm, "warm")] {
            assert!(get(proxy.address, "/b/k").await.bytes() == whole, "{what}, {who}: read again");
            for from in [0, 69_999, 70_000, 100_000, 139_999, 140_001, 209_998] {
                agrees(proxy, &format!("bytes={from}-{}", from + 1), &whole, (from, from + 2)).await;
            }
        }
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_composite_object_is_an_error() {
    let (store, proxy) = start().await;
    let parts = parts(&[(1, 30), (2, 0), (3, 20)]);
    let whole = joined(&parts);
    assert_eq!(Upload::whole(proxy.address, "/b/k", &parts).await.status, 200);
    let good = Stored::of(&store, "/b/k", &parts);
    let object = store.get("/b/k").unwrap();
    let (sealed, total) = (good.parts.concat().len(), object.body.len());
    // All of the block, too, but of its tens of thousands of zeros only some.
    let block =
        (sealed..sealed + 200).chain((sealed + 200..total - 100).step_by(211)).chain(total - 100..total);
    // The manifest is remembered once it has been opened: those in the block come first.
    for at in block.chain(0..sealed) {
        store.change("/b/k", |object| object.body[at] ^= 1);
        let what = format!("byte {at}");
        assert!(never_other(attempt(proxy.address, "/b/k", &[]).await, &whole, 0, &what), "{what}: served");
        store.change("/b/k", |object| object.body[at] ^= 1);
    }
    assert!(get(proxy.address, "/b/k").await.bytes() == whole);
    let envelope = object.headers[ENVELOPE].to_str().unwrap().to_owned();
    for at in 0..envelope.len() {
        let mut bytes = envelope.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        store.change("/b/k", |object| {
            object.headers.insert(ENVELOPE, String::from_utf8(bytes).unwrap().parse().unwrap());
        });
        for method in ["GET", "HEAD"] {
            let reply = send(proxy.address, method, "/b/k", &[], b"").await;
            assert!(!reply.status.is_success(), "a {method} believes envelope character {at}");
        }
        store.put("/b/k", object.clone());
    }
}

#[tokio::test]
async fn a_store_that_dies_within_a_composite_body_never_looks_whole() {
    let (store, proxy) = start().await;
    let parts = parts(&[(1, 2 * CHUNK), (2, 2 * CHUNK), (3, 5)]);
    let whole = joined(&parts);
    Upload::whole(proxy.address, "/b/k", &parts).await;
    let size = store.get("/b/k").unwrap().body.len();
    for len in
        [0, 10, 16 + 48, CHUNK + 64, 2 * (CHUNK + 16) + 48, 4 * (CHUNK + 16) + 96, size - CHUNK, size - 1]
    {
        for warm in [false, true] {
            if warm {
                assert!(get(proxy.address, "/b/k").await.bytes() == whole);
            }
            store.fail_next(Fault::CloseAfter(len));
            let Some(reply) = attempt(proxy.address, "/b/k", &[]).await else { continue };
            match reply.body {
                // What was cut off is not read for a whole one, or it was asked for again.
                Ok(ref body) if reply.status == 200 => assert!(*body == whole, "{len}"),
                Ok(_) => assert_eq!(reply.code(), "ServiceUnavailable", "{len}"),
                Err(_) => assert!(whole.starts_with(&reply.received), "{len}"),
            }
        }
    }
}

/// One takes the other's place between the head and the manifest: the client gets one of the two, whole, and no error.
#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_read_again() {
    let (store, proxy) = start().await;
    let (before, after) = (parts(&[(1, 70_000), (2, 300)]), parts(&[(1, 66_000), (2, 900)]));
    Upload::whole(proxy.address, "/b/k", &before).await;
    // It does not know the object's manifest yet.
    let other = Proxy::start_beside(&proxy, &store.endpoint, SEALED).await;
    let reader = other.address;
    // The HEAD that finds where a part begins goes through, what is read by it waits.
    let held = store.hold_next_of(http::Method::GET);
    let reading = tokio::spawn(async move { send(reader, "GET", "/b/k?partNumber=2", &[], b"").await });
    held.met().await;
    Upload::whole(proxy.address, "/b/k", &after).await;
    held.release();
    let reply = reading.await.unwrap();
    assert_eq!(reply.status, 206, "{}", reply.code());
    assert!(reply.bytes() == &after[1].1[..]);
}
