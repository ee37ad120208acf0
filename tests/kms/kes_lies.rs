//! A KES that answers what no KES should, and what old ones did: each answer gets its right meaning.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::{Error, Kms, WrappedDek};

use crate::common::{build, context, ek};
use crate::kes_server::{ADMIN, api_key};

/// A KMS whose KES gives this answer to everything.
fn answering(status: &'static str, body: String) -> Box<dyn Kms> {
    let port = serve(status, body);
    build(&format!("kind = \"kes\"\nendpoint = \"http://127.0.0.1:{port}\"\n{}", api_key(ADMIN))).unwrap()
}

/// The fake, and where it listens. Its thread ends with the test program.
fn serve(status: &'static str, body: String) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The client may leave in the middle of too long an answer.
            answer(stream.unwrap(), status, &body).ok();
        }
    });
    port
}

fn answer(mut stream: TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let len = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
}

fn base64(len: usize) -> String {
    BASE64_STANDARD.encode(vec![b'S'; len])
}

async fn generate(kms: &dyn Kms) -> Result<(), Error> {
    kms.generate(&ek("a"), &context("one")).await.map(|_| ())
}

async fn unwrap(kms: &dyn Kms) -> Result<(), Error> {
    kms.unwrap(&ek("a"), None, &WrappedDek::new([1; 76]), &context("one")).await.map(|_| ())
}

#[tokio::test]
async fn a_kes_that_lies_is_not_believed() {
    let made = |dek: String, wrapped: String| format!(r#"{{"plaintext":"{dek}","ciphertext":"{wrapped}"}}"#);
    // The fake is one that can be believed.
    assert_eq!(generate(answering("200 OK", made(base64(32), base64(76))).as_ref()).await, Ok(()));
    for body in [
        made(base64(31), base64(76)),
        made(base64(33), base64(76)),
        made(base64(16), base64(76)),
        made(String::new(), base64(76)),
        made(base64(32), String::new()),
        made(base64(32), base64(1025)),
        made(base64(32), "&".into()),
        made("S".repeat(43), base64(76)),
        format!(r#"{{"plaintext":"{}"}}"#, base64(32)),
        format!(r#"{{"plaintext":"{0}","plaintext":"{0}","ciphertext":"{0}"}}"#, base64(32)),
        format!(r#"{{"plaintext":["{}"],"ciphertext":"AAAA"}}"#, base64(32)),
        "{}".into(),
        String::new(),
        format!("{}{}", made(base64(32), base64(76)), " ".repeat(5 << 20)),
    ] {
        let answer = generate(answering("200 OK", body.clone()).as_ref()).await;
        let Err(Error::Malformed(why)) = answer else {
            panic!("{}: {answer:?}", &body[..body.len().min(200)])
        };
        assert!(!why.contains("U1NT") && !why.contains("SSSS"), "it shows a key: {why}");
    }
    for len in [0, 31, 33] {
        let body = format!(r#"{{"plaintext":"{}"}}"#, base64(len));
        let answer = unwrap(answering("200 OK", body).as_ref()).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{len}: {answer:?}");
    }
    let another = answering("200 OK", r#"{"name":"b","algorithm":"AES256"}"#.into());
    assert!(matches!(another.describe(&ek("a")).await, Err(Error::Malformed(_))));
    let endless = answering("200 OK", r#"{"names":["a"],"continue_at":"b"}"#.into());
    assert!(matches!(endless.list().await, Err(Error::Malformed(_))));
}

/// Whoever waits gives up some time; then it is another endpoint's turn.
#[tokio::test]
async fn an_endpoint_that_hangs_is_left() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let body = format!(r#"{{"plaintext":"{}"}}"#, base64(32));
    let port = serve("200 OK", body);
    let settings = format!(
        "kind = \"kes\"\nendpoint = [\"http://{}\", \"http://127.0.0.1:{port}\"]\n{}",
        silent.local_addr().unwrap(),
        api_key(ADMIN)
    );
    let kms = build(&settings).unwrap();
    let hangs = tokio::time::timeout(Duration::from_millis(200), unwrap(kms.as_ref())).await;
    assert!(hangs.is_err(), "{hangs:?}");
    assert_eq!(unwrap(kms.as_ref()).await, Ok(()));
}

#[tokio::test]
async fn a_version_is_refused_without_asking() {
    let kms = answering("200 OK", format!(r#"{{"plaintext":"{}"}}"#, base64(32)));
    let wrapped = WrappedDek::new([1; 76]);
    let answer = kms.unwrap(&ek("a"), Some("1"), &wrapped, &context("one")).await;
    assert!(matches!(answer, Err(Error::Malformed(_))), "{answer:?}");
}

#[tokio::test]
async fn errors_of_old_and_new_versions_mean_the_same() {
    let a = ek("a");
    for (status, text, expected) in [
        ("404 Not Found", "key does not exist", Error::NoSuchKey(a.clone())),
        ("400 Bad Request", "key already exists", Error::Exists(a.clone())),
        ("400 Bad Request", "key does already exist", Error::Exists(a.clone())),
    ] {
        for field in ["message", "error"] {
            let kms = answering(status, format!(r#"{{"{field}":"{text}"}}"#));
            assert_eq!(kms.create(&a).await, Err(expected.clone()));
        }
    }
    for (status, body) in [
        ("403 Forbidden", r#"{"message":"not authorized: insufficient permissions"}"#),
        ("403 Forbidden", r#"{"error":"prohibited by policy"}"#),
        ("403 Forbidden", "<html>"),
        ("401 Unauthorized", ""),
        ("400 Bad Request", r#"{"message":"tls: client certificate is required"}"#),
    ] {
        let answer = generate(answering(status, body.into()).as_ref()).await;
        assert!(matches!(answer, Err(Error::Denied(_))), "{status} {body}: {answer:?}");
    }
    for (status, body) in [
        // Not KES's word that the key is gone.
        ("404 Not Found", "404 page not found"),
        ("404 Not Found", r#"{"message":"enclave does not exist"}"#),
        ("429 Too Many Requests", ""),
        ("500 Internal Server Error", ""),
        ("502 Bad Gateway", r#"{"message":"failed to read key"}"#),
        ("503 Service Unavailable", r#"{"message":"change committed but not replicated"}"#),
        ("504 Gateway Timeout", r#"{"message":"key store is not reachable"}"#),
    ] {
        let answer = generate(answering(status, body.into()).as_ref()).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{status} {body}: {answer:?}");
    }
}
