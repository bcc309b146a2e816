//! On which topic a point's readings go, and how: settings of the gateway, of a device or of a point; the nearest wins.

use std::collections::HashMap;

use serde::Deserialize;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Span;
use crate::mapping::topic::{Names, Template};
use crate::mapping::{Route, payload, report};
use crate::message::QoS;

/// The topic of a point when nothing says otherwise.
pub(crate) const TOPIC: &str = "{gateway}/{device}/{point}";

/// The keys that `[gateway]`, `[device.x]` and a point have in common.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Routing {
    topic: Option<Spanned<Template>>,
    payload: Option<payload::Format>,
    report: Option<report::Rule>,
    retain: Option<bool>,
    qos: Option<QoS>,
}

impl Routing {
    /// These settings, with what they do not say taken from `base`.
    pub fn over(self, base: &Routing) -> Self {
        Self {
            topic: self.topic.or_else(|| base.topic.clone()),
            payload: self.payload.or(base.payload),
            report: self.report.or(base.report),
            retain: self.retain.or(base.retain),
            qos: self.qos.or(base.qos),
        }
    }

    /// The route of a point; none when its names make no topic. `place` is where the point stands.
    pub fn route(&self, names: &Names<'_>, writable: bool, place: &Span, out: &mut Diagnostics) -> Option<Route> {
        let resolved = match &self.topic {
            Some(template) => template.get_ref().resolve(names),
            None => TOPIC.parse::<Template>().expect("a test holds it to be one").resolve(names),
        };
        let topic = match resolved {
            Ok(topic) => topic,
            Err(why) => {
                let span = self.topic.as_ref().map_or_else(|| place.clone(), Spanned::span);
                out.push(Diagnostic::error(format!("this makes no topic for a point: {why}")).at(span));
                return None;
            }
        };
        Some(Route {
            device: names.device.into(),
            point: names.point.into(),
            topic,
            payload: self.payload.unwrap_or_default(),
            report: self.report.unwrap_or_default(),
            retain: self.retain.unwrap_or(true),
            qos: self.qos.unwrap_or(QoS::AtLeastOnce),
            writable,
        })
    }
}

/// Tells of two points on one topic; the topics that a writable point listens and answers on count as well.
pub(super) fn check_topics(routes: &[(Route, Span)], out: &mut Diagnostics) {
    let mut taken: HashMap<String, (&Route, &Span)> = HashMap::new();
    for (route, place) in routes {
        let mut topics = vec![route.topic.to_string()];
        if route.writable {
            topics.extend([format!("{}/set", route.topic), format!("{}/set/result", route.topic)]);
        }
        for topic in topics {
            if let Some((other, there)) = taken.get(&topic) {
                let name = |r: &Route| format!("{}.{}", r.device, r.point);
                out.push(
                    Diagnostic::error(format!("two points use the topic `{topic}`"))
                        .mark(place.clone(), format!("for {}", name(route)))
                        .mark((*there).clone(), format!("and for {}", name(other)))
                        .help("give one of them another `topic`, or use {device} and {point} in it".to_owned()),
                );
                break;
            }
            taken.insert(topic, (route, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_topic_is_a_template() {
        let names = Names { gateway: "g", bus: "b", device: "d", unit: 1, point: "p" };
        let route = Routing::default().route(&names, false, &(0..0), &mut Diagnostics::default());
        let route = route.expect("a route");
        assert_eq!((&*route.topic, route.retain, route.qos), ("g/d/p", true, QoS::AtLeastOnce));
    }
}
