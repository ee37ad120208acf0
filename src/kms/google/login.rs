//! Logging in to Google: which credentials, when they are taken anew, and a client that has them.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use google_cloud_auth::build_errors::Error as CredentialsProblem;
use google_cloud_auth::credentials::{
    self, Credentials, anonymous, external_account, impersonated, service_account, user_account,
};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::client_builder::{ClientBuilder, Error as ClientProblem};
use google_cloud_gax::error::Error as GoogleError;
use google_cloud_gax::retry_policy::NeverRetry;
use tokio::sync::Mutex;

use super::answer::is_unauthenticated;
use crate::kms::rest::{endpoint, is_loopback};
use crate::secret::{Secret, SecretSource};
use crate::watch::Watched;

/// How to reach a service of Google's, as typed.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// The JSON of a service account's key or of a federated identity; without it, Application Default Credentials.
    pub credentials: Option<SecretSource>,
    /// Where the service is, instead of Google's public address.
    pub endpoint: Option<String>,
    /// No credentials at all, for an emulator.
    pub anonymous: bool,
}

/// Makes a client: the one thing here that differs between the services.
pub(super) type Connect<C> = fn(Settings) -> BoxFuture<'static, Result<C, ClientProblem>>;

/// What a client is made with.
pub(super) struct Settings {
    endpoint: Option<String>,
    credentials: Credentials,
}

impl Settings {
    /// A builder of a client that asks where it should, as who it should, and once.
    pub(super) fn apply<F>(self, builder: ClientBuilder<F, Credentials>) -> ClientBuilder<F, Credentials> {
        let builder = builder.with_credentials(self.credentials).with_retry_policy(NeverRetry);
        match self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            None => builder,
        }
    }
}

/// A client that is made at its first use, and made anew when its credentials are no longer good.
pub(super) struct Login<C> {
    endpoint: Option<String>,
    source: Source,
    connect: Connect<C>,
    /// Empty while someone logs in, and left so by whoever fails or gives up in between. Google's own cache of tokens
    /// would keep a failure: for ten seconds if it may pass, for good if it says that it may not.
    session: Mutex<Option<Arc<Session<C>>>>,
}

/// Where credentials come from.
enum Source {
    /// What the environment offers: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, the metadata server.
    Default,
    /// Nowhere.
    Anonymous,
    /// The configuration.
    Json(Watched<Secret>),
}

struct Session<C> {
    client: C,
    credentials: Credentials,
    /// What it was made from; another one, once the file has changed.
    json: Option<Arc<Secret>>,
}

impl Access {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn build<C>(self, connect: Connect<C>) -> Result<Login<C>, String> {
        let endpoint = self.endpoint.as_deref().map(endpoint).transpose()?;
        let source = match (self.anonymous, self.credentials) {
            (true, Some(_)) => {
                return Err("anonymous: true goes without `credentials`. Remove one of them".into());
            }
            (true, None) => {
                let uri = endpoint.as_deref().and_then(|text| text.parse::<http::Uri>().ok());
                if !uri.as_ref().and_then(http::Uri::host).is_some_and(is_loopback) {
                    return Err("anonymous: true is for an emulator on this machine. Write its address as \
                        `endpoint`, for instance http://127.0.0.1:8080, or remove it"
                        .into());
                }
                Source::Anonymous
            }
            (false, None) => Source::Default,
            (false, Some(source)) => Source::Json(watch(source)?),
        };
        Ok(Login { endpoint, source, connect, session: Mutex::new(None) })
    }
}

/// The JSON, read again when its file has changed, and taken only if it can be credentials.
fn watch(source: SecretSource) -> Result<Watched<Secret>, String> {
    Watched::new(source.files(), move || {
        let json = source.load().map_err(|why| format!("credentials: {}", crate::s3::error::chain(&why)))?;
        kind(&json)?;
        Ok(json)
    })
}

/// The kinds of credentials that are there in JSON.
#[derive(Clone, Copy)]
enum Kind {
    ServiceAccount,
    ExternalAccount,
    AuthorizedUser,
    Impersonated,
}

