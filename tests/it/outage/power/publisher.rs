//! A publisher that notes each acknowledgement in a record, by hand so that nothing is between the two.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Name;
use super::record::Notes;
use crate::support::process::PATIENCE;

/// Messages under way at most.
const WINDOW: usize = 30;

/// A client of MQTT 3.1.1 with a session that is kept.
pub struct Publisher {
    qos: u8,
    port: u16,
    notes: Notes,
    next: u32,
}

impl Publisher {
    /// One that publishes on `plant/QOS`.
    pub fn new(qos: u8, port: u16, notes: Notes) -> Self {
        Self { qos, port, notes, next: 0 }
    }

    /// Publishes the next `count` numbers, and waits until all are acknowledged.
    pub async fn publish(&mut self, count: u32) {
        timeout(PATIENCE, self.exchange(count)).await.expect("the gateway acknowledges").expect("it is there");
    }

    async fn exchange(&mut self, count: u32) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let connect = [b"\x10\x0e\0\x04MQTT\x04\0\0\0\0\x02p", &[b'0' + self.qos][..]].concat();
        stream.write_all(&connect).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!((answer[0], answer[3]), (0x20, 0), "CONNACK");

        let (last, mut open) = (self.next + count, BTreeMap::<u16, Name>::new());
        while self.next < last || !open.is_empty() {
            while self.next < last && open.len() < WINDOW {
                let id = 1 + (self.next % 60_000) as u16;
                open.insert(id, (self.qos, self.next));
                stream.write_all(&self.packet(id)).await?;
                self.next += 1;
            }
            // PUBACK, PUBREC and PUBCOMP are all of four bytes.
            stream.read_exact(&mut answer).await?;
            let id = u16::from_be_bytes([answer[2], answer[3]]);
            match answer[0] {
                0x40 | 0x50 => self.notes.acknowledged(open[&id]),
                0x70 => {}
                other => panic!("{other:#04x} is no answer to PUBLISH"),
            }
            if answer[0] == 0x50 {
                stream.write_all(&[0x62, 2, answer[2], answer[3]]).await?;
            } else {
                open.remove(&id);
            }
        }
        stream.write_all(&[0xE0, 0]).await
    }

    /// A PUBLISH with the next number, and as much after it as makes a message.
    fn packet(&self, id: u16) -> Vec<u8> {
        let text = format!("{} ", self.next);
        let payload = text + &"x".repeat(fastrand::usize(100..3000));
        let body = [b"\0\x07plant/", &[b'0' + self.qos][..], &id.to_be_bytes(), payload.as_bytes()].concat();
        let [low, high] = [body.len() % 128 + 128, body.len() / 128];
        [&[0x30 | self.qos << 1, low as u8, high as u8], &body[..]].concat()
    }
}
