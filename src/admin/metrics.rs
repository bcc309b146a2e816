//! The board for Prometheus, in its text format 0.0.4.

use std::fmt::Write as _;

use super::snapshot::Snapshot;
use crate::clock::Moment;
use crate::reading::{Quality, Value};
use crate::status::{Device, State};

/// What `/metrics` says its content is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all families. A point's value is there only while it is good: a gap is the truth, a frozen line is not.
pub(crate) fn write(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let Snapshot { gateway, buses, points, uplinks, broker, store, .. } = snapshot;

    text.gauge(
        "info",
        "The gateway and its version.",
        [(vec![("id", &*gateway.id), ("version", gateway.version)], 1.0)],
    );
    text.gauge("start_time_seconds", "When the gateway started, in Unix time.", [(vec![], seconds(gateway.started))]);

    text.gauge("clock_synced", "Whether the wall clock is trusted.", [(vec![], f64::from(snapshot.clock.synced))]);
    text.counter("clock_steps_total", "How often the wall clock was set.", [(vec![], snapshot.clock.steps as f64)]);
    let step = snapshot.clock.step.map(|step| (vec![], step.by as f64 / 1e3));
    text.gauge("clock_last_step_seconds", "How far the wall clock was set forward the last time.", step);

    let bus = |read: fn(&crate::status::Bus) -> f64| buses.iter().map(move |b| (vec![("bus", &*b.name)], read(b)));
    text.gauge("bus_up", "Whether the bus is there.", bus(|b| up(&b.state)));
    text.gauge("bus_utilisation_ratio", "Part of the time that the bus was in use.", bus(|b| b.utilisation));

    let device = |read: fn(&Device) -> Option<f64>| {
        let all = buses.iter().flat_map(|bus| bus.devices.iter().map(move |device| (bus, device)));
        all.filter_map(move |(b, d)| Some((vec![("bus", &*b.name), ("device", &*d.name)], read(d)?)))
    };
    text.gauge("device_up", "Whether the device answers.", device(|d| Some(up(&d.state))));
    text.gauge(
        "device_answered_timestamp_seconds",
        "When the device last gave a good answer, in Unix time.",
        device(|d| d.answered.map(seconds)),
    );
    text.gauge(
        "device_round_trip_seconds",
        "The median round trip of the last answers.",
        device(|d| Some(d.round_trip_us? as f64 / 1e6)),
    );
    text.counter("device_requests_total", "Requests sent.", device(|d| Some(d.counters.requests as f64)));
    text.counter("device_answers_total", "Good answers.", device(|d| Some(d.counters.answers as f64)));
    text.counter("device_timeouts_total", "Requests without an answer.", device(|d| Some(d.counters.timeouts as f64)));
    text.counter(
        "device_bad_frames_total",
        "Frames that were no answer to the request.",
        device(|d| Some(d.counters.bad_frames as f64)),
    );
    text.counter("device_exceptions_total", "Exception answers.", device(|d| Some(d.counters.exceptions as f64)));

    let name = |p: &'_ crate::status::Point| (p.device.clone(), p.point.clone());
    let names: Vec<_> = points.iter().map(name).collect();
    let labels = |i: usize| vec![("device", &*names[i].0), ("point", &*names[i].1)];
    text.gauge(
        "point_good",
        "Whether the point's value is good.",
        points.iter().enumerate().map(|(i, p)| (labels(i), f64::from(p.quality == Quality::Good))),
    );
    text.gauge(
        "point_value",
        "The value of a point, while it is good and a number.",
        points.iter().enumerate().filter_map(|(i, p)| {
            let mut labels = labels(i);
            labels.extend(p.unit.as_deref().map(|unit| ("unit", unit)));
            Some((labels, numeric(&p.value).filter(|_| p.quality == Quality::Good)?))
        }),
    );

    let one = |n: u64| [(vec![], n as f64)];
    text.gauge("broker_clients", "Clients connected.", one(broker.clients as u64));
    text.gauge("broker_sessions", "Sessions kept, connected or not.", one(broker.sessions as u64));
    text.gauge("broker_subscriptions", "Subscriptions of all sessions.", one(broker.subscriptions as u64));
    text.gauge("broker_retained", "Retained messages.", one(broker.retained as u64));
    text.counter("broker_received_total", "Messages received.", one(broker.received));
    text.counter("broker_sent_total", "Messages sent to subscribers.", one(broker.sent));
    text.counter("broker_dropped_total", "Deliveries dropped.", one(broker.dropped));
    text.counter("broker_refused_total", "Publishes that the access rules forbid.", one(broker.refused));

    let queue = |read: fn(&crate::status::Queue) -> Option<f64>| {
        broker.queues.iter().filter_map(move |q| Some((vec![("session", &*q.session)], read(q)?)))
    };
    text.gauge("queue_entries", "Entries that the reader has not acknowledged.", queue(|q| Some(q.entries as f64)));
    text.gauge(
        "queue_backlog",
        "Entries that were not sent when they were fresh, and are to be caught up with.",
        queue(|q| Some(q.backlog as f64)),
    );
    text.gauge("queue_drain_rate", "By how many entries a second the queue gets shorter.", queue(|q| Some(q.drain)));
    text.gauge(
        "queue_catch_up_seconds",
        "How long until the backlog is gone at that rate.",
        queue(|q| q.catch_up.map(|left| left.as_secs_f64())),
    );
    text.gauge(
        "queue_oldest_timestamp_seconds",
        "When the oldest entry entered, in Unix time.",
        queue(|q| q.oldest.map(seconds)),
    );
    let dropped = broker.queues.iter().flat_map(|queue| queue.causes.iter().map(move |dropped| (queue, dropped)));
    text.counter(
        "queue_dropped_total",
        "Entries dropped, by cause.",
        dropped.map(|(q, (cause, n))| (vec![("session", &*q.session), ("cause", cause.name())], n as f64)),
    );

    let uplink = |read: fn(&crate::status::Uplink) -> Option<f64>| {
        uplinks.iter().filter_map(move |u| Some((vec![("uplink", &*u.uplink.name)], read(&u.uplink)?)))
    };
    text.gauge("uplink_up", "Whether the cloud broker is connected.", uplink(|u| Some(up(&u.state))));
    text.gauge(
        "uplink_acknowledged_timestamp_seconds",
        "When the cloud last acknowledged a message, in Unix time.",
        uplink(|u| u.acknowledged.map(seconds)),
    );
    text.gauge(
        "uplink_newest_timestamp_seconds",
        "When the newest message that the cloud has acknowledged had entered, in Unix time.",
        uplink(|u| u.newest.map(seconds)),
    );
    text.counter("uplink_sent_total", "Messages that the cloud has acknowledged.", uplink(|u| Some(u.sent as f64)));
    text.counter("uplink_received_total", "Messages that came down.", uplink(|u| Some(u.received as f64)));
    text.counter("uplink_refused_total", "Messages that the cloud refused.", uplink(|u| Some(u.refused as f64)));
    let aside = uplinks.iter().flat_map(|u| u.uplink.aside.iter().map(move |(reason, n)| (u, *reason, *n)));
    text.counter(
        "uplink_set_aside_total",
        "Messages set aside, by reason.",
        aside.map(|(u, reason, n)| (vec![("uplink", &*u.uplink.name), ("reason", reason)], n as f64)),
    );
    text.counter("uplink_pauses_total", "How often the cloud took no more.", uplink(|u| Some(u.pauses as f64)));
    text.counter("uplink_connects_total", "Connections made.", uplink(|u| Some(u.connects as f64)));

    text.gauge("store_up", "Whether the store can write.", [(vec![], up(&store.state))]);
    text.gauge("store_entries", "Entries on disk.", one(store.entries));
    text.gauge("store_bytes", "Bytes of the messages on disk.", one(store.bytes));
    text.gauge("store_max_bytes", "The bound on the bytes.", one(store.max_bytes));
    let oldest = store.oldest.map(|oldest| (vec![], seconds(oldest)));
    text.gauge("store_oldest_timestamp_seconds", "When the oldest message entered, in Unix time.", oldest);
    text.gauge("store_set_aside", "Messages set aside, as a cloud will not have them.", one(store.aside));
    text.counter("store_set_aside_dropped_total", "The oldest of them, given way.", one(store.aside_dropped));
    text.counter("store_commits_total", "Transactions.", one(store.commits));
    let written = store.written.map(|bytes| (vec![], bytes as f64));
    text.counter("store_written_bytes_total", "Bytes written to the disk, by whole pages.", written);
    text.counter("store_dropped_total", "Entries dropped, by age or for want of room.", one(store.dropped));
    let free = store.free.map(|free| (vec![], free as f64));
    text.gauge("store_disk_free_bytes", "Bytes that the disk has left.", free);
    text.gauge("store_reserve_bytes", "How many of them the store leaves to others.", one(store.reserve));
    text.gauge(
        "store_short",
        "Whether the disk has so little left that the store does not grow.",
        [(vec![], f64::from(store.short))],
    );
    text.gauge("store_refusing_queues", "Queues that are full and take nothing new.", one(store.refusing as u64));
    text.0
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

type Sample<'a> = (Vec<(&'static str, &'a str)>, f64);

impl Text {
    fn gauge<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(name, "gauge", help, samples);
    }

    fn counter<'a>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        self.family(name, "counter", help, samples);
    }

    fn family<'a>(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = Sample<'a>>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.put(format_args!("# HELP fieldpost_{name} {help}\n# TYPE fieldpost_{name} {kind}\n"));
        for (labels, value) in samples {
            self.put(format_args!("fieldpost_{name}"));
            for (i, (label, text)) in labels.iter().enumerate() {
                let open = if i == 0 { '{' } else { ',' };
                self.put(format_args!("{open}{label}=\"{}\"", escaped(text)));
            }
            let close = if labels.is_empty() { "" } else { "}" };
            self.put(format_args!("{close} {value}\n"));
        }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a string does not fail");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn up(state: &State) -> f64 {
    f64::from(*state == State::Up)
}

fn seconds(at: Moment) -> f64 {
    at.shown_at(Moment::now()).0 as f64 / 1e3
}

fn numeric(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(b) => Some(f64::from(*b)),
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) => Some(*x),
        Value::Null | Value::Text(_) => None,
    }
}
