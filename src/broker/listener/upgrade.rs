//! The HTTP request that becomes a WebSocket (RFC 6455, 4.2), with an answer that says why when it does not.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;

use super::websocket::{Bound, WebSocket};

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
    Ok(WebSocket::new(stream, head.split_off(size), bound))
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
