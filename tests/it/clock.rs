//! A gateway on a computer without a clock battery, and one whose clock is set while it runs: the program itself, with
//! the wall clock, what the kernel says of it and the id of the computer's start as the test wants them.

use std::time::SystemTime;

use serde_json::Value;

use crate::support::mail::TOPICS;
use crate::support::modbus::Make;
use crate::support::watcher::Heard;
use crate::support::{Collector, Faults, Gateway, Load, ModbusServer, Mosquitto, Watcher, python, status};

const HOUR: i64 = 3_600_000;

const POINT: &str = "plant/tank/level";

/// How far two times may differ that are the same one: two clocks are not read at once.
const SAME: u64 = 20;

/// A gateway that has a device and a cloud, and goes by what the kernel says of its clock.
struct Pi {
    gateway: Gateway,
    cloud: Mosquitto,
    /// A subscriber at the cloud with a session.
    there: Watcher,
    faults: Faults,
    /// How many milliseconds the clock is behind.
    behind: i64,
    _tank: ModbusServer,
}

/// The clock shows so many milliseconds from now on; by how many it is behind.
fn shows(faults: &Faults, millis: i64) -> i64 {
    let behind = now() - millis;
    faults.shift_clock(-behind);
    behind
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// The time that a payload tells, in milliseconds since 1970.
fn time(payload: &Value) -> i64 {
    let told = payload["t"].as_str().unwrap_or_else(|| panic!("no time: {payload}"));
    fieldpost::clock::Timestamp::parse(told).unwrap_or_else(|| panic!("no time: {payload}")).0
}

fn is_marked(payload: &Value) -> bool {
    payload["clock"] == "unsynced"
}

impl Pi {
    /// It starts when its clock shows `millis`, and nobody has set it.
    async fn start(millis: i64) -> Self {
        let faults = Faults::new();
        let behind = shows(&faults, millis);
        faults.clock_is_set(false);
        faults.boot("the-first-start");
        let cloud = Mosquitto::persistent("max_queued_messages 0").await;
        let there = Watcher::start(cloud.port(), "plant/#", &["-i", "there", "-c"]).await;
        let tank = ModbusServer::tcp(Make::Libmodbus, &["input:8=42".to_owned()]).await;
        let config = format!(
            "[gateway]\nid = \"pi\"\nclock = \"ntp\"\ntopic = \"plant/{{device}}/{{point}}\"\nevery = \"100ms\"\n\
             [bus.plc]\nmodbus-tcp = {{ host = \"127.0.0.1\", port = {} }}\n\
             [device.tank]\nbus = \"plc\"\nunit = 1\npoints.level = {{ input = 8, as = \"u16\" }}\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]",
            tank.port(),
            cloud.port(),
        );
        let wrapper = faults.wrapper();
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let mut gateway = Gateway::start_under(&wrapper, &config);
        gateway.ready().await;
        status::online(&gateway).await;
        Self { gateway, cloud, there, faults, behind, _tank: tank }
    }

    /// The cloud goes away; from here on readings wait.
    async fn lose_the_cloud(&mut self) {
        self.cloud.stop().await;
        status::offline(&self.gateway).await;
    }

    /// A client nearby that sees all readings.
    async fn nearby(&self) -> Watcher {
        Watcher::start(self.gateway.mqtt_port(), POINT, &["-i", "nearby", "-c"]).await
    }

    async fn until_waiting(&self, entries: u64) {
        status::until(&self.gateway, "waiting", |status| status::queue(status)["entries"].as_u64() >= Some(entries))
            .await;
    }

    /// A time server is reached.
    async fn set_the_clock(&self) {
        self.faults.shift_clock(0);
        self.faults.clock_is_set(true);
        self.until_synced(true).await;
    }

    async fn until_synced(&self, synced: bool) -> Value {
        status::until(&self.gateway, "the clock", |status| status["clock"]["synced"] == synced).await["clock"].take()
    }

    /// The next readings that come to the cloud, up to the first that was made after `until`.
    async fn readings(&mut self, until: i64) -> Vec<Value> {
        let mut readings = Vec::new();
        loop {
            let reading = self.there.until(POINT, |_| true).await.json();
            let last = time(&reading) > until && !is_marked(&reading);
            readings.push(reading);
            if last {
                return readings;
            }
        }
    }
}

/// Holds what came to the cloud after an outage against what was said nearby meanwhile: the same readings in the same
/// order, of which those that were marked are later by `later`, and say so no more.
fn assert_corrected(there: &[Value], here: &[Value], later: i64) {
    assert!(here.len() >= 10, "{here:?}");
    // What came before the outage was marked.
    let there = &there[there.iter().take_while(|reading| is_marked(reading)).count()..];
    assert!(!there.iter().any(is_marked), "{there:?}");
    assert!(there.is_sorted_by_key(time), "{there:?}");
    let first = time(&here[0]) + later;
    let from = there.iter().position(|reading| time(reading).abs_diff(first) <= SAME);
    let from = from.unwrap_or_else(|| panic!("{first} is missing in {there:?}"));
    assert!(there.len() - from > here.len(), "some are missing: {there:?}");
    for (told, was) in there[from..].iter().zip(here) {
        // In the moment before the gateway sees that it was set, the clock is right and not trusted.
        let right = if time(was) < first { time(was) + later } else { time(was) };
        assert!(time(told).abs_diff(right) <= SAME, "{told} was {was}, {later} earlier");
        assert_eq!((&told["v"], &told["q"]), (&was["v"], &was["q"]));
    }
}

/// What the watcher gets until a reading is not marked any more.
async fn marked(watcher: &mut Watcher) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let Heard { payload, retained, .. } = watcher.next().await;
        let reading: Value = serde_json::from_str(&payload).unwrap();
        if !is_marked(&reading) {
            return all;
        }
        if !retained {
            all.push(reading);
        }
    }
}

