//! A real KES with a key store in files, its certificates made by its own tool.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::servers::{Plan, Ready, Server, start, tool};

/// May do everything with keys. Key and identity are those of the tests of minio/kms-go.
pub const ADMIN: &str = "kes:v1:AGaV6VXHasF0FnaB60WdCOeTZ8eTIDikL4zlN16c8NAs";
const ADMIN_IDENTITY: &str = "ea9826089311fe44d7590408ede9150f7c637b6cab0a91ee6fe1aa5d9fb366f6";

/// Nobody's.
const OTHER_IDENTITY: &str = "0000000000000000000000000000000000000000000000000000000000000001";

/// May use keys that begin with `app`, as the manual says that s3veil should.
pub const USER: &str = "kes:v1:AMxvd2uV1l5dDSRwuKZxSjuM5BDemlr+685+JAHA1TuJ";
const USER_IDENTITY: &str = "ab785e3b95d80d72cc9c27cb9fde886a0bf9068a69d40e3bd08a54e68c3f2bf7";

/// In no policy.
pub const STRANGER: &str = "kes:v1:ACQpoGqx3rHHjT938Hfu5hVVQJHZWSqVI2Xp1KlYxFVw";

/// What a KES is started from, and what stays when it ends.
pub struct Estate {
    directory: TempDir,
    program: PathBuf,
}

/// A running KES. Dropping it ends it.
pub struct Kes {
    pub port: u16,
    server: Server,
}

impl Kes {
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        let done = Command::new("kill").args(["-HUP", &self.server.pid().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Estate {
    pub fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|why| why.to_string())?;
        let estate = Self { program: tool("kes")?, directory };
        estate.make_pair("server");
        estate.make_pair("client");
        // Made by OpenSSL; the key is under the password "secret", in the form of `openssl ec -aes256`.
        fs::write(estate.path("password.crt"), include_str!("kes_password.crt")).unwrap();
        fs::write(estate.path("password.key"), include_str!("kes_password.key")).unwrap();
        let text = format!(
            r#"
version: v1
admin:
  identity: disabled
tls:
  key: {key}
  cert: {certificate}
policy:
  admin:
    allow: ["/v1/key/*"]
    identities: [{ADMIN_IDENTITY}, {client}, {password}]
  user:
    allow: ["/v1/key/generate/app*", "/v1/key/decrypt/app*"]
    identities: [{USER_IDENTITY}]
keystore:
  fs:
    path: {keys}
"#,
            key = estate.path("server.key").display(),
            certificate = estate.path("server.crt").display(),
            keys = estate.path("keys").display(),
            client = estate.identity("client.crt"),
            password = estate.identity("password.crt"),
        );
        fs::write(estate.path("kes.yml"), text).unwrap();
        Ok(estate)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new certificate for 127.0.0.1 that its own key signs: `NAME.crt`, `NAME.key`.
    pub fn make_pair(&self, name: &str) {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        self.run(&[
            "identity",
            "new",
            "--ip",
            "127.0.0.1",
            "--key",
            key.to_str().unwrap(),
            "--cert",
            certificate.to_str().unwrap(),
            name,
        ]);
    }

    fn identity(&self, certificate: &str) -> String {
        let text = self.run(&["identity", "of", self.path(certificate).to_str().unwrap()]);
        let hex = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        text.split_whitespace().find(hex).expect("it shows an identity").to_owned()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// From the next start on a client's certificate must be of a CA's.
    pub fn ask_for_a_ca(&self) {
        let text = fs::read_to_string(self.path("kes.yml")).unwrap();
        fs::write(self.path("kes.yml"), text.replacen("tls:\n", "tls:\n  auth: \"on\"\n", 1)).unwrap();
    }

    /// Whether the policy has the admin's API key.
    pub fn allow(&self, admin: bool) {
        let text = fs::read_to_string(self.path("kes.yml")).unwrap();
        let (from, to) =
            if admin { (OTHER_IDENTITY, ADMIN_IDENTITY) } else { (ADMIN_IDENTITY, OTHER_IDENTITY) };
        assert!(text.contains(from));
        fs::write(self.path("kes.yml"), text.replace(from, to)).unwrap();
    }

    /// Starts it on a free port.
    pub fn start(&self) -> Result<Kes, String> {
        let (server, [port]) = start("kes", |_, [port]| self.plan(port))?;
        Ok(Kes { port, server })
    }

    /// Starts it on this port.
    pub fn start_at(&self, port: u16) -> Result<Kes, String> {
        let (server, []) = start("kes", |_, []| self.plan(port))?;
        Ok(Kes { port, server })
    }

    fn plan(&self, port: u16) -> Result<Plan, String> {
        let mut command = Command::new(&self.program);
        command.arg("server").arg("--config").arg(self.path("kes.yml"));
        command.arg(format!("--addr=127.0.0.1:{port}"));
        // What Go's TLS says to someone who speaks none: it serves.
        Ok(Plan { command, ready: vec![Ready::answer(port, "/", "HTTP/1.0 400 ")], litter: vec![] })
    }

    /// The settings of s3veil for KESs at these endpoints.
    pub fn settings(&self, endpoints: &[String], credential: &str) -> String {
        let certificate = self.path("server.crt");
        format!("kind = \"kes\"\nendpoint = {endpoints:?}\nca_file = {certificate:?}\n{credential}\n")
    }

    /// The settings of s3veil for the same keys without KES.
    pub fn files(&self) -> String {
        format!("kind = \"kes-files\"\npath = {:?}\n", self.path("keys"))
    }
}

/// An API key as a credential.
pub fn api_key(key: &str) -> String {
    format!("api_key = \"{key}\"")
}
