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
use crate::metrics::Metrics;
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
    /// None under a customer's key, as the EK and the wrapped DEK.
    kms: Option<String>,
    ek: Option<String>,
    ek_version: Option<String>,
    server_side_encryption: &'static str,
    context_sha256: Option<String>,
    wrapped_dek_bytes: Option<usize>,
    wrapped_dek_sha256: Option<String>,
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
        let store = store.build(Metrics::default().store());
        let store = store.map_err(|why| anyhow::anyhow!("{}: {why}", self.file.config.display()))?;
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
        let of_an_ek = header.sse != Sse::Customer;
        Self {
            format: 1,
            layout,
            plaintext_bytes,
            stored_bytes: stored.map(SealedLen::get),
            size_fits: stored.map(|stored| stored.layout() == Some(header.layout)),
            kms: of_an_ek.then(|| header.kms.clone()),
            ek: of_an_ek.then(|| header.ek.clone()),
            ek_version: header.ek_version.clone(),
            server_side_encryption: match header.sse {
                Sse::Kms => "aws:kms",
                Sse::KmsBucketKey => "aws:kms by a Bucket Key",
                Sse::S3 => "AES256",
                Sse::Customer => "AES256 with a customer's key",
            },
            context_sha256: header.context.map(hex::encode),
            wrapped_dek_bytes: of_an_ek.then_some(header.wrapped_dek.len()),
            wrapped_dek_sha256: of_an_ek.then(|| hex::encode(Sha256::digest(&header.wrapped_dek))),
            commitment: hex::encode(envelope.commitment()),
        }
    }

    fn lines(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        let bytes = |bytes: Option<u64>| text(&bytes.map(|bytes| format!("{bytes} bytes")));
        let wrapped = self.wrapped_dek_bytes.zip(self.wrapped_dek_sha256.as_ref());
        let wrapped = wrapped.map(|(bytes, hash)| format!("{bytes} bytes, SHA-256 {hash}"));
        let fits = match self.size_fits {
            Some(false) => ", which can't be the body that was sealed",
            _ => "",
        };
        let rows = [
            ("format", self.format.to_string()),
            ("layout", self.layout.to_owned()),
            ("plaintext", bytes(self.plaintext_bytes)),
            ("stored", bytes(self.stored_bytes) + fits),
            ("kms", text(&self.kms)),
            ("ek", text(&self.ek)),
            ("ek version", text(&self.ek_version)),
            ("shown as", self.server_side_encryption.to_owned()),
            ("context", text(&self.context_sha256)),
            ("wrapped dek", text(&wrapped)),
            ("commitment", self.commitment.clone()),
        ];
        let rows: String = rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
        rows + "Not verified: this is what the store says. Reading the object verifies it.\n"
    }
}
