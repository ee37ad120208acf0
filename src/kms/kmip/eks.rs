//! EKs on a KMIP server: from a name to the key that has it, its life, and those that it came after.
//!
//! A key is named by its Name attribute. Re-Key makes a new key, gives it the name, and links the two; what the old one
//! wrapped names the old one's identifier. So an EK is a chain of keys: all of it is locked, unlocked and erased.

use std::collections::{HashMap, HashSet};

use super::KIND;
use super::client::{Client, Facts, Life};
use crate::kms::{EkInfo, EkName, Error, State};

/// Keys of one name that are looked at, and keys in a chain.
const MAX_KEYS: usize = 256;

/// The EKs of one server.
pub(super) struct Eks {
    pub client: Client,
    /// EKs whose key is configured by its identifier.
    pub pinned: HashMap<EkName, String>,
}

/// A key that is there.
#[derive(Debug)]
pub(super) struct Key {
    pub id: String,
    pub facts: Facts,
}

impl Key {
    fn state(&self) -> State {
        match self.facts.life {
            Life::Active => State::Enabled,
            Life::PreActive | Life::Deactivated | Life::Compromised | Life::Destroyed => State::Disabled,
        }
    }

    /// The same, if it may be used. Servers go on decrypting with a deactivated key, as KMIP allows, and `Get` gives
    /// one: so this side is where a disabled EK locks.
    pub(super) fn usable(self, ek: &EkName) -> Result<Self, Error> {
        if !self.facts.is_aes256 {
            return Err(Error::Denied(format!("key '{ek}' is not one for AES-256: create another")));
        }
        match self.state() {
            State::Enabled => Ok(self),
            State::Disabled | State::PendingDeletion => Err(Error::Disabled(ek.clone())),
        }
    }
}

