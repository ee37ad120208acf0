//! Calls to CipherTrust Manager under a token of five minutes, which is renewed in time, once for all who wait.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::kms::Error;
use crate::kms::rest::{Ask, Reply, Rest};
use crate::secret::Secret;
use crate::watch::Watched;

/// What a token lasts when the answer does not say, in seconds.
const USUAL_DURATION: u64 = 300;

/// The longest that a token is believed to last, in seconds: a year.
const MAX_DURATION: u64 = 365 * 24 * 60 * 60;

/// Items on a page of a list.
const PAGE: usize = 200;

/// Pages of a list, at most.
const MAX_PAGES: usize = 500;

/// What may not stand in a path or query as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How s3veil proves who it is.
pub(super) enum Login {
    Password { username: String, password: Watched<Secret> },
    RefreshToken(Watched<Secret>),
}

/// A server and the token that it has given.
pub(super) struct Session {
    rest: Rest,
    login: Login,
    domain: Option<String>,
    token: Mutex<Option<Token>>,
}

struct Token {
    bearer: HeaderValue,
    /// It was had for this.
    secret: Arc<Secret>,
    renew: Instant,
}

#[derive(Serialize)]
struct LoginRequest<'a> {
    grant_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

#[derive(Deserialize)]
struct LoginAnswer {
    jwt: Secret,
    /// In seconds.
    duration: Option<u64>,
}

#[derive(Deserialize)]
struct Page<T> {
    total: usize,
    #[serde(default = "Vec::new")]
    resources: Vec<T>,
}

impl Session {
    pub(super) fn new(rest: Rest, login: Login, domain: Option<String>) -> Self {
        Self { rest, login, domain, token: Mutex::default() }
    }

    /// Asks under a token. `ask` makes the question: once more if the server no longer takes the token.
    ///
    /// Errors: [`Error::Denied`] when the server refuses the login, or the call (401, 403); [`Error::Unavailable`] for a
    /// 404 of another; and those of `Rest`.
    pub(super) async fn send(&self, ask: impl Fn() -> Ask) -> Result<Reply, Error> {
        let bearer = self.bearer(None).await?;
        let mut reply = self.rest.send(ask().header(AUTHORIZATION, bearer.clone())).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            let another = self.bearer(Some(&bearer)).await?;
            reply = self.rest.send(ask().header(AUTHORIZATION, another)).await?;
        }
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Denied(reply.summary())),
            _ => its_own(reply),
        }
    }

    /// All items of a list. `path`: its path and query.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let and = if path.contains('?') { '&' } else { '?' };
        for _ in 0..MAX_PAGES {
            let path = format!("{path}{and}limit={PAGE}&skip={}", items.len());
            let reply = self.send(|| Ask::new(Method::GET, &*path)).await?;
            if reply.status != StatusCode::OK {
                return Err(Error::Denied(reply.summary()));
            }
            let page: Page<T> = reply.json()?;
            let empty = page.resources.is_empty();
            items.extend(page.resources);
            if empty || items.len() >= page.total {
                return Ok(items);
            }
        }
        Err(Error::Malformed("a list of the server has no end".into()))
    }

    /// A token, other than the one that the server refuses. One login at a time; who waits for it shares its token.
    async fn bearer(&self, refused: Option<&HeaderValue>) -> Result<HeaderValue, Error> {
        let mut token = self.token.lock().await;
        let secret = match &self.login {
            Login::Password { password, .. } => password.get(),
            Login::RefreshToken(token) => token.get(),
        };
        if let Some(token) = token.as_ref() {
            let fresh = Instant::now() < token.renew && Arc::ptr_eq(&token.secret, &secret);
            if fresh && refused != Some(&token.bearer) {
                return Ok(token.bearer.clone());
            }
        }
        let asked = Instant::now();
        let answer = self.log_in(&secret).await?;
        let bearer = HeaderValue::try_from(format!("Bearer {}", answer.jwt.as_str()));
        let mut bearer = bearer.map_err(|_| Error::Malformed("the server's token is not text".into()))?;
        bearer.set_sensitive(true);
        // In time for a call that is under way when it ends.
        let life = Duration::from_secs(answer.duration.unwrap_or(USUAL_DURATION).min(MAX_DURATION));
        *token = Some(Token { bearer: bearer.clone(), secret, renew: asked + life * 2 / 3 });
        Ok(bearer)
    }

    async fn log_in(&self, secret: &Secret) -> Result<LoginAnswer, Error> {
        let mut request = LoginRequest {
            grant_type: "refresh_token",
            username: None,
            password: None,
            refresh_token: None,
            domain: self.domain.as_deref(),
        };
        match &self.login {
            Login::RefreshToken(_) => request.refresh_token = Some(secret.as_str()),
            Login::Password { username, .. } => {
                request.grant_type = "password";
                request.username = Some(username);
                request.password = Some(secret.as_str());
            }
        }
        let ask = Ask::new(Method::POST, "/api/v1/auth/tokens").json(&request);
        let reply = its_own(self.rest.send(ask).await?)?;
        if !reply.status.is_success() {
            return Err(Error::Denied(format!("login: {}", reply.summary())));
        }
        reply.json()
    }
}

/// A 404 is taken from the server alone. A load balancer, or whatever else listens there, says it too, and an EK must not
/// count as erased because of it.
fn its_own(reply: Reply) -> Result<Reply, Error> {
    #[derive(Deserialize)]
    struct Failure {
        #[serde(rename = "code")]
        _code: i64,
        #[serde(rename = "codeDesc")]
        _description: String,
    }

    match reply.status == StatusCode::NOT_FOUND && reply.json::<Failure>().is_err() {
        true => Err(Error::Unavailable(format!("not CipherTrust Manager's answer: {}", reply.summary()))),
        false => Ok(reply),
    }
}

/// A text as it stands in a path or a query.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}
