//! Mosquitto, as the cloud or as a peer to compare with.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::process::PATIENCE;
use super::{Process, port};

/// A broker on a port of 127.0.0.1, with all its files in a folder that goes with it.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Mosquitto {
    /// Starts one with these lines of config beside the listener. Anonymous clients may do everything unless a line
    /// says otherwise.
    pub async fn start(lines: &str) -> Self {
        Self::configured(lines, |_| String::new()).await
    }

    /// Starts one that keeps sessions and retained messages over [`Mosquitto::stop`] and [`Mosquitto::start_again`].
    pub async fn persistent(lines: &str) -> Self {
        Self::configured(lines, |folder| {
            format!("persistence true\npersistence_location {}/\nautosave_interval 1\n", folder.display())
        })
        .await
    }

    /// Starts one that speaks TLS only; its certificate is for `localhost` and 127.0.0.1, by the authority of
    /// [`Mosquitto::authority`].
    pub async fn tls(lines: &str) -> Self {
        Self::configured(lines, |folder| {
            certify(folder);
            let folder = folder.display();
            format!("cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n")
        })
        .await
    }

    async fn configured(lines: &str, more: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = port::free();
        let anonymous = if lines.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" };
        let more = more(folder.path());
        // It drops root's rights for a user that cannot read our folder, unless told to keep them.
        let config = format!("user root\nlog_dest stderr\nlistener {port} 127.0.0.1\n{anonymous}{more}{lines}\n");
        std::fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let process = Process::start("mosquitto", &mut command(folder.path()));
        let mut broker = Self { process, folder, port };
        broker.wait_until_it_listens().await;
        broker
    }

    /// Starts it again on the same port after [`Mosquitto::stop`] or [`Mosquitto::kill`].
    pub async fn start_again(&mut self) {
        self.process.start_again(&mut command(self.folder.path()));
        self.wait_until_it_listens().await;
    }

    /// Ends it in peace: it tells its clients and saves what it is to keep.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// Ends it as a power cut does.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Tells it to read its files anew.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Waits until it has saved its sessions, of now, as [`Mosquitto::persistent`] does now and then.
    pub async fn saved(&self) {
        let (file, now) = (self.folder.path().join("mosquitto.db"), SystemTime::now());
        let end = Instant::now() + PATIENCE;
        while !file.metadata().is_ok_and(|about| about.modified().unwrap() > now) {
            assert!(Instant::now() < end, "mosquitto saves nothing\n{}", self.process.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connections stay open, and nothing comes from it.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate, in PEM, of the authority that its own is from.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn wait_until_it_listens(&mut self) {
        let listens = port::answers(self.port, Duration::from_secs(10)).await;
        assert!(listens && !self.process.has_ended(), "mosquitto does not start\n{}", self.process.log());
    }
}

fn command(folder: &Path) -> Command {
    // Debian has it where only root looks.
    let place =
        ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|place| Path::new(place).exists());
    let mut command = Command::new(place.unwrap_or("mosquitto"));
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    command
}

/// Makes an authority and a server's certificate by it.
fn certify(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Fieldpost test authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let server = params.signed_by(&key, &authority).unwrap();
    for (name, text) in [("ca.pem", authority.pem()), ("server.pem", server.pem()), ("server.key", key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
}
