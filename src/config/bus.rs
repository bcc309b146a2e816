//! `[bus.NAME]`: how a bus is reached.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::section::{Name, Raw, Section};
use super::source::Span;
use crate::bus::link::{self, Parity};

/// Exactly one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Keys {
    modbus_tcp: Option<Spanned<Tcp>>,
    modbus_rtu_over_tcp: Option<Spanned<Tcp>>,
    modbus_rtu: Option<Spanned<Serial>>,
    uart: Option<Spanned<Serial>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    host: String,
    port: Option<Spanned<u16>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Serial {
    port: PathBuf,
    baud: Option<Spanned<u32>>,
    #[serde(default)]
    parity: Letter,
    data_bits: Option<Spanned<u8>>,
    stop_bits: Option<Spanned<u8>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Letter {
    #[default]
    None,
    Even,
    Odd,
}

/// The port of Modbus TCP (IANA).
pub(crate) const PORT: u16 = 502;

/// The line's speed when nothing says otherwise.
pub(crate) const BAUD: u32 = 9600;

/// Reads one bus.
pub(super) fn read(name: &Name, raw: Raw<'_>, out: &mut Diagnostics) -> Option<link::Config> {
    let mut section = Section::new(raw, "a bus", out)?;
    let empty = section.is_empty();
    let keys = section.try_take::<Keys>(out);
    section.finish(out);
    let keys = keys?;
    let mut links: Vec<(Span, link::Config)> = Vec::new();
    if let Some(tcp) = keys.modbus_tcp {
        links.push((tcp.span(), link::Config::ModbusTcp(endpoint(tcp.into_inner(), out))));
    }
    if let Some(tcp) = keys.modbus_rtu_over_tcp {
        links.push((tcp.span(), link::Config::ModbusRtuOverTcp(endpoint(tcp.into_inner(), out))));
    }
    if let Some(serial) = keys.modbus_rtu {
        if let Some(bits) = serial.get_ref().data_bits.as_ref().filter(|bits| *bits.get_ref() == 7) {
            let why = "Modbus RTU needs 8 data bits (Modbus over serial line V1.02, 2.5.1)";
            out.push(Diagnostic::error(why).at(bits.span()));
        }
        links.push((serial.span(), link::Config::ModbusRtu(line(serial.into_inner(), out))));
    }
    if let Some(serial) = keys.uart {
        links.push((serial.span(), link::Config::Uart(line(serial.into_inner(), out))));
    }
    if let Some((second, _)) = links.get(1) {
        let why = format!("bus `{}` is reached in more than one way", name.get_ref());
        out.push(Diagnostic::error(why).at(second.clone()).help("keep one of them".to_owned()));
    }
    if links.is_empty() && empty {
        let why = format!("bus `{}` does not say how it is reached", name.get_ref());
        let help = "add `modbus-rtu = { port = \"/dev/ttyUSB0\", baud = 9600 }`, `modbus-tcp = { host = \"…\" }`, \
                    `modbus-rtu-over-tcp` or `uart`";
        out.push(Diagnostic::error(why).at(name.span()).help(help.to_owned()));
    }
    links.into_iter().next().map(|(_, link)| link)
}

fn endpoint(tcp: Tcp, out: &mut Diagnostics) -> link::Tcp {
    if let Some(port) = tcp.port.as_ref().filter(|port| *port.get_ref() == 0) {
        out.push(Diagnostic::error("no connection goes to port 0").at(port.span()));
    }
    link::Tcp { host: tcp.host, port: tcp.port.map_or(PORT, Spanned::into_inner) }
}

fn line(serial: Serial, out: &mut Diagnostics) -> link::Serial {
    // What is wrong is told and then taken for the default: who reckons with it later must not stumble over it.
    let baud = match serial.baud {
        Some(baud) if !(50..=4_000_000).contains(baud.get_ref()) => {
            let help = "usual are 9600, 19200 and 115200".to_owned();
            out.push(Diagnostic::error("no port is this fast or slow").at(baud.span()).help(help));
            BAUD
        }
        Some(baud) => baud.into_inner(),
        None => BAUD,
    };
    let mut bits = |value: Option<Spanned<u8>>, least, most, otherwise| match value {
        Some(value) if !(least..=most).contains(value.get_ref()) => {
            out.push(Diagnostic::error(format!("this is {least} to {most}")).at(value.span()));
            otherwise
        }
        Some(value) => value.into_inner(),
        None => otherwise,
    };
    link::Serial {
        port: serial.port,
        data_bits: bits(serial.data_bits, 5, 8, 8),
        stop_bits: bits(serial.stop_bits, 1, 2, 1),
        baud,
        parity: match serial.parity {
            Letter::None => Parity::None,
            Letter::Even => Parity::Even,
            Letter::Odd => Parity::Odd,
        },
    }
}
