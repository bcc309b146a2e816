//! From readings to messages, from messages to commands. Pure: no socket, no task, no timer.
//!
//! A [`Route`] joins a point to its topic: [`topic`] makes that topic from a template, [`payload`] writes the reading,
//! [`report`] says which readings are worth a message, [`command`] reads what is wished for on `<topic>/set`.

pub mod command;
pub mod payload;
pub mod report;
pub mod topic;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock::Moment;
use crate::message::{Message, QoS};
use crate::mqtt::topic::check_name;
use crate::reading::{Reading, Report, Value};
use crate::status::{OFFLINE, ONLINE};

pub use command::{Refusal, Wish};

/// Where gateway `id` says whether `device` answers.
pub fn device_status_topic(id: &str, device: &str) -> String {
    format!("fieldpost/{id}/device/{device}/status")
}

/// How one point is published, resolved from the config.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The device's name in the config.
    pub device: Arc<str>,
    /// The point's name within its device.
    pub point: Arc<str>,
    /// The topic of its readings: a valid name, and no other route's.
    pub topic: Arc<str>,
    /// How a reading is written.
    pub payload: payload::Format,
    /// Which readings are published.
    pub report: report::Rule,
    /// Whether its messages are retained.
    pub retain: bool,
    /// Their quality of service.
    pub qos: QoS,
    /// Whether commands are taken on `<topic>/set`.
    pub writable: bool,
}

/// All routes, and what was last published on each.
#[derive(Debug)]
pub struct Mapping {
    gateway: Arc<str>,
    routes: Vec<(Route, Option<report::Last>)>,
    /// Into `routes`, by device and point.
    points: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
    /// Into `routes`, by topic.
    topics: HashMap<Arc<str>, usize>,
    /// Whether results also go where the commands ask for them.
    responds: bool,
}

impl Mapping {
    /// The mapping of the gateway with this id.
    pub fn new(gateway_id: Arc<str>, routes: Vec<Route>) -> Self {
        let mut points: HashMap<Arc<str>, HashMap<Arc<str>, usize>> = HashMap::new();
        let mut topics = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            points.entry(route.device.clone()).or_default().insert(route.point.clone(), index);
            topics.insert(route.topic.clone(), index);
        }
        let routes = routes.into_iter().map(|route| (route, None)).collect();
        Self { gateway: gateway_id, routes, points, topics, responds: true }
    }

    /// The same, but a command's response topic is ignored.
    ///
    /// The gateway may publish everywhere. Where clients may not, a response topic would let them do it through the
    /// gateway: so this is for brokers with access rules.
    #[must_use]
    pub fn without_responses(self) -> Self {
        Self { responds: false, ..self }
    }

    /// The messages for what a bus told at `now`: readings that their points' rules want, each on its topic, and whether
    /// a device answers, retained on its status topic.
    pub fn report(&mut self, report: &Report, now: Instant) -> Vec<Message> {
        match report {
            Report::Readings(readings) => {
                let at = Moment::now();
                let mut messages = Vec::with_capacity(readings.len());
                messages.extend(readings.iter().filter_map(|reading| self.reading(reading, now, at)));
                messages
            }
            Report::Device { device, online } => {
                let payload = if *online { ONLINE } else { OFFLINE };
                vec![Message::retained(device_status_topic(&self.gateway, device), payload)]
            }
        }
    }

    /// What to subscribe to: the command topic of each writable point.
    pub fn command_filters(&self) -> Vec<String> {
        let writable = self.routes.iter().filter(|(route, _)| route.writable);
        writable.map(|(route, _)| format!("{}/set", route.topic)).collect()
    }

    /// What `message` wants written; none when it is on no command topic, or only clears what was retained there.
    pub fn command(&self, message: &Message) -> Option<Result<Wish, Refusal>> {
        let route = self.commanded(&message.topic)?;
        if message.retain && message.payload.is_empty() {
            return None;
        }
        let wish = |value| Wish { device: route.device.clone(), point: route.point.clone(), value };
        Some(command::value(message).map(wish))
    }

    /// What to tell about the command in `message`, carried out or refused: one message on `<topic>/set/result`, and one
    /// on the response topic if it has one (MQTT 5.0, 4.10), unless [`Mapping::without_responses`].
    pub fn result(&self, message: &Message, outcome: Result<&Value, &str>) -> Vec<Message> {
        let at = Moment::now();
        let timed = |message| Message { at, timed: true, ..message };
        let payload = command::outcome(outcome, at);
        let mut messages = vec![timed(Message::new(format!("{}/result", message.topic), payload.clone()))];
        if let Some(request) = &message.properties
            && let Some(topic) = &request.response_topic
            && self.may_answer_on(topic)
        {
            messages.push(timed(command::response(topic, request, payload)));
        }
        messages
    }

    fn reading(&mut self, reading: &Reading, now: Instant, at: Moment) -> Option<Message> {
        let index = *self.points.get(&reading.device)?.get(&reading.point)?;
        let (route, last) = &mut self.routes[index];
        route.report.wants(reading, last, now).then(|| Message {
            topic: route.topic.clone(),
            payload: route.payload.payload(reading, at),
            qos: route.qos,
            retain: route.retain,
            at,
            timed: route.payload.is_timed(),
            properties: None,
        })
    }

    /// The writable point that takes its commands on `topic`.
    fn commanded(&self, topic: &str) -> Option<&Route> {
        let (route, _) = &self.routes[*self.topics.get(topic.strip_suffix("/set")?)?];
        route.writable.then_some(route)
    }

    /// A requester names the response topic, but it is the gateway that publishes there: not where its own readings,
    /// states and commands are, or an answer could pass for one of them, or be a command itself, for ever.
    fn may_answer_on(&self, topic: &str) -> bool {
        self.responds
            && check_name(topic).is_ok()
            && !topic.starts_with('$')
            && !topic.starts_with("fieldpost/")
            && !self.topics.contains_key(topic)
            && self.commanded(topic).is_none()
    }
}

#[cfg(test)]
mod tests;
