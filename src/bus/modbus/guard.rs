//! Lets no wrong answer through: frames by expected length, checks CRC, unit, function and size, and throws away what
//! is left of earlier requests.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::pdu::{Answer, Request, explain_rtu, find_rtu};
use crate::bus::link::silence::{Pace, Stillness};
use crate::reading::Fault;

/// How requests and answers stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// RTU frames on a serial line.
    Rtu,
    /// RTU frames through a TCP connection.
    RtuOverTcp,
    /// Modbus TCP.
    Mbap,
}

/// One wire, on which one request at a time gets one checked answer or a fault.
///
/// An answer that comes too late is the danger: on RTU nothing in it tells which request it answers. So a unit that
/// failed is left alone for a late window, its timeout once more, and whatever it says in that time is thrown away.
#[derive(Debug)]
pub struct Guard<W> {
    wire: W,
    framing: Framing,
    pace: Pace,
    stillness: Stillness,
    /// When the last byte passed on the line, either way.
    last: Instant,
    /// Units that may still speak late, and until when.
    late: Vec<(u8, Instant)>,
    /// Whether the adapter hears itself: what is sent comes back before the answer. None until an answer has shown it.
    echo: Option<bool>,
    transaction: u16,
    /// Modbus TCP: what has come and is not yet read.
    input: Vec<u8>,
    /// Modbus TCP: requests in a row to which nobody said anything.
    silent: u32,
    /// Whether the last request, or part of it, has left.
    sent: bool,
    spent: bool,
}

/// A frame that is damaged or no answer is known as such when the line stays still for this long after it: longer
/// than a USB adapter holds bytes back (16 ms), much shorter than a timeout.
const STILL: Duration = Duration::from_millis(50);

/// Bytes without an answer in them after which the line counts as babbling. The longest frame has 260.
const BABBLE: usize = 1024;

/// After so many requests over Modbus TCP without any answer the connection itself is in doubt. One silent unit behind a
/// gateway is no reason: many gateways have one connection for all.
const SILENT: u32 = 3;

/// Answers to so many requests before are known for what they are: late.
const EARLIER: u16 = 1024;

/// A unit that failed is left alone for its timeout once more, and at least for this long: a serial server or a slow
/// device may hold an answer back for longer than a short timeout.
const LATE: Duration = Duration::from_secs(1);

impl<W: AsyncRead + AsyncWrite + Unpin> Guard<W> {
    /// A guard over an open wire.
    pub fn new(wire: W, framing: Framing, pace: Pace, stillness: Stillness) -> Self {
        let last = Instant::now();
        Self {
            wire,
            framing,
            pace,
            stillness,
            last,
            late: Vec::new(),
            echo: None,
            transaction: 0,
            input: Vec::new(),
            silent: 0,
            sent: false,
            spent: false,
        }
    }

    /// Whether the wire is of no more use and must be opened anew: it broke, or (on TCP) an answer may still be on
    /// its way that would pass for another one.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether any of the last request may have reached the device.
    pub fn has_sent(&self) -> bool {
        self.sent
    }

    /// Until when `unit` is left alone; asking earlier waits till then.
    pub fn late_until(&self, unit: u8) -> Option<Instant> {
        self.late.iter().find(|(u, _)| *u == unit).map(|(_, until)| *until)
    }

    /// Asks `unit` and waits for its answer, which must begin within `patience` of the request's last byte.
    ///
    /// # Errors
    /// [`Fault::Exception`] when the device refused, [`Fault::Timeout`] when nothing came, [`Fault::Frame`] when what
    /// came was no answer, [`Fault::LinkDown`] when the wire broke.
    pub async fn ask(&mut self, unit: u8, request: &Request, patience: Duration) -> Result<Answer, Fault> {
        self.sent = false;
        let result = match self.framing {
            Framing::Mbap => self.ask_mbap(unit, request, patience).await,
            Framing::Rtu | Framing::RtuOverTcp => self.ask_rtu(unit, request, patience).await,
        };
        match &result {
            Ok(_) | Err(Fault::Exception(_)) => {}
            Err(Fault::LinkDown(_)) => self.spent = true,
            // Over TCP a transaction tells one answer from another.
            Err(Fault::Timeout) => self.spent |= self.framing == Framing::RtuOverTcp,
            Err(_) => self.spent |= self.framing != Framing::Rtu,
        }
        result
    }

