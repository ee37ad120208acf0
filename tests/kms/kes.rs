//! MinIO KES, the real server: as a service, and through the files of its key store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use s3veil::kms::{Context, EkName, Error, Kms, State};

use crate::common::{build, context, ek};
use crate::kes_server::{ADMIN, Estate, STRANGER, USER, api_key};
use crate::kms_contract::{ALL, Limits, check};

/// KES has no state of a key but being there, and one version of it.
const KES: Limits = Limits { can_lock: false, can_rotate: false, ..ALL };

#[tokio::test]
async fn kes_keeps_the_contract_with_an_api_key() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let kms = build(&estate.settings(&[kes.endpoint()], &api_key(ADMIN))).unwrap();
    check(kms.as_ref(), KES).await;
    for unsupported in [kms.disable(&ek("a")).await, kms.enable(&ek("a")).await, kms.rotate(&ek("a")).await] {
        assert!(matches!(unsupported, Err(Error::Unsupported { kind: "kes", .. })), "{unsupported:?}");
    }
}

#[tokio::test]
async fn kes_keeps_the_contract_with_a_certificate() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let settings = estate.settings(&[kes.endpoint()], &pair(&estate, "client", ""));
    check(build(&settings).unwrap().as_ref(), KES).await;
}

#[tokio::test]
async fn kes_takes_a_certificate_whose_key_is_under_a_password() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let settings = |more| estate.settings(&[kes.endpoint()], &pair(&estate, "password", more));
    let kms = build(&settings("key_password = \"secret\"")).unwrap();
    assert_eq!(kms.create(&ek("a")).await, Ok(()));
    for (more, expected) in [("", "Add key_password"), ("key_password = \"wrong-one\"", "openssl pkey")] {
        let why = build(&settings(more)).err().unwrap();
        assert!(why.contains("password.key") && why.contains(expected), "{why}");
        assert!(!why.contains("wrong-one"), "{why}");
    }
}

#[tokio::test]
async fn kes_files_keep_the_contract() {
    let estate = or_skip!(Estate::new());
    fs::create_dir(estate.path("keys")).unwrap();
    check(build(&estate.files()).unwrap().as_ref(), KES).await;
}

fn pair(estate: &Estate, name: &str, more: &str) -> String {
    let file = |end| estate.path(&format!("{name}.{end}"));
    format!("certificate_file = {:?}\nkey_file = {:?}\n{more}", file("crt"), file("key"))
}

#[tokio::test]
async fn kes_denies_what_its_policy_does_not_allow() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let settings = |key| estate.settings(&[kes.endpoint()], &api_key(key));
    let admin = build(&settings(ADMIN)).unwrap();
    for name in ["app-1", "other"] {
        admin.create(&ek(name)).await.unwrap();
    }
    let made = admin.generate(&ek("app-1"), &context("one")).await.unwrap();

    let user = build(&settings(USER)).unwrap();
    let dek = user.unwrap(&ek("app-1"), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(dek.is_same(&made.dek));
    assert!(user.generate(&ek("app-1"), &context("one")).await.is_ok());
    denied(user.generate(&ek("other"), &context("one")).await);

    let stranger = build(&settings(STRANGER)).unwrap();
    denied(stranger.generate(&ek("app-1"), &context("one")).await);
    denied(stranger.unwrap(&ek("app-1"), None, &made.wrapped, &context("one")).await);
    for kms in [user, stranger] {
        denied(kms.create(&ek("app-2")).await);
        denied(kms.list().await);
        denied(kms.describe(&ek("app-1")).await);
        denied(kms.delete(&ek("app-1")).await);
    }
}

#[tokio::test]
async fn kes_denies_a_certificate_in_the_handshake() {
    let estate = or_skip!(Estate::new());
    estate.ask_for_a_ca();
    let kes = estate.start().unwrap();
    let kms = build(&estate.settings(&[kes.endpoint()], &api_key(ADMIN))).unwrap();
    // Refused at the first time and at the next, on whichever connection.
    for _ in 0..3 {
        denied(kms.create(&ek("a")).await);
    }
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
}

fn away<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn kes_is_found_again_after_a_restart() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let (port, endpoint) = (kes.port, kes.endpoint());
    let kms = build(&estate.settings(&[endpoint], &api_key(ADMIN))).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    drop(kes);
    away(kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await);
    away(kms.describe(&ek("a")).await);
    let _kes = estate.start_at(port).unwrap();
    let dek = kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(dek.is_same(&made.dek));
}

