//! Requests to the store for each operation, on a cold replica and on a warm one: the table in `docs/performance.md`.
//!
//! Cold is a replica that has not met the object or the upload, but has its keys; warm is the same one, the next time.

mod support;

use std::fmt::Write as _;

use support::client::{get, get_range, put, send};
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED, pattern};
use support::upload::Upload;

const CHUNK: usize = 65_536;
const PART: usize = 40 * CHUNK;

/// The store, a replica that writes, and one that is asked.
struct Bench {
    store: MemoryStore,
    writer: Proxy,
    asked: Proxy,
    table: String,
}

impl Bench {
    async fn start() -> Self {
        let store = MemoryStore::start().await;
        let writer = Proxy::start(&store.endpoint, SEALED).await;
        let asked = Proxy::start_beside(&writer, &store.endpoint, SEALED).await;
        Self { store, writer, asked, table: String::new() }
    }

    /// Another replica that knows nothing but its keys.
    async fn cold(&mut self) {
        self.asked = Proxy::start_beside(&self.writer, &self.store.endpoint, SEALED).await;
    }

    /// How many requests reached the store since the last time.
    fn seen(&self) -> usize {
        self.store.take_seen().len()
    }

    fn row(&mut self, what: &str, cold: usize, warm: usize) {
        writeln!(self.table, "| {what} | {cold} | {warm} |").unwrap();
    }

    /// A request that can be repeated, on a replica that has not met its object before.
    async fn twice(&mut self, what: &str, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.cold().await;
        let mut counts = [0; 2];
        for count in &mut counts {
            self.seen();
            let reply = send(self.asked.address, method, path, headers, b"").await;
            assert!(reply.status.is_success(), "{what}: {}", reply.status);
            assert!(reply.body.is_ok(), "{what}");
            *count = self.seen();
        }
        self.row(what, counts[0], counts[1]);
    }
}

#[tokio::test]
async fn requests_are_as_many_as_the_documentation_says() {
    let mut bench = Bench::start().await;
    let writer = bench.writer.address;
    put(writer, "/b/stream", &pattern(3 * CHUNK)).await;
    let parts: Vec<(u32, Vec<u8>)> = (1..=3).map(|number| (number, pattern(2 * PART))).collect();
    assert_eq!(Upload::whole(writer, "/b/parts", &parts).await.status, 200);
    put(writer, "/c/stream", b"x").await;

    bench.twice("PutObject", "PUT", "/b/new", &[]).await;
    bench.twice("GetObject", "GET", "/b/stream", &[]).await;
    bench.twice("GetObject, a range", "GET", "/b/stream", &[("range", "bytes=100000-100009")]).await;
    bench.twice("GetObject, the range past the end", "GET", "/b/stream", &[("range", "bytes=-5")]).await;
    bench.twice("HeadObject", "HEAD", "/b/stream", &[]).await;
    bench.twice("CopyObject", "PUT", "/b/copy", &[("x-amz-copy-source", "b/stream")]).await;
    bench.twice("DeleteObject", "DELETE", "/b/copy", &[]).await;
    bench.twice("ListObjectsV2", "GET", "/c?list-type=2", &[]).await;
    bench.twice("GetObject of a composite object", "GET", "/b/parts", &[]).await;
    bench.twice("a range at the beginning of a part", "GET", "/b/parts", &[("range", "bytes=0-9")]).await;
    let middle = format!("bytes={}-{}", 3 * PART, 3 * PART + CHUNK - 1);
    bench.twice("a range in the middle of a part", "GET", "/b/parts", &[("range", &middle)]).await;
    bench.twice("a part by its number", "GET", "/b/parts?partNumber=2", &[]).await;
    bench.twice("its last bytes", "GET", "/b/parts", &[("range", "bytes=-8")]).await;
    bench.twice("HeadObject of a composite object", "HEAD", "/b/parts", &[]).await;
    bench
        .twice("CopyObject of a composite object", "PUT", "/b/copied", &[("x-amz-copy-source", "b/parts")])
        .await;
    send(writer, "DELETE", "/b/copied", &[], b"").await;
    send(writer, "DELETE", "/b/stream", &[], b"").await;
    send(writer, "DELETE", "/b/new", &[], b"").await;
    bench.twice("ListObjectsV2 with one composite object", "GET", "/b?list-type=2", &[]).await;

    uploads(&mut bench).await;
    let document = include_str!("../docs/performance.md");
    assert!(
        document.contains(&bench.table),
        "docs/performance.md has another table than this:\n{}",
        bench.table
    );
}

