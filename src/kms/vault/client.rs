//! Calls to a Vault or OpenBao server, and what it says when it refuses.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::auth::Auth;
use crate::kms::rest::{Ask, Reply, Rest};
use crate::kms::{EkName, Error};
use crate::secret::Secret;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// Keeps a browser from being made to ask; some servers want to see it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A namespace; the root namespace has no name.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace(pub Option<HeaderValue>);

/// A server: one call, one attempt.
pub(super) struct Api {
    rest: Rest,
}

/// A server, under a token of s3veil's.
pub(super) struct Vault {
    auth: Auth,
    namespace: Namespace,
}

/// Why a call did not bring what it was for.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's answer is a refusal.
    Refused(Refusal),
    /// There is no answer, or none under a token.
    Error(Error),
}

/// An answer with another status than success.
pub(super) struct Refusal {
    /// Method and path.
    asked: String,
    reply: Reply,
}

impl Api {
    pub(super) fn new(rest: Rest) -> Arc<Self> {
        Arc::new(Self { rest })
    }

    /// Asks once.
    pub(super) async fn send(
        &self,
        call: Call,
        namespace: &Namespace,
        token: Option<&Secret>,
    ) -> Result<Reply, Failure> {
        let mut ask = call.ask.header(REQUEST, HeaderValue::from_static("true"));
        if let Some(name) = &namespace.0 {
            ask = ask.header(NAMESPACE, name.clone());
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.as_str().trim())
                .map_err(|_| Error::Denied("the token holds characters that no token has".into()))?;
            value.set_sensitive(true);
            ask = ask.header(TOKEN, value);
        }
        let reply = self.rest.send(ask).await?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(Failure::Refused(Refusal { asked: call.asked, reply })),
        }
    }
}

/// One question to the API.
pub(super) struct Call {
    asked: String,
    ask: Ask,
}

impl Call {
    /// `path`: behind `/v1/`, percent-encoded.
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self { asked: format!("{method} {path}"), ask: Ask::new(method, format!("/v1/{path}")) }
    }

    /// With this as its JSON body.
    pub(super) fn json(self, body: &impl serde::Serialize) -> Self {
        Self { ask: self.ask.json(body), ..self }
    }
}

impl Vault {
    pub(super) fn new(auth: Auth, namespace: Namespace) -> Self {
        Self { auth, namespace }
    }

    /// Asks under a token; once more under a new one, if the server no longer knows the first.
    pub(super) async fn call(&self, call: impl Fn() -> Call + Send) -> Result<Reply, Failure> {
        let token = self.auth.token().await?;
        let answer = self.auth.api().send(call(), &self.namespace, Some(&token)).await;
        match answer {
            Err(failure) if failure.is(StatusCode::FORBIDDEN) => match self.auth.replace(&token).await? {
                Some(fresh) => self.auth.api().send(call(), &self.namespace, Some(&fresh)).await,
                None => Err(failure),
            },
            answer => answer,
        }
    }

    /// The JSON in the field `data` of an answer.
    pub(super) async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let reply = self.call(|| Call::new(Method::GET, path)).await?;
        Ok(reply.json::<Data<T>>()?.data)
    }

    /// The EKs under a path, in order; none if there are none. Names that are no EK's are left out.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<EkName>, Failure> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }

        let keys = match self.get::<Keys>(&format!("{path}?list=true")).await {
            Ok(list) => list.keys,
            Err(failure) if failure.is_nothing() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        let mut names: Vec<_> = keys.iter().filter_map(|name| EkName::parse(name).ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// The envelope of most answers.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub data: T,
}

impl Failure {
    /// Whether it is an answer with this status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reply.status == status)
    }

    /// Whether the server's word has this in it.
    pub(super) fn says(&self, part: &str) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.errors().is_some_and(|all| all.iter().any(|e| e.contains(part)))
            }
            Self::Error(_) => false,
        }
    }

    /// Whether the path is right, but nothing is there: 404 without a word. A wrong mount or namespace has words.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.reply.status == StatusCode::NOT_FOUND
                    && refusal.errors().is_some_and(|e| e.is_empty())
            }
            Self::Error(_) => false,
        }
    }

    /// The data that came with a refusal.
    pub(super) fn data<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        match self {
            Self::Refused(refusal) => Some(refusal.reply.json::<Data<T>>().ok()?.data),
            Self::Error(_) => None,
        }
    }

    /// The server's word, for a message.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.word(),
            Self::Error(error) => error.to_string(),
        }
    }
}

impl Refusal {
    fn errors(&self) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }

        Some(self.reply.json::<Errors>().ok()?.errors)
    }

    fn word(&self) -> String {
        let text = match self.errors() {
            Some(errors) if !errors.is_empty() => errors.join("; "),
            _ => self.reply.summary(),
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {} {text}", self.asked, self.reply.status.as_u16())
    }
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.word())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Error(error) => return error,
        };
        let status = refusal.reply.status;
        // What did not come whole: it has no words of Vault's where the head was cut, and these where the body was.
        let cut = status == StatusCode::BAD_REQUEST
            && refusal.errors().is_none_or(|all| all.iter().any(|error| error.contains("unexpected EOF")));
        // A standby that does not pass requests on, or one that has not caught up yet.
        match cut || status.is_redirection() || status == StatusCode::PRECONDITION_FAILED {
            true => Error::Unavailable(refusal.word()),
            false => Error::Denied(refusal.word()),
        }
    }
}
