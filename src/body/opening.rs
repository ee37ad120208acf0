//! A sealed body on its way to the client: gathered into chunks, each opened in place before a byte of it leaves.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::{BoxError, ByteBody, from_source};
use crate::metrics::CryptoMetrics;
use crate::s3::checksum::{Algorithm, Hasher};
use crate::seal::{self, Opener, TRAILER_LEN, Trailer};

/// The opened bytes of a range of a stream.
pub struct Opening {
    body: ByteBody,
    /// Gone once the last chunk is open.
    opener: Option<Opener>,
    /// Sealed bytes to drop before the first chunk.
    skip: u64,
    /// Sealed bytes read that belong to the next chunk.
    rest: Bytes,
    /// For a read of a whole stream: its trailer follows, and must agree.
    whole: Option<Hasher>,
    trailer: Option<Trailer>,
    /// Opened, but not yet given out.
    ready: Option<Bytes>,
    metrics: CryptoMetrics,
}

/// Why an opened body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The sealed bytes do not authenticate.
    #[error(transparent)]
    Seal(#[from] seal::Error),
    /// The store ended or fell silent.
    #[error("the store's body broke off")]
    Store(#[source] BoxError),
}

impl Opening {
    /// Opens what `body` brings, after `skip` sealed bytes. `whole`: the range is the whole of a stream, and the
    /// trailer comes behind it.
    pub fn new(body: ByteBody, opener: Opener, skip: u64, whole: bool, metrics: CryptoMetrics) -> Self {
        let whole = whole.then(|| Hasher::new(Algorithm::Crc64Nvme));
        let (opener, rest) = (Some(opener), Bytes::new());
        Self { body, opener, skip, rest, whole, trailer: None, ready: None, metrics }
    }

    /// Opens the first chunk before anything is given out.
    pub async fn prime(&mut self) -> Result<(), Broken> {
        if self.ready.is_none() {
            self.ready = self.open_next().await?;
        }
        Ok(())
    }

    /// The trailer, once the last chunk of a whole object is open.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// As a body.
    pub fn into_body(self) -> ByteBody {
        from_source(
            self,
            |mut body| async move { Ok::<_, Broken>(body.next().await?.map(|piece| (piece, body))) },
        )
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.ready.take() {
            Some(ready) => Ok(Some(ready)),
            None => self.open_next().await,
        }
    }

    /// The next chunk. The last one of a whole stream only after the trailer has agreed.
    async fn open_next(&mut self) -> Result<Option<Bytes>, Broken> {
        while let Some(len) = self.opener.as_ref().and_then(Opener::next_len) {
            let mut chunk = self.read(len).await?;
            let opener = self.opener.as_mut().expect("seen above");
            self.metrics.time(|| opener.open(&mut chunk))?;
            self.metrics.bytes(chunk.len());
            if let Some(hasher) = &mut self.whole {
                hasher.update(&chunk);
            }
            if opener.next_len().is_none() {
                self.end().await?;
            }
            // The head of a part has no plaintext.
            if !chunk.is_empty() {
                return Ok(Some(chunk.freeze()));
            }
        }
        Ok(None)
    }

    async fn end(&mut self) -> Result<(), Broken> {
        let opener = self.opener.take();
        let (Some(opener), Some(hasher)) = (opener, self.whole.take()) else {
            // What is left are the rest of a guessed range: read, so that the connection can serve again.
            while self.frame().await?.is_some() {}
            return Ok(());
        };
        let sealed = self.read(TRAILER_LEN as usize).await?;
        let trailer = opener.open_trailer(&sealed)?;
        let more = !self.rest.is_empty() || self.frame().await?.is_some();
        if hasher.finish().value() != trailer.crc64.to_be_bytes() || more {
            return Err(seal::Error::Tampered.into());
        }
        self.trailer = Some(trailer);
        Ok(())
    }

    /// So many sealed bytes, or those that are left.
    async fn read(&mut self, len: usize) -> Result<BytesMut, Broken> {
        let mut sealed = BytesMut::with_capacity(len);
        while sealed.len() < len {
            if self.rest.is_empty() {
                match self.frame().await? {
                    Some(bytes) => self.rest = bytes,
                    None => break,
                }
            }
            let skipped = self.rest.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.rest.advance(skipped);
            self.skip -= skipped as u64;
            let taken = self.rest.len().min(len - sealed.len());
            sealed.extend_from_slice(&self.rest[..taken]);
            self.rest.advance(taken);
        }
        Ok(sealed)
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Broken> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(Broken::Store)?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{chain, full};
    use crate::metrics::Metrics;
    use crate::seal::{Dek, Envelope, Header, Layout, Place, PlainLen, PlainRange, Sse};

    /// Reads a stream of one chunk, with this behind it, in one piece with its trailer or in another.
    async fn read(behind: &'static [u8], joined: bool) -> Result<Bytes, BoxError> {
        let (length, place) = (PlainLen::new(5).unwrap(), Place { bucket: "b", key: "k" });
        let header = Header {
            layout: Layout::Stream(length),
            kms: "local".into(),
            ek: "main".into(),
            ek_version: None,
            wrapped_dek: vec![1],
            sse: Sse::Kms,
            context: None,
        };
        let dek = Dek::from([3; 32]);
        let (envelope, fresh) = Envelope::seal(header, &dek, place).unwrap();
        let mut sealer = fresh.into_sealer().unwrap();
        let (mut sealed, mut chunk) = (sealer.head().to_vec(), BytesMut::from(&b"plain"[..]));
        sealer.seal(&mut chunk).unwrap();
        sealed.extend_from_slice(&chunk);
        let crc64 = Hasher::digest(Algorithm::Crc64Nvme, b"plain").value().try_into().unwrap();
        let trailer = Trailer { crc64: u64::from_be_bytes(crc64), client: None };
        sealed.extend(sealer.finish(&trailer).unwrap().unwrap());
        let body = match joined {
            true => full([&sealed, behind].concat()),
            false => chain(full(sealed), full(behind)),
        };
        let opener = envelope.open(&dek, place).unwrap().into_opener(PlainRange::whole(length)).unwrap();
        let opening = Opening::new(body, opener, 0, true, Metrics::default().opening());
        crate::body::gather(opening.into_body(), 100).await
    }

    /// Found by fuzzing: bytes behind the trailer were seen only in a piece of their own.
    #[tokio::test]
    async fn nothing_stands_behind_a_trailer() {
        for joined in [true, false] {
            assert_eq!(read(b"", joined).await.unwrap(), "plain");
            assert!(read(b"x", joined).await.is_err(), "joined: {joined}");
        }
    }
}
