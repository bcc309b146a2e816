//! A message arrives once everywhere, and stops.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{count, down, publish, up, uplinks};
use crate::support::{Gateway, Mosquitto, Watcher, port};

/// A gateway whose broker is at `here`, with an uplink to each of `there`.
fn config(id: &str, here: u16, there: &[u16], more: &str) -> String {
    let mut config = format!("[gateway]\nid = \"{id}\"\n[broker]\nlisten = \"127.0.0.1:{here}\"\n");
    for (n, there) in there.iter().enumerate() {
        config.push_str(&format!("[uplink.u{n}]\nurl = \"mqtt://127.0.0.1:{there}\"\n{more}\n"));
    }
    config
}

/// Gateways in a ring, each with an uplink to the next; and where their brokers are.
async fn ring(size: usize, more: &str) -> (Vec<Gateway>, Vec<u16>) {
    let ports: Vec<u16> = (0..size).map(|_| port::free()).collect();
    let mut gateways = Vec::new();
    for n in 0..size {
        let config = config(&format!("g{n}"), ports[n], &[ports[(n + 1) % size]], more);
        gateways.push(Gateway::start(&config).await);
    }
    for gateway in &gateways {
        up(gateway).await;
    }
    (gateways, ports)
}

/// What the broker at each port has heard of messages on `plant/N`, published at the N-th, when twice something has gone all
/// the way behind them: what goes round would have come again.
async fn heard(ports: &[u16]) -> Vec<BTreeMap<String, usize>> {
    let mut watchers = Vec::new();
    for port in ports {
        watchers.push(Watcher::start(*port, "plant/#", &[]).await);
    }
    for (n, port) in ports.iter().enumerate() {
        publish(*port, &format!("plant/{n}"), "1", &[]).await;
    }
    let mut all = vec![BTreeMap::new(); ports.len()];
    for round in 0..2 {
        for (n, port) in ports.iter().enumerate() {
            let last = format!("plant/last/{round}/{n}");
            publish(*port, &last, "1", &[]).await;
            for (watcher, all) in watchers.iter_mut().zip(&mut all) {
                for (topic, times) in count(watcher, &last).await {
                    *all.entry(topic).or_default() += times;
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn in_a_ring_of_gateways_a_message_arrives_once_and_stops() {
    for (size, protocol) in [(2, "5"), (2, "3.1.1"), (3, "5")] {
        let more = format!("protocol = \"{protocol}\"\npublish = [\"plant/#\"]");
        let (_gateways, ports) = ring(size, &more).await;
        for (n, heard) in heard(&ports).await.into_iter().enumerate() {
            assert_eq!(heard.len(), 3 * size, "{size} {protocol}, at {n}: {heard:?}");
            assert!(heard.values().all(|times| *times == 1), "{size} {protocol}, at {n}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn a_gateway_does_not_hear_of_its_own_status_by_a_ring() {
    let (gateways, ports) = ring(2, "publish = [\"#\"]").await;
    let mut watcher = Watcher::start(ports[0], "fieldpost/g0/status", &[]).await;
    assert_eq!(watcher.next().await.payload, "online");
    let mut gateways = gateways.into_iter();
    let (first, mut second) = (gateways.next().unwrap(), gateways.next().unwrap());
    // The other one goes, and with it the connection whose will says that we are offline.
    second.kill().await;
    down(&first).await;
    second.start_again().await;
    up(&first).await;
    up(&second).await;
    publish(ports[1], "fieldpost/g0/statusless", "1", &[]).await;
    publish(ports[0], "fieldpost/g0/status", "asked", &[]).await;
    assert_eq!(watcher.next().await.payload, "asked", "nothing came in between");
}

#[tokio::test]
async fn with_two_uplinks_to_one_cloud_nothing_goes_round() {
    for (protocol, at_most) in [("5", 1), ("3.1.1", 3)] {
        let cloud = Mosquitto::start("").await;
        let here = port::free();
        let more = format!("protocol = \"{protocol}\"\npublish = [\"plant/#\"]\nsubscribe = [\"plant/#\"]");
        let gateway = Gateway::start(&config("g", here, &[cloud.port(), cloud.port()], &more)).await;
        up(&gateway).await;
        let mut local = Watcher::start(here, "plant/#", &[]).await;
        let mut above = Watcher::start(cloud.port(), "plant/#", &[]).await;
        publish(here, "plant/up", "1", &[]).await;
        publish(cloud.port(), "plant/down", "1", &[]).await;
        // Two go up, one by each uplink, and two come down; behind those it is quiet.
        let sent = |said: &serde_json::Value| -> Vec<u64> {
            uplinks(said).iter().map(|uplink| uplink["sent"].as_u64().unwrap()).collect()
        };
        let mut seen = [BTreeMap::new(), BTreeMap::new()];
        for round in 0..3 {
            let last = format!("plant/last/{round}");
            publish(here, &last, "1", &[]).await;
            gateway.until("it went up", |said| sent(said).iter().all(|sent| *sent >= 2 + round)).await;
            for (watcher, seen) in [&mut local, &mut above].into_iter().zip(&mut seen) {
                for (topic, times) in count(watcher, &last).await {
                    *seen.entry(topic).or_default() += times;
                }
            }
        }
        let [local, above] = seen;
        let times = local["plant/up"];
        assert!((1..=at_most).contains(&times), "{protocol}: {local:?}");
        assert_eq!((local["plant/down"], above["plant/up"], above["plant/down"]), (2, 2, 1), "{protocol}: {above:?}");
        let status = gateway.until("all is told", |_| true).await;
        assert_eq!(sent(&status), [4, 4], "{protocol}");
    }
}

#[tokio::test]
async fn what_goes_both_ways_does_not_come_back_however_the_filters_overlap() {
    let rules = "publish = [\"plant/+/x\"]\nsubscribe = [\"plant/a/#\", { filter = \"back/#\", as = \"plant/{#}/x\" }]";
    for more in ["protocol = \"5\"", "protocol = \"3.1.1\"", "protocol = \"3.1.1\"\nbridge = false"] {
        let cloud = Mosquitto::start("").await;
        let here = port::free();
        let gateway = Gateway::start(&config("g", here, &[cloud.port()], &format!("{more}\n{rules}"))).await;
        up(&gateway).await;
        let mut local = Watcher::start(here, "plant/#", &[]).await;
        let mut above = Watcher::start(cloud.port(), "plant/#", &[]).await;
        publish(here, "plant/a/x", "1", &[]).await;
        publish(here, "plant/b/x", "1", &[]).await;
        publish(cloud.port(), "back/c", "1", &[]).await;
        publish(cloud.port(), "plant/a/y", "1", &[]).await;
        let echoing = more.contains("bridge");
        let up: Vec<_> = count(&mut above, "plant/a/y").await.into_iter().collect();
        let times = |topic: &str| (topic.to_owned(), 1);
        let expected = [(!echoing).then(|| times("plant/a/x")), Some(times("plant/a/y")), Some(times("plant/b/x"))];
        assert_eq!(up, expected.into_iter().flatten().collect::<Vec<_>>(), "{more}");
        let down: Vec<_> = count(&mut local, "plant/a/y").await.into_iter().collect();
        let topics = ["plant/a/x", "plant/a/y", "plant/b/x", "plant/c/x"];
        assert_eq!(down, topics.map(times), "{more}");
        assert_eq!(gateway.log().contains("would send `plant/a/x` back"), echoing, "{more}: {}", gateway.log());
    }
}

#[tokio::test]
async fn what_came_down_stays_here_also_when_it_was_retained_over_a_restart() {
    let cloud = Mosquitto::persistent("").await;
    let here = port::free();
    let rules =
        "publish = [\"plant/#\"]\nsubscribe = [{ filter = \"to/#\", as = \"plant/{#}\" }]\nsend-retained = \"always\"";
    let mut gateway = Gateway::start(&config("g", here, &[cloud.port()], rules)).await;
    up(&gateway).await;
    let mut local = Watcher::start(here, "plant/#", &[]).await;
    publish(cloud.port(), "to/a", "1", &["-r"]).await;
    count(&mut local, "plant/a").await;
    publish(here, "plant/b", "1", &["-r"]).await;
    gateway.kill().await;
    let mut above = Watcher::start(cloud.port(), "plant/#", &[]).await;
    gateway.start_again().await;
    up(&gateway).await;
    publish(here, "plant/last", "1", &[]).await;
    let seen = count(&mut above, "plant/last").await;
    assert!(seen["plant/b"] >= 1 && !seen.contains_key("plant/a"), "{seen:?}");
}

/// A cloud of MQTT 3.1.1 that does not know bridges: it says so, or only closes. It answers nothing but CONNECT.
async fn cloud_without_bridges(listener: TcpListener, says: bool) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut connect = [0; 256];
        let n = stream.read(&mut connect).await.unwrap();
        assert!(n > 9, "a whole CONNECT");
        // Fixed header of two bytes, the name of six, the level (MQTT 3.1.1, 3.1).
        if connect[8] == 4 {
            stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
            while stream.read(&mut connect).await.is_ok_and(|n| n > 0) {}
        } else if says {
            stream.write_all(&[0x20, 2, 0, 1]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_cloud_that_knows_no_bridges_is_asked_again_without() {
    for says in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().port();
        let cloud = tokio::spawn(cloud_without_bridges(listener, says));
        let more = "protocol = \"3.1.1\"\nstatus = \"\"\npublish = [\"a\"]";
        let gateway = Gateway::start(&config("g", port::free(), &[there], more)).await;
        up(&gateway).await;
        assert_eq!(gateway.log().contains("knows no bridges"), says, "{}", gateway.log());
        drop(gateway);
        cloud.abort();
    }
}
