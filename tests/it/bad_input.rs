//! What is wrong around the gateway: it is told in words that help, and what can go on goes on.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use fieldpost::bus::Table;
use fieldpost::simulator::{Device, Pty, Registers, Units, rtu, tcp};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::{Gateway, port, python};

/// A device that does its work, whatever happens to the others: `tank/level`, on Modbus TCP.
struct Tank {
    device: Device,
    port: u16,
    _server: JoinSet<std::io::Result<()>>,
}

impl Tank {
    async fn start() -> Self {
        let device = device();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(tcp::serve(listener, Units::from([(1, device.clone())])));
        Self { device, port, _server: server }
    }

    fn config(&self) -> String {
        let port = self.port;
        format!(
            r#"
            [gateway]
            id = "g"
            topic = "plant/{{device}}/{{point}}"
            # Longer than a timeout, so that there is time to spare to ask a silent device again.
            every = "300ms"
            [bus.plc]
            modbus-tcp = {{ host = "127.0.0.1", port = {port} }}
            [device.tank]
            bus = "plc"
            unit = 1
            timeout = "100ms"
            points.level = {{ input = 0, as = "u16" }}
            "#
        )
    }

    /// Gives it another level, and waits until the gateway shows that.
    async fn moves_on(&self, gateway: &Gateway) {
        let next = self.device.with(|registers| {
            let next = registers.words(Table::Input, 0, 1).unwrap()[0] + 1;
            registers.set_words(Table::Input, 0, &[next]);
            next
        });
        gateway.until("the tank is read", |status| point(status, "tank", "level")["value"] == next).await;
    }
}

fn device() -> Device {
    let mut registers = Registers::default();
    registers.set_words(Table::Input, 0, &[1]);
    Device::new(registers)
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()
}

fn bus<'a>(status: &'a Value, name: &str) -> &'a Value {
    named(&status["status"]["buses"], name)
}

fn point<'a>(status: &'a Value, device: &str, point: &str) -> &'a Value {
    let points = status["status"]["points"].as_array().unwrap();
    points.iter().find(|one| one["device"] == device && one["point"] == point).unwrap()
}

fn down(state: &Value) -> &str {
    state["down"].as_str().unwrap_or_default()
}

