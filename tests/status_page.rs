//! The status page in a headless Chromium: before a listener that says what each test wants, and before the real one.
//!
//! The pictures that it makes are in `target/status-page/`.

#[path = "status_page/browser.rs"]
mod browser;
#[path = "status_page/real.rs"]
mod real;
#[path = "support/servers.rs"]
mod servers;
#[path = "status_page/stub.rs"]
mod stub;
mod support;

use std::path::Path;
use std::time::Duration;

use browser::Browser;
use serde_json::{Value, json};
use stub::{Reply, Stub, TOKEN, steady};

/// What is there, or the reason why the test is skipped.
macro_rules! or_skip {
    ($what:expr) => {
        match $what {
            Ok(there) => there,
            Err(why) => return $crate::servers::skip(&why),
        }
    };
}
pub(crate) use or_skip;

/// Opens the page and lets the first answer come in.
fn open(browser: &mut Browser, stub: &Stub) {
    browser.open(&stub.base);
    // From here on each pause ends halfway between two polls: none is cut in two.
    browser.pass(Duration::from_secs(1));
    browser.until("!asking");
    assert_eq!(stub.polls(), 1);
}

/// Lets so many more answers come in.
fn polls(browser: &mut Browser, stub: &Stub, polls: u32) {
    let before = stub.polls();
    browser.pass(Duration::from_secs(2) * polls);
    browser.until("!asking");
    assert_eq!(stub.polls() - before, polls as usize);
}

/// A picture of the page, which is neither blank nor wider than it should be, and how bright it is.
fn picture(browser: &mut Browser, name: &str, width: u64) -> f64 {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("status-page");
    let picture = browser.picture(&directory.join(format!("{name}.png")));
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

/// The row that begins with this.
fn row(browser: &mut Browser, id: &str, first: &str) -> Vec<String> {
    let rows = rows(browser, id);
    rows.iter().find(|row| row[0] == first).unwrap_or_else(|| panic!("no {first} in {rows:?}"))[1..].to_vec()
}

/// What a chart's legend says now: `ok 12 /s 4xx 0 /s`.
fn legend(browser: &mut Browser, chart: usize) -> String {
    let legends = browser.eval(&format!(
        "[...document.querySelectorAll('#charts figure:nth-child({chart}) .legend')].map(one => one.innerText).join(' ')"
    ));
    legends.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Texts whose contrast is less than WCAG's AA asks for, in the theme that is on.
fn faint(browser: &mut Browser) -> Value {
    browser.eval(
        "(() => { \
            const parse = colour => colour.match(/[\\d.]+/g).map(Number); \
            const light = colour => parse(colour).slice(0, 3).map(c => c / 255) \
                .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4) \
                .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0); \
            const behind = element => { \
                const back = element && parse(getComputedStyle(element).backgroundColor); \
                return !element ? 'rgb(255, 255, 255)' : back.length === 3 || back[3] > 0 ? \
                    getComputedStyle(element).backgroundColor : behind(element.parentElement); \
            }; \
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = []; \
            for (let text = texts.nextNode(); text; text = texts.nextNode()) { \
                const element = text.parentElement; \
                if (!text.data.trim() || !element.checkVisibility() || element.tagName === 'SCRIPT') continue; \
                const style = getComputedStyle(element); \
                const a = light(element.namespaceURI.endsWith('svg') ? style.fill : style.color); \
                const b = light(behind(element)); \
                const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); \
                if (contrast < 4.5) faint.push([text.data, contrast]); \
            } \
            return faint; \
        })()",
    )
}

/// Nothing went wrong that a browser sees, and nobody else was asked for anything.
fn clean(browser: &mut Browser, base: &str, network: bool) {
    assert_eq!(browser.complaints(network), Vec::<String>::new());
    let asked = browser.asked();
    assert!(asked.iter().any(|url| url == &format!("{base}status.json")));
    for url in asked {
        assert!(url.starts_with(base) || url.starts_with("data:"), "{url} was asked for");
    }
}

#[test]
fn what_the_status_says_is_shown() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    browser.prefer("light");
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 300);
    println!(
        "DRIFT {} {}",
        browser.eval("Date.now() - samples.at(-1).t"),
        browser.eval("samples.map(s => s.t % 2000).join()")
    );
    let now = steady(300);
    assert_eq!(browser.text("#state"), "Ready");
    let (at_work, connections) = (&now["in_flight"], &now["connections"]);
    assert_eq!(
        browser.text("#about"),
        format!("version 0.1.0 · up 1 d · {at_work} requests at work · {connections} connections")
    );
    assert_eq!(browser.text("#alarms"), "");
    let endpoint = now["store"]["endpoint"].as_str().unwrap();
    assert_eq!(row(&mut browser, "health", "Store"), ["Up", &format!("{endpoint} · answers in 1.8 ms")]);
    assert_eq!(row(&mut browser, "health", "KMS vault"), ["Up", "572 calls, 0 failed"]);
    assert_eq!(row(&mut browser, "health", "Configuration"), ["In force", "since 08:40:00"]);
    assert_eq!(row(&mut browser, "signals", "Integrity failures"), ["0", "0", "–"]);
    assert_eq!(row(&mut browser, "signals", "Plain objects served"), ["17", "0", "–"]);
    assert_eq!(row(&mut browser, "signals", "Refused by authentication"), ["8", "5", "12:10:00"]);
    assert_eq!(row(&mut browser, "signals", "– SignatureDoesNotMatch")[0], "7");
    for operation in ["GetObject", "PutObject", "DeleteObject"] {
        let shown = row(&mut browser, "operations", operation);
        let (before, now) = (&steady(299)["requests"]["by_operation"], &now["requests"]["by_operation"]);
        let count = |from: &Value| from[operation].as_u64().unwrap();
        assert_eq!(shown[1].replace(',', ""), count(now).to_string());
        assert_eq!(shown[0], format!("{} /s", (count(now) - count(before)) as f64 / 2.0));
    }
    // Ten minutes of it are drawn, not more.
    let drawn = browser
        .eval("document.querySelector('#charts .series:is(path)').getAttribute('d').match(/[ML]/g).length");
    assert_eq!(drawn, 300);
    polls(&mut browser, &stub, 20);
    let drawn = browser
        .eval("document.querySelector('#charts .series:is(path)').getAttribute('d').match(/[ML]/g).length");
    assert_eq!(drawn, 301);

    assert!(picture(&mut browser, "light", 1200) > 0.8);
    assert_eq!(faint(&mut browser), json!([]));
    browser.prefer("dark");
    assert!(picture(&mut browser, "dark", 1200) < 0.25);
    assert_eq!(faint(&mut browser), json!([]));
    browser.size(360, 800);
    picture(&mut browser, "narrow", 360);
    browser.size(2200, 1200);
    picture(&mut browser, "wide", 2200);
    clean(&mut browser, &stub.base, true);
}

