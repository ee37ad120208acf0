//! A Key Vault of the tests' own, with the authority that gives its tokens, over TLS on one loopback port.
//!
//! No server that plays Azure can be had from a package registry, so this one does what Azure is known to do: it asks
//! for a token with a challenge, gives lists in pages, keeps what is deleted, and goes on wrapping with a key that is disabled.
//! Sources: Key Vault's REST reference (2025-07-01); azure-sdk-for-python 45342 and azure-sdk-for-js 24756 for the disabled.
//! Microsoft's client for Python works with it (`azure.rs`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der as Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

/// The header that a managed identity shows on App Service.
pub const IDENTITY_HEADER: &str = "the-identity-header";

/// Changes an answer before it is sent: the path, without its query, and the body.
type Lie = Box<dyn Fn(&str, &mut Value) + Send>;

#[derive(Default)]
pub struct State {
    /// By collection (`keys`, `secrets`) and name: the versions, the oldest first.
    live: BTreeMap<(String, String), Vec<Version>>,
    deleted: BTreeMap<(String, String), Vec<Version>>,
    clock: i64,
    origin: String,
    /// What tokens are for.
    pub audience: String,
    /// The client secret, or the assertion, that logs in.
    pub password: String,
    tokens: Vec<String>,
    /// `METHOD /path` of all that was asked for with a token that is taken, and `TOKEN` for each login.
    pub seen: Vec<String>,
    /// A part of `METHOD /path` that is refused, with which status and inner code.
    pub refuse: Option<(&'static str, u16, &'static str)>,
    pub lie: Option<Lie>,
    /// How often what was deleted or recovered is not ready yet.
    pub slow: u32,
    waits: u32,
}

struct Version {
    id: String,
    attributes: Value,
    material: Material,
}

enum Material {
    Rsa(Box<PrivateDecryptingKey>),
    Aes([u8; 32]),
    Text(String),
}

/// A running vault.
pub struct Azure {
    pub origin: String,
    pub ca_file: PathBuf,
    pub directory: TempDir,
    state: Arc<Mutex<State>>,
}

impl Azure {
    pub async fn start() -> Self {
        Self::of("https://vault.azure.net").await
    }

