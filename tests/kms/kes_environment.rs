//! The real program, told of its KMS by MinIO's environment alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kes_server::{ADMIN, Estate, STRANGER};
use crate::servers;
use crate::support::client::{get, put};
use crate::support::memory::MemoryStore;
use crate::support::program::Program;
use crate::support::proxy::{ACCESS_KEY, SECRET_KEY, pattern};

/// `s3veil key ...`: what it says, and whether it did it.
fn key(configuration: &Path, variables: &[(&str, String)], arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_s3veil"))
        .arg("key")
        .arg("--config")
        .arg(configuration)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn kes_of_minios_environment_seals_every_bucket() {
    let estate = match Estate::new() {
        Ok(estate) => estate,
        Err(why) => return servers::skip(&why),
    };
    let kes = estate.start().unwrap();
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("proxy.toml");
    // Not a word of a KMS or a policy.
    let text = format!(
        r#"
        log.level = "warn"
        auth.identities = [{{ name = "t", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
        [store]
        endpoint = "{}"
        credentials.default = {{ access_key = "store", secret_key = "store-secret" }}
        "#,
        store.endpoint
    );
    fs::write(&configuration, text).unwrap();
    let path = |name: &str| estate.path(name).display().to_string();
    let common = || {
        vec![
            // A pattern with one member, and an endpoint that nobody listens at is not asked before it must be.
            (
                "MINIO_KMS_KES_ENDPOINT",
                format!("https://127.0.0.{{1...1}}:{}, https://127.0.0.1:1", kes.port),
            ),
            ("MINIO_KMS_KES_KEY_NAME", "minio-key".to_owned()),
            ("MINIO_KMS_KES_CAPATH", path("server.crt")),
        ]
    };
    let with = |more: &[(&'static str, String)]| [common(), more.to_vec()].concat();
    let by_api_key = with(&[("MINIO_KMS_KES_API_KEY", ADMIN.to_owned())]);
    let by_certificate = with(&[
        ("MINIO_KMS_KES_CERT_FILE", path("client.crt")),
        ("MINIO_KMS_KES_KEY_FILE", path("client.key")),
    ]);
    let by_password = with(&[
        ("MINIO_KMS_KES_CERT_FILE", path("password.crt")),
        ("MINIO_KMS_KES_KEY_FILE", path("password.key")),
        ("MINIO_KMS_KES_KEY_PASSWORD", "secret".to_owned()),
    ]);

    let created = key(&configuration, &by_api_key, &["create", "minio-key"]);
    assert_eq!(created, (true, "created 'minio-key'\n".to_owned()));
    let (listed, text) = key(&configuration, &by_certificate, &["list"]);
    assert!(listed && text.starts_with("minio-key ") && text.contains("enabled"), "{text}");
    let (done, text) = key(&configuration, &by_password, &["disable", "minio-key"]);
    assert!(!done && text.contains("kind 'kes' cannot disable"), "{text}");
    let (done, text) =
        key(&configuration, &with(&[("MINIO_KMS_KES_API_KEY", STRANGER.to_owned())]), &["list"]);
    assert!(!done && text.contains("refuses access") && !text.contains(STRANGER), "{text}");
    let mut both = by_api_key.clone();
    both.extend(by_certificate[3..].iter().cloned());
    let (done, text) = key(&configuration, &both, &["list"]);
    assert!(!done && text.contains("kms.kes: api_key: ") && !text.contains(ADMIN), "{text}");

    let body = pattern(200_000);
    for (index, variables) in [&by_api_key, &by_certificate, &by_password].into_iter().enumerate() {
        let program = Program::start_with(&configuration, Program::free_address(), variables);
        let own = format!("/bucket-{index}/object");
        let reply = put(program.address, &own, &body).await;
        assert_eq!(reply.status, 200, "{} {}", reply.code(), program.log());
        // The first object is read by every later program: one EK, however s3veil shows who it is.
        for path in ["/bucket-0/object", &own] {
            assert_eq!(get(program.address, path).await.bytes(), body);
            let stored = store.get(path).unwrap().body;
            assert!(!stored.windows(64).any(|piece| piece == &body[1000..1064]), "sealed");
        }
    }

    // The same keys without KES, under the same name: the variables give way to another kind.
    let text = fs::read_to_string(&configuration).unwrap();
    let policy = r#"policy = [{ bucket = "*", ek = "minio-key" }]"#;
    fs::write(&configuration, format!("{policy}\n{text}\n[kms.kes]\n{}", estate.files())).unwrap();
    drop(kes);
    let program = Program::start_with(&configuration, Program::free_address(), &by_certificate);
    assert_eq!(get(program.address, "/bucket-0/object").await.bytes(), body);
}
