//! Connections to the store, each moved on by the request that it carries.
//!
//! A connection that is a task of its own gets each piece of a body from another task, and mostly on another core: at full
//! speed to wake it costs more than to seal the piece. So here none is: whoever waits for an answer or reads it moves the
//! connection on. One that carries nothing lies in the pool, and is looked at when it is taken.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tower_service::Service as _;

use crate::body::{BoxError, ByteBody};
use crate::net::{BUFFER, Connector, POOL_IDLE};

/// How often those are looked at that carry nothing.
const SWEPT_EACH: Duration = Duration::from_secs(1);

/// All connections to the store.
#[derive(Clone)]
pub(super) struct Lines(Arc<Pool>);

struct Pool {
    connector: Connector,
    idle: Mutex<Idle>,
}

/// Those that carry nothing, by whom they lead to, and since when.
#[derive(Default)]
struct Idle {
    lines: HashMap<Authority, Vec<(Instant, Line)>>,
    /// They are looked at, from the first one on.
    swept: bool,
}

/// A connection.
struct Line {
    authority: Authority,
    sender: SendRequest<ByteBody>,
    /// None once it is closed.
    connection: Option<Pin<Box<Connection<MaybeHttpsStream<TokioIo<TcpStream>>, ByteBody>>>>,
}

impl Line {
    /// Moves it on, as far as that goes now.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // Why it has ended, whoever waits for its answer is told.
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether it can carry a request, as far as is known without waiting.
    fn is_open(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it can carry a request now.
    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            let ready = matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())));
            Poll::Ready(ready && self.connection.is_some())
        })
        .await
    }
}

impl Lines {
    pub fn new(connector: Connector) -> Self {
        Self(Arc::new(Pool { connector, idle: Mutex::default() }))
    }

    /// Sends a request to the host that its address names, and waits for the head of the answer.
    ///
    /// Errors: those of hyper and the connector. A request is sent again only where nothing of it had been sent.
    pub async fn request(&self, mut request: Request<ByteBody>) -> Result<Response<ByteBody>, BoxError> {
        let uri = std::mem::take(request.uri_mut());
        let authority = uri.authority().ok_or("the request names no host")?.clone();
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        loop {
            let (mut line, used) = match self.take(&authority).await {
                Some(line) => (line, true),
                None => (Box::pin(self.connect(&uri, &authority)).await?, false),
            };
            let mut answer = pin!(line.sender.try_send_request(request));
            let line_moved = &mut line;
            let answer = poll_fn(|cx| {
                line_moved.drive(cx);
                answer.as_mut().poll(cx)
            });
            match answer.await {
                Ok(answer) => {
                    return Ok(answer.map(|body| Answering::boxed(body, line, Arc::downgrade(&self.0))));
                }
                Err(mut why) => match why.take_message() {
                    // The store had closed it in the meantime.
                    Some(unsent) if used => request = unsent,
                    _ => return Err(why.into_error().into()),
                },
            }
        }
    }

    /// One that carries nothing, the one that did last.
    async fn take(&self, authority: &Authority) -> Option<Line> {
        loop {
            let (since, mut line) = self.0.idle().lines.get_mut(authority)?.pop()?;
            if since.elapsed() < POOL_IDLE && line.is_ready().await {
                return Some(line);
            }
        }
    }

    async fn connect(&self, uri: &Uri, authority: &Authority) -> Result<Line, BoxError> {
        let mut connector = self.0.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        let stream = connector.call(uri.clone()).await?;
        let (sender, connection) = http1::Builder::new().max_buf_size(BUFFER).handshake(stream).await?;
        Ok(Line { authority: authority.clone(), sender, connection: Some(Box::pin(connection)) })
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, line: Line) {
        let mut idle = self.idle();
        idle.lines.entry(line.authority.clone()).or_default().push((Instant::now(), line));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Closes what carries nothing for too long, and what the store has closed, or has sent something on that nobody asked for.
async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEPT_EACH).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.idle().lines.retain(|_, lines| {
            lines.retain_mut(|(since, line)| since.elapsed() < POOL_IDLE && line.is_open());
            !lines.is_empty()
        });
    }
}

/// The body of an answer, which moves its connection on.
struct Answering {
    body: Incoming,
    ended: bool,
    line: Option<Line>,
    pool: Weak<Pool>,
}

impl Answering {
    fn boxed(body: Incoming, line: Line, pool: Weak<Pool>) -> ByteBody {
        Self { body, ended: false, line: Some(line), pool }.map_err(Into::into).boxed_unsync()
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        // That more is wanted the connection hears when it is asked, so it is moved on once more.
        for _ in 0..2 {
            if let Some(line) = &mut this.line {
                line.drive(cx);
            }
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            if polled.is_ready() {
                this.ended |= matches!(polled, Poll::Ready(None));
                return polled;
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // What is left of an answer, or of a request, nobody moves on: such a connection can't carry another.
        let ended = self.ended || self.body.is_end_stream();
        let Some(mut line) = self.line.take().filter(|_| ended) else { return };
        if line.is_open()
            && let Some(pool) = self.pool.upgrade()
        {
            pool.give_back(line);
        }
    }
}
