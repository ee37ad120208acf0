//! Azure Key Vault and Managed HSM, against a vault of the tests' own (`azure_vault`).

use std::cell::Cell;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::{EkName, Error, Kms, State, WrappedDek};
use s3veil::seal::Dek;
use serde_json::json;

use crate::azure_vault::Azure;
use crate::common::{build, context, ek};
use crate::kms_contract::{ALL, Limits, check};
use crate::servers;

pub const KEYS: &str = "kind = \"azure-keys\"\n";
pub const SECRETS: &str = "kind = \"azure-secrets\"\n";

/// There is no associated data. RSA says no slowly, so not every byte is changed.
const KEY_LIMITS: Limits = Limits { binds_context: false, stride: 16, ..ALL };
const SECRET_LIMITS: Limits = Limits { can_rotate: false, ..ALL };

pub fn kms(azure: &Azure, kind: &str, more: &str) -> Box<dyn Kms> {
    build(&format!("{kind}{}{more}", azure.settings())).unwrap()
}

/// A KMS with the EK `a`.
pub async fn with_key(azure: &Azure) -> Box<dyn Kms> {
    let kms = kms(azure, KEYS, "");
    kms.create(&ek("a")).await.unwrap();
    kms
}

pub async fn generate(kms: &dyn Kms, name: &str) -> Result<s3veil::kms::DataKey, Error> {
    kms.generate(&ek(name), &context("one")).await
}

pub fn malformed<T: std::fmt::Debug>(answer: Result<T, Error>, part: &str) {
    assert!(matches!(&answer, Err(Error::Malformed(why)) if why.contains(part)), "{part}: {answer:?}");
}

pub fn denied<T: std::fmt::Debug>(answer: Result<T, Error>, part: &str) {
    assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains(part)), "{part}: {answer:?}");
}

pub fn unavailable<T: std::fmt::Debug>(answer: Result<T, Error>, part: &str) {
    assert!(matches!(&answer, Err(Error::Unavailable(why)) if why.contains(part)), "{part}: {answer:?}");
}

#[tokio::test]
async fn the_contract_of_keys_that_can_be_recovered() {
    let azure = Azure::start().await;
    check(&*kms(&azure, KEYS, ""), Limits { delete_waits: true, ..KEY_LIMITS }).await;
}

#[tokio::test]
async fn the_contract_of_keys_that_are_purged() {
    let azure = Azure::start().await;
    check(&*kms(&azure, KEYS, "purge = true\n"), KEY_LIMITS).await;
}

#[tokio::test]
async fn the_contract_of_a_managed_hsm() {
    let azure = Azure::of("https://managedhsm.azure.net").await;
    let kms = kms(&azure, KEYS, "purge = true\n");
    check(&*kms, Limits { stride: 1, ..KEY_LIMITS }).await;
    kms.create(&ek("a")).await.unwrap();
    assert_eq!(generate(&*kms, "a").await.unwrap().wrapped.as_bytes().len(), 40, "A256KW");
}

#[tokio::test]
async fn the_contract_of_secrets() {
    let azure = Azure::start().await;
    check(&*kms(&azure, SECRETS, ""), SECRET_LIMITS).await;
}

#[tokio::test]
async fn the_contract_of_secrets_that_can_be_recovered() {
    let azure = Azure::start().await;
    check(&*kms(&azure, SECRETS, "purge = false\n"), Limits { delete_waits: true, ..SECRET_LIMITS }).await;
}

/// The bytes that docs/kms/azure.md promises.
#[tokio::test]
async fn a_wrapped_dek_is_as_long_as_the_modulus() {
    for (bits, bytes) in [(2048, 256), (3072, 384), (4096, 512)] {
        let azure = Azure::start().await;
        let kms = kms(&azure, KEYS, &format!("key_size = {bits}\n"));
        kms.create(&ek("a")).await.unwrap();
        let made = generate(&*kms, "a").await.unwrap();
        assert_eq!((made.wrapped.as_bytes().len(), made.version.unwrap().len()), (bytes, 32));
    }
}

