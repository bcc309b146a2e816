//! The socket in a running gateway: few connections, short lines, and nobody waits for one that says nothing.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Answer, MAX_LINE, Request};
use crate::broker::Broker;

/// Connections served at the same time; others wait.
const CONNECTIONS: usize = 4;
/// Connections that the kernel lets wait.
const BACKLOG: i32 = 16;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How long it may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listening socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When somebody listens there, or it cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway listens on it")),
            // A file of another kind refuses as well, and stays: binding tells.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The file is made with the socket's own mode: there is no moment in which others may connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        let listener = UnixListener::from_std(net::UnixListener::from(socket))?;
        Ok(Self { listener, path: path.into() })
    }

    /// Answers requests until `stop`.
    pub async fn run(self, broker: Broker, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = room.clone().acquire_owned() => permit.expect("nobody closes it"),
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let broker = broker.clone();
                    connections.spawn(async move {
                        // Whoever leaves in the middle of it has given up.
                        let _ = serve(stream, &broker).await;
                        drop(permit);
                    });
                }
                Err(e) => {
                    tracing::warn!("the control socket: {e}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// Answers one request after the other.
async fn serve(stream: UnixStream, broker: &Broker) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = match timeout(IDLE, line(&mut reader)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(e)) => {
                let _ = answer(&mut writer, &Answer::wrong(&e)).await;
                return Err(e);
            }
        };
        let done = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => request.carry_out(broker).await,
            Err(e) => Answer::wrong(format!("this is no request: {e}")),
        };
        answer(&mut writer, &done).await?;
    }
}

/// The next line, without its end; none at the end.
async fn line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= MAX_LINE => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("a request has {MAX_LINE} bytes at most")))
        }
        // Cut off: whoever wrote it is gone, and half a request is none.
        Some(_) => Ok(None),
    }
}

async fn answer(writer: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).expect("text and numbers are JSON");
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::broker::access::Access;
    use crate::control::{Client, WriteOut};
    use crate::status::Pulse;
    use crate::store::{self, Store};

    fn broker() -> Broker {
        let in_memory = store::Config { path: ":memory:".into(), ..store::Config::default() };
        let store = Store::open(&in_memory).unwrap();
        let config = crate::broker::Config::default();
        let access = Arc::<Access>::default();
        let (broker, _, task) = Broker::start(&config, in_memory.commit.0, access, store, Vec::new(), Pulse::new());
        tokio::spawn(task);
        broker
    }

    /// What comes back for these bytes, until the end.
    async fn said(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // It may be closed before all of it is read.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn whatever_comes_is_answered_and_the_next_one_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let running = tokio::spawn(socket.run(broker(), CancellationToken::new()));
        for (bytes, wanted) in [
            (&b""[..], ""),
            (b"{\"write-out\":{}}", ""),
            (b"\n", "this is no request"),
            (b"\0\xff\n{\"write-out\":{}}\n", "this is no request"),
            (b"{\"write-out\":{\"x\":1}}\n", "unknown field `x`"),
            (b"{\"shut-down\":{}}\n", "unknown variant `shut-down`"),
            (b"{\"purge\":{\"queue\":\"x\",\"until\":-1}}\n", "this is no request"),
            (b"{\"purge\":{\"queue\":\"x\",\"until\":1}}\n", "there is no queue `x`, nor any other"),
            (b"{\"put\":{\"queue\":\"x\",\"messages\":[{\"topic\":\"#\",\"payload\":\"\"}]}}\n", "`topic`"),
            (b"{\"forget-aside\":{\"numbers\":[7,8]}}\n", "{\"done\":2}"),
            (b"{\"clear\":{\"filter\":\"a#\"}}\n", "no filter"),
            (b"{\"publish\":{\"messages\":[{\"topic\":\"a\",\"payload\":\"1\"}]}}\n", "{\"done\":1}"),
            (b"{\"write-out\":{}}\n{\"write-out\":{}}\n", "{\"done\":0}\n{\"done\":0}\n"),
        ] {
            let answer = said(&path, bytes).await;
            assert!(answer.contains(wanted) && answer.is_empty() == wanted.is_empty(), "{bytes:?}: {answer}");
        }
        let answer = said(&path, &vec![b'['; MAX_LINE + 2]).await;
        assert!(answer.is_empty() || answer.contains("bytes at most"), "{answer}");
        // Deeply nested, as far as a line goes.
        assert!(said(&path, &[&vec![b'['; 1 << 20][..], b"\n"].concat()).await.contains("no request"));
        assert_eq!(said(&path, b"{\"write-out\":{}}\n").await, "{\"done\":0}\n");
        assert!(!running.is_finished());
    }

    #[tokio::test]
    async fn silent_connections_make_others_wait_and_do_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        tokio::spawn(Socket::bind(&path).unwrap().run(broker(), CancellationToken::new()));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let asked = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Client::connect(&path).unwrap().ask(&Request::WriteOut(WriteOut {})).unwrap()
        });
        drop(silent.pop());
        assert_eq!(asked.await.unwrap(), Answer::Done(0));
    }

    #[tokio::test]
    async fn a_file_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        // As after a kill: nobody removes the file.
        drop(net::UnixListener::bind(folder.path().join("stale")).unwrap());
        assert!(folder.path().join("stale").exists());
        drop(Socket::bind(&folder.path().join("stale")).unwrap());
        assert!(!folder.path().join("stale").exists());
        std::fs::write(folder.path().join("file"), "not a socket").unwrap();
        assert!(Socket::bind(&folder.path().join("file")).is_err());
        assert!(folder.path().join("file").exists());
    }
}