#[tokio::test]
async fn kes_is_asked_at_the_next_endpoint_when_one_is_away() {
    let estate = or_skip!(Estate::new());
    let (first, second) = (estate.start().unwrap(), estate.start().unwrap());
    let endpoints = [first.endpoint(), second.endpoint()];
    let kms = build(&estate.settings(&endpoints, &api_key(ADMIN))).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let generate = || async { kms.generate(&ek("a"), &context("one")).await };
    let port = first.port;
    drop(first);
    away(generate().await);
    for _ in 0..3 {
        generate().await.unwrap();
    }
    // And back, when the first is there again and the second is not.
    let _first = estate.start_at(port).unwrap();
    drop(second);
    away(generate().await);
    for _ in 0..3 {
        generate().await.unwrap();
    }
}

/// What the manual calls the lock: KES has none, so its policy must.
#[tokio::test]
async fn kes_locks_by_its_policy() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let kms = build(&estate.settings(&[kes.endpoint()], &api_key(ADMIN))).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let unwrap = || async { kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await };
    for allowed in [false, true] {
        estate.allow(allowed);
        kes.reload();
        // KES reads its file in its own time.
        let seen = async {
            while unwrap().await.is_ok() != allowed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("KES reads its policy again");
        let generated = kms.generate(&ek("a"), &context("one")).await;
        match allowed {
            false => {
                denied(unwrap().await);
                denied(generated);
            }
            true => assert!(generated.is_ok() && made.dek.is_same(&unwrap().await.unwrap())),
        }
    }
}

#[tokio::test]
async fn kes_must_show_a_certificate_that_the_ca_file_vouches_for() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    estate.make_pair("other");
    let settings = |ca: &Path| {
        format!("kind = \"kes\"\nendpoint = \"{}\"\nca_file = {ca:?}\n{}", kes.endpoint(), api_key(ADMIN))
    };
    let wrong = build(&settings(&estate.path("other.crt"))).unwrap();
    let why = away(wrong.create(&ek("a")).await);
    assert!(why.contains("certificate"), "{why}");

    // A directory of roots, as MinIO takes it. What is not a certificate there is passed over.
    let directory = estate.path("roots");
    fs::create_dir_all(directory.join("below")).unwrap();
    for name in ["server.crt", "other.crt", "kes.yml"] {
        fs::copy(estate.path(name), directory.join(name)).unwrap();
    }
    assert_eq!(build(&settings(&directory)).unwrap().create(&ek("a")).await, Ok(()));

    // The name must be the endpoint's as well.
    let named = settings(&directory).replace("127.0.0.1", "localhost");
    away(build(&named).unwrap().create(&ek("b")).await);
}

#[tokio::test]
async fn kes_credentials_change_with_their_files() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let put = |name: &str, text: &[u8]| {
        fs::write(estate.path("beside"), text).unwrap();
        fs::rename(estate.path("beside"), estate.path(name)).unwrap();
    };
    put("key", STRANGER.as_bytes());
    let credential = format!("api_key = {{ file = {:?} }}", estate.path("key"));
    let kms = build(&estate.settings(&[kes.endpoint()], &credential)).unwrap();
    denied(kms.create(&ek("a")).await);
    put("key", ADMIN.as_bytes());
    assert_eq!(kms.create(&ek("a")).await, Ok(()));
    put("key", b"not a key");
    assert_eq!(kms.create(&ek("b")).await, Ok(()), "the last good one stays");

    estate.make_pair("renewed");
    let kms = build(&estate.settings(&[kes.endpoint()], &pair(&estate, "renewed", ""))).unwrap();
    denied(kms.create(&ek("c")).await);
    for end in ["key", "crt"] {
        put(&format!("renewed.{end}"), &fs::read(estate.path(&format!("client.{end}"))).unwrap());
    }
    assert_eq!(kms.create(&ek("c")).await, Ok(()));
}

