//! The embedded store of `s3veil dev`: s3s-fs in this process, on a loopback port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use percent_encoding::percent_decode_str;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{GetObjectInput, HeadObjectInput, ListObjectsInput, ListObjectsV2Input};
use s3s::service::S3ServiceBuilder;
use s3s::{S3Request, S3Result, s3_error};
use tokio::net::TcpListener;

use crate::s3::range::RangeSpec;

/// Starts the store over a directory. Only who has these credentials gets in, and they are this process's own.
pub(super) async fn start(
    directory: &Path,
    access_key: &str,
    secret_key: &str,
) -> anyhow::Result<SocketAddr> {
    std::fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))?;
    let store = s3s_fs::FileSystem::new(directory)
        .map_err(|why| anyhow::anyhow!("{}: {why:?}", directory.display()))?;
    let mut builder = S3ServiceBuilder::new(store);
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    let root = Arc::new(directory.to_owned());
    builder.set_access(Corrections(root.clone()));
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let server = auto::Builder::new(TokioExecutor::new());
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            let (service, root) = (service.clone(), root.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (service, request) = (service.clone(), clamped(request, &root).map(s3s::Body::from));
                async move { service.call(request).await }
            });
            let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

/// A suffix longer than the object is the whole object (RFC 9110, section 14.1.2); s3s-fs 0.14 fails on it.
fn clamped(mut request: Request<Incoming>, root: &Path) -> Request<Incoming> {
    if let Some(RangeSpec::Suffix(len)) = request.headers().get(header::RANGE).and_then(RangeSpec::parse) {
        let key = percent_decode_str(request.uri().path().trim_start_matches('/')).decode_utf8_lossy();
        let size = std::fs::metadata(root.join(&*key)).map_or(len, |data| data.len());
        if size < len {
            request.headers_mut().insert(header::RANGE, HeaderValue::from_static("bytes=0-"));
        }
    }
    request
}

/// Takes back what s3s-fs 0.14 answers wrongly, at its place for looking at a request that has been read.
///
/// Listings: it says that keys are URL-encoded and writes them as they are, so that a client decodes a `+` or `%41` of
/// the key itself; and it takes an empty delimiter for one that is found before every character. Objects: it fails on
/// the name of a directory, which is no key.
struct Corrections(Arc<PathBuf>);

impl Corrections {
    fn object(&self, bucket: &str, key: &str) -> S3Result<()> {
        match !key.ends_with('/') && self.0.join(bucket).join(key.trim_start_matches('/')).is_dir() {
            true => Err(s3_error!(NoSuchKey)),
            false => Ok(()),
        }
    }
}

/// The signature that `async_trait` gives to an `async fn`, for answers that are there at once.
macro_rules! corrections {
    ($( fn $name:ident($this:ident, $request:ident: $input:ty) $body:block )*) => { $(
        fn $name<'life0, 'life1, 'async_trait>(
            &'life0 self,
            $request: &'life1 mut S3Request<$input>,
        ) -> BoxFuture<'async_trait, S3Result<()>>
        where
            'life0: 'async_trait,
            'life1: 'async_trait,
        {
            let $this = self;
            ready($body).boxed()
        }
    )* };
}

impl S3Access for Corrections {
    corrections! {
        fn list_objects(_this, request: ListObjectsInput) {
            request.input.encoding_type = None;
            request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
            Ok(())
        }
        fn list_objects_v2(_this, request: ListObjectsV2Input) {
            request.input.encoding_type = None;
            request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
            Ok(())
        }
        fn get_object(this, request: GetObjectInput) { this.object(&request.input.bucket, &request.input.key) }
        fn head_object(this, request: HeadObjectInput) { this.object(&request.input.bucket, &request.input.key) }
    }
}
