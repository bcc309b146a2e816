//! At the doors, on every kind of listener: halves of handshakes, silence, single bytes, resets, and frames that are none.

use std::time::Duration;

use fieldpost::message::QoS;
use fieldpost::mqtt::{Packet, Version};
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::super::raw::{self, Steady};
use super::super::ways::{UPGRADE, WAYS, Way, Ways, frame, read_packets};
use crate::support::process::PATIENCE;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

#[tokio::test]
async fn packets_byte_by_byte_are_packets() {
    let ways = Ways::start("").await;
    for (version, way) in VERSIONS.into_iter().flat_map(|v| WAYS.map(|way| (v, way))) {
        let publish = Packet::Publish(raw::publish(1, QoS::AtLeastOnce, "bytes", "x"));
        let connect = Packet::Connect(Box::new(raw::connect(version, "bytes", 0)));
        let packets = raw::bytes(version, &[connect, publish, Packet::PingReq]).await;
        let (first, rest) = packets.split_at(1);
        let (second, last) = rest.split_at(rest.len() - 1);
        let pieces: &[(&str, Vec<u8>)] = if way.websocket {
            &[
                ("a message for each byte", packets.iter().flat_map(|byte| frame(0x82, true, &[*byte])).collect()),
                ("one message", frame(0x82, true, &packets)),
                (
                    "fragments with a ping between",
                    [frame(2, true, first), frame(0x89, true, b"?"), frame(0, true, second), frame(0x80, true, last)]
                        .concat(),
                ),
                (
                    "empty messages",
                    [frame(0x82, true, b""), frame(0x82, true, &packets), frame(0x82, true, b"")].concat(),
                ),
            ]
        } else {
            &[("as it is", packets)]
        };
        for (what, bytes) in pieces {
            let mut stream = ways.open(way).await;
            for byte in bytes {
                stream.write_all(&[*byte]).await.unwrap();
                stream.flush().await.unwrap();
            }
            let answer: Vec<_> = read_packets(&mut stream, way, 3).await.iter().map(|packet| packet[0]).collect();
            assert_eq!(answer, [0x20, 0x40, 0xd0], "{version:?} {way:?} {what}");
        }
    }
}

#[tokio::test]
async fn halves_of_handshakes_hold_nobody_up_and_are_closed() {
    // Fewer places than the halves of any one kind.
    let ways = Ways::start("max-waiting = 12\nconnect-timeout = \"2s\"\n").await;
    let mut steady = Steady::start(&ways.gateway).await;
    let hello = ways.client_hello();
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01";
    let (mut halves, mut behind) = (Vec::new(), Vec::new());
    for way in WAYS {
        let whole = match way {
            Way { tls: true, .. } => &hello[..],
            Way { websocket: true, .. } => &UPGRADE.as_bytes()[..UPGRADE.len() - 1],
            _ => &connect[..],
        };
        for n in 0..20 {
            let mut stream = ways.socket(way).await;
            // Nothing, something, and all but the last byte.
            let part = &whole[..(whole.len() - 1) * n / 19];
            // One that came long ago may be closed already.
            let _ = stream.write_all(part).await;
            halves.push(stream);
        }
        // Behind the handshakes: a CONNECT that does not end.
        for n in 0..connect.len() {
            let mut stream = ways.open(way).await;
            let part = if way.websocket { frame(0x82, true, &connect[..n]) } else { connect[..n].to_vec() };
            stream.write_all(&part).await.unwrap();
            stream.flush().await.unwrap();
            behind.push(stream);
        }
        for way in WAYS {
            ways.works(way).await;
        }
        steady.goes_on().await;
    }
    for mut stream in halves {
        let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a half is still open");
    }
    for mut stream in behind {
        let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a half of a CONNECT is still open");
    }
    steady.goes_on().await;
}

#[tokio::test]
async fn slow_headers_do_not_get_more_time() {
    let ways = Ways::start("connect-timeout = \"1s\"\n").await;
    let mut dripping = Vec::new();
    for (n, way) in WAYS.into_iter().enumerate() {
        let bytes = match n {
            0 => [&b"\x10\xff\x01\x00\x04MQTT\x04\x02\x00\x00\x00\xf0"[..], &[b'a'; 200]].concat(),
            2 => format!("{}X: {}\r\n\r\n", UPGRADE.trim_end_matches("\r\n"), "a".repeat(200)).into_bytes(),
            _ => ways.client_hello(),
        };
        let mut stream = ways.socket(way).await;
        dripping.push(tokio::spawn(async move {
            let start = Instant::now();
            for byte in bytes {
                let mut answer = [0; 64];
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(50), stream.read(&mut answer)).await {
                    break;
                }
            }
            start.elapsed()
        }));
    }
    for (one, way) in dripping.into_iter().zip(WAYS) {
        let lasted = one.await.unwrap();
        // A WebSocket has two handshakes: HTTP, then CONNECT, which never comes.
        assert!(lasted < Duration::from_secs(4), "{way:?} was open for {lasted:?}");
    }
}

