//! What the page says of each thing: a bus, a device, a point, the broker. Pure.

use super::page::{Cell, Column, Row, Table};
use super::snapshot::{Snapshot, UplinkQueue};
use super::verdict::Tone;
use super::words;
use crate::clock::trust::Standing;
use crate::reading::Quality;
use crate::status::{Broker, Bus, Causes, Device, Point, Queue, Store, Uplink};

/// All tables, in the page's order.
pub(super) fn tables(snapshot: &Snapshot) -> Vec<Table> {
    vec![
        Table::new("points", "Points", POINTS, "No point is configured.", snapshot.points.iter().map(point)),
        Table::new(
            "devices",
            "Devices",
            DEVICES,
            "No device is configured.",
            snapshot.buses.iter().flat_map(|bus| bus.devices.iter().map(move |d| device(bus, d))),
        ),
        Table::new("buses", "Buses", BUSES, "No bus is configured.", snapshot.buses.iter().map(bus)),
        Table::new(
            "uplinks",
            "Uplinks",
            UPLINKS,
            "No uplink is configured: messages stay with the clients nearby.",
            snapshot.uplinks.iter().map(uplink),
        ),
        Table::new("broker", "Broker", BROKER, "", [broker(&snapshot.broker)]),
        Table::new(
            "queues",
            "Queues of clients",
            QUEUES,
            "No client nearby has a queue that outlives its connection.",
            snapshot.client_queues().map(queue),
        ),
        Table::new("store", "Store", STORE, "", [store(&snapshot.store)]),
        Table::new("clock", "Clock", CLOCK, "", [clock(&snapshot.clock)]),
    ]
}

const POINTS: &[Column] = &[
    Column::text("Point"),
    Column::figure("Value").class("figure value"),
    Column::figure("Age"),
    Column::text("Quality"),
    Column::text("Topic").class("text topic"),
];

fn point(point: &Point) -> Row {
    let (tone, quality) = match point.quality {
        Quality::Good => (Tone::Good, "good"),
        Quality::Stale => (Tone::Warn, "stale"),
        Quality::Bad if point.fault.is_none() && point.at.is_none() => (Tone::Wait, "not read yet"),
        Quality::Bad => (Tone::Bad, "bad"),
    };
    let value = Cell::plain(words::value(&point.value)).note(point.unit.as_deref().unwrap_or_default());
    Row {
        id: format!("point/{}/{}", point.device, point.point),
        tone,
        cells: vec![
            Cell::plain(&*point.point).note(&*point.device),
            value,
            Cell::age(point.at, "never"),
            Cell::plain(quality).tone(tone).note(point.fault.as_deref().unwrap_or_default()),
            Cell::plain(&*point.topic),
        ],
    }
}

const DEVICES: &[Column] = &[
    Column::text("Device"),
    Column::text("State"),
    Column::figure("Last answer"),
    Column::figure("Round trip"),
    Column::figure("Requests"),
    Column::figure("Answers"),
    Column::figure("Timeouts"),
    Column::figure("Bad frames"),
    Column::figure("Exceptions"),
];

fn device(bus: &Bus, device: &Device) -> Row {
    let counters = &device.counters;
    let place = match device.unit {
        Some(unit) => format!("{}, unit {unit}", bus.name),
        None => bus.name.to_string(),
    };
    Row {
        id: format!("device/{}", device.name),
        tone: Tone::of(&device.state),
        cells: vec![
            Cell::plain(&*device.name).note(place),
            Cell::state(&device.state, "answers", "silent"),
            Cell::age(device.answered, "never"),
            Cell::plain(device.round_trip_us.map_or(words::NONE.into(), words::micros)),
            Cell::number(counters.requests),
            Cell::number(counters.answers),
            Cell::number(counters.timeouts),
            Cell::number(counters.bad_frames),
            Cell::number(counters.exceptions),
        ],
    }
}

const BUSES: &[Column] =
    &[Column::text("Bus"), Column::text("State"), Column::figure("In use"), Column::figure("Devices")];

fn bus(bus: &Bus) -> Row {
    Row {
        id: format!("bus/{}", bus.name),
        tone: Tone::of(&bus.state),
        cells: vec![
            Cell::plain(&*bus.name).note(&*bus.link),
            Cell::state(&bus.state, "up", "down"),
            Cell::plain(words::percent(bus.utilisation)),
            Cell::number(bus.devices.len() as u64),
        ],
    }
}

const UPLINKS: &[Column] = &[
    Column::text("Uplink"),
    Column::text("State"),
    Column::figure("For"),
    Column::figure("Waiting"),
    Column::figure("Oldest waiting"),
    Column::figure("Backlog"),
    Column::figure("Behind"),
    Column::figure("Sent"),
    Column::figure("Received"),
    Column::figure("Refused"),
    Column::figure("Dropped"),
    Column::text("Line"),
];

fn uplink(joined: &UplinkQueue) -> Row {
    let UplinkQueue { uplink, queue } = joined;
    let none = || Cell::plain(words::NONE);
    Row {
        id: format!("uplink/{}", uplink.name),
        tone: Tone::of(&uplink.state),
        cells: vec![
            Cell::plain(&*uplink.name).note(&*uplink.url),
            Cell::state(&uplink.state, "connected", "not connected"),
            Cell::age(uplink.since, words::NONE),
            queue.as_ref().map_or_else(none, waiting),
            queue.as_ref().map_or_else(none, |queue| Cell::age(queue.oldest, words::NONE)),
            queue.as_ref().map_or_else(none, backlog),
            Cell::age(uplink.newest.filter(|_| queue.as_ref().is_some_and(|queue| queue.entries > 0)), words::NONE),
            Cell::number(uplink.sent),
            Cell::number(uplink.received),
            Cell::loss(uplink.refused).note(reasons(uplink)),
            queue.as_ref().map_or_else(none, |queue| dropped(queue.dropped, &queue.causes)),
            safety(uplink),
        ],
    }
}

