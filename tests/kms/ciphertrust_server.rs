//! A small CipherTrust Manager, written from its published API apart from s3veil's own code: tokens that end, keys with
//! states and versions, AES-GCM, secrets; and lies. No real one can be had for a test.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::kmip_server::Certificates;

pub const USER: &str = "s3veil";
pub const DOMAIN: &str = "storage";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    OtherName,
    OtherVersion,
    OtherId,
    OtherIv,
    ShortCiphertext,
    ShortTag,
    ShortPlaintext,
    NotBase64,
    NotJson,
    /// JSON, but not what the server writes for an error.
    OtherJson,
    Oversize,
    EndlessList,
}

#[derive(Debug)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub version: u32,
    pub state: &'static str,
    bytes: [u8; 32],
}

#[derive(Default)]
pub struct State {
    pub password: String,
    pub refresh_token: String,
    pub keys: Vec<Key>,
    pub secrets: BTreeMap<String, Value>,
    /// Tokens that are taken.
    pub tokens: HashSet<String>,
    pub logins: usize,
    /// What a token lasts, in seconds, as the server says it.
    pub duration: u64,
    /// Calls with a token that is not taken.
    pub refused: usize,
    pub ivs: Vec<String>,
    pub lie: Option<Lie>,
    /// Answers each call so, whatever it is.
    pub status: Option<u16>,
    made: usize,
}