/// A DEK that one KMS wraps, the other unwraps; and neither does for another context or EK.
async fn both_ways(a: &dyn Kms, b: &dyn Kms, name: &EkName, other: &EkName) {
    let context = Context::default().with("my", "my/<object> & \u{2028}é").with("a", "\"\n");
    for (from, to) in [(a, b), (b, a)] {
        let made = from.generate(name, &context).await.unwrap();
        assert_eq!(made.wrapped.as_bytes().len(), 76);
        let dek = to.unwrap(name, None, &made.wrapped, &context).await.unwrap();
        assert!(dek.is_same(&made.dek));
        for (name, context) in [(name, &Context::default()), (other, &context)] {
            let refused = to.unwrap(name, None, &made.wrapped, context).await;
            assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn kes_and_kes_files_use_the_same_keys() {
    let estate = or_skip!(Estate::new());
    let running = estate.start().unwrap();
    let kes = build(&estate.settings(&[running.endpoint()], &api_key(ADMIN))).unwrap();
    let files = build(&estate.files()).unwrap();
    let (by_kes, by_files) = (ek("made-by-kes"), ek("made_by_files"));
    kes.create(&by_kes).await.unwrap();
    files.create(&by_files).await.unwrap();
    for kms in [&kes, &files] {
        assert_eq!(kms.list().await, Ok(vec![by_kes.clone(), by_files.clone()]));
        assert_eq!(kms.create(&by_kes).await, Err(Error::Exists(by_kes.clone())));
        assert_eq!(kms.create(&by_files).await, Err(Error::Exists(by_files.clone())));
    }
    both_ways(kes.as_ref(), files.as_ref(), &by_kes, &by_files).await;
    both_ways(kes.as_ref(), files.as_ref(), &by_files, &by_kes).await;
    for name in [&by_kes, &by_files] {
        let told = kes.describe(name).await.unwrap();
        assert_eq!(told, files.describe(name).await.unwrap());
        assert!(told.created.is_some() && told.state == State::Enabled);
        let mode = fs::metadata(estate.path("keys").join(name.as_str())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // What KES erases is gone for both, and its name is free again.
    let made = files.generate(&by_kes, &context("one")).await.unwrap();
    kes.delete(&by_kes).await.unwrap();
    for kms in [&kes, &files] {
        let gone = kms.unwrap(&by_kes, None, &made.wrapped, &context("one")).await.map(|_| ());
        assert_eq!(gone, Err(Error::NoSuchKey(by_kes.clone())));
    }
    files.create(&by_kes).await.unwrap();
    let lost = kes.unwrap(&by_kes, None, &made.wrapped, &context("one")).await.map(|_| ());
    assert!(matches!(lost, Err(Error::Malformed(_))), "{lost:?}");
}

/// Of all who create a key at the same time, in KES and in its directory, one does.
#[tokio::test]
async fn kes_and_kes_files_create_a_key_once() {
    let estate = or_skip!(Estate::new());
    let running = estate.start().unwrap();
    let kes = build(&estate.settings(&[running.endpoint()], &api_key(ADMIN))).unwrap();
    let files = build(&estate.files()).unwrap();
    files.create(&ek("other")).await.unwrap();
    for round in 0..20 {
        let name = ek(&format!("a{round}"));
        let all = [&kes, &files, &kes, &files].map(|kms| kms.create(&name));
        let done = futures_util::future::join_all(all).await;
        let (made, refused): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1);
        assert!(refused.iter().all(|answer| *answer == Err(Error::Exists(name.clone()))), "{refused:?}");
        both_ways(kes.as_ref(), files.as_ref(), &name, &ek("other")).await;
    }
}

/// KES tells 1,024 names at once.
#[tokio::test]
async fn kes_lists_all_keys_however_many() {
    let estate = or_skip!(Estate::new());
    let running = estate.start().unwrap();
    let kes = build(&estate.settings(&[running.endpoint()], &api_key(ADMIN))).unwrap();
    kes.create(&ek("last")).await.unwrap();
    let keys = estate.path("keys");
    let add = |name: &str| fs::copy(keys.join("last"), keys.join(name)).unwrap();
    for name in ["_under", "_-_", "__", "k", "K", "0", "z_", "k--0"] {
        add(name);
    }
    // No key to either.
    fs::write(keys.join(".hidden"), b"").unwrap();
    // Cut before what begins with '_', and cut again below.
    for begin in ["B-", "k-"] {
        for number in 0..1100 {
            add(&format!("{begin}{number:04}"));
        }
        let names = kes.list().await.unwrap();
        assert_eq!(names, build(&estate.files()).unwrap().list().await.unwrap());
    }
    assert_eq!(kes.list().await.unwrap().len(), 2200 + 8 + 1);
}

#[tokio::test]
async fn kes_files_refuse_what_others_can_read_and_what_is_no_key() {
    let estate = or_skip!(Estate::new());
    let keys = estate.path("keys");
    fs::create_dir(&keys).unwrap();
    let kms = build(&estate.files()).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(&keys.join("a"), 0o640);
    denied(kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await);
    chmod(&keys.join("a"), 0o600);
    assert!(kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await.is_ok());

    fs::write(keys.join("a"), b"").unwrap();
    let empty = kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await;
    assert!(matches!(empty, Err(Error::Malformed(_))), "{empty:?}");

    chmod(&keys, 0o777);
    let why = build(&estate.files()).err().unwrap();
    assert!(why.contains("chmod go-w") && why.contains(keys.to_str().unwrap()), "{why}");
    chmod(&keys, 0o755);
    for path in [estate.path("none"), estate.path("kes.yml")] {
        chmod(&estate.path("kes.yml"), 0o600);
        let why = build(&format!("kind = \"kes-files\"\npath = {path:?}")).err().unwrap();
        assert!(why.contains("path: ") && why.contains("keystore.fs.path"), "{why}");
    }
    fs::remove_dir_all(&keys).unwrap();
    away(kms.generate(&ek("a"), &context("one")).await);
    away(kms.list().await);
}

#[test]
fn kes_settings_that_are_wrong_name_key_value_and_remedy() {
    let key = api_key(ADMIN);
    let endpoint = "endpoint = \"https://127.0.0.1:1\"";
    for (settings, expected) in [
        (key.clone(), &["endpoint: missing"][..]),
        (format!("endpoint = []\n{key}"), &["endpoint: missing"]),
        (format!("endpoint = \"http://kes.example.com\"\n{key}"), &["http://kes.example.com", "https://"]),
        (endpoint.into(), &["api_key: missing", "certificate_file"]),
        (format!("{endpoint}\n{key}\nkey_file = \"k\""), &["api_key: ", "Remove"]),
        (format!("{endpoint}\nkey_file = \"k\""), &["certificate_file: missing"]),
        (format!("{endpoint}\ncertificate_file = \"c\""), &["key_file: missing"]),
        (format!("{endpoint}\ncertificate_file = \"/c\"\nkey_file = \"/k\""), &["key_file: '/k'"]),
        (
            format!("{endpoint}\napi_key = \"kes:v1:nothing\""),
            &["api_key: ", "not shown", "kes identity new"],
        ),
        (format!("{endpoint}\napi_key = {{ file = \"/none\" }}"), &["api_key: ", "/none"]),
        (format!("{endpoint}\n{key}\nca_file = \"/none\""), &["ca_file: '/none'", "PEM"]),
        (format!("{endpoint}\n{key}\nenclave = \"e1\""), &["enclave: 'e1'", "Remove it"]),
    ] {
        let why = build(&format!("kind = \"kes\"\n{settings}")).err().unwrap();
        assert!(!why.contains("AGaV6VX") && !why.contains("nothing"), "{why}");
        for part in expected {
            assert!(why.contains(part), "{settings}: {why} lacks {part}");
        }
    }
}

/// Keys as older versions stored them, of both ciphers, used by KES 0.24 and by s3veil.
#[tokio::test]
async fn kes_and_kes_files_use_the_keys_of_older_versions() {
    let estate = or_skip!(Estate::new());
    let running = estate.start().unwrap();
    let kes = build(&estate.settings(&[running.endpoint()], &api_key(ADMIN))).unwrap();
    let files = build(&estate.files()).unwrap();
    // From minio/kes, `internal/crypto/key_test.go`, `parseKeyVersionTests`.
    for (name, stored) in [
        (
            "aes",
            r#"{"bytes":"J8qmOyEV2ce2yoAC+5t0Y7CSP/hTMppL7XHpAnyc+0E=","algorithm":"AES256-GCM_SHA256","created_at":"2009-11-10T23:00:00Z","created_by":"40235905b7b83e0537a002db523cd019d6709b899adc249c957860cd00fa9f78"}"#,
        ),
        (
            "chacha",
            r#"{"bytes":"9ew6BCae3+13sniOUwttEJ62amg98YXc0OW0WBhNiCY=","algorithm":"XCHACHA20-POLY1305","created_at":"2009-11-10T23:00:00Z","created_by":"189d9de5331e3ee8abe9e4bd40d474ad621d79ccf83a711f6ac68050eb15a52a"}"#,
        ),
    ] {
        let file = estate.path("keys").join(name);
        fs::write(&file, stored).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    both_ways(kes.as_ref(), files.as_ref(), &ek("aes"), &ek("chacha")).await;
    both_ways(kes.as_ref(), files.as_ref(), &ek("chacha"), &ek("aes")).await;
    for name in ["aes", "chacha"] {
        assert_eq!(kes.describe(&ek(name)).await, files.describe(&ek(name)).await);
    }
}
