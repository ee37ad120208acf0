//! `s3veil unseal`: the way out. A raw stored body, its envelope and the KMS are enough; no store is asked.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tempfile::NamedTempFile;

use super::ConfigFile;
use super::object::Object;
use crate::body::{self, ByteBody, Opening};
use crate::kms::keys::CacheConfig;
use crate::kms::{self, EkName, WrappedDek};
use crate::seal::{CHUNK, Envelope, Error, Layout, Opened, Place, PlainRange, SealedLen};

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
        let length = match opened.layout(stored).with_context(damaged)? {
            Layout::Stream(length) => length,
            Layout::Composite => {
                anyhow::bail!("--envelope: a multipart upload, which this version can't open")
            }
        };
        let opener = opened.into_opener(PlainRange::whole(length))?;
        let mut plain = Opening::new(read(input), opener, 0, true).into_body();
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
        let header = envelope.header();
        let ek = EkName::parse(&header.ek).map_err(|_| Error::NotAnEnvelope).context("--envelope")?;
        let file = &self.file.config;
        let kmss: kms::config::Config = crate::config::section(file, "kms").map_err(anyhow::Error::msg)?;
        let kmss = kmss.build().map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
        let keys = CacheConfig::default().build(kmss);
        let wrapped = WrappedDek::new(header.wrapped_dek.clone());
        let Object { bucket, key } = &self.object;
        let dek = keys
            .for_read(&header.kms, &ek, header.ek_version.as_deref(), &wrapped, bucket)
            .await
            .with_context(|| format!("the envelope's key, EK '{ek}' of kms '{}'", header.kms))?;
        envelope
            .open(&dek, Place { bucket: bucket.as_str(), key: key.as_str() })
            .with_context(|| format!("--envelope: it is not of {}, or was altered", self.object))
    }
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