/// Rates, shares and quantiles of numbers that can be worked out by hand.
#[test]
fn rates_are_differences() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| {
        let mut status = steady(0);
        status["uptime_secs"] = json!(100.0 + 2.0 * turn as f64);
        // As it is before the first request.
        status["latency"] = json!({ "bounds": [], "counts": [] });
        if turn >= 1 {
            let ok = status["requests"]["total"]["2xx"].as_u64().unwrap();
            status["requests"]["total"]["2xx"] = json!(ok + 5000);
            status["requests"]["total"]["5xx"] = json!(1);
            status["bytes"]["out"] = json!(status["bytes"]["out"].as_u64().unwrap() + 9_000_000);
            status["crypto_seconds"]["seal"] =
                json!(status["crypto_seconds"]["seal"].as_f64().unwrap() + 0.5);
            status["cache"]["read"]["hit"] = json!(status["cache"]["read"]["hit"].as_u64().unwrap() + 3);
            status["cache"]["read"]["miss"] = json!(status["cache"]["read"]["miss"].as_u64().unwrap() + 1);
            status["latency"] = json!({ "bounds": [0.001, 0.002], "counts": [10, 10, 0] });
        }
        if turn >= 2 {
            status["latency"]["counts"] = json!([10, 10, 1]);
        }
        Reply::Status(status)
    });
    open(&mut browser, &stub);
    assert_eq!(legend(&mut browser, 1), "ok – 4xx – 5xx –");
    polls(&mut browser, &stub, 1);
    assert_eq!(legend(&mut browser, 1), "ok 2.5 k/s 4xx 0 /s 5xx 0.5 /s");
    assert_eq!(legend(&mut browser, 2), "out 4.5 MB/s in 0 B/s");
    // Ten within 1 ms, ten within 2: the half is at 1 ms, and 99 in 100 are at 1 + 9.8/10.
    assert_eq!(legend(&mut browser, 3), "p50 1 ms p99 1.98 ms");
    assert_eq!(legend(&mut browser, 4), "reads 75 % writes –");
    assert_eq!(legend(&mut browser, 5), "open 0 seal 0.25");
    polls(&mut browser, &stub, 1);
    assert_eq!(legend(&mut browser, 3), "p50 > 2 ms p99 > 2 ms");
    polls(&mut browser, &stub, 1);
    assert_eq!(legend(&mut browser, 3), "p50 – p99 –", "nothing was measured");
    clean(&mut browser, &stub.base, true);
}

