//! From a register to the cloud and back, with the program itself: servers on libmodbus, a talker on a pseudoterminal,
//! Mosquitto as the cloud, its clients here and there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use fieldpost::bus::Table;
use fieldpost::simulator::{Device, Pty, Registers, Units, rtu};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::support::modbus::Make;
use crate::support::watcher::Heard;
use crate::support::{Gateway, Line, ModbusServer, Mosquitto, Watcher};

/// The gateway and its uplink; buses and devices are added.
fn config(cloud: &Mosquitto, wires: &str) -> String {
    format!(
        r##"
        [gateway]
        id = "plant7"
        topic = "plant/{{device}}/{{point}}"
        every = "200ms"

        [uplink.cloud]
        url = "mqtt://127.0.0.1:{}"
        publish = ["plant/#", "fieldpost/plant7/device/#"]
        subscribe = ["plant/+/+/set"]
        {wires}"##,
        cloud.port()
    )
}

/// Where the gateway says which devices answer.
const STATES: &str = "fieldpost/plant7/device/#";

fn is(quality: &str) -> impl Fn(&Heard) -> bool {
    move |heard| heard.json()["q"] == quality
}

async fn publish(port: u16, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
    assert!(command.status().await.unwrap().success());
}

#[tokio::test]
async fn readings_of_every_form_arrive_here_and_in_the_cloud() {
    let cloud = Mosquitto::start("").await;
    let registers = ["input:8=42", "holding:16=0x8000,0x4367,0xFFFF,0xFFFE", "coil:3=1", "input:20=0x5069,0x2035,0"];
    let registers = registers.map(str::to_owned);
    let line = Line::open();
    let tank = ModbusServer::tcp(Make::Libmodbus, &registers).await;
    let _meter = ModbusServer::rtu(Make::Libmodbus, line.device_port(), &registers).await;
    let points = |device: &str| {
        format!(
            r#"
            [device.{device}.points]
            level = {{ input = 8, as = "u16", scale = 0.1, unit = "m" }}
            flow = {{ holding = 16, as = "f32", order = "CDAB", payload = "value" }}
            balance = {{ holding = 18, as = "i32", retain = false }}
            pump = {{ coil = 3 }}
            name = {{ input = 20, as = "string:6" }}
            seldom = {{ input = 8, as = "u16", report = {{ change = 1, at-least = "1h" }} }}
            now-and-then = {{ input = 8, as = "u16", report = {{ change = 1, at-least = "600ms" }} }}
            "#
        )
    };
    let wires = format!(
        "[bus.plc]\nmodbus-tcp = {{ host = \"127.0.0.1\", port = {} }}\n[device.tank]\nbus = \"plc\"\nunit = 1\n{}\n\
         [bus.line]\nmodbus-rtu = {{ port = \"{}\" }}\n[device.meter]\nbus = \"line\"\nunit = 1\n{}",
        tank.port(),
        points("tank"),
        line.client_port().display(),
        points("meter"),
    );
    let mut there = Watcher::start(cloud.port(), "plant/#", &[]).await;
    let gateway = Gateway::start(&config(&cloud, &wires)).await;
    let mut here = Watcher::start(gateway.mqtt_port(), "plant/#", &[]).await;
    for (place, watcher) in [("here", &mut here), ("there", &mut there)] {
        for device in ["tank", "meter"] {
            for (point, value) in
                [("level", json!(4.2)), ("balance", json!(-2)), ("pump", json!(true)), ("name", json!("Pi 5"))]
            {
                let heard = watcher.until(&format!("plant/{device}/{point}"), is("good")).await.json();
                assert_eq!(heard["v"], value, "{device} {point} {place}");
                assert!(heard["t"].as_str().is_some_and(|t| t.starts_with("20") && t.ends_with('Z')), "{heard}");
            }
            watcher.until(&format!("plant/{device}/flow"), |heard| heard.payload == "231.5").await;
        }
    }

    // One topic's messages, counted while another's come at each reading.
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    while counts.get("plant/tank/level").is_none_or(|n| *n < 15) {
        *counts.entry(there.next().await.topic).or_default() += 1;
    }
    let seldom = counts.get("plant/tank/seldom").copied().unwrap_or(0);
    let sometimes = counts["plant/tank/now-and-then"];
    assert!(seldom <= 1 && (2..=8).contains(&sometimes), "{counts:?}");

    // Who comes later gets the last of each, but of the one that is not to be kept.
    let mut late = Watcher::start(cloud.port(), "plant/tank/#", &[]).await;
    let mut kept = std::collections::BTreeSet::new();
    loop {
        let heard = late.next().await;
        if !heard.retained {
            break;
        }
        kept.insert(heard.topic);
    }
    assert!(kept.len() == 6 && !kept.contains("plant/tank/balance"), "{kept:?}");
}

