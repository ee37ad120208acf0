//! Bodies on their way from the store to where they belong: paced, and known by their checksums.

use std::sync::{Arc, OnceLock};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use super::{Estate, call, etag, found, refusal, target};
use crate::body::{self, BoxError, ByteBody, from_source};
use crate::operation::Operation;
use crate::s3::checksum::{Algorithm, Checksum, Hasher};
use crate::s3::range::RangeSpec;
use crate::s3::{Bucket, Code, Error, Key, Result};

/// The CRC-64/NVME of a body, once it has ended; or why it broke off.
#[derive(Clone, Default)]
pub(super) struct Sum(Arc<OnceLock<Result<(Checksum, u64)>>>);

impl Sum {
    /// Checksum and length in bytes.
    pub fn get(&self) -> Option<&(Checksum, u64)> {
        self.0.get().and_then(|sum| sum.as_ref().ok())
    }

    /// Why the write of this body failed: the body's own end, or else what the one who wrote it says.
    pub fn or(&self, error: Error) -> Error {
        match self.0.get() {
            Some(Err(broken)) => broken.again(),
            _ => error,
        }
    }
}

/// Bytes of an object: where they begin, and where they end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    pub fn len(self) -> u64 {
        self.end - self.start
    }
}

impl Estate {
    /// A body that is read at the pace that was set, and whose checksum is known in the end.
    pub(super) fn summed(&self, body: ByteBody) -> (ByteBody, Sum) {
        let sum = Sum::default();
        let source = (body, Some(Hasher::new(Algorithm::Crc64Nvme)), 0, sum.clone(), self.pace.clone());
        let body = from_source(source, |(mut body, mut hasher, mut length, sum, pace)| async move {
            loop {
                let Some(frame) = body.frame().await else {
                    if let Some(hasher) = hasher.take() {
                        sum.0.set(Ok((hasher.finish(), length))).ok();
                    }
                    return Ok::<_, BoxError>(None);
                };
                let frame = match frame {
                    Ok(frame) => frame,
                    Err(why) => {
                        let why = broken(why);
                        sum.0.set(Err(why.again())).ok();
                        return Err(why.into());
                    }
                };
                let Ok(data) = frame.into_data() else { continue };
                if let Some(hasher) = &mut hasher {
                    hasher.update(&data);
                }
                length += data.len() as u64;
                if let Some(pace) = &pace {
                    pace.take(data.len() as u64).await;
                }
                return Ok(Some((data, (body, hasher, length, sum, pace))));
            }
        });
        (body, sum)
    }

    /// Reads a body to its end: its checksum and length in bytes.
    ///
    /// Errors: the integrity error, ServiceUnavailable for a body that breaks off.
    pub(super) async fn read(&self, body: ByteBody) -> Result<(Checksum, u64)> {
        let (mut body, sum) = self.summed(body);
        while let Some(frame) = body.frame().await {
            if let Err(why) = frame {
                return Err(sum.or(broken(why)));
            }
        }
        Ok(sum.get().cloned().expect("a body that has ended has a checksum"))
    }

    /// Bytes of the very object that was met, as the store has them. All of it for no span.
    pub(super) async fn stored_bytes(
        &self,
        (bucket, key): (&Bucket, &Key),
        met: &HeaderMap,
        span: Option<Span>,
    ) -> Result<ByteBody> {
        let mut request = target(bucket, key, None).request(Method::GET);
        request.headers.set(header::IF_MATCH, etag(met)?);
        if let Some(Span { start, end }) = span {
            request.headers.set(header::RANGE, RangeSpec::FromTo(start, end - 1).to_header());
        }
        let gone = || Error::new(Code::NoSuchKey, "The object is gone.");
        let store = found(self.rooms.backend.send(request).await?).await?.ok_or_else(gone)?;
        if etag(store.headers())? != etag(met)? {
            return Err(super::super::target::replaced());
        }
        match span {
            Some(_) if store.status() != StatusCode::PARTIAL_CONTENT => Err(Error::new(
                Code::InternalError,
                "The store does not serve ranges, which a long object needs.",
            )),
            _ => Ok(store.into_body()),
        }
    }

    /// Bytes of the very object that was met, as a client of s3veil gets them. All of it for no span.
    pub(super) async fn client_bytes(
        &self,
        object: (&Bucket, &Key),
        met: &HeaderMap,
        span: Option<Span>,
    ) -> Result<crate::handler::Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, etag(met)?);
        if let Some(Span { start, end }) = span {
            headers.insert(header::RANGE, RangeSpec::FromTo(start, end - 1).to_header());
        }
        let answer = self.ask(call(Operation::GetObject, object, headers, 0), body::empty()).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            _ => Err(refusal(answer).await),
        }
    }
}

/// Why a body broke off, in S3's words.
pub(super) fn broken(error: BoxError) -> Error {
    match error.downcast::<body::Broken>() {
        Ok(broken) => (*broken).into(),
        Err(other) => body::Broken::Store(other).into(),
    }
}
