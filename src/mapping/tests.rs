use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::message::Properties;
use crate::reading::Quality;

fn route(point: &str, writable: bool) -> Route {
    Route {
        device: "tank".into(),
        point: point.into(),
        topic: format!("plant/tank/{point}").into(),
        payload: payload::Format::Value,
        report: report::Rule::default(),
        retain: true,
        qos: QoS::AtLeastOnce,
        writable,
    }
}

fn mapping() -> Mapping {
    let level = Route {
        report: report::Rule { change: Some(1.0), at_least: Some(Duration::from_secs(60)) },
        retain: false,
        qos: QoS::AtMostOnce,
        ..route("level", false)
    };
    let flow = Route { payload: payload::Format::Json, ..route("flow", false) };
    Mapping::new("plant7".into(), vec![level, flow, route("pump", true)])
}

fn reading(device: &str, point: &str, value: i128) -> Reading {
    Reading {
        device: device.into(),
        point: point.into(),
        value: Value::Int(value),
        quality: Quality::Good,
        at: Timestamp(0).into(),
        fault: None,
    }
}

fn request(topic: &str, response_topic: &str) -> Message {
    let properties = Properties {
        response_topic: Some(response_topic.into()),
        correlation: Some(vec![1, 0, 255]),
        ..Properties::default()
    };
    Message { properties: Some(Box::new(properties)), ..Message::new(topic, "1") }
}

#[test]
fn readings_go_to_their_points_topics() {
    let mut mapping = mapping();
    let readings = vec![reading("tank", "level", 7), reading("tank", "flow", 8), reading("tank", "pump", 1)];
    let messages = mapping.report(&Report::Readings(readings), Instant::now());
    let shown: Vec<_> = messages
        .iter()
        .map(|message| (&*message.topic, str::from_utf8(&message.payload), message.qos, message.retain))
        .collect();
    let flow = r#"{"v":8,"t":"1970-01-01T00:00:00.000Z","q":"good"}"#;
    let wanted = [
        ("plant/tank/level", Ok("7"), QoS::AtMostOnce, false),
        ("plant/tank/flow", Ok(flow), QoS::AtLeastOnce, true),
        ("plant/tank/pump", Ok("1"), QoS::AtLeastOnce, true),
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn each_point_has_its_own_rule_and_memory() {
    let mut mapping = mapping();
    let both = || Report::Readings(vec![reading("tank", "level", 7), reading("tank", "pump", 1)]);
    let now = Instant::now();
    assert_eq!(mapping.report(&both(), now).len(), 2);
    let again = mapping.report(&both(), now + Duration::from_secs(1));
    assert_eq!(again.iter().map(|message| &*message.topic).collect::<Vec<_>>(), ["plant/tank/pump"]);
    assert_eq!(mapping.report(&both(), now + Duration::from_secs(60)).len(), 2);
}

#[test]
fn readings_of_unknown_points_are_left_out() {
    let unknown = vec![reading("tank", "depth", 1), reading("well", "level", 1)];
    assert_eq!(mapping().report(&Report::Readings(unknown), Instant::now()), []);
}

#[test]
fn devices_come_and_go_on_their_status_topics() {
    for (online, payload) in [(true, "online"), (false, "offline")] {
        let messages = mapping().report(&Report::Device { device: "tank".into(), online }, Instant::now());
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(&*message.topic, "fieldpost/plant7/device/tank/status");
        assert_eq!((&*message.payload, message.retain), (payload.as_bytes(), true));
    }
}

#[test]
fn takes_commands_for_writable_points_only() {
    let mapping = mapping();
    assert_eq!(mapping.command_filters(), ["plant/tank/pump/set"]);
    let wish = Wish { device: "tank".into(), point: "pump".into(), value: Value::Text("on".into()) };
    assert_eq!(mapping.command(&Message::new("plant/tank/pump/set", "on")), Some(Ok(wish)));
    for elsewhere in ["plant/tank/level/set", "plant/tank/pump", "plant/tank/pump/set/result", "set", "/set"] {
        assert_eq!(mapping.command(&Message::new(elsewhere, "1")), None, "{elsewhere}");
    }
    let refused = |message: &Message| mapping.command(message).expect("a command topic").expect_err("no command");
    assert!(refused(&Message::new("plant/tank/pump/set", "")).0.contains("empty"));
    assert_eq!(refused(&Message::retained("plant/tank/pump/set", "1")).0, "retained commands are not carried out");
    assert_eq!(mapping.command(&Message::retained("plant/tank/pump/set", "")), None);
}

#[test]
fn tells_what_became_of_a_command() {
    let command = Message::new("plant/tank/pump/set", "1");
    let told = |outcome| {
        let messages = mapping().result(&command, outcome);
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((&*message.topic, message.retain), ("plant/tank/pump/set/result", false));
        String::from_utf8(message.payload.to_vec()).expect("JSON is text")
    };
    let good = told(Ok(&Value::Float(42.5)));
    assert!(good.starts_with(r#"{"ok":true,"v":42.5,"t":"20"#) && good.ends_with("Z\"}"), "{good}");
    let bad = told(Err("no \"answer\""));
    assert!(bad.starts_with(r#"{"ok":false,"error":"no \"answer\"","t":"20"#), "{bad}");
}

#[test]
fn answers_a_request_where_it_asks_for_it() {
    let messages = mapping().result(&request("plant/tank/pump/set", "answers/me"), Ok(&Value::Int(1)));
    let [result, response] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(&*result.topic, "plant/tank/pump/set/result");
    assert_eq!(result.properties, None);
    assert_eq!((&*response.topic, &response.payload), ("answers/me", &result.payload));
    let properties = response.properties.as_deref().expect("an answer has properties");
    assert_eq!(properties.correlation.as_deref(), Some(&[1, 0, 255][..]));
    assert_eq!(properties.response_topic, None);
}

#[test]
fn without_responses_a_request_is_answered_on_the_result_topic_only() {
    let mapping = mapping().without_responses();
    let messages = mapping.result(&request("plant/tank/pump/set", "answers/me"), Ok(&Value::Int(1)));
    assert_eq!(messages.iter().map(|m| &*m.topic).collect::<Vec<_>>(), ["plant/tank/pump/set/result"]);
}

#[test]
fn an_answer_never_passes_for_a_reading_a_state_or_a_command() {
    let topics = ["plant/tank/pump/set", "plant/tank/level", "fieldpost/plant7/status", "$SYS/broker", "answers/#", ""];
    for topic in topics {
        assert_eq!(mapping().result(&request("plant/tank/pump/set", topic), Ok(&Value::Int(1))).len(), 1, "{topic}");
    }
}
