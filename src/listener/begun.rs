//! A connection without TLS that says which protocol it speaks, and in time. With TLS the handshake says so.
//!
//! A connection that is silent, or stops within the first bytes of HTTP/2's preface, would else be held for good, by anyone.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::paced::Paced;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait for more of a preface that has begun, at first and at the most: what has come is still there, and wakes
/// nobody.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Waits until the first bytes tell the protocol, and leaves them where they are. Whether it is HTTP/2.
///
/// Errors: TimedOut; UnexpectedEof for a client that goes away; the connection's own.
pub(super) async fn begun(stream: &Paced, patience: Duration) -> io::Result<bool> {
    timeout(patience, async {
        let (mut first, mut pause) = ([0; PREFACE.len()], PAUSE);
        loop {
            match stream.peek(&mut first).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len if len < PREFACE.len() && PREFACE.starts_with(&first[..len]) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                len => return Ok(len == PREFACE.len() && first == PREFACE),
            }
        }
    })
    .await?
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::pulse::Pulse;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn after(bytes: &[u8], patience: Duration) -> io::Result<bool> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        begun(&Paced::new(stream, Pulse::new(), LONG), patience).await
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        for bytes in [&b""[..], b"P", &PREFACE[..23]] {
            let error = after(bytes, Duration::from_millis(100)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{bytes:?}");
        }
        for (bytes, http2) in [(&b"G"[..], false), (b"PU", false), (PREFACE, true)] {
            assert_eq!(after(bytes, LONG).await.unwrap(), http2, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let error = begun(&Paced::new(stream, Pulse::new(), LONG), LONG).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
