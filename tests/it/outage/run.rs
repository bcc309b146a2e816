//! One run of everything that a gateway carries: two publishers, a device, and the collector at the cloud.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::mail::TOPICS;
use crate::support::modbus::Make;
use crate::support::{Cable, Collector, Gateway, Load, ModbusServer, Mosquitto, status};

/// The cloud keeps all that it has taken, however much it is, and hands it on at once.
pub const KEEPS: &str = "max_queued_messages 0\nmax_inflight_messages 0";

/// What the uplink, and what each publisher, has under way at most.
const WINDOW: u32 = 20;
const PUBLISHERS: u32 = 50;

/// How long an acknowledgement of the cloud may wait to be written down, on a busy machine.
const UNWRITTEN: Duration = Duration::from_millis(500);

/// The publishers: where they publish, and more of their arguments. One at QoS 1 with MQTT 3.1.1, one at QoS 2 with MQTT 5.
type Mail = [(&'static str, &'static [&'static str]); 2];
const MAIL: Mail = [("plant/one", &["--qos", "1"]), ("plant/two", &["--qos", "2", "--v5"])];

/// Both with MQTT 3.1.1: what is refused for now is not lost for them, as it is for those who are told so.
pub const OLD_MAIL: Mail = [("plant/one", &["--qos", "1"]), ("plant/two", &["--qos", "2"])];

const COUNTER: &str = "plant/meter/count";

/// What is different from run to run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The uplink's version of MQTT.
    pub protocol: &'static str,
    /// Its URL without the port.
    pub url: &'static str,
    /// More lines of its table, and then more tables.
    pub more: String,
    /// Messages on each topic of each publisher, each publisher's messages a second, and the least bytes of one.
    pub count: u32,
    pub rate: u32,
    pub size: u32,
    pub mail: Mail,
    /// The store may refuse readings, which nobody sends again; and says how many.
    pub refuses: bool,
    /// More arguments of the collector's: how it logs in.
    pub login: Vec<String>,
    /// The program that starts the gateway.
    pub wrapper: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            protocol: "5",
            url: "mqtt://127.0.0.1",
            more: String::new(),
            count: 250,
            rate: 200,
            size: 0,
            mail: MAIL,
            refuses: false,
            login: Vec::new(),
            wrapper: Vec::new(),
        }
    }
}

/// The run.
#[derive(Debug)]
pub struct Run {
    pub gateway: Gateway,
    /// The way from the gateway to the cloud, and that from the publishers to the gateway.
    pub line: Cable,
    pub nearby: Cable,
    pub collector: Collector,
    loads: [Load; 2],
    meter: ModbusServer,
    setup: Setup,
    /// How often the gateway was ended, and when it was killed.
    ends: usize,
    kills: Vec<Instant>,
    /// What the cloud itself may have sent again.
    cloud_again: u32,
}

/// What a run was like, once all has arrived.
#[derive(Debug)]
pub struct Outcome {
    /// What came again, and how much was in flight at all breaks together.
    pub again: u32,
    pub bound: u32,
}

impl Run {
    /// Starts all of it, and waits until the gateway has found its cloud.
    pub async fn start(cloud: &Mosquitto, setup: Setup) -> Self {
        let run = Self::start_offline(cloud, setup).await;
        status::online(&run.gateway).await;
        run
    }

    /// As [`Run::start`], for a gateway that is not to find its cloud yet.
    pub async fn start_offline(cloud: &Mosquitto, setup: Setup) -> Self {
        let login: Vec<_> = setup.login.iter().map(String::as_str).collect();
        let collector = Collector::start(cloud.port(), "plant", &login).await;
        let line = Cable::to(cloud.port()).await;
        let meter = ModbusServer::tcp(Make::Libmodbus, &["counter:8=".to_owned()]).await;
        let wrapper: Vec<_> = setup.wrapper.iter().map(String::as_str).collect();
        let mut gateway = Gateway::start_under(&wrapper, &config(&setup, line.port(), meter.port()));
        gateway.ready().await;
        let nearby = Cable::to(gateway.mqtt_port()).await;
        let load = |(prefix, more): (&str, &[&str])| {
            let (window, size) = (PUBLISHERS.to_string(), setup.size.to_string());
            let more = [more, &["--window", &window, "--size", &size]].concat();
            Load::start(nearby.port(), prefix, setup.count, setup.rate, &more)
        };
        let loads = setup.mail.map(load);
        Self { gateway, line, nearby, collector, loads, meter, setup, ends: 0, kills: Vec::new(), cloud_again: 0 }
    }

    /// The config, for a start with another.
    pub fn config(&self, setup: &Setup) -> String {
        config(setup, self.line.port(), self.meter.port())
    }

    /// All messages of one publisher.
    pub fn total(&self) -> u64 {
        u64::from(self.setup.count) * TOPICS as u64
    }

