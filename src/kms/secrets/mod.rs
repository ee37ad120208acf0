//! A KMS on top of anything that keeps a secret.
//!
//! The EK is 32 bytes in a [`SecretStore`]; the cryptography is done here. What is stored and how a DEK is sealed are
//! byte for byte MinIO KES's, so both work on the same secrets: see `stored` and `key`.

mod key;
mod protobuf;
mod stored;

use std::fmt;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Answer, Context, DataKey, EkInfo, EkName, Error, Kms, WrappedDek, unsupported};
use crate::seal::Dek;
pub(super) use key::{Cipher, SecretKey};

pub(super) use stored::created;

/// Who made a key, as its secret says. KES shows the identity of its client here, and does not check it.
const CREATED_BY: &str = "s3veil";

/// Where secrets are kept, each under the name of its EK. No cryptography of its own is needed.
pub trait SecretStore: Send + Sync {
    /// The kind, as in the configuration.
    fn kind(&self) -> &'static str;

    /// The secret. [`Error::Disabled`] when the store has it but is told not to give it.
    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>>;

    /// Keeps a new secret. Never overwrites one: [`Error::Exists`], also when two callers race.
    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()>;

    /// The names of all secrets, sorted.
    fn list(&self) -> Answer<'_, Vec<EkName>>;

    /// What the store knows of a secret without giving it.
    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo>;

    /// Gives the secret again. A store that can't refuse one keeps the default.
    fn enable<'a>(&'a self, _name: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "enable")
    }

    /// Refuses the secret from now on, but keeps it.
    fn disable<'a>(&'a self, _name: &'a EkName) -> Answer<'a, ()> {
        unsupported(self.kind(), "disable")
    }

    /// As [`Kms::disable_warning`].
    fn disable_warning(&self) -> Option<&'static str> {
        None
    }

    /// Destroys the secret.
    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()>;
}

/// The one [`Kms`] on a [`SecretStore`].
///
/// It fetches the secret for each call and keeps nothing, so that a store that stops giving it stops everything at once.
pub struct SecretKms {
    store: Box<dyn SecretStore>,
}

impl SecretKms {
    /// A KMS that keeps its EKs in this store.
    pub fn new(store: impl SecretStore + 'static) -> Self {
        Self { store: Box::new(store) }
    }

    async fn load(&self, ek: &EkName) -> Result<SecretKey, Error> {
        let secret = self.store.get(ek).await?;
        stored::parse(&secret).map_err(|problem| Error::Malformed(format!("key '{ek}' as stored: {problem}")))
    }
}

impl Kms for SecretKms {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey> {
        Box::pin(async move {
            let key = self.load(ek).await?;
            let bytes = random::<32>();
            let wrapped = WrappedDek::new(key.seal(bytes.as_slice(), &context.canonical()));
            Ok(DataKey { dek: Dek::from(*bytes), wrapped, version: None })
        })
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        context: &'a Context,
    ) -> Answer<'a, Dek> {
        Box::pin(async move {
            let key = self.load(ek).await?;
            let not_ours =
                || Error::Malformed(format!("a DEK that is not wrapped by key '{ek}' for this context"));
            if version.is_some() {
                return Err(not_ours());
            }
            let plaintext = key.open(wrapped.as_bytes(), &context.canonical()).ok_or_else(not_ours)?;
            Dek::try_from(plaintext.as_slice()).map_err(|_| not_ours())
        })
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        let secret = stored::encode(&SecretKey::generate(), &random(), OffsetDateTime::now_utc(), CREATED_BY);
        self.store.create(ek, secret)
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        self.store.list()
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        self.store.describe(ek)
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        self.store.enable(ek)
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        self.store.disable(ek)
    }

    fn disable_warning(&self) -> Option<&'static str> {
        self.store.disable_warning()
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        self.store.delete(ek)
    }
}

impl fmt::Debug for SecretKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKms({})", self.kind())
    }
}

/// Random bytes from the operating system, for a key.
pub(super) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    // Without randomness there is nothing safe to go on with.
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system gives random bytes");
    bytes
}