#[test]
fn alarms() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| {
        let mut status = steady(turn);
        if turn >= 40 {
            let secs = 2 * (turn - 40);
            status["integrity_failures"] = json!(3);
            status["bodies_cut"] = json!(4);
            status["ready"] = json!(false);
            status["shed"]["in_flight"] = json!(12);
            status["config"]["last_reload_successful"] = json!(false);
            let store =
                json!({ "up": false, "away_secs": secs, "why": "connection refused", "millis": null });
            let vault = json!({ "up": false, "away_secs": 31 + secs, "why": "<b>no route</b> to host", "failed_calls": 7 });
            let local =
                json!({ "up": false, "away_secs": 700 + secs, "why": "denied", "cached_keys_go_on": false });
            for (what, news) in [("/store", store), ("/kms/0", vault), ("/kms/1", local)] {
                let old = status.pointer_mut(what).unwrap().as_object_mut().unwrap();
                old.extend(news.as_object().unwrap().clone());
            }
        }
        Reply::Status(status)
    });
    browser.prefer("light");
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 39);
    assert_eq!(browser.text("#alarms"), "");
    assert_eq!(browser.eval("document.title"), "s3veil");
    polls(&mut browser, &stub, 1);
    // A screen reader is told once, not every two seconds.
    browser.eval(
        "window.told = 0; new MutationObserver(seen => told += seen.length) \
         .observe(document.getElementById('alarms'), { subtree: true, childList: true, characterData: true })",
    );
    polls(&mut browser, &stub, 20);
    assert_eq!(browser.eval("told"), 0);
    let alarms = browser.text("#alarms");
    // Between a title and its text there is a margin, and no letter.
    for said in [
        "Integrity alarm: 3 since start.Stored data was altered",
        "it rose by 3, last at 12:01:20",
        "The store is away since 12:01:20.connection refused",
        "KMS vault is away since 12:00:49.Cached keys go on. <b>no route</b> to host",
        "KMS local is away since 11:49:40.No cached key is left",
        "A changed configuration can't be used.The one of 08:40:00 stays in force",
        "In the last 10 minutes 12 requests and 0 connections were turned away",
        "Answers broke off.In the last 10 minutes 2,",
    ] {
        assert!(alarms.contains(said), "no '{said}' in {alarms}");
    }
    assert_eq!(browser.text("#state"), "Not ready");
    assert_eq!(browser.eval("document.title"), "✖ s3veil");
    assert_eq!(row(&mut browser, "signals", "Integrity failures"), ["3", "3", "12:01:20"]);
    assert_eq!(row(&mut browser, "signals", "Requests shed"), ["12", "12", "12:01:20"]);
    assert_eq!(row(&mut browser, "health", "Store")[0], "Away for 40 s");
    let events = browser.text("#event-list");
    assert!(events.contains("12:01:20Integrity failures: 3 more"), "{events}");
    assert!(events.contains("KMS vault is away: <b>no route</b> to host"), "{events}");
    assert_eq!(browser.eval("document.querySelectorAll('main b:not(.legend b)').length"), 0);
    picture(&mut browser, "alarms", 1200);
    assert_eq!(faint(&mut browser), json!([]));
    browser.prefer("dark");
    picture(&mut browser, "alarms-dark", 1200);
    assert_eq!(faint(&mut browser), json!([]));

    // All is well again, but for what can't be made good: also after a restart.
    stub.script(|turn| Reply::Status(steady(turn)));
    polls(&mut browser, &stub, 2);
    let alarms = browser.text("#alarms");
    assert!(
        alarms.contains("Integrity alarm: 0 since start.") && alarms.contains("it rose by 3"),
        "{alarms}"
    );
    assert!(!alarms.contains("is away") && !alarms.contains("configuration"), "{alarms}");
    assert_eq!(row(&mut browser, "signals", "Integrity failures"), ["0", "3", "12:01:20"]);
    let events = browser.text("#event-list");
    assert!(events.contains("s3veil has restarted") && events.contains("The store is back"), "{events}");
    clean(&mut browser, &stub.base, true);
}

