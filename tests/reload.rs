//! The configuration read again in a running process: what comes into force, what does not, and what requests see of it.

mod support;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use s3veil::app::{App, Live};
use s3veil::aws::sign::BodyHash;
use s3veil::kms::local::init_dev;
use s3veil::kms::{EkName, Kms};
use s3veil::reload::{Reloader, Source};
use s3veil::seal::Envelope;
use support::client::{Reply, exchange, exchange_on, full, get, get_range, put, send_as, signed};
use support::memory::MemoryStore;
use support::program::Program;
use support::proxy::{ACCESS_KEY, SECRET_KEY, pattern};
use support::tls::{Authority, Issued, connect};
use tempfile::TempDir;
use tokio::net::TcpListener;

const READ: &str = "the configuration has been read again and is in force";
const BROKEN: &str = "the configuration can't be used; the one before stays in force";

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

thread_local! {
    static KEPT: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// Writes to the lines of the thread that writes. One log for all tests, from before the first of them: with one for each,
/// where the log is asked for the first time by two of them at once, tracing can take a line for one that nobody wants.
struct Log;

impl Log {
    fn start() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        KEPT.with_borrow(|kept| match kept {
            Some(Lines(lines)) => lines.lock().unwrap().write(bytes),
            None => Ok(bytes.len()),
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Until then lines are kept.
struct Keeping;

impl Drop for Keeping {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

impl Lines {
    fn start() -> (Self, Keeping) {
        Log::start();
        let lines = Self::default();
        KEPT.set(Some(lines.clone()));
        (lines, Keeping)
    }

    /// What has been logged since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// s3veil in this process, its configuration in a file, read again when the test says so.
struct Served {
    directory: TempDir,
    store: MemoryStore,
    live: Arc<Live>,
    reloader: Reloader,
    address: std::net::SocketAddr,
}

/// `[auth]` with one identity.
fn one(name: &str, secret: &str) -> String {
    format!("[[auth.identities]]\nname = \"{name}\"\naccess_key = \"{ACCESS_KEY}\"\nsecret_key = {secret}\n")
}

const POLICY: &str = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n";

impl Served {
    async fn start(more: &str) -> Self {
        Self::start_at("127.0.0.1:0", more).await
    }

    /// `listen`: as the configuration has it. It serves on loopback in any case.
    async fn start_at(listen: &str, more: &str) -> Self {
        Log::start();
        Self::start_with(listen, more, Vec::new()).await
    }

    async fn start_with(listen: &str, more: &str, flags: Vec<(&'static str, String)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        init_dev(&directory.path().join("keys")).await.unwrap();
        let store = MemoryStore::start().await;
        let file = directory.path().join("proxy.toml");
        fs::write(&file, Self::text(&directory, &store, listen, more)).unwrap();
        let source = Source::new(file, flags);
        let (config, origin) = source.read().unwrap();
        let app = App::build(config).unwrap();
        app.probe().await.unwrap();
        let live = Arc::new(Live::new(app));
        let reloader = Reloader::new(source, origin, live.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(s3veil::listener::serve(live.clone(), listener, std::future::pending::<()>));
        Self { directory, store, live, reloader, address }
    }

    fn text(directory: &TempDir, store: &MemoryStore, listen: &str, more: &str) -> String {
        let (keys, endpoint) = (directory.path().join("keys"), &store.endpoint);
        format!(
            "listen = \"{listen}\"\n[store]\nendpoint = \"{endpoint}\"\n\
             credentials.default = {{ access_key = \"ONE\", secret_key = \"store-secret\" }}\n\
             credentials.two = {{ access_key = \"TWO\", secret_key = \"store-secret\" }}\n\
             [kms.local]\nkind = \"local\"\npath = {keys:?}\nmaster_key = {{ file = {:?} }}\n{more}",
            keys.join("master.key"),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, more: &str) {
        let text = Self::text(&self.directory, &self.store, "127.0.0.1:0", more);
        fs::write(self.path("proxy.toml"), text).unwrap();
    }

    /// As the process does it, second after second: once to see a change, once to see that it is at rest, once more.
    async fn looks(&mut self) {
        for _ in 0..3 {
            self.reloader.look().await;
        }
    }

    async fn ask(&self, secret: &str) -> Reply {
        send_as((ACCESS_KEY, secret, "us-east-1"), self.address, "PUT", "/b/k", &[], b"x").await
    }

    fn metric(&self, name: &str) -> String {
        let text = self.live.get().metrics.text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().to_owned()
    }

    fn reloads(&self, result: &str) -> String {
        self.metric(&format!("s3veil_config_reloads_total{{result=\"{result}\"}}"))
    }

    fn kms(&self) -> Box<dyn Kms> {
        let keys = self.path("keys");
        let text = format!("path = {keys:?}\nmaster_key = {{ file = {:?} }}", keys.join("master.key"));
        toml::from_str::<s3veil::kms::local::LocalConfig>(&text).unwrap().build().unwrap()
    }
}

#[tokio::test]
async fn identities_and_rules_change_and_the_rooms_stay() {
    let mut served = Served::start(&format!("{POLICY}{}", one("a", "\"first\""))).await;
    let rooms = served.live.get().rooms.clone();
    assert_eq!(served.ask("first").await.status, 200);
    served.looks().await;
    assert_eq!(served.reloads("ok"), "0", "nothing has changed");

    // Another secret, then one in a file, then another one in that file alone.
    served.write(&format!("{POLICY}{}", one("a", "\"second\"")));
    served.looks().await;
    assert_eq!(served.ask("first").await.code(), "SignatureDoesNotMatch");
    assert_eq!(served.ask("second").await.status, 200);
    let secret = served.path("secret");
    fs::write(&secret, "third\n").unwrap();
    let in_file = one("a", &format!("{{ file = {secret:?} }}"));
    served.write(&format!("{POLICY}{in_file}"));
    served.looks().await;
    assert_eq!(served.ask("third").await.status, 200);
    fs::write(&secret, "other\n").unwrap();
    served.looks().await;
    assert_eq!(served.ask("third").await.code(), "SignatureDoesNotMatch");
    assert_eq!(served.ask("other").await.status, 200);

    // One more identity; then the first one goes.
    let more = "[[auth.identities]]\nname = \"b\"\naccess_key = \"BBB\"\nsecret_key = \"bb\"\n";
    let by_b = async |served: &Served| {
        send_as(("BBB", "bb", "us-east-1"), served.address, "GET", "/b/k", &[], b"").await
    };
    assert_eq!(by_b(&served).await.code(), "InvalidAccessKeyId");
    served.write(&format!("{POLICY}{in_file}{more}"));
    served.looks().await;
    assert_eq!((by_b(&served).await.status.as_u16(), served.ask("other").await.status.as_u16()), (200, 200));
    served.write(&format!("{POLICY}{more}"));
    served.looks().await;
    assert_eq!(served.ask("other").await.code(), "InvalidAccessKeyId");

    // A rule.
    let deny = "[[policy]]\nbucket = \"b\"\nmode = \"deny\"\n";
    served.write(&format!("{POLICY}{deny}{more}"));
    served.looks().await;
    assert_eq!(by_b(&served).await.code(), "AccessDenied");
    // Only how it is written.
    served.write(&format!("# words\n\n{more}{POLICY}"));
    served.looks().await;
    assert_eq!(by_b(&served).await.status, 200);
    assert_eq!((served.reloads("ok"), served.reloads("failed")), ("7".into(), "0".into()));
    assert!(Arc::ptr_eq(&rooms, &served.live.get().rooms), "the caches are as warm as before");
}

#[tokio::test]
async fn what_can_not_be_used_leaves_the_old_one_in_force_and_says_so_once() {
    let good = format!("{POLICY}{}", one("a", "\"very-secret\""));
    let mut served = Served::start_at("0.0.0.0:8333", &good).await;
    let (lines, _guard) = Lines::start();
    let file = served.path("proxy.toml").display().to_string();
    let mut failed = 0;
    for (broken, expected) in [
        (format!("{good}[policy"), &["proxy.toml: "][..]),
        (format!("{good}mood = 1\n"), &["auth.identities.0.mood: ", "Remove it"]),
        (one("a", "\"very-secret\""), &["no [[policy]] rule", "Add one"]),
        (good.replace("s3veil-dev-key", "none"), &["ek = 'none'", "s3veil key --kms local create none"]),
        (
            good.replace("\"very-secret\"", "{ file = \"/no/such\" }"),
            &["secret_key of \"a\"", "/no/such", "check that it exists"],
        ),
        (format!("{good}store = \"three\"\n"), &["store = 'three'", "[store.credentials.three]", "Add it"]),
        (format!("{good}[state]\nbucket = \"/\"\n"), &["state.bucket: '/'", "Correct it"]),
        // It listens on all addresses, whatever the file says by now.
        (
            format!("{POLICY}[auth]\nmode = \"trusted\"\n"),
            &["auth.mode: 'trusted'", "listen = '0.0.0.0:8333'"],
        ),
    ] {
        let before = served.live.get();
        served.write(&broken);
        served.looks().await;
        failed += 1;
        let log = lines.take();
        assert_eq!(log.matches(BROKEN).count(), 1, "{broken}: {log}");
        assert!(log.contains("ERROR") && log.contains(&file) && !log.contains("very-secret"), "{log}");
        for words in expected {
            assert!(log.contains(words), "{log} lacks {words}");
        }
        served.looks().await;
        assert_eq!(lines.take(), "", "it is said once");
        assert_eq!(served.reloads("failed"), failed.to_string());
        assert_eq!(served.metric("s3veil_config_last_reload_successful"), "0");
        assert!(Arc::ptr_eq(&before, &served.live.get()));
        assert_eq!(served.ask("very-secret").await.status, 200);
        lines.take();

        served.write(&good);
        served.looks().await;
        assert!(lines.take().contains(READ));
        assert_eq!(served.metric("s3veil_config_last_reload_successful"), "1");
    }
    // Gone, as it is for a moment when it is moved away before another comes.
    fs::remove_file(&file).unwrap();
    served.looks().await;
    assert!(lines.take().contains("there is no such file"));
    assert_eq!(served.ask("very-secret").await.status, 200);
}

#[tokio::test]
async fn what_is_still_being_written_is_not_taken() {
    let deny = "[[policy]]\nbucket = \"b\"\nmode = \"deny\"\n";
    let secret = one("a", "\"s\"");
    let mut served = Served::start(&format!("{secret}{POLICY}{deny}")).await;
    let (lines, _guard) = Lines::start();
    // Without its last rule it could be read: and it would allow what that denies.
    served.write(&format!("{secret}{POLICY}"));
    served.reloader.look().await;
    let text = format!("{secret}{POLICY}{deny}# more");
    for end in [text.len() - 2, text.len()] {
        served.write(&text[..end]);
        served.reloader.look().await;
        assert_eq!(served.reloads("ok"), "0");
    }
    served.reloader.look().await;
    assert_eq!((served.reloads("ok"), served.reloads("failed")), ("1".into(), "0".into()));
    assert_eq!(served.ask("s").await.code(), "AccessDenied");
    assert_eq!(lines.take().matches(READ).count(), 1);
    // And back before anyone has looked twice: nothing to do.
    served.write(&format!("{secret}{POLICY}"));
    served.reloader.look().await;
    served.write(&text);
    served.looks().await;
    assert_eq!(served.reloads("ok"), "1");
    // Told to read it, it waits for nothing.
    served.write(&format!("{secret}{POLICY}"));
    served.reloader.reload().await;
    assert_eq!(served.ask("s").await.status, 200);
}

#[tokio::test]
async fn an_ek_that_comes_later_brings_the_configuration_into_force() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    let (lines, _guard) = Lines::start();
    served.write(&good.replace("s3veil-dev-key", "later"));
    served.looks().await;
    assert!(lines.take().contains("ek = 'later'"));
    let wait = async || {
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(31)).await;
        tokio::time::resume();
    };
    wait().await;
    served.looks().await;
    assert_eq!(
        (served.reloads("failed"), lines.take()),
        ("2".into(), String::new()),
        "tried, and nothing new"
    );
    served.kms().create(&EkName::parse("later").unwrap()).await.unwrap();
    wait().await;
    served.looks().await;
    let told = lines.take();
    assert!(told.contains(READ), "{} failed: {told}", served.reloads("failed"));
    let reply = served.ask("s").await;
    assert_eq!(reply.header("x-amz-server-side-encryption-aws-kms-key-id"), "later");
}

#[tokio::test]
async fn a_disabled_ek_does_not_keep_an_identity_in_force() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    served.kms().disable(&EkName::parse("s3veil-dev-key").unwrap()).await.unwrap();
    served.write(&good.replace("\"s\"", "\"t\""));
    served.looks().await;
    assert_eq!(served.ask("s").await.code(), "SignatureDoesNotMatch");
    assert_eq!(served.ask("t").await.code(), "KMS.DisabledException");
}

/// `[tls]` comes, stays as it was where its files break, changes and goes: from connection to connection.
#[tokio::test]
async fn tls_changes_for_the_connections_to_come() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    let authority = Authority::new("authority");
    for name in ["one", "two"] {
        let Issued { certificate, key } = authority.issue(2040);
        fs::write(served.path(&format!("{name}.crt")), certificate).unwrap();
        fs::write(served.path(&format!("{name}.key")), key).unwrap();
    }
    let with = |served: &Served, certificate: &str, key: &str| {
        let (certificate, key) = (served.path(certificate), served.path(key));
        format!("[tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}\n{good}")
    };
    let client = authority.client(rustls::ALL_VERSIONS, &[], None);
    let over_tls = |address| {
        let client = client.clone();
        async move {
            let stream = connect(address, &client).await.ok()?;
            let request = signed(address, "GET", "/b/none", &[], BodyHash::Unsigned).map(|()| full(""));
            Some(exchange_on(stream, request).await?.code())
        }
    };
    let (address, refused) = (served.address, Some("SignatureDoesNotMatch".to_owned()));
    let rooms = served.live.get().rooms.clone();
    assert_eq!(
        (get(address, "/b/none").await.code(), over_tls(address).await),
        (refused.clone().unwrap(), None)
    );

    served.write(&with(&served, "one.crt", "one.key"));
    served.looks().await;
    assert_eq!(
        (get(address, "/b/none").await.status.as_u16(), over_tls(address).await),
        (400, refused.clone())
    );

    // Broken files are no reason to refuse another secret.
    fs::write(served.path("one.key"), "").unwrap();
    served.write(&with(&served, "one.crt", "one.key").replace("\"s\"", &format!("{SECRET_KEY:?}")));
    served.looks().await;
    assert_eq!(over_tls(address).await.as_deref(), Some("NoSuchKey"));
    // But one to broken files is.
    let (lines, _guard) = Lines::start();
    served.write(&with(&served, "two.crt", "one.key"));
    served.looks().await;
    let said = lines.take();
    assert!(said.contains(BROKEN) && said.contains("tls.key_file: "), "{said}");
    assert_eq!(over_tls(address).await.as_deref(), Some("NoSuchKey"));

    served.write(&with(&served, "two.crt", "two.key"));
    served.looks().await;
    assert_eq!(over_tls(address).await, refused);
    served.write(&good);
    served.looks().await;
    assert_eq!((get(address, "/b/none").await.code(), over_tls(address).await), (refused.unwrap(), None));
    assert!(Arc::ptr_eq(&rooms, &served.live.get().rooms));
}

#[tokio::test]
async fn other_sections_make_other_rooms_and_some_take_a_restart() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    let (lines, _guard) = Lines::start();
    assert_eq!(served.ask("s").await.status, 200);
    for (section, anew) in [
        ("[cache]\nttl_secs = 10\n", true),
        ("[limits]\nclient_idle_secs = 7\n", true),
        ("[limits]\nin_flight = 7\n", false),
        ("kms_aliases.old = \"local\"\n", true),
        ("[admin]\nlisten = \"127.0.0.1:1\"\n", false),
    ] {
        let rooms = served.live.get().rooms.clone();
        // A key of the root stands before the tables.
        let text = Served::text(&served.directory, &served.store, "127.0.0.1:0", &good);
        let root = section.starts_with("kms_aliases");
        let text = if root { format!("{section}{text}") } else { format!("{text}{section}") };
        fs::write(served.path("proxy.toml"), text).unwrap();
        served.looks().await;
        assert_eq!(Arc::ptr_eq(&rooms, &served.live.get().rooms), !anew, "{section}");
        assert!(lines.take().contains(if anew { "made anew" } else { "kept" }), "{section}");
        // What was sealed by the one is opened by the other.
        assert_eq!(get(served.address, "/b/k").await.code(), "SignatureDoesNotMatch");
        let reply = send_as((ACCESS_KEY, "s", "us-east-1"), served.address, "GET", "/b/k", &[], b"").await;
        assert_eq!(reply.bytes(), b"x", "{section}");
        served.write(&good);
        served.looks().await;
        lines.take();
    }
    let metrics = served.live.get().metrics.text();
    assert!(metrics.contains("s3veil_kms_up{kms=\"local\"} 1"), "{metrics}");

    let text = Served::text(
        &served.directory,
        &served.store,
        "127.0.0.1:9",
        &format!("{good}[log]\nlevel = \"debug\"\n"),
    );
    fs::write(served.path("proxy.toml"), text).unwrap();
    served.looks().await;
    let log = lines.take();
    for words in [READ, "listen: a change takes a restart", "127.0.0.1:9", "log: a change takes a restart"] {
        assert!(log.contains(words), "{log} lacks {words}");
    }
}

#[tokio::test]
async fn the_stores_credentials_in_files_are_taken_too() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    let key = served.path("access_key");
    fs::write(&key, "FROMFILE").unwrap();
    let text = Served::text(&served.directory, &served.store, "127.0.0.1:0", &good);
    fs::write(served.path("proxy.toml"), text.replace("\"ONE\"", &format!("{{ file = {key:?} }}"))).unwrap();
    served.looks().await;
    let signer = async |served: &Served| {
        served.store.take_seen();
        assert_eq!(served.ask("s").await.status, 200);
        credential(&served.store.take_seen()[0].headers)
    };
    assert_eq!(signer(&served).await, "FROMFILE");
    let rooms = served.live.get().rooms.clone();
    fs::write(&key, "RENEWED!").unwrap();
    served.looks().await;
    assert_eq!(signer(&served).await, "RENEWED!");
    assert!(!Arc::ptr_eq(&rooms, &served.live.get().rooms));
}

#[tokio::test]
async fn roots_and_master_keys_are_taken_when_their_files_change() {
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let mut served = Served::start(&good).await;
    let (lines, _guard) = Lines::start();
    let root = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let (file, directory) = (served.path("roots.pem"), served.path("roots"));
    fs::create_dir(&directory).unwrap();
    let (in_directory, master) = (directory.join("one.pem"), served.path("keys").join("master.key"));
    for ca in [&file, &directory] {
        fs::write(&file, root()).unwrap();
        fs::write(&in_directory, root()).unwrap();
        let text = Served::text(&served.directory, &served.store, "127.0.0.1:0", &good);
        let text = text.replace("[store]\n", &format!("[store]\nca_file = {ca:?}\n"));
        fs::write(served.path("proxy.toml"), text).unwrap();
        served.looks().await;
        assert!(lines.take().contains("made anew"), "the section is another");
        let changed = if ca == &file { &file } else { &in_directory };
        fs::write(changed, root()).unwrap();
        served.looks().await;
        assert!(lines.take().contains("made anew"), "{changed:?}");
        fs::write(changed, "no certificate").unwrap();
        served.looks().await;
        let log = lines.take();
        assert!(log.contains(BROKEN) && log.contains("store.ca_file: "), "{log}");
        assert_eq!(served.ask("s").await.status, 200);
        fs::write(changed, root()).unwrap();
        served.looks().await;
        assert!(lines.take().contains(READ));
    }

    // The same key, written in another way, and then another key.
    let key = fs::read_to_string(&master).unwrap();
    fs::write(&master, format!("{key}\n")).unwrap();
    served.looks().await;
    assert!(lines.take().contains("made anew"));
    assert_eq!(served.ask("s").await.status, 200);
    let rooms = served.live.get().rooms.clone();
    fs::write(&master, "0".repeat(64)).unwrap();
    served.looks().await;
    let log = lines.take();
    assert!(log.contains(BROKEN) && log.contains("sealed under another master key"), "{log}");
    assert!(Arc::ptr_eq(&rooms, &served.live.get().rooms));
    assert_eq!(served.ask("s").await.status, 200);
}

#[tokio::test]
async fn flags_come_first_again_and_the_admin_token_changes_in_its_file() {
    let token = tempfile::NamedTempFile::new().unwrap();
    let good = format!("{POLICY}{}", one("a", "\"s\""));
    let admin = format!("[admin]\nlisten = \"127.0.0.1:1\"\ntoken = {{ file = {:?} }}\n", token.path());
    fs::write(token.path(), "the first of the tokens").unwrap();
    let mut served = Served::start_with(
        "127.0.0.1:0",
        &format!("{good}{admin}"),
        vec![("listen", "127.0.0.1:7".to_owned())],
    )
    .await;
    let (lines, _guard) = Lines::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let live = served.live.clone();
    tokio::spawn(s3veil::admin::serve(move || live.get().admin.clone().unwrap(), listener));
    let flush = async |token: &str| {
        let request = http::Request::post("/cache/flush").header("authorization", format!("Bearer {token}"));
        exchange(address, request.body(full("")).unwrap()).await.unwrap().status.as_u16()
    };
    assert_eq!(flush("the first of the tokens").await, 200);
    fs::write(token.path(), "another of the tokens").unwrap();
    served.looks().await;
    assert_eq!((flush("the first of the tokens").await, flush("another of the tokens").await), (401, 200));
    // Without the section the listener that is there goes on and shows what it did, and nothing can be changed at it.
    let text = Served::text(&served.directory, &served.store, "127.0.0.1:9", &good);
    fs::write(served.path("proxy.toml"), text).unwrap();
    served.looks().await;
    assert_eq!((flush("the first of the tokens").await, flush("another of the tokens").await), (403, 403));
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = http::Request::get(path).body(full("")).unwrap();
        assert_eq!(exchange(address, request).await.unwrap().status, 200, "{path}");
    }
    let log = lines.take();
    assert!(log.contains("admin.listen: a change") && !log.contains(" listen: a change"), "{log}");
    assert!(!log.contains("of the tokens"), "{log}");
    // With it again, so is its token.
    served.write(&format!("{good}{admin}"));
    served.looks().await;
    assert_eq!((flush("the first of the tokens").await, flush("another of the tokens").await), (401, 200));
}

fn credential(headers: &http::HeaderMap) -> String {
    let text = headers["authorization"].to_str().unwrap();
    text.split_once("Credential=").unwrap().1.split_once('/').unwrap().0.to_owned()
}

/// One of two configurations is in force: each has an EK and store credentials of its own. A request that saw something of both
/// would carry the one with the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_or_sees_two_configurations_while_they_are_swapped() {
    let two = |ek: &str, store: &str, more: &str| {
        let policy = POLICY.replace("s3veil-dev-key", ek);
        format!("{policy}{}store = \"{store}\"\n{more}", one("a", &format!("\"{SECRET_KEY}\"")))
    };
    let pairs = [("s3veil-dev-key", "default", "ONE"), ("other", "two", "TWO")];
    let mut served = Served::start(&two("s3veil-dev-key", "default", "")).await;
    served.kms().create(&EkName::parse("other").unwrap()).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let (done, address) = (done.clone(), served.address);
            tokio::spawn(async move {
                let path = format!("/b/{worker}");
                let mut asked = 0;
                while !done.load(Ordering::Relaxed) || asked < 10 {
                    let reply = put(address, &path, b"hello").await;
                    assert_eq!(reply.status, 200, "{}", reply.code());
                    assert_eq!(get(address, &path).await.bytes(), b"hello");
                    asked += 1;
                }
            })
        })
        .collect();
    for turn in 0..50 {
        let (ek, store, _) = pairs[(turn + 1) % 2];
        // Every third time with other rooms as well.
        let more = if turn % 3 == 0 { "[cache]\nttl_secs = 60\n" } else { "" };
        served.write(&two(ek, store, more));
        served.reloader.reload().await;
    }
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(served.reloads("ok"), "50");
    let mut seen = [0, 0];
    for request in served.store.take_seen().into_iter().filter(|request| request.method == Method::PUT) {
        let envelope = Envelope::parse(request.headers["x-amz-meta-s3veil"].to_str().unwrap()).unwrap();
        let (ek, signer) = (envelope.header().ek.clone(), credential(&request.headers));
        let pair = pairs.iter().position(|(other, _, name)| (*other, *name) == (&*ek, &*signer));
        seen[pair.unwrap_or_else(|| panic!("{signer} with {ek}"))] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[tokio::test]
async fn an_upload_under_way_ends_with_what_it_has_begun_with() {
    let good = format!("{POLICY}{}", one("a", &format!("\"{SECRET_KEY}\"")));
    let mut served = Served::start(&good).await;
    let plain = pattern(5 << 20);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(piece)), receiver))
    });
    let length = plain.len().to_string();
    let head = signed(served.address, "PUT", "/b/big", &[("content-length", &length)], BodyHash::Unsigned);
    let held = served.store.hold_next_of(Method::PUT);
    let request = head.map(|()| StreamBody::new(pieces).boxed_unsync());
    let upload = tokio::spawn(exchange(served.address, request));
    let (first, rest) = plain.split_at(plain.len() / 2);
    sender.send(Bytes::copy_from_slice(first)).await.unwrap();
    // The store has its head: it has been authenticated, judged and sealed.
    held.met().await;

    // Neither its identity, nor its rule, nor its rooms are there any more.
    let other = one("b", "\"another\"").replace(ACCESS_KEY, "BBB");
    served.write(&format!(
        "[[policy]]\nbucket = \"c\"\nek = \"s3veil-dev-key\"\n{other}[cache]\nttl_secs = 9\n"
    ));
    served.reloader.reload().await;
    assert_eq!(served.reloads("ok"), "1");
    assert_eq!(put(served.address, "/b/k", b"x").await.code(), "InvalidAccessKeyId");

    held.release();
    sender.send(Bytes::copy_from_slice(rest)).await.unwrap();
    drop(sender);
    let reply = upload.await.unwrap().expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.code());
    served.write(&good);
    served.reloader.reload().await;
    assert_eq!(get(served.address, "/b/big").await.bytes(), plain);
}

