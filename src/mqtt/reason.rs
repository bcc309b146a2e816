//! What a reason code says in words, for the reason strings of MQTT 5.

use super::Reason;

impl Reason {
    /// A short sentence for whoever reads the log of a client (MQTT 5.0, 2.4).
    pub fn text(self) -> &'static str {
        match self.0 {
            0x00 => "Success.",
            0x04 => "Disconnected, and the will is to be published.",
            0x10 => "Nobody is subscribed to this topic.",
            0x11 => "There was no such subscription.",
            0x80 => "The broker could not do it.",
            0x81 => "A packet is malformed.",
            0x82 => "A packet breaks the protocol.",
            0x83 => "The broker does not do this.",
            0x84 => "This version of MQTT is not spoken here: use 3.1, 3.1.1 or 5.",
            0x85 => "This client identifier is not allowed.",
            0x86 => "The user name or the password is wrong.",
            0x87 => "The user may not do this.",
            0x88 => "The broker is not available.",
            0x89 => "The broker is busy: try again later.",
            0x8A => "This client is banned.",
            0x8B => "The broker is shutting down.",
            0x8C => "This authentication method is not offered.",
            0x8D => "Nothing came within one and a half times the keep alive.",
            0x8E => "Another connection uses the same client identifier.",
            0x8F => "The topic filter is not allowed.",
            0x90 => "The topic name is not allowed.",
            0x91 => "The packet identifier is in use.",
            0x92 => "The packet identifier is not known.",
            0x93 => "More messages are under way than the receive maximum allows.",
            0x94 => "The topic alias is zero or above the maximum.",
            0x95 => "The packet is larger than the maximum packet size.",
            0x96 => "Messages come too fast.",
            0x97 => "A limit is reached: the broker takes no more for now.",
            0x98 => "Ended by an administrator.",
            0x99 => "The payload is not what its format indicator says.",
            0x9A => "Retained messages are not supported.",
            0x9B => "This quality of service is not supported.",
            0x9C | 0x9D => "Use another server.",
            0x9E => "Shared subscriptions are not supported.",
            0x9F => "Connections come too fast.",
            0xA0 => "The connection was open for as long as it may be.",
            0xA1 => "Subscription identifiers are not supported.",
            0xA2 => "Wildcards in subscriptions are not supported.",
            0xFD => "The other end never acknowledges it.",
            0xFE => "It would come back from there, or might come round.",
            0xFF => "The other end hung up each time it was sent.",
            _ => "Refused.",
        }
    }
}
