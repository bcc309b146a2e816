//! What becomes of messages, in tables.

use super::*;

fn rules(list: &str) -> Arc<[Rule]> {
    #[derive(Deserialize)]
    struct Rules {
        list: Vec<Rule>,
    }
    toml::from_str::<Rules>(&format!("list = {list}")).unwrap().list.into()
}

fn way(up: &str, down: &str) -> Way {
    Way {
        gateway: "plant7".into(),
        uplink: "cloud".into(),
        siblings: ["spare".into()].into(),
        up: rules(up),
        down: rules(down),
        trail: Trail::Auto,
        five: true,
        echoes: false,
    }
}

fn message(topic: &str, hops: &[&str]) -> Message {
    let mut message = Message::new(topic, "1");
    hops.iter().for_each(|hop| trail::add(&mut message, *hop));
    message
}

fn hops(message: &Message) -> Vec<String> {
    trail::hops(message).map(str::to_owned).collect()
}

#[test]
fn the_deciding_rule_says_how_a_message_goes_over() {
    let way = way(
        r#"[{ filter = "plant/private/#", drop = true }, { filter = "plant/+/+/set", as = "cmd/{1}/{2}", qos = 0 },
            { filter = "plant/#", strip = "plant/", prefix = "p7/", qos = 2, retain = "clear" }]"#,
        r#"[{ filter = "cmd/#", strip = "cmd/", max-age = "10s" }, "$SYS/load"]"#,
    );
    let up = |topic: &str| way.up(&message(topic, &[]));
    let passage =
        |rule, topic: &str, qos, retain| Ok(Passage { rule, topic: topic.into(), qos, retain, max_age: None });
    assert_eq!(up("other"), Err(Stay::NoRule));
    assert_eq!(up("plant/private/x"), Err(Stay::Dropped { rule: 0 }));
    assert_eq!(up("plant/tank/pump/set"), passage(1, "cmd/tank/pump", QoS::AtMostOnce, Retain::Keep));
    assert_eq!(up("plant/tank"), passage(2, "p7/tank", QoS::ExactlyOnce, Retain::Clear));
    for (topic, why) in [("plant", "does not begin with"), ("plant/", "p7/")] {
        match (up(topic), topic) {
            (Err(Stay::Name { rule: 2, why: says, .. }), "plant") => assert!(says.contains(why), "{says}"),
            (Ok(passage), "plant/") => assert_eq!(&*passage.topic, why),
            other => panic!("{other:?}"),
        }
    }
    let down = way.down(&message("cmd/pump", &[])).unwrap();
    assert_eq!((down.rule, &*down.topic, down.max_age), (0, "pump", Some(Duration::from_secs(10))));
    assert!(matches!(way.down(&message("cmd", &[])), Err(Stay::Name { .. })));
    assert!(matches!(way.down(&message("cmd/$SYS/x", &[])), Err(Stay::Name { .. })));
    assert!(matches!(way.down(&message("$SYS/load", &[])), Err(Stay::Name { .. })));
    let deep = format!("cmd/{}", "/".repeat(201));
    assert_eq!(way.down(&message(&deep, &[])), Err(Stay::TooDeep));
}

