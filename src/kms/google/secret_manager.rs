//! Google Secret Manager: EKs as secrets, laid out as MinIO KES lays them out.
//!
//! The secret has the EK's name, and the EK is in its version 1, the only one. Source: minio/kes, `internal/keystore/gcp`.

use bytes::Bytes;
use google_cloud_gax::error::Error as GoogleError;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_secretmanager_v1::client::SecretManagerService;
use google_cloud_secretmanager_v1::model::replication::user_managed::Replica;
use google_cloud_secretmanager_v1::model::replication::{Automatic, UserManaged};
use google_cloud_secretmanager_v1::model::secret_version::State as VersionState;
use google_cloud_secretmanager_v1::model::{Replication, Secret, SecretPayload};
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::answer::{Problem, check, crc32c, general, problem, refusal, same_resource};
use super::login::{Access, Login};
use crate::kms::secrets::{SecretKms, SecretStore};
use crate::kms::{Answer, ConfigError, EkInfo, EkName, Error, Kms, State};
use crate::s3::error::chain;
use crate::secret::SecretSource;

/// Google Secret Manager as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleSecretManagerConfig {
    /// The project's id or number. Best one that has no other secrets.
    pub project: String,
    /// Where Google keeps a new EK, for instance `europe-west3`; without any, where it likes.
    #[serde(default)]
    pub locations: Vec<String>,
    /// The JSON of a service account's key or of a federated identity; without it, Application Default Credentials.
    pub credentials: Option<SecretSource>,
    /// Where Secret Manager is, instead of `https://secretmanager.googleapis.com`.
    pub endpoint: Option<String>,
    /// No credentials at all, for an emulator.
    #[serde(default)]
    pub anonymous: bool,
}

impl GoogleSecretManagerConfig {
    /// Checks the settings and reads the credentials. Google is not asked.
    ///
    /// Errors: what is wrong, and what to do about it.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        // An id may have its organisation's domain in front: `example.com:project`.
        let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':');
        if self.project.is_empty() || !self.project.bytes().all(clean) {
            return Err(ConfigError::Setting(format!(
                "project: '{}' is not a project. Write its id or number, without `projects/`",
                self.project
            )));
        }
        let access =
            Access { credentials: self.credentials, endpoint: self.endpoint, anonymous: self.anonymous };
        let login = access.build(|settings| {
            Box::pin(async move { settings.apply(SecretManagerService::builder()).build().await })
        })?;
        let parent = format!("projects/{}", self.project);
        Ok(Box::new(SecretKms::new(SecretManager { parent, locations: self.locations, login })))
    }
}

/// The secrets of one project.
struct SecretManager {
    parent: String,
    locations: Vec<String>,
    login: Login<SecretManagerService>,
}

impl SecretManager {
    fn secret(&self, name: &EkName) -> String {
        format!("{}/secrets/{name}", self.parent)
    }

    fn version(&self, name: &EkName) -> String {
        format!("{}/versions/1", self.secret(name))
    }

    fn replication(&self) -> Replication {
        if self.locations.is_empty() {
            return Replication::new().set_automatic(Automatic::new());
        }
        let replicas = self.locations.iter().map(|location| Replica::new().set_location(location));
        Replication::new().set_user_managed(UserManaged::new().set_replicas(replicas))
    }

    async fn read(&self, name: &EkName) -> Result<Zeroizing<Vec<u8>>, Error> {
        let version = self.version(name);
        let answer = self.login.call(|client| client.access_secret_version().set_name(&version).send());
        let answer = answer.await.map_err(|why| refusal(&why, name))?;
        if !same_resource(&answer.name, &version) {
            return Err(Error::Malformed(format!("asked for '{version}', Google gave '{}'", answer.name)));
        }
        let payload = answer.payload.unwrap_or_default();
        check("an EK", &payload.data, payload.data_crc32c)?;
        Ok(Zeroizing::new(payload.data.to_vec()))
    }

