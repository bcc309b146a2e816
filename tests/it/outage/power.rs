//! The power goes: whatever the disk has at that moment, each message that was acknowledged before is on it, or at the
//! cloud.
//!
//! A gateway lives with everything that it does to its disk recorded, and each acknowledgement noted in the same
//! [`record`]. The record is cut at many places, and the [`disk`] made as it may have been there; what the gateway finds
//! on it has to have everything that was acknowledged before the cut.

mod cloud;
mod disk;
mod publisher;
mod record;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use fieldpost::status::uplink_session;
use fieldpost::store::{Config, EntryId, Event as Told, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use self::cloud::Cloud;
use self::disk::Disk;
use self::publisher::Publisher;
use self::record::{Event, Notes};
use crate::support::process::PATIENCE;
use crate::support::{Faults, Gateway, port, status};

/// A message: its publisher's QoS, and its number.
type Name = (u8, u32);

/// At how many cuts the store alone is looked at, and at how many the whole program is started.
const CUTS: usize = 300;
const STARTS: usize = 12;

/// More of all with `FIELDPOST_CUTS=10`: so many times as many.
#[test]
fn what_was_acknowledged_before_a_power_cut_is_there_after_it() {
    let times = std::env::var("FIELDPOST_CUTS").map_or(1, |times| times.parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let record = runtime.block_on(life());

    // Each of the first steps, when the database is made, and random ones.
    let (mut looked, mut most) = (0, 0);
    for places in [(0..60).collect(), random(&record, CUTS * times)] {
        for cut in cuts(Disk::new(false), &record, places) {
            cut.holds(&cut.made());
            (looked, most) = (looked + 1, most.max(cut.owed.len()));
        }
    }
    assert!(most > 300, "at no cut was much on the disk alone: {most}");

    let (mut starts, mut twice) = (0, 0);
    for cut in cuts(Disk::new(false), &record, random(&record, STARTS * times)) {
        let (events, disk) = runtime.block_on(cut.starts_again());
        for mut again in cuts(disk, &events, random(&events, 5)) {
            again.owed.clone_from(&cut.owed);
            again.holds(&again.made());
            twice += 1;
        }
        runtime.block_on(cut.arrives());
        starts += 1;
    }

    // The same on a disk that says that it has synced SQLite's log, and has not: this has to show.
    let (mut rounds, mut lost) = (0, 0);
    for cut in cuts(Disk::new(true), &record, random(&record, 100)).filter(|cut| !cut.owed.is_empty()) {
        let found = found(cut.made().path()).unwrap_or_default();
        (rounds, lost) = (rounds + 1, lost + usize::from(!cut.owed.is_subset(&found)));
    }
    eprintln!(
        "{} events: nothing lost in {looked} cuts, {twice} of a start after a cut, {starts} starts; on a disk that lies, in \
         {lost} of {rounds}",
        record.len(),
    );
    assert!(lost * 2 > rounds, "lost in {lost} of {rounds}");
}

/// A life of a gateway on a recorded disk, from an empty one on: offline and online, killed and stopped, and with so much
/// to keep that the log is written into the database now and then.
async fn life() -> Vec<Event> {
    let faults = Faults::new();
    let notes = Notes::to(&faults.log());
    let mut cloud = Cloud::new(notes.clone());
    let wrapper = faults.recording();
    let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
    let mut gateway = Gateway::start_under(&wrapper, &config(cloud.port()));
    gateway.ready().await;
    let port = gateway.mqtt_port();
    let [mut one, mut two] = [1, 2].map(|qos| Publisher::new(qos, port, notes.clone()));
    for part in 0..12 {
        match part % 4 {
            0 => cloud.away().await,
            2 => cloud.back().await,
            _ => {}
        }
        tokio::join!(one.publish(150), two.publish(150));
        match part % 6 {
            3 => {
                gateway.kill().await;
                gateway.start_again().await;
            }
            5 => gateway.restart().await,
            _ => {}
        }
    }
    gateway.kill().await;
    record::read(&faults.log())
}

fn config(cloud: u16) -> String {
    format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{cloud}\"\nprotocol = \"3.1.1\"\npublish = [\"plant/#\"]\n\
         status = \"\"\n[store]\npath = \"@store@\"\ncommit = \"20ms\"\n"
    )
}

/// The end of a record at some place.
struct Cut {
    at: usize,
    disk: Disk,
    /// What was acknowledged, and the cloud does not have.
    owed: BTreeSet<Name>,
    seed: u64,
}

/// Places in a record.
fn random(record: &[Event], count: usize) -> Vec<usize> {
    let mut places: Vec<_> = (0..count).map(|_| fastrand::usize(..=record.len())).collect();
    places.sort_unstable();
    places
}

/// Cuts a record at these places, that began with this disk. One after the other: a disk is large.
fn cuts(disk: Disk, record: &[Event], places: Vec<usize>) -> impl Iterator<Item = Cut> {
    let (mut disk, mut owed, mut got, mut done) = (disk, BTreeSet::new(), BTreeSet::new(), 0);
    places.into_iter().map(move |at| {
        for event in &record[done..at] {
            match event {
                Event::Act(act) => disk.take(act),
                Event::Acknowledged(name) => drop(owed.insert(*name)),
                Event::Got(name) => drop(got.insert(*name)),
            }
        }
        done = at;
        let owed = owed.difference(&got).copied().collect();
        Cut { at, disk: disk.clone(), owed, seed: fastrand::u64(..) }
    })
}

impl Cut {
    /// Makes what the disk has in a folder.
    fn make(&self, folder: &Path) {
        self.disk.after_a_cut(folder, &mut fastrand::Rng::with_seed(self.seed));
    }

    /// A folder with what the disk has.
    fn made(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        self.make(folder.path());
        folder
    }

    /// All that is owed is in a folder.
    fn holds(&self, folder: &TempDir) {
        let found = found(folder.path()).unwrap_or_else(|e| panic!("cut {}, seed {}: {e}", self.at, self.seed));
        let lost: Vec<_> = self.owed.difference(&found).collect();
        assert!(lost.is_empty(), "cut {}, seed {}: {} are lost: {lost:?}", self.at, self.seed, lost.len());
    }

    /// The gateway starts on what the cut has left. Returns what it does then, and the disk before.
    async fn starts_again(&self) -> (Vec<Event>, Disk) {
        let faults = Faults::new();
        let wrapper = faults.recording();
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        let mut gateway = Gateway::start_under(&wrapper, &config(port::free()));
        gateway.ready().await;
        self.replace(&mut gateway).await;
        let before = record::read(&faults.log()).len();
        let disk = Disk::of(gateway.folder());
        gateway.start_again().await;
        gateway.kill().await;
        (record::read(&faults.log()).split_off(before), disk)
    }

    /// The gateway starts on what the cut has left, and all that it owes comes to the cloud.
    async fn arrives(&self) {
        let notes = tempfile::NamedTempFile::new().unwrap();
        let mut cloud = Cloud::new(Notes::to(notes.path()));
        let mut gateway = Gateway::start(&config(cloud.port())).await;
        self.replace(&mut gateway).await;
        cloud.back().await;
        gateway.start_again().await;
        let (end, mut got) = (Instant::now() + PATIENCE, BTreeSet::new());
        while !self.owed.is_subset(&got) {
            assert!(Instant::now() < end, "cut {}: {} of {} came", self.at, got.len(), self.owed.len());
            got.extend(cloud.got());
            sleep(Duration::from_millis(10)).await;
        }
        status::empty(&gateway).await;
    }

    /// Stops a gateway, and puts what the cut has left in the place of its files.
    async fn replace(&self, gateway: &mut Gateway) {
        gateway.stop().await;
        for file in std::fs::read_dir(gateway.folder()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                std::fs::remove_file(path).unwrap();
            }
        }
        self.make(gateway.folder());
    }
}

