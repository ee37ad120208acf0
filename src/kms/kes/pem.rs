//! A client certificate whose private key may be under a password, in the one form that MinIO and KES read.
//!
//! ```text
//! -----BEGIN PRIVATE KEY-----
//! Proc-Type: 4,ENCRYPTED
//! DEK-Info: AES-256-CBC,<iv[16] in hex>
//!
//! base64(AES-CBC(D1 ‖ D2 ..., iv, key in DER))        D(i) = MD5(D(i-1) ‖ password ‖ iv[0..8])
//! ```
//!
//! That is how `kes identity new --encrypt` writes it. One round of MD5 protects a password little; the file's rights
//! are what keeps the key. Source: RFC 1421, section 4.6, and OpenSSL's EVP_BytesToKey(3).

use std::path::Path;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::net::Identity;
use crate::secret::Secret;

const ENCRYPTED: &str = "Proc-Type: 4,ENCRYPTED";
const PKCS8_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// The certificate and its key.
///
/// Errors: a message that names the file and the remedy.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    password: Option<&Secret>,
) -> Result<Identity, String> {
    let wrong = |why: &str| format!("key_file: '{}' {why}", key.display());
    let text = std::fs::read_to_string(key).map(Zeroizing::new);
    let text = text.map_err(|why| wrong(&format!("can't be read: {why}. Let s3veil read it")))?;
    if text.contains(PKCS8_ENCRYPTED) {
        return Err(wrong(
            "is under a password in PKCS #8, which MinIO does not read either. Take the password off: \
             openssl pkey -in FILE -out NEWFILE",
        ));
    }
    if !text.contains(ENCRYPTED) {
        return Identity::from_pem_files(certificate, key);
    }
    let password = password.ok_or_else(|| wrong("is under a password. Add key_password"))?;
    let key = decrypt(&text, password).ok_or_else(|| {
        wrong(
            "does not open: key_password (not shown) is another's, or the cipher is not AES-CBC. Correct it, or take \
             the password off: openssl pkey -in FILE -out NEWFILE",
        )
    })?;
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|why| {
        format!("certificate_file: '{}' can't be used: {why}. Give one in PEM", certificate.display())
    })?;
    Ok(Identity { chain, key })
}

fn decrypt(text: &str, password: &Secret) -> Option<PrivateKeyDer<'static>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN "));
    let begin = lines.next()?;
    let body = lines.take_while(|line| !line.starts_with("-----END "));
    let (head, data): (Vec<&str>, Vec<&str>) = body.partition(|line| line.contains(':'));
    let (cipher, iv) = head.iter().find_map(|line| line.strip_prefix("DEK-Info: "))?.split_once(',')?;
    let (algorithm, key_len) = match cipher {
        "AES-128-CBC" => (&AES_128, 16),
        "AES-192-CBC" => (&AES_192, 24),
        "AES-256-CBC" => (&AES_256, 32),
        _ => return None,
    };
    let iv: [u8; 16] = hex::decode(iv).ok()?.try_into().ok()?;
    let mut data = Zeroizing::new(BASE64_STANDARD.decode(data.concat()).ok()?);
    let key = stretch(password, &iv[..8], key_len);
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, &key).ok()?).ok()?;
    let opened = key.decrypt(&mut data, DecryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    match begin.trim_start_matches("-----BEGIN ").trim_end_matches("-----") {
        // A password that is wrong may still leave good padding: then it is no key either.
        _ if !opened.starts_with(b"\x30") => None,
        "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(opened.to_vec().into())),
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(opened.to_vec().into())),
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(opened.to_vec().into())),
        _ => None,
    }
}

/// EVP_BytesToKey with MD5 and one round.
fn stretch(password: &Secret, salt: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(48));
    while key.len() < len {
        let mut hash = Md5::new();
        hash.update(&key[key.len().saturating_sub(16)..]);
        hash.update(password.as_bytes());
        hash.update(salt);
        key.extend_from_slice(&hash.finalize());
    }
    key.truncate(len);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both made by OpenSSL 3: `openssl ecparam -genkey` and `openssl ec -aes256 -passout pass:secret`.
    const PLAIN: &str = "MHcCAQEEIE4IkrxTKkfGB26U+bIR4kxMCqFlidsY+/AgiGzum33HoAoGCCqGSM49AwEHoUQDQgAEfJC5T7/HVIedaT3DSjiEEgJn+CLeRUhWwFaNTVe2BienLBGuGsAmZeV5aVq8F9zo4XsTmoDE1pGRQXiW7rTUHA==";
    const UNDER_PASSWORD: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,8E7B04F477E15048F077BFC486B3065F

xV1KlVfVtk1YTFAxYzTu60NT5Wh8m6PKI6JQOMVDZ4mmSj+/aWtbtqGS10ucyU72
HZbx53MumUW8zvQszTvPWAFLtse0XgBqhZ+yMjIZIf5o46Ii4fMcqkaSrTr83t/T
qqeFoVscMz6h0zqqzlUb2QSTiulcbeorIQye5ttkdvc=
-----END EC PRIVATE KEY-----
";

    #[test]
    fn opens_what_openssl_put_under_a_password() {
        let Some(PrivateKeyDer::Sec1(key)) = decrypt(UNDER_PASSWORD, &Secret::new("secret")) else {
            panic!("it does not open")
        };
        assert_eq!(key.secret_sec1_der(), BASE64_STANDARD.decode(PLAIN).unwrap());
    }

    #[test]
    fn refuses_another_password_cipher_or_form() {
        assert!(decrypt(UNDER_PASSWORD, &Secret::new("Secret")).is_none());
        for (from, to) in [
            ("AES-256-CBC", "DES-EDE3-CBC"),
            ("8E7B04F477E15048F077BFC486B3065F", "8E7B"),
            ("xV1K", "&"),
            ("qqeF", ""),
            ("DEK-Info", "Other"),
            ("-----BEGIN EC PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----"),
            ("-----BEGIN", ""),
        ] {
            let text = UNDER_PASSWORD.replacen(from, to, 1);
            assert!(decrypt(&text, &Secret::new("secret")).is_none(), "{from} {to}");
        }
    }
}