/// K-12: Azure wraps with a disabled key, so it is s3veil that must not.
#[tokio::test]
async fn a_disabled_key_neither_unwraps_nor_wraps() {
    let azure = Azure::start().await;
    let kms = with_key(&azure).await;
    let made = generate(&*kms, "a").await.unwrap();
    azure.state().set("keys", "a", "enabled", json!(false));
    let wraps = azure.state().count("wrapkey");
    assert_eq!(generate(&*kms, "a").await.map(drop), Err(Error::Disabled(ek("a"))));
    assert_eq!(azure.state().count("wrapkey"), wraps, "it was not even asked");
    let unwrapped = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
    assert_eq!(unwrapped.map(drop), Err(Error::Disabled(ek("a"))));

    // The vault itself would have wrapped: told that the key is enabled, s3veil gets its DEK.
    azure.state().lie = Some(Box::new(|_, answer| {
        if answer["key"].is_object() {
            answer["attributes"]["enabled"] = json!(true);
        }
    }));
    assert!(generate(&*kms, "a").await.is_ok());
}

#[tokio::test]
async fn disabling_reaches_every_version() {
    let azure = Azure::start().await;
    let kms = with_key(&azure).await;
    let mut made = vec![generate(&*kms, "a").await.unwrap()];
    for _ in 0..4 {
        kms.rotate(&ek("a")).await.unwrap();
        made.push(generate(&*kms, "a").await.unwrap());
    }
    let opens = async |made: &s3veil::kms::DataKey| {
        kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await.map(drop)
    };
    // As the portal does it: the current version alone. Old objects still open, and the EK does not count as locked.
    azure.state().set("keys", "a", "enabled", json!(false));
    assert_eq!(generate(&*kms, "a").await.map(drop), Err(Error::Disabled(ek("a"))));
    assert_eq!(opens(&made[0]).await, Ok(()));
    assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Enabled);
    assert_eq!(kms.rotate(&ek("a")).await, Err(Error::Disabled(ek("a"))), "a new version would be enabled");

    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Disabled);
    for made in &made {
        assert_eq!(opens(made).await, Err(Error::Disabled(ek("a"))));
    }
    kms.enable(&ek("a")).await.unwrap();
    for made in &made {
        assert_eq!(opens(made).await, Ok(()));
    }
    let info = kms.describe(&ek("a")).await.unwrap();
    assert_eq!((info.state, info.version), (State::Enabled, made[4].version.clone()));
    assert_eq!(info.created.unwrap().unix_timestamp(), 1_700_000_001, "that of the first version");
}

#[tokio::test]
async fn a_key_wraps_only_in_its_time() {
    let azure = Azure::start().await;
    let kms = with_key(&azure).await;
    let made = generate(&*kms, "a").await.unwrap();
    azure.state().set("keys", "a", "exp", json!(1_700_000_000));
    denied(generate(&*kms, "a").await, "has expired: rotate it");
    let opens = async || {
        let dek = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
        made.dek.is_same(&dek.unwrap())
    };
    assert!(opens().await, "after its end");
    azure.state().set("keys", "a", "exp", json!(4_000_000_000_u64));
    azure.state().set("keys", "a", "nbf", json!(3_900_000_000_u64));
    denied(generate(&*kms, "a").await, "may not be used yet");
    assert!(opens().await, "before its beginning");
}

#[tokio::test]
async fn deleting_takes_its_time() {
    for kind in [KEYS, SECRETS] {
        let azure = Azure::start().await;
        azure.state().slow = 2;
        let kms = kms(&azure, kind, "purge = true\n");
        kms.create(&ek("a")).await.unwrap();
        kms.delete(&ek("a")).await.unwrap();
        assert_eq!(kms.describe(&ek("a")).await, Err(Error::NoSuchKey(ek("a"))), "purged");

        // One that was deleted elsewhere: its name is taken, and deleting it again purges it.
        azure.state().slow = 0;
        let gentle = build(&format!("{kind}{}purge = false\n", azure.settings())).unwrap();
        gentle.create(&ek("b")).await.unwrap();
        gentle.delete(&ek("b")).await.unwrap();
        assert_eq!(gentle.delete(&ek("b")).await, Err(Error::NoSuchKey(ek("b"))));
        assert_eq!(gentle.describe(&ek("b")).await.unwrap().state, State::PendingDeletion);
        assert_eq!(gentle.create(&ek("b")).await, Err(Error::Exists(ek("b"))));
        kms.delete(&ek("b")).await.unwrap();
        kms.create(&ek("b")).await.unwrap();
    }
}

