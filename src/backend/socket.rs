//! A connection's bytes, and what the system knows of them before the runtime does.
//!
//! That a store has closed a connection is known to the system at once, and to the runtime only when it next asks the system
//! for events. Under load that is late enough for a request to be sent on a closed connection, and to be lost with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

type Inner = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection's bytes.
pub(super) struct Socket {
    inner: Inner,
    look: Look,
}

/// Whether a reader wants to know at once if the other side has closed the connection.
#[derive(Clone, Default)]
pub(super) struct Look(Arc<AtomicBool>);

impl Look {
    /// While `with` runs, reading ends with an error as soon as the system has anything from the other side, be it the end.
    pub fn during<R>(&self, with: impl FnOnce() -> R) -> R {
        self.0.store(true, Ordering::Relaxed);
        let result = with();
        self.0.store(false, Ordering::Relaxed);
        result
    }
}

impl Socket {
    /// One whose reader says through this when it wants to know.
    pub fn new(inner: Inner, look: Look) -> Self {
        Self { inner, look }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.inner {
            MaybeHttpsStream::Http(plain) => plain.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        }
    }

    /// Nothing has come from the other side, and it can still send: all that is to be expected of one that carries nothing.
    fn is_silent(&self) -> bool {
        recv(self.tcp(), &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)
            .is_err_and(|why| why == rustix::io::Errno::AGAIN)
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, into);
        if polled.is_pending() && self.look.0.load(Ordering::Relaxed) && !self.is_silent() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        polled
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }
}
