//! Packets from a stream. An idle [`Reader`] holds no buffer: what is read lands on the stack, is decoded there, and
//! only the beginning of a packet that is not all there is kept.

use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::Error;
use super::decoder::{Decoder, Next};
use super::header::Peer;
use super::read::SHARE_FROM;
use crate::clock::Moment;
use crate::mqtt::{Packet, Version};

/// How many bytes one read brings at most, but for the rest of a large packet.
const READ: usize = 16 * 1024;

/// Between packets no more memory than this is kept.
const KEEP: usize = 512;

/// Reads packets from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    decoder: Decoder,
    /// The beginning of a packet.
    part: Vec<u8>,
    /// How long `part` has to become before more can be said.
    needs: usize,
    /// An error that stands behind packets already returned.
    failed: Option<Error>,
    /// There was one: nothing more is read.
    over: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads what a server sends; packets above `max_packet` bytes are refused.
    pub fn client(io: R, version: Version, max_packet: u32) -> Self {
        Self::new(io, Decoder::new(Peer::Server, Some(version), max_packet))
    }

    /// Reads what a client sends; the version follows from its CONNECT.
    pub fn server(io: R, max_packet: u32) -> Self {
        Self::new(io, Decoder::new(Peer::Client, None, max_packet))
    }

    fn new(io: R, decoder: Decoder) -> Self {
        Self { io, decoder, part: Vec::new(), needs: 0, failed: None, over: false }
    }

    /// The version of the connection, once known.
    pub fn version(&self) -> Option<Version> {
        self.decoder.version()
    }

    /// Waits for at least one packet and returns all that have arrived whole. Cancel safe.
    ///
    /// # Errors
    /// When the stream ends, fails or brings what the peer may not send. Packets before a bad one are returned first;
    /// behind it there is nothing.
    pub async fn recv(&mut self) -> Result<Vec<Packet>, Error> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Reads to the end of the stream and forgets what comes.
    pub async fn discard(&mut self) {
        self.part = Vec::new();
        let io = &mut self.io;
        std::future::poll_fn(|cx| {
            loop {
                let mut place = [const { MaybeUninit::uninit() }; READ];
                let mut read = ReadBuf::uninit(&mut place);
                if ready!(Pin::new(&mut *io).poll_read(cx, &mut read)).is_err() || read.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// The memory that is kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.part.capacity()
    }

    fn poll_recv(&mut self, cx: &mut Context) -> Poll<Result<Vec<Packet>, Error>> {
        let mut packets = Vec::new();
        while packets.is_empty() {
            if self.over {
                return Poll::Ready(Err(self.failed.take().unwrap_or(Error::Closed)));
            }
            if let Err(error) = ready!(self.poll_packets(cx, &mut packets)) {
                self.failed = Some(error);
                self.over = true;
            }
        }
        Poll::Ready(Ok(packets))
    }

    /// Reads once, and adds what that completes to `packets`.
    fn poll_packets(&mut self, cx: &mut Context, packets: &mut Vec<Packet>) -> Poll<Result<(), Error>> {
        // What is announced costs nothing; memory is for what has come.
        if self.part.len() >= READ && self.needs > self.part.len() + READ {
            return self.poll_large(cx, packets);
        }
        let mut place = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut place);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(Error::Closed));
        }
        Poll::Ready(self.decode(read.filled(), packets))
    }

    /// Reads once, straight to where a large packet stays. Memory for it grows with what has come, not with what is
    /// announced; as it doubles, no byte is copied more than about twice.
    fn poll_large(&mut self, cx: &mut Context, packets: &mut Vec<Packet>) -> Poll<Result<(), Error>> {
        self.make_room(1);
        let missing = self.needs - self.part.len();
        let room = (self.part.capacity() - self.part.len()).min(missing);
        let mut place = (&mut self.part).limit(room);
        let read: io::Result<usize> = ready!(pin!(self.io.read_buf(&mut place)).poll(cx));
        if read? == 0 {
            return Poll::Ready(Err(Error::Closed));
        }
        if self.part.len() == self.needs {
            packets.push(self.take_whole(Moment::now())?);
        }
        Poll::Ready(Ok(()))
    }

    fn decode(&mut self, mut bytes: &[u8], packets: &mut Vec<Packet>) -> Result<(), Error> {
        let at = Moment::now();
        while !self.part.is_empty() {
            let missing = (self.needs - self.part.len()).min(bytes.len());
            let (more, rest) = bytes.split_at(missing);
            self.make_room(more.len());
            self.part.extend_from_slice(more);
            bytes = rest;
            if self.part.len() < self.needs {
                return Ok(());
            }
            if self.part.len() >= SHARE_FROM {
                packets.push(self.take_whole(at)?);
                break;
            }
            match self.decoder.next(&self.part, at)? {
                Next::Needs(needs) => self.needs = needs,
                Next::Packet(packet, _) => {
                    packets.push(packet);
                    self.clear();
                }
            }
        }
        while !bytes.is_empty() {
            match self.decoder.next(bytes, at)? {
                Next::Packet(packet, length) => {
                    packets.push(packet);
                    bytes = &bytes[length..];
                }
                Next::Needs(needs) => {
                    self.part.extend_from_slice(bytes);
                    self.needs = needs;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Room in `part` for `n` more of the bytes that it needs: twice as much as there is, but never more than that.
    fn make_room(&mut self, n: usize) {
        if self.part.capacity() - self.part.len() < n {
            let missing = self.needs - self.part.len();
            self.part.reserve_exact(missing.min(self.part.len().max(n)));
        }
    }

    fn take_whole(&mut self, at: Moment) -> Result<Packet, Error> {
        self.needs = 0;
        self.decoder.whole(&Bytes::from(mem::take(&mut self.part)), at)
    }

    fn clear(&mut self) {
        self.needs = 0;
        self.part.clear();
        if self.part.capacity() > KEEP {
            self.part = Vec::new();
        }
    }
}
