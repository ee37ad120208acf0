//! A headless Chromium, driven over its debugging pipe: one page, what it shows, asks for and complains about.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers;

/// How long an answer, or what a test waits for, may take. Long, because the machine may be compiling beside the tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page. It ends with the value, and by itself when its pipe does.
pub struct Browser {
    child: Child,
    pipe: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    calls: u64,
    events: Vec<Value>,
    directory: TempDir,
}

/// What a picture is like.
pub struct Picture {
    pub width: u64,
    pub colours: u64,
    /// The share of the commonest colour.
    pub plain: f64,
    /// From 0, black, to 1, white.
    pub brightness: f64,
}

impl Browser {
    /// Errors: why there is none.
    pub fn start() -> Result<Self, String> {
        let program = servers::tool("chromium")?;
        let directory = tempfile::Builder::new().prefix("s3veil-browser-").tempdir().unwrap();
        let mut child = Command::new("sh")
            // It reads from 3 and writes to 4.
            .args(["-c", r#"exec 3<&0 4>&1 0</dev/null 1>&2; exec "$0" "$@""#])
            .arg(program)
            .args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg("--hide-scrollbars")
            .args(["--disable-background-networking", "--disable-component-update", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .env("HOME", directory.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("log")).unwrap())
            .spawn()
            .map_err(|why| format!("chromium does not start: {why}"))?;
        let pipe = child.stdin.take().expect("it was asked for");
        let stdout = child.stdout.take().expect("it was asked for");
        let (sender, messages) = channel();
        thread::spawn(move || read(stdout, &sender));
        let (session, events) = (String::new(), Vec::new());
        let mut browser = Self { child, pipe, messages, session, calls: 0, events, directory };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].as_str().unwrap().into();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        // Seen from the first line of the page on.
        let watch = "window.violations = []; \
            addEventListener('securitypolicyviolation', e => violations.push(`${e.violatedDirective}: ${e.blockedURI}`))";
        browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": watch }));
        browser.size(1200, 900);
        Ok(browser)
    }

    /// The page's size in CSS pixels.
    pub fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the reader's system prefers: `light` or `dark`.
    pub fn prefer(&mut self, theme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Goes to a page. Its clock stands until `pass`: what it shows then depends on no machine's speed.
    pub fn open(&mut self, url: &str) {
        // 2025-11-25, noon, and a half: a timer's millisecond too early or too late changes no second.
        let stand = json!({ "policy": "pause", "initialVirtualTime": 1_764_072_000.5 });
        self.call("Emulation.setVirtualTimePolicy", stand);
        self.navigate(url);
    }

    /// The same with the machine's clock, and waits until the page is there.
    pub fn open_live(&mut self, url: &str) {
        self.navigate(url);
        self.until("document.readyState === 'complete' && location.protocol === 'http:'");
    }

    /// Does not wait: a page whose clock stands is not loaded to its end before `pass`.
    fn navigate(&mut self, url: &str) {
        let went = self.call("Page.navigate", json!({ "url": url }));
        assert!(went.get("errorText").is_none(), "{went}");
    }

    /// Lets the page's clock go on by so much, as fast as its requests are answered.
    pub fn pass(&mut self, time: Duration) {
        let budget = json!({ "policy": "pauseIfNetworkFetchesPending", "budget": time.as_millis() as u64 });
        self.call("Emulation.setVirtualTimePolicy", budget);
        let begun = Instant::now();
        let passed = |event: &Value| event["method"] == "Emulation.virtualTimeBudgetExpired";
        while !self.events.iter().any(passed) {
            self.receive(begun);
        }
        self.events.retain(|event| !passed(event));
    }

    /// The value of an expression in the page.
    pub fn eval(&mut self, script: &str) -> Value {
        let what = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let done = self.call("Runtime.evaluate", what);
        assert!(done.get("exceptionDetails").is_none(), "{script}: {done}");
        done["result"]["value"].clone()
    }

    /// Waits until an expression holds.
    pub fn until(&mut self, script: &str) {
        let begun = Instant::now();
        while self.eval(script) != json!(true) {
            let page = self.eval("document.body ? document.body.innerText : ''");
            assert!(begun.elapsed() < PATIENCE, "never: {script}\n{}", page.as_str().unwrap_or_default());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What an element shows, as one line.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?}).innerText"));
        text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Clicks in the middle of an element, as a mouse does.
    pub fn click(&mut self, selector: &str) {
        let at = self.eval(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let what = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", what);
        }
    }

    /// Moves the mouse there, relative to an element.
    pub fn point(&mut self, selector: &str, x: f64, y: f64) {
        let at = self.eval(&format!(
            "(() => {{ const r = document.querySelector({selector:?}).getBoundingClientRect(); return [r.x, r.y]; }})()"
        ));
        let (x, y) = (at[0].as_f64().unwrap() + x, at[1].as_f64().unwrap() + y);
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// Types into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key that is no letter: `Enter`, `Tab`, `Escape`, `ArrowLeft`, by its number of old.
    pub fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let what =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", what);
        }
    }

    /// A picture of the whole page, kept at `file`, and what it is like: decoded by the browser itself.
    pub fn picture(&mut self, file: &Path) -> Picture {
        let png =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let png = png["data"].as_str().unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, STANDARD.decode(png).unwrap()).unwrap();
        let about = self.eval(&format!(
            "(async () => {{ \
                 const bytes = Uint8Array.from(atob('{png}'), c => c.charCodeAt(0)); \
                 const image = await createImageBitmap(new Blob([bytes], {{ type: 'image/png' }})); \
                 const canvas = new OffscreenCanvas(image.width, image.height).getContext('2d'); \
                 canvas.drawImage(image, 0, 0); \
                 const pixels = canvas.getImageData(0, 0, image.width, image.height).data, seen = new Map(); \
                 let light = 0; \
                 for (let at = 0; at < pixels.length; at += 4) {{ \
                     const colour = pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2]; \
                     seen.set(colour, (seen.get(colour) || 0) + 1); \
                     light += pixels[at] + pixels[at + 1] + pixels[at + 2]; \
                 }} \
                 const all = pixels.length / 4; \
                 return [image.width, seen.size, Math.max(...seen.values()) / all, light / all / 765]; \
             }})()"
        ));
        let number = |at: usize| about[at].as_f64().unwrap();
        Picture {
            width: number(0) as u64,
            colours: number(1) as u64,
            plain: number(2),
            brightness: number(3),
        }
    }

    /// Every address that was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.happened("Network.requestWillBeSent").map(|event| text(&event["request"]["url"])).collect()
    }