/// What waits for the cloud in a folder's store.
fn found(folder: &Path) -> Result<BTreeSet<Name>, String> {
    let config = Config { path: folder.join("store.db"), ..Config::default() };
    let (mut store, recovered) = Store::open(&config).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    let uplink = uplink_session("cloud");
    if let Some((session, _)) = recovered.sessions.iter().find(|(session, _)| *session.client_id == *uplink) {
        let mut after = EntryId(0);
        loop {
            store.load(session.queue, after, 1000, usize::MAX);
            let Some(Told::Loaded { entries, complete, .. }) = store.events().blocking_recv() else {
                return Err("the store is gone".into());
            };
            after = entries.last().map_or(after, |entry| entry.id);
            found.extend(entries.iter().map(|entry| {
                let qos = entry.message.topic.as_bytes()["plant/".len()] - b'0';
                (qos, cloud::number(&entry.message.payload))
            }));
            if complete {
                break;
            }
        }
    }
    store.close();
    check_order(&found)?;
    let damaged = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    match damaged.into_iter().find(|name| name.contains("damaged")) {
        Some(name) => Err(format!("the database is damaged: {name}")),
        None => Ok(found.into_iter().collect()),
    }
}

/// The numbers of each publisher are in their order.
fn check_order(names: &[Name]) -> Result<(), String> {
    for qos in [1, 2] {
        let numbers = || names.iter().filter(|name| name.0 == qos).map(|name| name.1);
        if let Some((a, b)) = numbers().zip(numbers().skip(1)).find(|(a, b)| a >= b) {
            return Err(format!("QoS {qos}: {b} after {a}"));
        }
    }
    Ok(())
}
