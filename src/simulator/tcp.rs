//! Modbus TCP: the devices behind one TCP port (Modbus messaging on TCP/IP V1.0b).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::device::Units;
use super::serve::{MAX_PDU, answer, exception_pdu};

/// Answers whoever connects, for as long as the future is polled; dropping it closes every connection.
///
/// A unit that is not there is answered with exception 11, as a gateway to a serial line does; a silent one not at all.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, units: Units) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await?;
        // A peer that breaks off or talks something else costs itself its connection, and nobody else anything.
        connections.spawn(converse(connection, units.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut connection: TcpStream, units: Units) -> io::Result<()> {
    connection.set_nodelay(true)?;
    loop {
        let mut header = [0; 7];
        connection.read_exact(&mut header).await?;
        let [t1, t2, p1, p2, l1, l2, unit] = header;
        let length = usize::from(u16::from_be_bytes([l1, l2]));
        // The length counts the unit, too (3.1.3).
        if (p1, p2) != (0, 0) || !(2..=MAX_PDU + 1).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut pdu = vec![0; length - 1];
        connection.read_exact(&mut pdu).await?;

        let answer = match units.get(&unit) {
            None => exception_pdu(pdu[0], 11),
            Some(device) if device.is_silent() => continue,
            Some(device) => device.with(|registers| answer(registers, &pdu)),
        };
        let length = u16::try_from(answer.len() + 1).expect("an answer has at most 253 bytes");
        let [l1, l2] = length.to_be_bytes();
        connection.write_all(&[&[t1, t2, 0, 0, l1, l2, unit], &answer[..]].concat()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Table;
    use crate::simulator::device::{Device, Registers};

    async fn connect() -> (TcpStream, Device, JoinSet<io::Result<()>>) {
        let mut registers = Registers::default();
        registers.set_words(Table::Holding, 0, &[0x1234]);
        let device = Device::new(registers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Units::from([(1, device.clone())])));
        (TcpStream::connect(address).await.unwrap(), device, tasks)
    }

    async fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
        let mut bytes = [0; N];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order_with_their_transaction() {
        let (mut stream, _, _server) = connect().await;
        let one = [0xAB, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1];
        let two = [0xAB, 2, 0, 0, 0, 6, 9, 3, 0, 0, 0, 1];
        stream.write_all(&[one, two].concat()).await.unwrap();
        assert_eq!(read(&mut stream).await, [0xAB, 1, 0, 0, 0, 5, 1, 3, 2, 0x12, 0x34]);
        assert_eq!(read(&mut stream).await, [0xAB, 2, 0, 0, 0, 3, 9, 0x83, 11]);
    }

    #[tokio::test]
    async fn a_silent_device_gives_no_answer() {
        let (mut stream, device, _server) = connect().await;
        device.set_silent(true);
        stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]).await.unwrap();
        // Another unit's answer shows that the first request was seen and passed over.
        stream.write_all(&[0, 2, 0, 0, 0, 6, 2, 3, 0, 0, 0, 1]).await.unwrap();
        assert_eq!(read(&mut stream).await, [0, 2, 0, 0, 0, 3, 2, 0x83, 11]);
    }

    #[tokio::test]
    async fn what_is_not_modbus_ends_the_connection() {
        for garbage in [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\x10\0\x01~~~~~~~~~~~", b"\0\0\0\0\0\x01\x01~~~~~~~~~~~"] {
            let (mut stream, _, _server) = connect().await;
            stream.write_all(garbage).await.unwrap();
            let ended = stream.read(&mut [0; 1]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{garbage:?}");
        }
    }
}
