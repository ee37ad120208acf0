//! MinIO KES: the EKs stay at a KES server, which wraps and unwraps DEKs over its HTTP API.
//!
//! The encryption context goes as KES's `context`, in the bytes that MinIO sends. KES has one version of a key, and no
//! state of it but being there. Source: minio/kes v0.24.0, `internal/api/api.go` and `server.go`.

mod api_key;
pub mod files;
mod pem;
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Method;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::endpoints::Endpoints;
use super::rest::{Ask, IdentitySource, Reply, Rest, RestConfig, decode};
use super::{
    Answer, ConfigError, Context, DataKey, EkInfo, EkName, Error, Kms, State, WrappedDek, dek_from_answer,
};
use crate::seal::Dek;
use crate::secret::{Secret, SecretSource};

/// The most questions for one list of all keys. A page that is cut costs 64.
const LIST_CALLS_MAX: usize = 20_000;

/// A KES as typed in `proxy.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KesConfig {
    /// `https://HOST:7373`, one or several of the same KES.
    #[serde(default)]
    endpoint: Endpoints,
    /// `kes:v1:...`, which stands for a client certificate.
    api_key: Option<SecretSource>,
    /// The client certificate in PEM, instead of an API key.
    certificate_file: Option<PathBuf>,
    /// Its private key in PEM.
    key_file: Option<PathBuf>,
    /// The private key's password, if it has one.
    key_password: Option<SecretSource>,
    /// Roots to trust instead of the system's: a file in PEM, or a directory of them.
    ca_file: Option<PathBuf>,
    /// Read only to be refused.
    enclave: Option<String>,
}

impl KesConfig {
    /// Reads certificates and keys; the KES is not contacted.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(mut self) -> Result<Box<dyn Kms>, ConfigError> {
        if let Some(enclave) = &self.enclave {
            return Err(format!(
                "enclave: '{enclave}': KES has none any more. Remove it, and name the KES server that has the keys"
            )
            .into());
        }
        let identity = self.identity()?;
        let rest = RestConfig { endpoints: self.endpoint.into(), ca_file: self.ca_file, identity }.build()?;
        Ok(Box::new(Kes { rest }))
    }

    /// KES knows a client by the public key of its certificate alone.
    fn identity(&mut self) -> Result<IdentitySource, String> {
        let pair = (self.certificate_file.take(), self.key_file.take());
        match (self.api_key.take(), pair, self.key_password.take()) {
            (Some(source), (None, None), None) => {
                let files = source.files();
                let load = move || {
                    let key = source.load().map_err(|why| format!("api_key: {why}"))?;
                    api_key::identity(&key)
                };
                Ok(IdentitySource::Made { files, load: Box::new(load) })
            }
            (None, (Some(certificate), Some(key)), password) => {
                let mut files = vec![certificate.clone(), key.clone()];
                files.extend(password.iter().flat_map(SecretSource::files));
                let load = move || {
                    let password = password.as_ref().map(SecretSource::load).transpose();
                    let password = password.map_err(|why| format!("key_password: {why}"))?;
                    pem::identity(&certificate, &key, password.as_ref())
                };
                Ok(IdentitySource::Made { files, load: Box::new(load) })
            }
            (Some(_), _, _) => Err(
                "api_key: goes without certificate_file, key_file and key_password. Remove one or the others"
                    .into(),
            ),
            (None, (None, None), _) => {
                Err("api_key: missing. Write api_key, or certificate_file and key_file".into())
            }
            (None, (None, Some(_)), _) => Err("certificate_file: missing. Add it to key_file".into()),
            (None, (Some(_), None), _) => Err("key_file: missing. Add it to certificate_file".into()),
        }
    }
}

/// A KES.
struct Kes {
    rest: Rest,
}

impl Kes {
    /// Asks, and takes only 200 for an answer.
    async fn ask(&self, ek: Option<&EkName>, ask: Ask) -> Result<Reply, Error> {
        let reply = self.rest.send(ask).await?;
        if reply.status == http::StatusCode::OK { Ok(reply) } else { Err(wire::error(&reply, ek)) }
    }

    /// The first names that begin with `prefix`, and the next one if there are more.
    async fn list_page(&self, prefix: &str) -> Result<(Vec<EkName>, Option<String>), Error> {
        let pattern = if prefix.is_empty() { "*" } else { prefix };
        let reply = self.ask(None, Ask::new(Method::GET, format!("/v1/key/list/{pattern}"))).await?;
        let page: wire::Listed = reply.json()?;
        // What lies in a key store under another name is no key to KES either.
        let names = page.names.unwrap_or_default();
        let names = names.iter().filter_map(|name| EkName::parse(name).ok()).collect();
        Ok((names, Some(page.continue_at).filter(|next| !next.is_empty())))
    }
}

