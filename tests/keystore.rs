//! The embedded keystore and the DEK cache in front of it, attacked and locked.

mod kms_contract;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::cli::key::{self, KeyCommand, KeyRequest};
use s3veil::kms::keys::{CacheConfig, Keys};
use s3veil::kms::local::LocalConfig;
use s3veil::kms::{Answer, Config, Context, DataKey, EkName, Error, Kms, WrappedDek};
use s3veil::metrics::Metrics;
use s3veil::s3::Bucket;
use s3veil::seal::Dek;
use tempfile::TempDir;

const MASTER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn open_with(directory: &Path, master: &str) -> Result<Box<dyn Kms>, String> {
    let text = format!("path = {directory:?}\nmaster_key = '{master}'");
    toml::from_str::<LocalConfig>(&text).unwrap().build().map_err(|why| why.to_string())
}

fn open(directory: &Path) -> Box<dyn Kms> {
    open_with(directory, MASTER).unwrap()
}

fn ek(name: &str) -> EkName {
    EkName::parse(name).unwrap()
}

fn bucket(name: &str) -> Bucket {
    Bucket::parse(name).unwrap()
}

fn keys(kms: Box<dyn Kms>, cache: CacheConfig) -> Keys {
    cache.build(HashMap::from([("local".to_owned(), kms)]), &Metrics::default())
}

#[tokio::test]
async fn k_01_to_k_04_it_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let limits = kms_contract::Limits { can_rotate: false, ..kms_contract::ALL };
    kms_contract::check(open(&dir.path().join("keys")).as_ref(), limits).await;
}

#[tokio::test]
async fn every_flipped_byte_of_a_key_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kms = open(&path);
    kms.create(&ek("a")).await.unwrap();
    let file = path.join("a.ek");
    let good = fs::read(&file).unwrap();
    let context = Context::of_bucket(&bucket("one"));
    let made = kms.generate(&ek("a"), &context).await.unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        if let Ok(dek) = kms.unwrap(&ek("a"), None, &made.wrapped, &context).await {
            // White space may change without a change of meaning; the key must then be the same one.
            assert!(good[at].is_ascii_whitespace() && dek.is_same(&made.dek), "byte {at}");
        }
    }
}

#[tokio::test]
async fn a_key_can_be_neither_renamed_nor_read_with_another_master_key() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kms = open(&path);
    kms.create(&ek("a")).await.unwrap();
    fs::copy(path.join("a.ek"), path.join("b.ek")).unwrap();
    let context = Context::of_bucket(&bucket("one"));
    assert!(matches!(kms.generate(&ek("b"), &context).await, Err(Error::Malformed(_))));
    let other = open_with(&path, &MASTER.replace('0', "1")).unwrap();
    let refused = other.generate(&ek("a"), &context).await.unwrap_err().to_string();
    assert!(refused.contains("another master key"), "{refused}");
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    open(&path).create(&ek("a")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("a.ek"))), (0o700, 0o600));
    for (what, open_mode, remedy) in
        [(path.clone(), 0o750, "chmod 700"), (path.join("a.ek"), 0o640, "chmod 600")]
    {
        let before = fs::metadata(&what).unwrap().permissions();
        fs::set_permissions(&what, fs::Permissions::from_mode(open_mode)).unwrap();
        let refused = open_with(&path, MASTER).err().unwrap();
        assert!(refused.contains(remedy) && refused.contains(what.to_str().unwrap()), "{refused}");
        fs::set_permissions(&what, before).unwrap();
    }
    for master in ["", "abcd", "not a key"] {
        assert!(open_with(&path, master).is_err());
    }
}

#[tokio::test]
async fn one_of_many_creators_wins() {
    let dir = TempDir::new().unwrap();
    let kms: Arc<dyn Kms> = open(&dir.path().join("keys")).into();
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let kms = kms.clone();
            tokio::spawn(async move { kms.create(&ek("a")).await })
        })
        .collect();
    let mut won = 0;
    for one in tries {
        match one.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert_eq!(error, Error::Exists(ek("a"))),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(files(&dir.path().join("keys")), [".lock", "a.ek"], "nothing temporary is left");
}

fn files(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(name).collect();
    files.sort();
    files
}