impl Eks {
    /// A key by its identifier, or none if it is not there or destroyed.
    pub(super) async fn key(&self, ek: &EkName, id: &str) -> Result<Option<Key>, Error> {
        match self.client.facts(id).await {
            Ok(Facts { life: Life::Destroyed, .. }) => Ok(None),
            Ok(facts) => Ok(Some(Key { id: id.to_owned(), facts })),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure.for_ek(ek)),
        }
    }

    /// The key that an EK's name means now, whatever its state.
    pub(super) async fn current(&self, ek: &EkName) -> Result<Key, Error> {
        let none = || Error::NoSuchKey(ek.clone());
        if let Some(id) = self.pinned.get(ek) {
            return self.key(ek, id).await?.ok_or_else(none);
        }
        let mut keys = self.named(ek).await?;
        if keys.is_empty() {
            return Err(none());
        }
        // Some servers leave the old key its name: the newest is the one that none came after, in whatever state.
        if keys.len() > 1 {
            keys.retain(|key| key.facts.successor.is_none());
        }
        // And one that is deactivated makes room for another.
        if keys.len() > 1 {
            keys.retain(|key| key.facts.life == Life::Active);
        }
        match (keys.pop(), keys.len()) {
            (Some(key), 0) => Ok(key),
            (None, _) => Err(Error::Disabled(ek.clone())),
            (Some(_), _) => Err(Error::Denied(format!(
                "several keys of the server are called '{ek}'; name the one that is meant in `keys`"
            ))),
        }
    }

    /// The keys that have an EK's name. The server's filter is not relied on.
    async fn named(&self, ek: &EkName) -> Result<Vec<Key>, Error> {
        let ids = self.client.locate(Some(ek.as_str())).await.map_err(|failure| failure.for_ek(ek))?;
        if ids.len() > MAX_KEYS {
            return Err(Error::Malformed(format!("{} keys of the server are called '{ek}'", ids.len())));
        }
        let mut keys = Vec::new();
        for id in ids {
            let key = self.key(ek, &id).await?;
            keys.extend(key.filter(|key| key.facts.names.iter().any(|name| name == ek.as_str())));
        }
        Ok(keys)
    }

    /// The EK's keys, the oldest first.
    async fn chain(&self, ek: &EkName) -> Result<Vec<Key>, Error> {
        let mut seen = HashSet::new();
        let mut chain = vec![self.current(ek).await?];
        while let Some(id) = chain.last().and_then(|key| key.facts.predecessor.clone()) {
            if !seen.insert(id.clone()) || seen.len() > MAX_KEYS {
                return Err(Error::Malformed(format!("the server links the keys of '{ek}' without an end")));
            }
            match self.key(ek, &id).await? {
                Some(key) => chain.push(key),
                None => break,
            }
        }
        chain.reverse();
        Ok(chain)
    }

    pub(super) async fn create(&self, ek: &EkName) -> Result<(), Error> {
        let is_free = |found: Result<Key, Error>| match found {
            Err(Error::NoSuchKey(_)) => Ok(()),
            Err(Error::Disabled(_)) | Ok(_) => Err(Error::Exists(ek.clone())),
            Err(other) => Err(other),
        };
        is_free(self.current(ek).await)?;
        let id = self.client.create(ek.as_str()).await.map_err(|failure| failure.for_ek(ek))?;
        // Another may have come first: not every server sees to it that a name is had once. Then neither stays.
        let others = self.named(ek).await?.into_iter().any(|key| key.id != id);
        let made = match others {
            false => self.client.activate(&id).await.map_err(|failure| failure.for_ek(ek)),
            true => Err(Error::Exists(ek.clone())),
        };
        if made.is_err() {
            self.client.destroy(&id).await.map_err(|failure| failure.for_ek(ek))?;
        }
        made
    }

    pub(super) async fn list(&self) -> Result<Vec<EkName>, Error> {
        // For messages alone: a list is about no EK.
        let any = EkName::parse("any").expect("the name is valid");
        let mut names = Vec::new();
        for id in self.client.locate(None).await.map_err(|failure| failure.for_ek(&any))? {
            let Some(key) = self.key(&any, &id).await? else { continue };
            let found = key.facts.names.iter().filter_map(|name| EkName::parse(name).ok());
            names.extend(found.filter(|name| !self.pinned.contains_key(name)));
            names.extend(self.pinned.iter().filter(|(_, pinned)| **pinned == id).map(|(ek, _)| ek.clone()));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(super) async fn describe(&self, ek: &EkName) -> Result<EkInfo, Error> {
        let key = self.current(ek).await?;
        let info = EkInfo::new(ek.clone(), key.state());
        Ok(EkInfo { created: key.facts.created, version: Some(key.id), ..info })
    }

    pub(super) async fn disable(&self, ek: &EkName) -> Result<(), Error> {
        for key in self.chain(ek).await? {
            self.deactivate(ek, &key).await?;
        }
        Ok(())
    }

    /// Activates what is not active. KMIP knows no way back from deactivated, but some servers do.
    pub(super) async fn enable(&self, ek: &EkName) -> Result<(), Error> {
        for key in self.chain(ek).await? {
            match key.facts.life {
                Life::Active => {}
                Life::PreActive => {
                    self.client.activate(&key.id).await.map_err(|failure| failure.for_ek(ek))?;
                }
                Life::Deactivated | Life::Compromised | Life::Destroyed => {
                    self.client.activate(&key.id).await.map_err(|failure| match failure.for_ek(ek) {
                        away @ (Error::Unavailable(_) | Error::Malformed(_)) => away,
                        _ => Error::Unsupported { kind: KIND, operation: "enable deactivated" },
                    })?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn rotate(&self, ek: &EkName) -> Result<(), Error> {
        let old = self.current(ek).await?.usable(ek)?;
        if self.pinned.contains_key(ek) {
            // The new key's identifier would not be the one in the configuration.
            return Err(Error::Unsupported { kind: KIND, operation: "rotate pinned" });
        }
        let id = self.client.rekey(&old.id).await.map_err(|failure| match failure.is_unsupported() {
            true => Error::Unsupported { kind: KIND, operation: "rotate" },
            false => failure.for_ek(ek),
        })?;
        let new = self.key(ek, &id).await?;
        if new.is_some_and(|key| key.facts.life == Life::PreActive) {
            self.client.activate(&id).await.map_err(|failure| failure.for_ek(ek))?;
        }
        match self.current(ek).await?.id == id {
            true => Ok(()),
            false => Err(Error::Malformed(format!("the server did not name the new key '{id}' '{ek}'"))),
        }
    }

    pub(super) async fn delete(&self, ek: &EkName) -> Result<(), Error> {
        // The oldest first: what is left after a failure is still found from the newest.
        for key in self.chain(ek).await? {
            self.deactivate(ek, &key).await?;
            self.client.destroy(&key.id).await.map_err(|failure| failure.for_ek(ek))?;
        }
        Ok(())
    }

    async fn deactivate(&self, ek: &EkName, key: &Key) -> Result<(), Error> {
        match key.facts.life {
            Life::Active => self.client.revoke(&key.id).await.map_err(|failure| failure.for_ek(ek)),
            Life::PreActive | Life::Deactivated | Life::Compromised | Life::Destroyed => Ok(()),
        }
    }
}
