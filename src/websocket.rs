//! A WebSocket as the stream of bytes that MQTT wants: binary messages one behind the other (MQTT 5.0, 6).
//!
//! A packet may span messages, and a message hold several. Pings are answered on the way. Either end of a connection; the
//! HTTP before it is theirs.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// Each connection has a buffer of this size for reading.
const READ: usize = 4 * 1024;
/// What goes into one message at most: it is copied, and waits as a whole.
const MOST_WRITTEN: usize = 64 * 1024;
/// What stands before the bytes of a message, at most (RFC 6455, 5.2).
const MOST_HEADER: usize = 14;
/// Messages up to this size are taken even when no packet may be so large: clients put several packets into one.
const SMALLEST_BOUND: usize = 64 * 1024;

/// How large a message from the other end may be, in bytes; asked before each. Memory for all of it is taken when its
/// length is announced, so that what a stranger may announce has a bound of its own.
pub(crate) type Bound = Box<dyn Fn() -> usize + Send>;

/// The stream. To be read and written in one task: one waker is told of both.
pub(crate) struct WebSocket<S> {
    stream: S,
    protocol: WebSocketContext,
    /// Of the last message, what was not read yet.
    message: Bytes,
    bound: Bound,
    /// The bound that is in force.
    most: usize,
    /// Nothing more comes.
    ended: bool,
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// After the handshake, as the server, behind which the client has sent `early` already.
    pub(crate) fn server(stream: S, early: Vec<u8>, bound: Bound) -> Self {
        Self::new(stream, early, Role::Server, bound)
    }

    /// After the handshake, as the client, behind which the server has sent `early` already.
    pub(crate) fn client(stream: S, early: Vec<u8>, bound: Bound) -> Self {
        Self::new(stream, early, Role::Client, bound)
    }

    fn new(stream: S, early: Vec<u8>, role: Role, bound: Bound) -> Self {
        let most = bound().max(SMALLEST_BOUND);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            // Answers to pings that the other end does not read wait there: of those that find no room, the last is
            // enough (RFC 6455, 5.5.3).
            .max_write_buffer_size(MOST_WRITTEN + MOST_HEADER)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        let protocol = WebSocketContext::from_partially_read(early, role, Some(config));
        let message = Bytes::new();
        Self { stream, protocol, message, bound, most, ended: false, closing: false }
    }

