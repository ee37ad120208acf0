//! The token in hand: got at first use, renewed before it ends, replaced when the server no longer knows it.
//!
//! One login is under way at a time, and all who need the token wait for it. Renewal is a task of its own, because a
//! proxy whose cache answers everything asks its KMS for nothing, and a token that was given must not end meanwhile.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Api, Namespace};
use super::login::{Grant, Method, look_up, renew};
use crate::kms::Error;
use crate::secret::Secret;

/// How long a renewal or the login in its place may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The least time between two attempts to renew.
const PAUSE: Duration = Duration::from_secs(1);

/// The least time between two logins because of a refusal: a server that refuses every token is not flooded.
const CALM: Duration = Duration::from_secs(5);

/// The token of one KMS. Dropping it ends the renewal; the token itself ends with its lease.
pub(super) struct Auth {
    inner: Arc<Inner>,
    keeper: OnceLock<JoinSet<()>>,
}

struct Inner {
    api: Arc<Api>,
    method: Method,
    namespace: Namespace,
    state: Mutex<State>,
    /// Told when there is another token.
    changed: Notify,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// When a token was last replaced because the server did not know it.
    replaced: Option<Instant>,
}

struct Session {
    token: Arc<Secret>,
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
struct Lease {
    /// What the server gave at the login.
    full: Duration,
    until: Instant,
    renew_at: Instant,
    renewable: bool,
}

impl Auth {
    pub(super) fn new(api: Arc<Api>, method: Method, namespace: Namespace) -> Self {
        let inner = Inner { api, method, namespace, state: Mutex::default(), changed: Notify::new() };
        Self { inner: Arc::new(inner), keeper: OnceLock::new() }
    }

    pub(super) fn api(&self) -> &Api {
        &self.inner.api
    }

    /// The token; logs in if there is none, or none that lasts.
    pub(super) async fn token(&self) -> Result<Arc<Secret>, Error> {
        let mut state = self.inner.state.lock().await;
        if let Some(session) = &state.session
            && session.lasts()
            && self.inner.method.still_gives(&session.token)
        {
            return Ok(session.token.clone());
        }
        let token = self.inner.put(&mut state, self.inner.login().await?);
        self.keeper.get_or_init(|| {
            let mut tasks = JoinSet::new();
            tasks.spawn(keep(self.inner.clone()));
            tasks
        });
        Ok(token)
    }

    /// Another token for one with which the server refused a call; none if that one is good and the call is not allowed.
    pub(super) async fn replace(&self, refused: &Arc<Secret>) -> Result<Option<Arc<Secret>>, Error> {
        let Inner { api, namespace, state, .. } = &*self.inner;
        match look_up(api, namespace, refused).await {
            Ok(_) => return Ok(None),
            Err(failure) if failure.is(StatusCode::FORBIDDEN) => {}
            Err(failure) => return Err(failure.into()),
        }
        let mut state = state.lock().await;
        if let Some(session) = &state.session
            && !Arc::ptr_eq(&session.token, refused)
        {
            return Ok(Some(session.token.clone()));
        }
        if state.replaced.is_some_and(|at| at.elapsed() < CALM) {
            return Ok(None);
        }
        state.session = None;
        let token = self.inner.put(&mut state, self.inner.login().await?);
        if Arc::ptr_eq(&token, refused) {
            return Ok(None);
        }
        state.replaced = Some(Instant::now());
        tracing::info!("the KMS did not know its token any more; logged in anew");
        Ok(Some(token))
    }
}

impl Inner {
    async fn login(&self) -> Result<Session, Error> {
        let asked = Instant::now();
        let Grant { token, lease, renewable } = self.method.login(&self.api, &self.namespace).await?;
        Ok(Session { token, lease: lease.map(|full| Lease::new(full, full, asked, renewable)) })
    }

    fn put(&self, state: &mut State, session: Session) -> Arc<Secret> {
        let token = session.token.clone();
        state.session = Some(session);
        self.changed.notify_one();
        token
    }

    /// When there is something to do for the token.
    async fn due(&self) -> Option<Instant> {
        Some(self.state.lock().await.session.as_ref()?.lease?.renew_at)
    }

    /// Sees to it that there is a token that lasts. Whoever needs one meanwhile has the one in hand.
    async fn renew(&self) {
        let Some((token, lease)) = self.state.lock().await.session.as_ref().and_then(Session::leased) else {
            return;
        };
        let lasting = in_time(self.more_time(&token, lease)).await;
        let mut state = self.state.lock().await;
        if !state.session.as_ref().is_some_and(|session| Arc::ptr_eq(&session.token, &token)) {
            return;
        }
        match lasting {
            Ok(session) => {
                self.put(&mut state, session);
            }
            Err(why) => {
                tracing::warn!(%why, "the token of the KMS could not be renewed");
                state.put_off();
            }
        }
    }

    /// The token with more time, or another where that is refused or brings little.
    async fn more_time(&self, token: &Arc<Secret>, lease: Lease) -> Result<Session, Error> {
        if lease.renewable {
            let asked = Instant::now();
            match renew(&self.api, &self.namespace, token).await {
                Ok(Grant { lease: Some(time), renewable, .. }) if time >= lease.full / 2 => {
                    let lease = Lease::new(lease.full, time, asked, renewable);
                    return Ok(Session { token: token.clone(), lease: Some(lease) });
                }
                Err(away @ Error::Unavailable(_)) => return Err(away),
                _ => {}
            }
        }
        self.login().await
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Err(Error::Unavailable("no answer in time".into()));
    timeout(TIMEOUT, answer).await.unwrap_or_else(late)
}

/// Renews whatever token there is, until it is aborted.
async fn keep(auth: Arc<Inner>) {
    loop {
        let due = auth.due().await;
        let wait = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => auth.renew().await,
            () = auth.changed.notified() => {}
        }
    }
}

impl State {
    /// Tries again later, while the token lasts; then whoever needs one logs in.
    fn put_off(&mut self) {
        self.session.take_if(|session| !session.lasts());
        if let Some(lease) = self.session.as_mut().and_then(|session| session.lease.as_mut()) {
            let now = Instant::now();
            lease.renew_at = now + (lease.until.saturating_duration_since(now) / 2).max(PAUSE);
        }
    }
}

impl Session {
    fn lasts(&self) -> bool {
        self.lease.is_none_or(|lease| Instant::now() < lease.until)
    }

    fn leased(&self) -> Option<(Arc<Secret>, Lease)> {
        Some((self.token.clone(), self.lease?))
    }
}

impl Lease {
    /// `time`: what is given now, counted from when it was asked for.
    fn new(full: Duration, time: Duration, asked: Instant, renewable: bool) -> Self {
        Self { full, until: asked + time, renew_at: asked + (time / 2).max(PAUSE), renewable }
    }
}
