//! 4.8: what happens on errors.

use crate::broker::spec::bytes::*;
use crate::broker::spec::gateway;
use crate::support::Gateway;

#[tokio::test]
async fn mqtt_4_8_0_1() {
    let gateway = gateway().await;
    let mut good = Client::clean(&gateway, "4.8.0-1/good").await;
    let packets = [
        // Packets that only a server sends, and types that there are none of.
        ACCEPTED.to_vec(),
        suback(1, &[0]),
        ack(UNSUBACK, 1),
        PINGRESP.to_vec(),
        vec![0x00, 0],
        vec![0xf0, 0],
        // A remaining length of five bytes.
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
        // Too short, or too long, for what they are.
        packet(PUBACK, &[&[0]]),
        packet(PUBACK, &[&[0, 1, 0]]),
        packet(PUBREC, &[]),
        packet(PUBREC, &[&[0, 1, 0]]),
        packet(PUBREL, &[]),
        packet(PUBREL, &[&[0, 1, 0]]),
        packet(PUBCOMP, &[&[0]]),
        packet(PUBCOMP, &[&[0, 1, 0]]),
        packet(0xc0, &[&[0]]),
        packet(0xe0, &[&[0]]),
        // Acknowledgements of packet id 0.
        ack(PUBACK, 0),
        ack(PUBREC, 0),
        ack(PUBREL, 0),
        ack(PUBCOMP, 0),
    ];
    for packet in packets {
        closed_after(&gateway, "4.8.0-1", packet).await;
    }
    // That connection is closed, and no other.
    good.quiet().await;
}

#[tokio::test]
async fn mqtt_4_8_0_2() {
    // The store is full and refuses what is new: 3.1.1 has no other word for it than the end of the connection, and no
    // acknowledgement may be sent for a message that is not kept.
    let config = "[store]\npath = \"@store@\"\nmax-size = \"1MiB\"\nwhen-full = \"refuse-new\"\ncommit = \"10ms\"\n";
    let gateway = Gateway::start(config).await;
    let mut away = Client::new_session(&gateway, "4.8.0-2/away").await;
    away.subscribe(&[("4.8.0-2", 1)]).await;
    away.disconnect().await;
    let mut sender = Client::clean(&gateway, "4.8.0-2").await;
    let mut kept = 0;
    loop {
        sender.send(publish(QOS_1, kept + 1, "4.8.0-2", vec![b'x'; 50_000])).await;
        let said = sender.answer().await;
        if said.is_empty() {
            break;
        }
        assert_eq!(said, ack(PUBACK, kept + 1));
        kept += 1;
        assert!(kept < 1000, "it is never full");
    }
    // What was acknowledged is there, and no more.
    let mut away = Client::resumed(&gateway, "4.8.0-2/away").await;
    for _ in 0..kept {
        assert_eq!(away.take().await.payload.len(), 50_000);
    }
    away.quiet().await;
}
