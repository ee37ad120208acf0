//! What is typed in a `[kms.NAME]` section of kind `vault-transit` or `vault-kv`.

use std::path::PathBuf;

use http::HeaderValue;
use serde::Deserialize;

use super::auth::Auth;
use super::client::{Api, Namespace, Vault};
use super::kv::{Kv, Seal};
use super::login::Method;
use super::transit::Transit;
use crate::kms::endpoints::Endpoints;
use crate::kms::rest::{IdentitySource, RestConfig};
use crate::kms::secrets::SecretKms;
use crate::kms::{ConfigError, Kms};
use crate::secret::{FileSource, SecretSource};

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The transit engine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitConfig {
    /// Where the engine is mounted: `transit` if left out.
    pub mount: Option<String>,
    /// The server.
    #[serde(flatten)]
    pub server: ServerConfig,
}

/// A KV engine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvConfig {
    /// Where the engine is mounted: `kv` if left out, as in KES.
    pub mount: Option<String>,
    /// The path within the engine under which the EKs are; none if left out.
    pub prefix: Option<String>,
    /// The engine's version.
    #[serde(default)]
    pub version: Version,
    /// A key of a transit engine that EKs are sealed with once more; none if left out.
    pub transit: Option<KvTransitConfig>,
    /// The server.
    #[serde(flatten)]
    pub server: ServerConfig,
}

/// The key that seals what is in a KV engine, as KES can.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvTransitConfig {
    /// Where the transit engine is mounted: `transit` if left out.
    pub mount: Option<String>,
    /// The key's name.
    pub key: String,
}

/// The version of a KV engine. They differ in their paths, and only the second locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub enum Version {
    /// A secret is what was written last.
    V1,
    /// A secret has versions, and each can be taken back for a while.
    #[default]
    V2,
}

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err(format!("version: {number} is not a version of KV. Write 1 or 2")),
        }
    }
}

/// The server, and how s3veil logs in.
#[derive(Debug, Deserialize)]
pub struct ServerConfig {
    /// `https://HOST:PORT`, one or several of the same cluster: the next is asked when one does not answer.
    pub endpoint: Endpoints,
    /// The namespace of the engine; none for the root namespace.
    pub namespace: Option<String>,
    /// Roots to trust instead of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// A certificate for a server that asks for one, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its key, in PEM.
    pub key_file: Option<PathBuf>,
    /// How s3veil logs in.
    pub auth: AuthConfig,
}

/// How s3veil logs in.
#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum AuthConfig {
    /// With a token that somebody else has made, for instance an agent beside s3veil.
    Token(TokenConfig),
    /// With an AppRole.
    #[serde(rename = "approle")]
    AppRole(AppRoleConfig),
    /// With the token of the pod's service account.
    Kubernetes(KubernetesConfig),
}

/// `auth.method = "token"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The token. Renewed while the server lets it.
    pub token: SecretSource,
    /// The namespace that the token is of, if not the engine's; `/` for the root namespace.
    pub namespace: Option<String>,
}

/// `auth.method = "approle"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRoleConfig {
    /// Where the method is mounted: `approle` if left out.
    pub mount: Option<String>,
    /// The role.
    pub role_id: SecretSource,
    /// Its secret.
    pub secret_id: SecretSource,
    /// The namespace to log in to, if not the engine's; `/` for the root namespace.
    pub namespace: Option<String>,
}

/// `auth.method = "kubernetes"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Where the method is mounted: `kubernetes` if left out.
    pub mount: Option<String>,
    /// The role at the server.
    pub role: String,
    /// The service account's token, if it is not where Kubernetes puts it.
    pub jwt: Option<SecretSource>,
    /// The namespace to log in to, if not the engine's; `/` for the root namespace.
    pub namespace: Option<String>,
}

impl TransitConfig {
    /// Contacts nothing.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        let mount = path("mount", self.mount, "transit")?;
        Ok(Box::new(Transit::new(self.server.build()?, mount)))
    }
}