/// A running server. Dropping it closes all its connections.
pub struct Server {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(certificates: &Certificates) -> Self {
        let (password, refresh_token) = ("right".into(), "fresh".into());
        let state = State { password, refresh_token, duration: 300, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor(certificates), state.clone()));
        Self { port, state, _tasks: tasks }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| answer(state.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Reply = (u16, Value);

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut bytes = Vec::new();
    let mut body = Limited::new(body, 1 << 20);
    while let Some(frame) = body.frame().await {
        bytes.extend(frame.unwrap().into_data().unwrap_or_default());
    }
    let body: Value = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    let mut state = state.lock().unwrap();
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let path = parts.uri.path().strip_prefix("/api/v1/").unwrap().to_owned();
    let query: HashMap<_, _> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let (status, value) = match (state.status, path.as_str()) {
        (Some(status), _) => (status, json!({"code": 1, "codeDesc": "told to"})),
        (None, "auth/tokens") => log_in(&mut state, &body),
        (None, _) if !state.tokens.contains(token) => {
            state.refused += 1;
            (401, json!({"code": 5, "codeDesc": "NCERRUnauthorizedAccess"}))
        }
        (None, path) => run(&mut state, &parts.method, path, &query, &body),
    };
    let text = match (state.lie, path.as_str()) {
        (None, _) => value.to_string(),
        (_, "auth/tokens") if status == 200 => value.to_string(),
        (Some(Lie::NotJson), _) => "<html>".into(),
        (Some(Lie::OtherJson), _) => json!({"message": "no Route matched"}).to_string(),
        (Some(Lie::Oversize), _) => format!("{{\"x\": \"{}\"}}", "x".repeat(5 << 20)),
        (Some(_), _) => value.to_string(),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn log_in(state: &mut State, body: &Value) -> Reply {
    let right = match body["grant_type"].as_str() {
        Some("password") => body["username"] == USER && body["password"] == *state.password,
        Some("refresh_token") => body["refresh_token"] == *state.refresh_token && body["domain"] == DOMAIN,
        _ => false,
    };
    if !right {
        return (401, json!({"code": 5, "codeDesc": "NCERRUnauthorizedAccess"}));
    }
    state.logins += 1;
    let jwt = format!("jwt-{}", state.logins);
    state.tokens.insert(jwt.clone());
    (200, json!({"jwt": jwt, "duration": state.duration, "token_type": "Bearer", "refresh_token": "another"}))
}

fn run(
    state: &mut State,
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    body: &Value,
) -> Reply {
    let parts: Vec<String> = path.split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["vault", "keys2"]) => {
            let named = |key: &&Key| query.get("name").is_none_or(|name| key.name == *name);
            let keys: Vec<Value> = state.keys.iter().filter(named).map(|key| shown(key, state.lie)).collect();
            page(state.lie, query, keys)
        }
        ("POST", ["vault", "keys2"]) => {
            assert_eq!(
                (&body["algorithm"], &body["size"], &body["usageMask"]),
                (&json!("aes"), &json!(256), &json!(12))
            );
            let name = body["name"].as_str().unwrap();
            if state.keys.iter().any(|key| key.name == name) {
                return (409, json!({"code": 11, "codeDesc": "NCERRConflict"}));
            }
            (201, make(state, name, 0))
        }
        (_, ["vault", "keys2", key, rest @ ..]) => match find(state, key, query) {
            Some(at) => on_key(state, at, method, rest, body),
            None => (404, json!({"code": 4, "codeDesc": "NCERRResourceNotFound"})),
        },
        ("POST", ["crypto", operation]) => crypto(state, operation, body),
        (method, ["vault", "secrets", rest @ ..]) => secrets(state, method, rest, query, body),
        other => panic!("no such call: {other:?}"),
    }
}

/// The newest of a name, or the one that is asked for.
fn find(state: &State, key: &str, query: &HashMap<String, String>) -> Option<usize> {
    let version = query.get("version").map(|version| version.parse::<u32>().unwrap());
    let is = |found: &Key| match query["type"].as_str() {
        "id" => found.id == key,
        "name" => found.name == key && version.is_none_or(|version| found.version == version),
        other => panic!("type {other}"),
    };
    (0..state.keys.len()).filter(|at| is(&state.keys[*at])).max_by_key(|at| state.keys[*at].version)
}

fn make(state: &mut State, name: &str, version: u32) -> Value {
    state.made += 1;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    let id = format!("id-{}", state.made);
    state.keys.push(Key { id, name: name.into(), version, state: "Active", bytes });
    shown(state.keys.last().unwrap(), None)
}

fn shown(key: &Key, lie: Option<Lie>) -> Value {
    let name = if lie == Some(Lie::OtherName) { "another" } else { &key.name };
    let version = if lie == Some(Lie::OtherVersion) { key.version + 1 } else { key.version };
    json!({
        "id": key.id, "name": name, "version": version, "state": key.state, "algorithm": "AES", "size": 256,
        "usageMask": 12, "createdAt": "2026-11-25T10:00:00.123456Z",
    })
}

fn page(lie: Option<Lie>, query: &HashMap<String, String>, all: Vec<Value>) -> Reply {
    let number = |name: &str| query[name].parse::<usize>().unwrap();
    let (skip, limit) = (number("skip"), number("limit"));
    let total = if lie == Some(Lie::EndlessList) { usize::MAX >> 12 } else { all.len() };
    let skipped = if lie == Some(Lie::EndlessList) { 0 } else { skip };
    let resources: Vec<Value> = all.into_iter().skip(skipped).take(limit).collect();
    (200, json!({"skip": skip, "limit": limit, "total": total, "resources": resources}))
}

fn on_key(state: &mut State, at: usize, method: &Method, rest: &[&str], body: &Value) -> Reply {
    let lie = state.lie;
    let key = &mut state.keys[at];
    let conflict = (400, json!({"code": 17, "codeDesc": "NCERRInvalidParamValue"}));
    match (method.as_str(), rest, key.state) {
        ("GET", [], _) => (200, shown(key, lie)),
        ("DELETE", [], _) => {
            state.keys.remove(at);
            (204, Value::Null)
        }
        ("POST", ["versions"], _) => {
            let (name, version) = (key.name.clone(), key.version + 1);
            (201, make(state, &name, version))
        }
        ("POST", ["revoke"], "Active") if body["reason"] == "CessationOfOperation" => {
            key.state = "Deactivated";
            (200, shown(key, None))
        }
        ("POST", ["reactivate"], "Deactivated") if body["reason"] == "DeactivatedToActive" => {
            key.state = "Active";
            (200, shown(key, None))
        }
        _ => conflict,
    }
}

fn crypto(state: &mut State, operation: &str, body: &Value) -> Reply {
    assert_eq!((&body["type"], &body["mode"]), (&json!("id"), &json!("gcm")));
    let bytes = |name: &str| BASE64_STANDARD.decode(body[name].as_str().unwrap()).unwrap();
    let iv: [u8; 12] = bytes("iv").try_into().unwrap();
    let (aad, lie) = (bytes("aad"), state.lie);
    let Some(key) = state.keys.iter().find(|key| body["id"] == *key.id && body["version"] == key.version)
    else {
        return (404, json!({"code": 4, "codeDesc": "NCERRResourceNotFound"}));
    };
    let cipher = Aes256Gcm::new(&key.bytes.into());
    if operation == "decrypt" {
        let sealed = [bytes("ciphertext"), bytes("tag")].concat();
        // In any state: KMIP allows it for a deactivated key.
        return match cipher.decrypt(&iv.into(), Payload { msg: &sealed, aad: &aad }) {
            Ok(data) if lie == Some(Lie::ShortPlaintext) => {
                (200, json!({"plaintext": encoded(&data[..16], lie)}))
            }
            Ok(data) => (200, json!({"plaintext": encoded(&data, lie)})),
            Err(_) => (400, json!({"code": 15, "codeDesc": "NCERRInvalidCipherText"})),
        };
    }
    if key.state != "Active" {
        return (400, json!({"code": 17, "codeDesc": "NCERRKeyNotActive"}));
    }
    let data = bytes("plaintext");
    let sealed = cipher.encrypt(&iv.into(), Payload { msg: &data, aad: &aad }).unwrap();
    let (data, tag) = sealed.split_at(data.len());
    let data = if lie == Some(Lie::ShortCiphertext) { &data[..16] } else { data };
    let tag = if lie == Some(Lie::ShortTag) { &tag[..12] } else { tag };
    let iv = if lie == Some(Lie::OtherIv) { [0; 12] } else { iv };
    let id = if lie == Some(Lie::OtherId) { "another" } else { &key.id };
    let answer = json!({
        "ciphertext": encoded(data, lie), "tag": encoded(tag, None), "id": id, "version": key.version,
        "mode": "gcm", "iv": encoded(&iv, None), "aad": encoded(&aad, None),
    });
    state.ivs.push(body["iv"].as_str().unwrap().into());
    (200, answer)
}

fn encoded(bytes: &[u8], lie: Option<Lie>) -> String {
    if lie == Some(Lie::NotBase64) { "!".repeat(44) } else { BASE64_STANDARD.encode(bytes) }
}

fn secrets(
    state: &mut State,
    method: &str,
    rest: &[&str],
    query: &HashMap<String, String>,
    body: &Value,
) -> Reply {
    let missing = (404, json!({"code": 4, "codeDesc": "NCERRResourceNotFound"}));
    match (method, rest) {
        ("GET", []) => {
            let all = state.secrets.keys().map(|name| json!({"name": name})).collect();
            page(state.lie, query, all)
        }
        ("POST", []) => {
            assert_eq!(body["dataType"], "seed");
            let name = body["name"].as_str().unwrap();
            if state.secrets.contains_key(name) {
                return (409, json!({"code": 11, "codeDesc": "NCERRConflict"}));
            }
            state.secrets.insert(name.into(), body["material"].clone());
            (201, json!({"name": name}))
        }
        (_, [name, rest @ ..]) => {
            assert_eq!(query["type"], "name");
            let shown = if state.lie == Some(Lie::OtherName) { "another" } else { name };
            match (method, rest, state.secrets.get(*name)) {
                (_, _, None) => missing,
                ("GET", [], Some(_)) => (200, json!({"name": shown, "createdAt": "2026-11-25T10:00:00Z"})),
                ("POST", ["export"], Some(material)) => (200, json!({"name": shown, "material": material})),
                ("DELETE", [], Some(_)) => {
                    state.secrets.remove(*name);
                    (204, Value::Null)
                }
                other => panic!("no such call: {other:?}"),
            }
        }
        other => panic!("no such call: {other:?}"),
    }
}
