//! Accepts connections, and lets those that are at work finish before it ends.

mod answer;
mod begun;
mod counted;
mod lingering;
mod log;
mod span;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::app::Live;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a client of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);

/// How long requests at work may take to finish once the process is asked to end.
const DRAIN: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes; also what is buffered of a connection at once.
const BUFFER: usize = crate::net::BUFFER;

/// Serves until `stop` comes, then lets requests at work finish.
pub async fn serve(live: Arc<Live>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    let connections = GracefulShutdown::new();
    // Dropped at the end: connections that have not begun then need not be waited for.
    let (open, closing) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => connect(&live, &server, &connections, closing.clone(), stream, peer),
            Err(why) => {
                // Out of file descriptors, most likely: others are still served, and some will end.
                tracing::warn!(%why, "no connection can be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop((listener, open));
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time and are cut");
    }
}

fn connect(
    live: &Arc<Live>,
    server: &auto::Builder<TokioExecutor>,
    connections: &GracefulShutdown,
    mut closing: watch::Receiver<()>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    stream.set_nodelay(true).ok();
    let live = live.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        // Once: a request ends with what it has begun with, and sees nothing of another configuration.
        let app = live.get();
        async move {
            let (parts, body) = request.into_parts();
            let version = parts.version;
            let (body, waiting) = lingering::Lingering::boxed(body, &parts.headers);
            let mut answer = answer::answer(app, hyper::Request::from_parts(parts, body)).await;
            if waiting.still() && version < http::Version::HTTP_2 {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let (server, watcher) = (server.clone(), connections.watcher());
    tokio::spawn(async move {
        tokio::select! {
            begun = begun::begun(&stream, HEADER_TIMEOUT) => if let Err(why) = begun {
                tracing::debug!(%peer, %why, "the connection never began");
                return;
            },
            _ = closing.changed() => return,
        }
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(why) = watcher.watch(connection).await {
            tracing::debug!(%peer, %why, "the connection ended");
        }
    });
}