    pub async fn of(audience: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).unwrap();
        let state = Arc::new(Mutex::new(State {
            origin: origin.clone(),
            audience: audience.to_owned(),
            password: "right".into(),
            clock: 1_700_000_000,
            ..State::default()
        }));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), state.clone()));
        Self { origin, ca_file, directory, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The settings for this vault and its authority, without a login.
    pub fn address(&self) -> String {
        let audience = self.state().audience.clone();
        format!(
            "vault = {:?}\naudience = {audience:?}\nauthority = {:?}\nca_file = {:?}\n",
            self.origin, self.origin, self.ca_file
        )
    }

    /// All settings, with an application's login.
    pub fn settings(&self) -> String {
        format!(
            "{}tenant_id = {TENANT:?}\nclient_id = {CLIENT:?}\nclient_secret = \"right\"\n",
            self.address()
        )
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
            let connection = hyper::server::conn::http1::Builder::new();
            connection.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = stream.frame().await {
        body.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    let mut state = state.lock().unwrap();
    let (status, mut answer) = state.answer(&parts, &body);
    if let Some(lie) = state.lie.as_ref().filter(|_| status == 200) {
        lie(parts.uri.path(), &mut answer);
    }
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if status == 401 {
        let challenge =
            format!("Bearer authorization=\"{}/{TENANT}\", resource=\"{}\"", state.origin, state.audience);
        response = response.header("www-authenticate", challenge);
    }
    let bytes = if status == 204 { Vec::new() } else { answer.to_string().into_bytes() };
    Ok(response.body(Full::new(bytes.into())).unwrap())
}

type Answer = (u16, Value);

fn error(status: u16, inner: &str) -> Answer {
    let code = match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "KeyNotFound",
        409 => "Conflict",
        _ => "BadParameter",
    };
    let inner = json!({ "code": inner });
    (status, json!({ "error": { "code": code, "message": "The test says so.", "innererror": inner } }))
}

impl State {
    fn answer(&mut self, parts: &http::request::Parts, body: &[u8]) -> Answer {
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        if path == format!("/{TENANT}/oauth2/v2.0/token") {
            return self.login(&String::from_utf8_lossy(body));
        }
        if path == "/identity" {
            return self.identity(parts, query);
        }
        let shown =
            parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.tokens.iter().any(|token| shown == format!("Bearer {token}")) {
            return error(401, "");
        }
        let asked = format!("{} {path}", parts.method);
        self.seen.push(asked.clone());
        if let Some((_, status, inner)) = self.refuse.filter(|(part, ..)| asked.contains(part)) {
            return error(status, inner);
        }
        if !query.contains("api-version=") {
            return error(400, "");
        }
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (status, mut answer) = self.route(&parts.method, &path, query, &body);
        if status == 404 && path[0].ends_with("secrets") {
            answer["error"]["code"] = json!("SecretNotFound");
        }
        (status, answer)
    }

    fn login(&mut self, form: &str) -> Answer {
        let field = |name: &str| {
            let prefix = format!("{name}=");
            form.split('&').find_map(|pair| pair.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        let scope = format!("{}%2F.default", self.audience.replace(':', "%3A").replace('/', "%2F"));
        assert_eq!((field("grant_type"), field("client_id")), ("client_credentials".into(), CLIENT.into()));
        assert_eq!(field("scope"), scope);
        self.seen.push("TOKEN".into());
        if let Some((_, status, _)) = self.refuse.filter(|(part, ..)| *part == "TOKEN") {
            return (status, json!("not the JSON of an error"));
        }
        if field("client_secret") != self.password && field("client_assertion") != self.password {
            let text = "AADSTS7000215: Invalid client secret provided.";
            return (
                401,
                json!({ "error": "invalid_client", "error_description": text, "error_codes": [7000215] }),
            );
        }
        let token = self.token();
        (
            200,
            json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }),
        )
    }

    fn identity(&mut self, parts: &http::request::Parts, query: &str) -> Answer {
        if parts.headers.get("x-identity-header").is_none_or(|value| value != IDENTITY_HEADER) {
            return error(400, "");
        }
        assert!(query.contains("resource=https%3A%2F%2Fvault.azure.net"), "{query}");
        self.seen.push(format!("IDENTITY {}", query.contains(&format!("client_id={CLIENT}"))));
        let token = self.token();
        (
            200,
            json!({ "access_token": token, "expires_on": "4000000000", "resource": self.audience, "token_type": "Bearer" }),
        )
    }

    /// A token that is taken.
    pub fn token(&mut self) -> String {
        let token = format!("token-{}", self.seen.len());
        self.tokens.push(token.clone());
        token
    }

    /// No token that was given is taken any more.
    pub fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// How often something was asked for.
    pub fn count(&self, part: &str) -> usize {
        self.seen.iter().filter(|seen| seen.contains(part)).count()
    }

    fn route(&mut self, method: &Method, path: &[&str], query: &str, body: &Value) -> Answer {
        let at = |collection: &str, name: &str| (collection.to_owned(), name.to_owned());
        match (method.as_str(), path) {
            ("GET", [collection @ ("keys" | "secrets")]) => {
                let items = self.live.iter().filter(|((of, _), _)| of == collection);
                let items = items.map(|((_, name), versions)| {
                    self.item(collection, name, versions.last().unwrap(), false)
                });
                self.page(items.collect(), &format!("/{collection}"), query)
            }
            ("GET", [collection @ ("keys" | "secrets"), name, "versions"]) => {
                let versions = self.live.get(&at(collection, name)).map(Vec::as_slice).unwrap_or_default();
                let items = versions.iter().map(|version| self.item(collection, name, version, true));
                self.page(items.collect(), &format!("/{collection}/{name}/versions"), query)
            }
            ("POST", ["keys", name, "create"]) => self.make("keys", name, material(body)),
            ("PUT", ["secrets", name]) => {
                self.make("secrets", name, Material::Text(body["value"].as_str().unwrap().into()))
            }
            ("POST", ["keys", name, "rotate"]) => {
                let Some(versions) = self.live.get(&at("keys", name)) else { return error(404, "") };
                let material = versions.last().unwrap().material.another();
                self.make("keys", name, material)
            }
            (_, [collection @ ("keys" | "secrets"), name, rest @ ..]) => {
                if method == Method::DELETE {
                    return self.delete(at(collection, name));
                }
                let version = rest.first().copied().unwrap_or_default();
                let Some(version) = self.version(collection, name, version) else { return error(404, "") };
                match (method.as_str(), rest.get(1)) {
                    ("PATCH", None) => {
                        version.attributes["enabled"] = body["attributes"]["enabled"].clone();
                    }
                    ("GET", None) if *collection == "secrets" && version.attributes["enabled"] == false => {
                        return error(403, "SecretDisabled");
                    }
                    ("GET", None) => {}
                    ("POST", Some(operation)) => {
                        let done = version.operate(operation, body);
                        let kid = format!("/keys/{name}/{}", version.id);
                        return done.map_or_else(
                            |(status, inner)| error(status, inner),
                            |bytes| {
                                (200, json!({ "kid": format!("{}{kid}", self.origin), "value": BASE64.encode(bytes) }))
                            },
                        );
                    }
                    _ => return error(400, ""),
                }
                let id = version.id.clone();
                (200, self.whole(collection, name, &id))
            }
            (_, [collection @ ("deletedkeys" | "deletedsecrets"), name, rest @ ..]) => {
                let key = at(collection.trim_start_matches("deleted"), name);
                if !self.deleted.contains_key(&key) {
                    return error(404, "");
                }
                if self.waits > 0 && method != Method::GET {
                    self.waits -= 1;
                    return error(409, "ObjectIsBeingDeleted");
                }
                match (method.as_str(), rest) {
                    ("GET", []) => (200, json!({})),
                    ("DELETE", []) => {
                        self.deleted.remove(&key);
                        (204, Value::Null)
                    }
                    ("POST", ["recover"]) => {
                        let versions = self.deleted.remove(&key).unwrap();
                        self.live.insert(key, versions);
                        (200, json!({}))
                    }
                    _ => error(400, ""),
                }
            }
            _ => error(400, ""),
        }
    }

    fn make(&mut self, collection: &str, name: &str, material: Material) -> Answer {
        let key = (collection.to_owned(), name.to_owned());
        if self.deleted.contains_key(&key) {
            return error(409, "ObjectIsDeletedButRecoverable");
        }
        self.clock += 1;
        let id = format!("{:032x}", self.clock);
        let attributes =
            json!({ "enabled": true, "created": self.clock, "recoveryLevel": "Recoverable+Purgeable" });
        let version = Version { id: id.clone(), attributes, material };
        self.live.entry(key).or_default().push(version);
        (200, self.whole(collection, name, &id))
    }

    fn delete(&mut self, key: (String, String)) -> Answer {
        let Some(versions) = self.live.remove(&key) else { return error(404, "") };
        self.deleted.insert(key, versions);
        self.waits = self.slow;
        (200, json!({ "recoveryId": "somewhere" }))
    }

    fn version(&mut self, collection: &str, name: &str, id: &str) -> Option<&mut Version> {
        let versions = self.live.get_mut(&(collection.to_owned(), name.to_owned()))?;
        if id.is_empty() { versions.last_mut() } else { versions.iter_mut().find(|version| version.id == id) }
    }

    /// Sets an attribute (`exp`, `nbf`, `enabled`, `created`) of the newest version of a key or secret.
    pub fn set(&mut self, collection: &str, name: &str, attribute: &str, value: Value) {
        self.version(collection, name, "").unwrap().attributes[attribute] = value;
    }

    /// Gives a secret another version.
    pub fn add_secret(&mut self, name: &str, text: &str) {
        self.make("secrets", name, Material::Text(text.into()));
    }

    /// The ids of all versions of a key or secret, the oldest first.
    pub fn versions(&self, collection: &str, name: &str) -> Vec<String> {
        let versions = &self.live[&(collection.to_owned(), name.to_owned())];
        versions.iter().map(|version| version.id.clone()).collect()
    }

    fn item(&self, collection: &str, name: &str, version: &Version, with_version: bool) -> Value {
        let mut id = format!("{}/{collection}/{name}", self.origin);
        if with_version {
            id = format!("{id}/{}", version.id);
        }
        let field = if collection == "keys" { "kid" } else { "id" };
        json!({ field: id, "attributes": version.attributes })
    }

    fn whole(&mut self, collection: &str, name: &str, id: &str) -> Value {
        let at = format!("{}/{collection}/{name}/{id}", self.origin);
        let version = self.version(collection, name, id).unwrap();
        let attributes = version.attributes.clone();
        match &version.material {
            Material::Text(text) => json!({ "id": at, "value": text, "attributes": attributes }),
            Material::Rsa(key) => {
                // A public key in DER ends with its modulus, and 65537 with two bytes of head.
                let der: Der = key.public_key().as_der().unwrap();
                let end = der.as_ref().len() - 5;
                let n = BASE64.encode(&der.as_ref()[end - key.key_size_bytes()..end]);
                let ops = ["wrapKey", "unwrapKey"];
                let key = json!({ "kid": at, "kty": "RSA", "n": n, "e": "AQAB", "key_ops": ops });
                json!({ "key": key, "attributes": attributes })
            }
            Material::Aes(_) => json!({ "key": { "kid": at, "kty": "oct-HSM" }, "attributes": attributes }),
        }
    }

    /// Two to a page.
    fn page(&self, items: Vec<Value>, path: &str, query: &str) -> Answer {
        let skip =
            query.split('&').find_map(|pair| pair.strip_prefix("skip=")).map_or(0, |n| n.parse().unwrap());
        let next = skip + 2;
        let link = (items.len() > next).then(|| format!("{}{path}?api-version=1&skip={next}", self.origin));
        let value: Vec<_> = items.into_iter().skip(skip).take(2).collect();
        (200, json!({ "value": value, "nextLink": link }))
    }
}

fn material(body: &Value) -> Material {
    match (body["kty"].as_str().unwrap(), body["key_size"].as_i64().unwrap()) {
        ("RSA" | "RSA-HSM", 2048) => rsa(KeySize::Rsa2048),
        ("RSA" | "RSA-HSM", 3072) => rsa(KeySize::Rsa3072),
        ("RSA" | "RSA-HSM", 4096) => rsa(KeySize::Rsa4096),
        ("oct-HSM", 256) => aes(),
        other => panic!("{other:?}"),
    }
}

fn rsa(size: KeySize) -> Material {
    Material::Rsa(Box::new(PrivateDecryptingKey::generate(size).unwrap()))
}

fn aes() -> Material {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).unwrap();
    Material::Aes(key)
}

