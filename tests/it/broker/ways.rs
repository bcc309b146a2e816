//! The four ways to a broker, as streams of bytes: TCP, TLS, WebSocket, and WebSocket over TLS.

use std::sync::Arc;

use fieldpost::mqtt::{Packet, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::listeners::all_kinds;
use super::raw;
use crate::support::Gateway;
use crate::support::process::PATIENCE;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A gateway with a listener of each kind.
pub struct Ways {
    pub gateway: Gateway,
    pub ports: [u16; 4],
    _folder: TempDir,
    tls: Arc<ClientConfig>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub tls: bool,
    pub websocket: bool,
}

/// In the order of [`Ways::ports`].
pub const WAYS: [Way; 4] = [
    Way { tls: false, websocket: false },
    Way { tls: true, websocket: false },
    Way { tls: false, websocket: true },
    Way { tls: true, websocket: true },
];

/// A request that becomes a WebSocket.
pub const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

impl Ways {
    /// Starts it, with more lines in `[broker]`.
    pub async fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ([tls, websocket, secure], config) = all_kinds(folder.path());
        let gateway = Gateway::start(&config.replace("[broker]\n", &format!("[broker]\n{more}"))).await;
        let ports = [gateway.mqtt_port(), tls, websocket, secure];
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.path().join("ca.pem")).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { gateway, ports, _folder: folder, tls: Arc::new(tls) }
    }

    /// The port of a way.
    pub fn port(&self, way: Way) -> u16 {
        self.ports[WAYS.iter().position(|w| *w == way).expect("all are there")]
    }

    /// A connection before any handshake.
    pub async fn socket(&self, way: Way) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port(way))).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Bytes of a TLS ClientHello.
    pub fn client_hello(&self) -> Vec<u8> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = rustls::ClientConnection::new(self.tls.clone(), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    }

    /// A connection behind all handshakes: on a WebSocket what goes over it are frames.
    pub async fn open(&self, way: Way) -> Box<dyn Stream> {
        let stream = self.socket(way).await;
        let mut stream: Box<dyn Stream> = if way.tls {
            let name = ServerName::try_from("127.0.0.1").unwrap();
            Box::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await.unwrap())
        } else {
            Box::new(stream)
        };
        if way.websocket {
            stream.write_all(UPGRADE.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        }
        stream
    }

    /// A good client comes this way, and is answered.
    pub async fn works(&self, way: Way) {
        let mut stream = self.open(way).await;
        let connect = Packet::Connect(Box::new(raw::connect(Version::V311, &format!("good-{way:?}"), 0)));
        let bytes = raw::bytes(Version::V311, &[connect, Packet::PingReq]).await;
        let bytes = if way.websocket { frame(0x82, true, &bytes) } else { bytes };
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        let answer = read_packets(&mut stream, way, 2).await;
        assert_eq!(answer, [b"\x20\x02\0\0".to_vec(), b"\xd0\0".to_vec()], "{way:?}");
    }
}

/// A WebSocket frame of a client: its first byte and its payload, of at most 64 KiB.
pub fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let flag = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        length @ 0..=125 => frame.push(length as u8 | flag),
        length => {
            frame.push(126 | flag);
            frame.extend(length.to_be_bytes());
        }
    }
    if masked {
        frame.extend(mask);
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| if masked { byte ^ mask } else { *byte }));
    frame
}

/// The next `count` packets from a broker, each as its bytes; short ones.
pub async fn read_packets(stream: &mut (impl Stream + ?Sized), way: Way, count: usize) -> Vec<Vec<u8>> {
    let (mut packets, mut bytes) = (Vec::new(), Vec::new());
    while packets.len() < count {
        let read = async {
            let mut more = vec![stream.read_u8().await?];
            if way.websocket {
                let length = stream.read_u8().await?;
                assert!(length < 126, "short ones");
                let mut payload = vec![0; length.into()];
                stream.read_exact(&mut payload).await?;
                // What is no binary message is none of ours.
                more = if more[0] & 0x0f == 2 { payload } else { Vec::new() };
            }
            std::io::Result::Ok(more)
        };
        let more = timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("only {packets:02x?} {bytes:02x?}"));
        bytes.extend(more.unwrap_or_else(|e| panic!("{e} behind {packets:02x?} {bytes:02x?}")));
        while bytes.len() >= 2 && bytes.len() >= 2 + usize::from(bytes[1]) {
            let rest = bytes.split_off(2 + usize::from(bytes[1]));
            packets.push(std::mem::replace(&mut bytes, rest));
        }
    }
    packets
}
