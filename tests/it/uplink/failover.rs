//! Several addresses of one cloud, and connections that are not what they seem.

use fieldpost::mqtt::{ConnAck, Reason};

use super::hand_made::Cloud;
use super::*;
use crate::support::port;

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_lost() {
    let (mut first, mut second) = (Mosquitto::start("").await, Mosquitto::start("").await);
    // The list begins with one that is not there.
    let nobody = port::free();
    let more = format!(", \"mqtt://127.0.0.1:{}\", \"mqtt://127.0.0.1:{}\"]", first.port(), second.port());
    let mut gateway =
        Gateway::start_with(&format!("url = [\"mqtt://127.0.0.1:{nobody}\"{more}\npublish = [\"plant/#\"]")).await;
    let at =
        |port: u16| move |status: &status::Uplink| status.state == State::Up && status.url.ends_with(&port.to_string());
    gateway.until(at(first.port())).await;
    first.kill().await;
    gateway.publish("plant/a", 0..10).await;
    gateway.until(at(second.port())).await;
    gateway.until(|status| status.sent == 10).await;
    first.start_again().await;
    second.kill().await;
    gateway.publish("plant/a", 10..20).await;
    gateway.until(at(first.port())).await;
    gateway.until(|status| status.sent == 20).await;
    gateway.end().await;
}

#[tokio::test]
async fn a_cloud_that_has_moved_says_where_to_and_the_next_is_tried() {
    let (moved, other) = (Cloud::start().await, Mosquitto::start("").await);
    let urls = format!("url = [\"mqtt://127.0.0.1:{}\", \"mqtt://127.0.0.1:{}\"]", moved.port(), other.port());
    let mut gateway = Gateway::start_with(&urls).await;
    let refusing = tokio::spawn(async move {
        let ack = ConnAck { server_reference: Some("b.example".into()), ..ConnAck::new(Reason(0x9D)) };
        moved.refuse(ack).await;
    });
    let why = gateway.down().await;
    assert!(why.contains("has moved, to b.example (0x9d)"), "{why}");
    refusing.await.unwrap();
    gateway.up().await;
    gateway.end().await;
}

#[tokio::test]
async fn acknowledgements_that_are_swallowed_end_the_connection_and_all_comes_again() {
    let cloud = Cloud::start().await;
    let config = "publish = [\"plant/#\"]\nstuck = \"2s\"";
    let mut gateway = Gateway::start("mqtt", cloud.port(), config).await;
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    gateway.publish("plant/a", 0..3).await;
    // The second one is left out; a keep alive of minutes would not find that.
    for n in 0..3 {
        let (id, ..) = connection.publish().await;
        if n != 1 {
            connection.send(Packet::PubAck(Ack::ok(id))).await;
        }
    }
    assert_eq!(connection.next().await, None, "it hangs up");
    let why = gateway.down().await;
    assert!(why.contains("acknowledges nothing") || why.contains("left out"), "{why}");
    let mut connection = cloud.accept(ConnAck::new(Reason::SUCCESS)).await;
    let (id, text, dup) = connection.publish().await;
    assert_eq!((&*text, dup), ("1", true));
    connection.send(Packet::PubAck(Ack::ok(id))).await;
    gateway.until(|status| status.sent == 3).await;
    gateway.end().await;
}

/// 20 kB/s, and a window of messages that together take longer than the patience with a cloud that is stuck.
#[tokio::test]
async fn a_slow_line_is_not_cut() {
    let cloud = Mosquitto::start("").await;
    let slow = crate::support::port::free();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", slow)).await.unwrap();
    let to = cloud.port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            tokio::spawn(narrow(near, far, 20_000));
        }
    });
    let config = "publish = [\"plant/#\"]\nstuck = \"2s\"";
    let mut gateway = Gateway::start("mqtt", slow, config).await;
    gateway.up().await;
    let messages = (0..100).map(|_| Message::new("plant/a", vec![b'x'; 1000])).collect();
    gateway.broker.publish(messages).await;
    let status = gateway.until(|status| status.sent == 100).await;
    assert_eq!(status.connects, 1);
    gateway.end().await;
}

/// Passes bytes on, so many a second upwards.
async fn narrow(near: TcpStream, far: TcpStream, rate: usize) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ((mut up, mut down), (mut back, mut on)) = (near.into_split(), far.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut back, &mut down).await });
    let mut buffer = vec![0; rate / 20];
    while let Ok(n @ 1..) = up.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if on.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}