impl Material {
    fn another(&self) -> Self {
        match self {
            Self::Rsa(_) => rsa(KeySize::Rsa2048),
            Self::Aes(_) => aes(),
            Self::Text(_) => panic!("secrets are not rotated"),
        }
    }
}

impl Version {
    fn is_in_time(&self) -> bool {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let at = |field: &str| self.attributes[field].as_u64();
        at("nbf").is_none_or(|begin| begin <= now) && at("exp").is_none_or(|end| now < end)
    }

    fn operate(&self, operation: &str, body: &Value) -> Result<Vec<u8>, (u16, &'static str)> {
        let bad = (400, "");
        let value = BASE64.decode(body["value"].as_str().unwrap()).map_err(|_| bad)?;
        let mut out = vec![0; 1024];
        let done = match (&self.material, operation, body["alg"].as_str().unwrap()) {
            // Azure says no to these with a disabled key, and only to these.
            (_, "unwrapkey", _) if self.attributes["enabled"] == false => return Err((403, "KeyDisabled")),
            // Nor does it wrap out of a key's time; but it unwraps, before `nbf` and after `exp`.
            (_, "wrapkey", _) if !self.is_in_time() => return Err((403, "")),
            (Material::Rsa(key), "wrapkey", "RSA-OAEP-256") => {
                let key = OaepPublicEncryptingKey::new(key.public_key()).unwrap();
                key.encrypt(&OAEP_SHA256_MGF1SHA256, &value, &mut out, None).map(|done| done.to_vec())
            }
            (Material::Rsa(key), "unwrapkey", "RSA-OAEP-256") => {
                let key = OaepPrivateDecryptingKey::new((**key).clone()).unwrap();
                key.decrypt(&OAEP_SHA256_MGF1SHA256, &value, &mut out, None).map(|done| done.to_vec())
            }
            (Material::Aes(key), "wrapkey", "A256KW") => {
                AesKek::new(&AES_256, key).unwrap().wrap(&value, &mut out).map(|done| done.to_vec())
            }
            (Material::Aes(key), "unwrapkey", "A256KW") => {
                AesKek::new(&AES_256, key).unwrap().unwrap(&value, &mut out).map(|done| done.to_vec())
            }
            _ => return Err(bad),
        };
        done.map_err(|_| bad)
    }
}
