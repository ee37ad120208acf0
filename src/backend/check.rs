//! For `s3veil config check`: whether the store answers, and knows the credentials.

use http::Method;

use super::{Backend, Error, StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::peek;
use crate::s3::Query;
use crate::s3::error::chain;

/// What is read of an error document, in bytes.
const DOCUMENT: usize = 64 * 1024;

/// Why nothing can be done at the store.
pub(super) struct Trouble {
    /// The key, its value and the remedy.
    pub(super) why: String,
    /// It answers, and does not take s3veil's signature.
    pub(super) refused: bool,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self { why, refused: false }
    }
}

impl Backend {
    /// Asks the store for its buckets, with each of the credentials. Gives a note for each that may not list them, which
    /// is no mistake.
    ///
    /// Errors: one line per mistake that names the key, its value and the remedy.
    pub async fn check(&self) -> Result<Vec<String>, String> {
        let mut names: Vec<&String> = self.credentials.keys().collect();
        names.sort();
        let (mut notes, mut wrong) = (Vec::new(), Vec::new());
        for name in names {
            match self.ask(name).await {
                Ok(note) => notes.extend(note),
                Err(Trouble { why, .. }) => wrong.push(why),
            }
        }
        // A store that is away is so for all of them.
        wrong.dedup();
        if wrong.is_empty() { Ok(notes) } else { Err(wrong.join("\n")) }
    }

    /// Asks with one of the credentials. Gives a note if it may not list buckets.
    ///
    /// Errors: a mistake that names the key, its value and the remedy.
    pub(super) async fn ask(&self, name: &str) -> Result<Option<String>, Trouble> {
        let request = StoreRequest {
            method: Method::GET,
            bucket: None,
            key: None,
            query: Query::default(),
            headers: StoreHeaders::default(),
            body: StoreBody::empty(),
            signer: Some(name.to_owned()),
        };
        // Past what takes note of answers: here it counts what the answer says.
        match self.attempt(request).await {
            Ok(answer) if answer.status().is_success() => Ok(None),
            Ok(answer) => self.judge(name, answer).await.map(Some),
            Err(Error::NoCredentials { name, why }) => {
                Err(Trouble { why: format!("store.credentials.{name}.chain: {why}"), refused: true })
            }
            Err(why) => Err(self.away(&why).into()),
        }
    }

    fn away(&self, error: &Error) -> String {
        let why = chain(error);
        format!("store.endpoint: '{}': {why}. Start the store, or correct the address", self.endpoint())
    }

    /// An answer that is an error: a mistake in the configuration, or a note.
    async fn judge(&self, name: &str, answer: StoreResponse) -> Result<String, Trouble> {
        let status = answer.status();
        let text = match peek(answer.into_body(), DOCUMENT).await {
            Ok((bytes, _)) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(why) => {
                let why = format!("store.endpoint: '{}' broke off its answer: {why}", self.endpoint());
                return Err(why.into());
            }
        };
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split_once(&format!("</{name}>"))?.0)
        };
        let code = element("Code").unwrap_or("no S3 error");
        let message = element("Message").unwrap_or_default();
        let said = format!("the store answers {} {code}: {message}", status.as_u16());
        let remedy = match self.credentials.get(name) {
            Some(credentials) if credentials.is_chain() => {
                "Look at what AWS's chain finds, for instance by `aws sts get-caller-identity`"
            }
            _ => "Correct access_key and secret_key",
        };
        match code {
            "AuthorizationHeaderMalformed" => {
                Err(format!("store.region: '{}': {said}. Correct the region", self.region).into())
            }
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "InvalidClientTokenId" => {
                Err(Trouble { why: format!("store.credentials.{name}: {said}. {remedy}"), refused: true })
            }
            "RequestTimeTooSkewed" => {
                Err(Trouble { why: format!("store: {said}. Set this machine's clock"), refused: true })
            }
            _ if status.is_server_error() => {
                Err(format!("store.endpoint: '{}': {said}. Look at the store", self.endpoint()).into())
            }
            _ => Ok(format!(
                "Store credentials '{name}': {said}. No mistake, if they need not list all buckets."
            )),
        }
    }
}
