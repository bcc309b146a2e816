//! How a backlog is replayed to a Mosquitto, and what a reader there can tell from the marks.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::mail::TOPICS;
use crate::support::{Gateway, Load, Mosquitto, Watcher, status};

const KEEPS: &str = "max_queued_messages 0\nmax_inflight_messages 1000";

/// A config with one uplink to this port.
fn config(port: u16, more: &str) -> String {
    format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\npublish = [\"plant/#\"]\nkeep-alive = \"2s\"\n{more}")
}

/// Hears all of `plant/#` at the cloud, over its restarts as well, with the user properties before each payload.
async fn listen(cloud: &Mosquitto) -> Watcher {
    let properties = ["-V", "5", "-i", "listener", "-c", "-x", "3600", "-F", "message %r %t %P %p"];
    Watcher::start(cloud.port(), "plant/#", &properties).await
}

/// A message with its marks.
#[derive(Debug, PartialEq, Eq)]
struct Marked {
    topic: String,
    number: u32,
    seq: u64,
    historical: bool,
}

async fn next(watcher: &mut Watcher) -> Marked {
    let heard = watcher.next().await;
    let (mut seq, mut historical, mut number) = (None, false, None);
    for word in heard.payload.split_whitespace() {
        match word.split_once(':') {
            Some(("seq", n)) => seq = n.parse().ok(),
            Some(("historical", "true")) => historical = true,
            Some(_) => panic!("unknown: {heard:?}"),
            None => number = word.parse().ok(),
        }
    }
    let (Some(seq), Some(number)) = (seq, number) else { panic!("no number: {heard:?}") };
    Marked { topic: heard.topic, number, seq, historical }
}

fn load(gateway: &Gateway, prefix: &str, count: u32) -> Load {
    Load::start(gateway.mqtt_port(), prefix, count, 0, &[])
}

#[tokio::test]
async fn live_first_lets_what_comes_now_overtake_what_waited() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut watcher = listen(&cloud).await;
    let more = "replay = \"live-first\"\nbacklog-rate = { messages = 100 }\nmark = \"properties\"";
    let gateway = Gateway::start(&config(cloud.port(), more)).await;
    status::online(&gateway).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    load(&gateway, "plant/old", 100).done().await;
    let status = status::until(&gateway, "a backlog", |status| status::queue(status)["backlog"] == 400).await;
    assert!(status::queue(&status)["oldest"].is_string(), "{status}");
    cloud.start_again().await;
    status::online(&gateway).await;
    load(&gateway, "plant/new", 10).done().await;

    let (mut came, mut new_at) = (Vec::new(), Vec::new());
    while came.len() < 440 {
        let marked = next(&mut watcher).await;
        let new = marked.topic.starts_with("plant/new");
        assert_eq!(marked.historical, !new, "{marked:?}");
        if new {
            new_at.push(came.len());
        }
        came.push(marked);
    }
    assert!(new_at.len() == 40 && new_at[39] < 400, "the new ones waited for the old ones: {new_at:?}");
    let mut seqs: Vec<_> = came.iter().map(|marked| marked.seq).collect();
    seqs.sort_unstable();
    assert!(seqs.windows(2).all(|two| two[0] + 1 == two[1]), "each has a number, and there are no gaps: {seqs:?}");
    let mut expected = BTreeMap::<&str, u32>::new();
    for Marked { topic, number, .. } in &came {
        let next = expected.entry(topic).or_default();
        assert_eq!(number, next, "{topic} is in order");
        *next += 1;
    }
    status::empty(&gateway).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_loses_nothing_and_doubles_are_known_by_their_numbers() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut watcher = listen(&cloud).await;
    let more = "replay = \"live-first\"\nbacklog-rate = { messages = 400 }\nmark = \"properties\"";
    let mut gateway = Gateway::start(&config(cloud.port(), more)).await;
    status::online(&gateway).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    load(&gateway, "plant/old", 300).done().await;
    cloud.start_again().await;
    let mut news = load(&gateway, "plant/new", 50);
    let (mut by_seq, mut by_message) = (BTreeMap::new(), BTreeMap::new());
    let mut heard = 0;
    while by_message.len() < (300 + 50) * TOPICS {
        let Marked { topic, number, seq, .. } = next(&mut watcher).await;
        heard += 1;
        let (topic_before, number_before) = by_seq.entry(seq).or_insert_with(|| (topic.clone(), number));
        assert_eq!((&*topic_before, *number_before), (&topic, number), "{seq} is the number of two messages");
        let seq_before = by_message.entry((topic.clone(), number)).or_insert(seq);
        // A publisher that had no acknowledgement before the kill sends its message again: that is another one.
        assert!(*seq_before == seq || topic.starts_with("plant/new"), "{topic} {number} has two numbers");
        if heard == 600 {
            gateway.kill().await;
            gateway.start_again().await;
        }
    }
    news.done().await;
    status::empty(&gateway).await;
}

#[tokio::test]
async fn the_rate_of_an_uplink_holds() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut watcher = Watcher::start(cloud.port(), "plant/#", &["-i", "listener", "-c"]).await;
    let gateway = Gateway::start(&config(cloud.port(), "rate = { messages = 100, bytes = \"1MiB\" }")).await;
    status::online(&gateway).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    load(&gateway, "plant/old", 100).done().await;
    cloud.start_again().await;
    watcher.next().await;
    let start = Instant::now();
    for _ in 1..400 {
        watcher.next().await;
    }
    // A second's worth goes at once, and the other 300 take three; a stop of this test itself is no fault of the gateway.
    assert!(start.elapsed() > Duration::from_millis(2500), "400 messages at 100 a second in {:?}", start.elapsed());
    status::empty(&gateway).await;
}

#[tokio::test]
async fn json_payloads_carry_the_marks_to_a_cloud_of_3_1_1() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut watcher = Watcher::start(cloud.port(), "plant/#", &["-i", "listener", "-c"]).await;
    let gateway = Gateway::start(&config(cloud.port(), "protocol = \"3.1.1\"\nmark = \"json\"")).await;
    status::online(&gateway).await;
    let publish = |payload: &str| {
        let port = gateway.mqtt_port().to_string();
        let args = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "plant/x", "-m", payload];
        assert!(Command::new("mosquitto_pub").args(args).status().expect("it is installed").success());
    };
    publish("{\"v\": 1.50}");
    let fresh = watcher.next().await;
    let seq = fresh.json()["seq"].as_u64().expect("a number");
    assert_eq!(fresh.payload, format!("{{\"v\": 1.50,\"seq\":{seq}}}"));
    cloud.stop().await;
    status::offline(&gateway).await;
    publish("{\"v\":2}");
    publish("3");
    cloud.start_again().await;
    assert_eq!(watcher.next().await.payload, format!("{{\"v\":2,\"seq\":{},\"historical\":true}}", seq + 1));
    assert_eq!(watcher.next().await.payload, "3");
}
