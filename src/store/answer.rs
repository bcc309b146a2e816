//! Whether the disk answers: a sync that hangs would stop the store's thread without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::status::{self, State};

/// What the store reports while the disk owes an answer for too long.
pub(super) const SILENT: &str = "the disk does not answer";

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Since when the disk has owed an answer. A thread of its own looks at it for as long as this lives.
#[derive(Debug)]
pub(super) struct Answer {
    start: Instant,
    /// Milliseconds from `start`, plus 1; 0 when nothing is owed.
    since: Arc<AtomicU64>,
    _ends: Sender<()>,
}

/// One thing asked of the disk; ends with the answer.
pub(super) struct Owed(Arc<AtomicU64>);

impl Answer {
    /// Begins to look: when the disk owes an answer for `patience`, `reporter` says so.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn new(reporter: watch::Sender<status::Store>, patience: Duration) -> std::io::Result<Self> {
        let (start, since) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let (ends, end) = channel::<()>();
        let owed = since.clone();
        let silent = move || match owed.load(Ordering::SeqCst) {
            0 => false,
            since => start.elapsed().saturating_sub(Duration::from_millis(since - 1)) >= patience,
        };
        std::thread::Builder::new().name("store-answer".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK.min(patience)) {
                let told = reporter.send_if_modified(|status| {
                    // Looked at in here: whoever takes this report back does so after the answer.
                    let tell = status.state == State::Up && silent();
                    if tell {
                        status.state = State::Down(SILENT.into());
                    }
                    tell
                });
                if told {
                    tracing::error!("the store: {SILENT}; nothing is acknowledged until it does");
                }
            }
        })?;
        Ok(Self { start, since, _ends: ends })
    }

    /// The disk is asked for something now.
    pub(super) fn owed(&self) -> Owed {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(millis.saturating_add(1), Ordering::SeqCst);
        Owed(self.since.clone())
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}
