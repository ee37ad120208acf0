//! A store with plain objects in it, and s3veil in front of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::servers::{self, Store};
use crate::support::client::{Reply, send, send_as};
use crate::support::program::Program;
use crate::support::upload::{document, inner};

/// What a body that is sealed begins with.
pub const MAGIC: &[u8] = b"\x93s3veil";

/// A rule for each way, as `more` of a configuration.
pub const MIXED: &str = "plaintext = \"read\"";

pub struct Site {
    pub store: Store,
    pub proxy: Program,
    pub configuration: PathBuf,
    /// The same, with a rule under which nothing is sealed.
    pub passing: PathBuf,
    _directory: TempDir,
}

impl Site {
    /// In front of MinIO.
    pub async fn minio() -> Option<Self> {
        Self::before(servers::minio()).await
    }

    pub async fn before(store: Result<Store, String>) -> Option<Self> {
        let store = match store {
            Ok(store) => store,
            Err(why) => {
                servers::skip(&why);
                return None;
            }
        };
        let directory = TempDir::new().unwrap();
        let configuration = Program::configure(directory.path(), &store.settings(), "").await;
        let text = std::fs::read_to_string(&configuration).unwrap();
        let rule = "ek = \"s3veil-dev-key\" }";
        assert!(text.contains(rule));
        std::fs::write(&configuration, text.replace(rule, &rule.replace(" }", &format!(", {MIXED} }}"))))
            .unwrap();
        let passing = directory.path().join("passing.toml");
        std::fs::write(&passing, text.replace(rule, "mode = \"passthrough\" }")).unwrap();
        let proxy = Program::start(&configuration);
        Some(Self { store, proxy, configuration, passing, _directory: directory })
    }

    /// A request to the store, past s3veil.
    pub async fn direct(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let reply = self.try_direct(method, path, headers, body).await;
        assert!(reply.status.is_success(), "{method} {path}: {} {}", reply.status, reply.code());
        reply
    }

    pub async fn try_direct(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        send_as(self.store.signer(), self.store.address(), method, path, headers, body).await
    }

    /// A client's request.
    pub async fn client(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        send(self.proxy.address, method, path, &[], body).await
    }

    /// A plain object by parts, past s3veil.
    pub async fn direct_upload(&self, path: &str, headers: &[(&str, &str)], parts: &[&[u8]]) {
        let begun = self.direct("POST", &format!("{path}?uploads"), headers, b"").await;
        let id = inner(&begun, "UploadId");
        let mut sent = Vec::new();
        for (number, part) in (1..).zip(parts) {
            let at = format!("{path}?partNumber={number}&uploadId={id}");
            sent.push((number, self.direct("PUT", &at, &[], part).await.header("etag").to_owned()));
        }
        self.direct("POST", &format!("{path}?uploadId={id}"), &[], &document(&sent)).await;
    }

    /// Whether the store holds sealed bytes there.
    pub async fn is_sealed(&self, path: &str) -> bool {
        let stored = self.direct("GET", path, &[], b"").await;
        let (magic, envelope) =
            (stored.bytes().starts_with(MAGIC), stored.headers.contains_key("x-amz-meta-s3veil"));
        assert_eq!(magic, envelope, "{path}: an envelope goes with a sealed body");
        magic
    }

    /// The keys that a listing of the store shows, all of them.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let query = format!("/{bucket}?list-type=2&max-keys=1000&start-after={after}");
            let page = self.direct("GET", &query, &[], b"").await;
            let text = String::from_utf8(page.bytes().to_vec()).unwrap();
            let found =
                text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
            keys.extend(found);
            if !text.contains("<IsTruncated>true") {
                return keys;
            }
            after = keys.last().unwrap().clone();
        }
    }

    /// What s3veil keeps in a bucket, in all versions, and uploads under way.
    pub async fn left(&self, bucket: &str) -> (usize, usize) {
        let versions = self.direct("GET", &format!("/{bucket}?versions&prefix=.s3veil/"), &[], b"").await;
        let uploads = self.direct("GET", &format!("/{bucket}?uploads"), &[], b"").await;
        let count = |reply: &Reply, what: &str| String::from_utf8_lossy(reply.bytes()).matches(what).count();
        (count(&versions, "<Key>.s3veil/"), count(&uploads, "<UploadId>"))
    }

    /// Parts of uploads that are under way. MinIO lists what a call that broke off has left of an upload, though it has no such
    /// upload any more: that one has no parts.
    pub async fn parts_left(&self, bucket: &str) -> usize {
        let uploads = self.direct("GET", &format!("/{bucket}?uploads"), &[], b"").await;
        let text = String::from_utf8(uploads.bytes().to_vec()).unwrap();
        let inner = |entry: &str, name: &str| {
            let rest = entry.split_once(&format!("<{name}>")).unwrap().1;
            rest.split_once("</").unwrap().0.to_owned()
        };
        let mut parts = 0;
        for upload in text.split("<Upload>").skip(1) {
            let at = format!("/{bucket}/{}?uploadId={}", inner(upload, "Key"), inner(upload, "UploadId"));
            let listed = self.try_direct("GET", &at, &[], b"").await;
            let gone = listed.status == 404 && listed.code() == "NoSuchUpload";
            assert!(gone || listed.status == 200, "{at}: {} {}", listed.status, listed.code());
            parts += String::from_utf8_lossy(listed.bytes()).matches("<Part>").count();
        }
        parts
    }

    pub fn command(&self, configuration: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3veil"));
        command
            .args(&arguments[..1])
            .args(["--config", configuration.to_str().unwrap(), "--json"])
            .args(&arguments[1..]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, off the runtime's threads.
    pub async fn run_with(&self, configuration: &Path, arguments: &[&str]) -> Done {
        let mut command = self.command(configuration, arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Done::of(&output)
    }

    pub async fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(&self.configuration, arguments).await
    }

    /// The same for one that must do all of it.
    pub async fn done(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments).await;
        assert!(done.good, "{arguments:?}: {done:?}");
        done
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Done {
    pub good: bool,
    pub errors: String,
    /// Its lines, parsed.
    pub events: Vec<serde_json::Value>,
}

impl Done {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let events = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { good: output.status.success(), errors, events }
    }

    /// How many objects there were of a kind.
    pub fn count(&self, what: &str) -> u64 {
        let done = self.events.iter().rfind(|event| event["event"] == "done").expect("an end");
        done["counts"][what]["objects"].as_u64().unwrap_or_default()
    }

    /// Codes of problems by object.
    pub fn problems(&self) -> Vec<(&str, &str)> {
        let problems = self.events.iter().filter(|event| event["event"] == "problem");
        let mut problems: Vec<_> =
            problems.map(|one| (one["object"].as_str().unwrap(), one["code"].as_str().unwrap())).collect();
        problems.sort();
        problems
    }
}
