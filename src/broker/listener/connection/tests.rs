//! A connection whose task panics: it ends, and nothing else does.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::*;
use crate::broker;
use crate::message::{Message, QoS};
use crate::mqtt::{Subscribe, SubscribeOptions, Will};
use crate::status::Pulse;
use crate::store::{self, Store};

/// A stream that panics once it has brought what it has.
struct Mine(&'static [u8]);

impl AsyncRead for Mine {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        assert!(!self.0.is_empty(), "the mine goes off");
        buffer.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let store = Store::open(&store::Config { path: ":memory:".into(), ..Default::default() }).unwrap();
    let config = broker::Config::default();
    let (access, mut doors) = Door::all(&config).unwrap();
    let (broker, _status, task) =
        Broker::start(&config, Duration::from_millis(200), access, store, Vec::new(), Pulse::new());
    tokio::spawn(task);
    let mut good = broker.link().await;
    let filters = vec![("#".into(), SubscribeOptions { qos: QoS::AtMostOnce, ..Default::default() })];
    let subscribe = Subscribe { id: crate::mqtt::PacketId::MIN, filters, subscription_id: None };
    let connect = Packet::Connect(Box::new(Connect::new(Version::V5, "good")));
    good.send(vec![connect, Packet::Subscribe(Box::new(subscribe))]).await;

    let house = Arc::new(House::new(&config));
    let (place, permit) =
        (house.room.enter(IpAddr::from([127, 0, 0, 1])), house.clients.clone().try_acquire_owned().unwrap());
    let (_doors, mut door) = watch::channel(doors.remove(0));
    let will = Will { message: Message::new("will", "it panicked"), delay: Duration::ZERO };
    let connect = Connect { will: Some(will), ..Connect::new(Version::V5, "mine") };
    let link = broker.open(None).await;
    link.send(vec![Packet::Connect(Box::new(connect))]).await;
    let guest = Guest {
        from: [127, 0, 0, 1].into(),
        version: Version::V5,
        keep_alive: Duration::ZERO,
        admission: Admission { identity: Identity::Anonymous, trust: None },
        quota: Quota::new(Version::V5, 10),
        life: Life::new(),
    };
    // As `serve` does it: all that it holds is in the task.
    let panicked = tokio::spawn(async move {
        let _held = (place, permit);
        let wire = (Reader::client(Mine(b"\xd0\0"), Version::V5, 1024), Writer::new(tokio::io::sink(), Version::V5));
        guest.carry(wire, link, Vec::new(), &mut door).await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    let mut came = Vec::new();
    while came.is_empty() {
        let packets =
            timeout(Duration::from_secs(10), good.recv()).await.expect("it goes on").expect("it is not closed");
        came.extend(
            packets.into_iter().filter_map(|p| if let Packet::Publish(p) = p { Some(p.message) } else { None }),
        );
    }
    assert_eq!(
        (&*came[0].topic, &came[0].payload[..]),
        ("will", &b"it panicked"[..]),
        "a lost connection like any other"
    );
    assert_eq!(house.clients.available_permits(), usize::from(config.max_clients), "its place is free");
}