#[tokio::test]
async fn readings_of_before_the_clock_was_set_arrive_with_the_right_time() {
    let mut pi = Pi::start(100_000).await;
    let mut state = Watcher::start(pi.gateway.mqtt_port(), "fieldpost/pi/clock", &[]).await;
    assert_eq!(state.next().await.payload, "unsynced");
    let live = pi.there.until(POINT, |_| true).await.json();
    assert!(is_marked(&live) && time(&live) < HOUR, "sent at once, and marked: {live}");
    pi.lose_the_cloud().await;
    let mut here = pi.nearby().await;
    pi.until_waiting(15).await;
    let clock = pi.until_synced(false).await;
    assert!(clock["why"].as_str().unwrap().contains("1970-01-01"), "{clock}");
    pi.set_the_clock().await;
    let here = marked(&mut here).await;
    assert_eq!(state.next().await.payload, "synced");
    let set = now();
    pi.cloud.start_again().await;
    assert_corrected(&pi.readings(set).await, &here, pi.behind);
}

#[tokio::test]
async fn a_restart_of_the_gateway_before_the_clock_is_set_changes_nothing() {
    // A saved time, as fake-hwclock has it: plausible, and wrong.
    let mut pi = Pi::start(now() - 30 * HOUR).await;
    pi.lose_the_cloud().await;
    let mut here = pi.nearby().await;
    pi.until_waiting(15).await;
    // In peace: what is acknowledged only is kept by force, and nobody acknowledges readings.
    pi.gateway.restart().await;
    pi.until_synced(false).await;
    pi.until_waiting(25).await;
    pi.set_the_clock().await;
    // And one after.
    pi.gateway.restart().await;
    pi.until_synced(true).await;
    let here = marked(&mut here).await;
    let set = now();
    pi.cloud.start_again().await;
    assert_corrected(&pi.readings(set).await, &here, pi.behind);
}

#[tokio::test]
async fn what_nobody_can_correct_any_more_stays_marked() {
    let mut pi = Pi::start(100_000).await;
    pi.lose_the_cloud().await;
    pi.until_waiting(10).await;
    pi.gateway.kill().await;
    pi.faults.boot("the-second-start");
    pi.faults.shift_clock(0);
    pi.faults.clock_is_set(true);
    pi.gateway.start_again().await;
    pi.until_synced(true).await;
    pi.cloud.start_again().await;
    let there = pi.readings(now()).await;
    let lost = there.iter().filter(|reading| is_marked(reading)).count();
    assert!(lost >= 10, "{there:?}");
    for reading in there {
        assert_eq!(is_marked(&reading), time(&reading) < HOUR, "{reading}");
    }
}

