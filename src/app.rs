//! From the configuration to every room, once.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::join_all;

use crate::admin::{Admin, Shown, ShownIdentity};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::handler::{Detached, KnownDefaults, LongForms, Manifests, Rooms, Sizes};
use crate::kms;
use crate::listener::{Limits, Tls};
use crate::metrics::Metrics;
use crate::policy::{EkRef, Policy, Table};

/// Listed objects whose size is remembered.
const SIZES: u64 = 100_000;

/// A running s3veil: the rooms that a request passes.
pub struct App {
    /// Who asks.
    pub authenticator: Authenticator,
    /// What is allowed, with which key.
    pub policy: Policy,
    /// Where it is done.
    pub rooms: Arc<Rooms>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What clients may take.
    pub limits: Limits,
    /// How they connect; without TLS if there is none.
    pub tls: Option<Arc<Tls>>,
    /// What an operator asks, if the configuration lets him.
    pub admin: Option<Arc<Admin>>,
}

/// The App in force. It is swapped whole, and whoever has taken it goes on with the one he has.
pub struct Live(RwLock<Arc<App>>);

impl Live {
    /// Begins with this one.
    pub fn new(app: App) -> Self {
        Self(RwLock::new(Arc::new(app)))
    }

    /// The one in force now.
    pub fn get(&self) -> Arc<App> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another in its place.
    pub fn set(&self, app: App) {
        let before =
            std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), Arc::new(app));
        // Here, where nobody waits for the lock.
        drop(before);
    }
}

impl App {
    /// Builds every room. Nothing is contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(config: Config) -> Result<Self, String> {
        Self::assemble(config, Arc::default(), Default::default(), None, None)
    }

    /// The same in the place of this one. Metrics and limits of the process go on, and so do the rooms that requests are done
    /// in if `keep_rooms`: their caches stay warm. An admin listener goes on too where the configuration has none, without its
    /// token.
    ///
    /// Errors: those of [`App::build`].
    pub fn rebuild(&self, config: Config, keep_rooms: bool) -> Result<Self, String> {
        // The one limit that is theirs.
        let same_idle = self.limits.client_idle.as_secs() == config.limits.client_idle_secs;
        let rooms = (keep_rooms && same_idle).then(|| self.rooms.clone());
        let of_process = (self.rooms.long_forms.clone(), self.rooms.detached.clone());
        let tls = self.tls.clone();
        let mut next = Self::assemble(config, self.metrics.clone(), of_process, rooms, tls)?;
        if let (None, Some(admin)) = (&next.admin, &self.admin) {
            next.admin =
                Some(Arc::new(admin.before(next.rooms.clone(), shown(&next.policy, &next.authenticator))));
        }
        Ok(next)
    }

    /// `rooms`: those to go on with, for a configuration that would make the same. `tls`: that before, which goes on if it is
    /// configured as it was: what its files hold is its own affair, and broken ones are no reason to refuse all else.
    fn assemble(
        config: Config,
        metrics: Arc<Metrics>,
        (long_forms, detached): (LongForms, Detached),
        rooms: Option<Arc<Rooms>>,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, String> {
        let limits = config.limits.build()?;
        let tls = match (config.tls, tls) {
            (Some(config), Some(tls)) if tls.is_of(&config) => Some(tls),
            (Some(config), _) => Some(Arc::new(config.build()?)),
            (None, _) => None,
        };
        let names = config.kms.names();
        let rooms = match rooms {
            Some(rooms) => rooms,
            None => {
                let kms = config.kms.build()?;
                Arc::new(Rooms {
                    metrics: metrics.clone(),
                    backend: config.store.build(metrics.store())?,
                    keys: config.cache.build(kms, &metrics).with_aliases(config.kms_aliases)?,
                    sizes: Sizes::new(SIZES),
                    manifests: Manifests::default(),
                    uploads: config.state.build()?,
                    defaults: KnownDefaults::default(),
                    long_forms,
                    detached,
                    client_idle: limits.client_idle,
                })
            }
        };
        let policy = Policy::new(Table::build(config.policy, &names)?);
        let authenticator = config.auth.build().map_err(|why| why.to_string())?;
        for identity in authenticator.identities() {
            if let Some(name) =
                identity.store_credentials.as_deref().filter(|name| !rooms.backend.has_credentials(name))
            {
                return Err(format!(
                    "auth.identities: '{}' has store = '{name}', and there is no [store.credentials.{name}]. Add it",
                    identity.name
                ));
            }
        }
        let admin = config
            .admin
            .map(|admin| admin.build(metrics.clone(), rooms.clone(), shown(&policy, &authenticator)));
        let admin = admin.transpose()?.map(Arc::new);
        Ok(Self { authenticator, policy, rooms, metrics, limits, tls, admin })
    }

    /// Seals and opens a probe with every EK of the policy, so that a key that can't be used is found now.
    ///
    /// Errors: a message that names each EK and what is wrong with it.
    pub async fn probe(&self) -> Result<(), String> {
        self.probe_each(self.policy.eks()).await
    }

    /// The same in the place of another. With its KMSs, its EKs have had their probe: one that has been disabled since, or whose
    /// KMS is away, must not keep a change of policy or identities from coming into force.
    ///
    /// Errors: those of [`App::probe`].
    pub async fn probe_beyond(&self, before: &Self) -> Result<(), String> {
        let mut eks = self.policy.eks();
        if Arc::ptr_eq(&self.rooms, &before.rooms) {
            let probed = before.policy.eks();
            eks.retain(|ek| !probed.contains(ek));
        }
        self.probe_each(eks).await
    }

    async fn probe_each(&self, eks: Vec<EkRef>) -> Result<(), String> {
        // Side by side: one KMS that does not answer takes its time once, however many EKs are in it.
        let probes = eks.iter().map(|ek| async move {
            let probed = self.rooms.keys.probe(&ek.kms, &ek.ek).await;
            probed.err().map(|why| unusable(ek, &why))
        });
        let wrong: Vec<_> = join_all(probes).await.into_iter().flatten().collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}

/// What an operator may see of the configuration.
fn shown(policy: &Policy, authenticator: &Authenticator) -> Shown {
    let identities = authenticator.identities().map(|identity| ShownIdentity {
        name: identity.name.clone(),
        access_key: identity.access_key.clone(),
        store: identity.store_credentials.clone().unwrap_or_else(|| "default".to_owned()),
    });
    let mut identities: Vec<_> = identities.collect();
    identities.sort_by(|one, other| one.name.cmp(&other.name));
    Shown { policy: policy.clone(), identities }
}

/// What is wrong with an EK, and the remedy.
fn unusable(EkRef { kms, ek }: &EkRef, why: &kms::Error) -> String {
    let name = ek.as_str();
    let remedy = match why {
        kms::Error::NoSuchKey(_) => format!(". Create it: `s3veil key --kms {kms} create {name}`"),
        kms::Error::Disabled(_) => format!(". Enable it: `s3veil key --kms {kms} enable {name}`"),
        _ => String::new(),
    };
    format!("policy: ek = '{name}' of kms '{kms}' can't be used: {why}{remedy}")
}
