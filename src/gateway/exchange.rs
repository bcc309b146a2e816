//! Between wires and topics: reports become messages, messages on `…/set` become commands, and their results messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::broker::{Broker, Link};
use crate::clock::Moment;
use crate::mapping::{Mapping, Wish};
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Connect, Packet, PacketId, Subscribe, SubscribeOptions, Version};
use crate::reading::{Command, Reading, Report, Value};
use crate::status::{self, Pulse};

/// How long a command may take before its sender is told that nobody knows.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last commands may take to tell how they ended, once the buses have stopped.
const LAST_OUTCOMES: Duration = Duration::from_secs(1);
/// Reports taken at once.
const BATCH: usize = 64;

/// How long a command may have waited for us: it is for the moment in which it was sent.
const FRESH: Duration = Duration::from_secs(10);

/// What becomes of a command when its bus is gone.
const STOPPED: &str = "the gateway stopped before the command was carried out";

/// How many commands may be under way at the same time, over all buses.
const UNDER_WAY: usize = 64;

/// The commands' way to a bus, by the name of a device on it.
pub(super) type Buses = HashMap<Arc<str>, mpsc::Sender<Command>>;

/// The one task that readings and commands pass.
pub(super) struct Exchange {
    mapping: Mapping,
    broker: Broker,
    reports: mpsc::Receiver<Report>,
    buses: Buses,
    points: watch::Sender<Vec<status::Point>>,
    /// Where each point stands in `points`.
    places: HashMap<(Arc<str>, Arc<str>), usize>,
    /// The commands on their way.
    under_way: JoinSet<Outcome>,
}

/// How a command ended: the message that asked, and what came of it.
type Outcome = (Arc<Message>, Result<Value, String>);

impl Exchange {
    pub(super) fn new(
        mapping: Mapping,
        broker: Broker,
        reports: mpsc::Receiver<Report>,
        buses: Buses,
        points: watch::Sender<Vec<status::Point>>,
    ) -> Self {
        let places =
            points.borrow().iter().enumerate().map(|(i, p)| ((p.device.clone(), p.point.clone()), i)).collect();
        Self { mapping, broker, reports, buses, points, places, under_way: JoinSet::new() }
    }

    /// Goes on until the last poller is gone and all that it reported is published, the results of commands included.
    pub(super) async fn run(mut self, pulse: Pulse) {
        let mut link = self.subscribe().await;
        let mut reports = Vec::with_capacity(BATCH);
        let mut beat = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                n = self.reports.recv_many(&mut reports, BATCH) => {
                    if n == 0 {
                        return self.finish().await;
                    }
                    self.publish(&mut reports).await;
                }
                packets = link.recv() => match packets {
                    Some(packets) => self.commands(&link, packets).await,
                    None => return,
                },
                Some(Ok(outcome)) = self.under_way.join_next() => self.tell(&outcome).await,
                _ = beat.tick() => pulse.beat(),
            }
        }
    }

    /// Tells how the last commands ended: the buses have carried them out, or are gone.
    async fn finish(mut self) {
        let last = async {
            while let Some(ended) = self.under_way.join_next().await {
                if let Ok(outcome) = ended {
                    self.tell(&outcome).await;
                }
            }
        };
        if timeout(LAST_OUTCOMES, last).await.is_err() {
            tracing::warn!("{} command(s) were still under way; nobody is told of their results", self.under_way.len());
        }
    }

    async fn tell(&self, (message, outcome): &Outcome) {
        let outcome = outcome.as_ref().map_err(String::as_str);
        self.broker.publish(self.mapping.result(message, outcome)).await;
    }

    async fn subscribe(&self) -> Link {
        let link = self.broker.link().await;
        let mut packets = vec![Packet::Connect(Box::new(Connect::new(Version::V5, "$commands")))];
        // Retained commands are asked for as well: who sent one is told that it is not carried out.
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, retain_as_published: true, ..Default::default() };
        let filters: Vec<_> =
            self.mapping.command_filters().into_iter().map(|f| (Arc::<str>::from(f), options)).collect();
        if !filters.is_empty() {
            packets.push(Packet::Subscribe(Box::new(Subscribe { id: PacketId::MIN, filters, subscription_id: None })));
        }
        link.send(packets).await;
        link
    }

    async fn publish(&mut self, reports: &mut Vec<Report>) {
        let now = Instant::now();
        let mut messages = Vec::new();
        for report in reports.drain(..) {
            messages.extend(self.mapping.report(&report, now));
            if let Report::Readings(readings) = &report {
                self.show(readings);
            }
        }
        if !messages.is_empty() {
            self.broker.publish(messages).await;
        }
    }

    fn show(&self, readings: &[Reading]) {
        self.points.send_modify(|points| {
            for reading in readings {
                let key = (reading.device.clone(), reading.point.clone());
                let Some(point) = self.places.get(&key).and_then(|place| points.get_mut(*place)) else { continue };
                point.value = reading.value.clone();
                point.quality = reading.quality;
                // A point that was never read has no time to show.
                point.at = (reading.value != Value::Null || reading.fault.is_none()).then_some(reading.at);
                point.fault = reading.fault.as_ref().map(ToString::to_string);
            }
        });
    }

    async fn commands(&mut self, link: &Link, packets: Vec<Packet>) {
        for packet in packets {
            let Packet::Publish(publish) = packet else { continue };
            if let Some(id) = publish.id {
                link.send(vec![Packet::PubAck(Ack::ok(id))]).await;
            }
            let mut message = publish.message;
            if publish.retain && !message.retain {
                Arc::make_mut(&mut message).retain = true;
            }
            match self.mapping.command(&message) {
                Some(Ok(_)) if is_late(&message, Moment::now()) => {
                    self.tell(&(message, Err("the command came too late, and is not carried out".to_owned()))).await;
                }
                Some(Ok(wish)) => {
                    if let Err(why) = self.carry_out(message.clone(), wish) {
                        self.tell(&(message, Err(why))).await;
                    }
                }
                Some(Err(refusal)) => self.tell(&(message, Err(refusal.0))).await,
                None => {}
            }
        }
    }

    /// Hands a command to its bus; the outcome comes back by itself.
    ///
    /// # Errors
    /// When it is not even handed over; the text says why.
    fn carry_out(&mut self, message: Arc<Message>, Wish { device, point, value }: Wish) -> Result<(), String> {
        if self.under_way.len() >= UNDER_WAY {
            return Err("too many commands are under way already".to_owned());
        }
        let bus = self.buses.get(&device).ok_or_else(|| format!("there is no device `{device}`"))?;
        let (reply, answer) = oneshot::channel();
        let command = Command { device, point, value: value.clone(), reply };
        bus.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => "too many commands wait for this bus already".to_owned(),
            TrySendError::Closed(_) => STOPPED.to_owned(),
        })?;
        self.under_way.spawn(async move {
            let outcome = match timeout(COMMAND_TIMEOUT, answer).await {
                Ok(Ok(Ok(()))) => Ok(value),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(_)) => Err(STOPPED.to_owned()),
                Err(_) => Err("the bus did not come to it in time".to_owned()),
            };
            (message, outcome)
        });
        Ok(())
    }
}

