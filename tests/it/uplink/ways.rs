//! The ways to a cloud: WebSocket, TLS, proxies.

use std::path::Path;

use super::*;
use crate::support::{Authority, Process, port};

/// Carries a few messages over this connection, and ends it.
async fn carries(scheme: &str, port: u16, config: &str) {
    let mut gateway = Gateway::start(scheme, port, &format!("publish = [\"plant/#\"]\n{config}")).await;
    gateway.up().await;
    gateway.publish("plant/a", 0..100).await;
    gateway.until(|status| status.sent == 100).await;
    gateway.end().await;
}

/// Why it cannot be made.
async fn fails(scheme: &str, port: u16, config: &str) -> String {
    let mut gateway = Gateway::start(scheme, port, config).await;
    let why = gateway.down().await;
    gateway.end().await;
    why
}

/// Lines for a Mosquitto whose listener is for WebSocket; it does not start without another one.
fn websockets(lines: &str) -> String {
    format!("protocol websockets\n{lines}listener {} 127.0.0.1\n", port::free())
}

/// Files of an authority, a server and a client by it, in a folder.
fn certified() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    authority.certify("server", "server");
    authority.certify("client", "plant7");
    let at = folder.path().display().to_string();
    (folder, at)
}

#[tokio::test]
async fn over_tls_it_matters_who_vouches_for_the_cloud() {
    let (cloud, other) = (Mosquitto::tls("").await, Mosquitto::tls("").await);
    let ca = |of: &Mosquitto| format!("publish = [\"plant/#\"]\nca = \"{}\"", of.authority().display());
    let mut gateway = Gateway::start("mqtts", cloud.port(), &ca(&cloud)).await;
    gateway.up().await;
    gateway.publish("plant/a", 0..100).await;
    gateway.until(|status| status.sent == 100).await;
    gateway.end().await;

    let mut gateway = Gateway::start("mqtts", cloud.port(), &ca(&other)).await;
    let why = gateway.down().await;
    assert!(why.contains("not trusted here") || why.contains("BadSignature"), "{why}");
    gateway.end().await;

    let mut gateway = Gateway::start("mqtts", cloud.port(), "ca = \"/nowhere.pem\"").await;
    assert!(gateway.down().await.contains("/nowhere.pem"));
    gateway.end().await;

    let plain = Mosquitto::start("").await;
    let mut gateway = Gateway::start("mqtts", plain.port(), &ca(&cloud)).await;
    let why = gateway.down().await;
    assert!(why.starts_with("TLS: "), "{why}");
    gateway.end().await;
}

#[tokio::test]
async fn over_websocket_plain_and_with_tls() {
    let cloud = Mosquitto::start(&websockets("")).await;
    carries("ws", cloud.port(), "").await;
    carries("ws", cloud.port(), "protocol = \"3.1.1\"").await;
    let (_folder, at) = certified();
    let tls = format!("cafile {at}/ca.pem\ncertfile {at}/server.pem\nkeyfile {at}/server.key\n");
    let cloud = Mosquitto::start(&websockets(&tls)).await;
    carries("wss", cloud.port(), &format!("ca = \"{at}/ca.pem\"")).await;
    let plain = Mosquitto::start("").await;
    let why = fails("ws", plain.port(), "").await;
    assert!(why.starts_with("WebSocket: ws://localhost:"), "{why}");
}

#[tokio::test]
async fn with_a_certificate_of_ours_and_without_looking_at_the_clouds() {
    let (_folder, at) = certified();
    let (_other, elsewhere) = certified();
    let files = |at: &str| format!("cafile {at}/ca.pem\ncertfile {at}/server.pem\nkeyfile {at}/server.key\n");
    let lines = files(&at) + "require_certificate true\nuse_identity_as_username true\nallow_anonymous false";
    let cloud = Mosquitto::start(&lines).await;
    let ours = |of: &str| format!("ca = \"{at}/ca.pem\"\ncertificate = \"{of}/client.pem\"\nkey = \"{of}/client.key\"");
    carries("mqtts", cloud.port(), &ours(&at)).await;
    for wrong in [ours(&elsewhere), format!("ca = \"{at}/ca.pem\"")] {
        let why = fails("mqtts", cloud.port(), &wrong).await;
        assert!(why.contains("certificate") || why.contains("TLS") || why.contains("logging in"), "{why}");
    }

    let cloud = Mosquitto::start(&files(&elsewhere)).await;
    let why = fails("mqtts", cloud.port(), &format!("ca = \"{at}/ca.pem\"")).await;
    assert!(why.contains("not trusted here") || why.contains("BadSignature"), "{why}");
    let why =
        fails("mqtts", cloud.port(), &format!("ca = \"{elsewhere}/ca.pem\"\nserver-name = \"other.example\"")).await;
    assert!(why.contains("another name than other.example"), "{why}");
    carries("mqtts", cloud.port(), "insecure = true").await;
}

