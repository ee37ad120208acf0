//! From a connection to one with TLS, or none.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::paced::Paced;

/// What every TLS connection begins with: a record that holds a handshake. Source: RFC 8446, section 5.1.
const HANDSHAKE: u8 = 22;

/// How long, and how many bytes, a client of plain HTTP is listened to so that it finds its answer.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);

/// Why there is no TLS.
pub(super) enum Failure {
    /// It went away without a word, as who only looks whether the port is open.
    Silent,
    /// It speaks something else, or no TLS that is spoken here.
    Refused(String),
}

/// Who connects without TLS, and why that is no use.
const PLAIN: &str = "\
HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: ";
const PLAIN_BODY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidRequest</Code>\
    <Message>This port speaks TLS. Use https:// in the endpoint.</Message></Error>";

/// Waits for the client's first byte and for the end of the handshake, both within `patience`.
pub(super) async fn shake(
    server: Arc<ServerConfig>,
    stream: Paced,
    patience: Duration,
) -> Result<TlsStream<Paced>, Failure> {
    let within = timeout(patience, async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(0) | Err(_) => return Err(Failure::Silent),
            Ok(_) if first[0].is_ascii_uppercase() => {
                answer_plainly(stream.into_inner()).await;
                return Err(Failure::Refused("it speaks HTTP without TLS".into()));
            }
            Ok(_) if first[0] != HANDSHAKE => return Err(Failure::Refused("it does not speak TLS".into())),
            Ok(_) => {}
        }
        TlsAcceptor::from(server).accept(stream).await.map_err(|why| Failure::Refused(why.to_string()))
    });
    within.await.unwrap_or_else(|_| Err(Failure::Refused("it took too long".into())))
}

/// Tells a client of plain HTTP where it is. What it sends is read on for a moment, for a connection that closes with bytes
/// unread takes the answer with it.
async fn answer_plainly(mut stream: TcpStream) {
    let answer = format!("{PLAIN}{}\r\n\r\n{PLAIN_BODY}", PLAIN_BODY.len());
    let lingering = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut read, mut buffer) = (0, [0; 4096]);
        while read < LINGER.1 {
            match stream.read(&mut buffer).await? {
                0 => break,
                len => read += len,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whoever is gone needs no answer.
    timeout(LINGER.0, lingering).await.ok();
}
