//! AWS KMS: an EK is a symmetric key there, found by an alias of its name unless the configuration says otherwise.
//!
//! An alias can be moved to another key, which is how keys are changed by hand. So the id of the key that wrapped is the
//! EK's version, for the envelope, and AWS is told with each Decrypt which key it must be: without that, it would
//! take any key of the account that the wrapped DEK names. Where the alias has moved, what the former key wrapped stays
//! readable once the configuration lists that key as one of the EK's.

use std::collections::HashMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyMetadata, KeyState};
use zeroize::Zeroizing;

use super::error::Failure;
use super::id::{EkKeys, KeyId};
use super::{Service, moment};
use crate::kms::{Answer, Context, DataKey, EkInfo, EkName, Error, Kms, State, WrappedDek, dek_from_answer};
use crate::seal::Dek;

/// What AWS takes as a ciphertext at most, in bytes. Source: Decrypt, `CiphertextBlob`.
const CIPHERTEXT_MAX: usize = 6144;

/// How much of a key material's id is shown: enough to see that it is another.
const MATERIAL_SHOWN: usize = 8;

/// What an alias begins with.
const ALIAS: &str = "alias/";

/// AWS's aliases of its own keys.
const AWS_ALIAS: &str = "alias/aws/";

/// AWS KMS.
pub(super) struct AwsKms {
    pub service: Service<Client>,
    pub keys: HashMap<EkName, EkKeys>,
    /// Days for which a deleted key is kept.
    pub window: i32,
}

impl AwsKms {
    fn keys_of(&self, ek: &EkName) -> EkKeys {
        self.keys.get(ek).cloned().unwrap_or_else(|| EkKeys::of(ek))
    }

    async fn metadata(&self, id: &KeyId) -> Result<KeyMetadata, Failure> {
        let answer = self.service.ask(|kms| kms.describe_key().key_id(id.as_str()).send()).await?;
        answer
            .key_metadata
            .ok_or_else(|| Failure::Failed(Error::Malformed("a key without a description".into())))
    }

    /// What a failure means for the EK whose key this is.
    async fn explain(&self, ek: &EkName, id: &KeyId, failure: Failure) -> Error {
        match failure.code() {
            Some("NotFoundException") => Error::NoSuchKey(ek.clone()),
            Some("DisabledException") => Error::Disabled(ek.clone()),
            Some("AlreadyExistsException") => Error::Exists(ek.clone()),
            Some("InvalidCiphertextException") => {
                Error::Malformed(format!("a DEK that '{}' has not wrapped for this context", id.as_str()))
            }
            Some("IncorrectKeyException") => Error::Malformed(format!(
                "a DEK that another key than '{}' has wrapped; where the alias has moved, list the former key's id in \
                 `keys`",
                id.as_str()
            )),
            Some("InvalidKeyUsageException") => {
                Error::Denied(format!("'{}' is not a symmetric key for encryption", id.as_str()))
            }
            Some("KMSInvalidStateException") => self.by_state(ek, id, failure).await,
            _ => failure.into(),
        }
    }