#[tokio::test]
async fn what_alpn_offers_is_what_the_cloud_gets() {
    use rustls::pki_types::pem::PemObject;
    let (_folder, at) = certified();
    let file = |name: &str| Path::new(&at).join(name);
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(file("server.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cloud = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(tcp).await.unwrap();
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    });
    let alpn = format!("ca = \"{at}/ca.pem\"\nalpn = [\"x-amzn-mqtt-ca\"]");
    let gateway = Gateway::start("mqtts", cloud, &alpn).await;
    let spoken = timeout(PATIENCE, accepting).await.expect("it connects").unwrap();
    assert_eq!(spoken.as_deref(), Some(&b"x-amzn-mqtt-ca"[..]));
    gateway.end().await;
}

#[tokio::test]
async fn through_an_http_proxy_with_and_without_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = port::free();
    let config = folder.path().join("tinyproxy.conf");
    std::fs::write(&config, format!("Port {proxy}\nListen 127.0.0.1\nTimeout 60\nBasicAuth plant geheim7\n")).unwrap();
    let mut command = tokio::process::Command::new("tinyproxy");
    let _process = Process::start("tinyproxy", command.arg("-d").arg("-c").arg(&config));
    assert!(port::answers(proxy, PATIENCE).await);
    let cloud = Mosquitto::start("").await;
    let through = |login: &str| format!("proxy = \"http://{login}127.0.0.1:{proxy}\"");
    carries("mqtt", cloud.port(), &through("plant:geheim%37@")).await;
    for (login, part) in [("", "wants user and password"), ("plant:wrong@", "refuses user or password")] {
        let why = fails("mqtt", cloud.port(), &through(login)).await;
        assert!(why.contains(part) && !why.contains("wrong@"), "{why}");
    }
    let why = fails("mqtt", port::free(), &through("plant:geheim%37@")).await;
    assert!(why.contains(&format!("the proxy http://127.0.0.1:{proxy} cannot connect to localhost:")), "{why}");

    let (_folder, at) = certified();
    let tls = format!("cafile {at}/ca.pem\ncertfile {at}/server.pem\nkeyfile {at}/server.key\n");
    let cloud = Mosquitto::start(&websockets(&tls)).await;
    let all = format!("{}\nca = \"{at}/ca.pem\"", through("plant:geheim%37@"));
    carries("wss", cloud.port(), &all).await;
}

#[tokio::test]
async fn a_token_by_a_command_is_asked_for_at_each_connection() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .args([passwords.as_os_str(), "plant7".as_ref(), "token-2".as_ref()])
        .status()
        .unwrap();
    assert!(made.success());
    let cloud = Mosquitto::start(&format!("allow_anonymous false\npassword_file {}", passwords.display())).await;
    // It prints token-1, then token-2.
    let count = folder.path().join("count");
    let script = format!("echo x >> {0}; echo token-$(wc -l < {0})", count.display());
    let config = format!("username = \"plant7\"\npassword = {{ command = [\"sh\", \"-c\", \"{script}\"] }}");
    let mut gateway = Gateway::start("mqtt", cloud.port(), &config).await;
    assert!(gateway.down().await.contains("not authorised"));
    gateway.up().await;
    gateway.end().await;

    let why =
        fails("mqtt", cloud.port(), "password = { command = [\"sh\", \"-c\", \"echo no key >&2; exit 3\"] }").await;
    assert!(
        why.contains("the command sh ended with exit status: 3; its error output is in the log at debug level"),
        "{why}"
    );
}