    /// What the page complained about: exceptions, errors on the console, what its policy forbade. `network`: an answer that
    /// did not come, or with a status that is an error, counts too.
    pub fn complaints(&mut self, network: bool) -> Vec<String> {
        let mut all: Vec<_> = self.happened("Runtime.exceptionThrown").map(ToString::to_string).collect();
        all.extend(self.happened("Runtime.consoleAPICalled").map(ToString::to_string));
        let entries = self.happened("Log.entryAdded").map(|event| &event["entry"]);
        all.extend(entries.filter(|entry| network || entry["source"] != "network").map(ToString::to_string));
        all.extend(self.eval("violations").as_array().unwrap().iter().map(ToString::to_string));
        all
    }

    fn happened<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["method"] == method).map(|event| &event["params"])
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let sent = self.pipe.write_all(format!("{message}\0").as_bytes());
        sent.unwrap_or_else(|why| panic!("{method}: {why}\n{}", self.log()));
        let begun = Instant::now();
        loop {
            if let Some(mut answer) = self.receive(begun).filter(|answer| answer["id"] == id) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// The next message: an answer is returned, an event kept.
    fn receive(&mut self, begun: Instant) -> Option<Value> {
        let message = self.messages.recv_timeout(PATIENCE.saturating_sub(begun.elapsed()));
        let message = message.unwrap_or_else(|_| panic!("the browser does not answer\n{}", self.log()));
        if message.get("id").is_some() {
            return Some(message);
        }
        self.events.push(message);
        None
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}

/// Messages end with a zero byte.
fn read(pipe: ChildStdout, sender: &Sender<Value>) {
    let mut pipe = BufReader::new(pipe);
    let mut message = Vec::new();
    while pipe.read_until(0, &mut message).is_ok_and(|read| read > 0) {
        if let Ok(value) = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message))
            && sender.send(value).is_err()
        {
            return;
        }
        message.clear();
    }
}
