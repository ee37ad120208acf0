//! What AWS is asked, call by call.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use s3veil::kms::{Error, Kms, WrappedDek};
use serde_json::{Value, json};

use crate::aws::{ID, arn, settings};
use crate::aws_server::{Asked, Fake};
use crate::common::{build, context, ek};

type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A fake, what it was asked, and the KMS in front of it.
fn recording(
    kind: &str,
    more: &str,
    answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
) -> (Box<dyn Kms>, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let fake = Fake::start(move |asked: &Asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let (status, answer) = answer(asked.operation(), &body);
        seen.lock().unwrap().push((asked.operation().to_owned(), body));
        (status, answer.to_string())
    });
    (build(&settings(kind, &fake.0, more)).unwrap(), calls)
}

fn taken(calls: &Calls) -> Vec<(String, Value)> {
    std::mem::take(&mut *calls.lock().unwrap())
}

fn refusal(code: &str) -> (u16, Value) {
    (400, json!({ "__type": code, "message": "" }))
}

#[tokio::test]
async fn one_attempt_names_the_key_and_the_context() {
    let away = |_: &str, _: &Value| (500, json!({ "__type": "KMSInternalException", "message": "" }));
    let (kms, calls) = recording("aws-kms", "", away);
    let bound = json!({ "aws:s3:arn": "arn:aws:s3:::one" });
    assert!(matches!(kms.generate(&ek("main"), &context("one")).await, Err(Error::Unavailable(_))));
    let asked = json!({ "KeyId": "alias/main", "KeySpec": "AES_256", "EncryptionContext": bound });
    assert_eq!(taken(&calls), [("GenerateDataKey".to_owned(), asked)]);

    let wrapped = WrappedDek::new(b"abc");
    let answer = kms.unwrap(&ek("main"), Some(ID), &wrapped, &context("one")).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))));
    let asked = json!({ "KeyId": "alias/main", "CiphertextBlob": "YWJj", "EncryptionContext": bound });
    assert_eq!(taken(&calls), [("Decrypt".to_owned(), asked)]);

    // What can't have been wrapped there is not sent there.
    for (version, wrapped) in [(None, "abc"), (Some("no such version"), "abc"), (Some(ID), "")] {
        let wrapped = WrappedDek::new(wrapped);
        let answer = kms.unwrap(&ek("main"), version, &wrapped, &context("one")).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{answer:?}");
    }
    assert_eq!(taken(&calls), []);
}

#[tokio::test]
async fn a_key_without_its_alias_is_not_left_behind() {
    let (kms, calls) = recording("aws-kms", "pending_window_in_days = 9", |operation, _| match operation {
        "DescribeKey" => refusal("NotFoundException"),
        "CreateAlias" => refusal("AlreadyExistsException"),
        "CreateKey" => (200, json!({ "KeyMetadata": { "KeyId": ID, "Arn": arn(ID) } })),
        _ => (200, json!({})),
    });
    assert_eq!(kms.create(&ek("main")).await, Err(Error::Exists(ek("main"))));
    let last = taken(&calls).pop().unwrap();
    let asked = json!({ "KeyId": ID, "PendingWindowInDays": 9 });
    assert_eq!(last, ("ScheduleKeyDeletion".to_owned(), asked));
}

#[tokio::test]
async fn lists_come_in_pages_and_hold_no_strangers() {
    let (kms, _) = recording("aws-kms", "keys = { listed = \"alias/team/x\" }", |_, asked| {
        let alias = |name: &str| json!({ "AliasName": name, "TargetKeyId": ID });
        match asked["Marker"].as_str() {
            None => (
                200,
                json!({
                    "Aliases": [alias("alias/b"), alias("alias/aws/s3"), { "AliasName": "alias/none" }],
                    "Truncated": true, "NextMarker": "more",
                }),
            ),
            Some("more") => (200, json!({ "Aliases": [alias("alias/a"), alias("alias/team/x")] })),
            Some(other) => panic!("{other}"),
        }
    });
    assert_eq!(kms.list().await, Ok(vec![ek("a"), ek("b"), ek("listed")]));

    let (secrets, calls) = recording("aws-secrets-manager", "prefix = \"s3veil/\"", |_, asked| {
        match asked["NextToken"].as_str() {
            None => (
                200,
                json!({ "SecretList": [{ "Name": "s3veil/b" }, { "Name": "other" }], "NextToken": "more" }),
            ),
            Some("more") => {
                (200, json!({ "SecretList": [{ "Name": "s3veil/a" }, { "Name": "s3veil/a.b" }] }))
            }
            Some(other) => panic!("{other}"),
        }
    });
    assert_eq!(secrets.list().await, Ok(vec![ek("a"), ek("b")]));
    assert_eq!(taken(&calls)[0].1["Filters"], json!([{ "Key": "name", "Values": ["s3veil/"] }]));
}

#[tokio::test]
async fn a_secret_is_kept_and_locked_as_configured() {
    let more = "prefix = \"s3veil/\"\nkms_key_id = \"alias/secrets\"\nrecovery_window_in_days = 8";
    let (secrets, calls) =
        recording("aws-secrets-manager", more, |_, _| (200, json!({ "Name": "s3veil/main" })));
    secrets.create(&ek("main")).await.unwrap();
    let (operation, asked) = taken(&calls).pop().unwrap();
    assert_eq!((&*operation, &asked["Name"]), ("CreateSecret", &json!("s3veil/main")));
    assert_eq!(asked["KmsKeyId"], "alias/secrets");

    secrets.disable(&ek("main")).await.unwrap();
    let locked = json!({ "SecretId": "s3veil/main", "RecoveryWindowInDays": 8 });
    assert_eq!(taken(&calls).pop(), Some(("DeleteSecret".to_owned(), locked)));
    secrets.delete(&ek("main")).await.unwrap();
    let erased = json!({ "SecretId": "s3veil/main", "ForceDeleteWithoutRecovery": true });
    assert_eq!(taken(&calls).pop(), Some(("DeleteSecret".to_owned(), erased)));
}

/// The key that a secret is kept under is disabled: locked, not lost.
#[tokio::test]
async fn a_secret_whose_own_key_is_disabled_is_locked() {
    let (secrets, _) = recording("aws-secrets-manager", "", |_, _| refusal("DecryptionFailure"));
    let answer = secrets.generate(&ek("main"), &context("one")).await.map(drop);
    assert_eq!(answer, Err(Error::Disabled(ek("main"))));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// AWS's clients trace whole requests, a new EK in one of them.
#[tokio::test]
async fn no_log_holds_a_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    const KEY: &str = "CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=";
    let answer = |_: &str, _: &Value| {
        let body = json!({
            "KeyId": arn(ID), "Plaintext": KEY, "CiphertextBlob": "YWJj", "Name": "main", "SecretString": KEY,
        });
        (200, body)
    };
    let (kms, _) = recording("aws-kms", "", answer);
    let made = kms.generate(&ek("main"), &context("one")).await.unwrap();
    kms.unwrap(&ek("main"), Some(ID), &made.wrapped, &context("one")).await.unwrap();
    let (secrets, calls) = recording("aws-secrets-manager", "", answer);
    secrets.create(&ek("main")).await.unwrap();
    assert!(secrets.generate(&ek("main"), &context("one")).await.is_err(), "it is no EK");
    tracing::info!("the log is this one");
    let made = taken(&calls)[0].1["SecretString"].as_str().unwrap().to_owned();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the log is this one"));
    for secret in [KEY, &made, "hidden"] {
        let at = log.find(secret);
        assert_eq!(at.map(|at| &log[at.saturating_sub(200)..at]), None);
    }
}
