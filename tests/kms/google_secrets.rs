//! Google Secret Manager: the contract, the layout that MinIO KES has, and answers that lie.
//!
//! Against the server of the tests' own (`google_server`).

use s3veil::kms::{Error, Kms};
use serde_json::{Value, json};

use crate::common::{build, context, ek};
use crate::google_server::{Google, Reply};
use crate::kms_contract::{self, ALL, Limits};

/// What happens to an answer, and whether it may pass.
type Lie = (fn(&mut Value), bool);

fn open(google: &Google, more: &str) -> Box<dyn Kms> {
    let kind = "kind = 'google-secret-manager'\nproject = 'p'\nanonymous = true";
    build(&format!("{kind}\nendpoint = '{}'\n{more}", google.endpoint)).unwrap()
}

#[tokio::test]
async fn google_secret_manager_keeps_the_contract() {
    let google = Google::start().await;
    let kms = open(&google, "");
    assert!(google.with(|world| world.seen.is_empty()), "nothing is asked before the first use");
    kms_contract::check(kms.as_ref(), Limits { can_rotate: false, ..ALL }).await;
}

/// minio/kes, `internal/keystore/gcp`: replicated automatically, read from version 1. The secret is in KES's older
/// form, with a key of its tests'.
#[tokio::test]
async fn google_secret_manager_is_laid_out_as_kes_does() {
    let google = Google::start().await;
    let kms = open(&google, "");
    kms.create(&ek("made")).await.unwrap();
    google.with(|world| {
        let made = &world.secrets["made"];
        assert_eq!(made.replication, json!({ "automatic": {} }));
        assert_eq!(made.versions.len(), 1);
        let text =
            r#"{"bytes":"dDHbTWgo+Yh3u804SYB5OyVMy6RiLeJYBQth1f6KlEU=","algorithm":"AES256-GCM_SHA256"}"#;
        let kes = crate::google_server::Secret {
            replication: Value::Null,
            versions: vec![(text.into(), 1), (b"not the first".to_vec(), 1)],
        };
        world.secrets.insert("kes".into(), kes);
    });
    assert_eq!(kms.list().await, Ok(vec![ek("kes"), ek("made")]));
    let made = kms.generate(&ek("kes"), &context("one")).await.unwrap();
    assert_eq!(made.wrapped.as_bytes().len(), 76);

    let somewhere = open(&google, "locations = ['europe-west3', 'europe-west4']");
    somewhere.create(&ek("here")).await.unwrap();
    let replicas = json!([{ "location": "europe-west3" }, { "location": "europe-west4" }]);
    google.with(|world| {
        assert_eq!(world.secrets["here"].replication, json!({ "userManaged": { "replicas": replicas } }));
    });
}

#[tokio::test]
async fn google_secret_manager_leaves_nothing_in_the_way_of_a_second_attempt() {
    let google = Google::start().await;
    let kms = open(&google, "");
    google.refuse(":addVersion", 403, "PERMISSION_DENIED", "no");
    assert!(matches!(kms.create(&ek("a")).await, Err(Error::Denied(_))));
    assert!(google.with(|world| world.secrets.is_empty()));
    google.with(|world| world.twist = None);
    kms.create(&ek("a")).await.unwrap();

    google.with(|world| world.secrets.get_mut("a").unwrap().destroy());
    let gone = Error::NoSuchKey(ek("a"));
    assert_eq!(kms.generate(&ek("a"), &context("one")).await.map(drop), Err(gone.clone()));
    assert_eq!(kms.describe(&ek("a")).await.map(drop), Err(gone));
}

/// Deleting is final at Google, so an EK that may be there is not deleted: it is looked for.
#[tokio::test]
async fn google_secret_manager_keeps_an_ek_whose_answer_was_lost() {
    let google = Google::start().await;
    let kms = open(&google, "");
    let lost: [fn(&mut Reply); 2] =
        [|reply| *reply = (503, json!({})), |reply| *reply = (200, json!("no object"))];
    for (lose, name) in lost.into_iter().zip(["a", "b"]) {
        google.twist(":addVersion", lose);
        assert_eq!(kms.create(&ek(name)).await, Ok(()), "it was made all the same");
        assert!(kms.generate(&ek(name), &context("one")).await.is_ok());
    }

    // It can't be looked for, or is not there yet.
    for (status, name) in [(503, "c"), (404, "d")] {
        google.with(|world| {
            world.twist = Some(Box::new(move |path, reply| match path {
                _ if path.ends_with(":addVersion") => *reply = (503, json!({})),
                _ if path.ends_with(":access") => *reply = (status, json!({})),
                _ => {}
            }));
        });
        match kms.create(&ek(name)).await {
            Err(Error::Unavailable(why)) => {
                assert!(why.contains(&format!("s3veil key info {name}")), "{why}")
            }
            other => panic!("{other:?}"),
        }
        google.with(|world| world.twist = None);
        assert!(kms.generate(&ek(name), &context("one")).await.is_ok(), "nothing was deleted");
    }
    assert!(google.with(|world| world.seen.iter().all(|seen| !seen.starts_with("DELETE"))));

    // A version that someone else has put there.
    google.with(|world| {
        world.twist = Some(Box::new(|path, reply| {
            if path.ends_with(":addVersion") {
                *reply = (503, json!({}));
            } else if path.ends_with(":access") {
                reply.1["payload"] = json!({ "data": "", "dataCrc32c": "0" });
            }
        }));
    });
    assert_eq!(kms.create(&ek("e")).await, Err(Error::Exists(ek("e"))));
}

#[tokio::test]
async fn google_secret_manager_answers_that_lie_are_not_believed() {
    let google = Google::start().await;
    let kms = open(&google, "");
    kms.create(&ek("a")).await.unwrap();
    kms.create(&ek("b")).await.unwrap();
    let cases: [Lie; 6] = [
        (|answer| answer["payload"]["dataCrc32c"] = json!("1"), true),
        (|answer| answer["payload"]["data"] = json!("AAAA"), true),
        (|answer| answer["payload"]["dataCrc32c"] = Value::Null, false),
        (|answer| answer["payload"] = Value::Null, false),
        (|answer| answer["name"] = json!("projects/1234/secrets/b/versions/1"), false),
        (|answer| answer["name"] = json!("projects/1234/secrets/a/versions/2"), false),
    ];
    for (at, (lie, may_pass)) in cases.into_iter().enumerate() {
        google.twist(":access", move |reply| lie(&mut reply.1));
        let answer = kms.generate(&ek("a"), &context("one")).await.map(drop);
        match answer {
            Err(Error::Unavailable(_)) => assert!(may_pass, "{at}"),
            Err(Error::Malformed(_)) => assert!(!may_pass, "{at}"),
            other => panic!("{at}: {other:?}"),
        }
    }
    google.refuse(
        ":access",
        400,
        "FAILED_PRECONDITION",
        "Secret Manager API has not been used in project 1 before or it is disabled.",
    );
    assert!(matches!(kms.generate(&ek("a"), &context("one")).await, Err(Error::Denied(_))));
}
