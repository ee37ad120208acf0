//! A KES API key: the seed of an Ed25519 key, shown to KES as a certificate that the key signs itself.
//!
//! ```text
//! API key  = "kes:v1:" ‖ base64(0x00 ‖ seed[32])
//! identity = hex(SHA-256(SubjectPublicKeyInfo))
//! ```
//!
//! KES looks at the public key alone, so the certificate need not be the same each time, nor ever expire. Source:
//! minio/kms-go, `kes/apikey.go`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::net::Identity;
use crate::secret::Secret;

const PREFIX: &str = "kes:v1:";
const ED25519: u8 = 0;

/// An Ed25519 private key up to its seed. Source: RFC 8410, section 7.
const PKCS8_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

/// The client certificate that an API key stands for.
///
/// Errors: a message without the key.
pub(super) fn identity(api_key: &Secret) -> Result<Identity, String> {
    let wrong = || {
        "api_key: the value (not shown) is not an API key. Write kes:v1:... as `kes identity new` shows it"
            .to_owned()
    };
    let pkcs8 = pkcs8(api_key).ok_or_else(wrong)?;
    let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).map_err(|_| wrong())?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name(&pair));
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = params.self_signed(&pair).map_err(|why| format!("api_key: {why}. Make another one"))?;
    let key = PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into();
    Ok(Identity { chain: vec![certificate.der().clone()], key })
}

fn pkcs8(api_key: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let text = api_key.as_str().trim().strip_prefix(PREFIX)?;
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).ok()?);
    match bytes.split_first()? {
        (&ED25519, seed) if seed.len() == 32 => Some(Zeroizing::new([&PKCS8_HEAD, seed].concat())),
        _ => None,
    }
}

/// How KES and its policies call the owner of this key.
fn name(pair: &KeyPair) -> String {
    hex::encode(Sha256::digest(pair.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// minio/kms-go, `kes/apikey_test.go`.
    #[test]
    fn identities_are_those_of_kes() {
        for (api_key, expected) in [
            (
                "kes:v1:AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAs",
                "ea9826089311fe44d7590408ede9150f7c637b6cab0a91ee6fe1aa5d9fb366f6",
            ),
            (
                "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw",
                "0426fa9a04bc2756b92fbe8a97e1a1e07b53ecf04ed33da22c33e5c9faeb8cbb",
            ),
            (
                "kes:v1:AMxvd2uV1l5dDSRwuKZxSjuM5BDemlr+685+JAHA1TuJ",
                "ab785e3b95d80d72cc9c27cb9fde886a0bf9068a69d40e3bd08a54e68c3f2bf7",
            ),
        ] {
            let pkcs8 = pkcs8(&Secret::new(api_key)).unwrap();
            let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).unwrap();
            assert_eq!(name(&pair), expected);
            assert_eq!(identity(&Secret::new(api_key)).unwrap().chain.len(), 1);
        }
    }

    #[test]
    fn refuses_what_is_none_and_does_not_show_it() {
        for text in [
            "",
            "kes:v1:",
            "kes:v2:AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAs",
            "kes:v1:AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NA",
            "kes:v1:AWaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAs",
            "kes:v1:AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAsAAAA",
            "AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAs",
        ] {
            let why = identity(&Secret::new(text)).unwrap_err();
            assert!(why.contains("api_key") && why.contains("kes identity new"), "{why}");
            assert!(!why.contains("AGaV6"), "{why}");
        }
    }
}