#[test]
fn away_draining_and_restarted() {
    let mut browser = or_skip!(Browser::start());
    browser.prefer("light");
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 60);
    let runs = "document.querySelector('#charts .series:is(path)').getAttribute('d').match(/M/g).length";
    assert_eq!(browser.eval(runs), 1);

    stub.script(|turn| if turn < 5 { Reply::HangsUp } else { Reply::Fails(500) });
    polls(&mut browser, &stub, 3);
    assert_eq!(browser.text("#state"), "No answer");
    let alarm = "No answer since 12:02:02.It can't be reached. What stands below is of 12:02:00. This page goes on asking.";
    assert_eq!(browser.text("#alarms"), alarm);
    // The last numbers stand, but none is said to be of now.
    assert_eq!(legend(&mut browser, 1), "ok – 4xx – 5xx –");
    assert_ne!(row(&mut browser, "operations", "GetObject")[1], "0");
    picture(&mut browser, "away", 1200);
    assert_eq!(faint(&mut browser), json!([]));
    polls(&mut browser, &stub, 4);
    assert!(browser.text("#alarms").contains("It answers with 500"));

    // The same process answers again: a gap, and no rate across it.
    stub.script(|turn| {
        let mut status = steady(turn + 68);
        status["draining"] = json!(turn >= 4);
        status["ready"] = json!(turn < 4);
        Reply::Status(status)
    });
    polls(&mut browser, &stub, 1);
    assert_eq!(browser.text("#state"), "Ready");
    assert_eq!(browser.text("#alarms"), "");
    assert_eq!(legend(&mut browser, 1), "ok – 4xx – 5xx –");
    polls(&mut browser, &stub, 3);
    assert_ne!(legend(&mut browser, 1), "ok – 4xx – 5xx –");
    assert_eq!(browser.eval(runs), 2);
    let events = browser.text("#event-list");
    assert!(events.contains("s3veil answers again, after 14 s") && !events.contains("restarted"), "{events}");

    polls(&mut browser, &stub, 1);
    assert_eq!(browser.text("#state"), "Draining");
    assert!(browser.text("#alarms").starts_with("Draining."));
    assert_eq!(browser.eval("document.title"), "▲ s3veil");

    // Another process: its counters begin anew, and nothing falls below zero.
    stub.script(|turn| {
        let mut status = steady(turn);
        status["uptime_secs"] = json!(0.5 + 2.0 * turn as f64);
        status["version"] = json!("0.2.0");
        Reply::Status(status)
    });
    polls(&mut browser, &stub, 5);
    assert_eq!(browser.text("#state"), "Ready");
    let events = browser.text("#event-list");
    assert!(
        events.contains("s3veil has restarted: its counts began anew, version 0.2.0 after 0.1.0"),
        "{events}"
    );
    assert_eq!(browser.eval(runs), 3);
    assert_eq!(browser.eval("document.querySelectorAll('#charts figure:first-child .restart').length"), 1);
    let lowest = "Math.max(...document.querySelector('#charts .series:is(path)').getAttribute('d') \
                  .match(/ [\\d.-]+/g).map(Number))";
    assert!(browser.eval(lowest).as_f64().unwrap() <= 114.0, "a rate is below zero");
    picture(&mut browser, "back", 1200);
    // Chromium itself notes each answer that did not come.
    clean(&mut browser, &stub.base, false);
}

/// A tab in the background asks for nothing, and draws no average over the time that it missed.
#[test]
fn a_hidden_tab_pauses() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 5);
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.eval(&hide(true));
    let before = stub.polls();
    browser.pass(Duration::from_secs(60));
    assert_eq!(stub.polls(), before);
    stub.script(|turn| Reply::Status(steady(turn + 36)));
    browser.eval(&hide(false));
    browser.pass(Duration::from_secs(1));
    browser.until("!asking");
    assert_eq!(stub.polls(), before + 1);
    assert_eq!(legend(&mut browser, 1), "ok – 4xx – 5xx –");
    polls(&mut browser, &stub, 3);
    let runs = "document.querySelector('#charts .series:is(path)').getAttribute('d').match(/M/g).length";
    assert_eq!(browser.eval(runs), 2);
    assert_eq!(browser.text("#event-list"), "");
    clean(&mut browser, &stub.base, true);
}

