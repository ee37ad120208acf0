//! Who can ask: the identities that may sign, and who a request turned out to come from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::secret::Secret;

/// A configured client.
#[derive(Debug)]
pub struct Identity {
    /// The name in policies and logs.
    pub name: String,
    /// The access key that it sends.
    pub access_key: String,
    /// The secret key that it signs with.
    pub secret: Secret,
    /// The session token that must go with it.
    pub token: Option<Secret>,
    /// The store credentials, by name, that its requests are signed with.
    pub store_credentials: Option<String>,
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub enum Who {
    /// A configured client, proved by its signature.
    Identity(Arc<Identity>),
    /// Anyone who can reach a proxy that trusts its hop (`mode = "trusted"`).
    Trusted,
    /// Anyone: nothing in the request looked like a signature. Policy judges.
    Anonymous,
}

impl Who {
    /// The name for policies and logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Identity(identity) => &identity.name,
            Self::Trusted => "trusted",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Identities by access key.
#[derive(Debug)]
pub(super) struct Identities {
    by_access_key: HashMap<String, Arc<Identity>>,
    /// Stands in for an unknown access key, so that it takes as long as a known one.
    nobody: Secret,
}

impl Identities {
    pub(super) fn new(by_access_key: HashMap<String, Arc<Identity>>) -> Self {
        Self { by_access_key, nobody: Secret::new("no identity has this secret, nothing verifies") }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.by_access_key.values().map(Arc::as_ref)
    }

    /// The identity of an access key, if there is one, and a secret to compute a signature with in any case.
    pub(super) fn find(&self, access_key: &str) -> (Option<&Arc<Identity>>, &Secret) {
        let identity = self.by_access_key.get(access_key);
        (identity, identity.map_or(&self.nobody, |identity| &identity.secret))
    }
}
