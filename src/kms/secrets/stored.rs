//! An EK as a secret store holds it, byte for byte as MinIO KES writes it.
//!
//! ```text
//! secret = base64(KeyVersion)
//! KeyVersion { 1: SecretKey { 1: key[32], 2: type (1 AES256, 2 ChaCha20) },
//!              2: HMACKey { 1: key[32], 2: hash (1 SHA-256) },
//!              3: Timestamp { 1: seconds, 2: nanoseconds },
//!              4: created by }
//! ```
//!
//! Older KES wrote `{"bytes":"<base64>","algorithm":"AES256-GCM_SHA256"}`, which is read too. Source: minio/kes,
//! `internal/crypto/key.go` and `internal/protobuf/crypto.proto`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::{Zeroize, Zeroizing};

use super::key::{Cipher, SecretKey};
use super::protobuf::{Reader, Value, Writer};

const SHA256: u64 = 1;

/// A new secret. KES does not read one without an HMAC key, so it needs one; s3veil never uses it.
pub(super) fn encode(
    key: &SecretKey,
    hmac_key: &[u8; 32],
    created: OffsetDateTime,
    created_by: &str,
) -> Zeroizing<Vec<u8>> {
    let cipher = match key.cipher {
        Cipher::Aes256 => 1,
        Cipher::ChaCha20 => 2,
    };
    let message = Writer::default()
        .message(1, Writer::default().bytes(1, key.bytes.as_slice()).varint(2, cipher))
        .message(2, Writer::default().bytes(1, hmac_key).varint(2, SHA256))
        .message(3, timestamp(created))
        .bytes(4, created_by.as_bytes())
        .finish();
    Zeroizing::new(BASE64_STANDARD.encode(&*message).into_bytes())
}

fn timestamp(at: OffsetDateTime) -> Writer {
    let seconds = at.unix_timestamp().cast_unsigned();
    Writer::default().varint(1, seconds).varint(2, u64::from(at.nanosecond()))
}

/// The EK in a secret, or what is wrong with it. The end of a line after it, as editors and shells write one, is not part
/// of it for KES either.
pub(super) fn parse(secret: &[u8]) -> Result<SecretKey, &'static str> {
    let secret = secret.trim_ascii_end();
    // No base64 text begins as a JSON object does.
    if secret.starts_with(b"{") { parse_json(secret) } else { parse_protobuf(secret) }
}

/// When the EK in a secret was made, if the secret tells.
pub(in crate::kms) fn created(secret: &[u8]) -> Option<OffsetDateTime> {
    #[derive(Deserialize)]
    struct Legacy {
        #[serde(with = "time::serde::rfc3339")]
        created_at: OffsetDateTime,
    }

    let secret = secret.trim_ascii_end();
    if secret.starts_with(b"{") {
        return serde_json::from_slice::<Legacy>(secret).ok().map(|legacy| legacy.created_at);
    }
    let message = Zeroizing::new(BASE64_STANDARD.decode(secret).ok()?);
    let Some(Value::Bytes(at)) = Reader::new(&message).field(3).ok()? else { return None };
    let part = |field| match Reader::new(at).field(field) {
        Ok(Some(Value::Varint(value))) => value.cast_signed(),
        _ => 0,
    };
    let nanoseconds = i128::from(part(1)) * 1_000_000_000 + i128::from(part(2));
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
}

fn parse_protobuf(secret: &[u8]) -> Result<SecretKey, &'static str> {
    let message = Zeroizing::new(BASE64_STANDARD.decode(secret).map_err(|_| "neither base64 nor JSON")?);
    let Some(Value::Bytes(key)) = Reader::new(&message).field(1)? else {
        return Err("it holds no key");
    };
    let (bytes, cipher) = (Reader::new(key).field(1)?, Reader::new(key).field(2)?);
    let cipher = match cipher {
        Some(Value::Varint(1)) => Cipher::Aes256,
        Some(Value::Varint(2)) => Cipher::ChaCha20,
        _ => return Err("its cipher is not known"),
    };
    match bytes {
        Some(Value::Bytes(bytes)) => secret_key(cipher, bytes),
        _ => Err("it holds no key"),
    }
}

fn parse_json(secret: &[u8]) -> Result<SecretKey, &'static str> {
    #[derive(Deserialize)]
    struct Legacy {
        bytes: String,
        #[serde(default)]
        algorithm: String,
    }

    let mut legacy: Legacy = serde_json::from_slice(secret).map_err(|_| "its JSON is broken")?;
    let bytes = BASE64_STANDARD.decode(&legacy.bytes).map(Zeroizing::new);
    legacy.bytes.zeroize();
    let cipher = match legacy.algorithm.as_str() {
        "" | "AES256" | "AES256-GCM_SHA256" => Cipher::Aes256,
        "ChaCha20" | "XCHACHA20-POLY1305" => Cipher::ChaCha20,
        _ => return Err("its cipher is not known"),
    };
    secret_key(cipher, &bytes.map_err(|_| "its key is not base64")?)
}

