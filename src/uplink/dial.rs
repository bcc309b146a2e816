//! The way to an address of the cloud: the name is looked up, TCP connected, a proxy asked, TLS and WebSocket put on top.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::Address;
use super::login::MAX_PACKET;
use super::traffic::{Counted, Traffic};
use super::{Config, tls, websocket};

/// When one of several addresses has not answered for so long, the next is tried beside it (RFC 8305, 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Bytes both ways, however they travel.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects to `address`; each step may take `connect-timeout`. With the stream comes what moves on the wire below it.
///
/// # Errors
/// When that fails; the text is for the person who has to mend it.
pub(super) async fn dial(address: &Address, config: &Config) -> Result<(Box<dyn Stream>, Traffic), String> {
    let step = config.connect_timeout.0;
    let tcp = match &config.proxy {
        None => reach((&address.host, address.port), config).await?,
        Some(proxy) => {
            let at_proxy = |e| format!("the proxy {proxy}: {e}");
            let mut tcp = reach((&proxy.host, proxy.port), config).await.map_err(at_proxy)?;
            let asked = timeout(step, proxy.tunnel(&mut tcp, address)).await;
            asked.map_err(|_| format!("the proxy {proxy} does not answer"))??;
            tcp
        }
    };
    let tcp = Counted::new(tcp);
    let traffic = tcp.traffic();
    let mut stream: Box<dyn Stream> = Box::new(tcp);
    if address.tls {
        let wrapped = timeout(step, tls::wrap(stream, &address.host, config)).await;
        stream = Box::new(wrapped.map_err(|_| format!("TLS: {address} does not answer"))??);
    }
    if address.path.is_some() {
        let upgraded = timeout(step, websocket::upgrade(stream, address, MAX_PACKET as usize)).await;
        stream = Box::new(upgraded.map_err(|_| format!("WebSocket: {address} does not answer"))??);
    }
    Ok((stream, traffic))
}

/// A connection to one of the addresses that this name has.
async fn reach((host, port): (&str, u16), config: &Config) -> Result<TcpStream, String> {
    let step = config.connect_timeout.0;
    let found = timeout(step, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| format!("cannot find {host}: the name server does not answer"))?;
    let found: Vec<_> = found.map_err(|e| format!("cannot find {host}: {e}"))?.collect();
    if found.is_empty() {
        return Err(format!("{host} has no address"));
    }
    let (stream, socket) = first_of(found, step, TcpStream::connect::<SocketAddr>).await?;
    let patience = config.keep_alive.0.mul_f64(1.5).max(config.stuck.0);
    tune(&stream, config.keep_alive.0, patience)
        .map_err(|e| format!("cannot set up the connection to {socket}: {e}"))?;
    Ok(stream)
}

/// The first connection that comes about; the addresses begin one after the other, and none waits for one that says
/// nothing.
async fn first_of<T, F>(
    sockets: Vec<SocketAddr>,
    patience: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), String>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut sockets = sockets.into_iter();
    let mut trying = JoinSet::new();
    let mut why = String::new();
    loop {
        if let Some(socket) = sockets.next() {
            let connecting = timeout(patience, connect(socket));
            trying.spawn(async move { (socket, connecting.await) });
        }
        // With the last one under way there is nothing to do but to wait.
        let wait = if sockets.len() > 0 { NEXT_AFTER } else { Duration::MAX };
        let tried = match timeout(wait, trying.join_next()).await {
            Err(_) => continue,
            Ok(None) => return Err(why),
            Ok(Some(tried)) => tried.map_err(|e| e.to_string())?,
        };
        why = match tried {
            (socket, Ok(Ok(stream))) => return Ok((stream, socket)),
            (socket, Ok(Err(e))) => format!("cannot connect to {socket}: {e}"),
            (socket, Err(_)) => format!("cannot connect to {socket}: no answer"),
        };
    }
}

/// Sends at once, and lets the kernel notice a dead peer about when we would: one that confirms no byte. A slow one
/// confirms now and then.
fn tune(stream: &TcpStream, keep_alive: Duration, patience: Duration) -> io::Result<()> {
    use rustix::net::sockopt;
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    // The kernel takes at most 32767 s between probes.
    sockopt::set_tcp_keepidle(stream, keep_alive.min(Duration::from_secs(32_000)))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// Port 1 refuses, 2 says nothing, 3 takes 100 ms, 4 takes 1 s.
    async fn connect(to: SocketAddr) -> io::Result<u16> {
        match to.port() {
            1 => return Err(io::ErrorKind::ConnectionRefused.into()),
            2 => std::future::pending().await,
            3 => sleep(Duration::from_millis(100)).await,
            _ => sleep(Duration::from_secs(1)).await,
        }
        Ok(to.port())
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_are_tried_and_one_that_says_nothing_holds_up_no_other() {
        for (ports, result, millis) in [
            (&[1, 3][..], Some(3), 100),
            (&[2, 3], Some(3), 350),
            (&[1, 2, 1, 4], Some(4), 1250),
            (&[4, 3], Some(3), 350),
            (&[1, 1], None, 0),
            (&[2, 1], None, 10_000),
        ] {
            let start = Instant::now();
            let tried = first_of(ports.iter().map(|port| at(*port)).collect(), STEP, connect).await;
            assert_eq!(tried.as_ref().ok().map(|(port, _)| *port), result, "{ports:?}");
            assert_eq!(start.elapsed().as_millis(), millis, "{ports:?}");
            if let Err(why) = tried {
                assert!(why.starts_with("cannot connect to 127.0.0.1:"), "{why}");
            }
        }
    }
}
