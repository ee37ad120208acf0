//! MinIO KES and s3veil on one KV engine: each uses the EKs of the other.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use s3veil::kms::{Error, WrappedDek};
use s3veil::seal::Dek;
use serde_json::{Value, json};

use crate::common::{build, context, ek};
use crate::servers::{self, Plan, Server};
use crate::vault_server::{Bao, documented, shared};

/// A KES whose key store is a KV engine of the server.
struct Kes {
    _server: Server,
    endpoint: String,
    api_key: String,
}

impl Kes {
    /// `seal`: whether it seals its keys with the key `seal` of the transit engine at `MOUNT-transit`.
    fn start(
        bao: &Bao,
        mount: &str,
        version: u8,
        seal: bool,
        id: &str,
        secret: &str,
    ) -> Result<Self, String> {
        let program = servers::tool("kes")?;
        let made =
            Command::new(&program).args(["identity", "new"]).output().map_err(|why| why.to_string())?;
        let made = String::from_utf8(made.stdout).unwrap();
        let mut words = made.split_whitespace();
        let api_key = words.find(|word| word.starts_with("kes:v1:")).expect("KES makes a key").to_owned();
        let identity = words.find(|word| word.len() == 64).expect("KES names its identity").to_owned();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let vault = bao.port;
        let seal = match seal {
            true => format!("    transit:\n      engine: {mount}-transit\n      key: seal\n"),
            false => String::new(),
        };
        let (server, [port]) = servers::start("kes", |dir, [port]| {
            let at = |name: &str| dir.join(name).display().to_string();
            let config = format!(
                "version: v1\naddress: 127.0.0.1:{port}\nadmin:\n  identity: {identity}\n\
                 tls:\n  key: {}\n  cert: {}\n\
                 keystore:\n  vault:\n    endpoint: http://127.0.0.1:{vault}\n    engine: {mount}\n    \
                 version: v{version}\n    prefix: s3veil\n    approle:\n      engine: {mount}\n      \
                 id: {id}\n      secret: {secret}\n{seal}",
                at("key.pem"),
                at("cert.pem"),
            );
            for (name, text) in
                [("key.pem", signing_key.serialize_pem()), ("cert.pem", cert.pem()), ("kes.yml", config)]
            {
                std::fs::write(dir.join(name), text).map_err(|why| why.to_string())?;
            }
            let mut command = Command::new(&program);
            command.args(["server", "--config"]).arg(dir.join("kes.yml"));
            Ok(Plan { command, ready: vec![], litter: vec![] })
        })?;
        let kes = Self { _server: server, endpoint: format!("https://127.0.0.1:{port}"), api_key };
        let begun = Instant::now();
        // It speaks TLS only, so its own client asks whether it is there.
        while kes.run(&["status", "-k"]).is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("kes is not ready; its log:\n{}", kes._server.log()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(kes)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let out = Command::new(servers::tool("kes")?)
            .args(arguments)
            .env("MINIO_KES_SERVER", &self.endpoint)
            .env("MINIO_KES_API_KEY", &self.api_key)
            .output()
            .map_err(|why| why.to_string())?;
        match out.status.success() {
            true => Ok(String::from_utf8(out.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments).unwrap()).unwrap()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

async fn together(bao: &Bao, mount: &str, version: u8, seal: bool) -> Result<(), String> {
    bao.mount_kv(mount, version);
    let mut policy = documented(&format!("s3veil-kv-{version}-admin"), "kv", mount);
    let mut settings = String::new();
    if seal {
        let transit = format!("{mount}-transit");
        bao.mount_transit(&transit);
        bao.root("POST", &format!("{transit}/keys/seal"), json!({}));
        policy.push_str(&documented("s3veil-kv-sealed", "transit", &transit));
        settings = format!("transit = {{ mount = '{transit}', key = 'seal' }}");
    }
    bao.policy(mount, &policy);
    // KES renews its token by the rights that `default` gives.
    let (id, secret) = bao.app_role(mount, json!({ "token_policies": [mount] }));
    let kes = Kes::start(bao, mount, version, seal, &id, &secret)?;
    let auth = format!("method = 'approle', mount = '{mount}', role_id = '{id}', secret_id = '{secret}'");
    let kms = build(&format!(
        "kind = 'vault-kv'\nendpoint = 'http://127.0.0.1:{}'\nmount = '{mount}'\nprefix = 's3veil'\n\
         version = {version}\n{settings}\nauth = {{ {auth} }}",
        bao.port
    ))?;
    kes.run(&["key", "create", "-k", "of-kes"])?;
    kms.create(&ek("of-s3veil")).await.unwrap();
    assert_eq!(kms.list().await, Ok(vec![ek("of-kes"), ek("of-s3veil")]));
    let canonical = BASE64_STANDARD.encode(context("one").canonical());
    for name in ["of-kes", "of-s3veil"] {
        // Wrapped by s3veil, unwrapped by KES.
        let made = kms.generate(&ek(name), &context("one")).await.unwrap();
        let wrapped = BASE64_STANDARD.encode(made.wrapped.as_bytes());
        let opened = kes.json(&["key", "decrypt", "-k", name, &wrapped, &canonical]);
        assert!(made.dek.is_same(&Dek::try_from(bytes(&opened["plaintext"]).as_slice()).unwrap()));
        // And the other way round.
        let made = kes.json(&["key", "dek", "-k", name, &canonical]);
        let wrapped = WrappedDek::new(bytes(&made["ciphertext"]));
        let opened = kms.unwrap(&ek(name), None, &wrapped, &context("one")).await.unwrap();
        assert!(opened.is_same(&Dek::try_from(bytes(&made["plaintext"]).as_slice()).unwrap()));
    }
    if seal {
        for name in ["of-kes", "of-s3veil"] {
            let answer = bao.root("GET", &format!("{mount}/data/s3veil/{name}"), Value::Null);
            let secret = answer["data"]["data"][name].as_str().unwrap();
            assert!(secret.starts_with("vault:v1:"), "{name} is sealed");
        }
        // Who takes away the seal locks all EKs at once.
        bao.root("DELETE", &format!("{mount}-transit/keys/seal/soft-delete"), Value::Null);
        let answer = kms.generate(&ek("of-kes"), &context("one")).await.map(|_| ());
        assert_eq!(answer, Err(Error::Disabled(ek("of-kes"))));
        return Ok(());
    }
    // Neither overwrites the other's, and what one deletes is gone for the other.
    assert!(kes.run(&["key", "create", "-k", "of-s3veil"]).is_err());
    assert!(kms.create(&ek("of-kes")).await.is_err());
    kes.run(&["key", "rm", "-k", "of-s3veil"])?;
    assert_eq!(kms.list().await, Ok(vec![ek("of-kes")]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kes_and_s3veil_use_each_others_eks() {
    let bao = match shared() {
        Ok(bao) => bao,
        Err(why) => return servers::skip(&why),
    };
    if let Err(why) = servers::tool("kes") {
        return servers::skip(&why);
    }
    for (mount, version, seal) in [("kes-1", 1, false), ("kes-2", 2, false), ("kes-sealed", 2, true)] {
        together(bao, mount, version, seal).await.unwrap();
    }
}