/// What is unsafe about the way to the cloud.
fn safety(uplink: &Uplink) -> Cell {
    match uplink.risks.as_slice() {
        [] if uplink.url.starts_with("mqtts") || uplink.url.starts_with("wss") => Cell::plain("encrypted"),
        [] => Cell::plain("open"),
        risks => Cell::plain("unsafe").tone(Tone::Warn).note(risks.join("; ")),
    }
}

/// `3 not-authorised, 1 too-large`
fn reasons(uplink: &Uplink) -> String {
    uplink.aside.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ")
}

const BROKER: &[Column] = &[
    Column::text("Listens on"),
    Column::figure("Clients"),
    Column::figure("Sessions"),
    Column::figure("Subscriptions"),
    Column::figure("Retained"),
    Column::figure("Messages in"),
    Column::figure("Messages out"),
    Column::figure("Dropped"),
];

fn broker(broker: &Broker) -> Row {
    let listeners = match broker.listeners.as_slice() {
        [] => "nothing yet".into(),
        listeners => listeners.join(", "),
    };
    Row {
        id: "broker/all".into(),
        tone: Tone::Good,
        cells: vec![
            Cell::plain(listeners),
            Cell::number(broker.clients as u64),
            Cell::number(broker.sessions as u64),
            Cell::number(broker.subscriptions as u64),
            Cell::number(broker.retained as u64),
            Cell::number(broker.received),
            Cell::number(broker.sent),
            dropped(broker.dropped, &broker.causes),
        ],
    }
}

const QUEUES: &[Column] = &[
    Column::text("Client"),
    Column::text("State"),
    Column::figure("Waiting"),
    Column::figure("Oldest waiting"),
    Column::figure("Dropped"),
];

fn queue(queue: &Queue) -> Row {
    let (tone, state) = if queue.connected { (Tone::Good, "connected") } else { (Tone::Wait, "away") };
    Row {
        id: format!("queue/{}", queue.session),
        tone,
        cells: vec![
            Cell::plain(&*queue.session),
            Cell::plain(state).tone(tone),
            waiting(queue),
            Cell::age(queue.oldest, words::NONE),
            dropped(queue.dropped, &queue.causes),
        ],
    }
}

fn waiting(queue: &Queue) -> Cell {
    let on_the_way = match queue.inflight as u64 {
        0 => String::new(),
        n => format!("{} on the way", words::number(n)),
    };
    Cell::number(queue.entries).note(on_the_way)
}

/// What has to be caught up with, and how that goes.
fn backlog(queue: &Queue) -> Cell {
    let pace = match queue.catch_up {
        Some(left) => format!("{}/s, {} left", words::number(queue.drain.round() as u64), words::span(left)),
        None => String::new(),
    };
    Cell::number(queue.backlog).note(pace)
}

const STORE: &[Column] = &[
    Column::text("File"),
    Column::text("State"),
    Column::figure("Entries"),
    Column::figure("Size"),
    Column::figure("Oldest"),
    Column::figure("Writes"),
    Column::figure("Written"),
    Column::figure("Disk left"),
    Column::figure("Dropped"),
];

fn store(store: &Store) -> Row {
    let full = if store.max_bytes == 0 { 0.0 } else { store.bytes as f64 / store.max_bytes as f64 };
    Row {
        id: "store/all".into(),
        tone: Tone::of(&store.state),
        cells: vec![
            Cell::plain(&*store.path),
            Cell::state(&store.state, "in order", "cannot write"),
            Cell::number(store.entries).note(set_aside(store)),
            Cell::plain(words::bytes(store.bytes)).note(format!(
                "{} of {}",
                words::percent(full),
                words::bytes(store.max_bytes)
            )),
            Cell::age(store.oldest, words::NONE),
            Cell::number(store.commits),
            written(store),
            disk(store),
            dropped(store.dropped, &store.causes),
        ],
    }
}

fn set_aside(store: &Store) -> String {
    if store.aside == 0 { String::new() } else { format!("{} set aside", words::number(store.aside)) }
}

fn disk(store: &Store) -> Cell {
    let Some(free) = store.free else { return Cell::plain(words::NONE) };
    let cell = Cell::plain(words::bytes(free)).note(format!("{} stay free", words::bytes(store.reserve)));
    if store.short { cell.tone(Tone::Warn) } else { cell }
}

/// What was dropped, and for which causes.
fn dropped(n: u64, causes: &Causes) -> Cell {
    Cell::loss(n).note(causes.to_string())
}

const CLOCK: &[Column] = &[
    Column::text("Clock"),
    Column::text("State"),
    Column::figure("Set"),
    Column::figure("Last set"),
    Column::figure("By"),
];

fn clock(clock: &Standing) -> Row {
    let (tone, state) = if clock.synced { (Tone::Good, "trusted") } else { (Tone::Warn, "not trusted") };
    let by = clock.step.map_or(words::NONE.into(), |step| words::step(step.by));
    Row {
        id: "clock/all".into(),
        tone,
        cells: vec![
            Cell::plain("wall clock"),
            Cell::plain(state).tone(tone).note(&*clock.why),
            Cell::number(clock.steps),
            Cell::age(clock.step.map(|step| step.at), words::NONE),
            Cell::plain(by),
        ],
    }
}

fn written(store: &Store) -> Cell {
    let Some(bytes) = store.written else { return Cell::plain(words::NONE) };
    let cell = Cell::plain(words::bytes(bytes));
    match store.written_per_day {
        Some(per_day) => cell.note(format!("{} a day", words::bytes(per_day))),
        None => cell,
    }
}