#[tokio::test]
async fn lies() {
    let azure = Azure::start().await;
    let kms = with_key(&azure).await;
    kms.rotate(&ek("a")).await.unwrap();
    let made = generate(&*kms, "a").await.unwrap();
    let version = made.version.as_deref();
    let unwrap = async || kms.unwrap(&ek("a"), version, &made.wrapped, &context("one")).await.map(drop);
    let older = azure.state().versions("keys", "a")[0].clone();
    let origin = azure.origin.clone();
    let lie = |field: &'static str, value: serde_json::Value| {
        azure.state().lie = Some(Box::new(move |path, answer| {
            if path.ends_with("wrapkey") {
                answer[field] = value.clone();
            }
        }));
    };
    for kid in [
        format!("{origin}/keys/a/{older}"),
        format!("{origin}/keys/b/{}", version.unwrap()),
        format!("https://other.vault.azure.net/keys/a/{}", version.unwrap()),
        format!("{origin}/keys/a"),
    ] {
        lie("kid", json!(kid));
        malformed(generate(&*kms, "a").await, "");
        malformed(unwrap().await, "");
    }
    for bytes in [0, 16, 31, 33, 4096] {
        lie("value", json!(BASE64_STANDARD.encode(vec![b'a'; bytes]).replace('=', "")));
        malformed(unwrap().await, &format!("a DEK of {bytes} bytes"));
        malformed(generate(&*kms, "a").await, &format!("a wrapped DEK of {bytes} bytes"));
    }
    lie("value", json!("AAAA".repeat(2 << 20)));
    malformed(unwrap().await, "longer than 4 MiB");
    lie("value", json!(7));
    malformed(unwrap().await, "");
    azure.state().lie = None;
    assert_eq!(unwrap().await, Ok(()));

    // A version that is no version leads nowhere.
    let asked = azure.state().seen.len();
    for version in ["", "..", "../../secrets/x", "0/1", "a?b", &"a".repeat(65)] {
        malformed(
            kms.unwrap(&ek("a"), Some(version), &made.wrapped, &context("one")).await,
            "in that version",
        );
    }
    malformed(kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await, "in that version");
    malformed(
        kms.unwrap(&ek("a"), version, &WrappedDek::new([0; 255]), &context("one")).await,
        "in that version",
    );
    assert_eq!(azure.state().seen.len(), asked, "none of it was asked");
}

#[tokio::test]
async fn refusals_and_what_may_differ_next_time() {
    let azure = Azure::start().await;
    let kms = with_key(&azure).await;
    let made = generate(&*kms, "a").await.unwrap();
    let refuse = |part, status, inner| azure.state().refuse = Some((part, status, inner));
    let unwrap = async || {
        kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await.map(drop)
    };
    for status in [408, 429, 500, 502, 503] {
        refuse("wrapkey", status, "");
        unavailable(unwrap().await, &status.to_string());
        unavailable(generate(&*kms, "a").await, &status.to_string());
    }
    refuse("wrapkey", 403, "ForbiddenByPolicy");
    denied(unwrap().await, "403 Forbidden ForbiddenByPolicy The test says so.");
    denied(generate(&*kms, "a").await, "ForbiddenByPolicy");
    refuse("unwrapkey", 403, "KeyDisabled");
    assert_eq!(unwrap().await, Err(Error::Disabled(ek("a"))));
    refuse("TOKEN", 503, "");
    unavailable(generate(&*build(&format!("{KEYS}{}", azure.settings())).unwrap(), "a").await, "503");
    refuse("DELETE /deletedkeys", 403, "ForbiddenByPolicy");
    let purges = build(&format!("{KEYS}{}purge = true\n", azure.settings())).unwrap();
    denied(purges.delete(&ek("a")).await, "ForbiddenByPolicy");
    assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::PendingDeletion, "deleted all the same");
}

