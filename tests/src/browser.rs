//! Debian's Chromium, driven by its own chromedriver.
//!
//! ```text
//!  test ── W3C WebDriver: JSON over HTTP on loopback ──▶ chromedriver ──▶ chromium, headless
//! ```
//! A client of a dozen commands, over the HTTP that is in the house anyway: the published ones bring two
//! dozen crates along, and features that have most of the workspace compiled anew.
//!
//! The browser resolves no name and reaches nothing but 127.0.0.1. What it asked for and what it logged is
//! kept, so that a test can say that there was nothing else. It ends with the test.

use crate::PATIENCE;
use data_encoding::BASE64;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Nothing is asked of anybody but the page's own server.
const FLAGS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// A window with one page.
pub struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    /// Of the browser, which is no child of ours.
    pid: Option<i32>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a fresh profile.
    pub async fn start() -> Browser {
        let profile = tempfile::Builder::new().prefix("nearmost-browser-").tempdir().expect("a directory");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver; `cargo xtask test` installs it");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = async {
            while let Some(line) = lines.next_line().await.expect("read") {
                if let Some(port) = line.split("started successfully on port ").nth(1) {
                    return port.trim_end_matches('.').parse().expect("a port");
                }
            }
            panic!("chromedriver ended at once");
        };
        let port: u16 = tokio::time::timeout(PATIENCE, port).await.expect("chromedriver is ready in time");
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let data = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([data.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            // Tests make their own certificates.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = command(at, "POST", "/session", &wanted).await;
        let session = made["sessionId"].as_str().expect("a session").to_owned();
        let pid = made["capabilities"]["goog:processID"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Browser { driver, at, session, pid, _profile: profile }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        command(self.at, "POST", &format!("/session/{}{path}", self.session), &body).await
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// What a function of this body returns in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The same for a body that awaits.
    pub async fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];\
             (async () => {{ {script} }})().then(done, (e) => done(`failed: ${{e.stack}}`))"
        );
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, what: &str) {
        self.within(PATIENCE, what).await;
    }

    /// The same with a bound of its own. What the page shows is asked for only when the test fails: the text
    /// of a large page has all of it laid out.
    pub async fn within(&self, patience: Duration, what: &str) {
        let script = format!("return Boolean({what})");
        let asking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                if self.run(&script).await == true {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, asking).await.is_err() {
            let shown = self.run("return document.body.innerText.slice(0, 6000)").await;
            panic!("{what}: not within {patience:?}; the page shows {shown}");
        }
    }

    /// The text that the first element of a selector shows.
    pub async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? 'nothing there'");
        self.run(&script).await.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks on the first element of a selector, as a person with a mouse does.
    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Types into the first element of a selector.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/clear"), json!({})).await;
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector })).await;
        let ids = found.as_object().expect("an element");
        ids.values().next().and_then(Value::as_str).expect("its id").to_owned()
    }

    /// Presses a key, by its code point in WebDriver's table (section 17.4.2) or its character.
    pub async fn press(&self, key: char) {
        let key = key.to_string();
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.post("/actions", actions).await;
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn devtools(&self, method: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": method, "params": params })).await
    }

    /// Makes the window of this size in pixels of CSS.
    pub async fn resize(&self, width: u32, height: u32, mobile: bool) {
        let params = json!({ "width": width, "height": height, "mobile": mobile,
            "deviceScaleFactor": if mobile { 2 } else { 1 } });
        self.devtools("Emulation.setDeviceMetricsOverride", params).await;
    }

    /// Has the system prefer `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Writes what the window shows as PNG.
    pub async fn picture(&self, path: &Path) {
        let shot = self.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
        let png = BASE64.decode(shot["data"].as_str().expect("an image").as_bytes()).expect("base64");
        std::fs::write(path, png).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Warnings and errors of the console since the last time.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().into_iter().flatten();
        let bad = entries.filter(|e| matches!(e["level"].as_str(), Some("WARNING" | "SEVERE")));
        bad.map(|e| e["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// URLs of everything that was asked for since the last time, but for what is in the browser itself.
    pub async fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "performance" })).await;
        let message = |entry: &Value| serde_json::from_str::<Value>(entry["message"].as_str()?).ok();
        let messages = log.as_array().into_iter().flatten().filter_map(message);
        let sent = messages.filter(|m| m["message"]["method"] == "Network.requestWillBeSent");
        let url = |m: Value| m["message"]["params"]["request"]["url"].as_str().unwrap_or_default().to_owned();
        // Its first page, before a test opens one.
        sent.map(url).filter(|url| !url.starts_with("chrome://") && !url.starts_with("data:")).collect()
    }

    /// Ends browser and driver in order.
    pub async fn end(mut self) {
        command(self.at, "DELETE", &format!("/session/{}", self.session), &Value::Null).await;
        self.pid = None;
        let _ = self.driver.kill().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A failed test: the driver ends as a child of ours, the browser is only its.
        if let Some(pid) = self.pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// One command; what the driver refuses fails the test.
async fn command(at: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let stream = TcpStream::connect(at).await.expect("chromedriver takes connections");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", at.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answer = async {
        let response = sender.send_request(request).await.expect("an answer");
        response.into_body().collect().await.expect("its body").to_bytes()
    };
    let answer = tokio::time::timeout(3 * PATIENCE, answer).await;
    let answer = answer.unwrap_or_else(|_| panic!("chromedriver does not answer {method} {path}"));
    let mut answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let value = answer["value"].take();
    if let Some(error) = value.get("error") {
        panic!("{method} {path}: {error}: {}", value["message"]);
    }
    value
}