#[tokio::test]
async fn ten_thousand_connects_and_resets() {
    let ways = Ways::start("").await;
    let mut steady = Steady::start(&ways.gateway).await;
    let files = || std::fs::read_dir(format!("/proc/{}/fd", ways.gateway.pid().unwrap())).unwrap().count();
    ways.works(WAYS[0]).await;
    let before = files();
    let hello = ways.client_hello();
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01r";
    let strands: Vec<_> = (0..8)
        .map(|strand| {
            let (ports, hello) = (ways.ports, hello.clone());
            tokio::spawn(async move {
                for n in 0..1250 {
                    let mut stream = TcpStream::connect(("127.0.0.1", ports[(strand + n) % 4])).await.unwrap();
                    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    let bytes = [b"", &connect[..], UPGRADE.as_bytes(), &hello][n / 4 % 4];
                    let _ = stream.write_all(bytes).await;
                }
            })
        })
        .collect();
    for strand in strands {
        strand.await.unwrap();
        steady.goes_on().await;
    }
    for way in WAYS {
        ways.works(way).await;
    }
    let end = Instant::now() + PATIENCE;
    while files() > before + 4 {
        assert!(Instant::now() < end, "{} files are open, before there were {before}", files());
        sleep(Duration::from_millis(50)).await;
    }
    // Only the steady one is left of all.
    ways.gateway.until("nobody is left", |all| all["status"]["broker"]["clients"] == 1).await;
    assert!(!ways.gateway.log().contains("panicked"), "{}", ways.gateway.log());
}

#[tokio::test]
async fn frames_that_a_websocket_does_not_have_are_cut_off() {
    let ways = Ways::start("").await;
    let mut steady = Steady::start(&ways.gateway).await;
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01w";
    let connected = frame(0x82, true, connect);
    let bad: [(&str, Vec<u8>); 12] = [
        ("text", frame(0x81, true, b"hello")),
        ("no mask", frame(0x82, false, b"\xc0\0")),
        ("a reserved opcode", frame(0x83, true, b"x")),
        ("a reserved bit", frame(0xc2, true, b"x")),
        ("a ping in fragments", frame(0x09, true, b"x")),
        ("a ping of more than 125 bytes", frame(0x89, true, &[0; 126])),
        ("a continuation of nothing", frame(0x80, true, b"x")),
        ("a message within a message", [frame(2, true, b"\xc0"), frame(2, true, b"\0")].concat()),
        ("a frame of exbibytes", b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()),
        ("a frame larger than any packet", b"\x82\xff\0\0\0\0\x10\0\0\0\0\0\0\0".to_vec()),
        ("a close without a mask", frame(0x88, false, b"\x03\xe8")),
        ("no frame, but MQTT", b"\xc0\0\xc0\0".to_vec()),
    ];
    for way in [WAYS[2], WAYS[3]] {
        for (what, bytes) in &bad {
            for before in [&b""[..], &connected] {
                let mut stream = ways.open(way).await;
                stream.write_all(&[before, bytes].concat()).await.unwrap();
                stream.flush().await.unwrap();
                let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
                assert!(closed.is_ok(), "{way:?}: {what} is let be");
            }
            steady.goes_on().await;
        }
        // A close is answered by a close, in the middle of a packet too.
        let mut stream = ways.open(way).await;
        stream.write_all(&[frame(0x82, true, &connect[..7]), frame(0x88, true, b"\x03\xe8")].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
        assert_eq!(answer, b"\x88\x02\x03\xe8", "{way:?}");
    }
    assert!(!ways.gateway.log().contains("panicked"), "{}", ways.gateway.log());
}

#[tokio::test]
async fn a_flood_of_pings_of_a_websocket_costs_nobody_anything() {
    let ways = Ways::start("").await;
    let mut steady = Steady::start(&ways.gateway).await;
    let before = super::resident(&ways.gateway);
    let mut flooding = Vec::new();
    for way in [WAYS[2], WAYS[3]] {
        // One that reads none of the answers, and one that has not even said CONNECT.
        for first in [frame(0x82, true, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p"), Vec::new()] {
            let mut stream = ways.open(way).await;
            flooding.push(tokio::spawn(async move {
                let pings = frame(0x89, true, &[7; 125]).repeat(1000);
                let flood = async {
                    stream.write_all(&first).await?;
                    for _ in 0..1000 {
                        stream.write_all(&pings).await?;
                    }
                    std::io::Result::Ok(())
                };
                // The broker stops reading, or closes.
                let _ = timeout(Duration::from_secs(3), flood).await;
                stream
            }));
        }
    }
    steady.goes_on().await;
    let mut open = Vec::new();
    for one in flooding {
        open.push(one.await.unwrap());
        steady.goes_on().await;
    }
    let grown = super::resident(&ways.gateway).saturating_sub(before) >> 20;
    assert!(grown < 20, "{grown} MiB more");
    for way in WAYS {
        ways.works(way).await;
    }
}
