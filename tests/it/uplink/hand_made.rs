//! A cloud by our own hand, for answers that no real one gives on demand.

use fieldpost::mqtt::wire::{Reader, Writer};
use fieldpost::mqtt::{ConnAck, Reason};
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::TcpListener;

use super::*;

/// It listens.
pub struct Cloud {
    listener: TcpListener,
}

/// A connection to it: logged in, subscriptions and status answered.
pub struct Connection {
    reader: Reader<ReadHalf<TcpStream>>,
    writer: Writer<WriteHalf<TcpStream>>,
    pub connect: Connect,
    /// SUBSCRIBE, if there was one.
    pub subscribe: Option<Subscribe>,
    came: Vec<Packet>,
}

impl Cloud {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Answers the next connection so, and no other.
    pub async fn refuse(&self, ack: ConnAck) {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.expect("it comes").unwrap();
        let (read, write) = split(tcp);
        let mut reader = Reader::server(read, 1 << 20);
        let packets = reader.recv().await.unwrap();
        let Packet::Connect(connect) = &packets[0] else { panic!("{packets:?}") };
        let mut writer = Writer::new(write, connect.version);
        writer.queue(&Packet::ConnAck(Box::new(ack))).unwrap();
        writer.flush().await.unwrap();
    }

    /// The next connection, let in with this answer.
    pub async fn accept(&self, ack: ConnAck) -> Connection {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.expect("it comes back").unwrap();
        let (read, write) = split(tcp);
        let mut reader = Reader::server(read, 1 << 20);
        let mut came = reader.recv().await.unwrap();
        let Packet::Connect(connect) = came.remove(0) else { panic!("{came:?}") };
        let mut writer = Writer::new(write, connect.version);
        writer.set_limits(&*connect);
        let mut connection = Connection { reader, writer, connect: *connect, subscribe: None, came };
        connection.send(Packet::ConnAck(Box::new(ack))).await;
        // The status comes last.
        loop {
            match connection.next().await.expect("it goes on") {
                Packet::Subscribe(subscribe) => {
                    let reasons = subscribe.filters.iter().map(|_| Reason(1)).collect();
                    connection.send(Packet::SubAck { id: subscribe.id, reasons }).await;
                    connection.subscribe = Some(*subscribe);
                }
                Packet::Publish(status) => {
                    connection.send(Packet::PubAck(Ack::ok(status.id.unwrap()))).await;
                    return connection;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Connection {
    pub async fn send(&mut self, packet: Packet) {
        self.writer.queue(&packet).unwrap();
        self.writer.flush().await.unwrap();
    }

    /// The next packet; none at the end.
    pub async fn next(&mut self) -> Option<Packet> {
        while self.came.is_empty() {
            self.came = timeout(PATIENCE, self.reader.recv()).await.expect("a packet in time").ok()?;
        }
        let packet = self.came.remove(0);
        if packet != Packet::PingReq {
            return Some(packet);
        }
        self.send(Packet::PingResp).await;
        Box::pin(self.next()).await
    }

    /// The next publish, as its id, text, and whether it is marked as come again.
    pub async fn publish(&mut self) -> (PacketId, String, bool) {
        match self.next().await {
            Some(Packet::Publish(publish)) => {
                let text = String::from_utf8_lossy(&publish.message.payload).into_owned();
                (publish.id.unwrap(), text, publish.dup)
            }
            other => panic!("{other:?}"),
        }
    }
}
