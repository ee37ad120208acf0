//! The page of the real program, before a real store, under requests that succeed, fail and find damage.

use serde_json::json;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::support::client::{get, put, send_as};
use crate::support::program::Program;
use crate::support::proxy::{ACCESS_KEY, pattern};
use crate::{clean, or_skip, picture, row, rows, servers};

const TOKEN: &str = "the-token-of-a-real-listener-0123";

#[tokio::test(flavor = "multi_thread")]
async fn the_real_listener() {
    let store = or_skip!(servers::minio());
    let mut browser = or_skip!(Browser::start());
    let directory = TempDir::new().unwrap();
    let admin = Program::free_address();
    let more = format!("admin = {{ listen = \"{admin}\", token = \"{TOKEN}\" }}");
    let configuration = Program::configure(directory.path(), &store.settings(), &more).await;
    let program = Program::start(&configuration);
    let base = format!("http://{admin}/");
    browser.open_live(&base);
    browser.until("document.querySelector('#state').innerText === 'Ready'");

    let s3veil = program.address;
    assert_eq!(put(s3veil, "/page", b"").await.status, 200);
    let body = pattern(300_000);
    assert_eq!(put(s3veil, "/page/object", &body).await.status, 200);
    assert_eq!(get(s3veil, "/page/object").await.bytes(), body);
    let wrong = (ACCESS_KEY, "not-the-secret-key", "us-east-1");
    assert_eq!(send_as(wrong, s3veil, "GET", "/page/object", &[], b"").await.status, 403);
    // Somebody alters the object past s3veil.
    let raw = send_as(store.signer(), store.address(), "GET", "/page/object", &[], b"").await;
    let mut stored = raw.bytes().to_vec();
    stored[100] ^= 1;
    let metadata = raw.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"));
    let metadata: Vec<_> = metadata.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let altered = send_as(store.signer(), store.address(), "PUT", "/page/object", &metadata, &stored).await;
    assert_eq!(altered.status, 200);
    assert!(get(s3veil, "/page/object").await.status.is_server_error());

    browser.until("document.querySelector('#alarms').innerText.includes('Integrity alarm: 1 since start.')");
    assert_eq!(row(&mut browser, "signals", "Integrity failures")[..2], ["1", "1"]);
    assert_eq!(row(&mut browser, "signals", "Refused by authentication")[..2], ["1", "1"]);
    assert_eq!(row(&mut browser, "signals", "– SignatureDoesNotMatch")[0], "1");
    assert_eq!(row(&mut browser, "operations", "PutObject")[1], "1");
    assert_eq!(row(&mut browser, "health", "Store")[0], "Up");
    assert!(row(&mut browser, "health", "Store")[1].starts_with(&store.endpoint));
    assert_eq!(row(&mut browser, "health", "KMS local")[0], "Up");
    // Their times are drawn.
    assert_eq!(
        browser.eval(
            "document.querySelector('#charts figure:nth-child(3)').querySelectorAll('.area').length > 0"
        ),
        true
    );

    browser.click("#token");
    browser.write(TOKEN);
    browser.press("Enter", 13);
    browser.until("document.querySelector('#policy').checkVisibility()");
    let rules = rows(&mut browser, "rules");
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0][1..6], ["*", "any", "seal", "s3veil-dev-key at local", "Usable"]);
    assert_eq!(row(&mut browser, "eks", "s3veil-dev-key"), ["local", "Usable", ""]);
    assert_eq!(row(&mut browser, "identities", "t")[0], ACCESS_KEY);
    browser.click("#flush");
    browser.click("#flush-yes");
    browser.until(
        "document.querySelector('#policy-said').innerText.startsWith('Every cached key was forgotten')",
    );
    picture(&mut browser, "real", 1200);
    clean(&mut browser, &base, true);

    drop(program);
    browser.until("document.querySelector('#state').innerText === 'No answer'");
    assert_eq!(
        browser.eval("document.querySelector('#alarms').innerText.includes('No answer since')"),
        json!(true)
    );
}