/// Waits until it ends by itself, with this code, and having said all of this.
async fn refused(mut gateway: Gateway, code: i32, words: &[&str]) {
    let status = gateway.ended().await;
    let log = gateway.log();
    assert_eq!(status.code(), Some(code), "{log}");
    assert!(words.iter().all(|word| log.contains(word)), "{words:?} are not all in\n{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_serial_port_that_is_not_there_is_waited_for() {
    let tank = Tank::start().await;
    let config = tank.config()
        + r#"
        [bus.wire]
        modbus-rtu = { port = "@dir@/wire", baud = 9600 }
        [device.meter]
        bus = "wire"
        unit = 1
        points.voltage = { input = 0, as = "u16" }
        "#;
    let gateway = Gateway::start(&config).await;
    gateway.until("the bus is down", |status| down(&bus(status, "wire")["state"]).contains("is not there")).await;
    tank.moves_on(&gateway).await;
    let (_, page) = gateway.get("/").await;
    assert!(page.contains("Bus wire is down: ") && page.contains("/wire is not there"), "{page}");
    assert!(gateway.log().contains("/wire is not there"), "{}", gateway.log());

    // The adapter is plugged in.
    let line = Pty::open().unwrap();
    symlink(line.path(), gateway.folder().join("wire")).unwrap();
    let mut server = JoinSet::new();
    server.spawn(rtu::serve(line, Units::from([(1, device())]), Duration::from_millis(1)));
    gateway.until("the meter is read", |status| point(status, "meter", "voltage")["quality"] == "good").await;
}

#[tokio::test]
async fn hosts_that_refuse_or_say_nothing_are_told_apart() {
    let tank = Tank::start().await;
    // The kernel takes connections, and nobody ever answers on them.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = tank.config()
        + &format!(
            r#"
        [bus.closed]
        modbus-tcp = {{ host = "127.0.0.1", port = {closed} }}
        [device.off]
        bus = "closed"
        unit = 1
        points.x = {{ input = 0, as = "u16" }}
        [bus.mute]
        modbus-tcp = {{ host = "127.0.0.1", port = {mute} }}
        [device.stuck]
        bus = "mute"
        unit = 1
        timeout = "100ms"
        points.x = {{ input = 0, as = "u16" }}
        "#,
            closed = port::free(),
            mute = mute.local_addr().unwrap().port(),
        );
    let gateway = Gateway::start(&config).await;
    gateway.until("one refuses", |status| down(&bus(status, "closed")["state"]).contains("refused")).await;
    gateway
        .until("one says nothing", |status| {
            let device = named(&bus(status, "mute")["devices"], "stuck");
            down(&device["state"]).contains("no answer") && point(status, "stuck", "x")["quality"] == "bad"
        })
        .await;
    tank.moves_on(&gateway).await;
}

#[tokio::test]
async fn garbage_on_a_line_costs_only_itself() {
    let mut line = Pty::open().unwrap();
    let config = format!(
        r#"
        [gateway]
        id = "g"
        every = "100ms"
        [bus.gps]
        uart = {{ port = "{}", baud = 9600 }}
        [device.ferry]
        bus = "gps"
        frame = {{ line = {{}}, check = "nmea" }}
        points.satellites = {{ nmea = "GGA", field = 7 }}
        "#,
        line.path().display()
    );
    let gateway = Gateway::start(&config).await;
    gateway.until("the port is open", |status| bus(status, "gps")["state"] == "up").await;
    let mut random = fastrand::Rng::with_seed(11);
    for satellites in 4..12 {
        let text = format!("GPGGA,100000.12,4807.0380,N,01131.0000,W,1,{satellites:02},0.9,545.4,M,44.2,M,,");
        let sum = text.bytes().fold(0, |sum, byte| sum ^ byte);
        // Noise, half a sentence, one that was damaged on the way, and then the good one.
        let mut bytes: Vec<u8> = (0..random.usize(50..400)).map(|_| random.u8(..)).collect();
        bytes.extend(format!("\r\n${}\r\n", &text[..20]).bytes());
        bytes.extend(format!("${}*{sum:02X}\r\n", text.replace(",0.9,", ",0.8,")).bytes());
        bytes.extend(format!("${text}*{sum:02X}\r\n").bytes());
        line.write_all(&bytes).await.unwrap();
        gateway.until("the sentence is read", |s| point(s, "ferry", "satellites")["value"] == satellites).await;
    }
    let bad = |status: &Value| named(&bus(status, "gps")["devices"], "ferry")["counters"]["bad_frames"].as_u64();
    let status = gateway.until("what was bad is counted", |status| bad(status) >= Some(8)).await;
    assert_eq!(point(&status, "ferry", "satellites")["quality"], "good");
}

#[tokio::test]
async fn ports_in_use_are_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for table in ["broker", "admin"] {
        let gateway = Gateway::start_unready(&format!("[{table}]\nlisten = \"{address}\""));
        refused(gateway, 69, &[&address, "in use"]).await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    fs::write(&store, "Dear diary, ".repeat(1000)).unwrap();
    let mut gateway = Gateway::start(&format!("[store]\npath = \"{}\"", store.display())).await;
    gateway.until("the store is there", |status| status["status"]["store"]["state"] == "up").await;
    let kept = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains("damaged")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(fs::read_to_string(&kept[0]).unwrap().starts_with("Dear diary"));
    assert!(gateway.log().contains(kept[0].to_str().unwrap()), "{}", gateway.log());
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn databases_of_others_are_left_alone() {
    // A later version's: this one made it, and then it grew.
    let mut gateway = Gateway::start("").await;
    gateway.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.db");
    fs::copy(gateway.store(), &newer).unwrap();
    sql(&newer, "PRAGMA user_version = 4711");
    // Another program's.
    let foreign = folder.path().join("foreign.db");
    sql(&foreign, "CREATE TABLE photos (name TEXT); INSERT INTO photos VALUES ('me')");

    for (store, words) in [(&newer, ["newer fieldpost", "4711"]), (&foreign, ["another program", "`path` in [store]"])]
    {
        let before = fs::read(store).unwrap();
        let gateway = Gateway::start_unready(&format!("[store]\npath = \"{}\"", store.display()));
        refused(gateway, 78, &[&words[..], &[store.to_str().unwrap()]].concat()).await;
        assert!(fs::read(store).unwrap() == before, "{} was changed", store.display());
    }
}

fn sql(path: &Path, statements: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

#[tokio::test]
async fn a_second_gateway_on_the_same_store_is_refused() {
    let tank = Tank::start().await;
    let first = Gateway::start(&tank.config()).await;
    let second = Gateway::start_unready(&format!("[store]\npath = \"{}\"", first.store().display()));
    refused(second, 69, &["in use by another fieldpost", first.store().to_str().unwrap()]).await;
    tank.moves_on(&first).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (closed, store) = (folder.path().join("closed"), folder.path().join("closed/store.db"));
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let config = format!("[store]\npath = \"{}\"", store.display());
    // Permissions hold for root as well once it may not pass them by.
    let as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let wrapper = if rustix::process::geteuid().is_root() { &as_others[..] } else { &[] };
    let gateway = Gateway::start_under(wrapper, &config);
    refused(gateway, 77, &[store.to_str().unwrap(), "Permission denied", "set another `path`"]).await;
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

/// Lets a process write no file any further, or lets it again. To SQLite this is a disk that takes nothing.
fn disk_full(gateway: &Gateway, full: bool) {
    let limit = Rlimit { current: full.then_some(0), maximum: None };
    prlimit(Some(pid(gateway)), Resource::Fsize, limit).unwrap();
}

fn pid(gateway: &Gateway) -> Pid {
    Pid::from_raw(gateway.pid().unwrap().try_into().unwrap()).unwrap()
}

/// A gateway whose disk can be made full, with a cloud that is not there: what is for the cloud has to be kept.
async fn fillable(tank: &Tank) -> Gateway {
    let cloud = port::free();
    let config =
        format!("{}\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{cloud}\"\npublish = [\"plant/#\"]", tank.config());
    // The signal that comes with the limit would end the process.
    let mut gateway = Gateway::start_under(&["env", "--ignore-signal=XFSZ"], &config);
    gateway.ready().await;
    gateway
}

#[tokio::test]
async fn a_full_disk_stops_only_what_has_to_be_kept() {
    let tank = Tank::start().await;
    let gateway = fillable(&tank).await;
    let port = gateway.mqtt_port().to_string();
    tank.moves_on(&gateway).await;
    let state = |status: &Value| status["status"]["store"]["state"].clone();

    // Its log goes to a file as well.
    disk_full(&gateway, true);
    gateway.until("the store says so", |status| down(&state(status)).contains("disk")).await;
    let (_, page) = gateway.get("/").await;
    assert!(page.contains("The store cannot write: "), "{page}");

    // Readings go on, on the page and to clients nearby.
    tank.moves_on(&gateway).await;
    let mut subscriber = python::start("mqtt_subscribe.py", &["--port", &port, "plant/tank/level"]);
    tank.moves_on(&gateway).await;
    let level = tank.device.with(|registers| registers.words(Table::Input, 0, 1).unwrap()[0]);
    loop {
        let message = python::json(&mut subscriber).await;
        if message["payload"].as_str().is_some_and(|payload| payload.starts_with(&format!("{{\"v\":{level},"))) {
            break;
        }
    }
    // What nobody has to keep is acknowledged; what is for the cloud is not, for it is not safe.
    let publish = |topic| python::start("mqtt_publish.py", &["--port", &port, "--topic", topic, "--count", "1"]);
    let mut free = publish("elsewhere");
    while python::json(&mut free).await["done"] != 1 {}
    let mut kept = publish("plant/kept");
    assert_eq!(python::json(&mut kept).await["connected"], 0);
    assert_eq!(kept.try_line(Duration::from_millis(1500)).await, None);
    assert_ne!(state(&gateway.until("it still is", |_| true).await), "up");

    // Once there is room, it is made good.
    disk_full(&gateway, false);
    gateway.until("the store recovers", |status| state(status) == "up").await;
    while python::json(&mut kept).await["done"] != 1 {}
    let entries = |status: &Value| status["status"]["store"]["entries"].as_u64();
    gateway.until("what waited is on the disk", |status| entries(status) > Some(3)).await;
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[tokio::test]
async fn two_signals_at_once_are_one_wish() {
    let tank = Tank::start().await;
    let mut gateway = Gateway::start(&tank.config()).await;
    // Two kinds, for the kernel makes one of two that are the same.
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(pid(&gateway), signal).unwrap();
    }
    assert_eq!(gateway.ended().await.code(), Some(0), "{}", gateway.log());
    assert!(gateway.log().contains("stopped"), "{}", gateway.log());
}

#[tokio::test]
async fn a_second_signal_later_on_ends_it_at_once() {
    let tank = Tank::start().await;
    let mut gateway = fillable(&tank).await;
    disk_full(&gateway, true);
    gateway.until("the store cannot write", |s| !down(&s["status"]["store"]["state"]).is_empty()).await;
    // It now tries for some seconds to write what waits.
    kill_process(pid(&gateway), Signal::TERM).unwrap();
    sleep(Duration::from_millis(1100)).await;
    kill_process(pid(&gateway), Signal::TERM).unwrap();
    assert_eq!(gateway.ended().await.code(), Some(1), "{}", gateway.log());
}

#[tokio::test]
async fn the_user_list_has_to_be_there_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let config = format!("[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"", users.display());
    refused(Gateway::start_unready(&config), 78, &["user list", users.to_str().unwrap(), "fieldpost user add"]).await;
    fs::write(&users, "# people\nada:secret\n").unwrap();
    refused(Gateway::start_unready(&config), 78, &[users.to_str().unwrap(), "line 2", "NAME:HASH"]).await;
}

async fn fieldpost(args: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    let child =
        command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let output = tokio::time::timeout(Duration::from_secs(10), child.unwrap().wait_with_output()).await;
    output.unwrap_or_else(|_| panic!("{args:?} does not end")).unwrap()
}

#[tokio::test]
async fn wrong_words_and_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = folder.path().join("bytes.toml");
    fs::write(&bytes, b"[gateway]\nid = \"\xff\"\n").unwrap();
    let (folder, bytes) = (folder.path().to_str().unwrap(), bytes.to_str().unwrap());
    for (args, code, words) in [
        (&["run", "--fast"][..], 64, "--fast"),
        (&["check", "a.toml", "b.toml"], 64, "b.toml"),
        (&["demo", "--mqtt", "0.0.0.0:1883"], 64, "this machine only"),
        (&["demo", "--page", "here"], 64, "127.0.0.1"),
        (&["demo", "--cloud-up", "soon"], 64, "not a duration"),
        (&["user", "add"], 64, "<NAME>"),
        (&["run", folder], 78, "is a folder"),
        (&["run", bytes], 78, "line 2"),
        (&["run", "/dev/null/fieldpost.toml"], 78, "Not a directory"),
        (&["check", "/dev/null"], 0, ""),
    ] {
        let output = fieldpost(args, Stdio::piped()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words) && !said.contains("panicked"), "{args:?}: {said}");
        assert_eq!(output.stdout.is_empty(), code != 0, "{args:?}");
    }
}

#[tokio::test]
async fn output_that_cannot_be_written_is_told() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = fieldpost(&["check", "/dev/null"], full.into()).await;
    assert_eq!(output.status.code(), Some(74));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write the output"));
}

#[tokio::test]
async fn a_log_that_nobody_takes_does_not_end_the_gateway() {
    let tank = Tank::start().await;
    // Its stderr is a pipe, and who read it is gone; then it is a disk that is full.
    let nobody = ["bash", "-c", "exec \"$@\" 2> >(true)", "bash"];
    let full = ["bash", "-c", "exec \"$@\" 2>/dev/full", "bash"];
    for wrapper in [nobody, full] {
        let mut gateway = Gateway::start_under(&wrapper, &tank.config());
        gateway.ready().await;
        tank.moves_on(&gateway).await;
        // Something to log.
        tank.device.set_silent(true);
        gateway.until("the tank is silent", |s| !down(&bus(s, "plc")["devices"][0]["state"]).is_empty()).await;
        tank.device.set_silent(false);
        tank.moves_on(&gateway).await;
        assert!(gateway.stop().await.success());
    }
}

#[tokio::test]
async fn the_demo_goes_on_when_its_greeting_is_not_read() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    command.args(["demo", "--mqtt", "127.0.0.1:0", "--page", "127.0.0.1:0"]).kill_on_drop(true);
    let mut demo = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    let early = tokio::time::timeout(Duration::from_secs(2), demo.wait()).await;
    assert!(early.is_err(), "it ended: {early:?}");
    kill_process(Pid::from_raw(demo.id().unwrap().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), demo.wait()).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
}
