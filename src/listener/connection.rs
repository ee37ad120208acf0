//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::answer::answer;
use super::begun::begun;
use super::drain::{Phase, Phases};
use super::handshake::{Failure, shake};
use super::held::{Held, Places};
use super::limits::Limits;
use super::lingering::Lingering;
use super::paced::Paced;
use super::pulse::{Pulse, Verdict};
use super::shed::{Seldom, slow_down};
use super::streams::Streams;
use super::tls::HTTP2;
use crate::app::Live;
use crate::metrics::Metrics;

/// How often a client of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);

/// What is buffered of a connection at once, in bytes.
const BUFFER: usize = crate::net::BUFFER;

/// What a client of HTTP/2 may send ahead of what is read, in bytes: of one request, which is what a place among the requests
/// at once can cost, and of all those of a connection. HTTP's own 64 KiB would let an upload crawl over any distance: at a
/// distance of 10 ms these are 50 MB/s and 200 MB/s.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// Frames as large as a chunk: fewer, and whole.
const FRAME: u32 = 64 * 1024;

/// Requests of one connection at once. A client with more to ask waits, or connects again.
const STREAMS: u32 = 128;

/// Requests that a client may take back before they were looked at, and errors of its own making, before its connection is
/// ended: a flood of them costs it less than s3veil (CVE-2023-44487).
const TAKEN_BACK: usize = 20;
const MISTAKES: usize = 128;

/// Where connections come in.
pub(super) struct Door {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    places: Places,
    crowded: Seldom,
    busy: Seldom,
}

/// One of the connections. It is counted until its end.
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.listener.connections.dec();
    }
}

impl Door {
    pub(super) fn new(live: Arc<Live>) -> Self {
        let metrics = live.get().metrics.clone();
        Self { live, metrics, places: Places::default(), crowded: Seldom::default(), busy: Seldom::default() }
    }

    /// Requests at work, and what goes on of those whose clients have gone.
    pub(super) fn requests(&self) -> usize {
        self.places.taken().max(self.live.get().rooms.detached.count())
    }

    /// Looks at the certificate.
    pub(super) fn look(&self) {
        let tls = self.live.get().tls.clone();
        self.metrics.listener.certificate_expires(tls.map(|tls| tls.expires()));
    }

