//! The embedded store of `s3veil dev`: s3s-fs in this process, on a loopback port of its own.

mod listings;
mod store;
mod uploads;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use store::Store;

/// Starts the store over a directory. Only who has these credentials gets in, and they are this process's own.
pub(super) async fn start(
    directory: &Path,
    access_key: &str,
    secret_key: &str,
) -> anyhow::Result<SocketAddr> {
    std::fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))?;
    let mut builder = S3ServiceBuilder::new(Store::new(directory)?);
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let server = auto::Builder::new(TokioExecutor::new());
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            let service = service.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (service, request) = (service.clone(), request.map(s3s::Body::from));
                async move { service.call(request).await }
            });
            let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
            tokio::spawn(connection);
        }
    });
    Ok(address)
}
