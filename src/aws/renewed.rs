//! Credentials of AWS's chain for what s3veil signs itself: fetched at the first use, kept, renewed ahead of their end.
//!
//! The cache of `aws-config` is for AWS's own clients: it can't be had without one, makes a request wait for the renewal,
//! and drops what still holds before it asks for more. So this is one of its own. Here nobody waits but the first, and
//! credentials that hold are used to their end, whether or not more can be had.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::chain::{Access, Lazy, metadata_is_away};
use super::credentials::Credentials;
use crate::s3::error::chain;
use crate::secret::Secret;

/// How long before their end credentials are renewed, at most; those with a short life in the last quarter of it.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Credentials without an end may have been changed where they come from. So often it is looked at.
const ENDLESS: Duration = Duration::from_secs(5 * 60);

/// How long the chain may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a failure nobody is asked for so long, whoever wants credentials.
const PAUSE: Duration = Duration::from_secs(1);

/// Credentials that are as the chain has them. Clones share what they have.
#[derive(Clone)]
pub struct Renewed(Arc<Shared>);

struct Shared {
    provider: Lazy<SharedCredentialsProvider>,
    kept: RwLock<Option<Kept>>,
    /// Held by the one that asks: how it failed last, if it did not succeed since.
    asking: Arc<Mutex<Option<Failure>>>,
}

struct Kept {
    credentials: Arc<Credentials>,
    renew: SystemTime,
    end: Option<SystemTime>,
}

struct Failure {
    at: Instant,
    why: String,
}

impl Renewed {
    /// Credentials by this access. Nobody is asked yet.
    pub fn new(access: Access) -> Self {
        let provider = |found: &SdkConfig| {
            found.credentials_provider().expect("the chain is the provider where none is set")
        };
        Self(Arc::new(Shared {
            provider: Lazy::new(access, provider),
            kept: RwLock::default(),
            asking: Arc::default(),
        }))
    }

    /// The credentials. They are fetched if there are none that hold; all who wait share one question.
    ///
    /// Errors: why there are none, and the remedy.
    pub async fn get(&self) -> Result<Arc<Credentials>, String> {
        match self.0.kept() {
            Some((credentials, false)) => return Ok(credentials),
            Some((credentials, true)) => {
                if let Ok(last) = self.0.asking.clone().try_lock_owned()
                    && last.as_ref().is_none_or(|failure| failure.at.elapsed() >= PAUSE)
                {
                    tokio::spawn(self.0.clone().fetch(last));
                }
                return Ok(credentials);
            }
            None => {}
        }
        let since = Instant::now();
        let last = self.0.asking.clone().lock_owned().await;
        if let Some((credentials, _)) = self.0.kept() {
            return Ok(credentials);
        }
        match &*last {
            Some(failure) if failure.at >= since || failure.at.elapsed() < PAUSE => Err(failure.why.clone()),
            // A task of its own: the request that asked may go away, and others wait for the same.
            _ => tokio::spawn(self.0.clone().fetch(last)).await.unwrap_or_else(|why| Err(why.to_string())),
        }
    }
}

impl Shared {
    /// What holds, and whether it should be renewed.
    fn kept(&self) -> Option<(Arc<Credentials>, bool)> {
        let now = SystemTime::now();
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref().filter(|kept| kept.end.is_none_or(|end| now < end))?;
        Some((kept.credentials.clone(), now >= kept.renew))
    }