#[test]
fn the_policy_takes_the_token() {
    let mut browser = or_skip!(Browser::start());
    browser.prefer("light");
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 30);
    assert_eq!(browser.eval("document.querySelector('#policy').checkVisibility()"), json!(false));

    browser.click("#token");
    browser.write("another-token-0123456789");
    browser.press("Enter", 13);
    browser.until("document.querySelector('#policy-said').innerText === 'This is not the admin token.'");
    assert_eq!(browser.eval("document.querySelector('#policy').checkVisibility()"), json!(false));
    // What is no header's value is no token either, and no exception.
    browser.click("#token");
    browser.write("wörter\u{2003}€");
    browser.press("Enter", 13);
    browser.until("document.querySelector('#policy-said').innerText.startsWith('No answer')");

    browser.click("#token");
    browser.write(TOKEN);
    browser.click("#token-form button");
    browser.until("document.querySelector('#policy').checkVisibility()");
    let rules = rows(&mut browser, "rules");
    assert_eq!(rules.len(), 5);
    assert_eq!(
        rules[0],
        [
            "1",
            "invoices",
            "any",
            "seal",
            "finance at vault",
            "Usable",
            "deny",
            "none: locked",
            "refused",
            "refuse"
        ]
    );
    assert_eq!(rules[1], ["2", "media", "public/", "passthrough", "none", "", "", "", "", "forward"]);
    assert_eq!(rules[2][7], "team-*, <img src=/x onerror=boom()>");
    assert_eq!(rules[3][4..6], ["old <b>key</b> at local", "Disabled"]);
    assert_eq!(row(&mut browser, "eks", "old <b>key</b>"), ["local", "Disabled", "the EK is disabled"]);
    assert_eq!(row(&mut browser, "eks", "main"), ["vault", "Usable", ""]);
    assert_eq!(row(&mut browser, "identities", "app"), ["APPACCESSKEY", "default"]);
    assert_eq!(browser.eval("document.querySelectorAll('main img, main table b').length"), 0);
    browser.point("#charts figure:nth-child(2) svg[role]", 250.0, 50.0);
    picture(&mut browser, "policy", 1200);
    assert_eq!(faint(&mut browser), json!([]));
    browser.size(360, 800);
    picture(&mut browser, "policy-narrow", 360);
    browser.size(1200, 900);

    // Escape and the first button keep the keys.
    browser.click("#flush");
    browser.until("document.querySelector('#confirm').open");
    browser.press("Escape", 27);
    browser.until("!document.querySelector('#confirm').open");
    browser.click("#flush");
    picture(&mut browser, "confirm", 1200);
    browser.click("#flush-no");
    browser.until("!document.querySelector('#confirm').open");
    let flushes = |stub: &Stub| stub.seen().iter().filter(|(method, ..)| method == "POST").count();
    assert_eq!(flushes(&stub), 0);
    browser.click("#flush");
    browser.click("#flush-yes");
    browser.until("document.querySelector('#policy-said').innerText.startsWith('Every cached key was forgotten at 12:')");
    assert_eq!(flushes(&stub), 1);

    // The token is in a header and nowhere else.
    let found = browser.eval(&format!(
        "[document.documentElement.outerHTML, location.href, document.cookie, JSON.stringify(localStorage), \
          JSON.stringify(sessionStorage), ...[...document.querySelectorAll('input')].map(input => input.value)] \
         .filter(place => place.includes({TOKEN:?})).length"
    ));
    assert_eq!(found, 0);
    for (method, path, authorization) in stub.seen() {
        let takes = matches!((method.as_str(), path.as_str()), ("GET", "/policy") | ("POST", "/cache/flush"));
        assert_eq!(takes, authorization.is_some(), "{method} {path}");
        assert!(!path.contains(TOKEN));
    }

    browser.click("#forget-token");
    assert_eq!(browser.eval("document.querySelector('#policy').checkVisibility()"), json!(false));
    assert_eq!(rows(&mut browser, "rules").len(), 0);
    assert_eq!(browser.eval("document.querySelector('#token-form').checkVisibility()"), json!(true));
    // Chromium itself notes the 401.
    clean(&mut browser, &stub.base, false);
}

#[test]
fn without_a_token_it_says_how_to_set_one() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| {
        let mut status = steady(turn);
        status["token_set"] = json!(false);
        Reply::Status(status)
    });
    open(&mut browser, &stub);
    assert_eq!(browser.eval("document.querySelector('#token-form').checkVisibility()"), json!(false));
    let said = browser.text("#no-token");
    assert!(said.contains("openssl rand -hex 32") && said.contains("[admin] token = {"), "{said}");
    clean(&mut browser, &stub.base, true);
}

