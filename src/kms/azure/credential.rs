//! Who s3veil is at Azure: the token that a vault asks for, and where it comes from.
//!
//! The crate that does the work (`azure_identity`) keeps a token until five minutes before its end, and has one request for
//! it under way at a time. Here is what it lacks: a secret that changes in its file, a token that is revoked, the choice.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::ClientOptions;
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde::Deserialize;

use crate::secret::{FileSource, Secret, SecretSource};
use crate::watch::Watched;

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// An application with a secret.
    ClientSecret,
    /// A token file that Kubernetes keeps fresh.
    WorkloadIdentity,
    /// The identity of the virtual machine, App Service or container.
    ManagedIdentity,
    /// Whoever has run `az login`: for development.
    AzureCli,
}

/// How to get a token, as typed.
#[derive(Debug, Default)]
pub(super) struct LoginConfig {
    pub auth: Option<Auth>,
    pub tenant_id: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretSource>,
    pub federated_token_file: Option<PathBuf>,
}

type Source = Arc<dyn TokenCredential>;
type Make = dyn Fn(Option<&Secret>) -> azure_core::Result<Source> + Send + Sync;

/// Gives tokens of one scope, and none of another.
pub(super) struct Credential {
    scope: String,
    /// What changes in its file, if anything does: then the login is made anew.
    secret: Option<Watched<Secret>>,
    make: Box<Make>,
    made: Mutex<Option<Made>>,
}

/// A login.
struct Made {
    /// What it was made with; another one, once the file has changed.
    secret: Option<Arc<Secret>>,
    source: Source,
    /// The token that it gave last.
    token: Option<Secret>,
}

impl LoginConfig {
    /// `scope`: what a vault may ask a token for. `options`: for whoever gives tokens. Nobody is contacted.
    ///
    /// Errors: a message that names the key and the remedy.
    pub(super) fn build(self, scope: String, options: ClientOptions) -> Result<Credential, String> {
        let auth = self.auth.or_else(|| self.client_secret.as_ref().map(|_| Auth::ClientSecret));
        let auth = auth.or_else(|| self.federated_token_file.as_ref().map(|_| Auth::WorkloadIdentity));
        let only_for = |key, auth| Err(format!("{key}: only for auth = \"{auth}\". Remove one of them"));
        if self.client_secret.is_some() && auth != Some(Auth::ClientSecret) {
            return only_for("client_secret", "client-secret");
        }
        if self.federated_token_file.is_some() && auth != Some(Auth::WorkloadIdentity) {
            return only_for("federated_token_file", "workload-identity");
        }
        let (tenant, client) = (self.tenant_id, self.client_id);
        let (secret, make): (_, Box<Make>) = match auth {
            Some(Auth::ClientSecret) => {
                let missing =
                    |key| format!("{key}: missing. An application has tenant_id, client_id, client_secret");
                let tenant = tenant.ok_or_else(|| missing("tenant_id"))?;
                let client = client.ok_or_else(|| missing("client_id"))?;
                let secret = self.client_secret.ok_or_else(|| missing("client_secret"))?.watch();
                let secret = secret.map_err(|why| format!("client_secret: {why}"))?;
                (Some(secret), Box::new(move |secret| application(&tenant, &client, secret, &options)))
            }
            Some(Auth::WorkloadIdentity) => {
                let file = self.federated_token_file;
                let token =
                    file.clone().map(|file| SecretSource::File(FileSource { file }).watch()).transpose();
                let token = token.map_err(|why| format!("federated_token_file: {why}"))?;
                (token, Box::new(move |_| workload(&tenant, &client, &file, &options)))
            }
            Some(Auth::ManagedIdentity) => (None, Box::new(move |_| managed(&client, &options))),
            Some(Auth::AzureCli) => (None, Box::new(move |_| cli(&tenant))),
            None => (None, Box::new(move |_| chain(&tenant, &client, &options))),
        };
        let credential = Credential { scope, secret, make, made: Mutex::new(None) };
        credential.source().map_err(|why| format!("auth: {}", crate::s3::error::chain(&why)))?;
        Ok(credential)
    }
}