    /// The key is in some state in which it can't be used. AWS names it in words only, so it is asked.
    async fn by_state(&self, ek: &EkName, id: &KeyId, failure: Failure) -> Error {
        let state = self.metadata(id).await.ok().and_then(|key| key.key_state);
        match state {
            Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
                Error::NoSuchKey(ek.clone())
            }
            // Its material is not there, and comes back by another import.
            Some(KeyState::Disabled | KeyState::PendingImport) => Error::Disabled(ek.clone()),
            None if failure.says("pending deletion") => Error::NoSuchKey(ek.clone()),
            None if failure.says("pending import") => Error::Disabled(ek.clone()),
            _ => Error::Unavailable(Error::from(failure).to_string()),
        }
    }

    async fn generate(&self, ek: &EkName, context: &Context) -> Result<DataKey, Error> {
        let id = self.keys_of(ek).now;
        let made = self
            .service
            .ask(|kms| {
                kms.generate_data_key()
                    .key_id(id.as_str())
                    .key_spec(DataKeySpec::Aes256)
                    .set_encryption_context(Some(entries(context)))
                    .send()
            })
            .await;
        let GenerateDataKeyOutput { plaintext, ciphertext_blob, key_id, .. } = match made {
            Ok(made) => made,
            Err(failure) => return Err(self.explain(ek, &id, failure).await),
        };
        let dek = dek(plaintext)?;
        let version = id.answered(key_id.as_deref())?;
        let wrapped = ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        Ok(DataKey { dek, wrapped: WrappedDek::from_answer(wrapped)?, version: Some(version) })
    }

    async fn unwrap(
        &self,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        context: &Context,
    ) -> Result<Dek, Error> {
        let not_ours = || Error::Malformed(format!("a DEK that no key of '{ek}' has wrapped"));
        let version = version.ok_or_else(not_ours)?;
        let keys = self.keys_of(ek);
        let id = keys.by_version(version).ok_or_else(not_ours)?;
        if wrapped.as_bytes().is_empty() || wrapped.as_bytes().len() > CIPHERTEXT_MAX {
            return Err(not_ours());
        }
        let answer = self
            .service
            .ask(|kms| {
                kms.decrypt()
                    .key_id(id.as_str())
                    .ciphertext_blob(Blob::new(wrapped.as_bytes()))
                    .set_encryption_context(Some(entries(context)))
                    .send()
            })
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explain(ek, id, failure).await),
        };
        // Out of the answer first, so that it is wiped whatever else is wrong.
        let dek = dek(answer.plaintext)?;
        if id.answered(answer.key_id.as_deref())? == version { Ok(dek) } else { Err(not_ours()) }
    }

    /// A new key, and the alias that makes it the EK's.
    async fn create(&self, ek: &EkName) -> Result<(), Error> {
        let id = self.keys_of(ek).now;
        match self.metadata(&id).await {
            Ok(_) => return Err(Error::Exists(ek.clone())),
            Err(failure) if failure.code() == Some("NotFoundException") => {}
            Err(failure) => return Err(self.explain(ek, &id, failure).await),
        }
        let KeyId::Alias(alias) = &id else {
            return Err(Error::Denied(format!(
                "'{}' is an id, and AWS gives those; create the key there, or use an alias",
                id.as_str()
            )));
        };
        let alias = &alias[alias.find(ALIAS).unwrap_or_default()..];
        let description = format!("s3veil: EK {ek}");
        let made = self.service.ask(|kms| kms.create_key().description(description).send()).await?;
        let key = made.key_metadata.map(|key| key.key_id).unwrap_or_default();
        let named =
            self.service.ask(|kms| kms.create_alias().alias_name(alias).target_key_id(&key).send()).await;
        match named {
            Ok(_) => Ok(()),
            Err(failure) => self.unnamed(ek, &id, &key, failure).await,
        }
    }

    /// A new key's alias was not made, as far as is known. The key costs money, and without an alias nobody finds it; but
    /// what is the EK's must not be deleted.
    async fn unnamed(&self, ek: &EkName, id: &KeyId, key: &str, failure: Failure) -> Result<(), Error> {
        if !failure.is_definite() {
            match self.metadata(id).await {
                Ok(named) if named.key_id == key => return Ok(()),
                // Another's, and an alias that is there is not made again.
                Ok(_) => {}
                Err(_) => {
                    return Err(Error::Unavailable(format!(
                        "{}. Whether '{}' names the new key '{key}' is not known, so it is left at AWS: if it does not, \
                         delete the key there",
                        Error::from(failure),
                        id.as_str()
                    )));
                }
            }
        }
        if let Err(why) = self.schedule_deletion(key).await {
            tracing::warn!(key, why = %Error::from(why), "a new key without an alias is left at AWS; delete it there");
        }
        Err(self.explain(ek, id, failure).await)
    }

    async fn list(&self) -> Result<Vec<EkName>, Error> {
        let mut names: Vec<EkName> = self.keys.keys().cloned().collect();
        let mut marker = None;
        loop {
            let page = self.service.ask(|kms| kms.list_aliases().set_marker(marker.take()).send()).await?;
            let own = page.aliases().iter().filter(|alias| alias.target_key_id().is_some());
            let own = own.filter_map(|alias| alias.alias_name()).filter(|name| !name.starts_with(AWS_ALIAS));
            names.extend(own.filter_map(|name| EkName::parse(name.strip_prefix(ALIAS)?).ok()));
            match page.next_marker {
                Some(next) if page.truncated => marker = Some(next),
                _ => break,
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn describe(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let id = self.keys_of(ek).now;
        let key = match self.metadata(&id).await {
            Ok(key) => key,
            Err(failure) => return Err(self.explain(ek, &id, failure).await),
        };
        let state = match key.key_state() {
            Some(KeyState::Enabled | KeyState::Creating | KeyState::Updating) => State::Enabled,
            _ if is_pending(&key) => State::PendingDeletion,
            _ => State::Disabled,
        };
        // A rotation gives the same key new material.
        let material = key.current_key_material_id().and_then(|id| id.get(..MATERIAL_SHOWN));
        let version = match material {
            Some(material) => format!("{}/{material}", key.key_id),
            None => key.key_id.clone(),
        };
        Ok(EkInfo {
            created: moment(key.creation_date()),
            version: Some(version),
            ..EkInfo::new(ek.clone(), state)
        })
    }

    /// Changes those of an EK's keys that are still there, and where `pending`, those pending deletion too. One that
    /// can't be changed does not keep the others from it.
    ///
    /// What changes a key takes no alias, and so is told the id.
    ///
    /// Errors: the first; [`Error::NoSuchKey`] if none was there.
    async fn each_key<F>(
        &self,
        ek: &EkName,
        ids: impl Iterator<Item = &KeyId>,
        pending: bool,
        change: impl Fn(KeyMetadata) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut all = Err(Error::NoSuchKey(ek.clone()));
        for id in ids {
            let changed = match self.metadata(id).await {
                Ok(key) if is_pending(&key) && !pending => continue,
                Ok(key) => change(key).await,
                Err(failure) => Err(failure),
            };
            let changed = match changed {
                Ok(()) => Ok(()),
                Err(failure) => Err(self.explain(ek, id, failure).await),
            };
            all = both(all, changed);
        }
        all
    }

    /// Takes former keys back from deletion only with the key in use: else they were deleted by themselves, on purpose.
    async fn enable(&self, ek: &EkName) -> Result<(), Error> {
        let keys = self.keys_of(ek);
        let deleted = self.metadata(&keys.now).await.is_ok_and(|key| is_pending(&key));
        let change = |key| self.enable_key(key);
        let former = self.each_key(ek, keys.former.iter(), deleted, change).await;
        match former {
            // The key in use is last, and stays pending until then: so the next attempt takes the others back too.
            Err(error) if deleted && !matches!(error, Error::NoSuchKey(_)) => Err(error),
            former => both(former, self.each_key(ek, std::iter::once(&keys.now), deleted, change).await),
        }
    }

    async fn enable_key(&self, key: KeyMetadata) -> Result<(), Failure> {
        if is_pending(&key) {
            self.service.ask(|kms| kms.cancel_key_deletion().key_id(&key.key_id).send()).await?;
        }
        self.service.ask(|kms| kms.enable_key().key_id(&key.key_id).send()).await.map(drop)
    }

    async fn disable_key(&self, key: KeyMetadata) -> Result<(), Failure> {
        self.service.ask(|kms| kms.disable_key().key_id(key.key_id).send()).await.map(drop)
    }

    async fn schedule_deletion(&self, key: &str) -> Result<(), Failure> {
        let days = self.window;
        let ask = self
            .service
            .ask(|kms| kms.schedule_key_deletion().key_id(key).pending_window_in_days(days).send());
        ask.await.map(drop)
    }
}

fn is_pending(key: &KeyMetadata) -> bool {
    matches!(key.key_state, Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion))
}

/// The first failure of two changes. A key that is not there is one only if the other is not there either.
fn both(first: Result<(), Error>, second: Result<(), Error>) -> Result<(), Error> {
    match (first, second) {
        (Err(Error::NoSuchKey(_)), second) => second,
        (first, Err(Error::NoSuchKey(_))) => first,
        (first, second) => first.and(second),
    }
}

fn entries(context: &Context) -> HashMap<String, String> {
    context.entries().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn dek(plaintext: Option<Blob>) -> Result<Dek, Error> {
    let bytes = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
    dek_from_answer(&bytes)
}

impl Kms for AwsKms {
    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey> {
        Box::pin(self.generate(ek, context))
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        context: &'a Context,
    ) -> Answer<'a, Dek> {
        Box::pin(self.unwrap(ek, version, wrapped, context))
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.create(ek))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.list())
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.describe(ek))
    }

    fn enable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.enable(ek))
    }

    fn disable<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let keys = self.keys_of(ek);
            self.each_key(ek, keys.all(), false, |key| self.disable_key(key)).await
        })
    }

    /// New material for the key in use. The key, its id and what was wrapped stay.
    fn rotate<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let id = self.keys_of(ek).now;
            let rotated = match self.metadata(&id).await {
                Ok(key) => self
                    .service
                    .ask(|kms| kms.rotate_key_on_demand().key_id(key.key_id).send())
                    .await
                    .map(drop),
                Err(failure) => Err(failure),
            };
            match rotated {
                Ok(()) => Ok(()),
                Err(failure) => Err(self.explain(ek, &id, failure).await),
            }
        })
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let (keys, delete) =
                (self.keys_of(ek), async |key: KeyMetadata| self.schedule_deletion(&key.key_id).await);
            self.each_key(ek, keys.all(), false, delete).await
        })
    }
}
