//! Between wires and topics: reports become messages, messages on `…/set` become commands, and their results messages.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, timeout};

use crate::broker::{Broker, Link};
use crate::mapping::{Mapping, Wish};
use crate::message::{Message, QoS};
use crate::mqtt::{Ack, Connect, Packet, PacketId, Subscribe, SubscribeOptions, Version};
use crate::reading::{Command, Reading, Report, Value};
use crate::status::{self, Pulse};

/// How long a command may take before its sender is told that nobody knows.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Reports taken at once.
const BATCH: usize = 64;

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
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
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
        Self { mapping, broker, reports, buses, points, places, outcomes: mpsc::channel(BATCH) }
    }

    /// Goes on until the last poller is gone and all that it reported is published.
    pub(super) async fn run(mut self, pulse: Pulse) {
        let mut link = self.subscribe().await;
        let mut reports = Vec::with_capacity(BATCH);
        let mut beat = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                n = self.reports.recv_many(&mut reports, BATCH) => {
                    if n == 0 {
                        return;
                    }
                    self.publish(&mut reports).await;
                }
                packets = link.recv() => match packets {
                    Some(packets) => self.commands(&link, packets).await,
                    None => return,
                },
                Some((message, outcome)) = self.outcomes.1.recv() => {
                    let outcome = outcome.as_ref().map_err(String::as_str);
                    self.broker.publish(self.mapping.result(&message, outcome)).await;
                }
                _ = beat.tick() => pulse.beat(),
            }
        }
    }

    async fn subscribe(&self) -> Link {
        let link = self.broker.link().await;
        let connect = Connect {
            version: Version::V5,
            client_id: "$commands".into(),
            clean_start: true,
            expiry: 0,
            keep_alive: Duration::ZERO,
            user: None,
            password: None,
            will: None,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            authentication_method: None,
        };
        let mut packets = vec![Packet::Connect(Box::new(connect))];
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

    async fn commands(&self, link: &Link, packets: Vec<Packet>) {
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
                Some(Ok(wish)) => self.carry_out(message, wish),
                Some(Err(refusal)) => {
                    self.broker.publish(self.mapping.result(&message, Err(&refusal.0))).await;
                }
                None => {}
            }
        }
    }

    /// Hands a command to its bus; the outcome comes back by itself.
    fn carry_out(&self, message: Arc<Message>, Wish { device, point, value }: Wish) {
        let (reply, answer) = oneshot::channel();
        let command = Command { device: device.clone(), point, value: value.clone(), reply };
        let handed = match self.buses.get(&device) {
            Some(bus) => bus.try_send(command).map_err(|_| "too many commands wait for this bus already".to_owned()),
            None => Err(format!("there is no device `{device}`")),
        };
        let outcomes = self.outcomes.0.clone();
        tokio::spawn(async move {
            let outcome = match handed {
                Err(why) => Err(why),
                Ok(()) => match timeout(COMMAND_TIMEOUT, answer).await {
                    Ok(Ok(Ok(()))) => Ok(value),
                    Ok(Ok(Err(error))) => Err(error.to_string()),
                    Ok(Err(_)) => Err("the gateway stopped before the command was carried out".to_owned()),
                    Err(_) => Err("the command was not carried out in time".to_owned()),
                },
            };
            let _ = outcomes.send((message, outcome)).await;
        });
    }
}
