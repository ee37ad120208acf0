//! A real KES whose key store is AWS Secrets Manager: the same secrets, used by both.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::{Error, WrappedDek};
use s3veil::seal::Dek;
use serde_json::Value;

use crate::aws::settings;
use crate::aws_server::{REGION, certificate, listens, ministack, moto};
use crate::common::{build, context, ek};
use crate::servers::{self, Plan, Server, start, tool};

struct Kes {
    program: PathBuf,
    address: String,
    api_key: String,
    _server: Server,
}

/// KES in front of a Secrets Manager.
fn kes(secrets: &str) -> Result<Kes, String> {
    let program = tool("kes")?;
    let made = Command::new(&program).args(["identity", "new"]).output().map_err(|why| why.to_string())?;
    let made = String::from_utf8(made.stdout).unwrap();
    let word = |fits: fn(&str) -> bool| made.split_whitespace().find(|word| fits(word)).unwrap().to_owned();
    let api_key = word(|word| word.starts_with("kes:v1:"));
    let identity = word(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()));
    let certificate = certificate();
    let (server, [port]) = start("kes", |dir, [port]| {
        let (chain, key, config) = (dir.join("tls.crt"), dir.join("tls.key"), dir.join("kes.yml"));
        let write = |file: &PathBuf, text: String| fs::write(file, text).map_err(|why| why.to_string());
        write(&chain, certificate.cert.pem())?;
        write(&key, certificate.signing_key.serialize_pem())?;
        let text = format!(
            r#"
version: v1
address: 127.0.0.1:{port}
admin:
  identity: {identity}
tls:
  key: {key}
  cert: {chain}
keystore:
  aws:
    secretsmanager:
      endpoint: {secrets}
      region: {REGION}
      credentials:
        accesskey: AKIATEST
        secretkey: hidden
"#,
            key = key.display(),
            chain = chain.display(),
        );
        write(&config, text)?;
        let mut command = Command::new(&program);
        command.args(["server", "--config"]).arg(config);
        Ok(Plan { command, ready: vec![], litter: vec![] })
    })?;
    listens(port);
    Ok(Kes { program, address: format!("127.0.0.1:{port}"), api_key, _server: server })
}

impl Kes {
    /// `kes key ...`: what it prints.
    fn key(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.arg("key").arg(arguments[0]).arg("-k").args(&arguments[1..]);
        command.env("KES_SERVER", &self.address).env("KES_API_KEY", &self.api_key);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn an_ek_of_either_is_one_of_the_other() {
    for server in [moto(), ministack()] {
        let (server, kes) = match server.and_then(|server| kes(&server.endpoint).map(|kes| (server, kes))) {
            Ok(both) => both,
            Err(why) => return servers::skip(&why),
        };
        let kms = build(&settings("aws-secrets-manager", &server.endpoint, "")).unwrap();
        kes.key(&["create", "of-kes"]);
        kms.create(&ek("of-s3veil")).await.unwrap();
        assert_eq!(kms.create(&ek("of-kes")).await, Err(Error::Exists(ek("of-kes"))));
        assert_eq!(kms.list().await, Ok(vec![ek("of-kes"), ek("of-s3veil")]));
        let bound = BASE64_STANDARD.encode(context("one").canonical());
        for name in ["of-kes", "of-s3veil"] {
            let made: Value = serde_json::from_str(&kes.key(&["dek", name, &bound])).unwrap();
            let bytes = |field: &str| BASE64_STANDARD.decode(made[field].as_str().unwrap()).unwrap();
            let dek = Dek::try_from(&*bytes("plaintext")).unwrap();
            let wrapped = WrappedDek::new(bytes("ciphertext"));
            assert!(dek.is_same(&kms.unwrap(&ek(name), None, &wrapped, &context("one")).await.unwrap()));

            let made = kms.generate(&ek(name), &context("one")).await.unwrap();
            let wrapped = BASE64_STANDARD.encode(made.wrapped.as_bytes());
            let opened = kes.key(&["decrypt", name, &wrapped, &bound]);
            let opened: Value = serde_json::from_str(&opened).unwrap();
            let opened = BASE64_STANDARD.decode(opened["plaintext"].as_str().unwrap()).unwrap();
            assert!(made.dek.is_same(&Dek::try_from(&*opened).unwrap()));
        }
    }
}