// --- the program itself ---------------------------------------------------------------------------------------------

/// A directory as Kubernetes mounts it: the files are links through `..data`, which is swapped as one.
fn publish(mount: &Path, version: &str, text: &str) {
    let real = mount.join(format!("..{version}"));
    fs::create_dir(&real).unwrap();
    fs::write(real.join("proxy.toml"), text).unwrap();
    let beside = mount.join("..data_tmp");
    symlink(format!("..{version}"), &beside).unwrap();
    fs::rename(beside, mount.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_sees_a_change_and_a_hangup() {
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "endpoint = \"{}\", credentials.default = {{ access_key = \"a\", secret_key = \"s\" }}",
        store.endpoint
    );
    let admin = Program::free_address();
    let made = Program::configure(directory.path(), &settings, &format!("admin.listen = \"{admin}\"")).await;
    let text = fs::read_to_string(&made).unwrap().replace("\"warn\"", "\"info,access=off\"");
    let mount = directory.path().join("mount");
    fs::create_dir(&mount).unwrap();
    publish(&mount, "1", &text);
    symlink("..data/proxy.toml", mount.join("proxy.toml")).unwrap();
    let program = Program::start(&mount.join("proxy.toml"));
    let to = program.address;
    program.logged("s3veil serves", 1).await;
    let page = async |path: &str| {
        let request = http::Request::get(path).header("host", "localhost").body(full("")).unwrap();
        let reply = exchange(admin, request).await.unwrap();
        String::from_utf8(reply.bytes().to_vec()).unwrap()
    };
    let ready = |kms: &str| format!("store '{}': ok\nkms '{kms}': ok\n", store.endpoint);
    assert_eq!(page("/readyz").await, ready("local"));
    assert_eq!(put(to, "/b/k", b"hello").await.status, 200);

    // Kubernetes' links. The policy names another KMS, and that is what readiness shows.
    let keys = directory.path().join("keys");
    let second = text
        .replace("kms.local = ", &format!("kms.second = {{ kind = \"local\", path = {keys:?}, master_key = {{ file = \"{}/master.key\" }} }}\n            kms.local = ", keys.display()))
        .replace("ek = \"s3veil-dev-key\"", "ek = \"s3veil-dev-key\", kms = \"second\"");
    assert_ne!(second, text);
    publish(&mount, "2", &second);
    program.logged(READ, 1).await;
    assert_eq!(page("/readyz").await, ready("second"));
    assert_eq!(get(to, "/b/k").await.bytes(), b"hello");

    // Back, and broken, and mended.
    publish(&mount, "3", &text);
    program.logged(READ, 2).await;
    let metrics = page("/metrics").await;
    assert!(!metrics.contains("s3veil_kms_up{kms=\"second\"}"), "{metrics}");
    publish(&mount, "4", &text.replace("bucket = \"*\"", "bucket = \"* *\""));
    program.logged(BROKEN, 1).await;
    let log = program.log();
    assert!(log.contains("policy[0].bucket: '* *'") && log.contains("mount/proxy.toml: "), "{log}");
    assert_eq!(get_range(to, "/b/k", "bytes=1-2").await.bytes(), b"el");
    assert!(page("/metrics").await.contains("s3veil_config_reloads_total{result=\"failed\"} 1"));

    publish(&mount, "5", &text);
    program.logged(READ, 3).await;
    // Nothing has changed, and it is read all the same.
    program.hang_up();
    program.logged(READ, 4).await;
    assert!(page("/metrics").await.contains("s3veil_config_reloads_total{result=\"ok\"} 4"));

    // The environment still comes before the file: the program listens where that says, and goes on doing so.
    publish(&mount, "6", &format!("listen = \"127.0.0.1:9\"\n{text}"));
    program.logged(READ, 5).await;
    assert!(!program.log().contains("takes a restart"), "{}", program.log());
    // The admin listener goes on as well, though the file has none by now.
    publish(&mount, "7", &text.replace("admin.listen", "# admin.listen"));
    program.logged("admin.listen: a change takes a restart", 1).await;
    assert_eq!(page("/readyz").await, ready("local"));
    assert_eq!(put(to, "/b/k", b"hello").await.status, 200);
}
