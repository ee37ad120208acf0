//! The status page in a headless Chromium: before a listener that says what each test wants, and before the real one.
//!
//! The pictures that it makes are in `target/status-page/`.

#[path = "status_page/browser.rs"]
mod browser;
#[path = "support/servers.rs"]
mod servers;
#[path = "status_page/stub.rs"]
mod stub;

use std::path::{Path, PathBuf};
use std::time::Duration;

use browser::Browser;
use serde_json::json;
use stub::{Reply, Stub, TOKEN, steady};

/// The first answer, then one every two seconds.
const POLL: Duration = Duration::from_secs(2);

/// What a proxy that has just failed all checks at once would say.
const ALARM: &str = ".bad";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("status-page").join(format!("{name}.png"))
}

/// A browser, or the reason why the test is skipped.
macro_rules! browser {
    () => {
        match Browser::start() {
            Ok(browser) => browser,
            Err(why) => return servers::skip(&why),
        }
    };
}

/// Lets `polls` more answers come in.
fn polls(browser: &mut Browser, polls: u32) {
    // Half of a pause more, so that the last one is shown.
    browser.pass(POLL * polls);
}

/// A picture of the page, which is neither blank nor wider than it should be.
fn picture(browser: &mut Browser, name: &str, width: u64) -> f64 {
    let picture = browser.picture(&file(name));
    assert_eq!(picture.width, width, "{name}: the page is wider than the window");
    assert!(picture.colours > 100, "{name} has {} colours", picture.colours);
    assert!(picture.plain < 0.9, "{name}: {} of it is one colour", picture.plain);
    picture.brightness
}

/// The cells of a table's rows.
fn rows(browser: &mut Browser, id: &str) -> Vec<Vec<String>> {
    let cells = browser.eval(&format!(
        "[...document.getElementById({id:?}).rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    ));
    serde_json::from_value(cells).unwrap()
}

#[test]
fn what_the_status_says_is_shown() {
    let mut browser = browser!();
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    browser.open(&stub.base);
    polls(&mut browser, 300);
    let now = steady(stub.polls() as u64 - 1);
    println!("{}", browser.text("body"));
    println!("{now}");
    browser.prefer("light");
    let light = picture(&mut browser, "light", 1200);
    browser.prefer("dark");
    let dark = picture(&mut browser, "dark", 1200);
    assert!(light > 0.8 && dark < 0.25, "light {light}, dark {dark}");
    browser.size(360, 800);
    picture(&mut browser, "narrow", 360);
    println!("{:?}", browser.complaints(true));
}

#[test]
fn alarms() {
    let mut browser = browser!();
    let stub = Stub::start(|turn| {
        let mut status = steady(turn);
        if turn >= 40 {
            status["integrity_failures"] = json!(3);
            status["bodies_cut"] = json!(4);
            status["ready"] = json!(false);
            status["store"] = json!({ "endpoint": "https://minio.storage.svc:9000", "up": false,
                "away_secs": 2.0 * (turn - 40) as f64, "why": "connection refused", "millis": null });
            status["kms"][0] = json!({ "name": "vault", "up": false, "away_secs": 31.0 + 2.0 * (turn - 40) as f64,
                "why": "<b>no route</b> to host", "cached_keys_go_on": true, "calls": 520, "failed_calls": 7 });
            status["kms"][1] = json!({ "name": "local", "up": false, "away_secs": 700.0,
                "why": "permission denied", "cached_keys_go_on": false, "calls": 12, "failed_calls": 7 });
            status["shed"]["in_flight"] = json!(12);
            status["config"]["last_reload_successful"] = json!(false);
        }
        Reply::Status(status)
    });
    browser.open(&stub.base);
    polls(&mut browser, 60);
    picture(&mut browser, "alarms", 1200);
    browser.prefer("dark");
    picture(&mut browser, "alarms-dark", 1200);
    println!("{:?}", browser.complaints(true));
    stub.script(|turn| if turn < 10 { Reply::HangsUp } else { Reply::Status(steady(turn)) });
    polls(&mut browser, 6);
    browser.prefer("light");
    picture(&mut browser, "away", 1200);
    polls(&mut browser, 20);
    picture(&mut browser, "back", 1200);
    browser.click("#token");
    browser.write("wrong");
    browser.press("Enter", 13);
    browser.until("document.querySelector('#policy-said').innerText.includes('not the admin')");
    browser.click("#token");
    browser.write(TOKEN);
    browser.click("#token-form button");
    browser.until("!document.querySelector('#policy').hidden");
    browser.point("#charts figure:nth-child(2) svg[role]", 250.0, 50.0);
    picture(&mut browser, "policy", 1200);
    browser.size(1600, 800);
    picture(&mut browser, "policy-wide", 1600);
    browser.size(360, 800);
    picture(&mut browser, "policy-narrow", 360);
    println!("{:?} {}", browser.complaints(false), ALARM);
}
