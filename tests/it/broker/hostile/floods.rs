//! Behind the doors: clients that send without end, that never read or never acknowledge, that stop in the middle, that
//! take each other's place, that acknowledge what never was; and packets as large as MQTT has them.

use std::sync::Arc;
use std::time::Duration;

use fieldpost::message::{Message, QoS};
use fieldpost::mqtt::{Ack, Connect, Packet, PacketId, Publish, Reason, Subscribe, SubscribeOptions, Version, Will};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::super::raw::{self, Raw, Steady};
use super::{VERSIONS, resident};
use crate::support::Gateway;
use crate::support::process::PATIENCE;

async fn client(gateway: &Gateway, connect: Connect) -> Raw {
    let mut raw = Raw::connect(gateway, connect).await;
    let Packet::ConnAck(ack) = raw.next().await else { panic!("no CONNACK") };
    assert_eq!(ack.reason, Reason::SUCCESS);
    raw
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

fn large(n: u16, qos: QoS, topic: &str, size: usize) -> Packet {
    let message = Arc::new(Message { qos, ..Message::new(topic, vec![b'x'; size]) });
    Packet::Publish(Publish { message, ..raw::publish(n, qos, topic, "") })
}

#[tokio::test]
async fn floods_of_tiny_packets_take_no_memory_whether_their_answers_are_read_or_not() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let before = resident(&gateway);
    let connect = super::connect(Version::V311).await;
    let floods: [(&str, &[u8]); 3] =
        [("pings", b"\xc0\0"), ("acknowledgements", b"\x40\x02\0\x07"), ("releases", b"\x62\x02\0\x07")];
    for (what, tiny) in floods {
        let mut flooding = Vec::new();
        for n in 0..12 {
            let stream = raw::socket(&gateway).await;
            let (mut read, mut write) = stream.into_split();
            // Ids of their own, of the same length.
            let mut first = connect.clone();
            *first.last_mut().unwrap() = b'a' + n;
            let many = tiny.repeat(30_000);
            flooding.push(tokio::spawn(async move {
                let reading = async {
                    // Every other one reads.
                    let mut answers = vec![0; 1 << 16];
                    while n % 2 == 0 && read.read(&mut answers).await.is_ok_and(|n| n > 0) {}
                    std::future::pending::<()>().await;
                };
                let writing = async {
                    write.write_all(&first).await.unwrap();
                    while write.write_all(&many).await.is_ok() {}
                };
                // The broker goes on reading, or stops it for those who do not read.
                let _ = timeout(Duration::from_secs(3), async { tokio::join!(reading, writing) }).await;
            }));
        }
        let mut most = 0;
        while !flooding.iter().all(|flood| flood.is_finished()) {
            most = most.max(resident(&gateway));
            sleep(Duration::from_millis(50)).await;
            steady.goes_on().await;
        }
        let grown = most.saturating_sub(before) >> 20;
        assert!(grown < 100, "{what}: {grown} MiB more");
    }
}

#[tokio::test]
async fn who_never_acknowledges_is_given_so_many_bytes_and_no_more() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let mut publisher = client(&gateway, raw::connect(Version::V5, "publisher", 0)).await;
    let before = resident(&gateway);
    let mut mute = Vec::new();
    for n in 0..20 {
        let version = VERSIONS[n % 2];
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][n / 2 % 2];
        let mut raw = client(&gateway, raw::connect(version, &format!("mute-{n}"), 0)).await;
        raw.send(raw::subscribe(&format!("mute/{n}"), qos)).await;
        assert!(matches!(raw.next().await, Packet::SubAck { .. }));
        // It reads all that comes.
        mute.push(tokio::spawn(async move {
            let mut bytes = 0;
            while let Ok(packet) = timeout(Duration::from_secs(2), raw.next()).await {
                if let Packet::Publish(publish) = packet {
                    bytes += publish.message.payload.len();
                }
            }
            (bytes, raw)
        }));
    }
    // All of a window would be 100 of them: 60 MB for each, 1200 MB together.
    for n in 0..600 {
        publisher.send(large(1, QoS::ExactlyOnce, &format!("mute/{}", n % 20), 600_000)).await;
        assert!(matches!(publisher.next().await, Packet::PubRec(_)));
        publisher.send(Packet::PubRel(Ack::ok(id(1)))).await;
        assert!(matches!(publisher.next().await, Packet::PubComp(_)));
    }
    steady.goes_on().await;
    let grown = resident(&gateway).saturating_sub(before) >> 20;
    assert!(grown < 180, "{grown} MiB more");
    let mut there = Vec::new();
    for one in mute {
        let (bytes, raw) = one.await.unwrap();
        assert!((600_000..6_000_000).contains(&bytes), "{bytes} bytes were sent to it");
        there.push(raw);
    }
    // What they lost is counted and named.
    gateway.until("losses", |all| all["status"]["broker"]["dropped"].as_u64() > Some(100)).await;
    let named = |all: &serde_json::Value| {
        let queues = all["status"]["broker"]["queues"].as_array().unwrap();
        queues.iter().filter(|q| q["session"].as_str().unwrap().starts_with("mute-")).count() > 10
    };
    gateway.until("who lost", named).await;
}