#[tokio::test]
async fn commands_from_the_cloud_and_from_here_reach_the_device_within_their_limits() {
    let cloud = Mosquitto::start("").await;
    let mut server = ModbusServer::tcp(Make::Libmodbus, &["holding:20=7".to_owned()]).await;
    let wires = format!(
        r#"
        [bus.plc]
        modbus-tcp = {{ host = "127.0.0.1", port = {} }}
        [device.tank]
        bus = "plc"
        unit = 1
        [device.tank.points]
        setpoint = {{ holding = 20, as = "u16", scale = 0.5, write = {{ min = 0, max = 100 }} }}
        pump = {{ coil = 3, write = true }}
        level = {{ holding = 21, as = "u16" }}
        "#,
        server.port()
    );
    let mut there = Watcher::start(cloud.port(), "plant/tank/#", &[]).await;
    let gateway = Gateway::start(&config(&cloud, &wires)).await;
    there.until("plant/tank/setpoint", |heard| heard.json()["v"] == 3.5).await;
    let here = gateway.mqtt_port();
    for (from, point, payload, written, value) in [
        (cloud.port(), "setpoint", "42.5", "write holding 20 85", json!(42.5)),
        (here, "setpoint", "{\"v\":99.5}", "write holding 20 199", json!(99.5)),
        (cloud.port(), "pump", "true", "write coil 3 1", json!(true)),
        (here, "pump", "{\"v\":false}", "write coil 3 0", json!(false)),
    ] {
        let topic = format!("plant/tank/{point}");
        publish(from, &format!("{topic}/set"), payload).await;
        assert_eq!(server.write().await, written);
        let result = there.until(&format!("{topic}/set/result"), |_| true).await;
        assert_eq!((&result.json()["ok"], &result.json()["v"]), (&json!(true), &value), "{payload}");
        assert!(!result.retained);
        there.until(&topic, |heard| heard.json()["v"] == value).await;
    }

    // On a switch, words mean what they say; the result repeats them.
    publish(here, "plant/tank/pump/set", "on").await;
    assert_eq!(server.write().await, "write coil 3 1");
    let result = there.until("plant/tank/pump/set/result", |_| true).await.json();
    assert_eq!((&result["ok"], &result["v"]), (&json!(true), &json!("on")));

    // What cannot be is refused with a reason, and nothing is written.
    for (payload, reason) in [
        ("100.5", "above the most, 100"),
        ("-1", "below the least, 0"),
        ("much", "within the limits 0 to 100"),
        ("true", "within the limits 0 to 100"),
    ] {
        publish(cloud.port(), "plant/tank/setpoint/set", payload).await;
        let result = there.until("plant/tank/setpoint/set/result", |_| true).await.json();
        let error = result["error"].as_str().unwrap_or_default();
        assert!(result["ok"] == false && error.contains(reason), "{payload}: {result}");
    }
    // A point without `write` takes nothing, from nowhere.
    publish(cloud.port(), "plant/tank/level/set", "5").await;
    publish(here, "plant/tank/level/set", "5").await;
    publish(here, "plant/tank/setpoint/set", "10").await;
    assert_eq!(server.write().await, "write holding 20 20");
}

