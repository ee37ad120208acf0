//! The way out: `s3veil inspect` and `s3veil unseal`, the real program, on what the store really holds.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use s3veil::seal::{Envelope, Sse};
use support::client::{put, send};
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED, pattern, start};
use support::upload::Upload;

/// A store with a sealed object, and a directory with a raw copy of its body and a configuration.
struct Kept {
    store: MemoryStore,
    proxy: Proxy,
    directory: tempfile::TempDir,
    envelope: String,
    /// The client's encryption context, as it stands beside the envelope.
    context: Option<String>,
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

    /// The same of parts or, if there are none, of a single PUT, with these headers of encryption.
    async fn with(headers: &[(&str, &str)], body: &[u8], parts: &[(u32, Vec<u8>)]) -> Self {
        let store = MemoryStore::start().await;
        let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", SEALED).await;
        if parts.is_empty() {
            assert_eq!(send(proxy.address, "PUT", PATH, headers, body).await.status, 200);
            return Self::of(store, proxy);
        }
        // A customer's key comes along with each part, a context with the first request only.
        let each: Vec<_> = headers.iter().copied().filter(|(name, _)| name.contains("-customer-")).collect();
        let upload = Upload::start(proxy.address, PATH, headers).await;
        let mut list = Vec::new();
        for (number, plain) in parts {
            let sent = upload.send_part(*number, &each, plain).await;
            assert_eq!(sent.status, 200, "{}", sent.code());
            list.push((*number, sent.header("etag").to_owned()));
        }
        assert_eq!(upload.complete(&list).await.status, 200);
        Self::of(store, proxy)
    }

    fn of(store: MemoryStore, proxy: Proxy) -> Self {
        let object = store.get(PATH).unwrap();
        let header = |name: &str| object.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let (envelope, context) = (header("x-amz-meta-s3veil").unwrap(), header("x-amz-meta-s3veil-context"));
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("raw"), object.body).unwrap();
        Self { store, proxy, directory, envelope, context }
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

/// A customer's key, as a client sends it and as a file holds it.
fn customer(key: [u8; 32]) -> (String, String) {
    (BASE64_STANDARD.encode(key), BASE64_STANDARD.encode(Md5::digest(key)))
}

const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_key_opens_its_object_and_no_kms_is_needed() {
    let (parts, plain) = (vec![(2, pattern(70_001)), (5, pattern(9))], pattern(70_000));
    let (key, md5) = customer([7; 32]);
    let names = ["algorithm", "key", "key-md5"].map(|name| format!("{CUSTOMER}{name}"));
    let headers = [(&*names[0], "AES256"), (&*names[1], &*key), (&*names[2], &*md5)];
    for parts in [Vec::new(), parts] {
        let kept = Kept::with(&headers, &plain, &parts).await;
        let whole = if parts.is_empty() { plain.clone() } else { [&parts[0].1[..], &parts[1].1].concat() };
        // Nothing of the configuration is read: it is none.
        let unseal = |more: &[&str]| {
            let arguments = [&["unseal", OBJECT, "--in", "raw", "--envelope", &kept.envelope], more].concat();
            kept.run("no toml", &arguments)
        };
        fs::write(kept.path("own"), format!("{key}\n")).unwrap();
        let done = unseal(&["--customer-key-file", "own"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == whole, "{} parts", parts.len());

        fs::write(kept.path("other"), customer([8; 32]).0).unwrap();
        fs::write(kept.path("short"), "c2hvcnQ=").unwrap();
        for (more, words) in [
            (&["--customer-key-file", "other", "--out", "plain"][..], "or is under another customer's key"),
            (&["--customer-key-file", "short", "--out", "plain"], "short is not the base64 of 32 bytes"),
            (&["--customer-key-file", "none", "--out", "plain"], "--customer-key-file: none"),
            (&["--out", "plain"], "Name the file that holds it: --customer-key-file FILE"),
        ] {
            let said = error(&unseal(more));
            assert!(said.contains(words) && !said.contains(&customer([8; 32]).0), "{more:?}: {said}");
            assert!(!kept.path("plain").exists());
        }

        let shown = kept.run("no toml", &["inspect", "--envelope", &kept.envelope]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        for row in [
            "kms          -",
            "ek           -",
            "wrapped dek  -",
            "shown as     AES256 with a customer's key",
        ] {
            assert!(shown.lines().any(|line| line == row), "{row} in {shown}");
        }
        let shown = kept.run("no toml", &["inspect", "--json", "--envelope", &kept.envelope]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        for name in ["kms", "ek", "ek_version", "context_sha256", "wrapped_dek_bytes", "wrapped_dek_sha256"] {
            assert!(shown.get(name).is_some_and(serde_json::Value::is_null), "{name} in {shown}");
        }
    }

    // An object under an EK has no use for one.
    let kept = Kept::new(b"text").await;
    fs::write(kept.path("own"), &key).unwrap();
    let said = error(&kept.unseal(OBJECT, &kept.envelope, &["--customer-key-file", "own"]));
    assert!(
        said.contains("is under the EK 's3veil-dev-key' of kms 'local'") && said.contains("Leave it out"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_a_context_needs_it() {
    let entries = |json: &str| BASE64_STANDARD.encode(json);
    let asked = entries(r#"{"team": "a", "<é>": "1"}"#);
    let headers = [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-context", &*asked),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
    ];
    for parts in [Vec::new(), vec![(1, pattern(70_000))]] {
        let kept = Kept::with(&headers, &pattern(70_000), &parts).await;
        let context = kept.context.clone().unwrap();
        assert_eq!(context, entries(r#"{"\u003cé\u003e":"1","team":"a"}"#), "its one form");
        let header = Envelope::parse(&kept.envelope).unwrap().header().clone();
        assert_eq!(header.sse, Sse::KmsBucketKey);

        let done = kept.unseal(OBJECT, &kept.envelope, &["--context", &context]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == pattern(70_000), "{} parts", parts.len());

        let others = [r#"{"team":"a"}"#, r#"{"<é>":"1","team":"b"}"#, "{}", "text"].map(entries);
        let wrong = others.iter().map(|other| (Some(&**other), "has another --context"));
        let missing = (
            None,
            "has an encryption context. Give the value of its metadata header x-amz-meta-s3veil-context",
        );
        for (other, words) in wrong.chain([(Some("no base64"), "has another --context"), missing]) {
            let given = other.map_or(Vec::new(), |other| vec!["--context", other]);
            let more = [&["--out", "plain"], &given[..]].concat();
            let said = error(&kept.unseal(OBJECT, &kept.envelope, &more));
            assert!(said.contains(words), "{other:?}: {said}");
            assert!(!kept.path("plain").exists());
        }

        let shown = kept.run("no toml", &["inspect", "--envelope", &kept.envelope]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let digest = format!("context      {}", hex::encode(header.context.unwrap()));
        for row in [&*digest, "shown as     aws:kms by a Bucket Key", "ek           s3veil-dev-key"] {
            assert!(shown.lines().any(|line| line == row), "{row} in {shown}");
        }
    }
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
