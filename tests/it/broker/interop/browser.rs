//! MQTT.js in a page in Chromium, which comes over WebSocket.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::broker::clients::Clients;
use crate::broker::listeners::all_kinds;
use crate::support::{Browser, Gateway, node};

/// A web server with the page, on a port of its own: an origin.
struct Site {
    origin: String,
    _server: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let page = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/mqtt_page.html")).unwrap();
        let script = std::fs::read(node::file("mqtt/dist/mqtt.min.js")).unwrap();
        let files = Arc::new((page, script));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Each connection for itself: a browser also opens some on which it asks for nothing.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer(stream, files.clone()));
            }
        });
        Self { origin, _server: server }
    }

    /// The page's address; it connects to this port of the gateway.
    fn page(&self, scheme: &str, port: u16, version: u8) -> String {
        format!("{}/?url={scheme}://127.0.0.1:{port}/any/path&v={version}", self.origin)
    }
}

/// Answers the one request of a connection with the script or the page.
async fn answer(mut stream: TcpStream, files: Arc<(Vec<u8>, Vec<u8>)>) {
    let mut request = [0; 4096];
    let Ok(n @ 1..) = stream.read(&mut request).await else { return };
    let (kind, body) = match request[..n].starts_with(b"GET /mqtt.min.js ") {
        true => ("text/javascript", &files.1),
        false => ("text/html", &files.0),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
    let head = format!("{head}Connection: close\r\n\r\n");
    let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
}

/// Whether the page shows this message, as an expression in it.
fn shows(message: &str) -> String {
    let message = json!(message);
    format!("[...document.querySelectorAll('li')].some((item) => item.textContent === {message})")
}

/// What the page has to say when its client is in this state, as an expression.
fn is(state: &str) -> String {
    format!("state.textContent === '{state}'")
}

#[tokio::test]
async fn a_page_subscribes_publishes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let ([_, websocket, secure], config) = all_kinds(folder.path());
    let mut gateway = Gateway::start(&config).await;
    let site = Site::start().await;
    for (version, scheme, port) in [(4, "ws", websocket), (5, "wss", secure), (5, "ws", websocket), (4, "wss", secure)]
    {
        let browser = Browser::start().await;
        let mut paho = Clients::start(&gateway);
        paho.connect("paho", json!({"v": version})).await;
        paho.subscribe("paho", "from/page", 2).await;
        paho.subscribe("paho", "page-gone", 2).await;
        paho.retain("paho", "page/kept", "kept").await;
        browser.open(&site.page(scheme, port, version)).await;
        browser.until(&is("connected")).await;
        browser.until(&shows("page/kept kept 1 true")).await;
        for qos in 0..=2 {
            paho.publish("paho", "page/live", "grün", qos).await;
            browser.until(&shows(&format!("page/live grün {qos} false"))).await;
            browser.run(&format!("client.publish('from/page', 'hello', {{qos: {qos}}})")).await;
            let came = paho.take("paho", 1).await.remove(0);
            assert_eq!((&came["payload"], &came["qos"]), (&json!("hello"), &json!(qos)));
        }
        // More than a WebSocket's frame of ours holds, there and back.
        browser.run("client.publish('page/large', 'x'.repeat(200_000), {qos: 1})").await;
        browser.until(&shows("page/large 200000 bytes 1 false")).await;
        // A restart of the gateway is no end.
        gateway.restart().await;
        browser.until("connects === 2").await;
        let mut paho = Clients::start(&gateway);
        paho.connect("paho", json!({"v": version})).await;
        paho.subscribe("paho", "page-gone", 1).await;
        paho.publish("paho", "page/live", "again", 1).await;
        browser.until(&shows("page/live again 1 false")).await;
        // A browser that is closed has not said good-bye for its pages.
        drop(browser);
        assert_eq!(paho.payloads("paho", 1).await, ["gone"]);
    }
}

#[tokio::test]
async fn only_pages_from_listed_origins_connect() {
    let (good, evil) = (Site::start().await, Site::start().await);
    let port = crate::support::port::free();
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\n[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\nwebsocket = true\n\
         origins = [\"https://elsewhere\", \"{}\"]\n",
        good.origin
    );
    let gateway = Gateway::start(&config).await;
    let browser = Browser::start().await;
    for version in [4, 5] {
        browser.open(&evil.page("ws", port, version)).await;
        browser.until(&is("closed")).await;
        let console = browser.console().await.concat();
        assert!(console.contains("403"), "{console}");
        assert_eq!(browser.run("return connects").await, 0);
        browser.open(&good.page("ws", port, version)).await;
        browser.until(&is("connected")).await;
    }
    assert!(gateway.log().contains("see `origins` of this listener"), "{}", gateway.log());
    // What is no page has no origin.
    let mut js = Clients::mqtt_js(&gateway);
    let connected: Value = js.ask("node", "connect", json!({"port": port, "websocket": true})).await;
    assert_eq!(connected["reason"], 0);
}
