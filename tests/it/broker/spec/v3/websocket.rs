//! 6: MQTT over WebSocket. Frames are made by hand as well (RFC 6455, 5.2).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::spec::bytes::*;
use crate::support::process::PATIENCE;
use crate::support::{Gateway, port};

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A WebSocket to a gateway of its own, with what the gateway answered to the handshake.
struct WebSocket {
    _gateway: Gateway,
    stream: TcpStream,
    answer: String,
    /// What came in binary messages and was not read yet.
    bytes: Vec<u8>,
}

impl WebSocket {
    async fn open() -> Self {
        let port = port::free();
        let config = format!("[[broker.listener]]\nlisten = \"127.0.0.1:{port}\"\nwebsocket = true\n");
        let gateway = Gateway::start(&config).await;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: chat, mqtt\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time");
            answer.push(byte.expect("the whole answer"));
        }
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        Self { _gateway: gateway, stream, answer, bytes: Vec::new() }
    }

    /// Sends one frame, masked as a client's are.
    async fn send(&mut self, kind: u8, last: bool, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap();
        let mut frame = vec![u8::from(last) << 7 | kind, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        let mask = [0x5a, 0x00, 0xff, 0x13];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next bytes of MQTT, which have come in binary frames.
    async fn expect(&mut self, expected: &[u8]) {
        while self.bytes.len() < expected.len() {
            let (kind, payload) = self.frame().await.expect("the connection holds");
            assert_eq!(kind, BINARY, "{payload:02x?}");
            self.bytes.extend(payload);
        }
        let rest = self.bytes.split_off(expected.len());
        assert_eq!(std::mem::replace(&mut self.bytes, rest), expected);
    }

    /// The next whole frame; none at the end of the connection.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let frame = async {
            let (first, second) = (self.stream.read_u8().await.ok()?, self.stream.read_u8().await.ok()?);
            assert_eq!(first & 0x80, 0x80, "a whole message in a frame");
            let length = match second {
                126 => self.stream.read_u16().await.ok()?.into(),
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.ok()?;
            Some((first & 0x0f, payload))
        };
        timeout(PATIENCE, frame).await.expect("a frame in time")
    }
}

#[tokio::test]
async fn mqtt_6_0_0_1() {
    let mut socket = WebSocket::open().await;
    // The gateway's own packets come in binary frames, which `expect` sees to.
    socket.send(BINARY, true, &connect("6.0.0-1", CLEAN, &[])).await;
    socket.expect(&ACCEPTED).await;
    socket.send(TEXT, true, b"text").await;
    while let Some((kind, payload)) = socket.frame().await {
        assert_eq!(kind, 8, "nothing but a close: {payload:02x?}");
    }
}

#[tokio::test]
async fn mqtt_6_0_0_2() {
    let mut socket = WebSocket::open().await;
    let connect = connect("6.0.0-2", CLEAN, &[]);
    // A packet in two messages, the second of which has the beginning of another one.
    socket.send(BINARY, true, &connect[..5]).await;
    socket.send(BINARY, true, &[&connect[5..], &PINGREQ[..1]].concat()).await;
    socket.expect(&ACCEPTED).await;
    socket.send(BINARY, true, &PINGREQ[1..]).await;
    socket.expect(&PINGRESP).await;
    // Many in one; one byte by byte; one in fragments of a message.
    socket.send(BINARY, true, &[subscribe(1, &[("6.0.0-2", 0)]), PINGREQ.repeat(20)].concat()).await;
    socket.expect(&[suback(1, &[0]), PINGRESP.repeat(20)].concat()).await;
    let publish = publish(0, 0, "6.0.0-2", "x");
    for byte in &publish {
        socket.send(BINARY, true, &[*byte]).await;
    }
    socket.expect(&publish).await;
    socket.send(BINARY, false, &publish[..4]).await;
    socket.send(0, true, &publish[4..]).await;
    socket.expect(&publish).await;
}

#[tokio::test]
async fn mqtt_6_0_0_4() {
    let socket = WebSocket::open().await;
    assert!(socket.answer.contains("\r\nsec-websocket-protocol: mqtt\r\n"), "{}", socket.answer);
}
