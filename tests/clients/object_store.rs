//! The `object_store` crate, as DataFusion, Delta Lake and Iceberg use it.
//!
//! It has no buckets to create, and no way to fetch what it has signed: `raw.py` does that.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig,
};
use tempfile::TempDir;

use crate::proxied::{Proxied, say};
use crate::servers;

const BUCKET: &str = "basics-object-store";
const CHUNK: usize = 65_536;

fn client(proxied: &Proxied, secret: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(&proxied.endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(proxied.access_key)
        .with_secret_access_key(secret)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

/// Bytes that don't repeat within 16.
fn body(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What every client does, as this one does it.
pub fn run(proxied: &Proxied) {
    if servers::python().is_err() {
        return servers::skip("Python is not installed; run tests/setup");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(basics(proxied))));
    if let Err(panic) = outcome {
        eprintln!("object_store on {}\n{}", proxied.name, proxied.logs());
        std::panic::resume_unwind(panic);
    }
}

async fn basics(proxied: &Proxied) {
    let files = TempDir::new().unwrap();
    let root = files.path().join("up");
    proxied.run("raw", &["create", BUCKET]);
    let store = Arc::new(client(proxied, proxied.secret_key));
    let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 300_123];
    let keys = ["empty", "one", "dir/under a chunk", "dir/a chunk +", "dir/über chunk", "big.bin"];
    let bodies: Vec<Vec<u8>> = sizes.iter().map(|len| body(*len, 7 + *len as u64)).collect();

    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/x-test"),
        (Attribute::Metadata("color".into()), "blue"),
    ]);
    for (key, body) in keys.iter().zip(&bodies) {
        let path = Path::parse(key).unwrap();
        let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        store.put_opts(&path, body.clone().into(), options).await.unwrap();
        let got = store.get(&path).await.unwrap();
        assert_eq!(got.meta.size, body.len() as u64, "{key}");
        assert_eq!(got.attributes, attributes, "{key}");
        assert!(got.bytes().await.unwrap() == body, "{key}");
        assert_eq!(store.head(&path).await.unwrap().size, body.len() as u64, "{key}");
        let file = root.join(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, body).unwrap();
    }
    proxied.run("raw", &["sealed", BUCKET, root.to_str().unwrap()]);

    let mut listed: Vec<_> =
        store.list(None).map_ok(|meta| (meta.location, meta.size)).try_collect().await.unwrap();
    let mut expected: Vec<_> =
        keys.iter().map(|key| Path::parse(key).unwrap()).zip(sizes.map(|len| len as u64)).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    let level = store.list_with_delimiter(None).await.unwrap();
    assert_eq!((level.objects.len(), level.common_prefixes), (3, vec![Path::from("dir")]));

    ranges(&store, &bodies[5]).await;
    presigned(proxied, &store, &bodies[5], files.path()).await;
    multipart(&store).await;
    refusals(proxied, &store, &bodies[5]).await;
    let conditional = !matches!(proxied.name, "garage" | "dev");
    if conditional {
        conditions(&store).await;
    }

    let gone = keys.map(|key| Ok(Path::parse(key).unwrap()));
    let gone: Vec<Path> = store.delete_stream(stream::iter(gone).boxed()).try_collect().await.unwrap();
    assert_eq!(gone.len(), keys.len());
    proxied.run("raw", &["remove", BUCKET]);
    let conditional = if conditional { ", conditions" } else { "" };
    say(&format!(
        "{}: object_store: upload, download, listing, head, ranges, presigned, multipart, copy, wrong secret, delete{conditional}",
        proxied.name
    ));
}

async fn ranges(store: &AmazonS3, body: &[u8]) {
    let path = Path::from("big.bin");
    for (range, expected) in [
        (GetRange::Bounded(0..1), &body[..1]),
        (GetRange::Bounded(65_530..131_101), &body[65_530..131_101]),
        (GetRange::Bounded(300_000..1_000_000), &body[300_000..]),
        (GetRange::Offset(100_000), &body[100_000..]),
        (GetRange::Suffix(7), &body[body.len() - 7..]),
    ] {
        let options = GetOptions::new().with_range(Some(range.clone()));
        let got = store.get_opts(&path, options).await.unwrap();
        assert_eq!(got.meta.size, body.len() as u64, "{range:?}");
        assert!(got.bytes().await.unwrap() == expected, "{range:?}");
    }
    // As a reader of columns does it.
    let parts = [10..20, 65_000..66_000, 250_000..250_001];
    let got = store.get_ranges(&path, &parts).await.unwrap();
    for (range, got) in parts.iter().zip(got) {
        assert!(got == body[range.start as usize..range.end as usize], "{range:?}");
    }
}

async fn presigned(proxied: &Proxied, store: &AmazonS3, body: &[u8], directory: &std::path::Path) {
    let (up, down) = (directory.join("presigned-up"), directory.join("presigned-down"));
    fs::write(&up, body).unwrap();
    let path = Path::parse("presigned +").unwrap();
    let minute = Duration::from_secs(60);
    let url = store.signed_url(Method::PUT, &path, minute).await.unwrap();
    proxied.run("raw", &["put", url.as_str(), up.to_str().unwrap()]);
    let url = store.signed_url(Method::GET, &path, minute).await.unwrap();
    proxied.run("raw", &["get", url.as_str(), down.to_str().unwrap()]);
    assert!(fs::read(&down).unwrap() == body);
    store.delete(&path).await.unwrap();
}

/// Parts of a multipart upload, and a copy of it.
async fn multipart(store: &AmazonS3) {
    let (path, copy) = (Path::from("parts"), Path::from("copy of parts"));
    let parts: Vec<Vec<u8>> =
        [5 << 20, 6 << 20, 1000].map(|len| (0..len).map(|i| (i % 249) as u8).collect()).into();
    let mut upload = store.put_multipart(&path).await.unwrap();
    let sent: Vec<_> = parts.iter().map(|part| upload.put_part(part.clone().into())).collect();
    futures_util::future::try_join_all(sent).await.unwrap();
    upload.complete().await.unwrap();
    store.copy(&path, &copy).await.unwrap();
    for path in [&path, &copy] {
        assert!(store.get(path).await.unwrap().bytes().await.unwrap() == parts.concat());
        store.delete(path).await.unwrap();
    }
}

/// A wrong secret leaves nothing behind.
async fn refusals(proxied: &Proxied, store: &AmazonS3, body: &[u8]) {
    let stranger = client(proxied, "wrong");
    let (big, path) = (Path::from("big.bin"), Path::from("refused"));
    let error = stranger.put(&path, body.to_vec().into()).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    let error = stranger.get(&big).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
    let error = store.head(&path).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

/// As a table's log is committed: create only once, replace only what was read.
async fn conditions(store: &AmazonS3) {
    let path = Path::from("log");
    let first = store.put_opts(&path, "first".into(), PutMode::Create.into()).await.unwrap();
    let error = store.put_opts(&path, "again".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    let seen = PutMode::Update(first.into());
    store.put_opts(&path, "second".into(), seen.clone().into()).await.unwrap();
    let error = store.put_opts(&path, "third".into(), seen.into()).await.unwrap_err();
    assert!(matches!(error, Error::Precondition { .. }), "{error}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "second");
    store.delete(&path).await.unwrap();
}
