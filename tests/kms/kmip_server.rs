//! PyKMIP, a real KMIP server, and the certificates that it and the tests' own server want.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::servers::{self, Plan, Ready, Server};

/// Files of certificates, in a directory that goes with this value.
pub struct Certificates {
    dir: TempDir,
    ca: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// An authority (`ca.pem`), a server's certificate for 127.0.0.1 (`server.pem`) and the client's (`client.pem`).
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(&dir.path().join("ca.pem"), "tests");
        let made = Self { dir, ca };
        made.issue(&made.ca, "server", ExtendedKeyUsagePurpose::ServerAuth);
        made.issue(&made.ca, "client", ExtendedKeyUsagePurpose::ClientAuth);
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A client's certificate in `NAME.pem`, from the authority that the server knows.
    pub fn client(&self, name: &str) {
        self.issue(&self.ca, name, ExtendedKeyUsagePurpose::ClientAuth);
    }

    /// The same from another authority, `NAME-ca.pem`.
    pub fn stranger(&self, name: &str) {
        let ca = authority(&self.path(&format!("{name}-ca.pem")), name);
        self.issue(&ca, name, ExtendedKeyUsagePurpose::ClientAuth);
    }

    fn issue(&self, ca: &Issuer<'_, KeyPair>, name: &str, usage: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(usage);
        let certificate = params.signed_by(&key, ca).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The settings of `[kms.NAME]` for a server on this port, with more below.
    pub fn settings(&self, port: u16, more: &str) -> String {
        format!(
            "kind = \"kmip\"\nendpoint = \"127.0.0.1:{port}\"\nca_file = {:?}\ncertificate_file = {:?}\n\
             key_file = {:?}\n{more}\n",
            self.path("ca.pem"),
            self.path("client.pem"),
            self.path("client.key")
        )
    }

    /// The same for two ways to one server.
    pub fn settings_of_two(&self, first: u16, second: u16) -> String {
        let (one, both) =
            (format!("\"127.0.0.1:{first}\""), format!("[\"127.0.0.1:{first}\", \"127.0.0.1:{second}\"]"));
        self.settings(first, "").replace(&one, &both)
    }
}

fn authority(file: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

/// Starts PyKMIP without its two helpers, which watch the policy files: they are processes that outlive a killed server.
const LAUNCHER: &str = r#"
import multiprocessing, sys
from kmip.services.server import monitor, server

class Nothing:
    dict = staticmethod(dict)
    def __init__(self, *_): pass
    def __getattr__(self, _): return lambda: None

multiprocessing.Manager = monitor.PolicyDirectoryMonitor = Nothing
server.main(sys.argv[1:])
"#;

/// A running PyKMIP. Its keys are in the certificates' directory, so it finds them again.
pub struct PyKmip {
    pub port: u16,
    _server: Server,
}

impl PyKmip {
    pub fn start(certificates: &Certificates) -> Result<Self, String> {
        Self::start_at(certificates, None)
    }

    /// On this port, or a free one.
    pub fn start_at(certificates: &Certificates, port: Option<u16>) -> Result<Self, String> {
        let program = servers::tool("pykmip-server")?.canonicalize().map_err(|why| why.to_string())?;
        let (server, [free]) = servers::start("pykmip", |dir, [free]| {
            let port = port.unwrap_or(free);
            let policies = dir.join("policies");
            fs::create_dir_all(&policies).map_err(|why| why.to_string())?;
            let text = format!(
                "[server]\nhostname=127.0.0.1\nport={port}\ncertificate_path={}\nkey_path={}\nca_path={}\n\
                 auth_suite=TLS1.2\npolicy_path={}\nenable_tls_client_auth=True\nlogging_level=INFO\n\
                 database_path={}\n",
                certificates.path("server.pem").display(),
                certificates.path("server.key").display(),
                certificates.path("ca.pem").display(),
                policies.display(),
                certificates.path("keys.db").display(),
            );
            let config = dir.join("server.conf");
            fs::write(&config, text).map_err(|why| why.to_string())?;
            let mut command = Command::new(program.with_file_name("python"));
            command.args(["-c", LAUNCHER, "-f"]).arg(config).arg("-l").arg(dir.join("pykmip.log"));
            Ok(Plan { command, ready: vec![Ready::listening(port)], litter: vec![] })
        })?;
        Ok(Self { port: port.unwrap_or(free), _server: server })
    }
}