/// The layout is KES's: base64 in the secret's first version, whatever comes after it.
#[tokio::test]
async fn the_first_version_of_a_secret_counts() {
    let azure = Azure::start().await;
    let kms = kms(&azure, SECRETS, "");
    kms.create(&ek("a")).await.unwrap();
    let made = generate(&*kms, "a").await.unwrap();
    for _ in 0..3 {
        azure.state().add_secret("a", "something else");
    }
    let unwrapped = kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await;
    assert!(made.dek.is_same(&unwrapped.unwrap()));
    // The lock is that of the first version, too.
    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(generate(&*kms, "a").await.map(drop), Err(Error::Disabled(ek("a"))));
    kms.enable(&ek("a")).await.unwrap();
    // A list that is not of now says enabled; the secret itself is refused.
    azure.state().refuse = Some(("GET /secrets/a/0", 403, "SecretDisabled"));
    assert_eq!(generate(&*kms, "a").await.map(drop), Err(Error::Disabled(ek("a"))));
}

#[tokio::test]
async fn two_that_create_a_secret_at_once() {
    let azure = Azure::start().await;
    let kms = kms(&azure, SECRETS, "");
    let name = ek("a");
    let results = tokio::join!(kms.create(&name), kms.create(&name), kms.create(&name));
    let won = [&results.0, &results.1, &results.2].iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
}