impl KvConfig {
    /// Contacts nothing.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> Result<Box<dyn Kms>, ConfigError> {
        let mount = path("mount", self.mount, "kv")?;
        let prefix = self.prefix.map(|prefix| path("prefix", Some(prefix), "")).transpose()?;
        let seal = self.transit.map(KvTransitConfig::build).transpose()?;
        let (vault, version) = (self.server.build()?, self.version);
        Ok(Box::new(SecretKms::new(Kv { vault, mount, prefix, version, seal })))
    }
}

impl KvTransitConfig {
    fn build(self) -> Result<Seal, String> {
        Ok(Seal {
            mount: path("transit.mount", self.mount, "transit")?,
            key: path("transit.key", Some(self.key), "")?,
        })
    }
}

impl ServerConfig {
    fn build(self) -> Result<Vault, String> {
        let identity = match (self.certificate_file, self.key_file) {
            (None, None) => IdentitySource::None,
            (Some(certificate), Some(key)) => IdentitySource::Files { certificate, key },
            (Some(_), None) => return Err("key_file: missing. Name the certificate's key too".into()),
            (None, Some(_)) => {
                return Err("certificate_file: missing. Name the key's certificate too".into());
            }
        };
        let api = Api::new(
            RestConfig { endpoints: self.endpoint.into(), ca_file: self.ca_file, identity }.build()?,
        );
        let engine = namespace("namespace", self.namespace.as_deref())?;
        let (method, login) = self.auth.build()?;
        let login = match login.as_deref() {
            None => engine.clone(),
            other => namespace("auth.namespace", other)?,
        };
        Ok(Vault::new(Auth::new(api, method, login), engine))
    }
}

impl AuthConfig {
    /// The method, and the namespace that it names.
    fn build(self) -> Result<(Method, Option<String>), String> {
        let watch =
            |key: &str, source: SecretSource| source.watch().map_err(|why| format!("auth.{key}: {why}"));
        Ok(match self {
            Self::Token(TokenConfig { token, namespace }) => {
                (Method::Token(watch("token", token)?), namespace)
            }
            Self::AppRole(AppRoleConfig { mount, role_id, secret_id, namespace }) => {
                let mount = path("auth.mount", mount, "approle")?;
                let (role_id, secret_id) = (watch("role_id", role_id)?, watch("secret_id", secret_id)?);
                (Method::AppRole { mount, role_id, secret_id }, namespace)
            }
            Self::Kubernetes(KubernetesConfig { mount, role, jwt, namespace }) => {
                let mount = path("auth.mount", mount, "kubernetes")?;
                let default = || SecretSource::File(FileSource { file: SERVICE_ACCOUNT_TOKEN.into() });
                let jwt = watch("jwt", jwt.unwrap_or_else(default))?;
                (Method::Kubernetes { mount, role, jwt }, namespace)
            }
        })
    }
}

/// A path at the server, without slashes at its ends. Checked, so that it means at the server what it says here.
fn path(key: &str, typed: Option<String>, default: &str) -> Result<String, String> {
    let path = typed.as_deref().unwrap_or(default).trim_matches('/');
    let plain = |step: &str| {
        let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !step.is_empty() && step != "." && step != ".." && step.bytes().all(clean)
    };
    match path.split('/').all(plain) {
        true => Ok(path.to_owned()),
        false => Err(format!(
            "{key}: '{path}' is not a path. Write steps of letters, digits, '-', '_' and '.', with '/' between them"
        )),
    }
}

fn namespace(key: &str, typed: Option<&str>) -> Result<Namespace, String> {
    match typed {
        None | Some("/") => Ok(Namespace::default()),
        Some(name) => {
            let name = path(key, Some(name.to_owned()), "")?;
            Ok(Namespace(Some(HeaderValue::from_str(&name).expect("a checked path is a header value"))))
        }
    }
}