fn application(
    tenant: &str,
    client: &str,
    secret: Option<&Secret>,
    options: &ClientOptions,
) -> azure_core::Result<Source> {
    let options = ClientSecretCredentialOptions { client_options: options.clone() };
    let secret = secret.map(Secret::as_str).unwrap_or_default().to_owned();
    Ok(ClientSecretCredential::new(tenant, client.to_owned(), secret.into(), Some(options))?)
}

fn workload(
    tenant: &Option<String>,
    client: &Option<String>,
    file: &Option<PathBuf>,
    options: &ClientOptions,
) -> azure_core::Result<Source> {
    let options = WorkloadIdentityCredentialOptions {
        credential_options: ClientAssertionCredentialOptions { client_options: options.clone() },
        client_id: client.clone(),
        tenant_id: tenant.clone(),
        token_file_path: file.clone(),
    };
    Ok(WorkloadIdentityCredential::new(Some(options))?)
}

fn managed(client: &Option<String>, options: &ClientOptions) -> azure_core::Result<Source> {
    let user_assigned_id = client.clone().map(UserAssignedId::ClientId);
    let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options: options.clone() };
    Ok(ManagedIdentityCredential::new(Some(options))?)
}

fn cli(tenant: &Option<String>) -> azure_core::Result<Source> {
    let options =
        AzureCliCredentialOptions { tenant_id: tenant.clone(), ..AzureCliCredentialOptions::default() };
    Ok(AzureCliCredential::new(Some(options))?)
}

/// What there may be, the surest first: a cluster's identity only where its variables are set.
fn chain(
    tenant: &Option<String>,
    client: &Option<String>,
    options: &ClientOptions,
) -> azure_core::Result<Source> {
    let mut sources: Vec<Source> = Vec::new();
    sources.extend(workload(tenant, client, &None, options));
    sources.extend(managed(client, options));
    sources.push(cli(tenant)?);
    Ok(Arc::new(Chain { sources, found: OnceLock::new() }))
}

impl Credential {
    /// The vault does not take this token: whoever asks for one from now on gets another. Nothing is forgotten if there is
    /// another already, so that many calls that were under way with the old one make one login.
    pub(super) fn refused(&self, token: &str) {
        let is_old = |made: &mut Made| made.token.as_ref().is_some_and(|given| given.matches(token));
        self.made().take_if(is_old);
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> azure_core::Result<Source> {
        let secret = self.secret.as_ref().map(Watched::get);
        let mut made = self.made();
        match &*made {
            Some(Made { secret: of, source, .. })
                if of.as_ref().map(Arc::as_ptr) == secret.as_ref().map(Arc::as_ptr) =>
            {
                Ok(source.clone())
            }
            _ => {
                let source = (self.make)(secret.as_deref())?;
                *made = Some(Made { secret, source: source.clone(), token: None });
                Ok(source)
            }
        }
    }
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if scopes != [self.scope.as_str()] {
            let why = format!("the vault asks for a token for {scopes:?}, not for '{}'", self.scope);
            return Err(Error::with_message(ErrorKind::Credential, why));
        }
        let source = self.source()?;
        let token = source.get_token(scopes, options).await?;
        if let Some(made) = self.made().as_mut().filter(|made| Arc::ptr_eq(&made.source, &source)) {
            made.token = Some(Secret::new(token.token.secret()));
        }
        Ok(token)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.scope)
    }
}

/// One source after the other, until one has given a token; that one from then on.
#[derive(Debug)]
struct Chain {
    sources: Vec<Source>,
    found: OnceLock<Source>,
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if let Some(found) = self.found.get() {
            return found.get_token(scopes, options).await;
        }
        let mut failed = Vec::new();
        for source in &self.sources {
            match source.get_token(scopes, options.clone()).await {
                Ok(token) => {
                    self.found.set(source.clone()).ok();
                    return Ok(token);
                }
                Err(why) => failed.push(why),
            }
        }
        let all: Vec<_> =
            failed.iter().map(|why| why.to_string().lines().next().unwrap_or_default().to_owned()).collect();
        // The first is what such a machine should have; the last, `az`, is for a desk.
        let first = failed.into_iter().next().expect("`az` is always asked");
        Err(Error::with_error(ErrorKind::Credential, first, format!("no login works: {}", all.join("; "))))
    }
}
