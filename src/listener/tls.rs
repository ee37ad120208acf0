//! TLS on the S3 port: certificate, key and the clients' roots, read again when they change.
//!
//! They are taken together, as one configuration of rustls': so no handshake sees a new certificate with an old key, and a
//! session that began under other roots can't be resumed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, ServerConfig};
use serde::Deserialize;

use crate::net;
use crate::watch::Watched;

/// HTTP/2 by its name in ALPN.
pub(super) const HTTP2: &[u8] = b"h2";

/// What clients may speak within, the first they know of.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// TLS as typed in `proxy.toml`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, then those between it and a root, in PEM.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
    /// Whose certificates clients may show: roots in PEM, a file or a directory of them.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether they must.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Without one there is no connection.
    Required,
    /// It may; then it must be a good one.
    Optional,
}

/// TLS as it is spoken.
pub struct Tls {
    config: TlsConfig,
    current: Watched<Current>,
}

/// What the files hold.
struct Current {
    server: Arc<ServerConfig>,
    /// When the first certificate of the chain expires, in Unix time.
    expires: i64,
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// Errors: a message that names the key, the file and the remedy.
    pub fn build(self) -> Result<Tls, String> {
        if self.client_ca_file.is_none() && self.client_certificates.is_some() {
            return Err("tls.client_certificates: there is no client_ca_file beside it. Name the roots that clients' \
                        certificates come from, or remove it"
                .into());
        }
        let mut files = vec![self.certificate_file.clone(), self.key_file.clone()];
        if let Some(roots) = &self.client_ca_file {
            // The directory as well as what is in it: a file may be added.
            files.push(roots.clone());
            files.extend(net::root_files(roots));
        }
        let config = self.clone();
        let current = Watched::new(files, move || config.load())?;
        Ok(Tls { config: self, current })
    }

    fn load(&self) -> Result<Current, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = self.chain()?;
        let expires = chain.iter().map(|der| expiry(der)).collect::<Option<Vec<_>>>();
        let expires = expires.and_then(|times| times.into_iter().min());
        let expires = expires.ok_or_else(|| {
            wrong("certificate_file", &self.certificate_file, "holds what is no certificate")
        })?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|why| wrong("key_file", &self.key_file, format!("can't be used: {why}")))?;
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|why| match why {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                "tls.key_file: '{}' is not the key of the first certificate in '{}'. Name the key that it was made for, and put \
                 the server's own certificate first",
                self.key_file.display(),
                self.certificate_file.display()
            ),
            rustls::Error::InvalidCertificate(why) => {
                wrong("certificate_file", &self.certificate_file, format!("holds a bad certificate: {why:?}"))
            }
            why => wrong("key_file", &self.key_file, format!("can't be used: {why}")),
        })?;
        let verifier = self.verifier(&provider)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| format!("tls: {why}"))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        if !in_future(expires) {
            let file = self.certificate_file.display();
            tracing::warn!(%file, "tls.certificate_file: the certificate has expired; clients will refuse it");
        }
        Ok(Current { server: Arc::new(server), expires })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let file = &self.certificate_file;
        let chain = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|why| wrong("certificate_file", file, format!("can't be used: {why}")))?;
        match chain.is_empty() {
            true => Err(wrong("certificate_file", file, "holds no certificate")),
            false => Ok(chain),
        }
    }

    fn verifier(
        &self,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let Some(file) = &self.client_ca_file else { return Ok(WebPkiClientVerifier::no_client_auth()) };
        let roots = net::roots_in("tls.client_ca_file", file)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = match self.client_certificates {
            Some(ClientCertificates::Optional) => verifier.allow_unauthenticated(),
            Some(ClientCertificates::Required) | None => verifier,
        };
        verifier.build().map_err(|why| wrong("client_ca_file", file, format!("can't be used: {why}")))
    }
}

impl Tls {
    /// Whether it was made of this configuration. What its files hold it looks after by itself.
    pub fn is_of(&self, config: &TlsConfig) -> bool {
        self.config == *config
    }

    /// When the certificate in use, or one that it is sent with, expires first, in Unix time.
    pub fn expires(&self) -> i64 {
        self.current.get().expires
    }

    /// For a connection that begins now, and when its certificate expires.
    pub(super) fn current(&self) -> (Arc<ServerConfig>, i64) {
        let current = self.current.get();
        (current.server.clone(), current.expires)
    }
}

