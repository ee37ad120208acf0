//! AWS Secrets Manager, laid out as MinIO KES does: a secret per EK, by its name.
//!
//! A secret can't be switched off there. What locks it is a deletion that can be taken back for some days, so an EK that
//! is disabled must be enabled again before they are over.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::Failure;
use super::{Service, moment};
use crate::kms::secrets::SecretStore;
use crate::kms::{Answer, EkInfo, EkName, Error, State};

/// AWS Secrets Manager.
pub(super) struct AwsSecrets {
    pub service: Service<Client>,
    /// What stands before an EK's name in its secret's.
    pub prefix: String,
    pub kms_key_id: Option<String>,
    /// Days after which a disabled EK is gone.
    pub window: i32,
}

impl AwsSecrets {
    fn id(&self, ek: &EkName) -> String {
        format!("{}{ek}", self.prefix)
    }

    async fn is_deleted(&self, id: &str) -> Result<bool, Failure> {
        let secret = self.service.ask(|store| store.describe_secret().secret_id(id).send()).await?;
        Ok(secret.deleted_date.is_some())
    }

    /// What a failure means for an EK.
    async fn explain(&self, ek: &EkName, failure: Failure) -> Error {
        match failure.code() {
            Some("ResourceNotFoundException") => Error::NoSuchKey(ek.clone()),
            Some("ResourceExistsException") => Error::Exists(ek.clone()),
            // The key that the secret is kept under can't be used: disabled, or out of reach.
            Some("DecryptionFailure") => Error::Disabled(ek.clone()),
            // Marked for deletion, or something else; AWS says so in words only, so it is asked.
            Some("InvalidRequestException") => match self.is_deleted(&self.id(ek)).await {
                Ok(true) => Error::Disabled(ek.clone()),
                _ => failure.into(),
            },
            _ => failure.into(),
        }
    }

    async fn get(&self, ek: &EkName) -> Result<Zeroizing<Vec<u8>>, Error> {
        let id = self.id(ek);
        let answer = self.service.ask(|store| store.get_secret_value().secret_id(&id).send()).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(self.explain(ek, failure).await),
        };
        let text = answer.secret_string.map(String::into_bytes);
        let mut secret =
            Zeroizing::new(text.or(answer.secret_binary.map(Blob::into_inner)).unwrap_or_default());
        if answer.name.as_ref() != Some(&id) {
            secret.zeroize();
            return Err(Error::Malformed(format!(
                "AWS answers with the secret {:?} for '{id}'",
                answer.name
            )));
        }
        Ok(secret)
    }

    async fn create(&self, ek: &EkName, secret: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let text = str::from_utf8(&secret).expect("an EK is stored as base64").to_owned();
        let made = self.service.ask(|store| {
            store
                .create_secret()
                .name(self.id(ek))
                .secret_string(text)
                .set_kms_key_id(self.kms_key_id.clone())
                .send()
        });
        match self.done(ek, made.await).await {
            // The name is free only once the days are over.
            Err(Error::Disabled(ek)) => Err(Error::Exists(ek)),
            done => done,
        }
    }

    async fn list(&self) -> Result<Vec<EkName>, Error> {
        let filter = (!self.prefix.is_empty()).then(|| {
            let named = Filter::builder().key(FilterNameStringType::Name).values(&self.prefix);
            vec![named.build()]
        });
        let mut names = Vec::new();
        let mut next = None;
        loop {
            let page = self.service.ask(|store| {
                store
                    .list_secrets()
                    .include_planned_deletion(true)
                    .set_filters(filter.clone())
                    .set_next_token(next.take())
                    .send()
            });
            let page = page.await?;
            let own = page.secret_list().iter().filter_map(|entry| entry.name()?.strip_prefix(&*self.prefix));
            names.extend(own.filter_map(|name| EkName::parse(name).ok()));
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    async fn describe(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let id = self.id(ek);
        let secret = self.service.ask(|store| store.describe_secret().secret_id(id).send()).await;
        let secret = match secret {
            Ok(secret) => secret,
            Err(failure) => return Err(self.explain(ek, failure).await),
        };
        let state = if secret.deleted_date.is_some() { State::Disabled } else { State::Enabled };
        Ok(EkInfo { created: moment(secret.created_date()), ..EkInfo::new(ek.clone(), state) })
    }

    async fn disable(&self, ek: &EkName) -> Result<(), Error> {
        if self.describe(ek).await?.state != State::Enabled {
            return Ok(());
        }
        let (id, days) = (self.id(ek), i64::from(self.window));
        let gone = self
            .service
            .ask(|store| store.delete_secret().secret_id(id).recovery_window_in_days(days).send());
        self.done(ek, gone.await).await
    }

    async fn enable(&self, ek: &EkName) -> Result<(), Error> {
        if self.describe(ek).await?.state == State::Enabled {
            return Ok(());
        }
        let id = self.id(ek);
        let back = self.service.ask(|store| store.restore_secret().secret_id(id).send()).await;
        self.done(ek, back).await
    }

    /// AWS does not say that there was nothing to delete, so it is asked first.
    async fn delete(&self, ek: &EkName) -> Result<(), Error> {
        self.describe(ek).await?;
        let id = self.id(ek);
        let gone = self
            .service
            .ask(|store| store.delete_secret().secret_id(id).force_delete_without_recovery(true).send());
        self.done(ek, gone.await).await
    }

    async fn done<T>(&self, ek: &EkName, answer: Result<T, Failure>) -> Result<(), Error> {
        match answer {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.explain(ek, failure).await),
        }
    }
}

impl SecretStore for AwsSecrets {
    fn kind(&self) -> &'static str {
        "aws-secrets-manager"
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(self.get(name))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        Box::pin(self.create(name, secret))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.list())
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.describe(name))
    }

    fn enable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.enable(name))
    }

    fn disable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.disable(name))
    }

    fn disable_warning(&self) -> Option<&'static str> {
        Some(
            "AWS Secrets Manager can't switch a secret off: it is deleted, and destroyed when the recovery window is over (30 \
             days at the most), unless it is enabled before. To lock it for longer, deny access to it at AWS",
        )
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.delete(name))
    }
}