#[tokio::test]
async fn who_stops_in_the_middle_of_a_packet_is_closed_when_its_keep_alive_is_over() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let connect = Connect { keep_alive: Duration::from_secs(1), ..raw::connect(version, "half", 0) };
        let connect = raw::bytes(version, &[Packet::Connect(Box::new(connect))]).await;
        // A PUBLISH of 100 000 bytes, of which a byte comes now and then: that is no sign of life.
        let mut stream = raw::socket(&gateway).await;
        stream.write_all(&[&connect, &b"\x30\xa0\x8d\x06\x00\x01t"[..]].concat()).await.unwrap();
        let start = Instant::now();
        let (mut read, mut write) = stream.into_split();
        let dripping = tokio::spawn(async move {
            while write.write_all(b"\0").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, read.read_to_end(&mut answer)).await.expect("it is closed");
        assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
        let told = version == Version::V5;
        let rest = &answer[2 + usize::from(answer[1])..];
        assert_eq!(rest.first() == Some(&0xe0) && rest[2] == Reason::KEEP_ALIVE_TIMEOUT.0, told, "{rest:02x?}");
        dripping.await.unwrap();
    }
}

#[tokio::test]
async fn one_client_id_taken_over_in_a_tight_loop() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let mut wills = client(&gateway, raw::connect(Version::V5, "wills", 0)).await;
    wills.send(raw::subscribe("will/#", QoS::AtLeastOnce)).await;
    assert!(matches!(wills.next().await, Packet::SubAck { .. }));
    let before = gateway.until("two", |all| all["status"]["broker"]["clients"] == 2).await;
    let before = before["status"]["broker"]["sessions"].clone();
    let counting = tokio::spawn(async move {
        let mut count = 0;
        while let Ok(packet) = timeout(Duration::from_secs(3), wills.next()).await {
            if let Packet::Publish(publish) = packet {
                count += 1;
                wills.send(Packet::PubAck(Ack::ok(publish.id.unwrap()))).await;
            }
        }
        count
    });
    let port = gateway.mqtt_port();
    let strands: Vec<_> = (0..4)
        .map(|strand| {
            tokio::spawn(async move {
                for n in 0..500 {
                    let version = VERSIONS[n % 2];
                    // Kept sessions and others, turn by turn.
                    let expiry = [0, u32::MAX][n / 2 % 2];
                    let message = Message::new(format!("will/{strand}"), n.to_string());
                    let will = Some(Will { message, delay: Duration::ZERO });
                    let mut raw =
                        Raw::connect_to(port, Connect { will, ..raw::connect(version, "same", expiry) }).await;
                    assert!(matches!(raw.next().await, Packet::ConnAck(_)), "each of them is let in");
                }
            })
        })
        .collect();
    for strand in strands {
        strand.await.unwrap();
        steady.goes_on().await;
    }
    // A connection that is taken over, or lost, ends without a good-bye: its will is published, once.
    assert_eq!(counting.await.unwrap(), 2000);
    let mut last = client(&gateway, raw::connect(Version::V5, "same", 0)).await;
    last.send(Packet::PingReq).await;
    assert_eq!(last.next().await, Packet::PingResp);
    // The steady one and this one; and as many sessions as before, with this one in place of that for the wills.
    gateway.until("one connection of them is left", |all| all["status"]["broker"]["clients"] == 2).await;
    gateway.until("one session of them is left", |all| all["status"]["broker"]["sessions"] == before).await;
}

