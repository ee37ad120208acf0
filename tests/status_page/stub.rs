//! An admin listener that says what a test wants: each answer of `/status.json` is made by the test's own script.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// What `/status.json` does.
pub enum Reply {
    Status(Value),
    /// This status and words instead.
    Fails(u16),
    /// The connection is closed without an answer.
    HangsUp,
}

type Script = Box<dyn FnMut(u64) -> Reply + Send>;

/// One request: method, path with its query, `Authorization`.
pub type Seen = (String, String, Option<String>);

/// Listens until the process ends.
pub struct Stub {
    pub base: String,
    state: Arc<Mutex<State>>,
}

struct State {
    script: Script,
    /// How often the script was asked.
    turns: u64,
    policy: Value,
    seen: Vec<Seen>,
}

impl Stub {
    /// `script`: given how often it was asked before, what to say.
    pub fn start(script: impl FnMut(u64) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let state = State { script: Box::new(script), turns: 0, policy: policy(), seen: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A browser that goes away in the middle is no fault of the page.
                thread::spawn(move || answer(stream, &state).ok());
            }
        });
        Self { base, state }
    }

    /// Another script, which begins to count anew.
    pub fn script(&self, script: impl FnMut(u64) -> Reply + Send + 'static) {
        let mut state = self.state.lock().unwrap();
        (state.script, state.turns) = (Box::new(script), 0);
    }

    /// What was asked for.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// How often `/status.json` was asked for.
    pub fn polls(&self) -> usize {
        self.seen().iter().filter(|(_, path, _)| path == "/status.json").count()
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?.take(1 << 16)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut authorization = None;
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                authorization = Some(value.to_owned())
            }
            Some(_) => {}
            None => break,
        }
    }
    // One at a time: the order of `seen` is that of the answers.
    let mut state = state.lock().unwrap();
    state.seen.push((method.clone(), path.clone(), authorization.clone()));
    let allowed = authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    let (status, kind, body) = match (method.as_str(), path.as_str()) {
        ("GET", "/") => (200, "text/html; charset=utf-8", page()),
        ("GET", "/status.json") => {
            let turn = state.turns;
            state.turns += 1;
            match (state.script)(turn) {
                Reply::Status(value) => (200, "application/json", value.to_string()),
                Reply::Fails(status) => (status, "text/plain", "no\n".into()),
                Reply::HangsUp => return Ok(()),
            }
        }
        ("GET", "/policy") if allowed => (200, "application/json", state.policy.to_string()),
        ("POST", "/cache/flush") if allowed => (200, "text/plain", "every cached key is forgotten\n".into()),
        ("GET", "/policy") | ("POST", "/cache/flush") => (401, "text/plain", "send the token\n".into()),
        _ => (404, "text/plain", "not there\n".into()),
    };
    drop(state);
    write_answer(stream, status, kind, &body)
}

fn write_answer(mut stream: TcpStream, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
    let policy = if kind.starts_with("text/html") {
        content_security_policy(body)
    } else {
        "default-src 'none'".into()
    };
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Security-Policy: {policy}\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Read anew each time: a change of the page needs no build.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page.html")).unwrap()
}

