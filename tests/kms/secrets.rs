//! No secret is in a log, at any level: the trace log of a whole s3veil is searched for every one that the test knows.

use std::fs;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use s3veil::aws::sign::BodyHash;
use s3veil::kms::{EkName, Kms, WrappedDek};
use s3veil::seal::Envelope;

use crate::azure_vault::Azure;
use crate::common::{build, context};
use crate::kes_server::{ADMIN, Estate, USER, api_key};
use crate::support::client::{exchange, full, get, put, signed};
use crate::support::memory::MemoryStore;
use crate::support::program::Program;
use crate::support::proxy::{ACCESS_KEY, SECRET_KEY};
use crate::{aws, aws_server, azure, vault_server};

const STORE_SECRET: &str = "store-secret-key-of-this-test";
const AWS_SECRET: &str = "aws-secret-key-of-this-test";
const AZURE_SECRET: &str = "azure-client-secret-of-this-test";
const ADMIN_TOKEN: &str = "admin-token-of-this-test";

/// A KMS beside KES, and its section.
struct Other {
    name: &'static str,
    kms: Box<dyn Kms>,
    settings: String,
}

/// A secret in every form that a careless line could show it in.
fn forms(secret: &[u8]) -> Vec<String> {
    let mut forms = vec![
        BASE64_STANDARD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
        hex::encode(secret),
        hex::encode_upper(secret),
        // `{:?}` of bytes.
        secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
    ];
    forms.extend(std::str::from_utf8(secret).ok().map(str::to_owned));
    forms
}

