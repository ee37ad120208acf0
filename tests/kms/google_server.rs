//! Cloud KMS, Secret Manager and the servers of tokens, as Google's REST reference has them: a server of the tests' own.
//!
//! It is written from the reference, not from s3veil's client: AES-256-GCM with associated data, versions with states,
//! checksums that are really checked, lists in pages, and the texts that Google answers with. What it can't show is what
//! the reference leaves open.
//!
//! Sources: <https://cloud.google.com/kms/docs/reference/rest>, <https://cloud.google.com/secret-manager/docs/reference/rest>,
//! <https://cloud.google.com/kms/docs/data-integrity-guidelines>, <https://cloud.google.com/apis/design/errors>.
#![allow(clippy::disallowed_methods)] // Bodies here are small.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::google_keys::CryptoKey;

pub const RING: &str = "projects/p/locations/l/keyRings/r";

pub const ENABLED: usize = 1;
pub const DISABLED: usize = 2;
pub const DESTROYED: usize = 3;
pub const SCHEDULED: usize = 4;
/// `CryptoKeyVersionState`. Secret Manager's first four are the same.
pub const STATES: [&str; 5] = ["UNSPECIFIED", "ENABLED", "DISABLED", "DESTROYED", "DESTROY_SCHEDULED"];

pub type Reply = (u16, Value);
pub type Refused = Reply;
type Twist = Box<dyn Fn(&str, &mut Reply) + Send>;

/// A running server.
#[derive(Clone)]
pub struct Google {
    pub endpoint: String,
    world: Arc<Mutex<World>>,
}

/// What a test may look at and change while the server runs.
#[derive(Default)]
pub struct World {
    keys: BTreeMap<String, CryptoKey>,
    pub secrets: BTreeMap<String, Secret>,
    /// `METHOD path` of every request.
    pub seen: Vec<String>,
    /// The refresh tokens, subject tokens or `metadata` that tokens were asked for with.
    pub logins: Vec<String>,
    /// The `Authorization` headers that the services were asked with.
    pub bearers: Vec<String>,
    /// The token that is taken; none: whatever comes, or does not.
    pub accepted: Option<String>,
    /// How the token server answers; 0: as it should.
    pub token_status: u16,
    /// How long a token lives, in seconds.
    pub token_life: u64,
    /// The token server takes a question and never answers.
    pub hang: bool,
    /// Changes an answer, by the path that was asked.
    pub twist: Option<Twist>,
}

/// A secret, and the state of its versions.
pub struct Secret {
    pub replication: Value,
    pub versions: Vec<(Vec<u8>, usize)>,
}

impl Google {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World { token_life: 3600, ..World::default() }));
        let served = world.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = served.clone();
                let service = service_fn(move |request| serve(world.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { endpoint, world }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }

    /// From now on, answers to paths with this end are changed so.
    pub fn twist(&self, end: &'static str, change: impl Fn(&mut Reply) + Send + 'static) {
        let twist = move |path: &str, reply: &mut Reply| {
            if path.ends_with(end) {
                change(reply);
            }
        };
        self.with(|world| world.twist = Some(Box::new(twist)));
    }

    /// From now on, paths with this end are refused so.
    pub fn refuse(&self, end: &'static str, code: u16, status: &'static str, message: &'static str) {
        self.twist(end, move |reply| *reply = error(code, status, message));
    }

    /// The states of a key's versions, in order, as the console shows them.
    pub fn states(&self, key: &str) -> Vec<&'static str> {
        self.with(|world| world.keys[key].versions.iter().map(|version| STATES[version.state]).collect())
    }

    /// Someone schedules the destruction of a version, with other tools.
    pub fn schedule(&self, key: &str, version: usize) {
        self.with(|world| world.keys.get_mut(key).unwrap().versions[version - 1].state = SCHEDULED);
    }
}

pub fn error(code: u16, status: &str, message: &str) -> Reply {
    (code, json!({ "error": { "code": code, "status": status, "message": message } }))
}

pub fn not_found(what: &str) -> Refused {
    error(404, "NOT_FOUND", &format!("{what} not found."))
}

pub fn invalid(why: &str) -> Refused {
    error(400, "INVALID_ARGUMENT", why)
}

pub fn precondition(why: &str) -> Refused {
    error(400, "FAILED_PRECONDITION", why)
}