#[tokio::test]
async fn deleting_leaves_no_copy_that_a_crash_has_made() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kms = open(&path);
    kms.create(&ek("a")).await.unwrap();
    // As if the process had died between linking the file and removing its first name.
    fs::hard_link(path.join("a.ek"), path.join("a.ek.0123456789abcdef.tmp")).unwrap();
    kms.delete(&ek("a")).await.unwrap();
    assert_eq!(files(&path), [".lock"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deleted_key_does_not_come_back() {
    let dir = TempDir::new().unwrap();
    let kms: Arc<dyn Kms> = open(&dir.path().join("keys")).into();
    for _ in 0..100 {
        kms.create(&ek("a")).await.unwrap();
        let toggles = [0, 1, 2, 3].map(|i| {
            let kms = kms.clone();
            tokio::spawn(async move {
                if i % 2 == 0 { kms.disable(&ek("a")).await } else { kms.enable(&ek("a")).await }
            })
        });
        kms.delete(&ek("a")).await.unwrap();
        for toggle in toggles {
            let done = toggle.await.unwrap();
            assert!(matches!(done, Ok(()) | Err(Error::NoSuchKey(_))), "{done:?}");
        }
        assert_eq!(kms.describe(&ek("a")).await, Err(Error::NoSuchKey(ek("a"))));
    }
}

#[tokio::test]
async fn k_01_k_02_disable_enable_delete() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let keys = keys(open(&path), CacheConfig::default());
    // As `s3veil key` does it, in a process of its own.
    let tool = open(&path);
    tool.create(&ek("a")).await.unwrap();
    let one = bucket("one");
    let key = keys.for_write("local", &ek("a"), &one, 1).await.unwrap();
    tool.disable(&ek("a")).await.unwrap();
    assert!(keys.for_read("local", &ek("a"), None, &key.wrapped, &one).await.is_ok(), "cached");
    keys.flush().await;
    let disabled = Error::Disabled(ek("a"));
    assert_eq!(keys.for_read("local", &ek("a"), None, &key.wrapped, &one).await.unwrap_err(), disabled);
    assert_eq!(keys.for_write("local", &ek("a"), &one, 1).await.unwrap_err(), disabled);
    tool.enable(&ek("a")).await.unwrap();
    keys.flush().await;
    assert!(keys.for_read("local", &ek("a"), None, &key.wrapped, &one).await.unwrap().is_same(&key.dek));
    tool.delete(&ek("a")).await.unwrap();
    keys.flush().await;
    let gone = Error::NoSuchKey(ek("a"));
    assert_eq!(keys.for_read("local", &ek("a"), None, &key.wrapped, &one).await.unwrap_err(), gone);
    assert!(matches!(keys.probe("nowhere", &ek("a")).await, Err(Error::NoSuchKms(_))));
}

/// Counts calls, and answers slowly enough that callers meet.
struct Counting {
    inner: Box<dyn Kms>,
    generated: Arc<AtomicUsize>,
    unwrapped: Arc<AtomicUsize>,
}

impl Kms for Counting {
    fn kind(&self) -> &'static str {
        "counting"
    }

    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey> {
        self.generated.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.inner.generate(ek, context).await
        })
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        context: &'a Context,
    ) -> Answer<'a, Dek> {
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.inner.unwrap(ek, version, wrapped, context).await
        })
    }
}