fn secret_key(cipher: Cipher, bytes: &[u8]) -> Result<SecretKey, &'static str> {
    let bytes = bytes.try_into().map_err(|_| "its key is not 32 bytes long")?;
    Ok(SecretKey { cipher, bytes: Zeroizing::new(bytes) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use time::macros::datetime;

    use super::*;

    /// minio/kes, `internal/crypto/key_test.go`, `parseKeyVersionTests`.
    const PROTOBUF: &str = "CiQKIMiHG7XrN94FuwblJJor4f7f6rbqAl7DwsLaiIoyz0D2EAESJAognLXl4yqa4cjZTcSbsU6sNnN8kP9ARWkXwa20YQZa9HgQARoMCNithK0GEID67qYDIkAzZWNmY2RmMzhmY2JlMTQxYWUyNmExMDMwZjgxZTk2Yjc1MzM2NWE0Njc2MGFlNmI1Nzg2OThhOTdjNTlmZDIy";
    const PROTOBUF_KEY: &str = "yIcbtes33gW7BuUkmivh/t/qtuoCXsPCwtqIijLPQPY=";
    const PROTOBUF_HMAC_KEY: &str = "nLXl4yqa4cjZTcSbsU6sNnN8kP9ARWkXwa20YQZa9Hg=";

    fn decode(base64: &str) -> [u8; 32] {
        BASE64_STANDARD.decode(base64).unwrap().try_into().unwrap()
    }

    #[test]
    fn reads_what_kes_stores() {
        for (secret, cipher, key) in [
            (PROTOBUF, Cipher::Aes256, PROTOBUF_KEY),
            (
                r#"{"bytes":"J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E="}"#,
                Cipher::Aes256,
                "J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E=",
            ),
            (
                r#"{"bytes":"J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E=","algorithm":"AES256-GCM_SHA256","created_at":"2009-11-10T23:00:00Z","created_by":"40235905b7b83e0537a002db523cd019d6709b899adc249c957860cd00fa9f78"}"#,
                Cipher::Aes256,
                "J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E=",
            ),
            (
                r#"{"bytes":"9ew6BCae3+13sniOUwttEJ62amg98YXc0OW0WBhNiCY=","algorithm":"XCHACHA20-POLY1305","created_at":"2009-11-10T23:00:00Z","created_by":"189d9de5331e3ee8abe9e4bd40d474ad621d79ccf83a711f6ac68050eb15a52a"}"#,
                Cipher::ChaCha20,
                "9ew6BCae3+13sniOUwttEJ62amg98YXc0OW0WBhNiCY=",
            ),
        ] {
            for end in ["", "\n", "\r\n", " \n\n"] {
                let secret = format!("{secret}{end}");
                let parsed =
                    parse(secret.as_bytes()).map_err(|problem| format!("{secret}: {problem}")).unwrap();
                assert_eq!((parsed.cipher, *parsed.bytes), (cipher, decode(key)));
            }
        }
    }

    #[test]
    fn writes_what_kes_stores() {
        let key = SecretKey { cipher: Cipher::Aes256, bytes: Zeroizing::new(decode(PROTOBUF_KEY)) };
        let created = datetime!(2024-01-12 11:39:20.886816 +01:00);
        let by = "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22";
        let secret = encode(&key, &decode(PROTOBUF_HMAC_KEY), created, by);
        assert_eq!(str::from_utf8(&secret).unwrap(), PROTOBUF);
        assert_eq!(super::created(&secret), Some(created));
        assert_eq!(super::created(&[secret.as_slice(), b"\n"].concat()), Some(created));
    }

    #[test]
    fn the_time_of_creation_is_told_where_it_stands() {
        let legacy =
            r#"{"bytes":"J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E=","created_at":"2009-11-10T23:00:00Z"}"#;
        assert_eq!(created(legacy.as_bytes()), Some(datetime!(2009-11-10 23:00 UTC)));
        for none in [r#"{"bytes":"J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E="}"#, "", "no base64", "AAAA"] {
            assert_eq!(created(none.as_bytes()), None);
        }
    }

    #[test]
    fn refuses_what_is_no_key() {
        let short = BASE64_STANDARD.encode(b"\x0a\x06\x0a\x02ab\x10\x01");
        let unknown = BASE64_STANDARD.encode([&b"\x0a\x24\x0a\x20"[..], &[0; 32], &b"\x10\x03"[..]].concat());
        for secret in [
            "",
            "AAAA",
            r#""bytes":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#,
            r#"{bytes":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#,
            r#"{"bytes""AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#,
            r#"{"bytes":"AAAA"}"#,
            r#"{"bytes":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","algorithm":"DES"}"#,
            &short,
            &unknown,
        ] {
            assert!(parse(secret.as_bytes()).is_err(), "{secret}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
            let _ = parse(BASE64_STANDARD.encode(&bytes).as_bytes());
            let _ = (created(&bytes), created(BASE64_STANDARD.encode(&bytes).as_bytes()));
        }
    }
}
