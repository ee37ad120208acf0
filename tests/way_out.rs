//! The way out: `s3veil inspect` and `s3veil unseal`, the real program, on what the store really holds.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::client::put;
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::Upload;

/// A store with a sealed object, and a directory with a raw copy of its body and a configuration.
struct Kept {
    store: MemoryStore,
    proxy: Proxy,
    directory: tempfile::TempDir,
    envelope: String,
}

const PATH: &str = "/b/deep/a%20key";
const OBJECT: &str = "s3://b/deep/a key";

impl Kept {
    async fn new(body: &[u8]) -> Self {
        let (store, proxy) = start(SEALED).await;
        assert_eq!(put(proxy.address, PATH, body).await.status, 200);
        Self::of(store, proxy)
    }

    /// The same of a multipart upload.
    async fn of_parts(parts: &[(u32, Vec<u8>)]) -> Self {
        let store = MemoryStore::start().await;
        let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", SEALED).await;
        assert_eq!(Upload::whole(proxy.address, PATH, parts).await.status, 200);
        Self::of(store, proxy)
    }

    fn of(store: MemoryStore, proxy: Proxy) -> Self {
        let object = store.get(PATH).unwrap();
        let envelope = object.headers["x-amz-meta-s3veil"].to_str().unwrap().to_owned();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("raw"), object.body).unwrap();
        Self { store, proxy, directory, envelope }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program with a configuration of which it gets this part only.
    fn run(&self, config: &str, arguments: &[&str]) -> Output {
        let file = self.path("proxy.toml");
        fs::write(&file, config).unwrap();
        Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(arguments)
            .env("S3VEIL_CONFIG", file)
            .current_dir(&self.directory)
            .output()
            .unwrap()
    }

    fn kms(&self) -> String {
        let keys = self.proxy.keys.path().join("keys");
        format!(
            "[kms.local]\nkind = \"local\"\npath = {keys:?}\nmaster_key = {{ file = {:?} }}",
            keys.join("master.key")
        )
    }

    fn unseal(&self, object: &str, envelope: &str, more: &[&str]) -> Output {
        let arguments = [&["unseal", object, "--in", "raw", "--envelope", envelope], more].concat();
        self.run(&self.kms(), &arguments)
    }
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_body_opens_without_a_store() {
    for len in [0, 1, 65_536, 65_537, 300_000] {
        let kept = Kept::new(&pattern(len)).await;
        let done = kept.unseal(OBJECT, &kept.envelope, &[]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == pattern(len), "{len} bytes");
        assert!(kept.unseal(OBJECT, &kept.envelope, &["--out", "plain"]).status.success());
        assert!(fs::read(kept.path("plain")).unwrap() == pattern(len));
        assert!(error(&kept.unseal(OBJECT, &kept.envelope, &["--out", "plain"])).contains("plain exists"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_of_parts() {
    let many = Vec::from_iter((1..=2_500).map(|number| (number, pattern(number as usize % 7))));
    for parts in [vec![(1, pattern(0))], vec![(3, pattern(65_536)), (9_999, pattern(70_001))], many] {
        let kept = Kept::of_parts(&parts).await;
        let plain = Vec::from_iter(parts.iter().flat_map(|(_, plain)| plain.clone()));
        let done = kept.unseal(OBJECT, &kept.envelope, &[]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == plain, "{} parts", parts.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_object_leaves_no_file() {
    leaves_no_file(Kept::new(&pattern(200_000)).await);
    leaves_no_file(Kept::of_parts(&[(1, pattern(70_000)), (2, pattern(130_000))]).await);
}

fn leaves_no_file(kept: Kept) {
    let refused = |object: &str, envelope: &str, part: &str| {
        let said = error(&kept.unseal(object, envelope, &["--out", "plain"]));
        assert!(said.contains(part) && !said.contains(envelope), "{said}");
        assert!(!kept.path("plain").exists());
        let names: Vec<_> = fs::read_dir(&kept.directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "raw, proxy.toml and nothing half: {names:?}");
    };
    refused("s3://b/another", &kept.envelope, "not of s3://b/another");
    refused("s3://c/deep/a key", &kept.envelope, "EK 's3veil-dev-key'");
    refused("b/deep/a key", &kept.envelope, "s3://BUCKET/KEY");
    refused(OBJECT, "AAAA", "--envelope");
    let raw = fs::read(kept.path("raw")).unwrap();
    for at in [20, 100_000, raw.len() - 1] {
        let mut damaged = raw.clone();
        damaged[at] ^= 1;
        fs::write(kept.path("raw"), damaged).unwrap();
        refused(OBJECT, &kept.envelope, "was altered");
    }
    fs::write(kept.path("raw"), &raw[..raw.len() - 1]).unwrap();
    refused(OBJECT, &kept.envelope, "not the body that belongs to this envelope");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_is_shown_and_is_no_secret() {
    let kept = Kept::new(&pattern(1000)).await;
    let endpoint = &kept.store.endpoint;
    let store = format!(
        "[store]\nendpoint = \"{endpoint}\"\ncredentials.default = {{ access_key = \"store\", secret_key = \"s\" }}"
    );
    let shown = |config: &str, arguments: &[&str]| {
        let done = kept.run(config, arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let text = shown(&store, &["inspect", OBJECT]);
    for part in ["1000 bytes", "1096 bytes", "s3veil-dev-key", "local", "stream", "Not verified"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // Offline, no configuration is read.
    let json = shown("no toml", &["inspect", "--json", "--envelope", &kept.envelope]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["plaintext_bytes"], &json["stored_bytes"]), (&1000.into(), &serde_json::Value::Null));
    assert_eq!(json["ek"], "s3veil-dev-key");

    kept.store.change(PATH, |object| object.body.truncate(900));
    assert!(shown(&store, &["inspect", OBJECT]).contains("can't be the body that was sealed"));
    kept.store.change(PATH, |object| drop(object.headers.remove("x-amz-meta-s3veil")));
    assert!(error(&kept.run(&store, &["inspect", OBJECT])).contains("is not sealed"));
    assert!(error(&kept.run(&store, &["inspect", "s3://b/none"])).contains("404"));
    assert!(error(&kept.run("[store]\nendpoint = 1", &["inspect", OBJECT])).contains("store.endpoint"));
}
