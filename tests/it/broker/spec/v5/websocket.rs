//! Chapter 6: MQTT over WebSocket, frame by frame (RFC 6455).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::bytes5::*;
use crate::support::process::PATIENCE;
use crate::support::{Gateway, port};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// A gateway with a listener for WebSocket, and its port.
async fn gateway() -> (Gateway, u16) {
    let port = port::free();
    let listener = format!("[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\nwebsocket = true\n");
    (Gateway::start(&format!("[broker]\nlisten = \"@mqtt@\"\n{listener}")).await, port)
}

/// A connection after its handshake, and the server's answer to that.
async fn open(port: u16, protocol: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer").expect("a whole one"));
    }
    (stream, String::from_utf8(answer).unwrap())
}

/// A short frame of a client: masked, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// The next frame from the server: its first byte and its payload.
async fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("a frame").expect("a whole one");
    assert!(head[1] < 126, "short, and not masked");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).await.unwrap();
    (head[0], payload)
}

/// The bytes in the server's binary frames, until there are so many.
async fn received(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < n {
        let (first, payload) = receive(stream).await;
        assert_eq!(first & 0x0F, BINARY & 0x0F, "binary frames only");
        bytes.extend(payload);
    }
    bytes
}

#[tokio::test]
async fn mqtt_6_0_0_1() {
    let (_gateway, port) = gateway().await;
    let connect = Connect::new("a").bytes();
    let (mut stream, _) = open(port, "mqtt").await;
    stream.write_all(&frame(BINARY, &connect)).await.unwrap();
    assert_eq!(received(&mut stream, 4).await[..4][0], 0x20);
    // Text is none of MQTT's: the connection is closed.
    stream.write_all(&frame(TEXT, &PINGREQ)).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(!rest.contains(&0xD0), "and PINGREQ is not answered: {rest:?}");
    let (mut stream, _) = open(port, "mqtt").await;
    stream.write_all(&frame(TEXT, &connect)).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(rest.is_empty() || rest[0] == CLOSE, "{rest:?}");
}

#[tokio::test]
async fn mqtt_6_0_0_2() {
    let (_gateway, port) = gateway().await;
    let bytes = [&Connect::new("a").bytes()[..], &PINGREQ, &PINGREQ].concat();
    // All packets in one frame, each byte in a frame of its own, and one frame in three parts.
    let apart: Vec<u8> = bytes.iter().flat_map(|byte| frame(BINARY, &[*byte])).collect();
    let parts = [frame(0x02, &bytes[..5]), frame(0x00, &bytes[5..9]), frame(0x80, &bytes[9..])].concat();
    for frames in [frame(BINARY, &bytes), apart, parts] {
        let (mut stream, _) = open(port, "mqtt").await;
        stream.write_all(&frames).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(&[0xD0, 0, 0xD0, 0]) {
            answer.extend(received(&mut stream, 1).await);
        }
        assert_eq!(answer[0], 0x20);
    }
}

#[tokio::test]
async fn mqtt_6_0_0_4() {
    let (_gateway, port) = gateway().await;
    for offered in ["mqtt", "mqttv3.1, mqtt", "mqtt, other"] {
        let (_, answer) = open(port, offered).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let answer = answer.to_lowercase();
        let chosen: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol:")).collect();
        assert_eq!(chosen.iter().map(|name| name.trim()).collect::<Vec<_>>(), ["mqtt"], "{offered}");
    }
}
