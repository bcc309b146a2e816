//! The cloud is there, and the gateway does not get in: a certificate, a password or a name is not right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::run::{KEEPS, Run, Setup};
use crate::support::{Authority, Mosquitto, port, status};

#[tokio::test]
async fn messages_wait_until_the_right_authority_is_named() {
    let (cloud, other) = (Mosquitto::tls(KEEPS).await, Mosquitto::tls("").await);
    let setup = |of: &Mosquitto| Setup {
        url: "mqtts://localhost",
        more: format!("ca = \"{}\"", of.authority().display()),
        login: vec!["--cafile".into(), cloud.authority().display().to_string()],
        ..Setup::default()
    };
    let mut run = Run::start_offline(&cloud, setup(&other)).await;
    let why = status::offline(&run.gateway).await;
    assert!(why.starts_with("TLS: ") && (why.contains("not trusted here") || why.contains("BadSignature")), "{why}");
    run.percent(50).await;
    let right = run.config(&setup(&cloud));
    run.restart_with(&right).await;
    run.arrives().await;
}

#[tokio::test]
async fn messages_wait_until_an_expired_certificate_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    authority.certify("server", "cloud");
    let files = folder.path().display();
    // The collector comes by another way: it would give up.
    let plain = port::free();
    let lines = format!(
        "{KEEPS}\ncafile {files}/ca.pem\ncertfile {files}/server.pem\nkeyfile {files}/server.key\n\
         listener {plain} 127.0.0.1"
    );
    let mut cloud = Mosquitto::persistent(&lines).await;
    assert!(port::answers(plain, Duration::from_secs(10)).await);
    let more = format!("ca = \"{files}/ca.pem\"");
    let login = vec!["-p".into(), plain.to_string()];
    let setup = Setup { url: "mqtts://localhost", more, login, ..Setup::default() };
    let mut run = Run::start(&cloud, setup).await;
    run.percent(20).await;
    authority.certify_expired("server", "cloud");
    cloud.stop().await;
    cloud.start_again().await;
    status::until(&run.gateway, "an expired certificate", |status| {
        status::uplink(status)["state"]["down"].as_str().is_some_and(|why| why.contains("expired"))
    })
    .await;
    run.percent(50).await;
    authority.certify("server", "cloud");
    cloud.stop().await;
    cloud.start_again().await;
    run.cloud_sends_again(200);
    run.arrives().await;
}

/// Whom the cloud knows: the gateway, `plant7`, and the collector.
struct Users(tempfile::TempDir);

impl Users {
    fn new() -> Self {
        let users = Self(tempfile::tempdir().unwrap());
        fs::write(users.list(), "").unwrap();
        users.set("plant7", "right");
        users.set("collector", "other");
        users
    }

    fn set(&self, user: &str, password: &str) {
        let mut set = Command::new("mosquitto_passwd");
        set.arg("-b").arg(self.list()).args([user, password]);
        assert!(set.status().unwrap().success());
    }

    fn list(&self) -> PathBuf {
        self.0.path().join("users")
    }

    /// The file with the gateway's password.
    fn ours(&self) -> PathBuf {
        self.0.path().join("password")
    }

    async fn cloud(&self) -> Mosquitto {
        let list = self.list();
        Mosquitto::persistent(&format!("{KEEPS}\nallow_anonymous false\npassword_file {}", list.display())).await
    }

    fn setup(&self, protocol: &'static str) -> Setup {
        Setup {
            protocol,
            more: format!("username = \"plant7\"\npassword = {{ file = \"{}\" }}", self.ours().display()),
            login: ["-u", "collector", "-P", "other"].map(String::from).to_vec(),
            ..Setup::default()
        }
    }
}

#[tokio::test]
async fn messages_wait_until_the_password_is_right() {
    for protocol in ["5", "3.1.1"] {
        let users = Users::new();
        let cloud = users.cloud().await;
        fs::write(users.ours(), "wrong\n").unwrap();
        let mut run = Run::start_offline(&cloud, users.setup(protocol)).await;
        let why = status::offline(&run.gateway).await;
        assert!(why.contains("not authorised (0x87)") && why.contains("`password`"), "{why}");
        run.percent(40).await;
        // The file is read at each try: no restart is needed.
        fs::write(users.ours(), "right\n").unwrap();
        assert_eq!(run.arrives().await.again, 0);
    }
}

#[tokio::test]
async fn messages_wait_while_the_password_is_revoked() {
    let users = Users::new();
    let mut cloud = users.cloud().await;
    fs::write(users.ours(), "right\n").unwrap();
    let mut run = Run::start(&cloud, users.setup("5")).await;
    run.percent(20).await;
    users.set("plant7", "revoked");
    cloud.stop().await;
    cloud.start_again().await;
    status::until(&run.gateway, "refused", |status| {
        status::uplink(status)["state"]["down"].as_str().is_some_and(|why| why.contains("not authorised"))
    })
    .await;
    run.percent(50).await;
    users.set("plant7", "right");
    cloud.reload();
    run.cloud_sends_again(100);
    run.arrives().await;
}

/// A name that is known by a file of hosts, and else to nobody: there is no name server.
struct Names(tempfile::TempDir);

impl Names {
    const NAME: &str = "cloud.test";

    fn new() -> Self {
        let names = Self(tempfile::tempdir().unwrap());
        fs::write(names.file("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        names.know(true);
        names
    }

    fn know(&self, known: bool) {
        let more = if known { format!("127.0.0.1 {}\n", Self::NAME) } else { String::new() };
        // In its place: what is mounted is the file, and not its name.
        fs::write(self.file("hosts"), format!("127.0.0.1 localhost\n{more}")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a program that knows these names only.
    fn wrapper(&self) -> Vec<String> {
        let mount = |name: &str, at: &str| {
            let at = Path::new(at).canonicalize().unwrap();
            format!("mount --bind '{}' '{}' && ", self.file(name).display(), at.display())
        };
        let mounts = mount("hosts", "/etc/hosts") + &mount("resolv.conf", "/etc/resolv.conf");
        ["unshare", "-Urm", "sh", "-c", &format!("{mounts} exec \"$0\" \"$@\"")].map(str::to_owned).into()
    }
}

#[tokio::test]
async fn messages_wait_while_nobody_knows_the_name_of_the_cloud() {
    let (cloud, names) = (Mosquitto::start(KEEPS).await, Names::new());
    let setup = Setup { url: "mqtt://cloud.test", wrapper: names.wrapper(), ..Setup::default() };
    let mut run = Run::start(&cloud, setup).await;
    run.percent(20).await;
    names.know(false);
    run.line.reset();
    status::until(&run.gateway, "no name", |status| {
        status::uplink(status)["state"]["down"].as_str().is_some_and(|why| why.contains("cannot find cloud.test"))
    })
    .await;
    run.percent(60).await;
    names.know(true);
    run.arrives().await;
}
