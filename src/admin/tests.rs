//! The page as a browser, a script and an attacker meet it, over a real socket.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Config, bind};
use crate::clock::Moment;
use crate::clock::trust::Standing;
use crate::reading::{Quality, Value};
use crate::secret::Secret;
use crate::status::{
    Board, Broker, Bus, Counters, Device, Gateway, Point, Queue, State, Store, Uplink, uplink_session,
};

/// The senders of a board: what the parts hold.
pub(super) struct Parts {
    pub(super) bus: watch::Sender<Bus>,
    pub(super) points: watch::Sender<Vec<Point>>,
    pub(super) broker: watch::Sender<Broker>,
    pub(super) uplink: watch::Sender<Uplink>,
    pub(super) store: watch::Sender<Store>,
}

/// A gateway where all is well.
pub(super) fn board() -> (Board, Parts) {
    let at = Some(Moment::now());
    let device = Device {
        name: "meter".into(),
        unit: Some(1),
        state: State::Up,
        answered: at,
        counters: Counters { requests: 10, answers: 9, timeouts: 1, ..Counters::default() },
        round_trip_us: Some(41_200),
    };
    let link = "modbus-tcp 192.0.2.1:502".into();
    let bus = Bus { name: "plc".into(), link, state: State::Up, utilisation: 0.25, devices: vec![device] };
    let point = Point {
        device: "meter".into(),
        point: "voltage".into(),
        topic: "plant/meter/voltage".into(),
        value: Value::Float(231.4),
        unit: Some("V".into()),
        quality: Quality::Good,
        at,
        fault: None,
        every: Duration::from_secs(1),
        writable: false,
    };
    let queue = Queue { session: uplink_session("cloud").into(), connected: true, ..Queue::default() };
    let (bus, bus_rx) = watch::channel(bus);
    let (points, points_rx) = watch::channel(vec![point]);
    let (broker, broker_rx) = watch::channel(Broker { queues: vec![queue], ..Broker::default() });
    let (uplink, uplink_rx) =
        watch::channel(Uplink { name: "cloud".into(), state: State::Up, since: at, ..Uplink::default() });
    let (store, store_rx) = watch::channel(Store { state: State::Up, max_bytes: 1000, ..Store::default() });
    let gateway = Gateway { id: "plant7".into(), version: "0.1.0", started: Moment::now() };
    let clock = Standing { synced: true, ..Standing::default() };
    let board = Board {
        gateway,
        clock: watch::channel(clock).1,
        buses: vec![bus_rx],
        points: points_rx,
        broker: broker_rx,
        uplinks: vec![uplink_rx],
        store: store_rx,
    };
    (board, Parts { bus, points, broker, uplink, store })
}

/// A served page; it ends with the test.
struct Site {
    address: SocketAddr,
    stop: CancellationToken,
    parts: Parts,
}

impl Site {
    async fn open(listen: &str, password: Option<&str>) -> Self {
        let password = password.map(|p| Secret::Plain(p.into()));
        let admin = bind(&Config { listen: listen.into(), password }).await.unwrap();
        let (address, stop) = (admin.address(), CancellationToken::new());
        let (board, parts) = board();
        tokio::spawn(admin.run(board, stop.clone()));
        Self { address, stop, parts }
    }

    async fn local() -> Self {
        Self::open("127.0.0.1:0", None).await
    }

    /// Sends a request with these header lines and returns the connection.
    async fn ask(&self, request: &str, lines: &[&str]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.address.port())).await.unwrap();
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        stream.write_all(format!("{request} HTTP/1.1\r\n{lines}\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer, head and body.
    async fn answer(&self, request: &str, lines: &[&str]) -> String {
        let mut stream = self.ask(request, &[lines, &["Connection: close"]].concat()).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.answer(&format!("GET {path}"), &["Host: localhost"]).await
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("an answer begins with its status")
}

fn json(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Reads until `wanted` has come.
async fn until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_buf(&mut seen)).await;
        assert_ne!(read.expect("something comes").unwrap(), 0, "ended before {wanted:?}");
        let text = String::from_utf8_lossy(&seen);
        if text.contains(wanted) {
            return text.into_owned();
        }
    }
}

#[tokio::test]
async fn the_page_is_complete_without_script_and_sealed() {
    let site = Site::local().await;
    let page = site.get("/").await;
    assert_eq!(status(&page), 200);
    for part in ["All good", "231.4", "plant/meter/voltage", "modbus-tcp 192.0.2.1:502", "cloud", "41 ms", "25 %"] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(page.contains("content-security-policy: default-src 'none';"));
    assert!(page.contains("x-content-type-options: nosniff"));
}

