//! Connections to the store, each moved on by the request that it carries.
//!
//! A connection that is a task of its own gets each piece of a body from another task, and mostly on another core: at full
//! speed to wake it costs more than to seal the piece. So here none is: whoever waits for an answer or reads it moves the
//! connection on. One that carries nothing lies in the pool, and is looked at each second and when it is taken.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use tokio::time::{Instant, sleep};
use tower_service::Service as _;

use super::socket::{Look, Socket};
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
    swept: Once,
}

/// Those that carry nothing, by whom they lead to, and since when.
type Idle = HashMap<Authority, Vec<(Instant, Line)>>;

/// A connection.
struct Line {
    authority: Authority,
    sender: SendRequest<ByteBody>,
    /// None once it is closed.
    connection: Option<Pin<Box<Connection<Socket, ByteBody>>>>,
    look: Look,
}

impl Line {
    /// Moves it on, as far as that goes now.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // Whoever waits for its answer is told why it has ended, but not always all of it.
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(end) = connection.as_mut().poll(cx)
        {
            if let Err(why) = end {
                tracing::debug!(store = %self.authority, %why, "a connection to the store ended");
            }
            self.connection = None;
        }
    }

    /// Whether it carries nothing and can carry a request, as far as is known without waiting. One that carries something is
    /// not moved on by this.
    fn is_free(&mut self) -> bool {
        self.sender.is_ready() && {
            self.drive(&mut Context::from_waker(Waker::noop()));
            self.connection.is_some() && self.sender.is_ready()
        }
    }

    /// The same of one that has lain in the pool, as far as even the system knows.
    fn is_still_free(&mut self) -> bool {
        let look = self.look.clone();
        look.during(|| self.is_free())
    }

    /// Ends one that carries nothing as its protocol wants it: TLS says goodbye.
    fn close(self) {
        let Self { sender, connection, .. } = self;
        drop(sender);
        if let Some(mut connection) = connection {
            // What it can't say at once is not said.
            let _ = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl Lines {
    pub fn new(connector: Connector) -> Self {
        Self(Arc::new(Pool { connector, idle: Mutex::default(), swept: Once::new() }))
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
            let (mut line, used) = match self.0.take(&authority) {
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

    async fn connect(&self, uri: &Uri, authority: &Authority) -> Result<Line, BoxError> {
        let mut connector = self.0.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        let look = Look::default();
        let stream = Socket::new(connector.call(uri.clone()).await?, look.clone());
        let (sender, connection) = http1::Builder::new().max_buf_size(BUFFER).handshake(stream).await?;
        self.0.swept.call_once(|| drop(tokio::spawn(sweep(Arc::downgrade(&self.0)))));
        Ok(Line { authority: authority.clone(), sender, connection: Some(Box::pin(connection)), look })
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that carries nothing, the one that did last.
    fn take(&self, authority: &Authority) -> Option<Line> {
        loop {
            let (since, mut line) = self.idle().get_mut(authority)?.pop()?;
            if since.elapsed() < POOL_IDLE && line.is_still_free() {
                return Some(line);
            }
            line.close();
        }
    }

    fn give_back(&self, line: Line) {
        self.idle().entry(line.authority.clone()).or_default().push((Instant::now(), line));
    }
}

/// Closes what carries nothing for too long, and what the store has closed, or has sent something on that nobody asked for.
async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEPT_EACH).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        let past =
            |(since, line): &mut (Instant, Line)| since.elapsed() >= POOL_IDLE || !line.is_still_free();
        let closed: Vec<_> = idle.values_mut().flat_map(|lines| lines.extract_if(.., past)).collect();
        idle.retain(|_, lines| !lines.is_empty());
        drop(idle);
        closed.into_iter().for_each(|(_, line)| line.close());
    }
}

/// The body of an answer, which moves its connection on.
struct Answering {
    body: Incoming,
    /// None once the whole answer is here, though perhaps not read.
    line: Option<Line>,
    pool: Weak<Pool>,
}

impl Answering {
    fn boxed(body: Incoming, line: Line, pool: Weak<Pool>) -> ByteBody {
        let mut answering = Self { body, line: Some(line), pool };
        answering.give_back();
        answering.map_err(Into::into).boxed_unsync()
    }

    /// Another request may have the connection as soon as it can carry one: whoever reads this answer may do so for long.
    fn give_back(&mut self) {
        if let Some(line) = self.line.take_if(|line| line.is_free())
            && let Some(pool) = self.pool.upgrade()
        {
            pool.give_back(line);
        }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(line) = &mut self.line {
            line.drive(cx);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.give_back();
        }
        polled
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
        self.give_back();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "bodies in these tests are short")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Method;
    use http_body_util::{Empty, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::runtime::Builder;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::net::{NetConfig, connector};

    const ANSWER: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone";

    /// A store that answers each head so, and closes the connection after so many.
    struct Store {
        lines: Lines,
        uri: Uri,
        accepted: Arc<AtomicUsize>,
        closed: Arc<Semaphore>,
    }

    impl Store {
        fn start(most: usize) -> Self {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let uri = format!("http://{}/b/k", listener.local_addr().unwrap()).parse().unwrap();
            let (accepted, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
            let seen = (accepted.clone(), closed.clone());
            let answering = async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    seen.0.fetch_add(1, Ordering::SeqCst);
                    let closed = seen.1.clone();
                    tokio::spawn(async move {
                        let mut heads = 0;
                        while heads < most {
                            let mut asked = [0; 4096];
                            let Ok(len @ 1..) = socket.read(&mut asked).await else { break };
                            if asked[..len].windows(4).any(|four| four == b"\r\n\r\n") {
                                socket.write_all(ANSWER).await.unwrap();
                                heads += 1;
                            }
                        }
                        drop(socket);
                        closed.add_permits(1);
                    });
                }
            };
            // On a thread of its own: it goes on while the test's runtime stands still.
            std::thread::spawn(|| {
                Builder::new_current_thread().enable_io().build().unwrap().block_on(answering)
            });
            let net = NetConfig { ca_file: None, identity: None, connect_timeout: Duration::from_secs(5) };
            Self { lines: Lines::new(connector(net).unwrap()), uri, accepted, closed }
        }

        async fn ask(&self, body: ByteBody) -> Response<ByteBody> {
            let mut request = Request::new(body);
            (*request.uri_mut(), *request.method_mut()) = (self.uri.clone(), Method::PUT);
            request.headers_mut().insert("host", "store".parse().unwrap());
            let answer = self.lines.request(request).await.unwrap();
            assert_eq!(answer.status(), 404);
            answer
        }

        fn accepted(&self) -> usize {
            self.accepted.load(Ordering::SeqCst)
        }
    }

    fn nothing() -> ByteBody {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    #[tokio::test]
    async fn a_whole_answer_leaves_its_connection_to_the_next_request_read_or_not() {
        let store = Store::start(usize::MAX);
        let mut held = Vec::new();
        for _ in 0..3 {
            drop(store.ask(nothing()).await);
            held.push(store.ask(nothing()).await);
        }
        assert_eq!(store.accepted(), 1);
        for answer in held {
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "none");
        }
    }

    /// Though the runtime has had no time to hear of it: nothing is awaited in between.
    #[tokio::test]
    async fn what_the_store_has_closed_is_not_used_again() {
        let store = Store::start(2);
        for asked in 0..6 {
            while store.closed.available_permits() < asked / 2 {
                std::thread::yield_now();
            }
            drop(store.ask(nothing()).await);
        }
        assert_eq!(store.accepted(), 3);
    }

    #[tokio::test]
    async fn a_request_that_was_not_sent_whole_takes_its_connection_along() {
        let store = Store::start(usize::MAX);
        let endless = || StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>());
        for _ in 0..2 {
            let answer = store.ask(endless().boxed_unsync()).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "none");
        }
        assert_eq!(store.accepted(), 2);
        // Both have ended at the store too.
        drop(store.closed.acquire_many(2).await.unwrap());
    }
}
