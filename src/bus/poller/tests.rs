//! The poller over lines of the test's own.

use super::*;
use crate::bus::fixture::{self, Line};
use crate::bus::{Device, link::Parity, link::Serial};
use crate::reading::{Quality, Reading, Value};
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

/// A poller at work over a line of the test's own.
struct Bench {
    line: Line,
    reports: mpsc::Receiver<Report>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<status::Bus>,
    pulse: Pulse,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn bench(line: Line, devices: Vec<Device>) -> Bench {
    let port = "/dev/test".into();
    let serial = Serial { port, baud: 9600, parity: Parity::None, data_bits: 8, stop_bits: 1 };
    let bus = fixture::bus(devices);
    let bus = if line.state().mbap { bus } else { Bus { link: link::Config::ModbusRtu(serial), ..bus } };
    let (reports_in, reports) = mpsc::channel(64);
    let (commands, commands_out) = mpsc::channel(8);
    let (status_in, status) = watch::channel(status::Bus::default());
    let (pulse, stop) = (Pulse::new(), CancellationToken::new());
    let opened = line.clone();
    let dial: Dial = Box::new(move || {
        let line = opened.clone();
        Box::pin(async move { line.open() })
    });
    let poller = Poller::over(dial, bus, reports_in, commands_out, status_in, pulse.clone());
    let task = tokio::spawn(poller.run(stop.clone()));
    Bench { line, reports, commands, status, pulse, stop, task }
}

/// A line on which each unit has these registers, holding 100 times the unit and the address.
fn line(units: &[u8], registers: &[u16]) -> Line {
    let line = Line::default();
    for unit in units {
        for address in registers {
            line.state().registers.insert((*unit, *address), 100 * u16::from(*unit) + address);
        }
    }
    line
}

impl Bench {
    /// All that is reported within `time`.
    async fn hear(&mut self, time: Duration) -> Vec<Report> {
        let end = Instant::now() + time;
        let mut heard = Vec::new();
        while let Ok(Some(report)) = tokio::time::timeout_at(end, self.reports.recv()).await {
            heard.push(report);
        }
        heard
    }