/// Azure tells whole seconds, so one that came later may be the first all the same, by its id.
#[tokio::test]
async fn a_secret_of_the_same_second_comes_first() {
    let azure = Azure::start().await;
    let kms = kms(&azure, SECRETS, "");
    let begun = Instant::now();
    kms.create(&ek("a")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second is over");

    // Lists of versions: before there are any, after s3veil has set its own, when the second is over.
    let (lists, origin) = (Cell::new(0), azure.origin.clone());
    azure.state().lie = Some(Box::new(move |path, answer| {
        lists.set(lists.get() + usize::from(path == "/secrets/b/versions"));
        if let Some(items) = answer["value"].as_array_mut().filter(|_| lists.get() == 3) {
            let mut other = items[0].clone();
            other["id"] = json!(format!("{origin}/secrets/b/{}", "0".repeat(32)));
            items.push(other);
        }
    }));
    assert_eq!(kms.create(&ek("b")).await, Err(Error::Exists(ek("b"))));

    // Which one is the first is not guessed.
    azure.state().lie = Some(Box::new(|_, answer| {
        for item in answer["value"].as_array_mut().into_iter().flatten() {
            item["attributes"].as_object_mut().unwrap().remove("created");
        }
    }));
    malformed(generate(&*kms, "a").await, "does not say when");
}

#[tokio::test]
async fn names_that_azure_cannot_have() {
    let azure = Azure::start().await;
    let kms = kms(&azure, KEYS, "keys = { my_key = \"other-name\" }\n");
    kms.create(&ek("my_key")).await.unwrap();
    kms.create(&ek("plain")).await.unwrap();
    assert!(generate(&*kms, "my_key").await.is_ok());
    let mut names: Vec<EkName> = vec![ek("my_key"), ek("plain")];
    names.sort();
    assert_eq!(kms.list().await, Ok(names));
    assert_eq!(azure.state().versions("keys", "other-name").len(), 1);
    denied(kms.create(&ek("not_there")).await, "names at Azure have no '_'");
}

#[test]
fn settings_that_cannot_be_used() {
    let vault = "vault = \"https://a.vault.azure.net\"\n";
    let login = "tenant_id = \"t\"\nclient_id = \"c\"\nclient_secret = \"s\"\n";
    for (kind, settings, part) in [
        (
            KEYS,
            "vault = \"a.vault.azure.net\"\n",
            "vault: 'a.vault.azure.net' is not an address. Write https://NAME",
        ),
        (KEYS, "vault = \"http://a.vault.azure.net\"\n", "is not https. Write https://NAME.vault.azure.net"),
        (KEYS, "vault = \"https://10.0.0.1\"\n", "audience: missing"),
        (KEYS, &format!("{vault}authority = \"login\"\n"), "authority: 'login' is not an address"),
        (
            KEYS,
            &format!("{vault}key_size = 1024\n"),
            "key_size: 1024 is no size of such a key. Write one of [2048",
        ),
        (
            KEYS,
            &format!("{vault}key_type = \"oct-HSM\"\n"),
            "key_type: 'oct-HSM' can't be used there. Write \"RSA\"",
        ),
        (SECRETS, &format!("{vault}key_size = 2048\n"), "key_size: only for kind = \"azure-keys\""),
        (SECRETS, "vault = \"https://a.managedhsm.azure.net\"\n", "keeps no secrets. Name a Key Vault"),
        (KEYS, &format!("{vault}client_secret = \"s\"\n"), "tenant_id: missing"),
        (
            KEYS,
            &format!("{vault}auth = \"client-secret\"\ntenant_id = \"t\"\nclient_id = \"c\"\n"),
            "client_secret: missing",
        ),
        (
            KEYS,
            &format!("{vault}{login}auth = \"azure-cli\"\n"),
            "client_secret: only for auth = \"client-secret\"",
        ),
        (KEYS, &format!("{vault}{}", login.replace("\"t\"", "\"a/b\"")), "invalid tenant ID a/b"),
        (
            KEYS,
            &format!("{vault}{}", login.replace("\"s\"", "{ file = \"/no/such\" }")),
            "client_secret: cannot read the secret file /no/such",
        ),
        (KEYS, &format!("{vault}federated_token_file = \"/no/such\"\n"), "federated_token_file: cannot read"),
        (KEYS, &format!("{vault}ca_file = \"/no/such\"\n"), "ca_file: '/no/such'"),
        (KEYS, &format!("{vault}keys = {{ a = \"b/c\" }}\n"), "keys: 'b/c' for 'a' is no name at Azure"),
    ] {
        let why = build(&format!("{kind}{settings}")).map(drop).unwrap_err();
        assert!(why.contains("kms.test: ") && why.contains(part), "{settings}: {why}");
    }
    let unknown = build(&format!("{KEYS}{vault}tenant = \"t\"\n")).map(drop).unwrap_err();
    assert!(unknown.contains("tenant"), "{unknown}");
}

/// Microsoft's own client opens what s3veil wrapped, wraps what s3veil opens, and reads the vault of these tests as it reads
/// Azure's: what holds for it holds for that client, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_microsofts_own_client() {
    let python = match servers::tool("azure-python") {
        Ok(python) => python,
        Err(why) => return servers::skip(&why),
    };
    let azure = Azure::start().await;
    let (kms, secrets) = (with_key(&azure).await, kms(&azure, SECRETS, ""));
    for _ in 0..2 {
        kms.rotate(&ek("a")).await.unwrap();
    }
    secrets.create(&ek("a")).await.unwrap();
    let made = generate(&*kms, "a").await.unwrap();
    let version = made.version.as_deref();
    let sealed = generate(&*secrets, "a").await.unwrap();
    let question = json!({
        "vault": azure.origin,
        "token": azure.state().token(),
        "version": version,
        "versions": azure.state().versions("keys", "a"),
        "wrapped": hex::encode(made.wrapped.as_bytes()),
    });
    let mut child = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kms/azure_client.py"))
        .env("REQUESTS_CA_BUNDLE", &azure.ca_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = |field: &str| hex::decode(answer[field].as_str().unwrap()).unwrap();
    assert!(made.dek.is_same(&Dek::try_from(bytes("dek").as_slice()).unwrap()));

    // That client has disabled the version at last, which locks it here too.
    let theirs = WrappedDek::new(bytes("wrapped"));
    let unwrap = async || kms.unwrap(&ek("a"), version, &theirs, &context("one")).await;
    assert_eq!(unwrap().await.map(drop), Err(Error::Disabled(ek("a"))));
    kms.enable(&ek("a")).await.unwrap();
    assert!(made.dek.is_same(&unwrap().await.unwrap()));
    let copied = secrets.unwrap(&ek("copy"), None, &sealed.wrapped, &context("one")).await;
    assert!(sealed.dek.is_same(&copied.unwrap()), "a secret that it copied is the same EK");
}