    async fn ask_rtu(&mut self, unit: u8, request: &Request, patience: Duration) -> Result<Answer, Fault> {
        if let Some(until) = self.late_until(unit) {
            sleep_until(until).await;
            self.late.retain(|(_, until)| *until > Instant::now());
        }
        // The right answer to functions 5 and 6 is the request itself: first a read must tell whether there is an echo.
        if self.echo.is_none()
            && let Some(read) = request.read_back()
        {
            match Box::pin(self.ask_rtu(unit, &read, patience)).await {
                Ok(_) | Err(Fault::Exception(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.be_still(patience).await?;
        let frame = request.rtu(unit);
        // The answer's own time on the line is not the device's fault.
        let spare = self.pace.time_of(frame.len()) + patience + self.pace.time_of(1 + request.answer_len() + 2);
        let mut deadline = Instant::now() + spare;
        let sent = self.send(&frame, patience).await;
        let result = match sent {
            Ok(()) => {
                self.last = Instant::now() + self.pace.time_of(frame.len());
                deadline = Instant::now() + spare;
                self.hear(unit, request, &frame, deadline).await
            }
            Err(fault) => Err(fault),
        };
        if matches!(result, Err(Fault::Timeout | Fault::Frame(_) | Fault::LinkDown(_))) {
            // Also when the wire broke: a serial server passes the late answer on to the next connection.
            self.late.push((unit, deadline + patience.max(LATE)));
        }
        result
    }

    /// Waits for the answer to a request that was sent as `frame`.
    async fn hear(&mut self, unit: u8, request: &Request, frame: &[u8], deadline: Instant) -> Result<Answer, Fault> {
        let mut bytes = Vec::with_capacity(256);
        loop {
            let (answer, _) = self.without_echo(&bytes, frame);
            let enough = answer.len() > 2 + request.answer_len();
            let until = if enough { deadline.min(Instant::now() + STILL) } else { deadline };
            match timeout_at(until, self.wire.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => self.last = Instant::now(),
                Ok(Err(e)) => return Err(gone(&e)),
                Err(_) => return Err(explain_rtu(self.without_echo(&bytes, frame).0, unit, request)),
            }
            let (answer, echoed) = self.without_echo(&bytes, frame);
            if let Some(pdu) = find_rtu(answer, unit, request) {
                let result = request.answer(pdu);
                // Behind noise nothing is learned: a damaged echo is noise too.
                let alone = bytes.len() == 1 + pdu.len() + 2;
                if request.read_back().is_none() && (echoed || alone) {
                    self.echo = Some(echoed);
                }
                return result;
            }
            if bytes.len() >= BABBLE {
                return Err(Fault::Frame(format!("{} bytes without an answer among them", bytes.len())));
            }
        }
    }

    /// What stands behind the echo of `frame`, and whether there was one.
    fn without_echo<'a>(&self, bytes: &'a [u8], frame: &[u8]) -> (&'a [u8], bool) {
        if self.echo == Some(false) {
            return (bytes, false);
        }
        match bytes.windows(frame.len()).position(|part| part == frame) {
            Some(at) => (&bytes[at + frame.len()..], true),
            None => (bytes, false),
        }
    }

    /// Throws away what is in the input and waits until the line has been still for t3.5.
    async fn be_still(&mut self, patience: Duration) -> Result<(), Fault> {
        let limit = Instant::now() + patience;
        loop {
            if self.drain().await? > 0 {
                self.last = Instant::now();
            }
            let still = self.last + self.pace.silence;
            if still <= Instant::now() {
                return Ok(());
            }
            if still > limit + self.pace.silence {
                return Err(Fault::Frame("the line does not fall still".into()));
            }
            self.stillness.until(still).await;
        }
    }

    /// Reads what is there already; says how much it was. Over Modbus TCP it is kept: it may be half a frame.
    async fn drain(&mut self) -> Result<usize, Fault> {
        // Lets the runtime hear of bytes that came while it was busy.
        tokio::task::yield_now().await;
        let mut drained = 0;
        let mut bytes = [0; 256];
        while drained < BABBLE {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = poll_fn(|cx| {
                Poll::Ready(match Pin::new(&mut self.wire).poll_read(cx, &mut buf) {
                    Poll::Ready(read) => Some(read),
                    Poll::Pending => None,
                })
            });
            match read.await {
                None => break,
                Some(Ok(())) if buf.filled().is_empty() => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Some(Ok(())) => {
                    drained += buf.filled().len();
                    if self.framing == Framing::Mbap {
                        self.input.extend_from_slice(buf.filled());
                    }
                }
                Some(Err(e)) => return Err(gone(&e)),
            }
        }
        Ok(drained)
    }

    async fn ask_mbap(&mut self, unit: u8, request: &Request, patience: Duration) -> Result<Answer, Fault> {
        self.drain().await?;
        self.transaction = self.transaction.wrapping_add(1);
        self.send(&request.mbap(self.transaction, unit), patience).await?;
        match timeout(patience, self.read_mbap(unit, request)).await {
            Ok(result) => {
                self.silent = 0;
                result
            }
            Err(_) => {
                self.silent += 1;
                // Half a frame: nobody knows whether its rest will come.
                self.spent |= self.silent >= SILENT || !self.input.is_empty();
                Err(Fault::Timeout)
            }
        }
    }

    /// Reads on until this request is answered; answers to earlier ones, which came to nothing, are passed over.
    async fn read_mbap(&mut self, unit: u8, request: &Request) -> Result<Answer, Fault> {
        loop {
            if let Some((transaction, of, pdu)) = self.take_mbap()? {
                match self.transaction.wrapping_sub(transaction) {
                    0 if of == unit => return request.answer(&pdu),
                    0 => return Err(Fault::Frame(format!("unit {of}, not {unit}"))),
                    1..=EARLIER => continue,
                    _ => return Err(Fault::Frame(format!("transaction {transaction}, not {}", self.transaction))),
                }
            }
            // A read into the buffer loses nothing when the time is over.
            match self.wire.read_buf(&mut self.input).await {
                Ok(0) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) => return Err(gone(&e)),
            }
        }
    }

    /// The first frame of the input: transaction, unit, PDU; none when it is not all there.
    fn take_mbap(&mut self) -> Result<Option<(u16, u8, Vec<u8>)>, Fault> {
        let Some(head) = self.input.first_chunk::<7>() else { return Ok(None) };
        let [transaction, protocol, length] = [0, 2, 4].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        if protocol != 0 {
            return Err(Fault::Frame(format!("protocol {protocol}, not 0")));
        }
        // 254: unit and the longest PDU (Modbus messaging on TCP/IP V1.0b, 3.1.3).
        if !(3..=254).contains(&length) {
            return Err(Fault::Frame(format!("a length of {length}, not 3 to 254")));
        }
        let (unit, end) = (head[6], 6 + usize::from(length));
        if self.input.len() < end {
            return Ok(None);
        }
        let pdu = self.input[7..end].to_vec();
        self.input.drain(..end);
        Ok(Some((transaction, unit, pdu)))
    }

    async fn send(&mut self, frame: &[u8], patience: Duration) -> Result<(), Fault> {
        self.sent = true;
        match timeout(patience + self.pace.time_of(frame.len()), self.wire.write_all(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(gone(&e)),
            // Half a frame may have left: nothing more can be said on this wire.
            Err(_) => Err(Fault::LinkDown("it takes no more bytes".into())),
        }
    }
}

fn gone(error: &io::Error) -> Fault {
    Fault::LinkDown(match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed from the other end, or unplugged".into(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests;
