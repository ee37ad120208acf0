//! How Azure's crates reach HTTP: over the client that every KMS is asked with, not one of their own.
//!
//! So roots, timeouts and limits are the same as elsewhere, and answers are gathered into memory that is wiped. A transport
//! for a vault asks that vault and nobody else: what carries a token goes nowhere else, wherever an answer points.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use http::{HeaderName, HeaderValue};
use hyper_util::client::legacy::Client;

use crate::body::{self, ByteBody};
use crate::kms::rest::{self, CONNECT_TIMEOUT, TOO_LONG, Wiped};
use crate::net::{Connector, NetConfig, client};
use crate::s3::error::chain;
use crate::watch::Watched;

/// One client, for the vault and for those that give tokens.
#[derive(Clone)]
pub(super) struct Transport {
    client: Arc<Watched<Client<Connector, ByteBody>>>,
    /// The only origin that is asked, such as `https://name.vault.azure.net`.
    only: Option<String>,
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

    /// The same client, for one origin alone.
    pub(super) fn only(&self, origin: &str) -> Self {
        Self { client: self.client.clone(), only: Some(origin.to_owned()) }
    }

    async fn ask(&self, request: &Request) -> Result<AsyncRawResponse, Error> {
        let origin = request.url().origin().ascii_serialization();
        if let Some(only) = self.only.as_ref().filter(|only| **only != origin) {
            return Err(lie(format!("{only} points to {origin}, which is not asked")));
        }
        let response =
            self.client.get().request(convert(request)?).await.map_err(|why| away(&origin, &chain(&why)))?;
        let (parts, stream) = response.into_parts();
        let body = rest::gather(stream).await.map_err(|why| away(&origin, &chain(&why)))?;
        let body = body.ok_or_else(|| lie(format!("{origin}: {TOO_LONG}")))?;
        if rest::is_transient(parts.status) {
            return Err(away(&origin, &parts.status));
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
        write!(f, "Transport({})", self.only.as_deref().unwrap_or("any"))
    }
}
