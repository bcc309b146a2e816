//! What happens when the disk has no room, on a real small file system: the gateway runs in a mount namespace of its own,
//! its store on a tmpfs that other files fill.
//!
//! The oracle are numbers, as in `outage.rs`: what was acknowledged arrives, or was counted as dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::support::mail::TOPICS;
use crate::support::{Collector, Gateway, Load, Mosquitto, Watcher, status};

const KEEPS: &str = "max_queued_messages 0\nmax_inflight_messages 1000";
const PREFIX: &str = "plant/load";

/// A gateway whose store is on a disk of its own.
struct Small {
    gateway: Gateway,
    disk: PathBuf,
}

impl Small {
    /// One with a disk of `size`, and an uplink to the broker at `port`.
    async fn start(size: &str, port: u16, store: &str) -> Self {
        let mount = format!("mkdir -p disk && mount -t tmpfs -o size={size} tmpfs disk && exec \"$@\"");
        let config = format!(
            "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\npublish = [\"plant/#\"]\nkeep-alive = \"2s\"\n\
             [store]\npath = \"@dir@/disk/store.db\"\n{store}"
        );
        let mut gateway = Gateway::start_under(&["unshare", "-Urm", "sh", "-c", &mount, "sh"], &config);
        gateway.ready().await;
        // Into its namespace, from outside.
        let disk = gateway.folder().strip_prefix("/").expect("it is absolute").join("disk");
        let disk = PathBuf::from(format!("/proc/{}/root", gateway.pid().expect("it runs"))).join(disk);
        Self { gateway, disk }
    }

    /// Writes a file until nothing more fits on the disk; again if something does.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.disk.join("fill")).unwrap();
        while file.write_all(&[0xA5; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.disk.join("fill")).unwrap();
    }

    /// Waits for the uplink longer than it waits between two tries after a long outage.
    async fn online_at_last(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        let is_up = |body: &str| {
            serde_json::from_str(body).is_ok_and(|all: Value| status::uplink(&all["status"])["state"] == "up")
        };
        while !is_up(&self.gateway.get("/api/status").await.1) {
            assert!(Instant::now() < end, "it does not connect again\n{}", self.gateway.log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn load(&self, count: u32, rate: u32, more: &[&str]) -> Load {
        Load::start(self.gateway.mqtt_port(), PREFIX, count, rate, more)
    }

    async fn until(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        status::until(&self.gateway, what, is_it).await
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[tokio::test]
async fn a_full_disk_costs_nothing_while_the_cloud_is_there_and_the_store_recovers() {
    let cloud = Mosquitto::persistent(KEEPS).await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let small = Small::start("40m", cloud.port(), "").await;
    status::online(&small.gateway).await;
    small.fill();
    let mut load = small.load(1000, 1000, &["--size", "200"]);
    load.done().await;
    collector.all(TOPICS, 1000).await;
    let full = small.until("short", |status| status["store"]["short"] == true).await;
    let mut watcher = Watcher::start(small.gateway.mqtt_port(), "fieldpost/+/store", &[]).await;
    let told = loop {
        let heard = watcher.next().await;
        if heard.json()["short"] == true {
            break heard;
        }
    };
    assert_eq!((&told.json()["state"], &told.json()["dropped"]), (&"up".into(), &serde_json::json!({})), "{told:?}");
    assert_eq!(full["broker"]["dropped"], 0, "{full:#}");
    small.empty();
    let after = small.until("room", |status| status["store"]["short"] == false).await;
    assert_eq!(after["store"]["state"], "up");
    status::empty(&small.gateway).await;
}

#[tokio::test]
async fn on_a_full_disk_the_oldest_give_way_within_the_file_and_all_are_counted() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let small = Small::start("40m", cloud.port(), "").await;
    cloud.stop().await;
    status::offline(&small.gateway).await;
    // 8 MB before, and four times as much after the disk is full: more than RAM would hold.
    let mut load = small.load(10_000, 0, &["--size", "1000", "--window", "1000"]);
    load.acked(8000).await;
    small.fill();
    small.until("short", |status| status["store"]["short"] == true).await;
    small.fill();
    load.done().await;
    let full = small
        .until("settled", |status| {
            let whole = |of: &Value| number(&of["dropped"]) + number(&of["entries"]) == 40_000;
            let (store, queue) = (&status["store"], status::queue(status));
            whole(store) && whole(queue) && store["dropped"] == queue["dropped"]
        })
        .await;
    assert_eq!(full["store"]["state"], "up", "it goes on within its file: {full:#}");
    let queue = status::queue(&full);
    assert!(number(&queue["entries"]) > 4000, "{full:#}");
    assert_eq!(queue["causes"]["disk"], queue["dropped"], "{full:#}");
    small.empty();
    cloud.start_again().await;
    small.online_at_last().await;
    let (mut last, mut came) = (BTreeMap::new(), 0);
    while last.len() < TOPICS || last.values().any(|number| *number < 9999) {
        let (topic, number) = collector.next().await;
        assert!(last.insert(topic, number).is_none_or(|before| before < number), "{number}");
        came += 1;
    }
    assert_eq!(came, number(&queue["entries"]), "what was counted as dropped was dropped, and nothing else");
    status::empty(&small.gateway).await;
}
