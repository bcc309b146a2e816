//! The gateway itself, as the program that users run.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::process::PATIENCE;
use super::{Process, port};

/// `fieldpost run` with a config of its own, in a folder that goes with it.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    folder: TempDir,
    mqtt: u16,
    admin: u16,
    wrapper: Vec<String>,
}

impl Gateway {
    /// Starts it with this config and waits until it is ready.
    ///
    /// In the config, `@mqtt@` and `@admin@` become free addresses (`127.0.0.1:PORT`), `@dir@` the gateway's folder and
    /// `@store@` a file in it. `[broker]`, `[store]` and `[admin]` are added when the config has no such table.
    pub async fn start(config: &str) -> Self {
        let mut gateway = Self::start_unready(config);
        gateway.ready().await;
        gateway
    }

    /// Starts it without waiting: for configs that it is to refuse.
    pub fn start_unready(config: &str) -> Self {
        Self::start_under(&[], config)
    }

    /// As [`Gateway::start_unready`], by a program that starts others, such as `env`.
    pub fn start_under(wrapper: &[&str], config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mqtt, admin) = (port::free(), port::free());
        write_config(folder.path(), mqtt, admin, config);
        let wrapper: Vec<_> = wrapper.iter().map(ToString::to_string).collect();
        let process = Process::start("fieldpost", &mut command(folder.path(), &wrapper));
        Self { process, folder, mqtt, admin, wrapper }
    }

    /// Waits until its page says that it is well.
    pub async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !matches!(get(self.admin, "/healthz").await, Some((200, _))) {
            let ended = self.process.has_ended();
            assert!(!ended && Instant::now() < end, "fieldpost is not ready (ended: {ended})\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again after [`Gateway::stop`] or [`Gateway::kill`]: same config, ports and store.
    pub async fn start_again(&mut self) {
        self.process.start_again(&mut command(self.folder.path(), &self.wrapper));
        self.ready().await;
    }

    /// As [`Gateway::start_again`] with another config.
    pub async fn start_again_with(&mut self, config: &str) {
        write_config(self.folder.path(), self.mqtt, self.admin, config);
        self.start_again().await;
    }

    /// Stops it in peace and starts it again.
    pub async fn restart(&mut self) {
        let status = self.stop().await;
        assert!(status.success(), "fieldpost ended with {status}\n{}", self.log());
        self.start_again().await;
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.stop().await
    }

    /// Ends it as a power cut does.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Tells it to read its files anew (SIGHUP), and waits until its log says `what` once more.
    pub async fn reload(&self, what: &str) {
        let count = || self.log().matches(what).count();
        let before = count();
        self.process.signal(Signal::HUP);
        let end = Instant::now() + PATIENCE;
        while count() == before {
            assert!(Instant::now() < end, "no `{what}` in\n{}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Writes another config for the next start or reload.
    pub fn configure(&self, config: &str) {
        write_config(self.folder.path(), self.mqtt, self.admin, config);
    }

    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// The port of its broker.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt
    }

    /// The port of its page.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// Its folder, with `fieldpost.toml` and `store.db`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its store's file.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// What it has written to stderr since the first start.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What its API says of everything, as soon as that is `good`.
    pub async fn until(&self, what: &str, good: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        until(self.admin, what, good).await
    }

    /// What its page answers at `path`: the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await.unwrap_or_else(|| panic!("the page does not answer at {path}\n{}", self.log()))
    }
}

fn write_config(folder: &Path, mqtt: u16, admin: u16, config: &str) {
    let mut config = config.to_owned();
    for (table, line) in
        [("broker", "listen = \"@mqtt@\""), ("admin", "listen = \"@admin@\""), ("store", "path = \"@store@\"")]
    {
        if !config.lines().any(|text| text.trim() == format!("[{table}]")) {
            config.push_str(&format!("\n[{table}]\n{line}\n"));
        }
    }
    let config = config
        .replace("@mqtt@", &format!("127.0.0.1:{mqtt}"))
        .replace("@admin@", &format!("127.0.0.1:{admin}"))
        .replace("@store@", "@dir@/store.db")
        .replace("@dir@", folder.to_str().unwrap());
    std::fs::write(folder.join("fieldpost.toml"), config).unwrap();
}

fn command(folder: &Path, wrapper: &[String]) -> Command {
    let program = [env!("CARGO_BIN_EXE_fieldpost").to_owned()];
    let mut words = wrapper.iter().chain(&program);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words).arg("run").arg(folder.join("fieldpost.toml")).current_dir(folder);
    command
}

/// Asks the API at this port for everything, until what it says is `good`.
pub async fn until(port: u16, what: &str, good: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let end = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < end {
        if let Some((200, body)) = get(port, "/api/status").await {
            let status = serde_json::from_str(&body).unwrap_or_else(|e| panic!("no JSON ({e}): {body}"));
            if good(&status) {
                return status;
            }
            last = Some(body);
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}; the API said {last:?}");
}

/// A GET by hand, so that no client library's kindness hides what the page says.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    timeout(Duration::from_secs(5), exchange).await.ok().flatten()
}
