//! The secrets of CipherTrust Manager, and of Gemalto KeySecure before it: `/api/v1/vault/secrets`.
//!
//! A secret of the type `seed` has the EK's name, and as its material what MinIO KES keeps. Source: minio/kes,
//! `internal/keystore/gemalto`.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::keys::refused;
use super::session::{Session, escaped};
use crate::kms::rest::Ask;
use crate::kms::secrets::SecretStore;
use crate::kms::{Answer, EkInfo, EkName, Error, State};
use crate::secret::Secret;

const SECRETS: &str = "/api/v1/vault/secrets";

/// The secrets of one server.
pub(super) struct Secrets {
    pub session: Session,
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    #[serde(rename = "dataType")]
    data_type: &'static str,
    material: &'a str,
    name: &'a str,
}

#[derive(Deserialize)]
struct Exported {
    material: Secret,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(rename = "createdAt")]
    created: Option<String>,
}

impl Secrets {
    async fn ask(&self, name: &EkName, ask: impl Fn() -> Ask) -> Result<crate::kms::rest::Reply, Error> {
        let reply = self.session.send(ask).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(refused(name, &reply)) }
    }
}

fn is_about(name: &EkName, answered: &str) -> Result<(), Error> {
    match answered == name.as_str() {
        true => Ok(()),
        false => Err(Error::Malformed(format!("the server gave secret '{answered}' for '{name}'"))),
    }
}

impl SecretStore for Secrets {
    fn kind(&self) -> &'static str {
        "ciphertrust-secrets"
    }

    fn get<'a>(&'a self, name: &'a EkName) -> Answer<'a, Zeroizing<Vec<u8>>> {
        Box::pin(async move {
            let path = format!("{SECRETS}/{}/export?type=name", escaped(name.as_str()));
            let reply = self.ask(name, || Ask::new(Method::POST, &*path)).await?;
            let exported: Exported = reply.json()?;
            exported.name.map_or(Ok(()), |answered| is_about(name, &answered))?;
            Ok(Zeroizing::new(exported.material.as_bytes().to_vec()))
        })
    }

    fn create<'a>(&'a self, name: &'a EkName, secret: Zeroizing<Vec<u8>>) -> Answer<'a, ()> {
        Box::pin(async move {
            let material = str::from_utf8(&secret).expect("what KES keeps is base64");
            let request = CreateRequest { data_type: "seed", material, name: name.as_str() };
            self.ask(name, || Ask::new(Method::POST, SECRETS).json(&request)).await?;
            Ok(())
        })
    }

    fn list(&self) -> Answer<'_, Vec<EkName>> {
        Box::pin(async move {
            let secrets: Vec<Described> = self.session.list(SECRETS).await?;
            let mut names: Vec<_> =
                secrets.iter().filter_map(|secret| EkName::parse(&secret.name).ok()).collect();
            names.sort();
            Ok(names)
        })
    }

    fn describe<'a>(&'a self, name: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(async move {
            let path = format!("{SECRETS}/{}?type=name", escaped(name.as_str()));
            let described: Described = self.ask(name, || Ask::new(Method::GET, &*path)).await?.json()?;
            is_about(name, &described.name)?;
            let created = described.created.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
            Ok(EkInfo { created, ..EkInfo::new(name.clone(), State::Enabled) })
        })
    }

    fn delete<'a>(&'a self, name: &'a EkName) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = format!("{SECRETS}/{}?type=name", escaped(name.as_str()));
            let reply = self.session.send(|| Ask::new(Method::DELETE, &*path)).await?;
            match reply.status {
                StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
                _ => Err(refused(name, &reply)),
            }
        })
    }
}