/// Whether nobody waits for a command any more. It has waited in the broker, or its sender let it expire.
fn is_late(message: &Message, now: Moment) -> bool {
    message.expired(now) || message.at.age_at(now) > FRESH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker;
    use crate::broker::access::Access;
    use crate::mapping::{Route, payload, report};
    use crate::message::Properties;
    use crate::store::{self, Store};

    #[test]
    fn a_command_that_waited_is_late() {
        let at = Moment::now();
        let command = |waited, expiry| {
            let properties = Properties { expiry, ..Properties::default() };
            let message = Message { at, properties: Some(Box::new(properties)), ..Message::new("t/set", "1") };
            is_late(&message, at.after(Duration::from_secs(waited)))
        };
        assert!(!command(0, None) && !command(10, None) && command(11, None));
        assert!(!command(1, Some(2)) && command(2, Some(2)));
    }

    fn pump() -> Route {
        Route {
            device: "tank".into(),
            point: "pump".into(),
            topic: "plant/tank/pump".into(),
            payload: payload::Format::Value,
            report: report::Rule::default(),
            retain: true,
            qos: QoS::AtLeastOnce,
            writable: true,
        }
    }

    fn broker() -> Broker {
        let in_memory = store::Config { path: ":memory:".into(), ..store::Config::default() };
        let store = Store::open(&in_memory).expect("memory is there");
        let access = Arc::<Access>::default();
        let (broker, _, task) =
            Broker::start(&broker::Config::default(), in_memory.commit.0, access, store, Vec::new(), Pulse::new());
        tokio::spawn(task);
        broker
    }

    /// A subscriber to `filter`, connected and acknowledged.
    async fn subscriber(broker: &Broker, filter: &str) -> Link {
        let mut link = broker.link().await;
        let connect = Connect::new(Version::V5, "subscriber");
        let filters = vec![(filter.into(), SubscribeOptions::default())];
        let subscribe = Subscribe { id: PacketId::MIN, filters, subscription_id: None };
        link.send(vec![Packet::Connect(Box::new(connect)), Packet::Subscribe(Box::new(subscribe))]).await;
        while !link.recv().await.expect("it is open").iter().any(|p| matches!(p, Packet::SubAck { .. })) {}
        link
    }

    async fn heard(link: &mut Link) -> String {
        loop {
            let packets = link.recv().await.expect("it is open");
            let payload = packets.iter().find_map(|packet| match packet {
                Packet::Publish(publish) => Some(String::from_utf8_lossy(&publish.message.payload).into_owned()),
                _ => None,
            });
            if let Some(payload) = payload {
                return payload;
            }
        }
    }

    #[tokio::test]
    async fn a_command_under_way_at_the_stop_still_has_its_result_told() {
        let broker = broker();
        let mut results = subscriber(&broker, "plant/tank/pump/set/result").await;
        let (reports, reported) = mpsc::channel(1);
        let (to_bus, mut bus) = mpsc::channel(1);
        let (points, _) = watch::channel(Vec::new());
        let mapping = Mapping::new("plant7".into(), vec![pump()]);
        let buses = Buses::from([("tank".into(), to_bus)]);
        let exchange = tokio::spawn(Exchange::new(mapping, broker.clone(), reported, buses, points).run(Pulse::new()));
        while broker.subscriptions("$commands").await.is_empty() {
            tokio::task::yield_now().await;
        }
        broker.publish(vec![Message::new("plant/tank/pump/set", "1")]).await;
        let command: Command = bus.recv().await.expect("it comes");

        // The poller is told to stop; it still has the command on the wire.
        drop(reports);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        command.reply.send(Ok(())).expect("somebody waits for it");
        let result = timeout(Duration::from_secs(20), heard(&mut results)).await.expect("it is told");
        assert!(result.starts_with(r#"{"ok":true,"v":1,"#), "{result}");
        exchange.await.expect("it ends");
    }
}