fn wrong(key: &str, file: &Path, why: impl std::fmt::Display) -> String {
    format!("tls.{key}: '{}' {why}. Give a file in PEM that s3veil may read", file.display())
}

fn in_future(seconds: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(seconds).is_ok_and(|seconds| seconds > now.as_secs())
}

/// The end of a certificate's validity, in Unix time: the second time in the fifth field. Source: RFC 5280, section 4.1.
fn expiry(certificate: &[u8]) -> Option<i64> {
    use yasna::{ASN1Result, BERReader, BERReaderSeq, Tag, tags::TAG_UTCTIME};

    fn rest(fields: &mut BERReaderSeq<'_, '_>) -> ASN1Result<()> {
        while fields.read_optional(|field| field.read_der())?.is_some() {}
        Ok(())
    }
    fn time(field: BERReader<'_, '_>) -> ASN1Result<i64> {
        // UTCTime up to 2049.
        if field.lookahead_tag()? == TAG_UTCTIME {
            return Ok(field.read_utctime()?.datetime().unix_timestamp());
        }
        Ok(field.read_generalized_time()?.datetime().unix_timestamp())
    }
    yasna::parse_der(certificate, |certificate| {
        certificate.read_sequence(|certificate| {
            let expires = certificate.next().read_sequence(|fields| {
                fields.read_optional(|version| {
                    version.read_tagged(Tag::context(0), |number| number.read_der())
                })?;
                for _serial_algorithm_issuer in 0..3 {
                    fields.next().read_der()?;
                }
                let expires = fields.next().read_sequence(|validity| {
                    validity.next().read_der()?;
                    time(validity.next())
                })?;
                rest(fields)?;
                Ok(expires)
            })?;
            rest(certificate)?;
            Ok(expires)
        })
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(year: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
        (parameters.self_signed(&key).unwrap(), key)
    }

    #[test]
    fn expiry_is_read_in_both_forms() {
        for (year, expected) in [(2030, 1_896_307_200), (2049, 2_495_923_200), (2050, 2_527_459_200)] {
            assert_eq!(expiry(certificate(year).0.der()), Some(expected), "{year}");
        }
        let (whole, _) = certificate(2030);
        for end in 0..whole.der().len() {
            assert_eq!(expiry(&whole.der()[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn each_mistake_names_key_file_and_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let ((one, key), (_, other)) = (certificate(2030), certificate(2030));
        fs::write(path("one.crt"), one.pem()).unwrap();
        fs::write(path("one.key"), key.serialize_pem()).unwrap();
        fs::write(path("other.key"), other.serialize_pem()).unwrap();
        fs::write(path("garbage"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        fs::write(path("empty"), "").unwrap();
        let config = |certificate: &str, key: &str, roots: Option<&str>, wish| TlsConfig {
            certificate_file: path(certificate),
            key_file: path(key),
            client_ca_file: roots.map(path),
            client_certificates: wish,
        };
        let optional = Some(ClientCertificates::Optional);
        assert_eq!(config("one.crt", "one.key", None, None).build().unwrap().expires(), 1_896_307_200);
        assert!(config("one.crt", "one.key", Some("one.crt"), optional).build().is_ok());
        for (config, words) in [
            (config("none", "one.key", None, None), ["tls.certificate_file: '", "PEM"]),
            (config("empty", "one.key", None, None), ["tls.certificate_file: '", "no certificate"]),
            (config("garbage", "one.key", None, None), ["tls.certificate_file: '", "no certificate"]),
            (config("one.crt", "none", None, None), ["tls.key_file: '", "may read"]),
            (config("one.crt", "one.crt", None, None), ["tls.key_file: '", "PEM"]),
            (config("one.crt", "other.key", None, None), ["tls.key_file: '", "is not the key of"]),
            (config("one.crt", "one.key", Some("empty"), None), ["tls.client_ca_file: '", "no certificate"]),
            (
                config("one.crt", "one.key", Some("garbage"), None),
                ["tls.client_ca_file: '", "bad certificate"],
            ),
            (config("one.crt", "one.key", None, optional), ["tls.client_certificates: ", "client_ca_file"]),
        ] {
            let why = config.build().err().expect("it can't be used");
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
            assert!(!why.contains("PRIVATE"), "{why}");
        }
    }
}
