//! `s3veil gc`, the real program, on MinIO: what ended uploads left is removed, and nothing else.

#[path = "support/servers.rs"]
mod servers;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use servers::Store;
use support::client::{Reply, get, put, send_as};
use support::program::Program;
use support::proxy::pattern;
use support::upload::Upload;
use tempfile::TempDir;

const FIRST: usize = 5 << 20;

struct Kept {
    store: Store,
    proxy: Program,
    configuration: PathBuf,
    _directory: TempDir,
}

impl Kept {
    async fn start(more: &str) -> Option<Self> {
        let store = match servers::minio() {
            Ok(store) => store,
            Err(why) => {
                servers::skip(&why);
                return None;
            }
        };
        let directory = TempDir::new().unwrap();
        let configuration = Program::configure(directory.path(), &store.settings(), more).await;
        let proxy = Program::start(&configuration);
        Some(Self { store, proxy, configuration, _directory: directory })
    }

    /// A request to the store, past s3veil.
    async fn direct(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let reply =
            send_as(self.store.signer(), self.store.address(), method, path, headers, body.as_bytes()).await;
        assert!(reply.status.is_success(), "{method} {path}: {}", reply.code());
        reply
    }

    /// How many objects, versions and delete markers under `.s3veil/` the store has in a bucket.
    async fn own(&self, bucket: &str) -> usize {
        let listing = self.direct("GET", &format!("{bucket}?versions"), &[], "").await;
        String::from_utf8_lossy(listing.bytes()).matches("<Key>.s3veil/").count()
    }

    /// An upload with a part at the store and one kept aside, sent twice.
    async fn upload(&self, path: &str) -> (Upload, [(u32, String); 2]) {
        let upload = Upload::start(self.proxy.address, path, &[]).await;
        upload.part(2, b"other").await;
        let parts = [(1, upload.part(1, &pattern(FIRST)).await), (2, upload.part(2, b"short").await)];
        (upload, parts)
    }

    /// Aborted where s3veil does not see it, as a lifecycle rule of the store does.
    async fn abandoned(&self, path: &str) {
        let (upload, _) = self.upload(path).await;
        self.direct("DELETE", &upload.at(), &[], "").await;
    }
}

fn gc(configuration: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_s3veil"))
        .args(["gc", "--config", configuration.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

/// What it printed, and its last line.
fn said(output: &Output) -> (String, String) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    (text, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_uploads_left_is_removed_and_nothing_else() {
    let Some(kept) = Kept::start("").await else { return };
    let (proxy, configuration) = (kept.proxy.address, kept.configuration.as_path());
    for bucket in ["/plain", "/versioned"] {
        assert_eq!(put(proxy, bucket, b"").await.status, 200);
    }
    let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    kept.direct("PUT", "/versioned?versioning", &[], versions).await;

    let mut under_way = Vec::new();
    for bucket in ["/plain", "/versioned"] {
        assert_eq!(put(proxy, &format!("{bucket}/object"), b"x").await.status, 200);
        under_way.push(kept.upload(&format!("{bucket}/going%20on")).await);
        kept.abandoned(&format!("{bucket}/aborted")).await;
    }
    let before = [kept.own("/plain").await, kept.own("/versioned").await];
    assert_eq!(before, [4, 6], "a record and a part of each, and a part's older version");

    let (_, last) = said(&gc(configuration, &[]));
    assert_eq!(
        last,
        "2 buckets: 0 ended uploads to remove with --delete (0 bytes), 0 under way, 4 not older than 7 days, 0 errors"
    );
    let (text, last) = said(&gc(configuration, &["--older-than", "0"]));
    assert!(last.starts_with("2 buckets: 2 ended uploads to remove with --delete ("), "{text}");
    assert!(last.ends_with(" bytes), 2 under way, 0 not older than 0 days, 0 errors"), "{text}");
    assert!(text.contains("of an ended upload to s3://plain/aborted, 2 objects, "), "{text}");
    assert!(text.contains("of an ended upload to s3://versioned/aborted, 3 objects, "), "{text}");
    assert_eq!([kept.own("/plain").await, kept.own("/versioned").await], before, "only shown");

    let (text, _) = said(&gc(configuration, &["--older-than", "0", "--delete", "s3://plain"]));
    assert!(text.contains("s3://plain/.s3veil/uploads/") && !text.contains("s3://versioned"), "{text}");
    assert_eq!([kept.own("/plain").await, kept.own("/versioned").await], [2, 6]);
    said(&gc(configuration, &["--older-than", "0", "--delete"]));
    assert_eq!([kept.own("/plain").await, kept.own("/versioned").await], [2, 3]);

    for (upload, parts) in under_way {
        assert_eq!(upload.complete(&parts).await.status, 200);
        let body = [pattern(FIRST), b"short".to_vec()].concat();
        assert!(get(proxy, &upload.path).await.bytes() == body);
    }
    assert_eq!([kept.own("/plain").await, kept.own("/versioned").await], [0, 0]);
    for bucket in ["/plain", "/versioned"] {
        assert_eq!(get(proxy, &format!("{bucket}/object")).await.bytes(), b"x");
    }
    let (text, last) = said(&gc(configuration, &["--older-than", "0", "--delete"]));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(last.starts_with("2 buckets: 0 ended uploads removed (0 bytes), 0 under way"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_looks_where_the_state_is() {
    let Some(kept) = Kept::start("state.bucket = \"kept\"").await else { return };
    for bucket in ["/bucket", "/kept"] {
        assert_eq!(put(kept.proxy.address, bucket, b"").await.status, 200);
    }
    kept.abandoned("/bucket/k").await;
    let (going_on, parts) = kept.upload("/bucket/k").await;
    // One whose record is gone can't go on.
    let record = kept.direct("GET", "/kept?list-type=2&prefix=.s3veil/", &[], "").await;
    assert_eq!(String::from_utf8_lossy(record.bytes()).matches("<Key>").count(), 4);
    kept.direct("PUT", "/kept/.s3veil/uploads/0123/part-0001", &[], "x").await;

    let (text, last) = said(&gc(&kept.configuration, &["--older-than", "0", "--delete"]));
    assert!(
        text.contains("s3://kept/.s3veil/uploads/0123/: of an ended upload, 1 objects, 1 bytes, "),
        "{text}"
    );
    assert!(last.starts_with("2 buckets: 2 ended uploads removed ("), "{text}");
    assert_eq!(kept.own("/kept").await, 2);
    assert_eq!(going_on.complete(&parts).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_do_it_says() {
    let Some(kept) = Kept::start("").await else { return };
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    kept.direct("PUT", "/locked", &lock, "").await;
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    kept.direct("PUT", "/locked?object-lock", &[], rule).await;
    kept.abandoned("/locked/k").await;
    let before = kept.own("/locked").await;
    let done = gc(&kept.configuration, &["--older-than", "0", "--delete"]);
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(!done.status.success());
    assert!(out.contains("1 buckets: 0 ended uploads removed (0 bytes), 0 under way"), "{out}");
    assert!(out.ends_with(", 1 errors\n"), "{out}");
    assert!(err.contains("s3://locked/.s3veil/uploads/"), "{err}");
    assert_eq!(kept.own("/locked").await, before);

    let done = gc(&kept.configuration, &["s3://nowhere"]);
    assert!(!done.status.success());
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(err.contains("s3://nowhere: ") && err.contains("404"), "{err}");
    let done = gc(&kept.configuration, &["nowhere"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("write s3://BUCKET"));
}
