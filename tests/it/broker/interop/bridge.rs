//! Mosquitto as a bridge to our broker: what flows in which direction, and through a restart of ours.

use crate::broker::mosquitto::{self, Subscriber};
use crate::support::{Gateway, Mosquitto, Watcher};

/// A Mosquitto that is bridged to the gateway at this version.
async fn bridged(gateway: &Gateway, version: &str) -> Mosquitto {
    Mosquitto::start(&format!(
        "connection ours\naddress 127.0.0.1:{}\nbridge_protocol_version {version}\nremote_clientid bridge-{version}\n\
         cleansession false\nrestart_timeout 1\nkeepalive_interval 5\nnotifications true\n\
         topic up/# out 2\ntopic down/# in 2\ntopic both/# both 2\ntopic # both 1 here/ there/{version}/\n",
        gateway.mqtt_port()
    ))
    .await
}

/// Publishes at the broker with this port.
async fn publish(gateway: &Gateway, port: u16, topic: &str, payload: &str, qos: &str) {
    let port = port.to_string();
    mosquitto::publish(gateway, &["-p", &port, "-t", topic, "-m", payload, "-q", qos]).await;
}

/// Waits until the bridge says on its own broker that it is up.
async fn until_connected(theirs: &Mosquitto) {
    let mut state = Watcher::start(theirs.port(), "$SYS/broker/connection/+/state", &[]).await;
    while state.next().await.payload != "1" {}
}

#[tokio::test]
async fn messages_flow_both_ways_through_a_restart_of_ours() {
    let mut gateway = Gateway::start("").await;
    let ours = gateway.mqtt_port();
    for version in ["mqttv311", "mqttv50"] {
        let theirs = bridged(&gateway, version).await;
        until_connected(&theirs).await;
        let there = format!("there/{version}/#");
        let mut here = Subscriber::start(&gateway, &["-q", "2", "-t", "up/#", "-t", &there]).await;
        let port = theirs.port().to_string();
        let args = ["-p", &port, "-q", "2", "-t", "down/#", "-t", "here/#"];
        let mut beyond = Subscriber::start(&gateway, &args).await;
        for qos in ["0", "1", "2"] {
            publish(&gateway, theirs.port(), "up/x", version, qos).await;
            assert_eq!(here.next().await, format!("up/x {version} {qos} 0"));
            publish(&gateway, ours, "down/x", version, qos).await;
            assert_eq!(beyond.next().await, format!("down/x {version} {qos} 0"));
            // Renamed on the way, at QoS 1 at most.
            let at_most = qos.min("1");
            publish(&gateway, theirs.port(), "here/x", version, qos).await;
            assert_eq!(here.next().await, format!("there/{version}/x {version} {at_most} 0"));
            assert_eq!(beyond.next().await, format!("here/x {version} {qos} 0"));
            publish(&gateway, ours, &format!("there/{version}/y"), version, qos).await;
            assert_eq!(beyond.next().await, format!("here/y {version} {at_most} 0"));
            assert_eq!(here.next().await, format!("there/{version}/y {version} {qos} 0"));
        }

        // While ours is away the bridge keeps what is to go up; ours keeps what is to go down, before MQTT 5, where this
        // bridge asks for no session that outlives its connection.
        drop(here);
        gateway.kill().await;
        for n in 0..20 {
            publish(&gateway, theirs.port(), "up/later", &n.to_string(), "1").await;
        }
        gateway.start_again().await;
        let mut here = Subscriber::start(&gateway, &["-q", "2", "-t", "up/#"]).await;
        if version == "mqttv50" {
            assert_eq!(here.next().await, "up/later 0 1 0");
        }
        for n in 0..20 {
            publish(&gateway, ours, "down/later", &n.to_string(), "1").await;
        }
        for n in usize::from(version == "mqttv50")..20 {
            assert_eq!(here.next().await, format!("up/later {n} 1 0"), "{version}");
        }
        for n in 0..20 {
            assert_eq!(beyond.next().await, format!("down/later {n} 1 0"), "{version}");
        }
    }
}

#[tokio::test]
async fn what_goes_both_ways_does_not_run_in_circles() {
    let gateway = Gateway::start("").await;
    let ours = gateway.mqtt_port();
    for version in ["mqttv311", "mqttv50"] {
        let theirs = bridged(&gateway, version).await;
        until_connected(&theirs).await;
        let port = theirs.port().to_string();
        let mut here = Subscriber::start(&gateway, &["-q", "2", "-t", "both/#"]).await;
        let mut beyond = Subscriber::start(&gateway, &["-p", &port, "-q", "2", "-t", "both/#"]).await;
        for (n, from) in [theirs.port(), ours, theirs.port(), ours].into_iter().enumerate() {
            publish(&gateway, from, "both/x", &n.to_string(), "2").await;
        }
        let (mut at_ours, mut at_theirs) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            at_ours.push(here.next().await);
            at_theirs.push(beyond.next().await);
        }
        // What went around would come before the second of these.
        publish(&gateway, ours, "both/end", "end", "1").await;
        publish(&gateway, theirs.port(), "both/end", "end", "1").await;
        for _ in 0..2 {
            assert_eq!(here.next().await, "both/end end 1 0", "{version}: {at_ours:?}");
            assert_eq!(beyond.next().await, "both/end end 1 0", "{version}: {at_theirs:?}");
        }
        for came in [&mut at_ours, &mut at_theirs] {
            came.sort();
            assert_eq!(*came, (0..4).map(|n| format!("both/x {n} 2 0")).collect::<Vec<_>>(), "{version}");
        }
    }
}
