//! The demo's plant: two energy meters on a serial line, a tank behind a PLC on the network, and a GPS receiver.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::device::{Device, Units};
use super::meter::Meter;
use super::pty::Pty;
use super::tank::Tank;
use super::{nmea, rtu, tcp};

/// How often values move.
const STEP: Duration = Duration::from_millis(100);

/// How long a meter takes to begin its answer.
const PAUSE: Duration = Duration::from_millis(8);

/// The second meter falls silent at the end of each round, for [`SILENCE`].
const ROUND: Duration = Duration::from_secs(90);
const SILENCE: Duration = Duration::from_secs(20);

/// The whole plant, running. Dropping it stops it.
///
/// - RTU: units 1 and 2, each an Eastron SDM120 (see [`Meter`]); unit 2 falls silent for 20 s in every 90.
/// - TCP: unit 1, the tank (see [`Tank`]).
/// - GPS: NMEA 0183, a fix each second.
#[derive(Debug)]
pub struct Plant {
    tasks: JoinSet<io::Result<()>>,
    tcp_port: u16,
    rtu_port: PathBuf,
    gps_port: PathBuf,
}

impl Plant {
    /// Starts it. Needs a tokio runtime.
    ///
    /// # Errors
    /// When there is no pseudoterminal or no TCP port to be had.
    pub fn start() -> io::Result<Self> {
        let (rtu_line, gps_line) = (Pty::open()?, Pty::open()?);
        let (rtu_port, gps_port) = (rtu_line.path().to_owned(), gps_line.path().to_owned());
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let tcp_port = listener.local_addr()?.port();

        let mut random = fastrand::Rng::new();
        let house = Meter::new(2400.0, 1284.31, random.fork());
        let barn = Meter::new(650.0, 317.08, random.fork());
        let tank = Tank::new(4.0, random.fork());

        let mut tasks = JoinSet::new();
        tasks.spawn(rtu::serve(rtu_line, Units::from([(1, house.device()), (2, barn.device())]), PAUSE));
        tasks.spawn(tcp::serve(listener, Units::from([(1, tank.device())])));
        tasks.spawn(nmea::talk(gps_line, random.fork()));
        tasks.spawn(fail_at_times(barn.device()));
        tasks.spawn(live(vec![house, barn], tank));
        Ok(Self { tasks, tcp_port, rtu_port, gps_port })
    }

    /// The tank's port on 127.0.0.1.
    pub fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// The serial port that leads to the meters.
    pub fn rtu_port(&self) -> &Path {
        &self.rtu_port
    }

    /// The serial port on which the GPS receiver talks.
    pub fn gps_port(&self) -> &Path {
        &self.gps_port
    }

    /// Stops it: ports are closed and unplugged when this returns.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Moves all values, for ever.
async fn live(mut meters: Vec<Meter>, mut tank: Tank) -> io::Result<()> {
    let mut ticks = interval(STEP);
    // After a pause of the whole machine, time in the plant simply stood still.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        meters.iter_mut().for_each(|meter| meter.step(STEP));
        tank.step(STEP);
    }
}

/// Lets a device fall silent now and then, for ever.
async fn fail_at_times(device: Device) -> io::Result<()> {
    loop {
        tokio::time::sleep(ROUND - SILENCE).await;
        device.set_silent(true);
        tokio::time::sleep(SILENCE).await;
        device.set_silent(false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_meter_falls_silent_and_comes_back() {
        let device = Device::default();
        let task = tokio::spawn(fail_at_times(device.clone()));
        let mut seen = Vec::new();
        for _ in 0..200 {
            // Half a second off the changes.
            tokio::time::sleep(Duration::from_millis(if seen.is_empty() { 500 } else { 1000 })).await;
            seen.push(device.is_silent());
        }
        task.abort();
        let silent: Vec<usize> = (0..200).filter(|second| seen[*second]).collect();
        assert_eq!(silent, (70..90).chain(160..180).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn stopped_it_leaves_no_port_behind() {
        let plant = Plant::start().unwrap();
        let address = ("127.0.0.1", plant.tcp_port());
        let ports = [plant.rtu_port().to_owned(), plant.gps_port().to_owned()];
        assert!(TcpStream::connect(address).await.is_ok());
        assert!(ports.iter().all(|port| port.exists()));
        plant.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
