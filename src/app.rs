//! From the configuration to every room, once.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::handler::{KnownDefaults, Manifests, Rooms, Sizes};
use crate::kms;
use crate::metrics::Metrics;
use crate::policy::{Policy, Table};

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
    /// What an operator asks, if the configuration lets him.
    pub admin: Option<Arc<Admin>>,
}

impl App {
    /// Builds every room. Nothing is contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(config: Config) -> Result<Self, String> {
        let kms = config.kms.build()?;
        let names: Vec<String> = kms.keys().cloned().collect();
        let policy = Policy::new(Table::build(config.policy, &names)?);
        let backend = config.store.build()?;
        let authenticator = config.auth.build().map_err(|why| why.to_string())?;
        for identity in authenticator.identities() {
            if let Some(name) =
                identity.store_credentials.as_deref().filter(|name| !backend.has_credentials(name))
            {
                return Err(format!(
                    "auth.identities: '{}' has store = '{name}', and there is no [store.credentials.{name}]. Add it",
                    identity.name
                ));
            }
        }
        let metrics = Arc::<Metrics>::default();
        let rooms = Rooms {
            backend,
            keys: config.cache.build(kms, &metrics).with_aliases(config.kms_aliases)?,
            sizes: Sizes::new(SIZES),
            manifests: Manifests::default(),
            uploads: config.state.build()?,
            defaults: KnownDefaults::default(),
            client_idle: Duration::from_secs(config.limits.client_idle_secs.max(1)),
        };
        let rooms = Arc::new(rooms);
        let admin = config.admin.map(|admin| admin.build(metrics.clone(), rooms.clone(), policy.eks()));
        let admin = admin.transpose()?.map(Arc::new);
        Ok(Self { authenticator, policy, rooms, metrics, admin })
    }

    /// Seals and opens a probe with every EK of the policy, so that a key that can't be used is found now.
    ///
    /// Errors: a message that names each EK and what is wrong with it.
    pub async fn probe(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for ek in self.policy.eks() {
            if let Err(why) = self.rooms.keys.probe(&ek.kms, &ek.ek).await {
                let (name, kms) = (ek.ek.as_str(), &ek.kms);
                let remedy = match why {
                    kms::Error::NoSuchKey(_) => {
                        format!(". Create it: `s3veil key --kms {kms} create {name}`")
                    }
                    kms::Error::Disabled(_) => format!(". Enable it: `s3veil key --kms {kms} enable {name}`"),
                    _ => String::new(),
                };
                wrong.push(format!("policy: ek = '{name}' of kms '{kms}' can't be used: {why}{remedy}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }
}
