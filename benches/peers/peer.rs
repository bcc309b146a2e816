//! A broker under test: a process of its own on a port that the system gave, and what the kernel says of it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a broker may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fieldpost,
    Mosquitto,
}

/// Where the programs are, and on which cores they run.
#[derive(Clone, Debug)]
pub struct Programs {
    pub fieldpost: PathBuf,
    pub mosquitto: PathBuf,
    /// The broker on the first core, the load on the second.
    pub pinned: bool,
}

/// How a broker is to run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Fieldpost's commit window.
    pub commit: Duration,
    /// Whether Mosquitto keeps sessions in its file; Fieldpost always keeps them in its store.
    pub persistence: bool,
    /// Where it passes on what it gets, if anywhere.
    pub uplink: Option<Uplink>,
}

/// A cloud that everything on `bench/#` goes up to.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// On this machine.
    pub port: u16,
    /// Messages in flight.
    pub window: u16,
}

impl Setting {
    /// Nothing has to be kept.
    pub const PLAIN: Self = Self { commit: Duration::from_millis(250), persistence: false, uplink: None };
}

/// A running broker. Its end is the end of the process.
pub struct Peer {
    process: Child,
    folder: PathBuf,
    pub address: SocketAddr,
}

impl Peer {
    pub fn start(kind: Kind, programs: &Programs, setting: Setting) -> io::Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{kind:?}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        match kind {
            Kind::Fieldpost => fieldpost(folder, programs, setting),
            Kind::Mosquitto => mosquitto(folder, programs, setting),
        }
    }

    /// The CPU time of all its threads: `utime` and `stime` (proc(5)), in steps of 10 ms.
    pub fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name in brackets may hold blanks; behind it `utime` is the 12th field.
        let fields: Vec<u64> = (stat.rsplit(')').next().unwrap_or_default().split_whitespace())
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks = fields.get(11).zip(fields.get(12)).map(|(user, system)| user + system);
        let ticks = ticks.ok_or_else(|| io::Error::other("/proc/PID/stat is shorter than it should be"))?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The bytes that it has had written to the disk: `write_bytes` (proc(5)).
    pub fn written(&self) -> io::Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.process.id()))?;
        let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        bytes.ok_or_else(|| io::Error::other("no write_bytes in /proc/PID/io"))
    }

    /// The memory that it has now, in bytes: `VmRSS`.
    pub fn rss(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| io::Error::other("no VmRSS in /proc/PID/status"))? * 1024)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn fieldpost(folder: PathBuf, programs: &Programs, setting: Setting) -> io::Result<Peer> {
    let config = folder.join("fieldpost.toml");
    let (store, commit) = (folder.join("store.db"), setting.commit.as_millis());
    let uplink = setting.uplink.map_or(String::new(), |Uplink { port, window }| {
        format!("[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\npublish = [\"bench/#\"]\nwindow = {window}\n")
    });
    fs::write(
        &config,
        format!(
            "[gateway]\nid = \"bench\"\n\
             [broker]\nlisten = \"127.0.0.1:0\"\nmax-clients = 5000\nmax-inflight = 100\nmax-retained = 200000\n\
             [store]\npath = {store:?}\ncommit = \"{commit}ms\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n{uplink}"
        ),
    )?;
    let mut process = command(&programs.fieldpost, programs.pinned)
        .arg("run")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{} does not start: {e}", programs.fieldpost.display())))?;
    let log = process.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
    let mut peer = Peer { process, folder, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // That a cloud is away for now is as it should be.
            if line.contains("uplink cloud") {
                continue;
            }
            // Once nobody listens it is shown: a broker that complains is not measured in silence.
            if let Err(mpsc::SendError(line)) = say.send(line) {
                eprintln!("fieldpost: {line}");
            }
        }
    });
    let mut so_far = String::new();
    while let Ok(line) = said.recv_timeout(PATIENCE) {
        if let Some((_, rest)) = line.split_once("clients at mqtt://") {
            let address = rest.split([',', ';', ' ']).next().unwrap_or_default();
            peer.address = address.parse().map_err(|e| io::Error::other(format!("{address}: {e}")))?;
            return Ok(peer);
        }
        so_far += &line;
        so_far.push('\n');
    }
    Err(io::Error::other(format!("Fieldpost does not say where it listens: {so_far}")))
}

fn mosquitto(folder: PathBuf, programs: &Programs, setting: Setting) -> io::Result<Peer> {
    // It cannot be asked which port it got: this one was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = folder.join("mosquitto.conf");
    let persistence = if setting.persistence {
        format!("persistence true\npersistence_location {}/\n", folder.display())
    } else {
        "persistence false\n".to_owned()
    };
    let uplink = setting.uplink.map_or(String::new(), |Uplink { port, window }| {
        format!(
            "connection cloud\naddress 127.0.0.1:{port}\ntopic bench/# out 1\ncleansession false\nnotifications false\n\
             restart_timeout 1\nmax_inflight_messages {window}\nmax_queued_messages 0\nbridge_attempt_unsubscribe false\n"
        )
    });
    let inflight = setting.uplink.map_or(100, |uplink| uplink.window);
    fs::write(
        &config,
        format!(
            "listener {} 127.0.0.1\nallow_anonymous true\n{persistence}max_inflight_messages {inflight}\n\
             max_queued_messages 2000000\nset_tcp_nodelay true\nlog_dest none\nconnection_messages false\n{uplink}",
            address.port()
        ),
    )?;
    // As root it would become a user who may not write to the folder.
    if setting.persistence {
        fs::write(&config, fs::read_to_string(&config)? + "user root\n")?;
    }
    let process = command(&programs.mosquitto, programs.pinned)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| {
            io::Error::new(e.kind(), format!("{}: {e} (apt install mosquitto)", programs.mosquitto.display()))
        })?;
    let peer = Peer { process, folder, address };
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("Mosquitto does not listen on {address}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(peer)
}

fn command(program: &Path, pinned: bool) -> Command {
    if !pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}