    async fn fetch(
        self: Arc<Self>,
        mut last: OwnedMutexGuard<Option<Failure>>,
    ) -> Result<Arc<Credentials>, String> {
        // At the level `trace` AWS's clients log whole answers, credentials in them.
        let asked = timeout(PATIENCE, self.ask().with_subscriber(NoSubscriber::default())).await;
        let found = asked.unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())));
        match found {
            Ok(kept) => {
                let credentials = kept.credentials.clone();
                if kept.end.is_none() {
                    // Files are read once by the chain, so it is made anew the next time.
                    self.provider.forget().await;
                }
                *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                if last.take().is_some() {
                    tracing::info!("AWS's chain gives credentials again");
                }
                Ok(credentials)
            }
            Err(why) => {
                self.provider.forget().await;
                if last.is_none() {
                    tracing::warn!(%why, "AWS's chain gives no credentials for the store");
                }
                *last = Some(Failure { at: Instant::now(), why: why.clone() });
                Err(why)
            }
        }
    }

    async fn ask(&self) -> Result<Kept, String> {
        let provider = self.provider.get().await?;
        let found = provider.provide_credentials().await.map_err(|why| explain(&why))?;
        Kept::of(&found, SystemTime::now())
    }
}

impl Kept {
    fn of(found: &AwsCredentials, now: SystemTime) -> Result<Self, String> {
        let life = found.expiry().map(|end| end.duration_since(now).unwrap_or_default());
        if life.is_some_and(|life| life.is_zero()) {
            return Err("the credentials that AWS's chain found have expired. Set this machine's clock, or renew them \
                        where they come from"
                .into());
        }
        let renew = match (found.expiry(), life) {
            (Some(end), Some(life)) => end - AHEAD.min(life / 4),
            _ => now + ENDLESS,
        };
        let credentials = Credentials {
            access_key: Secret::new(found.access_key_id()),
            secret_key: Secret::new(found.secret_access_key()),
            session_token: found.session_token().map(Secret::new),
        };
        Ok(Self { credentials: Arc::new(credentials), renew, end: found.expiry() })
    }
}

/// Why the chain has nothing, and the remedy.
fn explain(why: &CredentialsError) -> String {
    let text = chain(why);
    match why {
        CredentialsError::CredentialsNotLoaded(_) if metadata_is_away(why) => format!(
            "no AWS credentials now, and the metadata service does not answer; where there is none, give this machine or \
             pod a role or set `profile`, and AWS_EC2_METADATA_DISABLED=true: {text}"
        ),
        CredentialsError::CredentialsNotLoaded(_) => format!(
            "no AWS credentials were found; give this machine or pod a role, set `profile`, or write access_key and \
             secret_key instead of chain: {text}"
        ),
        CredentialsError::InvalidConfiguration(_) => {
            format!("AWS's chain can't be used as it is set up; correct its variables and files: {text}")
        }
        _ => format!("no AWS credentials now; look at the role, and at what gives them: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(life: Option<u64>, now: SystemTime) -> AwsCredentials {
        let end = life.map(|secs| now + Duration::from_secs(secs));
        AwsCredentials::new("AKIA", "hidden", Some("token".into()), end, "test")
    }

    #[test]
    fn renewal_comes_ahead_of_the_end() {
        let now = SystemTime::now();
        for (life, renew) in [(Some(3600), 3300), (Some(1200), 900), (Some(8), 6), (None, 300)] {
            let kept = Kept::of(&found(life, now), now).unwrap();
            assert_eq!(kept.renew, now + Duration::from_secs(renew), "{life:?}");
            assert_eq!(kept.end, life.map(|secs| now + Duration::from_secs(secs)));
            assert_eq!(kept.credentials.session_token.as_ref().unwrap().as_str(), "token");
            assert!(!format!("{:?}", kept.credentials).contains("hidden"));
        }
        let why = Kept::of(&found(Some(0), now), now).err().unwrap();
        assert!(why.contains("expired") && !why.contains("hidden"), "{why}");
    }

    #[test]
    fn what_is_not_found_is_said_with_a_remedy() {
        for (why, says) in [
            (CredentialsError::not_loaded("nobody has any"), "or write access_key and secret_key"),
            (CredentialsError::invalid_configuration("no such file"), "correct its variables and files"),
            (CredentialsError::provider_error("500"), "look at the role"),
        ] {
            let text = explain(&why);
            assert!(text.contains(says), "{text}");
        }
    }
}
