//! The few packets of MQTT 3.1.1 that a load needs: made once, patched in place, looked at as little as possible.

pub const CONNECT: u8 = 1;
pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBSCRIBE: u8 = 8;
pub const SUBACK: u8 = 9;
pub const PINGREQ: u8 = 12;

/// The bytes of a payload that say whose message it is: publisher and number.
pub const MARK: usize = 8;

/// A CONNECT without keep alive, user or will.
pub fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\x00\x00\x00".to_vec();
    body[7] = if clean { 2 } else { 0 };
    text(client_id, &mut body);
    packet(0x10, &body)
}

/// A SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(filter, &mut body);
    body.push(qos);
    packet(0x82, &body)
}

/// The answer `kind` (PUBACK to PUBCOMP) to the packet with this id.
pub fn answer(kind: u8, id: [u8; 2], out: &mut Vec<u8>) {
    let flags = if kind == PUBREL { 2 } else { 0 };
    out.extend_from_slice(&[kind << 4 | flags, 2, id[0], id[1]]);
}

/// A PUBLISH whose packet id and mark are written anew for each message.
pub struct Publish {
    bytes: Vec<u8>,
    id: Option<usize>,
    mark: usize,
}

impl Publish {
    /// `size` is that of the payload, at least [`MARK`].
    pub fn new(topic: &str, size: usize, qos: u8, retain: bool, publisher: u32) -> Self {
        let mut body = Vec::new();
        text(topic, &mut body);
        if qos > 0 {
            body.extend([0, 0]);
        }
        let before = body.len();
        body.resize(before + size.max(MARK), b'x');
        body[before..before + 4].copy_from_slice(&publisher.to_be_bytes());
        let bytes = packet(0x30 | qos << 1 | u8::from(retain), &body);
        let mark = bytes.len() - size.max(MARK);
        Self { id: (qos > 0).then(|| mark - 2), mark, bytes }
    }

    /// Adds message `number` to `out`; its packet id follows from the number.
    pub fn write(&mut self, number: u32, out: &mut Vec<u8>) {
        if let Some(at) = self.id {
            let id = (number % 65_535 + 1) as u16;
            self.bytes[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        self.bytes[self.mark + 4..self.mark + 8].copy_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// What a received PUBLISH says of itself.
pub struct Received {
    pub id: Option<[u8; 2]>,
    pub qos: u8,
    pub publisher: u32,
    pub number: u32,
}

impl Received {
    /// Reads it from a packet's first byte and body; `None` when it is none of ours.
    pub fn read(first: u8, body: &[u8]) -> Option<Self> {
        let qos = first >> 1 & 3;
        let mut at = 2 + usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
        let mut id = None;
        if qos > 0 {
            id = Some(body.get(at..at + 2)?.try_into().ok()?);
            at += 2;
        }
        let mark: [u8; MARK] = body.get(at..at + MARK)?.try_into().ok()?;
        let mark = u64::from_be_bytes(mark);
        Some(Self { id, qos, publisher: (mark >> 32) as u32, number: mark as u32 })
    }
}

/// Where the first packet of `bytes` has its body; `None` when it is not all there.
pub fn frame(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut length = 0;
    for (i, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            let start = i + 2;
            return (bytes.len() >= start + length).then_some(start..start + length);
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7F) as u8;
        length >>= 7;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}