    async fn command(&self, point: &str, value: i128) -> Result<(), CommandError> {
        let (reply, result) = oneshot::channel();
        let command = Command { device: "a".into(), point: point.into(), value: Value::Int(value), reply };
        self.commands.send(command).await.unwrap();
        result.await.unwrap()
    }
}

fn readings(reports: &[Report], device: &str) -> Vec<Reading> {
    let all = reports.iter().filter_map(|r| if let Report::Readings(readings) = r { Some(readings) } else { None });
    all.flatten().filter(|r| &*r.device == device).cloned().collect()
}

fn online(reports: &[Report], of: &str) -> Vec<bool> {
    let online = |r: &Report| match r {
        Report::Device { device, online } if &**device == of => Some(*online),
        _ => None,
    };
    reports.iter().filter_map(online).collect()
}

#[tokio::test(start_paused = true)]
async fn points_are_read_at_their_period_in_one_request() {
    let mut bench = bench(line(&[1], &[0, 1]), vec![fixture::device("a", 1, &[0, 1])]);
    let heard = bench.hear(10 * SECOND + SECOND / 2).await;
    assert_eq!(heard[0], Report::Device { device: "a".into(), online: true });
    let readings = readings(&heard, "a");
    assert_eq!(readings.len(), 2 * 11);
    assert!(readings.iter().all(|r| r.quality == Quality::Good));
    assert_eq!((&readings[0].value, &readings[1].value), (&Value::Int(100), &Value::Int(101)));
    assert_eq!(bench.line.asked(1, 3).len(), 11);
    let status = bench.status.borrow().clone();
    assert_eq!((&status.state, &status.devices[0].state), (&status::State::Up, &status::State::Up));
    assert!(status.utilisation > 0.0 && status.utilisation < 0.2, "{}", status.utilisation);
    assert!((10..=11).contains(&status.devices[0].counters.answers));
}

#[tokio::test(start_paused = true)]
async fn a_dead_device_does_not_delay_another() {
    let line = line(&[1, 2], &[0]);
    line.state().dead.insert(2);
    let devices = vec![fixture::device("a", 1, &[0]), fixture::device("b", 2, &[0])];
    let mut bench = bench(line, devices);
    let heard = bench.hear(120 * SECOND).await;
    let asked = bench.line.asked(1, 3);
    assert!(asked.len() >= 119, "{}", asked.len());
    let gaps = asked[5..].windows(2).map(|w| w[1] - w[0]);
    assert!(gaps.clone().all(|gap| gap.abs_diff(SECOND) < SECOND / 50), "{:?}", gaps.max());
    assert!((4..12).contains(&bench.line.asked(2, 3).len()));
    assert_eq!((online(&heard, "a"), online(&heard, "b")), (vec![true], vec![false]));
    assert_eq!(bench.status.borrow().devices[1].state, status::State::Down("no answer".into()));
}

#[tokio::test(start_paused = true)]
async fn a_silent_point_is_told_stale_once_and_comes_back() {
    let mut bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    let before = readings(&bench.hear(5 * SECOND).await, "a");
    bench.line.state().dead.insert(1);
    let heard = bench.hear(60 * SECOND).await;
    let silent = readings(&heard, "a");
    assert_eq!(silent.len(), 1, "{silent:?}");
    assert_eq!((silent[0].quality, &silent[0].value), (Quality::Stale, &Value::Int(100)));
    assert_eq!((&silent[0].fault, silent[0].at), (&Some(Fault::Timeout), before.last().unwrap().at));
    assert_eq!(online(&heard, "a"), [false]);
    bench.line.state().dead.clear();
    let heard = bench.hear(65 * SECOND).await;
    assert_eq!(online(&heard, "a"), [true]);
    assert!(readings(&heard, "a").iter().all(|r| r.quality == Quality::Good));
}

#[tokio::test(start_paused = true)]
async fn one_lost_answer_is_no_outage() {
    let mut bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    bench.hear(5 * SECOND).await;
    bench.line.state().dead.insert(1);
    bench.hear(SECOND).await;
    bench.line.state().dead.clear();
    let heard = bench.hear(10 * SECOND).await;
    assert!(online(&heard, "a").is_empty());
    assert!(readings(&heard, "a").len() >= 9);
}

#[tokio::test(start_paused = true)]
async fn a_command_goes_between_reads_and_is_read_back_soon() {
    let mut bench = bench(line(&[1], &[0, 1]), vec![fixture::device("a", 1, &[0, 1])]);
    bench.hear(5 * SECOND + SECOND / 2).await;
    let start = Instant::now();
    assert_eq!(bench.command("r1", 7).await, Ok(()));
    assert_eq!(bench.line.state().registers[&(1, 1)], 7);
    let heard = bench.hear(SECOND / 5).await;
    assert_eq!(readings(&heard, "a")[1].value, Value::Int(7));
    assert!(start.elapsed() < SECOND / 2);
    let above = bench.command("r1", 1001).await;
    assert_eq!(above, Err(CommandError::BadValue("1001 is above the most, 1000".into())));
    assert_eq!(bench.command("r9", 1).await, Err(CommandError::NotWritable));
    assert_eq!(bench.line.asked(1, 6).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_commands_does_not_stop_the_reading() {
    let bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    let Bench { line, mut reports, commands, .. } = bench;
    tokio::spawn(async move { while reports.recv().await.is_some() {} });
    let end = Instant::now() + 20 * SECOND;
    let mut results = Vec::new();
    while Instant::now() < end {
        let (reply, result) = oneshot::channel();
        results.push(result);
        let command = Command { device: "a".into(), point: "r0".into(), value: Value::Int(5), reply };
        commands.send(command).await.unwrap();
    }
    assert!(line.asked(1, 6).len() > 100);
    assert!(line.asked(1, 3).len() >= 20);
}

#[tokio::test(start_paused = true)]
async fn commands_for_a_dead_device_are_refused_and_cost_the_others_nothing() {
    let line = line(&[1, 2], &[0]);
    let devices = vec![fixture::device("a", 1, &[0]), fixture::device("b", 2, &[0])];
    let mut bench = bench(line, devices);
    bench.hear(5 * SECOND).await;
    bench.line.state().dead.insert(1);
    let commands = (0..8).map(|n| bench.command("r0", n));
    let mut results = Vec::new();
    for command in commands {
        results.push(command.await);
    }
    assert!(results.iter().all(|result| *result == Err(CommandError::Fault(Fault::Timeout))), "{results:?}");
    assert!(bench.line.asked(1, 6).len() <= 3, "{}", bench.line.asked(1, 6).len());
}

#[tokio::test(start_paused = true)]
async fn points_refused_together_are_read_one_by_one() {
    let mut bench = bench(line(&[1], &[0, 2]), vec![fixture::device("a", 1, &[0, 1, 2])]);
    let heard = bench.hear(5 * SECOND).await;
    let readings = readings(&heard, "a");
    let bad: Vec<_> = readings.iter().filter(|r| r.quality != Quality::Good).collect();
    assert_eq!(bad.len(), 1, "told once");
    assert_eq!((&*bad[0].point, &bad[0].fault), ("r1", &Some(Fault::Exception(2))));
    assert!(readings.iter().filter(|r| &*r.point == "r2" && r.value == Value::Int(102)).count() >= 5);
    assert_eq!(online(&heard, "a"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_port_is_retried_for_ever_and_says_why() {
    let line = line(&[1], &[0]);
    line.state().missing = true;
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0])]);
    let heard = bench.hear(100 * SECOND).await;
    let why = "/dev/test is not there (unplugged?)".to_owned();
    assert_eq!(bench.status.borrow().state, status::State::Down(why.clone()));
    assert_eq!(online(&heard, "a"), [false]);
    let bad = readings(&heard, "a");
    assert_eq!((bad.len(), bad[0].quality), (1, Quality::Bad));
    assert_eq!(bad[0].fault, Some(Fault::LinkDown(why.clone())));
    assert_eq!(bench.command("r0", 1).await, Err(CommandError::Fault(Fault::LinkDown(why))));
    bench.line.state().missing = false;
    let heard = bench.hear(31 * SECOND).await;
    assert_eq!(online(&heard, "a"), [true]);
    assert_eq!(bench.status.borrow().state, status::State::Up);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_is_opened_again() {
    let mut bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    bench.hear(5 * SECOND).await;
    bench.line.state().cut = true;
    let heard = bench.hear(5 * SECOND).await;
    assert_eq!(bench.line.state().opened, 2);
    assert!(readings(&heard, "a").len() >= 3);
    assert!(online(&heard, "a").is_empty());
}

#[tokio::test(start_paused = true)]
async fn over_tcp_a_dead_unit_costs_no_connection_and_the_others_go_on() {
    let line = line(&[1, 2], &[0]);
    line.state().mbap = true;
    line.state().dead.insert(2);
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0]), fixture::device("b", 2, &[0])]);
    let heard = bench.hear(60 * SECOND).await;
    assert!(readings(&heard, "a").len() >= 59);
    assert_eq!((online(&heard, "a"), online(&heard, "b")), (vec![true], vec![false]));
    assert!(bench.line.asked(2, 3).len() >= 4);
    assert_eq!(bench.line.state().opened, 1);
    assert_eq!(bench.status.borrow().state, status::State::Up);
    bench.line.state().dead.clear();
    let heard = bench.hear(61 * SECOND).await;
    assert_eq!(online(&heard, "b"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hangs_up_at_once_is_not_called_in_a_hurry() {
    let line = line(&[1], &[0]);
    line.state().rude = true;
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0])]);
    bench.hear(60 * SECOND).await;
    let opened = bench.line.state().opened;
    assert!((3..12).contains(&opened), "{opened} times in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_after_each_answer_is_called_once_a_request() {
    let line = line(&[1], &[0, 1000]);
    (line.state().mbap, line.state().curt) = (true, true);
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0, 1000])]);
    let heard = bench.hear(60 * SECOND).await;
    let opened = bench.line.state().opened;
    assert!(opened <= 130, "{opened} times in a minute");
    for point in ["r0", "r1000"] {
        let read = readings(&heard, "a").iter().filter(|r| &*r.point == point && r.quality == Quality::Good).count();
        assert!(read >= 55, "{point} {read} times");
    }
    assert_eq!(online(&heard, "a"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_on_one_register_is_still_read() {
    let line = line(&[1], &[0, 1000]);
    line.state().mbap = true;
    line.state().touchy = Some(1000);
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0, 1000])]);
    let heard = bench.hear(300 * SECOND).await;
    let opened = bench.line.state().opened;
    assert!(opened <= 20, "{opened} times in five minutes");
    let good = readings(&heard, "a").iter().filter(|r| &*r.point == "r0" && r.quality == Quality::Good).count();
    assert!(good >= 290, "{good}");
    assert_eq!(online(&heard, "a"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_wire_that_was_closed_while_idle_costs_neither_a_reading_nor_a_command() {
    let line = line(&[1], &[0]);
    line.state().mbap = true;
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0])]);
    bench.hear(3 * SECOND + SECOND / 2).await;
    let close = |bench: &Bench| bench.line.state().idle.notify_one();
    close(&bench);
    tokio::time::sleep(SECOND / 10).await;
    assert_eq!(bench.command("r0", 7).await, Ok(()));
    let mut heard = bench.hear(SECOND / 10).await;
    for _ in 0..10 {
        close(&bench);
        heard.extend(bench.hear(SECOND).await);
    }
    assert!(online(&heard, "a").is_empty());
    assert!(readings(&heard, "a").iter().filter(|r| r.quality == Quality::Good).count() >= 10);
    assert_eq!(bench.line.state().opened, 12);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_useful_forgets_the_last_outage() {
    let line = line(&[1], &[0]);
    line.state().missing = true;
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0])]);
    bench.hear(100 * SECOND).await;
    bench.line.state().missing = false;
    bench.hear(40 * SECOND).await;
    // It breaks, and a short outage follows.
    (bench.line.state().missing, bench.line.state().cut) = (true, true);
    bench.hear(5 * SECOND).await;
    bench.line.state().missing = false;
    let heard = bench.hear(5 * SECOND).await;
    assert_eq!(online(&heard, "a"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_given_up_in_silence_forgets_the_last_outage_too() {
    let line = line(&[1], &[0]);
    (line.state().mbap, line.state().missing) = (true, true);
    let mut bench = bench(line, vec![fixture::device("a", 1, &[0])]);
    bench.hear(100 * SECOND).await;
    bench.line.state().missing = false;
    assert_eq!(online(&bench.hear(40 * SECOND).await, "a"), [true]);
    bench.line.state().dead.insert(1);
    bench.line.state().missing = true;
    bench.hear(10 * SECOND).await;
    bench.line.state().dead.clear();
    bench.line.state().missing = false;
    assert_eq!(online(&bench.hear(8 * SECOND).await, "a"), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_nobody_waits_for_any_more_is_not_carried_out() {
    let mut bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    bench.hear(3 * SECOND + SECOND / 2).await;
    bench.line.state().dead.insert(1);
    bench.hear(SECOND).await;
    // One miss: the device is left alone for a while, and the command waits.
    let (reply, result) = oneshot::channel();
    let command = Command { device: "a".into(), point: "r0".into(), value: Value::Int(7), reply };
    bench.commands.send(command).await.unwrap();
    bench.hear(SECOND / 10).await;
    drop(result);
    bench.line.state().dead.clear();
    bench.hear(10 * SECOND).await;
    assert!(bench.line.asked(1, 6).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_asked_again_soon_and_nothing_is_told() {
    let mut device = fixture::device("a", 1, &[0, 1]);
    device.points.iter_mut().for_each(|point| (point.every, point.stale_after) = (20 * SECOND, 60 * SECOND));
    let mut bench = bench(line(&[1], &[0, 1]), vec![device]);
    bench.hear(15 * SECOND).await;
    bench.line.state().busy.insert(1);
    assert!(bench.hear(10 * SECOND).await.is_empty());
    bench.line.state().busy.clear();
    assert_eq!(readings(&bench.hear(2 * SECOND).await, "a").len(), 2, "together, and soon");
    bench.line.state().busy.insert(1);
    let stale = readings(&bench.hear(80 * SECOND).await, "a");
    assert!(stale.iter().all(|r| (r.quality, &r.fault) == (Quality::Stale, &Some(Fault::Exception(6)))), "{stale:?}");
    assert_eq!(stale.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_pulse_beats_even_when_nobody_takes_the_reports() {
    let bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    for _ in 0..300 {
        tokio::time::sleep(SECOND).await;
        assert!(bench.pulse.age() <= SECOND);
    }
    assert!(bench.line.asked(1, 3).len() < 100, "it waits for room");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told() {
    let mut bench = bench(line(&[1], &[0]), vec![fixture::device("a", 1, &[0])]);
    bench.hear(SECOND).await;
    bench.stop.cancel();
    bench.task.await.unwrap();
    assert_eq!(bench.reports.recv().await, None);
}

#[tokio::test]
async fn a_replugged_port_is_found_again_by_its_path() {
    let line = line(&[1], &[0]);
    let folder = tempfile::tempdir().unwrap();
    let stable = folder.path().join("usb-adapter");
    let plug = || {
        let (master, path) = fixture::pty();
        std::os::unix::fs::symlink(path, &stable).unwrap();
        tokio::spawn(line.clone().answer(master))
    };
    let plugged = plug();

    let mut device = fixture::device("a", 1, &[0]);
    device.points[0].every = SECOND / 20;
    device.points[0].stale_after = SECOND / 5;
    let serial = Serial { port: stable.clone(), baud: 115_200, parity: Parity::None, data_bits: 8, stop_bits: 1 };
    let bus = Bus { link: link::Config::ModbusRtu(serial), ..fixture::bus(vec![device]) };
    let (reports_in, mut reports) = mpsc::channel(64);
    let (_commands, commands_out) = mpsc::channel(8);
    let (status_in, status) = watch::channel(status::Bus::default());
    let stop = CancellationToken::new();
    let poller = Poller::new(bus, reports_in, commands_out, status_in, Pulse::new());
    let task = tokio::spawn(poller.run(stop.clone()));
    let mut until = async |wanted: fn(&Report) -> bool| {
        let heard = async { while !wanted(&reports.recv().await.unwrap()) {} };
        tokio::time::timeout(20 * SECOND, heard).await.unwrap();
    };

    until(|r| matches!(r, Report::Readings(r) if r[0].value == Value::Int(100))).await;
    std::fs::remove_file(&stable).unwrap();
    plugged.abort();
    until(|r| matches!(r, Report::Device { online: false, .. })).await;
    until(|r| matches!(r, Report::Readings(r) if r[0].quality == Quality::Stale)).await;
    assert!(matches!(&status.borrow().state, status::State::Down(_)), "{:?}", status.borrow().state);
    let plugged = plug();
    until(|r| matches!(r, Report::Device { online: true, .. })).await;
    until(|r| matches!(r, Report::Readings(r) if r[0].quality == Quality::Good)).await;
    stop.cancel();
    task.await.unwrap();
    plugged.abort();
}