async fn serve(
    world: Arc<Mutex<World>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    let query: BTreeMap<String, String> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    let ask = Ask { method: parts.method, names: !query.contains_key("$alt"), query, body };
    let bearer = parts.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let flavor = parts.headers.contains_key("metadata-flavor");
    if path == "/token" && world.lock().unwrap().hang {
        std::future::pending::<()>().await;
    }
    let mut world = world.lock().unwrap();
    world.seen.push(format!("{} {path}", ask.method));
    let mut reply = match path.strip_prefix("/v1/") {
        None => world.tokens(&path, flavor, &ask.body),
        Some(name) => {
            world.bearers.extend(bearer.clone());
            let wanted = world.accepted.as_ref().map(|token| format!("Bearer {token}"));
            if wanted.is_some() && wanted != bearer {
                error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
            } else {
                world.answer(name, &ask).unwrap_or_else(|refused| refused)
            }
        }
    };
    if let Some(twist) = &world.twist {
        twist(&path, &mut reply);
    }
    let answer = Response::builder().status(reply.0).header("content-type", "application/json");
    Ok(answer.body(Full::from(reply.1.to_string())).unwrap())
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

pub struct Ask {
    pub method: Method,
    pub query: BTreeMap<String, String>,
    body: Bytes,
    /// Whether enums are asked for by name, which is the default, or by number.
    pub names: bool,
}

impl Ask {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn state(&self, state: usize) -> Value {
        if self.names { json!(STATES[state]) } else { json!(state) }
    }

    /// One item a page: the shortest pages there are.
    pub fn page<T>(&self, field: &str, items: impl Iterator<Item = T>, show: impl Fn(T) -> Value) -> Value {
        let at: usize = match self.query.get("pageToken").map_or("", String::as_str) {
            "" => 0,
            token => token.parse().unwrap(),
        };
        let mut rest = items.skip(at);
        let shown: Vec<Value> = rest.next().map(show).into_iter().collect();
        let next = rest.next().map_or(String::new(), |_| (at + 1).to_string());
        json!({ field: shown, "nextPageToken": next })
    }
}

impl World {
    fn answer(&mut self, name: &str, ask: &Ask) -> Result<Reply, Refused> {
        let (name, verb) = name.split_once(':').unwrap_or((name, ""));
        let steps: Vec<&str> = name.split('/').collect();
        let done = match steps[..] {
            ["projects", "p", "locations", "l", "keyRings", "r", "cryptoKeys", ref rest @ ..] => {
                self.kms(rest, verb, ask)?
            }
            ["projects", "p", "secrets", ref rest @ ..] => self.secret_manager(rest, verb, ask)?,
            _ => return Err(not_found(name)),
        };
        Ok((200, done))
    }

    fn kms(&mut self, rest: &[&str], verb: &str, ask: &Ask) -> Result<Value, Refused> {
        match (rest, verb, ask.method.as_str()) {
            ([], "", "GET") => Ok(ask.page("cryptoKeys", self.keys.iter(), |(id, key)| key.show(id, ask))),
            ([], "", "POST") => {
                let id = ask.query["cryptoKeyId"].clone();
                if ![json!("ENCRYPT_DECRYPT"), json!(1)].contains(&ask.json()["purpose"]) {
                    return Err(invalid("purpose"));
                }
                if self.keys.contains_key(&id) {
                    return Err(error(
                        409,
                        "ALREADY_EXISTS",
                        &format!("CryptoKey {RING}/cryptoKeys/{id} already exists."),
                    ));
                }
                let key = CryptoKey::new();
                let shown = key.show(&id, ask);
                self.keys.insert(id, key);
                Ok(shown)
            }
            ([id, rest @ ..], ..) => {
                let key = self
                    .keys
                    .get_mut(*id)
                    .ok_or_else(|| not_found(&format!("CryptoKey {RING}/cryptoKeys/{id}")))?;
                key.answer(id, rest, verb, ask)
            }
            _ => Err(error(404, "NOT_FOUND", "no such method")),
        }
    }

    fn secret_manager(&mut self, rest: &[&str], verb: &str, ask: &Ask) -> Result<Value, Refused> {
        // Google answers with the project's number.
        let full = |id: &str| format!("projects/1234/secrets/{id}");
        if let ([], "GET") = (rest, ask.method.as_str()) {
            return Ok(ask.page("secrets", self.secrets.keys(), |id| json!({ "name": full(id) })));
        }
        if let ([], "POST") = (rest, ask.method.as_str()) {
            let id = ask.query["secretId"].clone();
            if self.secrets.contains_key(&id) {
                return Err(error(409, "ALREADY_EXISTS", &format!("Secret [{}] already exists.", full(&id))));
            }
            let secret = Secret { replication: ask.json()["replication"].clone(), versions: vec![] };
            self.secrets.insert(id.clone(), secret);
            return Ok(json!({ "name": full(&id) }));
        }
        let id = rest[0];
        let secret = self.secrets.get_mut(id).ok_or_else(|| not_found(&format!("Secret [{}]", full(id))))?;
        match (&rest[1..], verb, ask.method.as_str()) {
            ([], "addVersion", "POST") => {
                let payload = ask.json()["payload"].clone();
                let data = bytes(&payload["data"])?;
                verified(&payload, "data", "dataCrc32c", &data)?;
                secret.versions.push((data, ENABLED));
                Ok(secret.show(&full(id), secret.versions.len(), ask))
            }
            ([], "", "DELETE") => {
                self.secrets.remove(id);
                Ok(json!({}))
            }
            (["versions", number], ..) => {
                let at: usize = number.parse().map_err(|_| invalid("version"))?;
                let name = format!("{}/versions/{at}", full(id));
                let (data, state) = secret
                    .versions
                    .get_mut(at - 1)
                    .ok_or_else(|| not_found(&format!("Secret Version [{name}]")))?;
                match (verb, ask.method.as_str()) {
                    ("access", "GET") if *state != ENABLED => {
                        Err(precondition(&format!("Secret Version [{name}] is in {} state.", STATES[*state])))
                    }
                    ("access", "GET") => {
                        let sum = crc32c(data).to_string();
                        Ok(
                            json!({ "name": name, "payload": { "data": BASE64_STANDARD.encode(data), "dataCrc32c": sum } }),
                        )
                    }
                    ("enable" | "disable", "POST") => {
                        *state = if verb == "enable" { ENABLED } else { DISABLED };
                        Ok(secret.show(&full(id), at, ask))
                    }
                    ("", "GET") => Ok(secret.show(&full(id), at, ask)),
                    _ => Err(error(404, "NOT_FOUND", "no such method")),
                }
            }
            _ => Err(error(404, "NOT_FOUND", "no such method")),
        }
    }

    /// The token endpoint of OAuth 2 (RFC 6749 and 8693), and the metadata server of a machine at Google.
    fn tokens(&mut self, path: &str, flavor: bool, body: &[u8]) -> Reply {
        let form = String::from_utf8_lossy(body).into_owned();
        let who = match path {
            "/computeMetadata/v1/instance/service-accounts/default/token" if flavor => "metadata".to_owned(),
            "/token" => match serde_json::from_slice::<Value>(body) {
                Ok(json) => json["refresh_token"].as_str().unwrap_or_default().to_owned(),
                Err(_) => {
                    let field = form.split('&').find_map(|pair| pair.strip_prefix("subject_token="));
                    decode(field.unwrap_or_default())
                }
            },
            _ => return (404, json!({})),
        };
        self.logins.push(who);
        if self.token_status != 0 {
            return (self.token_status, json!({ "error": "invalid_grant" }));
        }
        let token = format!("token-{}", self.logins.len());
        self.accepted = Some(token.clone());
        (
            200,
            json!({
                "access_token": token,
                "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "expires_in": self.token_life,
            }),
        )
    }
}

impl Secret {
    fn show(&self, name: &str, number: usize, ask: &Ask) -> Value {
        let state = ask.state(self.versions[number - 1].1);
        json!({ "name": format!("{name}/versions/{number}"), "state": state, "createTime": "2026-11-25T12:00:00Z" })
    }

    /// Someone destroys its content, with other tools.
    pub fn destroy(&mut self) {
        self.versions[0] = (vec![], DESTROYED);
    }
}

pub fn bytes(value: &Value) -> Result<Vec<u8>, Refused> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).map_err(|_| invalid("base64"))
}

/// Whether a checksum came and is right. It is an int64, which is a string in JSON.
pub fn verified(ask: &Value, field: &str, sum: &str, data: &[u8]) -> Result<bool, Refused> {
    match ask[sum].as_str() {
        None => Ok(false),
        Some(text) if text == crc32c(data).to_string() => Ok(true),
        Some(_) => Err(invalid(&format!(
            "The checksum in field {field}_crc32c did not match the data in field {field}."
        ))),
    }
}

/// Castagnoli's polynomial, a bit at a time: RFC 3720, section 12.1.
pub fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}