impl Kms for Kes {
    fn kind(&self) -> &'static str {
        "kes"
    }

    fn generate<'a>(&'a self, ek: &'a EkName, context: &'a Context) -> Answer<'a, DataKey> {
        Box::pin(async move {
            let ask = Ask::new(Method::POST, wire::path("generate", ek));
            let reply = self.ask(Some(ek), ask.json(&wire::Generate::new(context))).await?;
            let made: wire::Generated = reply.json()?;
            let dek = dek(&made.plaintext)?;
            let wrapped = WrappedDek::from_answer(decode(&made.ciphertext)?.as_slice())?;
            Ok(DataKey { dek, wrapped, version: None })
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
            if version.is_some() {
                return Err(Error::Malformed(
                    "a wrapped DEK with a key version, which KES has none of".into(),
                ));
            }
            let ask = Ask::new(Method::POST, wire::path("decrypt", ek));
            let reply = self.ask(Some(ek), ask.json(&wire::Decrypt::new(wrapped, context))).await?;
            dek(&reply.json::<wire::Decrypted>()?.plaintext)
        })
    }

    fn create<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask(Some(ek), Ask::new(Method::POST, wire::path("create", ek))).await.map(|_| ())
        })
    }

    /// KES tells 1,024 names at once and then the next one, but takes that for a prefix, and not for where to go on. So
    /// what is cut is asked for again, letter by letter.
    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(async move {
            let mut found = BTreeSet::new();
            let mut prefixes = vec![String::new()];
            for _ in 0..LIST_CALLS_MAX {
                let Some(prefix) = prefixes.pop() else { return Ok(found.into_iter().collect()) };
                if prefix == "_" {
                    // No prefix to KES, although names begin so.
                    prefixes.extend(from(&prefix, "_-"));
                    continue;
                }
                let (names, next) = self.list_page(&prefix).await?;
                found.extend(names);
                match next {
                    Some(next) if next.starts_with(&prefix) => prefixes.extend(from(&prefix, &next)),
                    Some(_) => return Err(Error::Malformed("KES's list goes on elsewhere".into())),
                    None => {}
                }
            }
            Err(Error::Malformed("KES's list of keys has no end".into()))
        })
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(async move {
            let reply = self.ask(Some(ek), Ask::new(Method::GET, wire::path("describe", ek))).await?;
            let info: wire::Described = reply.json()?;
            if info.name != ek.as_str() {
                return Err(Error::Malformed(format!("KES describes another key than '{ek}'")));
            }
            let created = info.created_at.and_then(|at| OffsetDateTime::parse(&at, &Rfc3339).ok());
            Ok(EkInfo { created, ..EkInfo::new(ek.clone(), State::Enabled) })
        })
    }

    fn delete<'a>(&'a self, ek: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask(Some(ek), Ask::new(Method::DELETE, wire::path("delete", ek))).await.map(|_| ())
        })
    }
}

/// What a name is made of, in the order of KES's lists.
const LETTERS: &str = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// Prefixes for the names that begin with `prefix`, from `next` on, which begins so too.
///
/// None ends with '-', for that is no prefix to KES. It is the first letter, so that only a `next` with it has names with
/// it behind.
fn from(prefix: &str, next: &str) -> Vec<String> {
    let first = next[prefix.len()..].chars().next().unwrap_or_default();
    let letters = LETTERS.chars().filter(|letter| *letter >= first);
    let below = letters.flat_map(|letter| {
        let below = format!("{prefix}{letter}");
        match letter {
            '-' if next.starts_with(&below) => from(&below, next),
            '-' => vec![],
            _ => vec![below],
        }
    });
    below.collect()
}

/// The DEK in an answer, if it is one.
fn dek(plaintext: &Secret) -> Result<Dek, Error> {
    dek_from_answer(&decode(plaintext)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_what_follows() {
        let covered = |name: &str, prefix, next: &str| {
            from(prefix, next).iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        for name in ["k-10", "k-100", "k-11", "k-2", "k0", "k_", "l", "z", "_a"] {
            assert_eq!(covered(name, "", "k-10"), name.starts_with(['k', 'l', 'z']), "{name}");
        }
        for (name, expected) in [("k-1", true), ("k-9", true), ("k-0", false), ("ka", true), ("l", false)] {
            assert_eq!(covered(name, "k", "k-10"), expected, "{name}");
        }
        assert!(covered("k--5", "k", "k--4") && !covered("k--3", "k", "k--4"));
        assert!(from("k", "k--4").iter().all(|prefix| !prefix.ends_with('-')));
    }
}
