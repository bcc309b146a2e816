//! A WebSocket as the stream of bytes that MQTT wants: binary messages one behind the other (MQTT 5.0, 6).
//!
//! A packet may span messages, and a message hold several. Pings are answered on the way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Each connection has a buffer of this size for reading.
const READ: usize = 4 * 1024;
/// What goes into one message at most: it is copied, and waits as a whole.
const MOST_WRITTEN: usize = 64 * 1024;
/// Messages up to this size are taken even when no packet may be so large: clients put several packets into one.
const SMALLEST_BOUND: usize = 64 * 1024;

/// The stream.
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// Of the last message, what was not read yet.
    message: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// After the handshake, behind which the client has sent `early` already.
    pub(super) async fn new(stream: S, early: Vec<u8>, max_message: usize) -> Self {
        let bound = Some(max_message.max(SMALLEST_BOUND));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(bound)
            .max_frame_size(bound);
        let inner = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;
        Self { inner, message: Bytes::new() }
    }

    /// Says why the connection ends, as far as the socket takes it at once, and ends it.
    fn end(&mut self, cx: &mut Context<'_>, code: CloseCode, why: &'static str) -> io::Error {
        let frame = CloseFrame { code, reason: why.into() };
        let mut inner = Pin::new(&mut self.inner);
        if inner.as_mut().start_send(Message::Close(Some(frame))).is_ok() {
            let _ = inner.poll_flush(cx);
        }
        io::Error::new(io::ErrorKind::InvalidData, why)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.message.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(message))) => this.message = message,
                // Pings are answered, and a close is, by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let why = "MQTT goes in binary messages, and a text came";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Unsupported, why)));
                }
                Some(Err(Error::Capacity(_))) => {
                    let why = "a message is larger than this broker takes";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Size, why)));
                }
                Some(Err(Error::Protocol(e))) if e != ProtocolError::ResetWithoutClosingHandshake => {
                    let why = "what came is not WebSocket";
                    return Poll::Ready(Err(this.end(cx, CloseCode::Protocol, why)));
                }
                Some(Err(e)) => return closed(e).map_or(Poll::Ready(Ok(())), |e| Poll::Ready(Err(e))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let size = this.message.len().min(buf.remaining());
        buf.put_slice(&this.message.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = Pin::new(&mut self.get_mut().inner);
        // Waits until the last message is on its way, so that one waits at most.
        ready!(inner.as_mut().poll_ready(cx)).map_err(broken)?;
        let size = buf.len().min(MOST_WRITTEN);
        inner.start_send(Message::Binary(Bytes::copy_from_slice(&buf[..size]))).map_err(broken)?;
        Poll::Ready(Ok(size))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closing = ready!(Pin::new(&mut self.get_mut().inner).poll_close(cx));
        Poll::Ready(closing.or_else(|e| closed(e).map_or(Ok(()), Err)))
    }
}

/// The error for a stream, but for the end that both sides have agreed on, and for the end of the connection below.
fn closed(error: Error) -> Option<io::Error> {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => None,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        error => Some(broken(error)),
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
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::upgrade;
    use super::*;

    const REQUEST: &str = "GET /any/path HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// Sends a request in pieces; what the server makes of it, and what it answers.
    async fn ask(request: &str, origins: &[&str]) -> (io::Result<WebSocket<DuplexStream>>, String, DuplexStream) {
        let (mut client, server) = duplex(4 * SMALLEST_BOUND);
        let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
        let accepting = tokio::spawn(async move { upgrade::accept(server, &origins, 1024).await });
        for piece in request.as_bytes().chunks(7) {
            client.write_all(piece).await.unwrap();
        }
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            client.read_to_end(&mut answer).await.unwrap();
        }
        (accepting.await.unwrap(), String::from_utf8(answer).unwrap(), client)
    }

    async fn connected() -> (WebSocket<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (server, _, client) = ask(&format!("{REQUEST}Sec-WebSocket-Protocol: mqtt\r\n\r\n"), &[]).await;
        (server.unwrap(), WebSocketStream::from_raw_socket(client, Role::Client, None).await)
    }

    fn binary(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }

    #[tokio::test]
    async fn the_subprotocol_has_to_be_offered() {
        for (offered, chosen) in [
            ("mqtt", "mqtt"),
            ("chat, mqttv3.1", "mqttv3.1"),
            ("mqttv3.1,mqtt", "mqtt"),
            ("x\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
        ] {
            let (accepted, answer, _client) =
                ask(&format!("{REQUEST}Sec-WebSocket-Protocol: {offered}\r\n\r\n"), &[]).await;
            assert!(accepted.is_ok(), "{offered}");
            assert!(answer.to_lowercase().contains(&format!("sec-websocket-protocol: {chosen}\r\n")), "{answer}");
        }
        for request in [format!("{REQUEST}\r\n"), format!("{REQUEST}Sec-WebSocket-Protocol: chat\r\n\r\n")] {
            let (accepted, answer, _client) = ask(&request, &[]).await;
            assert!(accepted.is_err() && answer.starts_with("HTTP/1.1 400 ") && answer.contains("`mqtt`"), "{answer}");
        }
    }

    #[tokio::test]
    async fn other_requests_are_told_what_is_here() {
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "426"),
            ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
            ("\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\r\n\r\n", "400"),
        ] {
            let (accepted, answer, _client) = ask(request, &[]).await;
            assert!(accepted.is_err() && answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
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
    async fn pages_from_elsewhere_are_refused_when_origins_are_listed() {
        for (origin, good) in [("Origin: https://plant\r\n", true), ("", true), ("Origin: https://evil\r\n", false)] {
            let request = format!("{REQUEST}{origin}Sec-WebSocket-Protocol: mqtt\r\n\r\n");
            let (accepted, answer, _client) = ask(&request, &["https://plant"]).await;
            assert_eq!(accepted.is_ok(), good, "{answer}");
            assert_eq!(answer.starts_with("HTTP/1.1 403 "), !good, "{answer}");
        }
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
    async fn a_close_is_answered_and_ends_the_stream() {
        let (mut server, mut client) = connected().await;
        client.close(None).await.unwrap();
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
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
}
