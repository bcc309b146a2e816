//! A process that a test started: what it says is kept and shown when the test fails, and it ends with the test.

use std::fs::OpenOptions;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Within this time a process does what it was asked to.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One process. It is killed on drop; what it wrote to stderr is then printed when the test has failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Stdout,
    log: NamedTempFile,
}

/// Lines, and when they came: read as they come, or a process that prints much would wait for the test.
type Stdout = mpsc::UnboundedReceiver<(Instant, String)>;

impl Process {
    /// Starts it. Its stdout is read with [`Process::line`], its stderr with [`Process::log`].
    pub fn start(name: &str, command: &mut Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        let (child, stdout) = spawn(name, command, &log);
        Self { name: name.to_owned(), child, stdout, log }
    }

    /// Starts it anew once it has ended; its log goes on.
    pub fn start_again(&mut self, command: &mut Command) {
        assert!(self.has_ended(), "{} still runs", self.name);
        (self.child, self.stdout) = spawn(&self.name, command, &self.log);
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        self.try_line(PATIENCE).await.unwrap_or_else(|| panic!("{} printed no line\n{}", self.name, self.log()))
    }

    /// The next line that it prints, if one comes before `patience` is over.
    pub async fn try_line(&mut self, patience: Duration) -> Option<String> {
        self.timed_line(patience).await.map(|(_, line)| line)
    }

    /// The next line that it prints, and when it came.
    pub async fn timed_line(&mut self, patience: Duration) -> Option<(Instant, String)> {
        timeout(patience, self.stdout.recv()).await.ok()?
    }

    /// What it has written to stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap_or_default()).into_owned()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} does not end\n{}", self.name, self.log()),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it (SIGKILL): it gets no chance to save anything.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Stops it in its tracks (SIGSTOP): its connections stay open, and nothing comes from it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Its process id; none once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        // It has an id until its end was seen, and until then the system gives the id to nobody else.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.name));
        }
    }
}

fn spawn(name: &str, command: &mut Command, log: &NamedTempFile) -> (Child, Stdout) {
    let stderr = OpenOptions::new().append(true).open(log.path()).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).kill_on_drop(true).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("cannot start {name}: {e}; ./tests/run installs what is missing"));
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let (came, stdout) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if came.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    (child, stdout)
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}---", self.name, self.log());
        }
        let _ = self.child.start_kill();
    }
}
