//! The HTTP request by which a connection to the cloud becomes a WebSocket (RFC 6455, 4.1).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http::StatusCode;

use super::address::Address;
use super::remote::shown;
use crate::websocket::WebSocket;

/// The head of an answer is smaller.
const MOST_HEAD: usize = 16 * 1024;

/// Makes a WebSocket of a connection to `address`; messages above `most` bytes are refused.
///
/// # Errors
/// When the cloud does not want that; the text says what it answered.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    address: &Address,
    most: usize,
) -> Result<WebSocket<S>, String> {
    let lost = |e: io::Error| format!("WebSocket: {address} closed the connection: {e}");
    let key = generate_key();
    let path = address.path.as_deref().unwrap_or("/");
    let authority = match (address.tls, address.port) {
        // As browsers do, and as signatures expect it.
        (false, 80) | (true, 443) => address.authority().rsplit_once(':').map_or("", |(host, _)| host).to_owned(),
        _ => address.authority(),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;

    let mut head = Vec::with_capacity(512);
    let (size, response) = loop {
        match Response::try_parse(&head) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if head.len() < MOST_HEAD => {}
            _ => return Err(format!("WebSocket: {address} does not answer as a web server does")),
        }
        if stream.read_buf(&mut head).await.map_err(lost)? == 0 {
            return Err(format!("WebSocket: {address} closed the connection without an answer"));
        }
    };
    check(&response, &key, address)?;
    Ok(WebSocket::client(stream, head.split_off(size), Box::new(move || most)))
}

/// Whether the answer is that of a WebSocket, to this very request, that carries MQTT.
fn check(response: &Response, key: &str, address: &Address) -> Result<(), String> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let advice = match status.as_u16() {
            401 | 403 => ": it wants to know first who asks".to_owned(),
            404 => ": look up the path in the cloud's manual; it is often /mqtt".to_owned(),
            300..=399 => format!(": it refers to {}", shown(text("Location"))),
            _ => String::new(),
        };
        return Err(format!("WebSocket: {address} answers {status}{advice}"));
    }
    if text("Sec-WebSocket-Accept") != derive_accept_key(key.as_bytes()) {
        return Err(format!("WebSocket: {address} answers another request than ours; is there a proxy between?"));
    }
    // A server that names none is one that has only one.
    if !matches!(text("Sec-WebSocket-Protocol"), "" | "mqtt") {
        return Err(format!("WebSocket: {address} does not carry MQTT there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// Answers a request, and sends `more` behind it; `ACCEPT` stands for the key that belongs into the answer.
    async fn ask(
        url: &str,
        answer: &str,
        more: &'static [u8],
    ) -> (Result<WebSocket<DuplexStream>, String>, String, DuplexStream) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let answer = answer.to_owned();
        let server = tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                theirs.read_buf(&mut request).await.expect("a request");
            }
            let request = String::from_utf8(request).expect("text");
            let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.split('\r').next());
            let accept = derive_accept_key(key.expect("a key").as_bytes());
            theirs.write_all(&[answer.replace("ACCEPT", &accept).as_bytes(), more].concat()).await.expect("room");
            (request, theirs)
        });
        let upgraded = upgrade(ours, &url.parse().expect("an address"), 1024).await;
        let (request, theirs) = server.await.expect("it ends");
        (upgraded, request, theirs)
    }

    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    #[tokio::test]
    async fn asks_for_the_path_and_goes_on_with_what_came_behind_the_answer() {
        let (stream, request, _server) = ask("ws://a:9001/x?y=1", GOOD, b"\x82\x01z").await;
        assert!(request.starts_with("GET /x?y=1 HTTP/1.1\r\nHost: a:9001\r\n"), "{request}");
        assert_eq!(stream.expect("it is one").read_u8().await.expect("it came"), b'z');
        let (_, request, _server) = ask("wss://a", GOOD, b"").await;
        assert!(request.starts_with("GET /mqtt HTTP/1.1\r\nHost: a\r\n"), "{request}");
    }

    #[tokio::test]
    async fn other_answers_are_explained() {
        let wrong_key = GOOD.replace("ACCEPT", "bm90IGl0");
        let wrong_protocol = GOOD.replace("mqtt", "chat");
        for (answer, part) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found: look up the path"),
            ("HTTP/1.1 302 Found\r\nLocation: https://b/\r\n\r\n", "refers to https://b/"),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", "200 OK"),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "who asks"),
            (&wrong_key, "another request"),
            (&wrong_protocol, "does not carry MQTT"),
            ("\u{10}\u{2}nonsense\r\n\r\n", "as a web server does"),
        ] {
            let (stream, ..) = ask("ws://a?geheim", answer, b"").await;
            let error = stream.err().expect(answer);
            assert!(error.contains(part) && !error.contains("geheim"), "{error}");
        }
    }
}
