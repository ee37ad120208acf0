//! How Azure's crates reach HTTP: over the client that every KMS is asked with, not one of their own.
//!
//! So roots, timeouts and limits are the same as elsewhere, and answers are gathered into memory that is wiped. A transport
//! for a vault asks that vault and nobody else: what carries a token goes nowhere else, wherever an answer points.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{AUTHORIZATION, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, Url};
use http::{HeaderName, HeaderValue, StatusCode};
use hyper_util::client::legacy::Client;

use super::credential::Credential;
use crate::body::{self, ByteBody};
use crate::kms::rest::{self, CONNECT_TIMEOUT, TOO_LONG, Wiped};
use crate::net::{Connector, NetConfig, client};
use crate::s3::error::chain;
use crate::watch::Watched;

/// Where a virtual machine asks for its identity's tokens.
const METADATA_HOST: &str = "169.254.169.254";

/// One client, for the vault and for those that give tokens.
#[derive(Clone)]
pub(super) struct Transport {
    client: Arc<Watched<Client<Connector, ByteBody>>>,
    only: Option<Target>,
}

/// Who alone is asked.
#[derive(Clone)]
struct Target {
    /// Such as `https://name.vault.azure.net`.
    origin: String,
    /// Where its tokens come from.
    credential: Arc<Credential>,
}

/// No answer, or one that may differ next time. Somewhere in the chain of an error it says that the KMS is not available.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Away(String);

impl Transport {
    /// Asks anybody. `ca_file`: roots to trust instead of the system's, in PEM; read again when it changes.
    ///
    /// Errors: a message that names the key, the file and the remedy.
    pub(super) fn new(ca_file: Option<PathBuf>) -> Result<Self, String> {
        let files = ca_file.iter().cloned().collect();
        let client = Watched::new(files, move || {
            client(NetConfig { ca_file: ca_file.clone(), identity: None, connect_timeout: CONNECT_TIMEOUT })
        })?;
        Ok(Self { client: Arc::new(client), only: None })
    }

    /// The same client, for one origin alone, with tokens of this credential.
    pub(super) fn only(&self, origin: &str, credential: Arc<Credential>) -> Self {
        Self { client: self.client.clone(), only: Some(Target { origin: origin.to_owned(), credential }) }
    }

    async fn ask(&self, request: &Request) -> Result<AsyncRawResponse, Error> {
        let origin = request.url().origin().ascii_serialization();
        if let Some(only) = self.only.as_ref().filter(|only| only.origin != origin) {
            return Err(lie(format!("{} points to {origin}, which is not asked", only.origin)));
        }
        let response =
            self.client.get().request(convert(request)?).await.map_err(|why| away(&origin, &chain(&why)))?;
        let (parts, stream) = response.into_parts();
        let body = rest::gather(stream).await.map_err(|why| away(&origin, &chain(&why)))?;
        let body = body.ok_or_else(|| lie(format!("{origin}: {TOO_LONG}")))?;
        if may_pass(request.url(), parts.status) {
            return Err(away(&origin, &parts.status));
        }
        if let Some(only) = self.only.as_ref().filter(|_| parts.status == StatusCode::UNAUTHORIZED) {
            // Before Azure's crate answers the challenge: it asks the vault once more then, with the token that it is given.
            only.refuses(request);
        }
        let mut headers = Headers::new();
        for (name, value) in &parts.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let bytes = bytes::Bytes::from_owner(Wiped(body));
        Ok(AsyncRawResponse::from_bytes(parts.status.as_u16().into(), headers, bytes))
    }
}

impl Target {
    fn refuses(&self, request: &Request) {
        let shown = request.headers().get_optional_str(&AUTHORIZATION);
        if let Some(token) = shown.and_then(|shown| shown.strip_prefix("Bearer ")) {
            self.credential.refused(token);
        }
    }
}

/// Whether the same question may have another answer soon. A virtual machine's metadata service says 404 and 410 while it is
/// being updated. Source: "How to use managed identities for Azure resources on an Azure VM to acquire an access token",
/// section "Error handling".
fn may_pass(url: &Url, status: StatusCode) -> bool {
    let is_updated =
        url.host_str() == Some(METADATA_HOST) && matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    is_updated || rest::is_transient(status)
}

fn convert(request: &Request) -> Result<http::Request<ByteBody>, Error> {
    let odd = |why: http::Error| Error::new(ErrorKind::Other, why);
    let Body::Bytes(bytes) = request.body() else {
        return Err(Error::with_message(ErrorKind::Other, "a body that is not in memory"));
    };
    let method =
        http::Method::from_bytes(request.method().as_str().as_bytes()).map_err(|why| odd(why.into()))?;
    let mut out = http::Request::builder().method(method).uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        let name = HeaderName::try_from(name.as_str()).map_err(|why| odd(why.into()))?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|why| odd(why.into()))?;
        value.set_sensitive(name == http::header::AUTHORIZATION);
        out = out.header(name, value);
    }
    out.body(if bytes.is_empty() { body::empty() } else { body::full(bytes.clone()) }).map_err(odd)
}

fn away(origin: &str, why: &dyn fmt::Display) -> Error {
    let text = format!("{origin}: {why}");
    Error::with_error(ErrorKind::Io, Away(text.clone()), text)
}

fn lie(why: String) -> Error {
    Error::with_message(ErrorKind::DataConversion, why)
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.ask(request).await
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({})", self.only.as_ref().map_or("any", |only| &only.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass() {
        for (url, status, expected) in [
            ("http://169.254.169.254/metadata/identity/oauth2/token?resource=x", 404, true),
            ("http://169.254.169.254/metadata/identity/oauth2/token?resource=x", 410, true),
            ("http://169.254.169.254/metadata/identity/oauth2/token?resource=x", 400, false),
            ("https://a.vault.azure.net/keys/a", 404, false),
            ("https://a.vault.azure.net/keys/a", 410, false),
            ("https://a.vault.azure.net/keys/a", 503, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_pass(&Url::parse(url).unwrap(), status), expected, "{url} {status}");
        }
    }
}
