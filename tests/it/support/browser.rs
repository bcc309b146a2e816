//! A browser without a window: Chromium, told what to do over WebDriver (W3C WebDriver 2, section 10 on).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::Process;
use super::process::PATIENCE;

/// It makes no connection but to the page, and needs neither a graphics card nor a sandbox, which containers lack.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1280,1000",
];

/// One browser with one tab.
#[derive(Debug)]
pub struct Browser {
    _driver: Process,
    _profile: TempDir,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts one with a window as a PC has it.
    pub async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// Starts one with the narrow screen of a telephone: 390 pixels.
    pub async fn telephone() -> Self {
        Self::with(json!({"mobileEmulation": {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 3}}})).await
    }

    async fn with(mut options: Value) -> Self {
        let mut driver = Process::start("chromedriver", Command::new("chromedriver").arg("--port=0"));
        let port = loop {
            let line = driver.line().await;
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        options["args"] = json!(flags);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // Those of tests are from an authority that it does not know.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self { _driver: driver, _profile: profile, port, session: String::new() };
        let made = browser.post("/session", wanted).await;
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.post(&self.path("/url"), json!({"url": url})).await;
    }

    /// What a script in the page returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post(&self.path("/execute/sync"), json!({"script": script, "args": []})).await
    }

    /// Waits until an expression in the page is true.
    pub async fn until(&self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({expression})")).await != true {
            if Instant::now() > end {
                let text = self.run("return document.body.innerText").await;
                panic!("not in time: {expression}; the page shows\n{}", text.as_str().unwrap_or_default());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the console has said since this was last asked: errors, warnings, violations of the content policy.
    pub async fn console(&self) -> Vec<String> {
        let said = self.post(&self.path("/se/log"), json!({"type": "browser"})).await;
        said.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    fn path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (port, place) = (self.port, path.to_owned());
        let asked = tokio::task::spawn_blocking(move || ask(port, "POST", &place, &body.to_string()));
        let answer = asked.await.unwrap().unwrap_or_else(|e| panic!("chromedriver, asked for {path}: {e}"));
        let value = answer["value"].clone();
        assert!(value.get("error").is_none(), "chromedriver, asked for {path}: {value}");
        value
    }
}

impl Drop for Browser {
    /// Ends the browser, which would outlive its driver.
    fn drop(&mut self) {
        let _ = ask(self.port, "DELETE", &self.path(""), "");
    }
}

/// One request, over a connection of its own.
fn ask(port: u16, method: &str, path: &str, body: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = Vec::new();
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    // The driver keeps connections open: the length says where the answer ends.
    let head = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut more = [0; 4096];
        match stream.read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&more[..n]),
        }
    };
    let fields = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = fields.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = answer.split_off(head);
    let have = body.len();
    body.resize(length.ok_or_else(invalid)?, 0);
    stream.read_exact(&mut body[have..])?;
    serde_json::from_slice(&body).map_err(|_| invalid())
}
