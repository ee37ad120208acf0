//! The embedded store of `s3veil dev`: s3s-fs in this process, on a loopback port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use percent_encoding::percent_decode_str;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
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
    let service = builder.build();
    let root = Arc::new(directory.to_owned());
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