/// The DEK of a stored object.
async fn dek(store: &MemoryStore, bucket: &str, kms: &dyn Kms) -> Vec<u8> {
    let stored = store.get(&format!("/{bucket}/k")).unwrap();
    let envelope = Envelope::parse(stored.headers["x-amz-meta-s3veil"].to_str().unwrap()).unwrap();
    let header = envelope.header();
    let ek = EkName::parse(&header.ek).unwrap();
    let wrapped = WrappedDek::new(header.wrapped_dek.clone());
    let dek = kms.unwrap(&ek, header.ek_version.as_deref(), &wrapped, &context(bucket)).await.unwrap();
    BASE64_STANDARD.decode(dek.to_base64().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f_18_the_trace_log_holds_no_secret() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let admin = build(&estate.settings(&[kes.endpoint()], &api_key(ADMIN))).unwrap();
    for name in ["app-main", "app-gone"] {
        admin.create(&EkName::parse(name).unwrap()).await.unwrap();
    }
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (key_file, local) = (directory.path().join("kes.key"), directory.path().join("local"));
    fs::write(&key_file, USER).unwrap();
    s3veil::kms::local::init_dev(&local).await.unwrap();
    let bao = or_skip!(vault_server::shared());
    bao.mount_transit("t-secrets");
    let rights = vault_server::documented("s3veil-transit", "transit", "t-secrets");
    let token = bao.token("t-secrets", &[rights]);
    let vault = |token: &str| {
        format!(
            "kind = 'vault-transit'\nendpoint = 'http://127.0.0.1:{}'\nmount = 't-secrets'\n\
             auth = {{ method = 'token', token = '{token}' }}",
            bao.port
        )
    };
    build(&vault(vault_server::ROOT)).unwrap().create(&EkName::parse("main").unwrap()).await.unwrap();
    let moto = or_skip!(aws_server::moto());
    let aws = aws::settings("aws-kms", &moto.endpoint, "").replace("hidden", AWS_SECRET);
    let fake_azure = Azure::start().await;
    fake_azure.state().password = AZURE_SECRET.to_owned();
    let azure = format!(
        "{}{}",
        azure::KEYS,
        fake_azure.settings().replace("\"right\"", &format!("{AZURE_SECRET:?}"))
    );
    let others = [("vault", vault(&token)), ("aws", aws), ("azure", azure)].map(|(name, settings)| Other {
        name,
        kms: build(&settings).unwrap(),
        settings,
    });
    for other in &others[1..] {
        other.kms.create(&EkName::parse("main").unwrap()).await.unwrap();
    }
    let [vault, aws, azure] = &others;
    let text = format!(
        r#"
        log.level = "trace"
        listen = "127.0.0.1:0"
        auth.identities = [{{ name = "t", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
        admin = {{ listen = "127.0.0.1:0", token = "{ADMIN_TOKEN}" }}
        [store]
        endpoint = "{}"
        credentials.default = {{ access_key = "store-access", secret_key = "{STORE_SECRET}" }}
        [kms.kes]
        {}
        [kms.local]
        kind = "local"
        path = {local:?}
        master_key = {{ file = {:?} }}
        [kms.vault]
        {}
        [kms.aws]
        {}
        [kms.azure]
        {}
        [[policy]]
        bucket = "vault"
        kms = "vault"
        ek = "main"
        [[policy]]
        bucket = "aws"
        kms = "aws"
        ek = "main"
        [[policy]]
        bucket = "azure"
        kms = "azure"
        ek = "main"
        [[policy]]
        bucket = "bucket"
        kms = "kes"
        ek = "app-main"
        [[policy]]
        bucket = "cold"
        kms = "kes"
        ek = "app-gone"
        [[policy]]
        bucket = "local"
        kms = "local"
        ek = "s3veil-dev-key"
        "#,
        store.endpoint,
        estate.settings(&[kes.endpoint()], &format!("api_key = {{ file = {key_file:?} }}")),
        local.join("master.key"),
        vault.settings,
        aws.settings,
        azure.settings,
    );
    let configuration = directory.path().join("proxy.toml");
    fs::write(&configuration, text).unwrap();
    let mut program = Program::start(&configuration);

    for path in ["/bucket/k", "/local/k", "/vault/k", "/aws/k", "/azure/k"] {
        assert_eq!(put(program.address, path, b"hello").await.status, 200, "{}", program.log());
        assert_eq!(get(program.address, path).await.bytes(), b"hello");
    }
    // And what goes wrong: a damaged envelope, a wrong signature, a KMS that is away.
    store.change("/bucket/k", |object| {
        let text = object.headers["x-amz-meta-s3veil"].to_str().unwrap().replace('A', "B");
        object.headers.insert("x-amz-meta-s3veil", text.parse().unwrap());
    });
    assert!(!get(program.address, "/bucket/k").await.status.is_success());
    assert_eq!(put(program.address, "/bucket/k", b"again").await.status, 200);
    let mut secrets: Vec<(&str, Vec<u8>)> = vec![
        ("a client's secret key", SECRET_KEY.into()),
        ("the store's secret key", STORE_SECRET.into()),
        ("the admin token", ADMIN_TOKEN.into()),
        ("KES's API key", USER.into()),
        ("the seed in it", BASE64_STANDARD.decode(&USER["kes:v1:".len()..]).unwrap()[1..].to_vec()),
        ("the master key", hex::decode(fs::read_to_string(local.join("master.key")).unwrap()).unwrap()),
        ("a DEK", dek(&store, "bucket", admin.as_ref()).await),
    ];
    secrets.extend([
        ("Vault's token", token.into()),
        ("AWS's secret key", AWS_SECRET.into()),
        ("Azure's client secret", AZURE_SECRET.into()),
    ]);
    for other in &others {
        secrets.push(("a DEK", dek(&store, other.name, other.kms.as_ref()).await));
    }
    let ek = fs::read_to_string(estate.path("keys").join("app-main")).unwrap();
    secrets.push(("an EK as KES stores it", ek.clone().into()));
    // KeyVersion { 1: SecretKey { 1: key[32], ... } }, `docs/kms/local.md`.
    secrets.push(("an EK", BASE64_STANDARD.decode(ek.trim()).unwrap()[4..36].to_vec()));
    let forged = signed(program.address, "GET", "/bucket/k", &[("x-amz-meta-x", "y")], BodyHash::Unsigned);
    let mut forged = forged.map(|()| full(""));
    forged.headers_mut().insert("x-amz-meta-x", "z".parse().unwrap());
    assert_eq!(exchange(program.address, forged).await.unwrap().code(), "SignatureDoesNotMatch");
    drop(kes);
    assert_eq!(put(program.address, "/cold/k", b"x").await.status, 503);
    program.kill();

    let log = program.log();
    // What libraries tell in detail is left out for just this reason; the rest is there.
    assert!(log.contains(" DEBUG hyper_util") && !log.contains(" TRACE h"), "{log}");
    for (what, secret) in secrets {
        for form in forms(&secret) {
            assert!(!log.contains(&form), "{what} is in the log");
        }
    }
}