#[test]
fn what_an_echoing_cloud_would_send_back_does_not_go_up_however_the_filters_overlap() {
    for (up, down, topic, echoes) in [
        (r#"["plant/+/x"]"#, r#"["plant/a/#"]"#, "plant/a/x", Some("plant/a/x")),
        (r#"["plant/+/x"]"#, r#"["plant/a/#"]"#, "plant/b/x", None),
        // Renames that map back.
        (
            r#"[{ filter = "a/#", strip = "a/", prefix = "b/" }]"#,
            r#"[{ filter = "b/#", as = "a/{#}" }]"#,
            "a/x",
            Some("b/x"),
        ),
        (r#"[{ filter = "a/#", strip = "a/", prefix = "b/" }]"#, r#"["a/#"]"#, "a/x", None),
        (r#"[{ filter = "+/+", as = "{2}/{1}" }]"#, r#"["x/#"]"#, "a/x", Some("x/a")),
        // What is dropped when it comes is not sent back for anybody.
        (r#"["a/#"]"#, r#"[{ filter = "a/b", drop = true }, "a/#"]"#, "a/b", None),
        (r#"["a/#"]"#, r#"[{ filter = "a/b", drop = true }, "a/#"]"#, "a/c", Some("a/c")),
        (r##"["#"]"##, r##"["#"]"##, "a", Some("a")),
    ] {
        let way = Way { echoes: true, five: false, ..way(up, down) };
        let name = match way.up(&message(topic, &[])) {
            Err(Stay::Echo { name, .. }) => Some(name),
            Ok(_) => None,
            other => panic!("{up} {down} {topic}: {other:?}"),
        };
        assert_eq!(name.as_deref(), echoes, "{up} {down} {topic}");
        assert!(Way { echoes: false, ..way }.up(&message(topic, &[])).is_ok());
    }
}

#[test]
fn a_trail_stops_what_comes_round() {
    let five = way(r##"["#"]"##, r##"["#"]"##);
    let old = Way { five: false, ..five.clone() };
    let never = Way { trail: Trail::Never, ..old.clone() };
    let far: Vec<_> = (0..trail::MOST).map(|n| n.to_string()).collect();
    let far: Vec<&str> = far.iter().map(String::as_str).collect();
    for (hops, up_five, up_old, down) in [
        (&[][..], None, None, None),
        (&["plant8"], None, Some(Stay::NoTrail), None),
        (&["plant7"], None, Some(Stay::NoTrail), Some(Stay::CameRound)),
        (&["plant7/other"], None, Some(Stay::NoTrail), Some(Stay::CameRound)),
        (&["plant8", "plant7/cloud"], Some(Stay::CameDown), Some(Stay::CameDown), Some(Stay::CameRound)),
        (&["plant7/spare"], Some(Stay::CameDown), Some(Stay::CameDown), Some(Stay::CameRound)),
        (&far[..], Some(Stay::TooFar), Some(Stay::TooFar), Some(Stay::TooFar)),
    ] {
        let message = message("a", hops);
        assert_eq!(five.up(&message).err(), up_five, "{hops:?}");
        assert_eq!(old.up(&message).err(), up_old, "{hops:?}");
        assert_eq!(five.down(&message).err(), down, "{hops:?}");
        assert!(never.up(&message).is_ok() && never.down(&message).is_ok(), "{hops:?}");
    }
}

#[test]
fn only_what_no_cloud_has_had_is_withheld() {
    let old = Way { five: false, echoes: true, ..way(r##"["#"]"##, r#"["a"]"#) };
    for (topic, hops, withheld) in [
        ("a", &[][..], true),
        ("a", &["plant8"], true),
        ("b", &["plant8"], true),
        ("b", &["plant7/other"], false),
        ("b", &["plant7/cloud"], false),
    ] {
        let message = message(topic, hops);
        let why = old.up(&message).unwrap_err();
        assert_eq!(old.withholds(&message, &why), withheld, "{topic} {hops:?}: {why}");
    }
    assert!(!old.withholds(&message("a", &[]), &Stay::NoRule));
}

#[test]
fn marks_are_made_where_they_are_needed() {
    let auto = way(r##"["#"]"##, r##"["#"]"##);
    let sent = |way: &Way, from: &[&str]| {
        let message = Arc::new(message("a", from));
        let passage = way.up(&message).unwrap();
        hops(&way.sent(message, &passage))
    };
    assert_eq!(sent(&auto, &[]), [""; 0]);
    assert_eq!(sent(&auto, &["plant8"]), ["plant8", "plant7"]);
    assert_eq!(sent(&auto, &["plant7/other"]), ["plant7/other"]);
    let always = Way { trail: Trail::Always, ..auto.clone() };
    assert_eq!(sent(&always, &[]), ["plant7"]);
    let never = Way { trail: Trail::Never, ..auto.clone() };
    assert_eq!(sent(&never, &["plant8"]), ["plant8"]);

    let down = |way: &Way| {
        let message = Arc::new(message("a", &["plant8"]));
        let passage = way.down(&message).unwrap();
        hops(&way.received(message, &passage))
    };
    assert_eq!(down(&auto), ["plant8", "plant7/cloud"]);
    assert_eq!(down(&never), ["plant8"]);
}

#[test]
fn what_comes_down_is_of_no_longer_use_than_its_rule_has_it() {
    let way = way("[]", r#"[{ filter = "a", max-age = "10s", retain = "clear" }, "b"]"#);
    let received = |topic: &str, expiry| {
        let mut message = Message::retained(topic, "1");
        message.properties.get_or_insert_default().expiry = expiry;
        let passage = way.down(&message).unwrap();
        let message = way.received(Arc::new(message), &passage);
        (message.properties.as_ref().and_then(|p| p.expiry), message.retain)
    };
    assert_eq!(received("a", None), (Some(10), false));
    assert_eq!(received("a", Some(5)), (Some(5), false));
    assert_eq!(received("a", Some(50)), (Some(10), false));
    assert_eq!(received("b", None), (None, true));
    assert_eq!(received("b", Some(50)), (Some(50), true));
}
