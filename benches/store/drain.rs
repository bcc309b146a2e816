//! A backlog goes through the router to a session that acknowledges everything at once, as an uplink to a cloud without
//! distance would.

use std::error::Error;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldpost::broker::access::Access;
use fieldpost::broker::{self, Broker, Link};
use fieldpost::message::QoS;
use fieldpost::mqtt::{Ack, Connect, Packet, Version};
use fieldpost::status::Pulse;
use fieldpost::store::Store;

use super::load::{CLIENT, config};
use super::process;

/// What came of it.
pub struct Drained {
    /// Messages a second.
    pub rate: f64,
    /// Bytes of memory that it took at most, beside what was taken before.
    pub grown: u64,
}

/// Drains the store at `path`, which has so many entries, with so many in flight.
pub fn run(path: &Path, entries: u64, window: u16) -> Result<Drained, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let store = Store::open(&config(path))?;
    let status = store.0.status();
    runtime.block_on(async {
        let config = broker::Config { max_inflight: window, ..broker::Config::default() };
        let commit = Duration::from_millis(250);
        let access = Arc::<Access>::default();
        let (broker, _, task) = Broker::start(&config, commit, access, store, Vec::new(), Pulse::new());
        let task = tokio::spawn(task);
        let before = process::memory()?;
        let mut connect = Connect::new(Version::V5, CLIENT);
        (connect.clean_start, connect.expiry) = (false, u32::MAX);
        connect.receive_maximum = NonZeroU16::new(window).ok_or("a window of at least 1")?;
        let mut link = broker.link().await;
        let begun = Instant::now();
        link.send(vec![Packet::Connect(Box::new(connect))]).await;
        let most = take_all(&mut link, entries).await?;
        let rate = entries as f64 / begun.elapsed().as_secs_f64();
        broker.stop().await;
        task.await?;
        let left = status.borrow().entries;
        if left > 0 {
            return Err(format!("{left} entries are still on the disk").into());
        }
        Ok(Drained { rate, grown: most.saturating_sub(before) })
    })
}

async fn take_all(link: &mut Link, entries: u64) -> Result<u64, Box<dyn Error>> {
    let (mut taken, mut most, mut look) = (0, 0, 0);
    while taken < entries {
        let packets = link.recv().await.ok_or("the broker closed the connection")?;
        let mut acks = Vec::with_capacity(packets.len());
        for packet in packets {
            if let Packet::Publish(publish) = packet {
                assert_eq!(publish.qos, QoS::AtLeastOnce);
                taken += 1;
                acks.extend(publish.id.map(|id| Packet::PubAck(Ack::ok(id))));
            }
        }
        if !acks.is_empty() {
            link.send(acks).await;
        }
        if taken >= look {
            (most, look) = (process::memory()?.max(most), taken + entries / 100);
        }
    }
    Ok(most)
}
