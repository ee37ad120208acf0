//! The real program, told of its KMS by MinIO's environment alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::{Context, Error, WrappedDek};

use crate::common::{build, ek};
use crate::kes_server::{ADMIN, Estate, Kes, STRANGER, api_key};
use crate::servers;
use crate::support::client::{get, put, send_as};
use crate::support::memory::MemoryStore;
use crate::support::program::Program;
use crate::support::proxy::{ACCESS_KEY, SECRET_KEY, pattern};

/// The EK of MinIO's variables.
const EK: &str = "minio-key";

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

/// A configuration without a word of a KMS or a policy. `store`: the inside of the table.
fn configure(directory: &Path, store: &str) -> PathBuf {
    let text = format!(
        r#"
        log.level = "warn"
        auth.identities = [{{ name = "t", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
        store = {{ {store} }}
        "#
    );
    let file = directory.join("proxy.toml");
    fs::write(&file, text).unwrap();
    file
}

/// MinIO's variables for this KES, but for the credential.
fn variables(estate: &Estate, kes: &Kes) -> Vec<(&'static str, String)> {
    vec![
        // A pattern, and an endpoint that nobody listens at, which is not asked before it must be.
        ("MINIO_KMS_KES_ENDPOINT", format!("https://127.0.0.{{1...1}}:{}, https://127.0.0.1:1", kes.port)),
        ("MINIO_KMS_KES_KEY_NAME", EK.to_owned()),
        ("MINIO_KMS_KES_CAPATH", estate.path("server.crt").display().to_string()),
    ]
}

/// A client certificate as MinIO's variables name it.
fn certificate(estate: &Estate, name: &str) -> [(&'static str, String); 2] {
    let path = |end| estate.path(&format!("{name}.{end}")).display().to_string();
    [("MINIO_KMS_KES_CERT_FILE", path("crt")), ("MINIO_KMS_KES_KEY_FILE", path("key"))]
}

fn password() -> (&'static str, String) {
    ("MINIO_KMS_KES_KEY_PASSWORD", "secret".to_owned())
}

#[tokio::test]
async fn kes_of_minios_environment_seals_every_bucket() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        r#"endpoint = "{}", credentials.default = {{ access_key = "store", secret_key = "store-secret" }}"#,
        store.endpoint
    );
    let configuration = configure(directory.path(), &settings);
    let with = |more: &[(&'static str, String)]| [&variables(&estate, &kes), more].concat();
    let by_api_key = with(&[("MINIO_KMS_KES_API_KEY", ADMIN.to_owned())]);
    let by_certificate = with(&certificate(&estate, "client"));
    let by_password = [with(&certificate(&estate, "password")), vec![password()]].concat();

    let created = key(&configuration, &by_api_key, &["create", EK]);
    assert_eq!(created, (true, "created 'minio-key'\n".to_owned()));
    let (listed, text) = key(&configuration, &by_certificate, &["list"]);
    assert!(listed && text.starts_with("minio-key ") && text.contains("enabled"), "{text}");
    let (done, text) = key(&configuration, &by_password, &["disable", EK]);
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

/// MinIO itself, with the same variables: the same KES, the same EK, the same wrapped DEKs.
#[tokio::test]
async fn kes_of_minios_environment_is_minios_own() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let service = build(&estate.settings(&[kes.endpoint()], &api_key(ADMIN))).unwrap();
    service.create(&ek(EK)).await.unwrap();
    let variables =
        [variables(&estate, &kes), certificate(&estate, "password").to_vec(), vec![password()]].concat();
    let minio = match servers::minio_with(&variables) {
        Ok(minio) => minio,
        Err(why) => return servers::skip(&why),
    };
    // It says that it is ready before it has asked KES for what it keeps its own settings with.
    let begun = Instant::now();
    while send_as(minio.signer(), minio.address(), "PUT", "/plain", &[], b"").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", minio.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let headers = [("x-amz-server-side-encryption", "AES256")];
    let path = "/plain/dir/object";
    let reply = send_as(minio.signer(), minio.address(), "PUT", path, &headers, b"MinIO's").await;
    assert_eq!(reply.status, 200, "{} {}", reply.code(), minio.log());

    // What MinIO had KES wrap for an object of its own.
    let stored = fs::read(minio.directory().join("data/plain/dir/object/xl.meta")).unwrap();
    let wrapped = WrappedDek::new(BASE64_STANDARD.decode(sealed_key(&stored)).unwrap());
    let context = Context::default().with("plain", "plain/dir/object");
    let files = build(&estate.files()).unwrap();
    let dek = files.unwrap(&ek(EK), None, &wrapped, &context).await.unwrap();
    assert!(dek.is_same(&service.unwrap(&ek(EK), None, &wrapped, &context).await.unwrap()));
    let other = Context::default().with("plain", "plain/dir/other");
    for kms in [&files, &service] {
        let refused = kms.unwrap(&ek(EK), None, &wrapped, &other).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    }

    // And s3veil in front of it, told by the same variables.
    let directory = tempfile::tempdir().unwrap();
    let configuration = configure(directory.path(), &minio.settings());
    let program = Program::start_with(&configuration, Program::free_address(), &variables);
    let body = pattern(100_000);
    assert_eq!(put(program.address, "/plain/sealed", &body).await.status, 200);
    assert_eq!(get(program.address, "/plain/sealed").await.bytes(), body);
    let raw = send_as(minio.signer(), minio.address(), "GET", "/plain/sealed", &[], b"").await;
    assert!(raw.status == 200 && !raw.bytes().windows(64).any(|piece| piece == &body[1000..1064]));
}

/// The wrapped DEK in an `xl.meta`: the MessagePack string that follows its name, of up to 255 bytes.
fn sealed_key(meta: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"-Server-Side-Encryption-S3-Kms-Sealed-Key";
    let at = meta.windows(NAME.len()).position(|name| name.eq_ignore_ascii_case(NAME)).unwrap();
    let value = &meta[at + NAME.len()..];
    assert!(matches!(value[0], 0xc4 | 0xd9), "{:x}", value[0]);
    &value[2..][..value[1].into()]
}
