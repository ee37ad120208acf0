//! `s3veil inspect`: what an object's envelope says. Needs no key, so nothing of it is verified, and nothing is secret.

use anyhow::Context as _;
use http::{HeaderMap, Method, header};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::ConfigFile;
use super::object::Object;
use crate::auth::Who;
use crate::backend::{self, StoreHeaders, StoreRequest};
use crate::config;
use crate::s3::{Query, headers};
use crate::seal::{Envelope, Layout, SealedLen, Sse};

#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    file: ConfigFile,
    /// The object, s3://BUCKET/KEY: its head is asked for at the configuration's store.
    #[arg(required_unless_present = "envelope", conflicts_with = "envelope")]
    object: Option<Object>,
    /// A version of the object.
    #[arg(long, value_name = "ID", requires = "object")]
    version_id: Option<String>,
    /// An envelope instead, the value of the metadata header x-amz-meta-s3veil: nothing is asked for.
    #[arg(long, value_name = "HEADER")]
    envelope: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown. The wrapped DEK is shown by its hash: objects that share one have the same.
#[derive(Serialize)]
struct Report {
    format: u8,
    layout: &'static str,
    /// None for a composite object, whose manifest says it.
    plaintext_bytes: Option<u64>,
    /// None if only the envelope was given.
    stored_bytes: Option<u64>,
    /// Whether a body of `stored_bytes` can be what was sealed.
    size_fits: Option<bool>,
    kms: String,
    ek: String,
    ek_version: Option<String>,
    server_side_encryption: &'static str,
    context_sha256: Option<String>,
    wrapped_dek_bytes: usize,
    wrapped_dek_sha256: String,
    /// The same for every copy of an object.
    commitment: String,
}

impl Inspect {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (text, stored) = match (&self.envelope, &self.object) {
            (Some(envelope), _) => (envelope.clone(), None),
            (None, Some(object)) => self.head(object).await?,
            (None, None) => anyhow::bail!("name an object or an envelope"),
        };
        let report = Report::of(&Envelope::parse(&text).context("the envelope")?, stored);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{}", report.lines());
        }
        Ok(())
    }

    /// The envelope of an object at the store, and how many bytes the store holds.
    async fn head(&self, object: &Object) -> anyhow::Result<(String, Option<SealedLen>)> {
        let store: backend::Config =
            config::section(&self.file.config, "store").map_err(anyhow::Error::msg)?;
        let store = store.build().map_err(|why| anyhow::anyhow!("{}: {why}", self.file.config.display()))?;
        let mut request = StoreRequest::new(
            Method::HEAD,
            Some(&object.bucket),
            Some(&object.key),
            StoreHeaders::default(),
            // With the default credentials, as whoever works at this command line has them all.
            &Who::Trusted,
        );
        if let Some(id) = &self.version_id {
            request = request.query(Query::from_pairs([("versionId", id.as_str())]));
        }
        let answer = store.send(request).await.context("the store")?;
        anyhow::ensure!(answer.status().is_success(), "{object}: the store answered {}", answer.status());
        let Some(envelope) = answer.headers().get(headers::ENVELOPE) else {
            anyhow::bail!("{object} is not sealed: it has no {}", headers::ENVELOPE)
        };
        Ok((envelope.to_str().context("the envelope")?.to_owned(), length(answer.headers())))
    }
}

fn length(head: &HeaderMap) -> Option<SealedLen> {
    head.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok().map(SealedLen::new)
}

impl Report {
    fn of(envelope: &Envelope, stored: Option<SealedLen>) -> Self {
        let header = envelope.header();
        let (layout, plaintext_bytes) = match header.layout {
            Layout::Stream(length) => ("stream", Some(length.get())),
            Layout::Composite => ("composite", None),
        };
        Self {
            format: 1,
            layout,
            plaintext_bytes,
            stored_bytes: stored.map(SealedLen::get),
            size_fits: stored.map(|stored| stored.layout() == Some(header.layout)),
            kms: header.kms.clone(),
            ek: header.ek.clone(),
            ek_version: header.ek_version.clone(),
            server_side_encryption: match header.sse {
                Sse::Kms | Sse::KmsBucketKey => "aws:kms",
                Sse::S3 => "AES256",
                Sse::Customer => "AES256 with a customer's key",
            },
            context_sha256: header.context.map(hex::encode),
            wrapped_dek_bytes: header.wrapped_dek.len(),
            wrapped_dek_sha256: hex::encode(Sha256::digest(&header.wrapped_dek)),
            commitment: hex::encode(envelope.commitment()),
        }
    }

    fn lines(&self) -> String {
        let bytes =
            |bytes: Option<u64>| bytes.map(|bytes| format!("{bytes} bytes")).unwrap_or_else(|| "-".into());
        let fits = match self.size_fits {
            Some(false) => ", which can't be the body that was sealed",
            _ => "",
        };
        let rows = [
            ("format", self.format.to_string()),
            ("layout", self.layout.to_owned()),
            ("plaintext", bytes(self.plaintext_bytes)),
            ("stored", bytes(self.stored_bytes) + fits),
            ("kms", self.kms.clone()),
            ("ek", self.ek.clone()),
            ("ek version", self.ek_version.clone().unwrap_or_else(|| "-".into())),
            ("shown as", self.server_side_encryption.to_owned()),
            ("context", self.context_sha256.clone().unwrap_or_else(|| "-".into())),
            ("wrapped dek", format!("{} bytes, SHA-256 {}", self.wrapped_dek_bytes, self.wrapped_dek_sha256)),
            ("commitment", self.commitment.clone()),
        ];
        let rows: String = rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
        rows + "Not verified: this is what the store says. Reading the object verifies it.\n"
    }
}
