//! One KES for MinIO and for s3veil: its key store in files, its certificates made by its own tool.

use std::fs;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use s3veil::body::{ByteBody, empty};
use s3veil::net::{Connector, Identity, NetConfig};

use crate::kes_server::{ADMIN, Estate, api_key};
use crate::peers;
use crate::servers::{Plan, Ready, Server, start, tool};

/// The key under which both seal.
const EK: &str = "versus";

/// A running KES.
pub struct Kes {
    estate: Estate,
    server: Server,
    port: u16,
}

impl Kes {
    /// Starts it, and makes the key.
    pub fn start() -> Result<Self, String> {
        let estate = Estate::new()?;
        let (config, program) = (estate.path("kes.yml"), tool("kes")?);
        // Who may do everything with keys may also see how often that was done.
        let text = fs::read_to_string(&config).map_err(|why| why.to_string())?;
        let text = text.replacen(r#"["/v1/key/*"]"#, r#"["/v1/key/*", "/v1/metrics"]"#, 1);
        fs::write(&config, text).map_err(|why| why.to_string())?;
        let (server, [port]) = start("kes", |_, [port]| {
            let mut command = Command::new(&program);
            command.arg("server").arg("--config").arg(&config).arg(format!("--addr=127.0.0.1:{port}"));
            // What Go's TLS says to someone who speaks none: it serves.
            Ok(Plan { command, ready: vec![Ready::answer(port, "/", "HTTP/1.0 400 ")], litter: vec![] })
        })?;
        let made = Command::new(&program)
            .args(["key", "create", "-k", EK])
            .env("KES_SERVER", format!("127.0.0.1:{port}"))
            .env("KES_API_KEY", ADMIN)
            .output()
            .map_err(|why| why.to_string())?;
        match made.status.success() {
            true => Ok(Self { estate, server, port }),
            false => Err(format!("kes key create: {}", String::from_utf8_lossy(&made.stderr))),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// What MinIO's environment says of it.
    pub fn of_minio(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MINIO_KMS_KES_ENDPOINT", self.endpoint()),
            ("MINIO_KMS_KES_KEY_NAME", EK.to_owned()),
            ("MINIO_KMS_KES_CAPATH", self.estate.path("server.crt").display().to_string()),
            ("MINIO_KMS_KES_API_KEY", ADMIN.to_owned()),
        ]
    }

    /// What s3veil's configuration says of it.
    pub fn of_s3veil(&self) -> peers::Kms {
        let settings = self.estate.settings(&[self.endpoint()], &api_key(ADMIN));
        peers::Kms { settings, ek: EK.to_owned(), pid: self.pid() }
    }

    /// The document that makes a bucket of MinIO's seal by default.
    pub fn bucket_default() -> Bytes {
        let rule = format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{EK}</KMSMasterKeyID>");
        format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{rule}\
             </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        )
        .into()
    }

    /// Counts the calls.
    pub async fn counter(&self) -> Result<Counter, String> {
        let path = |name: &str| self.estate.path(name);
        let client = s3veil::net::client(NetConfig {
            ca_file: Some(path("server.crt")),
            identity: Some(Identity::from_pem_files(&path("client.crt"), &path("client.key"))?),
            connect_timeout: Duration::from_secs(5),
        })?;
        let mut counter = Counter { client, address: format!("{}/v1/metrics", self.endpoint()), own: 0.0 };
        let first = counter.read().await?;
        counter.own = counter.read().await? - first;
        Ok(counter)
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

/// Reads how many requests KES has answered.
pub struct Counter {
    client: Client<Connector, ByteBody>,
    address: String,
    /// What one reading adds itself.
    pub own: f64,
}

impl Counter {
    /// The requests up to now, this one's predecessors among them.
    pub async fn read(&self) -> Result<f64, String> {
        let request = Request::get(&self.address).body(empty()).map_err(|why| why.to_string())?;
        let answer = self.client.request(request).await.map_err(|why| format!("KES' metrics: {why:?}"))?;
        let status = answer.status();
        let mut text = Vec::new();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|why| why.to_string())?;
            text.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        }
        let text = String::from_utf8_lossy(&text);
        if !status.is_success() {
            return Err(format!("KES' metrics: {status}: {text}"));
        }
        let kinds = ["success", "error", "failure"].map(|kind| format!("kes_http_request_{kind}"));
        Ok(super::counters::sum(&text, |line| kinds.iter().any(|kind| line.starts_with(kind.as_str()))))
    }
}