/// An upload by one replica, and by one that did not begin it.
async fn uploads(bench: &mut Bench) {
    let mut counts: Vec<(&str, [usize; 2])> = Vec::new();
    for cold in [0, 1] {
        let warm = 1 - cold;
        let mut count =
            |what: &'static str, seen: usize| match counts.iter_mut().find(|(name, _)| *name == what) {
                Some((_, row)) => row[warm] = seen,
                None => counts.push((what, if warm == 1 { [0, seen] } else { [seen, 0] })),
            };
        for (complete, short) in
            [("CompleteMultipartUpload", false), ("the same with a short last part", true)]
        {
            bench.seen();
            let mut upload = Upload::start(bench.writer.address, "/b/u", &[]).await;
            count("CreateMultipartUpload", bench.seen());
            let elsewhere = async |bench: &mut Bench, upload: &mut Upload| {
                if cold == 1 {
                    bench.cold().await;
                    upload.to = bench.asked.address;
                }
                bench.seen();
            };
            elsewhere(bench, &mut upload).await;
            let mut list = vec![(1, upload.part(1, &pattern(2 * PART)).await)];
            count("UploadPart", bench.seen());
            if short {
                elsewhere(bench, &mut upload).await;
                list.push((2, upload.part(2, b"short").await));
                count("UploadPart of less than 5 MiB", bench.seen());
            }
            elsewhere(bench, &mut upload).await;
            assert_eq!(upload.list().await.status, 200);
            count("ListParts", bench.seen());
            elsewhere(bench, &mut upload).await;
            assert_eq!(upload.complete(&list).await.status, 200);
            count(complete, bench.seen());
        }
        let mut upload = Upload::start(bench.writer.address, "/b/u", &[]).await;
        if cold == 1 {
            bench.cold().await;
            upload.to = bench.asked.address;
        }
        let copy = [("x-amz-copy-source", "b/parts"), ("x-amz-copy-source-range", "bytes=0-5242879")];
        bench.seen();
        assert_eq!(upload.send_part(1, &copy, b"").await.status, 200);
        count("UploadPartCopy of 5 MiB of a composite object", bench.seen());
        assert_eq!(upload.abort().await.status, 204);
        count("AbortMultipartUpload", bench.seen());
    }
    for (what, [cold, warm]) in counts {
        bench.row(what, cold, warm);
    }
}

/// Random reads in a large object: what columnar formats and databases do.
#[tokio::test]
async fn random_reads_take_at_most_two_requests_and_then_one() {
    let mut bench = Bench::start().await;
    let parts: Vec<(u32, Vec<u8>)> = (1..=8).map(|number| (number, pattern(2 * PART + 11))).collect();
    let whole: Vec<u8> = parts.iter().flat_map(|(_, plain)| plain.clone()).collect();
    assert_eq!(Upload::whole(bench.writer.address, "/b/k", &parts).await.status, 200);
    bench.cold().await;
    // Their first look is at the object's end; it finds the manifest.
    assert_eq!(get_range(bench.asked.address, "/b/k", "bytes=-8").await.status, 206);
    let mut met = [false; 8];
    for at in (0..60_usize).map(|turn| turn * 7_919_993 % (whole.len() - CHUNK)) {
        bench.seen();
        let reply = get_range(bench.asked.address, "/b/k", &format!("bytes={at}-{}", at + CHUNK - 1)).await;
        assert!(reply.bytes() == &whole[at..at + CHUNK], "{at}");
        let (part, within) = (at / (2 * PART + 11), at % (2 * PART + 11));
        // A part's first chunk comes with the salt, any other wants it once.
        let most = if within < CHUNK || std::mem::replace(&mut met[part], true) { 1 } else { 2 };
        let seen = bench.seen();
        assert!((1..=most).contains(&seen), "{seen} requests for byte {at} in part {part}");
    }
    assert!(met.iter().all(|met| *met));
    assert!(get(bench.asked.address, "/b/k").await.bytes() == whole);
}
