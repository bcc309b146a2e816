//! Who counts what has arrived at the cloud.

use std::sync::{Arc, Mutex};

use fieldpost::broker::Link;
use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::{Ack, Connect, Packet, PacketId, Subscribe, SubscribeOptions, Version};
use tokio::time::Instant;

use crate::gateway::Gateway;

/// The count so far.
#[derive(Clone, Debug)]
pub struct Count(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    /// By gateway: which numbers came, and the largest of them.
    gateways: Vec<(Vec<bool>, u32)>,
    arrived: u64,
    doubled: u64,
    late: u64,
    /// In microseconds.
    latencies: Vec<u32>,
}

/// What there is to tell at the end; times in milliseconds.
#[derive(Debug)]
pub struct Counted {
    pub arrived: u64,
    pub doubled: u64,
    pub late: u64,
    pub p50: f64,
    pub p99: f64,
    pub most: f64,
}

impl Count {
    /// Counts what comes down to `collector` on `RUN/0` and so on.
    pub async fn start(collector: &Gateway, run: &str, gateways: usize, start: Instant) -> Self {
        let seen = Seen {
            gateways: vec![Default::default(); gateways],
            arrived: 0,
            doubled: 0,
            late: 0,
            latencies: Vec::new(),
        };
        let count = Self(Arc::new(Mutex::new(seen)));
        let mut link = collector.broker().link().await;
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filters = vec![(format!("{run}/#").into(), options)];
        let subscribe = Subscribe { id: PacketId::MIN, filters, subscription_id: None };
        let connect = Connect::new(Version::V5, "count");
        link.send(vec![Packet::Connect(Box::new(connect)), Packet::Subscribe(Box::new(subscribe))]).await;
        let counting = count.clone();
        tokio::spawn(async move {
            while let Some(packets) = link.recv().await {
                counting.take(&link, packets, start).await;
            }
        });
        count
    }

    async fn take(&self, link: &Link, packets: Vec<Packet>, start: Instant) {
        let mut acks = Vec::new();
        for packet in packets {
            let Packet::Publish(publish) = packet else { continue };
            acks.extend(publish.id.map(|id| Packet::PubAck(Ack::ok(id))));
            self.seen().note(&publish.message, start);
        }
        link.send(acks).await;
    }

    /// How many have come, each counted once.
    pub fn arrived(&self) -> u64 {
        self.seen().arrived
    }

    pub fn read(&self) -> Counted {
        let mut seen = self.seen();
        seen.latencies.sort_unstable();
        let at = |part: f64| {
            let last = seen.latencies.len().saturating_sub(1);
            seen.latencies.get((last as f64 * part) as usize).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        let (p50, p99, most) = (at(0.5), at(0.99), at(1.0));
        Counted { arrived: seen.arrived, doubled: seen.doubled, late: seen.late, p50, p99, most }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Seen {
    fn note(&mut self, message: &Message, start: Instant) {
        let gateway = message.topic.rsplit('/').next().and_then(|n| n.parse::<usize>().ok());
        let text = String::from_utf8_lossy(&message.payload);
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(gateway), Some(n), Some(sent)) = (gateway, number(), number()) else { return };
        let Some((came, largest)) = self.gateways.get_mut(gateway) else { return };
        let place = n as usize;
        if came.len() <= place {
            came.resize(place + 1, false);
        }
        if came[place] {
            self.doubled += 1;
            return;
        }
        came[place] = true;
        self.arrived += 1;
        self.late += u64::from(n < u64::from(*largest));
        *largest = (*largest).max(n as u32);
        let took = start.elapsed().as_micros().saturating_sub(sent.into());
        self.latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
    }
}
