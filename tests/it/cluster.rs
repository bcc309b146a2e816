//! A cloud that is a cluster: nodes go away and come back, the uplink goes on with another one, and nothing is lost.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::mail::TOPICS;
use crate::support::{Collector, Gateway, Load, RabbitCluster, status};

const PREFIX: &str = "plant/load";

/// Waits until the uplink is connected to this port.
async fn at(gateway: &Gateway, port: u16) {
    status::until(gateway, &format!("connected to {port}"), |status| {
        let uplink = status::uplink(status);
        uplink["state"] == "up" && uplink["url"].as_str().is_some_and(|url| url.ends_with(&format!(":{port}")))
    })
    .await;
}

#[tokio::test]
async fn nodes_of_a_rabbitmq_cluster_may_be_killed_and_stopped_under_load() {
    let mut cluster = RabbitCluster::start().await;
    let [first, second, third] = [0, 1, 2].map(|n| cluster.port(n));
    // Who counts is at a node of its own.
    let mut collector = Collector::start(third, PREFIX, &[]).await;
    // Its plugin speaks 3.1.1, and hangs up when it is told of a bridge.
    let gateway = Gateway::start(&format!(
        "[uplink.cloud]\nurl = [\"mqtt://127.0.0.1:{first}\", \"mqtt://127.0.0.1:{second}\"]\nprotocol = \"3.1.1\"\n\
         bridge = false\n         publish = [\"plant/#\"]\nkeep-alive = \"2s\""
    ))
    .await;
    at(&gateway, first).await;
    let mut load = Load::start(gateway.mqtt_port(), PREFIX, 2500, 250, &[]);
    load.acked(500).await;
    cluster.kill(0).await;
    at(&gateway, second).await;
    load.acked(2500).await;
    // The other way round, and this time it says good-bye.
    cluster.start_again(0).await;
    cluster.stop(1).await;
    at(&gateway, first).await;
    cluster.start_again(1).await;
    load.done().await;
    timeout(Duration::from_secs(120), collector.all(TOPICS, 2500)).await.expect("all arrive");
    let status = status::empty(&gateway).await;
    assert_eq!((&status["store"]["dropped"], &status::uplink(&status)["refused"]), (&0.into(), &0.into()));
}
