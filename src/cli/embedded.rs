//! The embedded store of `s3veil dev`: s3s-fs in this process, on a loopback port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// Starts the store over a directory. Only who has these credentials gets in, and they are this process's own.
pub(super) async fn start(directory: &Path, access_key: &str, secret_key: &str) -> anyhow::Result<SocketAddr> {
    std::fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))?;
    let store = s3s_fs::FileSystem::new(directory)
        .map_err(|why| anyhow::anyhow!("{}: {why:?}", directory.display()))?;
    let mut builder = S3ServiceBuilder::new(store);
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let server = auto::Builder::new(TokioExecutor::new());
        while let Ok((stream, _)) = listener.accept().await {
            let connection = server.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
            tokio::spawn(connection);
        }
    });
    Ok(address)
}
