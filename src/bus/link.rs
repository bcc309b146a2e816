//! How a bus is reached: a TCP connection or a serial port.

pub mod serial;
pub(super) mod silence;

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use serial::{Parity, Serial};

use serial::Port;

/// The way to a bus, resolved from `[bus.x]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Modbus TCP.
    ModbusTcp(Tcp),
    /// Modbus RTU frames over a TCP connection, as serial servers pass them.
    ModbusRtuOverTcp(Tcp),
    /// Modbus RTU over a serial port.
    ModbusRtu(Serial),
    /// A serial port on which devices talk unasked.
    Uart(Serial),
}

/// A TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub host: String,
    pub port: u16,
}

/// `/dev/ttyUSB0 9600 8N1`
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{} {} {}{parity}{}", self.port.display(), self.baud, self.data_bits, self.stop_bits)
    }
}

/// `192.168.1.50:502`
impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `modbus-rtu /dev/ttyUSB0 9600 8N1`
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Config::ModbusTcp(tcp) => write!(f, "modbus-tcp {tcp}"),
            Config::ModbusRtuOverTcp(tcp) => write!(f, "modbus-rtu-over-tcp {tcp}"),
            Config::ModbusRtu(serial) => write!(f, "modbus-rtu {serial}"),
            Config::Uart(serial) => write!(f, "uart {serial}"),
        }
    }
}

/// An open link: bytes both ways. A read of nothing means that it is gone.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether the bytes go over a serial line of this machine, whose silences matter.
    fn is_line(&self) -> bool {
        false
    }
}

impl Wire for TcpStream {}

impl Wire for Port {
    fn is_line(&self) -> bool {
        true
    }
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Opens the link: connects, or opens the port and sets its line.
///
/// # Errors
/// Why it cannot be reached, in words for the status page.
pub async fn open(config: &Config) -> Result<Box<dyn Wire>, String> {
    match config {
        Config::ModbusTcp(tcp) | Config::ModbusRtuOverTcp(tcp) => {
            let connecting = TcpStream::connect((tcp.host.as_str(), tcp.port));
            let stream = match tokio::time::timeout(CONNECT, connecting).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(e)) => return Err(format!("cannot connect to {tcp}: {e}")),
                Err(_) => return Err(format!("cannot connect to {tcp}: no answer within {} s", CONNECT.as_secs())),
            };
            // Only a matter of speed.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream))
        }
        Config::ModbusRtu(serial) | Config::Uart(serial) => Ok(Box::new(Port::open(serial).await?)),
    }
}

/// Why a wire is no longer used.
#[derive(Debug)]
pub(crate) enum End {
    /// The gateway stops.
    Stopped,
    /// An answer may still be on its way on it; another wire is opened at once. `useful` as below.
    Spent { useful: bool },
    /// It broke. `useful` when something was heard on it before.
    Broken { why: String, useful: bool },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_it_leads() {
        let mut serial =
            Serial { port: "/dev/ttyUSB0".into(), baud: 9600, parity: Parity::None, data_bits: 8, stop_bits: 1 };
        assert_eq!(Config::ModbusRtu(serial.clone()).to_string(), "modbus-rtu /dev/ttyUSB0 9600 8N1");
        serial.parity = Parity::Even;
        serial.stop_bits = 2;
        assert_eq!((serial.to_string().as_str(), serial.bits()), ("/dev/ttyUSB0 9600 8E2", 12));
    }

    #[tokio::test]
    async fn a_refused_connection_says_where_and_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let why = open(&Config::ModbusTcp(Tcp { host: "127.0.0.1".into(), port })).await.err().unwrap();
        assert!(why.starts_with(&format!("cannot connect to 127.0.0.1:{port}: Connection refused")), "{why}");
    }
}
