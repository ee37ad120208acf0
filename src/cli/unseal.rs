//! `s3veil unseal`: the way out. A raw stored body, its envelope and the KMS are enough; no store is asked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::ConfigFile;
use super::object::Object;
use crate::body::{self, ByteBody, Opening};
use crate::handler::{self, Given};
use crate::kms::keys::{CacheConfig, Keys};
use crate::metrics::Metrics;
use crate::s3::encryption::CustomerKey;
use crate::s3::headers;
use crate::seal::{
    CHUNK, Envelope, Error, FOOTER_LEN, Header, Layout, Manifest, Opened, PlainRange, SealedLen, Sse,
    block_len,
};

#[derive(Debug, clap::Args)]
pub(super) struct Unseal {
    #[command(flatten)]
    file: ConfigFile,
    /// The name under which the object was written, s3://BUCKET/KEY: its key is bound to it.
    object: Object,
    /// The body as the store holds it.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The value of the object's metadata header x-amz-meta-s3veil.
    #[arg(long, value_name = "HEADER")]
    envelope: String,
    /// The value of its metadata header x-amz-meta-s3veil-context, if it has one.
    #[arg(long, value_name = "HEADER")]
    context: Option<String>,
    /// A file with the customer's key in base64, for an object under one (SSE-C). No KMS is asked then.
    #[arg(long, value_name = "FILE")]
    customer_key_file: Option<PathBuf>,
    /// Where the plaintext goes: a new file, which appears when all of it is verified. If left out, standard output,
    /// which gets each verified chunk at once: on failure what came before is right, and incomplete.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Unseal {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let name = self.input.display();
        let input = File::open(&self.input).with_context(|| format!("--in: {name}"))?;
        let stored = SealedLen::new(input.metadata().with_context(|| format!("--in: {name}"))?.len());
        let mut out = Output::new(self.out.as_deref())?;
        let opened = self.open_envelope().await?;
        let damaged =
            || format!("--in: {name} is not the body that belongs to this envelope, or was altered");
        let metrics = Metrics::default().opening();
        let plain = match opened.layout(stored).with_context(damaged)? {
            Layout::Stream(length) => {
                Opening::new(read(input), opened.into_opener(PlainRange::whole(length))?, 0, true, metrics)
            }
            Layout::Composite => {
                let manifest = Arc::new(manifest(&input, &opened, stored).with_context(damaged)?);
                let whole = PlainRange::whole(manifest.length());
                Opening::new(
                    read(input),
                    opened.into_composite_opener(manifest, whole, None)?,
                    0,
                    false,
                    metrics,
                )
            }
        };
        let mut plain = plain.into_body();
        while let Some(frame) = plain.frame().await {
            let frame = frame.map_err(|why| anyhow::anyhow!(why)).with_context(damaged)?;
            if let Ok(bytes) = frame.into_data() {
                out.write_all(&bytes).context("--out")?;
            }
        }
        out.finish()
    }

    async fn open_envelope(&self) -> anyhow::Result<Opened> {
        let envelope = Envelope::parse(&self.envelope).context("--envelope")?;
        let customer = self.customer_key_file.as_deref().map(customer_key).transpose()?;
        self.check_given(envelope.header())?;
        let keys = self.keys(customer.is_some())?;
        let Object { bucket, key } = &self.object;
        let given = Given { bucket, key, customer: customer.as_ref(), context: self.context.as_deref() };
        handler::opened(&keys, &envelope, given).await.with_context(|| {
            let Header { kms, ek, sse, .. } = envelope.header();
            let object = &self.object;
            match sse {
                Sse::Customer => {
                    format!("--envelope: it is not of {object}, was altered, or is under another customer's key")
                }
                _ => format!(
                    "--envelope: it is not of {object}, was altered, has another --context, or its EK '{ek}' of kms '{kms}' \
                     can't be used"
                ),
            }
        })
    }

    /// That what the envelope asks for is there, before a KMS is asked for anything.
    fn check_given(&self, header: &Header) -> anyhow::Result<()> {
        match (header.sse, &self.customer_key_file) {
            (Sse::Customer, None) => anyhow::bail!(
                "{} is under a customer's key (SSE-C). Name the file that holds it: --customer-key-file FILE",
                self.object
            ),
            (Sse::Customer, Some(_)) | (_, None) => {}
            (_, Some(_)) => anyhow::bail!(
                "--customer-key-file: {} is under the EK '{}' of kms '{}', not under a customer's key. Leave it out",
                self.object,
                header.ek,
                header.kms
            ),
        }
        anyhow::ensure!(
            header.context.is_none() || self.context.is_some(),
            "{} has an encryption context. Give the value of its metadata header {}: --context HEADER",
            self.object,
            headers::CONTEXT
        );
        Ok(())
    }

    /// The KMSs of the configuration; none where a customer's key opens the object.
    fn keys(&self, none: bool) -> anyhow::Result<Keys> {
        let (cache, metrics) = (CacheConfig::default(), Metrics::default());
        if none {
            return Ok(cache.build(HashMap::new(), &metrics));
        }
        let file = &self.file.config;
        let part = crate::config::kms(file).map_err(anyhow::Error::msg)?;
        let built =
            part.kms.build().and_then(|kmss| cache.build(kmss, &metrics).with_aliases(part.kms_aliases));
        built.map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))
    }
}

/// A key that must not stand on a command line, where every user of the machine could read it.
fn customer_key(file: &Path) -> anyhow::Result<CustomerKey> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("--customer-key-file: {name}"))?;
    let text = Zeroizing::new(text);
    CustomerKey::parse(text.trim())
        .with_context(|| format!("--customer-key-file: {name} is not the base64 of 32 bytes"))
}

/// The manifest at the end of a composite body, which stays where it is.
fn manifest(input: &File, opened: &Opened, stored: SealedLen) -> anyhow::Result<Manifest> {
    let end = |bytes: u64| -> anyhow::Result<Vec<u8>> {
        let start = stored.get().checked_sub(bytes).ok_or(Error::Tampered)?;
        let mut read = vec![0; usize::try_from(bytes)?];
        input.read_exact_at(&mut read, start)?;
        Ok(read)
    };
    let footer = end(FOOTER_LEN)?.try_into().expect("as many bytes as a footer has");
    Ok(opened.open_manifest(&end(block_len(&footer, stored)?)?, stored)?)
}

fn read(input: File) -> ByteBody {
    body::from_source(input, |mut input| async move {
        let mut piece = BytesMut::zeroed(CHUNK as usize);
        let len = input.read(&mut piece)?;
        piece.truncate(len);
        Ok::<_, io::Error>((len > 0).then(|| (Bytes::from(piece), input)))
    })
}

enum Output<'a> {
    Standard(io::Stdout),
    /// Under its name only when it is whole.
    File(NamedTempFile, &'a Path),
}

impl<'a> Output<'a> {
    fn new(path: Option<&'a Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard(io::stdout())) };
        let name = path.display();
        anyhow::ensure!(!path.exists(), "--out: {name} exists. Name a new file");
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(directory).with_context(|| format!("--out: {name}"))?;
        Ok(Self::File(file, path))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.write_all(bytes),
            Self::File(file, _) => file.write_all(bytes),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Standard(mut out) => out.flush().context("standard output"),
            Self::File(file, path) => {
                file.as_file().sync_all().context("--out")?;
                file.persist_noclobber(path).with_context(|| format!("--out: {}", path.display()))?;
                Ok(())
            }
        }
    }
}
