//! A serial line between two programs: two pseudoterminals joined at the back.

use std::path::Path;

use fieldpost::simulator::Pty;
use tokio::task::JoinHandle;

/// The line, as long as it lives. Dropping it unplugs both ends.
#[derive(Debug)]
pub struct Line {
    ports: [std::path::PathBuf; 2],
    relay: JoinHandle<()>,
}

impl Line {
    /// Makes one.
    pub fn open() -> Self {
        let (mut device, mut client) = (Pty::open().unwrap(), Pty::open().unwrap());
        let ports = [device.path().to_owned(), client.path().to_owned()];
        let relay = tokio::spawn(async move {
            tokio::io::copy_bidirectional(&mut device, &mut client).await.unwrap();
        });
        Self { ports, relay }
    }

    /// The port that the device opens.
    pub fn device_port(&self) -> &Path {
        &self.ports[0]
    }

    /// The port that the client opens.
    pub fn client_port(&self) -> &Path {
        &self.ports[1]
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.relay.abort();
    }
}
