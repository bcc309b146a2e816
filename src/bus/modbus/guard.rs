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
    transaction: u16,
    /// Whether the last request, or part of it, has left.
    sent: bool,
    spent: bool,
}

/// A frame that is damaged or no answer is known as such when the line stays still for this long after it: longer
/// than a USB adapter holds bytes back (16 ms), much shorter than a timeout.
const STILL: Duration = Duration::from_millis(50);

/// Bytes without an answer in them after which the line counts as babbling. The longest frame has 260.
const BABBLE: usize = 1024;

/// A unit that failed is left alone for its timeout once more, and at least for this long: a serial server or a slow
/// device may hold an answer back for longer than a short timeout.
const LATE: Duration = Duration::from_secs(1);

impl<W: AsyncRead + AsyncWrite + Unpin> Guard<W> {
    /// A guard over an open wire.
    pub fn new(wire: W, framing: Framing, pace: Pace, stillness: Stillness) -> Self {
        let last = Instant::now();
        Self { wire, framing, pace, stillness, last, late: Vec::new(), transaction: 0, sent: false, spent: false }
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
            Err(_) => self.spent |= self.framing != Framing::Rtu,
        }
        result
    }

    async fn ask_rtu(&mut self, unit: u8, request: &Request, patience: Duration) -> Result<Answer, Fault> {
        if let Some(until) = self.late_until(unit) {
            sleep_until(until).await;
            self.late.retain(|(_, until)| *until > Instant::now());
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
                self.hear(unit, request, deadline).await
            }
            Err(fault) => Err(fault),
        };
        if matches!(result, Err(Fault::Timeout | Fault::Frame(_) | Fault::LinkDown(_))) {
            // Also when the wire broke: a serial server passes the late answer on to the next connection.
            self.late.push((unit, deadline + patience.max(LATE)));
        }
        result
    }

    /// Waits for the answer to a request that was sent.
    async fn hear(&mut self, unit: u8, request: &Request, deadline: Instant) -> Result<Answer, Fault> {
        let mut bytes = Vec::with_capacity(256);
        loop {
            let enough = bytes.len() > 2 + request.answer_len();
            let until = if enough { deadline.min(Instant::now() + STILL) } else { deadline };
            match timeout_at(until, self.wire.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(_)) => self.last = Instant::now(),
                Ok(Err(e)) => return Err(gone(&e)),
                Err(_) => return Err(explain_rtu(&bytes, unit, request)),
            }
            if let Some(pdu) = find_rtu(&bytes, unit, request) {
                return request.answer(pdu);
            }
            if bytes.len() >= BABBLE {
                return Err(Fault::Frame(format!("{} bytes without an answer among them", bytes.len())));
            }
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

    /// Reads what is there already; says how much it was.
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
                Some(Ok(())) => drained += buf.filled().len(),
                Some(Err(e)) => return Err(gone(&e)),
            }
        }
        Ok(drained)
    }

    async fn ask_mbap(&mut self, unit: u8, request: &Request, patience: Duration) -> Result<Answer, Fault> {
        // Every fault closes the connection, so nobody can owe an answer here.
        if self.drain().await? > 0 {
            self.spent = true;
            return Err(Fault::Frame("an answer that nobody asked for".into()));
        }
        self.transaction = self.transaction.wrapping_add(1);
        self.send(&request.mbap(self.transaction, unit), patience).await?;
        match timeout(patience, self.read_mbap(unit, request)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Timeout),
        }
    }

    async fn read_mbap(&mut self, unit: u8, request: &Request) -> Result<Answer, Fault> {
        let mut head = [0; 7];
        self.wire.read_exact(&mut head).await.map_err(|e| gone(&e))?;
        let [transaction, protocol, length] = [0, 2, 4].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        let wrong = |what: &str, is: u16, not: u16| Err(Fault::Frame(format!("{what} {is}, not {not}")));
        if protocol != 0 {
            return wrong("protocol", protocol, 0);
        }
        if transaction != self.transaction {
            return wrong("transaction", transaction, self.transaction);
        }
        if head[6] != unit {
            return wrong("unit", head[6].into(), unit.into());
        }
        // 254: unit and the longest PDU (Modbus messaging on TCP/IP V1.0b, 3.1.3).
        if !(3..=254).contains(&length) {
            return wrong("length", length, 1 + request.answer_len() as u16);
        }
        let mut pdu = vec![0; usize::from(length) - 1];
        self.wire.read_exact(&mut pdu).await.map_err(|e| gone(&e))?;
        request.answer(&pdu)
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