    /// Waits until the gateway has acknowledged this many of each publisher's messages in a hundred.
    pub async fn percent(&mut self, percent: u64) {
        let number = self.total() * percent / 100;
        for load in &mut self.loads {
            load.acked(number).await;
        }
    }

    /// Waits until the gateway has acknowledged so many more of the first publisher's messages, or all.
    pub async fn more(&mut self, count: u64) {
        let (total, load) = (self.total(), &mut self.loads[0]);
        load.acked((load.so_far() + count).min(total)).await;
    }

    /// Kills the gateway (SIGKILL) and starts it again.
    pub async fn kill(&mut self) {
        self.ends += 1;
        self.kills.push(Instant::now());
        self.gateway.kill().await;
        self.gateway.start_again().await;
    }

    /// Ends the gateway in peace and starts it again.
    pub async fn restart(&mut self) {
        self.ends += 1;
        self.gateway.restart().await;
    }

    /// As [`Run::restart`], with another config.
    pub async fn restart_with(&mut self, config: &str) {
        self.ends += 1;
        self.gateway.stop().await;
        self.gateway.start_again_with(config).await;
    }

    /// Notes that the cloud may send so many messages again of its own accord: those in flight to the collector.
    pub fn cloud_sends_again(&mut self, most: u32) {
        self.cloud_again += most;
    }

    /// Waits until all is acknowledged to the publishers, and has arrived, and nothing is left behind.
    ///
    /// # Panics
    /// When a message is missing, or came for the first time after a later one of its topic; or more came again than
    /// was in flight at each break; or readings are missing that were not in the gateway's hands as it ended.
    pub async fn arrives(mut self) -> Outcome {
        for load in &mut self.loads {
            load.done().await;
        }
        self.meter.process().kill().await;
        let point = |status: &serde_json::Value| status["points"][0]["value"].as_u64();
        let read = status::until(&self.gateway, "a reading", |status| point(status).is_some()).await;
        let last = u32::try_from(point(&read).unwrap()).unwrap();

        let numbered: Vec<_> =
            MAIL.iter().flat_map(|(prefix, _)| (0..TOPICS).map(move |n| format!("{prefix}/{n}"))).collect();
        let (count, collector) = (self.setup.count, &mut self.collector);
        while numbered.iter().any(|topic| collector.series(topic).next < count)
            || collector.series(COUNTER).next <= last
        {
            let topic = collector.take().await;
            let gaps = collector.series(&topic).gaps;
            assert!(topic == COUNTER || gaps.is_empty(), "{topic}: missing when a later one came: {gaps:?}");
        }
        let status = status::empty(&self.gateway).await;
        assert_eq!(status["store"]["dropped"], 0, "{status:#}");
        assert_eq!(status::uplink(&status)["refused"], 0, "{status:#}");

        let lost_lines = self.line.connections().saturating_sub(1);
        let lost_nearby = self.nearby.connections().saturating_sub(MAIL.len() as u32);
        // What the cloud acknowledged to a gateway that had no time to write it down.
        let unwritten = self.kills.iter().map(|at| collector.between(*at - UNWRITTEN, *at + UNWRITTEN / 10));
        let unwritten = unwritten.sum::<usize>();
        let bound = unwritten as u32 + WINDOW * lost_lines + PUBLISHERS * lost_nearby + self.cloud_again;
        let (again, gaps) = (collector.again(), collector.series(COUNTER).gaps);
        assert!(again <= bound, "{again} came again; in flight at all breaks were {bound}");
        let dropped = &status["broker"]["dropped"];
        if self.setup.refuses {
            assert_eq!(*dropped, gaps.iter().map(Range::len).sum::<usize>(), "readings are missing: {gaps:?}");
            return Outcome { again, bound };
        }
        assert_eq!(*dropped, 0, "{status:#}");
        assert!(gaps.len() <= self.ends, "{} ends, and readings are missing: {gaps:?}", self.ends);
        assert!(gaps.iter().all(|gap| gap.len() <= 100), "more than the last seconds' readings are missing: {gaps:?}");
        Outcome { again, bound }
    }
}

fn config(setup: &Setup, cloud: u16, meter: u16) -> String {
    let Setup { protocol, url, more, .. } = setup;
    format!(
        r##"
        [gateway]
        topic = "plant/{{device}}/{{point}}"
        [bus.plc]
        modbus-tcp = {{ host = "127.0.0.1", port = {meter} }}
        [device.meter]
        bus = "plc"
        unit = 1
        timeout = "10s"
        stale-after = "1h"
        every = "50ms"
        points.count = {{ input = 8, as = "u16", retain = false }}
        [uplink.cloud]
        url = "{url}:{cloud}"
        publish = ["plant/#"]
        keep-alive = "2s"
        window = {WINDOW}
        protocol = "{protocol}"
        {more}
        "##
    )
}