    /// Carries out a step of the protocol with what the stream takes and has at once.
    fn step<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut WebSocketContext, &mut AtOnce<'_, '_, S>) -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        match step(&mut self.protocol, &mut AtOnce { stream: &mut self.stream, cx }) {
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// The next message; none at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let most = (self.bound)().max(SMALLEST_BOUND);
        if most != self.most {
            self.most = most;
            self.protocol.set_config(|c| (c.max_message_size, c.max_frame_size) = (Some(most), Some(most)));
        }
        let read = ready!(self.step(cx, |protocol, stream| protocol.read(stream)));
        self.ended = read.is_err();
        Poll::Ready(match read {
            // The second is a peer that vanishes: it need not say good-bye twice, and what MQTT makes of it is the
            // same as over TCP.
            Err(
                Error::ConnectionClosed
                | Error::AlreadyClosed
                | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
            ) => None,
            read => Some(read),
        })
    }

    /// Says why the connection ends, as far as the socket takes it at once, and ends it.
    fn end(&mut self, cx: &mut Context<'_>, code: CloseCode, why: &'static str) -> io::Error {
        let frame = CloseFrame { code, reason: why.into() };
        let _ = self.step(cx, |protocol, stream| protocol.close(stream, Some(frame)));
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.message.is_empty() {
            match ready!(this.poll_message(cx)) {
                Some(Ok(Message::Binary(message))) => this.message = message,
                // Pings are answered, and a close is, by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let why = "MQTT goes in binary messages, and a text came";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Unsupported, why)));
                }
                Some(Err(Error::Capacity(_))) => {
                    let why = "a message is larger than is taken here";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Size, why)));
                }
                Some(Err(Error::Protocol(_))) => {
                    let why = "what came is not WebSocket";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Protocol, why)));
                }
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let size = this.message.len().min(buf.remaining());
        buf.put_slice(&this.message.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Waits until the last message is on its way, and answers to pings are: so that one waits at most, and has room.
        ready!(self.step(cx, |protocol, stream| protocol.flush(stream))).map_err(broken)?;
        let size = buf.len().min(MOST_WRITTEN);
        let message = Message::Binary(Bytes::copy_from_slice(&buf[..size]));
        // It is taken also when it does not all go out at once.
        let written = self.step(cx, |protocol, stream| protocol.write(stream, message));
        match written {
            Poll::Ready(Err(e)) => Poll::Ready(Err(broken(e))),
            _ => Poll::Ready(Ok(size)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.step(cx, |protocol, stream| protocol.flush(stream)));
        Poll::Ready(closed(flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_closing = std::mem::replace(&mut self.closing, true);
        let closing = self.step(cx, |protocol, stream| match is_closing {
            true => protocol.flush(stream),
            false => protocol.close(stream, None),
        });
        closing.map(closed)
    }
}

/// A stream as the library wants one: what it does not do at once it does not do, and the task is woken when it would.
struct AtOnce<'a, 'b, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for AtOnce<'_, '_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        at_once(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for AtOnce<'_, '_, S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.stream).poll_write(self.cx, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        at_once(Pin::new(&mut *self.stream).poll_flush(self.cx))
    }
}

fn at_once<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The end that both sides have agreed on is no error.
fn closed(result: Result<(), Error>) -> io::Result<()> {
    match result {
        Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(()),
        result => result.map_err(broken),
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(e) => e,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::WebSocketStream;

    use super::*;

    /// The server's end, with the bound that its cell holds, and a client's by another hand.
    fn connected_within(most: &Arc<AtomicUsize>) -> (WebSocket<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(4 * SMALLEST_BOUND);
        let most = most.clone();
        (WebSocket::server(server, Vec::new(), Box::new(move || most.load(Ordering::Relaxed))), client)
    }

    async fn connected() -> (WebSocket<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (server, client) = connected_within(&Arc::new(AtomicUsize::new(1024)));
        (server, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
    }

    fn binary(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn a_connection_that_is_lost_ends_the_stream_as_one_of_tcp() {
        let (mut server, mut client) = connected().await;
        client.send(binary(b"all")).await.unwrap();
        drop(client);
        let mut came = Vec::new();
        server.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"all");
    }

    #[tokio::test]
    async fn packets_span_messages_and_pings_are_answered() {
        let (mut server, mut client) = connected().await;
        for message in [binary(b"ab"), Message::Ping(Bytes::from_static(b"p")), binary(b""), binary(b"c")] {
            client.send(message).await.unwrap();
        }
        let mut read = [0; 3];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abc");
        server.write_all(b"xyz").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"p")));
        assert_eq!(client.next().await.unwrap().unwrap(), binary(b"xyz"));
    }

    #[tokio::test]
    async fn pings_whose_answers_nobody_reads_take_no_memory_and_messages_still_find_room() {
        let (mut server, mut client) = connected().await;
        let pings = tokio::spawn(async move {
            for _ in 0..5000 {
                client.send(Message::Ping(Bytes::from_static(&[7; 125]))).await.unwrap();
            }
            client.send(binary(b"x")).await.unwrap();
            client
        });
        assert_eq!(server.read_u8().await.unwrap(), b'x', "it goes on reading");
        let mut client = pings.await.unwrap();
        let writing = tokio::spawn(async move {
            server.write_all(&[1; 3 * MOST_WRITTEN]).await.unwrap();
            server.flush().await.unwrap();
            server
        });
        let (mut pongs, mut came) = (0, 0);
        while came < 3 * MOST_WRITTEN {
            match client.next().await.unwrap().unwrap() {
                Message::Pong(_) => pongs += 1,
                Message::Binary(message) => came += message.len(),
                other => panic!("{other:?}"),
            }
        }
        assert!(pongs < 4 * 1000, "{pongs} were kept");
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_close_is_answered_and_ends_the_stream() {
        let (mut server, mut client) = connected().await;
        client.close(None).await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }

    #[tokio::test]
    async fn a_client_that_vanishes_ends_the_stream() {
        let (mut server, client) = connected().await;
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_is_in_may_send_more_at_once() {
        let most = Arc::new(AtomicUsize::new(1024));
        let (mut server, client) = connected_within(&most);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        client.send(binary(b"in")).await.unwrap();
        server.read_exact(&mut [0; 2]).await.unwrap();
        most.store(4 * SMALLEST_BOUND, Ordering::Relaxed);
        let sending = tokio::spawn(async move {
            client.send(Message::Binary(vec![7; SMALLEST_BOUND + 1].into())).await.unwrap();
            client
        });
        let mut read = vec![0; SMALLEST_BOUND + 1];
        server.read_exact(&mut read).await.unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
        drop(sending.await.unwrap());
    }

    #[tokio::test]
    async fn text_and_too_much_are_cut_off_with_the_reason() {
        let large = Message::Binary(vec![0; SMALLEST_BOUND + 1].into());
        for (message, code) in [(Message::text("hello"), CloseCode::Unsupported), (large, CloseCode::Size)] {
            let (mut server, mut client) = connected().await;
            let reading = tokio::spawn(async move {
                let error = server.read(&mut [0; 8]).await.unwrap_err();
                (error, server)
            });
            let _ = client.send(message).await;
            let (error, server) = reading.await.unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let Some(Ok(Message::Close(Some(frame)))) = client.next().await else { panic!("no close frame") };
            assert_eq!(frame.code, code);
            drop(server);
        }
    }

    #[tokio::test]
    async fn the_ends_understand_each_other() {
        let (mut server, client) = connected_within(&Arc::new(AtomicUsize::new(4 * MOST_WRITTEN)));
        let mut client = WebSocket::client(client, b"\x82\x02hi".to_vec(), Box::new(|| 1024));
        let mut read = [0; 2];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hi", "what came with the handshake");
        let sending = tokio::spawn(async move {
            client.write_all(&[7; 3 * MOST_WRITTEN]).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut came = Vec::new();
        server.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, [7; 3 * MOST_WRITTEN]);
        drop(sending.await.unwrap());
    }
}