    /// Two calls, for Google has no secret that is made with its content.
    async fn make(&self, name: &EkName, secret: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        let made = self.login.call(|client| {
            client
                .create_secret()
                .set_parent(&self.parent)
                .set_secret_id(name.as_str())
                .set_secret(Secret::new().set_replication(self.replication()))
                .send()
        });
        match made.await {
            Ok(_) => {}
            // The project is missing then.
            Err(why) if problem(&why) == Problem::Missing => return Err(general(&why)),
            Err(why) => return Err(refusal(&why, name)),
        }
        let parent = self.secret(name);
        let payload =
            SecretPayload::new().set_data_crc32c(crc32c(&secret)).set_data(Bytes::from_owner(secret));
        let added = self.login.call(|client| {
            client.add_secret_version().set_parent(&parent).set_payload(payload.clone()).send()
        });
        let Err(why) = added.await else { return Ok(()) };
        if matches!(problem(&why), Problem::Away | Problem::Garbled) {
            return self.settle(name, &payload.data, &why).await;
        }
        // A secret without its version would be in the way of the next attempt.
        self.remove(name).await.ok();
        Err(refusal(&why, name))
    }

    /// What became of a version whose addition had no clear answer. Nothing is deleted here, for that is final at Google,
    /// and the EK may be there: its version may even arrive after it was looked for.
    async fn settle(&self, name: &EkName, secret: &[u8], why: &GoogleError) -> Result<(), Error> {
        match self.read(name).await {
            Ok(found) if *found == secret => Ok(()),
            Ok(_) => Err(Error::Exists(name.clone())),
            Err(_) => Err(Error::Unavailable(format!(
                "whether '{name}' was made is not known. If `s3veil key info {name}` does not find it, `s3veil key \
                 delete {name}` frees its name. Google said: {}",
                chain(why)
            ))),
        }
    }

    async fn names(&self) -> Result<Vec<EkName>, Error> {
        let listed = self.login.call(async |client| {
            let mut secrets = client.list_secrets().set_parent(&self.parent).by_item();
            let mut found = Vec::new();
            while let Some(secret) = secrets.next().await {
                let secret = secret?;
                found.extend(secret.name.rsplit('/').next().and_then(|name| EkName::parse(name).ok()));
            }
            Ok(found)
        });
        let mut found = listed.await.map_err(|why| general(&why))?;
        found.sort();
        Ok(found)
    }

    async fn info(&self, name: &EkName) -> Result<EkInfo, Error> {
        let version = self.version(name);
        let call = self.login.call(|client| client.get_secret_version().set_name(&version).send());
        let answer = call.await.map_err(|why| refusal(&why, name))?;
        let state = match answer.state {
            VersionState::Enabled => State::Enabled,
            VersionState::Destroyed => return Err(Error::NoSuchKey(name.clone())),
            _ => State::Disabled,
        };
        let created = answer.create_time.as_ref().map(|at| OffsetDateTime::from_unix_timestamp(at.seconds()));
        Ok(EkInfo { created: created.and_then(Result::ok), ..EkInfo::new(name.clone(), state) })
    }

    async fn remove(&self, name: &EkName) -> Result<(), Error> {
        let secret = self.secret(name);
        let call = self.login.call(|client| client.delete_secret().set_name(&secret).send());
        call.await.map_err(|why| refusal(&why, name))
    }
}

impl SecretStore for SecretManager {
    fn kind(&self) -> &'static str {
        "google-secret-manager"
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(self.read(name))
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        Box::pin(self.make(name, secret))
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(self.names())
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.info(name))
    }

    fn enable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let version = self.version(name);
            let call = self.login.call(|client| client.enable_secret_version().set_name(&version).send());
            call.await.map(drop).map_err(|why| refusal(&why, name))
        })
    }

    fn disable<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let version = self.version(name);
            let call = self.login.call(|client| client.disable_secret_version().set_name(&version).send());
            call.await.map(drop).map_err(|why| refusal(&why, name))
        })
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(self.remove(name))
    }
}
