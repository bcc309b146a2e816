//! Connections of one thread: what comes is read when it is there, what goes is gathered and written at once.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;

use super::packet;

/// Bytes that one read takes at most.
const READ: usize = 256 * 1024;
/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One MQTT connection.
pub struct Client {
    stream: TcpStream,
    /// What waits to be written.
    pub out: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// The beginning of a packet that has not come to its end.
    rest: Vec<u8>,
    /// Whether it was told when the socket takes bytes again.
    waits: bool,
}

/// All connections of a run.
pub struct Wires {
    epoll: OwnedFd,
    pub clients: Vec<Client>,
    address: SocketAddr,
    scratch: Vec<u8>,
    events: [MaybeUninit<epoll::Event>; 512],
}

impl Wires {
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = [const { MaybeUninit::uninit() }; 512];
        Ok(Self { epoll, clients: Vec::new(), address, scratch: vec![0; READ], events })
    }

    /// Connects a client, and subscribes it to `filter`. Returns its place.
    pub fn connect(&mut self, client_id: &str, clean: bool, filter: Option<(&str, u8)>) -> io::Result<usize> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&packet::connect(client_id, clean))?;
        expect(&mut stream, packet::CONNACK)?;
        if let Some((filter, qos)) = filter {
            stream.write_all(&packet::subscribe(filter, qos))?;
            expect(&mut stream, packet::SUBACK)?;
        }
        stream.set_nonblocking(true)?;
        let place = self.clients.len();
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        self.clients.push(Client { stream, out: Vec::new(), written: 0, rest: Vec::new(), waits: false });
        Ok(place)
    }

    /// Waits until something happens or `until` comes; the places of the clients to read from.
    pub fn wait(&mut self, until: Instant, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let (events, _) = epoll::wait(&self.epoll, &mut self.events, Some(&timeout))?;
        for event in events {
            let (place, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(epoll::EventFlags::OUT) {
                self.clients[place].flush(&self.epoll, place)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                ready.push(place);
            }
        }
        Ok(())
    }

    /// Writes what client `place` has gathered, as far as its socket takes it.
    pub fn flush(&mut self, place: usize) -> io::Result<()> {
        let client = &mut self.clients[place];
        if client.out.is_empty() || client.waits { Ok(()) } else { client.flush(&self.epoll, place) }
    }

    /// Reads once, and gives each whole packet (its first byte, its body) to `each`, which may answer.
    pub fn read(&mut self, place: usize, mut each: impl FnMut(u8, &[u8], &mut Vec<u8>)) -> io::Result<()> {
        let Client { stream, out, rest, .. } = &mut self.clients[place];
        let n = match stream.read(&mut self.scratch) {
            Ok(0) => return Err(io::Error::other("the broker closed a connection")),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut take = |mut bytes: &[u8]| {
            let whole = bytes.len();
            while let Some(body) = packet::frame(bytes) {
                let end = body.end;
                each(bytes[0], &bytes[body], out);
                bytes = &bytes[end..];
            }
            whole - bytes.len()
        };
        if rest.is_empty() {
            let taken = take(&self.scratch[..n]);
            rest.extend_from_slice(&self.scratch[taken..n]);
        } else {
            rest.extend_from_slice(&self.scratch[..n]);
            let taken = take(rest);
            rest.drain(..taken);
        }
        Ok(())
    }
}

impl Client {
    fn flush(&mut self, epoll: &OwnedFd, place: usize) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        let waits = self.written < self.out.len();
        if !waits {
            self.out.clear();
            self.written = 0;
        }
        if waits != self.waits {
            self.waits = waits;
            let out = if waits { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(place as u64);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | out)?;
        }
        Ok(())
    }
}

fn expect(stream: &mut TcpStream, kind: u8) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if let Some(body) = packet::frame(&bytes) {
            let refused = bytes[body].last().is_some_and(|code| *code >= 0x80 || kind == packet::CONNACK && *code != 0);
            return if bytes[0] >> 4 == kind && !refused {
                Ok(())
            } else {
                Err(io::Error::other(format!("the broker refuses: {bytes:02x?}")))
            };
        }
    }
}