#[tokio::test]
async fn acknowledgements_of_what_never_was_are_answered_or_ignored() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let mut raw = client(&gateway, raw::connect(version, "liar", u32::MAX)).await;
        for n in [1, 2, 999, u16::MAX] {
            raw.send(Packet::PubAck(Ack::ok(id(n)))).await;
            raw.send(Packet::PubComp(Ack::ok(id(n)))).await;
            let unknown = if version == Version::V5 { Reason::PACKET_ID_NOT_FOUND } else { Reason::SUCCESS };
            raw.send(Packet::PubRec(Ack::ok(id(n)))).await;
            assert_eq!(raw.next().await, Packet::PubRel(Ack { id: id(n), reason: unknown }));
            raw.send(Packet::PubRel(Ack::ok(id(n)))).await;
            assert_eq!(raw.next().await, Packet::PubComp(Ack { id: id(n), reason: unknown }));
            raw.send(Packet::Unsubscribe { id: id(n), filters: vec!["never".into()] }).await;
            assert!(matches!(raw.next().await, Packet::UnsubAck { .. }));
        }
        // What comes afterwards comes as ever, and a wrong kind of acknowledgement does not end it.
        raw.send(raw::subscribe("t", QoS::AtLeastOnce)).await;
        assert!(matches!(raw.next().await, Packet::SubAck { .. }));
        raw.send(Packet::Publish(raw::publish(0, QoS::AtMostOnce, "t", "0"))).await;
        raw.send(Packet::Publish(raw::publish(7, QoS::AtLeastOnce, "t", "1"))).await;
        let mut came = Vec::new();
        for _ in 0..2 {
            let Packet::Publish(publish) = raw.next().await else { panic!("no message") };
            came.push((publish.message.payload.to_vec(), publish.id));
        }
        let one = came[1].1.expect("QoS 1");
        assert_eq!((&came[0].0[..], &came[1].0[..]), (&b"0"[..], &b"1"[..]));
        raw.send(Packet::PubComp(Ack::ok(one))).await;
        raw.send(Packet::PubAck(Ack::ok(one))).await;
        assert!(matches!(raw.next().await, Packet::PubAck(_)));
        // The next of its session has ended it.
        let mut clean = client(&gateway, raw::connect(version, "liar", 0)).await;
        clean.send(Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }).await;
    }
}

#[tokio::test]
async fn many_and_deep_filters_in_one_packet() {
    let gateway = Gateway::start("").await;
    let mut steady = Steady::start(&gateway).await;
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    for version in VERSIONS {
        let mut raw = client(&gateway, raw::connect(version, "many", 0)).await;
        // The first thousand are taken, all are answered.
        let filters: Vec<_> = (0..20_000).map(|n| (Arc::from(format!("many/{n}/#")), options)).collect();
        raw.send(Packet::Subscribe(Box::new(Subscribe { id: id(1), filters, subscription_id: None }))).await;
        let Packet::SubAck { reasons, .. } = raw.next().await else { panic!("no SUBACK") };
        let refused = if version == Version::V5 { Reason::QUOTA_EXCEEDED } else { Reason::UNSPECIFIED };
        assert_eq!(reasons.len(), 20_000);
        assert!(reasons[..1000].iter().all(|reason| *reason == Reason(1)));
        assert!(reasons[1000..].iter().all(|reason| *reason == refused));
        let filters: Vec<_> = (0..20_000).map(|n| Arc::from(format!("many/{n}/#"))).collect();
        raw.send(Packet::Unsubscribe { id: id(2), filters }).await;
        let Packet::UnsubAck { reasons, .. } = raw.next().await else { panic!("no UNSUBACK") };
        assert_eq!(reasons.len(), if version == Version::V5 { 20_000 } else { 0 });
        // As deep as it goes, and one level deeper.
        for (filter, good) in [("/".repeat(199), true), ("+/".repeat(199), true), ("/".repeat(200), false)] {
            raw.send(raw::subscribe(&filter, QoS::AtLeastOnce)).await;
            let Packet::SubAck { reasons, .. } = raw.next().await else { panic!("no SUBACK") };
            assert_eq!(reasons[0] == Reason(1), good, "{} levels", filter.len() + 1);
        }
        raw.send(Packet::Publish(raw::publish(0, QoS::AtMostOnce, &"/".repeat(199), "deep"))).await;
        let Packet::Publish(publish) = raw.next().await else { panic!("no message") };
        assert_eq!(&publish.message.payload[..], b"deep");
        steady.goes_on().await;
    }
}

