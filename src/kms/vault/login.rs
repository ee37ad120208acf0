//! The ways to get a token: one that is given, an AppRole, a Kubernetes service account.

use std::sync::Arc;
use std::time::Duration;

use http::{Method as Http, StatusCode};
use serde::{Deserialize, Serialize};

use super::client::{Api, Call, Data, Failure, Namespace};
use crate::kms::Error;
use crate::kms::rest::Reply;
use crate::secret::Secret;
use crate::watch::Watched;

/// How to log in. What is in files is read again when they have changed.
pub(super) enum Method {
    Token(Watched<Secret>),
    AppRole { mount: String, role_id: Watched<Secret>, secret_id: Watched<Secret> },
    Kubernetes { mount: String, role: String, jwt: Watched<Secret> },
}

/// A token, and for how long.
pub(super) struct Grant {
    pub token: Arc<Secret>,
    /// None for one that lasts until it is revoked.
    pub lease: Option<Duration>,
    pub renewable: bool,
}

impl Method {
    /// Gets a token.
    pub(super) async fn login(&self, api: &Api, namespace: &Namespace) -> Result<Grant, Error> {
        #[derive(Serialize)]
        struct AppRole<'a> {
            role_id: &'a str,
            secret_id: &'a str,
        }
        #[derive(Serialize)]
        struct Kubernetes<'a> {
            role: &'a str,
            jwt: &'a str,
        }

        let call = match self {
            Self::Token(given) => return given_token(given.get(), api, namespace).await,
            Self::AppRole { mount, role_id, secret_id } => {
                let (role_id, secret_id) = (role_id.get(), secret_id.get());
                at(mount).json(&AppRole { role_id: role_id.as_str(), secret_id: secret_id.as_str() })
            }
            Self::Kubernetes { mount, role, jwt } => {
                let jwt = jwt.get();
                at(mount).json(&Kubernetes { role, jwt: jwt.as_str() })
            }
        };
        granted(&api.send(call, namespace, None).await.map_err(refused)?)
    }

    /// Whether a token that it gave is the one that it would give now.
    pub(super) fn still_gives(&self, token: &Arc<Secret>) -> bool {
        match self {
            Self::Token(given) => Arc::ptr_eq(&given.get(), token),
            Self::AppRole { .. } | Self::Kubernetes { .. } => true,
        }
    }
}

fn at(mount: &str) -> Call {
    Call::new(Http::POST, &format!("auth/{mount}/login"))
}

fn refused(failure: Failure) -> Error {
    match Error::from(failure) {
        Error::Denied(why) => Error::Denied(format!("the login is refused: {why}")),
        other => other,
    }
}

/// A token that was given, with what the server knows of it.
async fn given_token(token: Arc<Secret>, api: &Api, namespace: &Namespace) -> Result<Grant, Error> {
    match look_up(api, namespace, &token).await {
        Ok(known) => Ok(Grant { token, lease: lease(known.ttl), renewable: known.renewable }),
        // It may be a good one that must not look itself up; its first use will tell.
        Err(failure) if failure.is(StatusCode::FORBIDDEN) => {
            Ok(Grant { token, lease: None, renewable: false })
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What a server knows of a token.
#[derive(Deserialize)]
pub(super) struct Known {
    /// In seconds; 0 for ever.
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// Whether the server knows a token, and what of it: 403 if not.
pub(super) async fn look_up(api: &Api, namespace: &Namespace, token: &Secret) -> Result<Known, Failure> {
    let reply = api.send(Call::new(Http::GET, "auth/token/lookup-self"), namespace, Some(token)).await?;
    Ok(reply.json::<Data<Known>>()?.data)
}

/// Gives a token more time.
pub(super) async fn renew(api: &Api, namespace: &Namespace, token: &Secret) -> Result<Grant, Error> {
    let call = Call::new(Http::POST, "auth/token/renew-self").json(&serde_json::json!({}));
    granted(&api.send(call, namespace, Some(token)).await?)
}

fn granted(reply: &Reply) -> Result<Grant, Error> {
    #[derive(Deserialize)]
    struct Answer {
        auth: Granted,
    }
    #[derive(Deserialize)]
    struct Granted {
        client_token: Secret,
        /// In seconds; 0 for ever.
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
    }

    let Answer { auth } = reply.json()?;
    Ok(Grant {
        token: Arc::new(auth.client_token),
        lease: lease(auth.lease_duration),
        renewable: auth.renewable,
    })
}

fn lease(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.min(YEAR)))
}

/// Longer leases are none: a clock need not count so far.
const YEAR: u64 = 365 * 24 * 60 * 60;
