//! The disk fails, is slow, or is full; and is left alone while the cloud answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::run::{KEEPS, OLD_MAIL, Run, Setup};
use crate::support::faults::{EIO, ENOSPC};
use crate::support::mail::TOPICS;
use crate::support::{Collector, Faults, Gateway, Load, Mosquitto, status};

const PREFIX: &str = "plant/load";

/// A config with one uplink to this cloud.
fn config(cloud: &Mosquitto, more: &str) -> String {
    let port = cloud.port();
    format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\npublish = [\"plant/#\"]\nkeep-alive = \"2s\"\n{more}")
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_costs_nothing_once_it_is_back() {
    let (cloud, faults) = (Mosquitto::start(KEEPS).await, Faults::new());
    let mut run = Run::start(&cloud, Setup { wrapper: faults.wrapper(), ..Setup::default() }).await;
    let set = [|faults: &Faults, errno| faults.fail_writes(errno), |faults: &Faults, errno| faults.fail_syncs(errno)];
    for (percent, (fail, errno)) in [10, 30, 50].into_iter().zip([(set[0], EIO), (set[1], EIO), (set[0], ENOSPC)]) {
        run.percent(percent).await;
        run.line.cut().await;
        status::offline(&run.gateway).await;
        fail(&faults, errno);
        status::until(&run.gateway, "down", |status| status["store"]["state"]["down"].is_string()).await;
        fail(&faults, 0);
        status::until(&run.gateway, "up", |status| status["store"]["state"] == "up").await;
        run.percent(percent + 10).await;
        run.kill().await;
        run.line.mend().await;
    }
    run.arrives().await;
}

/// A small disk of its own for a gateway, on `disk` in its folder; nobody else sees it but by way of the gateway's process.
const SMALL_DISK: [&str; 5] =
    ["unshare", "-Urm", "sh", "-c", "mkdir -p disk && mount -t tmpfs -o size=12m none disk && exec \"$0\" \"$@\""];

#[tokio::test]
async fn a_disk_that_is_full_is_told_and_costs_nothing_once_there_is_room() {
    let cloud = Mosquitto::start(KEEPS).await;
    let more = "[store]\npath = \"@dir@/disk/store.db\"\nwhen-full = \"refuse-new\"".to_owned();
    let wrapper = SMALL_DISK.map(str::to_owned).into();
    let setup = Setup { wrapper, more, mail: OLD_MAIL, refuses: true, size: 500, ..Setup::default() };
    let mut run = Run::start(&cloud, setup).await;
    let pid = run.gateway.pid().unwrap();
    let disk = format!("/proc/{pid}/root{}/disk", run.gateway.folder().display());
    for percent in [15, 45] {
        run.percent(percent).await;
        run.line.cut().await;
        status::offline(&run.gateway).await;
        run.percent(percent + 5).await;
        // As a log that grows does: to the last byte.
        let mut filler = std::fs::File::create(format!("{disk}/filler")).unwrap();
        let full = loop {
            if let Err(e) = filler.write_all(&[0; 1024]) {
                break e;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        status::until(&run.gateway, "full", |status| {
            status["store"]["state"]["down"].is_string() || status["store"]["short"] == true
        })
        .await;
        std::fs::remove_file(format!("{disk}/filler")).unwrap();
        drop(filler);
        run.percent(percent + 20).await;
        run.line.mend().await;
        status::online(&run.gateway).await;
    }
    run.arrives().await;
}

#[tokio::test]
async fn with_a_disk_that_fails_what_the_cloud_acknowledges_is_acknowledged() {
    let (cloud, faults) = (Mosquitto::start(KEEPS).await, Faults::new());
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let wrapper = faults.wrapper();
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start_under(&wrapper, &config(&cloud, ""));
    gateway.ready().await;
    status::online(&gateway).await;
    faults.fail_writes(EIO);
    faults.fail_syncs(EIO);
    Load::start(gateway.mqtt_port(), PREFIX, 200, 200, &[]).done().await;
    assert_eq!(collector.all(TOPICS, 200).await, 0);
    faults.fail_writes(0);
    faults.fail_syncs(0);
    status::until(&gateway, "up", |status| status["store"]["state"] == "up").await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn a_slow_disk_loses_nothing() {
    let (cloud, faults) = (Mosquitto::start(KEEPS).await, Faults::new());
    let setup = Setup { wrapper: faults.wrapper(), count: 50, rate: 0, ..Setup::default() };
    let mut run = Run::start(&cloud, setup).await;
    run.percent(10).await;
    faults.slow_syncs(Duration::from_secs(1));
    run.line.cut().await;
    status::offline(&run.gateway).await;
    run.percent(50).await;
    run.kill().await;
    faults.slow_syncs(Duration::ZERO);
    run.line.mend().await;
    run.arrives().await;
}

#[tokio::test]
async fn while_the_cloud_answers_the_disk_is_left_alone() {
    let cloud = Mosquitto::start(KEEPS).await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    // A window that a busy machine does not make too short.
    let config = config(&cloud, "[store]\npath = \"@store@\"\ncommit = \"5s\"");
    let mut gateway = Gateway::start(&config).await;
    // The sessions of the uplink and the publisher are written once; the restart makes sure that they are.
    Load::start(gateway.mqtt_port(), "plant/first", 1, 0, &["--id", PREFIX]).done().await;
    gateway.restart().await;
    status::online(&gateway).await;
    let sizes =
        || ["store.db", "store.db-wal"].map(|name| gateway.folder().join(name).metadata().map_or(0, |m| m.len()));
    let before = (status::empty(&gateway).await["store"]["commits"].clone(), sizes());
    Load::start(gateway.mqtt_port(), PREFIX, 250, 0, &[]).done().await;
    assert_eq!(collector.all(TOPICS, 250).await, 0, "nothing comes twice");
    let after = status::until(&gateway, "done", |status| status::uplink(status)["sent"].as_u64() >= Some(1000)).await;
    assert_eq!((after["store"]["commits"].clone(), sizes()), before);
    assert_eq!(after["store"]["entries"], 0);
}

#[tokio::test]
async fn a_long_outage_is_made_up_for_and_leaves_nothing_behind() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let gateway = Gateway::start(&config(&cloud, "")).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    Load::start(gateway.mqtt_port(), PREFIX, 5000, 0, &["--window", "1000"]).done().await;
    let waiting = status::until(&gateway, "all waiting", |status| {
        status["store"]["entries"] == 20_000 && status::queue(status)["entries"] == 20_000
    })
    .await;
    assert_eq!(waiting["broker"]["dropped"], 0);
    cloud.start_again().await;
    assert_eq!(collector.all(TOPICS, 5000).await, 0, "nothing comes twice");
    let after = status::empty(&gateway).await;
    assert_eq!((&after["store"]["bytes"], &status::queue(&after)["inflight"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_full_store_drops_the_oldest_says_so_and_goes_on() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let gateway = Gateway::start(&config(&cloud, "[store]\npath = \"@store@\"\nmax-size = \"200KiB\"")).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    Load::start(gateway.mqtt_port(), PREFIX, 1000, 0, &["--size", "100", "--window", "500"]).done().await;
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let whole = |of: &serde_json::Value| number(&of["dropped"]) + number(&of["entries"]) == 4000;
    // What waits is what is kept, and the rest is counted.
    let full = status::until(&gateway, "settled", |status| {
        let (store, queue) = (&status["store"], status::queue(status));
        whole(store) && whole(queue) && store["dropped"] == queue["dropped"]
    })
    .await;
    assert!(number(&full["store"]["dropped"]) > 2000, "{full:#}");
    assert!(number(&full["store"]["bytes"]) <= 200 << 10, "{full:#}");
    let queue = status::queue(&full);
    cloud.start_again().await;
    // What is left comes in order, to the last.
    let mut last = BTreeMap::new();
    let mut came = 0;
    while last.len() < TOPICS || last.values().any(|number| *number < 999) {
        let (topic, number) = collector.next().await;
        assert!(last.insert(topic, number).is_none_or(|before| before < number), "{number}");
        came += 1;
    }
    assert_eq!(came, number(&queue["entries"]), "what was counted as dropped was dropped");
    status::empty(&gateway).await;
}
