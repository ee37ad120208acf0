//! What AWS is asked, call by call.

use std::collections::BTreeMap;
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

/// A failure after which the alias may be there all the same: what it names then is not deleted.
#[tokio::test]
async fn a_key_is_deleted_only_where_the_alias_is_not_its_own() {
    /// An AWS KMS where the alias names this key, or none, once it has failed to be made.
    fn failing(code: &'static str, then: Option<&'static str>) -> (Box<dyn Kms>, Calls) {
        let tried = Mutex::new(false);
        recording("aws-kms", "", move |operation, _| match operation {
            "DescribeKey" => match then.filter(|_| *tried.lock().unwrap()) {
                Some(id) => (200, json!({ "KeyMetadata": { "KeyId": id } })),
                None => refusal("NotFoundException"),
            },
            "CreateKey" => (200, json!({ "KeyMetadata": { "KeyId": ID } })),
            "CreateAlias" => {
                *tried.lock().unwrap() = true;
                refusal(code)
            }
            "ScheduleKeyDeletion" => refusal("AccessDeniedException"),
            other => panic!("{other}"),
        })
    }
    let deletes =
        |calls: &Calls| taken(calls).iter().any(|(operation, _)| operation == "ScheduleKeyDeletion");

    let (kms, calls) = failing("DependencyTimeoutException", Some(ID));
    assert_eq!(kms.create(&ek("main")).await, Ok(()));
    assert!(!deletes(&calls));

    let (kms, calls) = failing("DependencyTimeoutException", None);
    let Err(Error::Unavailable(why)) = kms.create(&ek("main")).await else { panic!() };
    assert!(why.contains(&format!("the new key '{ID}' is not known, so it is left")), "{why}");
    assert!(!deletes(&calls));

    let (kms, calls) = failing("DependencyTimeoutException", Some(FORMER));
    let answer = kms.create(&ek("main")).await;
    assert!(
        matches!(&answer, Err(Error::Unavailable(why)) if why.contains("DependencyTimeout")),
        "{answer:?}"
    );
    assert!(deletes(&calls));

    // Why the alias was refused is told, and not that the key could not be deleted.
    let (kms, calls) = failing("AlreadyExistsException", None);
    assert_eq!(kms.create(&ek("main")).await, Err(Error::Exists(ek("main"))));
    assert!(deletes(&calls));
}

const FORMER: &str = "ffffffff-12ab-34cd-56ef-1234567890ab";
const OLDEST: &str = "00000000-12ab-34cd-56ef-1234567890ab";

/// The keys of one EK at AWS, which changes their states as it documents.
#[derive(Default)]
struct Keys {
    states: BTreeMap<&'static str, &'static str>,
    /// The key that can't be changed.
    stuck: Option<&'static str>,
}

impl Keys {
    fn answer(&mut self, operation: &str, asked: &Value) -> (u16, Value) {
        let asked = asked["KeyId"].as_str().unwrap();
        let asked = if asked == "alias/main" { ID } else { asked };
        let Some((id, state)) = self.states.iter_mut().find(|(id, _)| **id == asked) else {
            return refusal("NotFoundException");
        };
        let next = match (operation, *state) {
            ("DescribeKey", _) => {
                return (200, json!({ "KeyMetadata": { "KeyId": id, "KeyState": state } }));
            }
            _ if self.stuck == Some(id) => return refusal("AccessDeniedException"),
            ("CancelKeyDeletion", "PendingDeletion") | ("DisableKey", "Enabled" | "Disabled") => "Disabled",
            ("EnableKey", "Enabled" | "Disabled") => "Enabled",
            ("ScheduleKeyDeletion", "Enabled" | "Disabled") => "PendingDeletion",
            _ => return refusal("KMSInvalidStateException"),
        };
        *state = next;
        (200, json!({}))
    }
}

/// An EK with two former keys, all in these states.
fn with_former_keys(states: [&'static str; 3]) -> (Box<dyn Kms>, Arc<Mutex<Keys>>) {
    let states = [ID, FORMER, OLDEST].into_iter().zip(states).collect();
    let keys = Arc::new(Mutex::new(Keys { states, stuck: None }));
    let at_aws = keys.clone();
    let more = format!(r#"keys = {{ main = ["alias/main", "{FORMER}", "{OLDEST}"] }}"#);
    let (kms, _) =
        recording("aws-kms", &more, move |operation, asked| at_aws.lock().unwrap().answer(operation, asked));
    (kms, keys)
}

fn states(keys: &Mutex<Keys>) -> [&'static str; 3] {
    [ID, FORMER, OLDEST].map(|id| keys.lock().unwrap().states[id])
}

fn stuck(keys: &Mutex<Keys>, id: Option<&'static str>) {
    keys.lock().unwrap().stuck = id;
}

const ON: &str = "Enabled";
const OFF: &str = "Disabled";
const GONE: &str = "PendingDeletion";

#[tokio::test]
async fn k_02_a_half_done_delete_can_be_finished() {
    let (kms, keys) = with_former_keys([ON; 3]);
    stuck(&keys, Some(FORMER));
    assert!(matches!(kms.delete(&ek("main")).await, Err(Error::Denied(_))));
    assert_eq!(states(&keys), [GONE, ON, GONE]);
    stuck(&keys, None);
    assert_eq!(kms.delete(&ek("main")).await, Ok(()));
    assert_eq!(states(&keys), [GONE; 3]);
    assert_eq!(kms.delete(&ek("main")).await, Err(Error::NoSuchKey(ek("main"))));
}

#[tokio::test]
async fn k_01_a_lock_reaches_every_key_that_is_there() {
    let (kms, keys) = with_former_keys([GONE, ON, GONE]);
    assert_eq!(kms.disable(&ek("main")).await, Ok(()));
    assert_eq!(states(&keys), [GONE, OFF, GONE]);

    let (kms, keys) = with_former_keys([ON; 3]);
    stuck(&keys, Some(ID));
    assert!(matches!(kms.disable(&ek("main")).await, Err(Error::Denied(_))));
    assert_eq!(states(&keys), [ON, OFF, OFF]);

    // AWS has destroyed the key in use, and its alias with it.
    keys.lock().unwrap().states.remove(ID);
    stuck(&keys, None);
    assert_eq!(kms.delete(&ek("main")).await, Ok(()));
    for answer in [kms.enable(&ek("main")).await, kms.disable(&ek("main")).await] {
        assert_eq!(answer, Err(Error::NoSuchKey(ek("main"))));
    }
}

#[tokio::test]
async fn k_02_enable_takes_back_what_was_deleted_with_the_ek_and_nothing_else() {
    let (kms, keys) = with_former_keys([OFF, GONE, OFF]);
    assert_eq!(kms.enable(&ek("main")).await, Ok(()));
    assert_eq!(states(&keys), [ON, GONE, ON], "it was destroyed by itself");

    let (kms, keys) = with_former_keys([GONE; 3]);
    stuck(&keys, Some(FORMER));
    assert!(matches!(kms.enable(&ek("main")).await, Err(Error::Denied(_))));
    assert_eq!(states(&keys), [GONE, GONE, ON], "the next attempt can still tell");
    stuck(&keys, None);
    assert_eq!(kms.enable(&ek("main")).await, Ok(()));
    assert_eq!(states(&keys), [ON; 3]);
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
