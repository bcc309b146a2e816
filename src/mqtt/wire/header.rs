//! The fixed header of a packet (MQTT 5.0, 2.1), and what can be refused by it alone. Pure.

use super::{Error, bad};
use crate::mqtt::{Reason, Version};

/// The largest remaining length (MQTT 5.0, 2.1.4).
pub(super) const MAX_REMAINING: usize = 268_435_455;

/// Which side of the connection a packet comes from; what it may send follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    Server,
}

/// The types of packets (MQTT 5.0, table 2-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
    Auth,
}

impl Kind {
    /// The first byte of a packet of this type, but for PUBLISH's flags [MQTT-2.1.3-1].
    pub(super) fn first_byte(self) -> u8 {
        let flags = if matches!(self, Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe) { 0x02 } else { 0 };
        (self as u8) << 4 | flags
    }

    fn of(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Kind::Connect,
            2 => Kind::ConnAck,
            3 => Kind::Publish,
            4 => Kind::PubAck,
            5 => Kind::PubRec,
            6 => Kind::PubRel,
            7 => Kind::PubComp,
            8 => Kind::Subscribe,
            9 => Kind::SubAck,
            10 => Kind::Unsubscribe,
            11 => Kind::UnsubAck,
            12 => Kind::PingReq,
            13 => Kind::PingResp,
            14 => Kind::Disconnect,
            15 => Kind::Auth,
            _ => return None,
        })
    }
}

/// A fixed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) first: u8,
    /// Its own length in bytes.
    pub(super) len: usize,
    /// The bytes that follow it.
    pub(super) remaining: usize,
}

impl Header {
    /// The header that `bytes` begin with; `None` while it is not all there.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some((&first, lengths)) = bytes.split_first() else { return Ok(None) };
        let mut remaining = 0;
        for (place, byte) in lengths.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, len: place + 2, remaining }));
            }
        }
        if lengths.len() < 4 { Ok(None) } else { bad(Reason::MALFORMED, "a remaining length of five bytes (2.1.4)") }
    }

    /// The whole packet's length in bytes.
    pub(super) fn total(&self) -> usize {
        self.len + self.remaining
    }

    /// Refuses at once what would be refused after reading it all.
    pub(super) fn check(&self, peer: Peer, version: Option<Version>, max_packet: u32) -> Result<Kind, Error> {
        let Some(kind) = Kind::of(self.first) else {
            return bad(Reason::MALFORMED, "packet type 0 (2.1.2)");
        };
        match (version, kind, peer) {
            (None, Kind::Connect, _) => {}
            (None, ..) => return bad(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT [MQTT-3.1.0-1]"),
            (Some(_), Kind::Connect, Peer::Client) => {
                return bad(Reason::PROTOCOL_ERROR, "a second CONNECT [MQTT-3.1.0-2]");
            }
            // Wrong flags are malformed, whatever the packet (MQTT-2.1.3-1).
            (_, Kind::Auth, _) if self.first & 0x0F != 0 => self.check_flags(kind, version)?,
            // Neither side of ours names a method in its CONNECT or takes one, so nobody may send this.
            (_, Kind::Auth, _) => {
                return bad(Reason::PROTOCOL_ERROR, "AUTH without an authentication method [MQTT-4.12.0-7]");
            }
            (Some(Version::V31 | Version::V311), Kind::Disconnect, Peer::Server) => {
                return bad(Reason::PROTOCOL_ERROR, "a DISCONNECT from a server of 3.1.1 (MQTT 3.1.1, 3.14)");
            }
            _ => {}
        }
        let other = match peer {
            Peer::Client => matches!(kind, Kind::ConnAck | Kind::SubAck | Kind::UnsubAck | Kind::PingResp),
            Peer::Server => matches!(kind, Kind::Connect | Kind::Subscribe | Kind::Unsubscribe | Kind::PingReq),
        };
        if other {
            return bad(Reason::PROTOCOL_ERROR, "a packet that only the other side may send (2.1.2)");
        }
        self.check_flags(kind, version)?;
        if self.total() > max_packet as usize {
            return bad(Reason::PACKET_TOO_LARGE, "a packet above the maximum packet size [MQTT-3.2.2-15]");
        }
        if matches!(kind, Kind::PingReq | Kind::PingResp) && self.remaining != 0 {
            return bad(Reason::MALFORMED, "PINGREQ or PINGRESP with a body (3.12)");
        }
        if version == Some(Version::V5) && self.padded() {
            return bad(Reason::MALFORMED, "a remaining length in more bytes than it needs [MQTT-1.5.5-1]");
        }
        Ok(kind)
    }

    /// Whether the remaining length has more bytes than it needs: an error in MQTT 5.
    pub(super) fn padded(&self) -> bool {
        self.len > 2 && self.remaining < 1 << (7 * (self.len - 2))
    }

    fn check_flags(&self, kind: Kind, version: Option<Version>) -> Result<(), Error> {
        let (qos, dup) = (self.first >> 1 & 3, self.first & 0x08 != 0);
        if kind == Kind::Publish {
            return match (qos, dup) {
                (3, _) => bad(Reason::MALFORMED, "QoS 3 [MQTT-3.3.1-4]"),
                (0, true) => bad(Reason::MALFORMED, "DUP at QoS 0 [MQTT-3.3.1-2]"),
                _ => Ok(()),
            };
        }
        // 3.1 repeats its SUBSCRIBE, UNSUBSCRIBE and PUBREL with DUP (MQTT 3.1, 2.1).
        let repeated = version == Some(Version::V31) && kind.first_byte() & 0x02 != 0;
        let first = if repeated { self.first & !0x08 } else { self.first };
        if first == kind.first_byte() {
            Ok(())
        } else {
            bad(Reason::MALFORMED, "reserved flags of the fixed header are set [MQTT-2.1.3-1]")
        }
    }
}