/// A talker on a line, behind a name that stays when its port changes.
fn talk(port: &Path, sentences: &'static str) -> JoinHandle<()> {
    let mut line = Pty::open().unwrap();
    plug(port, line.path());
    tokio::spawn(async move {
        loop {
            line.write_all(sentences.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Nobody may be listening; what is old then is of no use.
            line.discard_unread().unwrap();
        }
    })
}

/// Lets the name lead to another port.
fn plug(name: &Path, port: &Path) {
    let _ = std::fs::remove_file(name);
    symlink(port, name).unwrap();
}

#[tokio::test]
async fn a_receiver_is_heard_missed_when_it_is_unplugged_and_heard_again() {
    let cloud = Mosquitto::start("").await;
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("gps");
    let receiver = talk(
        &port,
        "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n\
         $GPGGA,123519,9999.999,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n",
    );
    let wires = format!(
        "[bus.gps]\nuart = {{ port = \"{}\", baud = 4800 }}\n\
         [device.boat]\nbus = \"gps\"\nprofile = \"nmea-gps\"\nonly = [\"latitude\", \"satellites\"]\nstale-after = \"1s\"",
        port.display()
    );
    let mut there = Watcher::start(cloud.port(), "plant/#", &[]).await;
    let gateway = Gateway::start(&config(&cloud, &wires)).await;
    for _ in 0..5 {
        let latitude = there.until("plant/boat/latitude", |_| true).await.json();
        assert!(latitude["v"].as_f64().is_some_and(|v| (v - 48.1173).abs() < 1e-9), "{latitude}");
        assert_eq!(latitude["q"], "good");
    }
    assert_eq!(there.until("plant/boat/satellites", is("good")).await.json()["v"], 8);

    receiver.abort();
    let _ = receiver.await;
    let stale = there.until("plant/boat/latitude", is("stale")).await.json();
    assert!(stale["v"].as_f64().is_some() && stale["e"].is_string(), "{stale}");
    gateway.until("bus down", |all| all["status"]["buses"][0]["state"]["down"].is_string()).await;

    let receiver = talk(&port, "$GPGGA,123519,5407.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*4A\r\n");
    let back = there.until("plant/boat/latitude", is("good")).await.json();
    assert!(back["v"].as_f64().is_some_and(|v| (v - 54.1173).abs() < 1e-9), "{back}");
    gateway.until("bus up", |all| all["status"]["buses"][0]["state"] == "up").await;
    receiver.abort();
}

#[tokio::test]
async fn a_serial_adapter_may_be_unplugged_and_plugged_in_under_another_number() {
    let cloud = Mosquitto::start("").await;
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("usb-FTDI");
    let registers = |level: u16| [format!("input:8={level}")];
    let line = Line::open();
    plug(&port, line.client_port());
    let server = ModbusServer::rtu(Make::Libmodbus, line.device_port(), &registers(1)).await;
    let wires = format!(
        "[bus.line]\nmodbus-rtu = {{ port = \"{}\" }}\n[device.meter]\nbus = \"line\"\nunit = 1\nstale-after = \"1s\"\n\
         points.level = {{ input = 8, as = \"u16\" }}",
        port.display()
    );
    let mut there = Watcher::start(cloud.port(), "plant/#", &[]).await;
    let mut states = Watcher::start(cloud.port(), STATES, &[]).await;
    let gateway = Gateway::start(&config(&cloud, &wires)).await;
    assert_eq!(states.next().await.payload, "online");
    assert_eq!(there.until("plant/meter/level", is("good")).await.json()["v"], 1);

    drop((line, server));
    std::fs::remove_file(&port).unwrap();
    let stale = there.until("plant/meter/level", is("stale")).await.json();
    assert_eq!(stale["v"], 1);
    assert!(stale["e"].as_str().is_some_and(|e| e.contains("bus is down")), "{stale}");
    assert_eq!(states.next().await.payload, "offline");

    let line = Line::open();
    let _server = ModbusServer::rtu(Make::Libmodbus, line.device_port(), &registers(2)).await;
    plug(&port, line.client_port());
    let back = there.until("plant/meter/level", is("good")).await.json();
    assert_eq!(back["v"], 2, "never the value of before as a good one");
    assert_eq!(states.next().await.payload, "online");
    gateway.until("bus up", |all| all["status"]["buses"][0]["state"] == "up").await;
}

#[tokio::test]
async fn a_dead_device_says_so_and_its_neighbour_goes_on_at_its_period() {
    let cloud = Mosquitto::start("").await;
    let mut registers = Registers::default();
    registers.set_words(Table::Input, 8, &[42]);
    // Simulated: libmodbus and pymodbus cannot share a line with another unit.
    let units = [1, 2].map(|unit| (unit, Device::new(registers.clone())));
    let mortal = units[0].1.clone();
    let line = Pty::open().unwrap();
    let port = line.path().to_owned();
    let server = tokio::spawn(rtu::serve(line, Units::from(units), Duration::from_millis(5)));
    let device = |name: &str, unit: u8| {
        format!(
            "[device.{name}]\nbus = \"line\"\nunit = {unit}\ntimeout = \"300ms\"\nstale-after = \"1s\"\n\
             points.level = {{ input = 8, as = \"u16\" }}\n"
        )
    };
    let line = format!("[bus.line]\nmodbus-rtu = {{ port = \"{}\" }}\n", port.display());
    let wires = format!("{line}{}{}", device("mortal", 1), device("other", 2));
    let mut there = Watcher::start(cloud.port(), "plant/#", &[]).await;
    let mut states = Watcher::start(cloud.port(), STATES, &[]).await;
    let _gateway = Gateway::start(&config(&cloud, &wires)).await;
    there.until("plant/mortal/level", is("good")).await;
    there.until("plant/other/level", is("good")).await;
    let status = "fieldpost/plant7/device/mortal/status";
    states.until(status, |heard| heard.payload == "online").await;

    mortal.set_silent(true);
    let stale = there.until("plant/mortal/level", is("stale")).await.json();
    assert_eq!((&stale["v"], &stale["e"]), (&json!(42), &json!("no answer")));
    states.until(status, |heard| heard.payload == "offline").await;
    let mut times = Vec::new();
    while times.len() < 21 {
        let reading = there.until("plant/other/level", is("good")).await.json();
        times.push(humantime::parse_rfc3339(reading["t"].as_str().unwrap()).unwrap());
    }
    let mean = times[20].duration_since(times[0]).unwrap() / 20;
    assert!(mean < Duration::from_millis(260), "one reading each {mean:?} and not each 200 ms");

    mortal.set_silent(false);
    there.until("plant/mortal/level", is("good")).await;
    states.until(status, |heard| heard.payload == "online").await;
    server.abort();
}

#[tokio::test]
async fn the_cloud_knows_whether_the_gateway_is_there() {
    let cloud = Mosquitto::start("").await;
    let mut there = Watcher::start(cloud.port(), "fieldpost/plant7/status", &["-V", "5"]).await;
    let mut gateway = Gateway::start(&config(&cloud, "")).await;
    assert_eq!(there.next().await.payload, "online");
    gateway.kill().await;
    assert_eq!(there.next().await.payload, "offline", "the last will");
    gateway.start_again().await;
    assert_eq!(there.next().await.payload, "online");
    assert!(gateway.stop().await.success());
    assert_eq!(there.next().await.payload, "offline", "said in so many words");
    let mut late = Watcher::start(cloud.port(), "fieldpost/plant7/status", &[]).await;
    let kept = late.next().await;
    assert!(kept.retained && kept.payload == "offline", "{kept:?}");
}

#[tokio::test]
async fn a_response_topic_leads_nobody_around_the_access_rules() {
    let wires = "[bus.plc]\nmodbus-tcp = { host = \"127.0.0.1\", port = 1 }\n[device.tank]\nbus = \"plc\"\nunit = 1\n\
                 points.pump = { coil = 3, write = true, topic = \"plant/tank/pump\" }\n";
    let rules = "[[broker.acl]]\nread = [\"#\"]\nwrite = [\"plant/+/+/set\"]\n";
    for (config, answered) in [(wires.to_owned(), true), (format!("{wires}{rules}"), false)] {
        // The rules are of [broker]: it has to be there for the gateway's address to be put before them.
        let gateway = Gateway::start(&format!("[broker]\nlisten = \"@mqtt@\"\n{config}")).await;
        let mut everything = Watcher::start(gateway.mqtt_port(), "#", &[]).await;
        let port = gateway.mqtt_port().to_string();
        let mut request = Command::new("mosquitto_pub");
        request.args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-t", "plant/tank/pump/set", "-m", "{}"]);
        request.args(["-D", "PUBLISH", "response-topic", "where/it/may/not"]);
        assert!(request.status().await.unwrap().success());
        // What is heard before the second result was said of the first command.
        let mut heard = Vec::new();
        while heard.iter().filter(|topic| *topic == "plant/tank/pump/set/result").count() < 2 {
            let topic = everything.next().await.topic;
            if topic == "plant/tank/pump/set/result" && !heard.contains(&topic) {
                publish(gateway.mqtt_port(), "plant/tank/pump/set", "{}").await;
            }
            heard.push(topic);
        }
        assert_eq!(heard.iter().any(|topic| topic == "where/it/may/not"), answered, "{heard:?}");
    }
}