#[tokio::test]
async fn the_points_of_a_config_wait_to_be_read_and_are_not_at_fault() {
    let text = "[bus.plc]\nmodbus-tcp = { host = \"192.0.2.1\" }\n\
                [device.meter]\nbus = \"plc\"\nunit = 1\npoints.power = { input = 0, as = \"u16\" }\n";
    let config = crate::config::Config::parse(std::path::Path::new("fieldpost.toml"), text).unwrap();
    let site = Site::local().await;
    site.parts.points.send_replace(config.points);
    let page = site.get("/").await;
    for part in ["Starting", "1 point has not been read yet.", "not read yet", "never"] {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[tokio::test]
async fn names_from_outside_cannot_become_markup() {
    let site = Site::local().await;
    let evil = "<script>alert(1)</script>\"'&";
    site.parts.bus.send_modify(|bus| bus.devices[0].name = evil.into());
    site.parts.points.send_modify(|points| {
        points[0].device = evil.into();
        points[0].value = Value::Text(evil.into());
        points[0].fault = Some(evil.into());
    });
    let page = site.get("/").await;
    assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert"), "{page}");
    assert!(!page.contains("script&#62;\"'&"), "quotes end an attribute");
}

#[tokio::test]
async fn a_tab_gets_everything_and_then_what_changes() {
    let site = Site::local().await;
    let mut tab = site.ask("GET /events", &["Host: localhost"]).await;
    let first = until(&mut tab, "device/meter").await;
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    site.parts.points.send_modify(|points| points[0].value = Value::Float(229.9));
    let second = until(&mut tab, "229.9").await;
    assert!(!second.contains("device/meter"), "what has not changed is not sent: {second}");
}

#[tokio::test]
async fn stopping_ends_open_tabs_at_once() {
    let site = Site::local().await;
    let mut tab = site.ask("GET /events", &["Host: localhost"]).await;
    until(&mut tab, "device/meter").await;
    site.stop.cancel();
    tab.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_page_elsewhere_cannot_read_it_under_a_name_of_its_own() {
    let site = Site::local().await;
    for path in ["/", "/api/status", "/events", "/metrics"] {
        assert_eq!(status(&site.answer(&format!("GET {path}"), &["Host: evil.example"]).await), 421, "{path}");
    }
    let bound = format!("Host: {}", site.address);
    assert_eq!(status(&site.answer("GET /", &[&bound]).await), 200);
}

#[tokio::test]
async fn with_a_password_nothing_but_healthz_is_open() {
    let site = Site::open("0.0.0.0:0", Some("hush")).await;
    for path in ["/", "/api/status", "/events", "/metrics", "/page.js", "/nowhere"] {
        let answer = site.answer(&format!("GET {path}"), &["Host: plant7.local"]).await;
        assert_eq!(status(&answer), 401, "{path}");
        assert!(answer.contains("www-authenticate: Basic realm="), "{path}");
        assert!(!answer.contains("plant7\""), "{path}");
    }
    // anyone:wrong, anyone:hush
    let with = |code: &str| format!("Authorization: Basic {code}");
    assert_eq!(status(&site.answer("GET /", &["Host: x", &with("YW55b25lOndyb25n")]).await), 401);
    assert_eq!(status(&site.answer("GET /", &["Host: x", &with("YW55b25lOmh1c2g=")]).await), 200);
    assert_eq!(status(&site.answer("GET /healthz", &["Host: x"]).await), 200);
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let site = Site::local().await;
    assert_eq!(status(&site.get("/nowhere").await), 404);
    assert_eq!(status(&site.answer("POST /api/points", &["Host: localhost", "Content-Length: 0"]).await), 405);
    let point = site.get("/api/points/meter/current").await;
    assert_eq!(status(&point), 404);
    assert!(point.contains("There is no point meter/current"), "{point}");
}

#[tokio::test]
async fn the_api_says_what_the_board_says() {
    let site = Site::local().await;
    let point = json(&site.get("/api/points/meter/voltage").await);
    assert_eq!((&point["value"], &point["quality"]), (&231.4.into(), &"good".into()));
    assert_eq!(json(&site.get("/api/points").await)[0], point);
    assert_eq!(json(&site.get("/api/status").await)["ready"], true);

    site.parts.uplink.send_modify(|uplink| uplink.state = State::Down("refused".into()));
    site.parts.broker.send_modify(|broker| broker.queues[0].entries = 7);
    let uplink = &json(&site.get("/api/uplinks").await)[0];
    assert_eq!(uplink["uplink"]["state"]["down"], "refused");
    assert_eq!(uplink["queue"]["entries"], 7);
    assert_eq!(json(&site.get("/api/status").await)["ready"], false);
}

#[tokio::test]
async fn a_part_that_has_ended_stays_as_it_was() {
    let mut site = Site::local().await;
    site.parts.store.send_modify(|store| store.state = State::Down("disk gone".into()));
    site.parts.store = watch::channel(Store::default()).0;
    assert!(site.get("/").await.contains("The store cannot write: disk gone."));
    let mut tab = site.ask("GET /events", &["Host: localhost"]).await;
    until(&mut tab, "disk gone").await;
}

#[tokio::test]
async fn metrics_are_escaped_and_hold_no_frozen_value() {
    let site = Site::local().await;
    site.parts.bus.send_modify(|bus| bus.name = "a\"b\\c\nd".into());
    let good = site.get("/metrics").await;
    assert!(good.contains("\nfieldpost_bus_up{bus=\"a\\\"b\\\\c\\nd\"} 1\n"), "{good}");
    assert!(good.contains("\n# TYPE fieldpost_device_requests_total counter\n"), "{good}");
    assert!(good.contains("\nfieldpost_point_value{device=\"meter\",point=\"voltage\",unit=\"V\"} 231.4\n"), "{good}");

    site.parts.points.send_modify(|points| points[0].quality = Quality::Stale);
    let stale = site.get("/metrics").await;
    assert!(!stale.contains("fieldpost_point_value"), "{stale}");
    assert!(stale.contains("\nfieldpost_point_good{device=\"meter\",point=\"voltage\"} 0\n"), "{stale}");
}

#[tokio::test]
async fn files_are_sent_once_and_then_confirmed() {
    let site = Site::local().await;
    for path in ["/page.css", "/page.js", "/icon.svg"] {
        let answer = site.get(path).await;
        let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let known = format!("If-None-Match: {tag}");
        let again = site.answer(&format!("GET {path}"), &["Host: localhost", &known]).await;
        assert_eq!((status(&answer), status(&again)), (200, 304), "{path}");
        assert!(again.ends_with("\r\n\r\n"), "{path}: no body");
    }
}