    /// Serves a connection, or closes it at once if there are too many: its client tries again, elsewhere if there are others,
    /// while one that is left to wait learns nothing.
    pub(super) fn enter(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, phases: Phases) {
        let limits = self.live.get().limits;
        let connections = &self.metrics.listener.connections;
        if usize::try_from(connections.get()).is_ok_and(|now| now >= limits.connections) {
            self.metrics.listener.shed_connections.inc();
            if self.crowded.due() {
                tracing::warn!(
                    limit = limits.connections,
                    "limits.connections is reached; more are closed at once"
                );
            }
            return;
        }
        connections.inc();
        let counted = Counted(self.metrics.clone());
        let door = self.clone();
        tokio::spawn(async move {
            door.serve(stream, peer, limits, phases).await;
            drop(counted);
        });
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, limits: Limits, mut phases: Phases) {
        stream.set_nodelay(true).ok();
        let pulse = Pulse::new();
        let stream = Paced::new(stream, pulse.clone(), limits.client_idle);
        let Some(tls) = self.live.get().tls.clone() else {
            let begun = tokio::select! {
                begun = begun(&stream, limits.header) => begun,
                () = closing(&mut phases) => return,
            };
            match begun {
                Ok(http2) => Speaker { door: self, peer, limits, phases, pulse }.speak(stream, http2).await,
                Err(why) => tracing::debug!(%peer, %why, "the connection never began"),
            }
            return;
        };
        let (server, expires) = tls.current();
        self.metrics.listener.certificate_expires(Some(expires));
        let shaken = tokio::select! {
            shaken = shake(server, stream, limits.header) => shaken,
            () = closing(&mut phases) => return,
        };
        match shaken {
            Ok(stream) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
                pulse.start();
                Speaker { door: self, peer, limits, phases, pulse }.speak(stream, http2).await;
            }
            Err(Failure::Silent) => {}
            Err(Failure::Refused(why)) => {
                self.metrics.listener.handshake_failures.inc();
                tracing::debug!(%peer, why, "no TLS");
            }
        }
    }

    async fn one(
        self: Arc<Self>,
        request: Request<Incoming>,
        pulse: Arc<Pulse>,
        phases: Phases,
    ) -> Result<Response<Held>, Infallible> {
        let (parts, body) = request.into_parts();
        let old = parts.version < Version::HTTP_2;
        let beat = pulse.request(!old);
        // Once: a request ends with what it has begun with, and sees nothing of another configuration.
        let app = self.live.get();
        let place = self.places.take(app.limits.in_flight);
        // What is still read of a body that nobody wants is no head of the next request.
        let (body, waiting) = Lingering::boxed(body, &parts.headers, pulse.beat());
        let mut answer = match place {
            Some(_) => answer(app, Request::from_parts(parts, body)).await,
            None => {
                self.metrics.listener.shed_in_flight.inc();
                if self.busy.due() {
                    let limit = app.limits.in_flight;
                    tracing::warn!(
                        limit,
                        "limits.in_flight is reached; more requests are answered with SlowDown"
                    );
                }
                let answer = slow_down(&parts.method, parts.uri.path());
                self.metrics.turned_away(answer.status());
                answer
            }
        };
        if old && (waiting.still() || phases.now() > Phase::Serving) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer.map(|body| Held::new(body, beat, place)))
    }
}

/// A connection that has begun.
struct Speaker {
    door: Arc<Door>,
    peer: SocketAddr,
    limits: Limits,
    phases: Phases,
    pulse: Arc<Pulse>,
}

impl Speaker {
    /// HTTP, whichever the client speaks.
    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) {
        let (door, pulse, phases) = (self.door.clone(), self.pulse.clone(), self.phases.clone());
        let service = service_fn(move |request| door.clone().one(request, pulse.clone(), phases.clone()));
        let (stream, limits) = (TokioIo::new(stream), self.limits);
        match http2 {
            true => self.watch(server2(&limits).serve_connection(stream, service)).await,
            false => self.watch(server1(&limits).serve_connection(stream, service)).await,
        }
    }

    /// Until it ends, or its pulse or the end of the process says that it must.
    async fn watch<C>(mut self, connection: C)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        let peer = self.peer;
        loop {
            let look = match self.pulse.verdict(&self.limits) {
                Verdict::Wait(until) => until,
                Verdict::Close(why) => {
                    tracing::debug!(%peer, why, "the connection is closed");
                    return;
                }
                Verdict::Part => {
                    connection.as_mut().graceful_shutdown();
                    self.pulse.part();
                    continue;
                }
            };
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(why) = ended {
                        tracing::debug!(%peer, %why, "the connection ended");
                    }
                    return;
                }
                phase = self.phases.next() => match phase {
                    Phase::Serving | Phase::Leaving => {}
                    Phase::Closing => {
                        connection.as_mut().graceful_shutdown();
                        self.pulse.part();
                    }
                    Phase::Cutting => return,
                },
                () = sleep_until(look) => {}
            }
        }
    }
}

/// Waits until nothing new is begun.
async fn closing(phases: &mut Phases) {
    while phases.now() < Phase::Closing {
        phases.next().await;
    }
}

fn server1(limits: &Limits) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        // The pulse's.
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(BUFFER.max(limits.header_bytes));
    server
}

fn server2(limits: &Limits) -> http2::Builder<Streams> {
    let mut server = http2::Builder::new(Streams { patience: limits.client_idle });
    server
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_pending_accept_reset_streams(TAKEN_BACK)
        .max_local_error_reset_streams(MISTAKES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    server
}
