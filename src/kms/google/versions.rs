//! The life of an EK in Cloud KMS: it is that of its versions, for only those have a state.
//!
//! The primary version's state is the EK's. It is locked first and unlocked last, so that what stops half-way leaves an EK
//! that does not wrap, and the same command, given again, does the rest.

use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as VersionState;
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion};
use google_cloud_wkt::FieldMask;
use time::OffsetDateTime;

use super::answer::refusal;
use super::cloud_kms::CloudKms;
use crate::kms::{EkInfo, EkName, Error, State};

impl CloudKms {
    /// What is known of an EK.
    pub(super) async fn info(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let key = self.key(ek).await?;
        let primary = key.primary.as_ref().ok_or_else(|| Error::NoSuchKey(ek.clone()))?;
        let created = key.create_time.as_ref().map(|at| OffsetDateTime::from_unix_timestamp(at.seconds()));
        Ok(EkInfo {
            created: created.and_then(Result::ok),
            version: Some(id(&primary.name).to_owned()),
            ..EkInfo::new(ek.clone(), state(ek, primary)?)
        })
    }

    /// Disables every version.
    pub(super) async fn lock(&self, ek: &EkName) -> Result<(), Error> {
        let versions = self.versions(ek).await?;
        if !versions.iter().any(|v| matches!(v.state, VersionState::Enabled | VersionState::Disabled)) {
            return Err(Error::NoSuchKey(ek.clone()));
        }
        for version in versions.iter().filter(|version| version.state == VersionState::Enabled) {
            self.set(ek, version, VersionState::Disabled).await?;
        }
        Ok(())
    }

    /// Enables every version. Those that wait for their destruction are brought back only if the primary one is among them:
    /// else the EK is not deleted, and someone has chosen to destroy an old version.
    pub(super) async fn unlock(&self, ek: &EkName) -> Result<(), Error> {
        let versions = self.versions(ek).await?;
        let deleted = versions.first().is_some_and(|primary| primary.state == VersionState::DestroyScheduled);
        let mut alive = false;
        for version in versions.iter().rev() {
            match version.state {
                VersionState::Enabled => {}
                VersionState::Disabled => self.set(ek, version, VersionState::Enabled).await?,
                VersionState::DestroyScheduled if deleted => {
                    self.restore(ek, version).await?;
                    self.set(ek, version, VersionState::Enabled).await?;
                }
                _ => continue,
            }
            alive = true;
        }
        if alive { Ok(()) } else { Err(Error::NoSuchKey(ek.clone())) }
    }

    /// Makes a new version the primary one. Not of an EK that is locked: the new version would unlock it for writing.
    pub(super) async fn renew(&self, ek: &EkName) -> Result<(), Error> {
        let key = self.key(ek).await?;
        if let Some(primary) = &key.primary {
            match state(ek, primary)? {
                State::Enabled => {}
                State::Disabled => return Err(Error::Disabled(ek.clone())),
                State::PendingDeletion => return Err(Error::NoSuchKey(ek.clone())),
            }
        }
        let name = self.resource(ek);
        let made = self
            .login
            .call(|client| {
                client
                    .create_crypto_key_version()
                    .set_parent(&name)
                    .set_crypto_key_version(CryptoKeyVersion::new())
                    .send()
            })
            .await
            .map_err(|why| refusal(&why, ek))?;
        let primary = self.login.call(|client| {
            client
                .update_crypto_key_primary_version()
                .set_name(&name)
                .set_crypto_key_version_id(id(&made.name))
                .send()
        });
        primary.await.map(drop).map_err(|why| refusal(&why, ek))
    }

    /// Schedules the destruction of every version.
    pub(super) async fn erase(&self, ek: &EkName) -> Result<(), Error> {
        let mut alive = false;
        for version in self.versions(ek).await? {
            if matches!(version.state, VersionState::Enabled | VersionState::Disabled) {
                let call = self
                    .login
                    .call(|client| client.destroy_crypto_key_version().set_name(&version.name).send());
                call.await.map_err(|why| refusal(&why, ek))?;
                alive = true;
            }
        }
        if alive { Ok(()) } else { Err(Error::NoSuchKey(ek.clone())) }
    }

    async fn key(&self, ek: &EkName) -> Result<CryptoKey, Error> {
        let name = self.resource(ek);
        let call = self.login.call(|client| client.get_crypto_key().set_name(&name).send());
        call.await.map_err(|why| refusal(&why, ek))
    }

    /// All versions, the primary one first.
    async fn versions(&self, ek: &EkName) -> Result<Vec<CryptoKeyVersion>, Error> {
        let primary = self.key(ek).await?.primary.map(|version| version.name);
        let name = self.resource(ek);
        let call = self.login.call(async |client| {
            let mut versions = client.list_crypto_key_versions().set_parent(&name).by_item();
            let mut found = Vec::new();
            while let Some(version) = versions.next().await {
                found.push(version?);
            }
            Ok(found)
        });
        let mut found = call.await.map_err(|why| refusal(&why, ek))?;
        found.sort_by_key(|version| Some(&version.name) != primary.as_ref());
        Ok(found)
    }

    async fn set(&self, ek: &EkName, version: &CryptoKeyVersion, to: VersionState) -> Result<(), Error> {
        let changed = CryptoKeyVersion::new().set_name(&version.name).set_state(to);
        let call = self.login.call(|client| {
            client
                .update_crypto_key_version()
                .set_crypto_key_version(changed.clone())
                .set_update_mask(FieldMask::default().set_paths(["state"]))
                .send()
        });
        call.await.map(drop).map_err(|why| refusal(&why, ek))
    }

    async fn restore(&self, ek: &EkName, version: &CryptoKeyVersion) -> Result<(), Error> {
        let call =
            self.login.call(|client| client.restore_crypto_key_version().set_name(&version.name).send());
        call.await.map(drop).map_err(|why| refusal(&why, ek))
    }
}

/// The EK's state, which is its primary version's.
fn state(ek: &EkName, primary: &CryptoKeyVersion) -> Result<State, Error> {
    match primary.state {
        VersionState::Enabled => Ok(State::Enabled),
        VersionState::DestroyScheduled => Ok(State::PendingDeletion),
        VersionState::Destroyed => Err(Error::NoSuchKey(ek.clone())),
        _ => Ok(State::Disabled),
    }
}

/// The last part of a name at Google.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}
