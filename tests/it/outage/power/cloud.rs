//! A cloud that notes each message in a record before it acknowledges it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::Name;
use super::record::Notes;
use crate::support::port;

/// A server of MQTT 3.1.1, as far as an uplink asks for one.
pub struct Cloud {
    port: u16,
    notes: Notes,
    got: Arc<Mutex<Vec<Name>>>,
    task: Option<JoinHandle<()>>,
}

impl Cloud {
    /// One that is away.
    pub fn new(notes: Notes) -> Self {
        Self { port: port::free(), notes, got: Arc::default(), task: None }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and takes no new ones.
    pub async fn away(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Takes connections.
    pub async fn back(&mut self) {
        self.away().await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let (notes, got) = (self.notes.clone(), self.got.clone());
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(stream, notes.clone(), got.clone()));
            }
        }));
    }

    /// What came since this was last asked, in its order.
    pub fn got(&self) -> Vec<Name> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

async fn converse(mut stream: TcpStream, notes: Notes, got: Arc<Mutex<Vec<Name>>>) -> std::io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = stream.read_u8().await?;
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        match kind >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0]).await?,
            3 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let name = (body[1 + topic] - b'0', number(&body[4 + topic..]));
                notes.got(name);
                got.lock().unwrap().push(name);
                let answer = if kind & 0b110 == 0b10 { 0x40 } else { 0x50 };
                stream.write_all(&[answer, 2, body[2 + topic], body[3 + topic]]).await?;
            }
            6 => stream.write_all(&[0x70, 2, body[0], body[1]]).await?,
            12 => stream.write_all(&[0xD0, 0]).await?,
            14 => return Ok(()),
            other => panic!("an uplink sent packet type {other}"),
        }
    }
}

/// The number that a payload begins with.
pub fn number(payload: &[u8]) -> u32 {
    let text = payload.split(|byte| *byte == b' ').next().unwrap();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}