#[tokio::test]
async fn what_the_clock_was_set_for_in_time_is_right_after_a_power_cut() {
    let mut pi = Pi::start(100_000).await;
    pi.lose_the_cloud().await;
    let mut here = pi.nearby().await;
    pi.until_waiting(15).await;
    pi.set_the_clock().await;
    let here = marked(&mut here).await;
    // What was made since then is in the store, and so is by how much the clock was set.
    let waiting = status::queue(&status::until(&pi.gateway, "", |_| true).await)["entries"].as_u64().unwrap();
    pi.until_waiting(waiting + 10).await;
    pi.gateway.kill().await;
    pi.faults.boot("the-second-start");
    shows(&pi.faults, 50_000);
    pi.faults.clock_is_set(false);
    pi.gateway.start_again().await;
    pi.until_synced(false).await;
    pi.set_the_clock().await;
    let set = now();
    pi.cloud.start_again().await;
    assert_corrected(&pi.readings(set).await, &here, pi.behind);
}

#[tokio::test]
async fn steps_of_hours_under_load_lose_nothing_and_make_nothing_look_old() {
    const PREFIX: &str = "plant/load";
    let faults = Faults::new();
    faults.clock_is_set(true);
    let mut cloud = Mosquitto::persistent("max_queued_messages 0\nmax_inflight_messages 1000").await;
    let mut collector = Collector::start(cloud.port(), PREFIX, &[]).await;
    let mut expiring = Watcher::start(cloud.port(), "plant/expiring", &["-i", "expiring", "-c"]).await;
    let config = format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\npublish = [\"plant/#\"]\n\
         [store]\npath = \"@store@\"\nmax-age = \"1h\"",
        cloud.port()
    );
    let wrapper = faults.wrapper();
    let mut gateway = Gateway::start_under(&wrapper.iter().map(String::as_str).collect::<Vec<_>>(), &config);
    gateway.ready().await;
    status::online(&gateway).await;
    let mut load = Load::start(gateway.mqtt_port(), PREFIX, 1000, 400, &[]);
    load.acked(200).await;
    let step = async |shift: i64, steps: u64| {
        faults.shift_clock(shift);
        status::until(&gateway, "the step", |status| status["clock"]["steps"] == steps).await
    };
    let status = step(5 * HOUR, 1).await;
    let by = status["clock"]["step"]["by_ms"].as_i64().unwrap();
    assert!(by.abs_diff(5 * HOUR) < 1000, "{by}");
    assert!(gateway.log().contains("the clock was set 5h"), "{}", gateway.log());
    step(0, 2).await;
    load.acked(1200).await;
    cloud.stop().await;
    status::offline(&gateway).await;
    let port = gateway.mqtt_port().to_string();
    let expiry = ["--port", &port, "--v5", "--topic", "plant/expiring", "--expiry", "3600", "--payload", "fresh"];
    python::run("mqtt_publish.py", &expiry).await;
    load.acked(2000).await;
    let status = step(5 * HOUR, 3).await;
    assert_young(&status);
    assert_young(&step(-5 * HOUR, 4).await);
    load.done().await;
    // Over a restart as well.
    step(5 * HOUR, 5).await;
    gateway.kill().await;
    faults.shift_clock(-5 * HOUR);
    gateway.start_again().await;
    assert_young(&status::until(&gateway, "anything", |_| true).await);
    cloud.start_again().await;
    assert_eq!(expiring.next().await.payload, "fresh");
    collector.all(TOPICS, 1000).await;
    let status = status::empty(&gateway).await;
    assert_eq!((&status["store"]["dropped"], &status["broker"]["dropped"]), (&0.into(), &0.into()), "{status:#}");
}

/// Nothing on the page is older than the test, or of the future.
fn assert_young(status: &Value) {
    let moment = |at: &Value| fieldpost::clock::Timestamp::parse(at.as_str()?).map(|at| at.0);
    let now = moment(&status["now"]).unwrap();
    let queue = status::queue(status);
    for at in
        [&status["gateway"]["started"], &status::uplink(status)["since"], &queue["oldest"], &status["store"]["oldest"]]
    {
        let Some(at) = moment(at) else { continue };
        assert!((-1000..60_000).contains(&(now - at)), "{at} at {now}: {status:#}");
    }
}