async fn counting(cache: CacheConfig) -> (TempDir, Arc<Keys>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let dir = TempDir::new().unwrap();
    let inner = open(&dir.path().join("keys"));
    inner.create(&ek("a")).await.unwrap();
    let (generated, unwrapped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let kms = Counting { inner, generated: generated.clone(), unwrapped: unwrapped.clone() };
    (dir, Arc::new(keys(Box::new(kms), cache)), generated, unwrapped)
}

#[tokio::test]
async fn k_08_one_call_for_many_callers() {
    let (_dir, keys, generated, unwrapped) = counting(CacheConfig::default()).await;
    let writers: Vec<_> = (0..50)
        .map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.for_write("local", &ek("a"), &bucket("one"), 1).await.unwrap() })
        })
        .collect();
    let mut wrapped = None;
    for writer in writers {
        wrapped = Some(writer.await.unwrap().wrapped.clone());
    }
    assert_eq!(generated.load(Ordering::SeqCst), 1);
    let wrapped = wrapped.unwrap();
    keys.for_read("local", &ek("a"), None, &wrapped, &bucket("one")).await.unwrap();
    assert_eq!(unwrapped.load(Ordering::SeqCst), 0, "what was written is read without a call");
    keys.flush().await;
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (keys, wrapped) = (keys.clone(), wrapped.clone());
            tokio::spawn(async move {
                keys.for_read("local", &ek("a"), None, &wrapped, &bucket("one")).await.map(|_| ())
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    assert_eq!(unwrapped.load(Ordering::SeqCst), 1);
    // The same wrapped DEK under another bucket is another question, and the KMS says no.
    assert!(keys.for_read("local", &ek("a"), None, &wrapped, &bucket("two")).await.is_err());
    assert!(keys.for_read("local", &ek("a"), Some("1"), &wrapped, &bucket("one")).await.is_err());
    assert_eq!(unwrapped.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_dek_is_replaced_once_it_has_served_enough() {
    let limits = CacheConfig { max_objects: 3, max_bytes: 100, ..CacheConfig::default() };
    let (_dir, keys, generated, _) = counting(limits).await;
    let write = |bytes| keys.for_write("local", &EK_A, &*ONE, bytes);
    use std::sync::LazyLock;
    static EK_A: LazyLock<EkName> = LazyLock::new(|| ek("a"));
    static ONE: LazyLock<Bucket> = LazyLock::new(|| bucket("one"));
    for (bytes, calls) in [(1, 1), (1, 1), (1, 1), (1, 2), (200, 3), (1, 4), (80, 4), (99, 5)] {
        write(bytes).await.unwrap();
        assert_eq!(generated.load(Ordering::SeqCst), calls, "{bytes}");
    }
}

#[tokio::test]
async fn a_refusal_does_not_flood_the_kms() {
    let (_dir, keys, generated, _) = counting(CacheConfig::default()).await;
    for _ in 0..20 {
        assert_eq!(
            keys.for_write("local", &ek("none"), &bucket("one"), 1).await.unwrap_err(),
            Error::NoSuchKey(ek("none"))
        );
    }
    assert_eq!(generated.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn keys_do_not_outlive_their_time() {
    let (_dir, keys, generated, unwrapped) =
        counting(CacheConfig { ttl_secs: 0, ..CacheConfig::default() }).await;
    let key = keys.for_write("local", &ek("a"), &bucket("one"), 1).await.unwrap();
    keys.for_write("local", &ek("a"), &bucket("one"), 1).await.unwrap();
    keys.for_read("local", &ek("a"), None, &key.wrapped, &bucket("one")).await.unwrap();
    assert_eq!((generated.load(Ordering::SeqCst), unwrapped.load(Ordering::SeqCst)), (2, 1));
}

async fn command(kms: &dyn Kms, json: bool, command: KeyCommand) -> (anyhow::Result<()>, String) {
    answered(kms, json, command, None).await
}

async fn answered(
    kms: &dyn Kms,
    json: bool,
    command: KeyCommand,
    typed: Option<&str>,
) -> (anyhow::Result<()>, String) {
    let mut out = Vec::new();
    let ask = |question: &str| {
        assert!(question.contains("if that is meant"), "{question}");
        typed.map(str::to_owned)
    };
    let done = key::run(KeyRequest { json, command }, kms, ask, &mut out).await;
    (done, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_key_commands() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    let kms = open(&path);
    let kms = kms.as_ref();
    for name in ["main", "old", "worn"] {
        command(kms, false, KeyCommand::Create { name: ek(name), if_missing: false }).await.0.unwrap();
    }
    // A second time is an error, unless it is said that it may be; either way the key stays the one that it was.
    let before = fs::read(path.join("main.ek")).unwrap();
    let again = |if_missing| command(kms, true, KeyCommand::Create { name: ek("main"), if_missing });
    assert!(again(false).await.0.is_err());
    let (found, json) = again(true).await;
    found.unwrap();
    assert_eq!(parse(&json), serde_json::json!({ "name": "main", "done": "found" }));
    assert_eq!(fs::read(path.join("main.ek")).unwrap(), before);
    let missing = KeyCommand::Create { name: ek("late"), if_missing: true };
    let (_, json) = command(kms, true, missing).await;
    assert_eq!(parse(&json), serde_json::json!({ "name": "late", "done": "created" }));
    let late = KeyCommand::Delete { name: ek("late"), confirm: Some(ek("late")) };
    command(kms, false, late).await.0.unwrap();

    let (_, json) = command(kms, true, KeyCommand::Disable { name: ek("old"), confirm: None }).await;
    assert_eq!(parse(&json), serde_json::json!({ "name": "old", "done": "disabled" }));

    fs::write(path.join("worn.ek"), "rust").unwrap();
    let (done, text) = command(kms, false, KeyCommand::List).await;
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(lines, [["main", "enabled"], ["old", "disabled"]]);
    let why = done.unwrap_err().to_string();
    assert!(why.contains("worn.ek") && !why.contains("main"), "{why}");

    let worn = KeyCommand::Delete { name: ek("worn"), confirm: Some(ek("worn")) };
    command(kms, false, worn).await.0.unwrap();
    let (done, json) = command(kms, true, KeyCommand::List).await;
    done.unwrap();
    let list = parse(&json);
    assert_eq!((&list[1]["name"], &list[1]["state"]), (&"old".into(), &"disabled".into()));
    let (_, json) = command(kms, true, KeyCommand::Info { name: ek("main") }).await;
    assert_eq!(parse(&json)["state"], "enabled");

    // The embedded keystore has no versions.
    let refused = command(kms, false, KeyCommand::Rotate { name: ek("main") }).await.0.unwrap_err();
    assert!(refused.to_string().contains("cannot rotate"), "{refused}");
}

fn parse(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn deleting_asks_for_the_name_again() {
    let dir = TempDir::new().unwrap();
    let kms = open(&dir.path().join("keys"));
    let kms = kms.as_ref();
    kms.create(&ek("main")).await.unwrap();
    let delete = |confirm: Option<&str>| KeyCommand::Delete { name: ek("main"), confirm: confirm.map(ek) };
    for (confirm, typed, expected) in [
        (None, None, "--confirm main"),
        (None, Some(""), "nothing is done"),
        (None, Some("yes"), "nothing is done"),
        (Some("mine"), Some("main"), "nothing is done"),
    ] {
        let refused = answered(kms, false, delete(confirm), typed).await.0.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        kms.describe(&ek("main")).await.unwrap();
    }
    answered(kms, false, delete(None), Some("main")).await.0.unwrap();
    assert_eq!(kms.describe(&ek("main")).await, Err(Error::NoSuchKey(ek("main"))));
}

#[tokio::test]
async fn disabling_asks_where_it_may_be_for_good() {
    let dir = TempDir::new().unwrap();
    let settings = "[k]\nkind = 'kmip'\nendpoint = '127.0.0.1:1'";
    let pair = rcgen::generate_simple_self_signed(["s3veil".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let settings = format!(
        "{settings}\ncertificate_file = {certificate:?}\nkey_file = {key:?}\nca_file = {certificate:?}"
    );
    let kms = toml::from_str::<Config>(&settings).unwrap().build().unwrap().remove("k").unwrap();
    let disable = |confirm: Option<&str>| KeyCommand::Disable { name: ek("main"), confirm: confirm.map(ek) };
    let refused = command(kms.as_ref(), false, disable(None)).await.0.unwrap_err().to_string();
    assert!(refused.contains("for good") && refused.contains("--confirm main"), "{refused}");
    let refused = answered(kms.as_ref(), false, disable(None), Some("yes")).await.0.unwrap_err().to_string();
    assert!(refused.contains("nothing is done"), "{refused}");
    // Once it is confirmed, the server is asked, and there is none.
    let away = command(kms.as_ref(), false, disable(Some("main"))).await.0.unwrap_err().to_string();
    assert!(away.contains("not available"), "{away}");
}

#[tokio::test]
async fn a_dek_is_shown_as_kes_shows_it() {
    let dir = TempDir::new().unwrap();
    let kms = open(&dir.path().join("keys"));
    kms.create(&ek("main")).await.unwrap();
    let dek = KeyCommand::Dek { name: ek("main"), bucket: bucket("photos") };
    let (done, json) = command(kms.as_ref(), true, dek).await;
    done.unwrap();
    let shown = parse(&json);
    let field = |name: &str| BASE64_STANDARD.decode(shown[name].as_str().unwrap()).unwrap();
    let wrapped = WrappedDek::new(field("ciphertext"));
    let context = Context::of_bucket(&bucket("photos"));
    let dek = kms.unwrap(&ek("main"), None, &wrapped, &context).await.unwrap();
    assert!(dek.is_same(&Dek::try_from(field("plaintext").as_slice()).unwrap()));
}
