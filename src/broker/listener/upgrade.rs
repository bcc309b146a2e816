//! The HTTP request that becomes a WebSocket (RFC 6455, 4.2), with an answer that says why when it does not.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;

use crate::websocket::{Bound, WebSocket};

/// A request of a browser with all its cookies is smaller.
const MOST_HEAD: usize = 16 * 1024;

/// The subprotocols of MQTT (MQTT 5.0, 6), the better one first; `mqttv3.1` is what clients of 3.1 ask for.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Reads the request and makes the stream a WebSocket. `origins` are the pages that may connect, all when empty; what
/// is no browser has none and may always. `bound` is for what a client sends in one message.
///
/// # Errors
/// When the request asks for something else; the client has got an answer then.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    origins: &[String],
    bound: Bound,
) -> io::Result<WebSocket<S>> {
    let mut head = Vec::with_capacity(1024);
    let (size, request) = loop {
        match Request::try_parse(&head) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if head.len() < MOST_HEAD => {}
            Ok(None) => return refuse(stream, "431 Request Header Fields Too Large", "the request is too long").await,
            Err(_) => return refuse(stream, "400 Bad Request", "this is no GET of HTTP").await,
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut response = match create_response(&request) {
        Ok(response) => response,
        Err(_) => {
            let why = "here is MQTT over WebSocket: connect an MQTT client to this address with ws:// or wss://";
            return refuse(stream, "426 Upgrade Required", why).await;
        }
    };
    let texts = |name: &'static str| request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
    if !origins.is_empty() && texts("Origin").any(|origin| !origins.iter().any(|o| o.eq_ignore_ascii_case(origin))) {
        let why = "pages from there may not connect: see `origins` of this listener";
        return refuse(stream, "403 Forbidden", why).await;
    }
    let offered: Vec<_> = texts("Sec-WebSocket-Protocol").flat_map(|list| list.split(',')).map(str::trim).collect();
    let Some(subprotocol) = SUBPROTOCOLS.into_iter().find(|known| offered.contains(known)) else {
        let why = "the client has to offer the WebSocket subprotocol `mqtt` (MQTT 5.0, 6)";
        return refuse(stream, "400 Bad Request", why).await;
    };
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(subprotocol));
    let mut answer = Vec::with_capacity(256);
    write_response(&mut answer, &response).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok(WebSocket::server(stream, head.split_off(size), bound))
}

async fn refuse<S: AsyncWrite + Unpin, T>(mut stream: S, status: &str, why: &str) -> io::Result<T> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{why}\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const REQUEST: &str = "GET /any/path HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    /// Sends a request in pieces; what the server makes of it, and what it answers.
    async fn ask(request: &str, origins: &[&str]) -> (io::Result<WebSocket<DuplexStream>>, String, DuplexStream) {
        let (mut client, server) = duplex(64 * 1024);
        let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
        let accepting = tokio::spawn(async move { accept(server, &origins, Box::new(|| 1024)).await });
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
    async fn pages_from_elsewhere_are_refused_when_origins_are_listed() {
        for (origin, good) in [("Origin: https://plant\r\n", true), ("", true), ("Origin: https://evil\r\n", false)] {
            let request = format!("{REQUEST}{origin}Sec-WebSocket-Protocol: mqtt\r\n\r\n");
            let (accepted, answer, _client) = ask(&request, &["https://plant"]).await;
            assert_eq!(accepted.is_ok(), good, "{answer}");
            assert_eq!(answer.starts_with("HTTP/1.1 403 "), !good, "{answer}");
        }
    }
}