fn kind(json: &Secret) -> Result<Kind, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        r#type: String,
    }

    let remedy = "Give the JSON that Google made for a service account or a workload identity";
    // The parser's own message could quote what it met.
    let head: Head = serde_json::from_str(json.as_str())
        .map_err(|_| format!("credentials: not JSON with a `type`. {remedy}"))?;
    match head.r#type.as_str() {
        "service_account" => Ok(Kind::ServiceAccount),
        "external_account" => Ok(Kind::ExternalAccount),
        "authorized_user" => Ok(Kind::AuthorizedUser),
        "impersonated_service_account" => Ok(Kind::Impersonated),
        other => Err(format!("credentials: of type '{other}', which is not known. {remedy}")),
    }
}

impl Source {
    fn json(&self) -> Option<Arc<Secret>> {
        match self {
            Self::Default | Self::Anonymous => None,
            Self::Json(watched) => Some(watched.get()),
        }
    }

    fn credentials(&self, json: Option<&Secret>) -> Result<Credentials, CredentialsError> {
        let fatal = |why: CredentialsProblem| CredentialsError::from_source(false, why);
        let Some(json) = json else {
            return match self {
                Self::Anonymous => Ok(anonymous::Builder::new().build()),
                Self::Default | Self::Json(_) => credentials::Builder::default().build().map_err(fatal),
            };
        };
        let kind = kind(json).map_err(|why| CredentialsError::from_msg(false, why))?;
        let json = serde_json::from_str(json.as_str()).expect("it was JSON a moment ago");
        match kind {
            Kind::ServiceAccount => service_account::Builder::new(json).build(),
            Kind::ExternalAccount => external_account::Builder::new(json).build(),
            Kind::AuthorizedUser => user_account::Builder::new(json).build(),
            Kind::Impersonated => impersonated::Builder::new(json).build(),
        }
        .map_err(fatal)
    }
}

impl<C: Clone> Login<C> {
    /// Asks once. Once more, with a new token, where one that has served is refused: it may have been revoked.
    ///
    /// Errors: Google's; a login that fails is one of its authentication errors.
    pub(super) async fn call<T, F>(&self, ask: impl Fn(C) -> F) -> Result<T, GoogleError>
    where
        F: Future<Output = Result<T, GoogleError>>,
    {
        let (session, fresh) = self.session().await?;
        let answer = self.attempt(&session, &ask).await;
        if fresh || !answer.as_ref().is_err_and(is_unauthenticated) {
            return answer;
        }
        let (session, _) = self.session().await?;
        self.attempt(&session, &ask).await
    }

    /// Asks in a session, which ends if Google does not know its token. Not one that someone else has begun meanwhile.
    async fn attempt<T, F>(&self, session: &Arc<Session<C>>, ask: impl Fn(C) -> F) -> Result<T, GoogleError>
    where
        F: Future<Output = Result<T, GoogleError>>,
    {
        let answer = ask(session.client.clone()).await;
        if answer.as_ref().is_err_and(is_unauthenticated) {
            self.session.lock().await.take_if(|kept| Arc::ptr_eq(kept, session));
        }
        answer
    }

    /// A session whose credentials are ready, and whether it was begun just now. One caller logs in, the others wait.
    async fn session(&self) -> Result<(Arc<Session<C>>, bool), GoogleError> {
        let mut place = self.session.lock().await;
        let json = self.source.json();
        let kept = place.take().filter(|session| match (&session.json, &json) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => true,
        });
        let fresh = kept.is_none();
        let session = match kept {
            Some(session) => session,
            None => Arc::new(self.log_in(json).await?),
        };
        session.credentials.headers(http::Extensions::new()).await.map_err(GoogleError::authentication)?;
        *place = Some(session.clone());
        Ok((session, fresh))
    }

    async fn log_in(&self, json: Option<Arc<Secret>>) -> Result<Session<C>, GoogleError> {
        let credentials = self.source.credentials(json.as_deref()).map_err(GoogleError::authentication)?;
        let settings = Settings { endpoint: self.endpoint.clone(), credentials: credentials.clone() };
        let client = (self.connect)(settings)
            .await
            .map_err(|why| GoogleError::authentication(CredentialsError::from_source(false, why)))?;
        Ok(Session { client, credentials, json })
    }
}