#[tokio::test]
async fn the_largest_packet_of_mqtt_goes_through_where_it_may() {
    let gateway = Gateway::start("[broker]\nlisten = \"@mqtt@\"\nmax-packet = \"256MiB\"\n").await;
    let mut steady = Steady::start(&gateway).await;
    let before = resident(&gateway);
    // Announcing it costs nothing.
    let mut announcing = Vec::new();
    for n in 0..50 {
        let connect = Packet::Connect(Box::new(raw::connect(Version::V311, &format!("announces-{n}"), 0)));
        let mut stream = raw::socket(&gateway).await;
        let bytes = raw::bytes(Version::V311, &[connect]).await;
        stream.write_all(&[&bytes[..], b"\x30\xff\xff\xff\x7f\0\x01t", &[0; 100]].concat()).await.unwrap();
        assert_eq!(stream.read_u32().await.unwrap(), 0x2002_0000);
        announcing.push(stream);
    }
    let grown = resident(&gateway).saturating_sub(before) >> 20;
    assert!(grown < 10, "{grown} MiB more for what was announced");
    drop(announcing);
    // A remaining length of 268 435 455: the topic `large`, and its length, take seven bytes of it.
    const REMAINING: usize = 268_435_455;
    let mut subscriber = raw::socket(&gateway).await;
    let connect = Packet::Connect(Box::new(raw::connect(Version::V311, "reader", 0)));
    let bytes = raw::bytes(Version::V311, &[connect, raw::subscribe("large", QoS::AtMostOnce)]).await;
    subscriber.write_all(&bytes).await.unwrap();
    // CONNACK and SUBACK.
    subscriber.read_exact(&mut [0; 9]).await.unwrap();
    let mut publisher = raw::socket(&gateway).await;
    publisher.write_all(&super::connect(Version::V311).await).await.unwrap();
    let sending = tokio::spawn(async move {
        publisher.write_all(b"\x30\xff\xff\xff\x7f\0\x05large").await.unwrap();
        let piece: Vec<_> = (0..1 << 20).map(|n: u32| (n >> 3) as u8).collect();
        let mut left = REMAINING - 7;
        while left > 0 {
            let n = left.min(piece.len());
            publisher.write_all(&piece[..n]).await.unwrap();
            left -= n;
        }
        publisher
    });
    let mut head = [0; 12];
    timeout(Duration::from_secs(60), subscriber.read_exact(&mut head)).await.expect("it comes").unwrap();
    assert_eq!(&head, b"\x30\xff\xff\xff\x7f\0\x05large");
    let (mut at, mut piece) = (0, vec![0; 1 << 20]);
    while at < REMAINING - 7 {
        let n = timeout(PATIENCE, subscriber.read(&mut piece)).await.expect("more of it").unwrap();
        assert!(n > 0, "only {at} bytes came");
        let good =
            piece[..n].iter().enumerate().step_by(997).all(|(i, byte)| *byte == (((at + i) % (1 << 20)) >> 3) as u8);
        assert!(good, "other bytes near {at}");
        at += n;
    }
    steady.goes_on().await;
    drop((sending.await.unwrap(), subscriber));
    // And the memory is given back.
    let end = Instant::now() + PATIENCE;
    while resident(&gateway).saturating_sub(before) > 40 << 20 {
        assert!(Instant::now() < end, "{} MiB more", resident(&gateway).saturating_sub(before) >> 20);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_header_that_announces_too_much_is_refused_before_the_rest_comes() {
    let gateway = Gateway::start("").await;
    for version in VERSIONS {
        let mut stream = raw::socket(&gateway).await;
        let connect = super::connect(version).await;
        // Five bytes, and nothing behind them.
        stream.write_all(&[&connect[..], b"\x30\xff\xff\xff\x7f"].concat()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").unwrap();
        let rest = &answer[2 + usize::from(answer[1])..];
        match version {
            Version::V5 => assert_eq!((rest[0], rest[2]), (0xe0, Reason::PACKET_TOO_LARGE.0)),
            _ => assert_eq!(rest, b""),
        }
    }
    // As the first packet, too.
    assert_eq!(raw::refused(&gateway, b"\x10\xff\xff\xff\x7f").await, b"");
    // It is said once the connection has ended.
    let end = Instant::now() + PATIENCE;
    while !gateway.log().contains("a packet above the maximum packet size") {
        assert!(Instant::now() < end, "{}", gateway.log());
        sleep(Duration::from_millis(50)).await;
    }
}