/// The policy that the admin listener sends too.
fn content_security_policy(page: &str) -> String {
    let hash = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>")).expect("there is one");
        let (inside, rest) = rest.split_once(&format!("</{tag}>")).expect("it ends");
        assert!(!rest.contains(&format!("<{tag}")), "there is only one <{tag}>");
        STANDARD.encode(Sha256::digest(inside))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

/// The status of a proxy under a steady load, `turn` answers after its start: two seconds each. Every number can be worked
/// out: 100 GETs and 20 PUTs a second and some wrong signatures, the load swelling and ebbing over a hundred answers.
pub fn steady(turn: u64) -> Value {
    // The sum of the load up to a turn: what a counter shows.
    let load = |each: f64| {
        let swell = |turn: u64| {
            1.0 + 0.35 * (turn as f64 / 29.0).sin()
                + 0.12 * (turn as f64 / 3.3).sin() * (turn as f64 / 11.0).cos()
        };
        (0..=turn).map(|turn| each * swell(turn)).sum::<f64>().round() as u64
    };
    let (get, put) = (load(200.0), load(40.0));
    json!({
        "version": "0.1.0", "uptime_secs": 86_400.0 + 2.0 * turn as f64, "ready": true, "draining": false,
        "in_flight": (6.0 + 4.0 * (turn as f64 / 7.0).sin()).round() as u64, "connections": 24 + turn / 40,
        "store": { "endpoint": "https://minio.storage.svc:9000", "up": true, "away_secs": null, "why": null, "millis": 1.8 },
        "kms": [
            { "name": "vault", "up": true, "away_secs": null, "why": null, "cached_keys_go_on": true,
              "calls": 512 + turn / 5, "failed_calls": 0 },
            { "name": "local", "up": true, "away_secs": null, "why": null, "cached_keys_go_on": true,
              "calls": 12, "failed_calls": 0 },
        ],
        "requests": {
            "total": { "2xx": get + put + load(24.0), "3xx": load(3.0), "4xx": load(4.0), "5xx": turn / 90 },
            "by_operation": { "GetObject": get, "PutObject": put, "HeadObject": load(18.0), "ListObjectsV2": load(6.0),
                "UploadPart": load(4.0), "DeleteObject": load(3.0) },
        },
        "latency": {
            "bounds": [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            "counts": [load(4.0), load(60.0), load(120.0), load(60.0), load(14.0), load(4.0), load(2.0),
                if turn > 120 { 1 } else { 0 } * (turn - turn.min(120)) / 9, 0, 0, 0, 0, 0, 0],
        },
        "bytes": { "in": load(9.0e7), "out": load(4.2e8), "sealed": load(9.0e7), "opened": load(4.2e8) },
        "crypto_seconds": { "seal": load(3.0e4) as f64 / 1e6, "open": load(9.0e4) as f64 / 1e6 },
        "cache": {
            "write": { "hit": load(43.0), "miss": turn / 8, "refresh": turn / 30 },
            "read": { "hit": load(200.0), "miss": turn + turn / 3, "refresh": turn / 20 },
        },
        "integrity_failures": 0, "plaintext_reads": 17, "bodies_cut": 2,
        "auth_failures": { "SignatureDoesNotMatch": 2 + turn / 60, "InvalidAccessKeyId": 1 },
        "shed": { "connections": 0, "in_flight": 0 },
        "config": { "last_reload_successful": true, "taken_at": 1_764_060_000 },
        "token_set": true,
    })
}

/// Names that would be HTML if they were put in as such.
fn policy() -> Value {
    let rule = |bucket: &str, more: Value| {
        let mut rule = json!({
            "bucket": bucket, "prefix": null, "mode": "seal", "ek": "main", "kms": "vault", "plaintext": "deny",
            "locked": false, "client_eks": [], "customer_keys": true, "anonymous": "refuse",
        });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    json!({
        "rules": [
            rule("invoices", json!({ "ek": "finance", "locked": true, "customer_keys": false })),
            rule("media", json!({ "prefix": "public/", "mode": "passthrough", "ek": null, "kms": null,
                "plaintext": "read", "anonymous": "forward" })),
            rule("team-*", json!({ "client_eks": ["team-*", "<img src=/x onerror=boom()>"], "plaintext": "read" })),
            rule("archive-*", json!({ "ek": "old <b>key</b>", "kms": "local" })),
            rule("*", json!({})),
        ],
        "eks": [
            { "kms": "vault", "ek": "finance", "state": "ok", "why": null },
            { "kms": "vault", "ek": "main", "state": "ok", "why": null },
            { "kms": "local", "ek": "old <b>key</b>", "state": "disabled", "why": "the EK is disabled" },
        ],
        "identities": [
            { "name": "app", "access_key": "APPACCESSKEY", "store": "default" },
            { "name": "backup", "access_key": "BACKUPACCESSKEY", "store": "backup" },
        ],
    })
}