/// A status of another version, or of something else: what can be shown is, and nothing breaks.
#[test]
fn strange_answers() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| match turn {
        0 => Reply::Status(json!({ "uptime_secs": 1.0 })),
        1 => Reply::Status(
            json!({ "uptime_secs": 3.0, "kms": "none", "store": 7, "requests": [], "latency": { "counts": {} },
            "auth_failures": ["a"], "version": { "<i>": "<script>" } }),
        ),
        2 => Reply::Status(json!("<h1>hello</h1>")),
        3 => Reply::Status(json!(null)),
        turn => Reply::Status(steady(turn)),
    });
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 2);
    assert_eq!(browser.text("#state"), "No answer");
    assert!(browser.text("#alarms").contains("What answers is not a status"));
    polls(&mut browser, &stub, 2);
    assert_eq!(browser.text("#state"), "Ready");
    clean(&mut browser, &stub.base, true);
}

/// The switch wins over the system, and is remembered.
#[test]
fn the_theme_can_be_chosen() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    let background = "getComputedStyle(document.body).backgroundColor";
    let (light, dark) = (json!("rgb(244, 246, 248)"), json!("rgb(14, 18, 22)"));
    browser.prefer("dark");
    open(&mut browser, &stub);
    assert_eq!(browser.eval(background), dark);
    browser.click("[data-set=light]");
    assert_eq!(browser.eval(background), light);
    browser.open(&stub.base);
    browser.pass(Duration::from_secs(1));
    browser.until("document.querySelector('[data-set=light]')?.getAttribute('aria-pressed') === 'true'");
    assert_eq!(browser.eval(background), light);
    browser.click("[data-set=auto]");
    assert_eq!(browser.eval(background), dark);
    browser.prefer("light");
    assert_eq!(browser.eval(background), light);
    browser.click("[data-set=dark]");
    assert_eq!(browser.eval(background), dark);
    clean(&mut browser, &stub.base, true);
}

/// By mouse and by keyboard: one moment in all charts, the hovered one in words.
#[test]
fn a_chart_tells_of_one_moment() {
    let mut browser = or_skip!(Browser::start());
    let stub = Stub::start(|turn| Reply::Status(steady(turn)));
    open(&mut browser, &stub);
    polls(&mut browser, &stub, 25);
    let newest = legend(&mut browser, 1);
    let shown = "[...document.querySelectorAll('.tip')].filter(tip => tip.checkVisibility()).map(tip => tip.innerText)";
    // The chart is a minute wide; its middle is half a minute ago.
    let middle = browser.eval("58 + (document.querySelector('#charts svg[role]').clientWidth - 62) / 2");
    browser.point("#charts svg[role]", middle.as_f64().unwrap(), 60.0);
    let tips = browser.eval(shown);
    let rate = |turn: u64| {
        let total = |turn: u64| {
            let total = &steady(turn)["requests"]["total"];
            total["2xx"].as_u64().unwrap() + total["3xx"].as_u64().unwrap()
        };
        (total(turn) - total(turn - 1)) as f64 / 2.0
    };
    let words = format!("12:00:20\nok: {} /s", rate(10).round());
    assert!(tips[0].as_str().unwrap().starts_with(&words) && tips[1].is_null(), "{tips} instead of {words}");
    assert_eq!(browser.eval("document.querySelectorAll('.cursor').length"), 6);
    assert_ne!(legend(&mut browser, 1), newest);
    let inside = "(() => { const a = document.querySelector('.tip').getBoundingClientRect(), \
                  b = document.querySelector('#charts figure').getBoundingClientRect(); \
                  return a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom })()";
    assert_eq!(browser.eval(inside), true);
    browser.point("h1", 1.0, 1.0);
    assert_eq!(browser.eval(shown), json!([]));
    assert_eq!(legend(&mut browser, 1), newest);

    browser.eval("document.querySelector('#charts svg[role]').focus()");
    browser.press("ArrowLeft", 37);
    browser.press("ArrowLeft", 37);
    browser.press("ArrowRight", 39);
    let tips = browser.eval(shown);
    assert!(tips[0].as_str().unwrap().starts_with("12:00:50"), "{tips}");
    browser.press("Escape", 27);
    assert_eq!(browser.eval(shown), json!([]));
    let label = browser.eval("document.querySelector('#charts svg[role]').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Requests, now: ok "), "{label}");
    clean(&mut browser, &stub.base, true);
}
