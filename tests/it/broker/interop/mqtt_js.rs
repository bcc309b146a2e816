//! MQTT.js, the client of Node-RED and of most pages.

use serde_json::{Value, json};

use crate::broker::access::add_user;
use crate::broker::clients::{Clients, numbers};
use crate::broker::listeners::all_kinds;
use crate::support::Gateway;

#[tokio::test]
async fn every_way_and_version_carries_every_quality_of_service() {
    let folder = tempfile::tempdir().unwrap();
    let ([tls, websocket, secure], config) = all_kinds(folder.path());
    let gateway = Gateway::start(&config).await;
    let mut js = Clients::mqtt_js(&gateway);
    let ca = folder.path().join("ca.pem");
    let ways = [
        json!({}),
        json!({"port": tls, "ca": ca}),
        json!({"port": websocket, "websocket": true}),
        json!({"port": secure, "websocket": true, "ca": ca}),
    ];
    for version in [3, 4, 5] {
        for (n, way) in ways.iter().enumerate() {
            let mut step = way.clone();
            step["v"] = json!(version);
            step["id"] = json!(format!("js{n}"));
            js.connect(&n.to_string(), step).await;
        }
        for granted in 0..=2 {
            for to in 0..ways.len() {
                js.subscribe(&to.to_string(), "js/+", granted).await;
            }
            for (from, asked, size) in (0..ways.len()).flat_map(|from| [(from, 0, 3), (from, 1, 200_000), (from, 2, 3)])
            {
                let payload = format!("{from} {asked}");
                let step = json!({"topic": "js/x", "payload": payload, "size": size, "qos": asked});
                assert_eq!(js.ask(&from.to_string(), "publish", step).await["reason"], 0);
                for to in 0..ways.len() {
                    let came = js.take(&to.to_string(), 1).await.remove(0);
                    let heard = [&came["payload"], &came["size"], &came["qos"], &came["retain"]];
                    let expected = [&json!(payload), &json!(size), &json!(asked.min(granted)), &json!(false)];
                    assert_eq!(heard, expected, "version {version}, from {from} to {to}");
                }
            }
            for to in 0..ways.len() {
                js.ask(&to.to_string(), "unsubscribe", json!({"filters": ["js/+"]})).await;
            }
        }
        for (n, _) in ways.iter().enumerate() {
            let name = n.to_string();
            js.subscribe(&name, "burst", 2).await;
            for qos in [1, 2] {
                js.burst(&name, "burst", qos, 0..300).await;
                assert_eq!(js.payloads(&name, 300).await, numbers(0..300), "version {version}, way {n}, QoS {qos}");
            }
            js.disconnect(&name).await;
        }
    }
}

#[tokio::test]
async fn users_come_with_passwords_and_leave_wills() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    add_user(&users, "ada", "pass:wörd").await;
    let config = format!(
        "[broker]\nlisten = \"@mqtt@\"\nusers = \"{}\"\n[[broker.acl]]\nread = [\"plant/#\"]\nwrite = [\"plant/#\"]\n",
        users.display()
    );
    let gateway = Gateway::start(&config).await;
    let mut js = Clients::mqtt_js(&gateway);
    for (version, wrong, none, no) in [(3, 4, 5, 0x80), (4, 4, 5, 0x80), (5, 0x86, 0x87, 0x87)] {
        for (user, password, reason) in
            [(json!("ada"), "pass:wörd", 0), (json!("ada"), "no", wrong), (Value::Null, "", none)]
        {
            let mut step = json!({"v": version, "id": "ada", "will": {"topic": "plant/end"}});
            if user.is_string() {
                step["user"] = user;
                step["password"] = json!(password);
            }
            assert_eq!(js.ask("ada", "connect", step).await["reason"], reason, "version {version}, `{password}`");
        }
        let user = |id: &str, will: Value| json!({"v": version, "id": id, "user": "ada", "password": "pass:wörd", "will": will});
        js.connect("watcher", user("watcher", Value::Null)).await;
        let filters = json!({"filters": [["plant/#", 1], ["other", 1]]});
        assert_eq!(js.ask("watcher", "subscribe", filters).await["reasons"], json!([1, no]), "version {version}");
        let will = |id: &str| {
            let properties = json!({"ContentType": "text/plain", "UserProperty": [["who", id]]});
            json!({"topic": format!("plant/{id}"), "payload": "gone", "qos": 1, "retain": true, "properties": properties})
        };
        js.connect("polite", user("polite", will("polite"))).await;
        js.disconnect("polite").await;
        js.connect("lost", user("lost", will("lost"))).await;
        js.vanish("lost").await;
        let came = js.take("watcher", 1).await.remove(0);
        assert_eq!((&came["topic"], &came["payload"], &came["qos"]), (&json!("plant/lost"), &json!("gone"), &json!(1)));
        if version == 5 {
            let expected = json!({"ContentType": "text/plain", "UserProperty": [["who", "lost"]]});
            assert_eq!(came["properties"], expected);
        }
        js.disconnect("watcher").await;
        // It is retained; nobody keeps it for the next round.
        js.connect("late", user("late", Value::Null)).await;
        js.subscribe("late", "plant/+", 1).await;
        assert_eq!(js.take("late", 1).await[0]["retain"], true);
        js.ask("late", "unsubscribe", json!({"filters": ["plant/+"]})).await;
        js.retain("late", "plant/lost", "").await;
        js.disconnect("late").await;
    }
}

#[tokio::test]
async fn retained_messages_come_replaced_and_cleared() {
    let gateway = Gateway::start("").await;
    let mut js = Clients::mqtt_js(&gateway);
    for version in [3, 4, 5] {
        js.connect("js", json!({"v": version})).await;
        for (topic, payload) in [("keep/a", "1"), ("keep/a", "2"), ("keep/b", "3"), ("keep/b", "")] {
            js.retain("js", topic, payload).await;
        }
        js.publish("js", "keep/a", "not retained", 1).await;
        js.subscribe("js", "keep/+", 2).await;
        js.publish("js", "keep/end", "end", 2).await;
        let came: Vec<_> = js.take("js", 2).await.iter().map(|m| (m["payload"].clone(), m["retain"].clone())).collect();
        assert_eq!(came, [(json!("2"), json!(true)), (json!("end"), json!(false))], "version {version}");
        js.disconnect("js").await;
    }
}

#[tokio::test]
async fn a_kept_session_waits_also_through_a_kill_of_the_gateway() {
    let mut gateway = Gateway::start("").await;
    for (version, killed) in [(3, false), (4, false), (5, false), (3, true), (4, true), (5, true)] {
        let mut js = Clients::mqtt_js(&gateway);
        let id = format!("{version}-{killed}");
        let keeper = json!({"v": version, "id": id, "clean": false, "expiry": 600});
        assert!(!js.connect("keeper", keeper.clone()).await);
        js.subscribe("keeper", "kept", 2).await;
        js.disconnect("keeper").await;
        js.connect("p", json!({"v": version})).await;
        js.burst("p", "kept", 1, 0..400).await;
        js.burst("p", "kept", 2, 400..800).await;
        if killed {
            gateway.kill().await;
            gateway.start_again().await;
            js = Clients::mqtt_js(&gateway);
        }
        // 3.1 has no word for it.
        assert_eq!(js.connect("keeper", keeper).await, version > 3, "version {version}");
        assert_eq!(js.payloads("keeper", 800).await, numbers(0..800), "version {version}, killed: {killed}");
        js.ask("keeper", "unsubscribe", json!({"filters": ["kept"]})).await;
        js.disconnect("keeper").await;
    }
}

#[tokio::test]
async fn clients_come_back_by_themselves_when_the_gateway_does() {
    let mut gateway = Gateway::start("").await;
    for version in [4, 5] {
        let mut js = Clients::mqtt_js(&gateway);
        let reconnecting = |id: &str, clean: bool| json!({"v": version, "id": format!("{id}-{version}"), "clean": clean, "expiry": if clean { 0 } else { 600 }, "reconnect": 50});
        js.connect("kept", reconnecting("kept", false)).await;
        js.connect("clean", reconnecting("clean", true)).await;
        js.connect("p", reconnecting("p", false)).await;
        js.subscribe("kept", "back", 1).await;
        js.subscribe("clean", "back", 2).await;
        for killed in [false, true] {
            js.publish("p", "back", "before", 1).await;
            assert_eq!([fresh(&mut js, "kept", 1).await, js.payloads("clean", 1).await], [["before"], ["before"]]);
            if killed {
                gateway.kill().await;
                gateway.start_again().await;
            } else {
                gateway.restart().await;
            }
            assert_eq!(js.ask("kept", "again", json!({})).await["session"], true, "version {version}");
            assert_eq!(js.ask("clean", "again", json!({})).await["session"], false, "version {version}");
            assert_eq!(js.ask("p", "again", json!({})).await["session"], true, "version {version}");
            // The clean one subscribes anew as soon as it is back: before it has the acknowledgement of another.
            js.subscribe("clean", "other", 0).await;
            js.burst("p", "back", 1, 0..200).await;
            assert_eq!(fresh(&mut js, "kept", 200).await, numbers(0..200), "version {version}");
            assert_eq!(js.payloads("clean", 200).await, numbers(0..200), "version {version}");
            js.ask("clean", "unsubscribe", json!({"filters": ["other"]})).await;
        }
        // What was published while nobody was there to take it goes out once it is back: one after the other.
        for qos in [1, 2] {
            gateway.kill().await;
            let burst = json!({"topic": "back", "qos": qos, "first": 0, "count": 20});
            let (acked, ()) = tokio::join!(js.ask("p", "burst", burst), gateway.start_again());
            assert_eq!(acked["acked"], 20);
            assert_eq!(fresh(&mut js, "kept", 20).await, numbers(0..20), "version {version}, QoS {qos}");
        }
        for name in ["kept", "clean", "p"] {
            js.disconnect(name).await;
        }
    }
}

/// The payloads of the next messages that do not come for the second time: what had been sent when the gateway was killed may
/// come again, and then says so.
async fn fresh(js: &mut Clients, name: &str, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        let message = &js.take(name, 1).await[0];
        if message["dup"] != true {
            payloads.push(message["payload"].as_str().unwrap().to_owned());
        }
    }
    payloads
}

#[tokio::test]
async fn the_properties_of_version_5() {
    let gateway = Gateway::start("").await;
    let mut js = Clients::mqtt_js(&gateway);
    js.connect("asks", json!({"v": 5, "id": "asks", "clean": false, "expiry": 600})).await;
    js.connect("answers", json!({"v": 5})).await;
    js.ask("asks", "subscribe", json!({"filters": [["answer/+", 1]], "id": 268_435_455})).await;
    js.ask("answers", "subscribe", json!({"filters": [["question/#", 1]], "id": 1})).await;

    // A request and its response.
    let sent = json!({
        "UserProperty": [["name", "one"], ["name", "two"], ["größe", ""]],
        "ContentType": "application/json",
        "ResponseTopic": "answer/asks",
        "CorrelationData": "abc",
        "PayloadFormatIndicator": 1,
    });
    js.ask("asks", "publish", json!({"topic": "question/time", "payload": "{}", "properties": sent})).await;
    let question = js.take("answers", 1).await.remove(0);
    let mut expected = sent.clone();
    expected["CorrelationData"] = json!("616263");
    expected["SubscriptionIdentifier"] = json!([1]);
    assert_eq!(question["properties"], expected);
    let step = json!({"topic": question["properties"]["ResponseTopic"], "properties": {"CorrelationData": "abc"}});
    js.ask("answers", "publish", step).await;
    let expected = json!({"CorrelationData": "616263", "SubscriptionIdentifier": [268_435_455]});
    assert_eq!(js.take("asks", 1).await[0]["properties"], expected);

    // The expiry counts while a message waits.
    js.disconnect("asks").await;
    for (payload, expiry) in [("short", 1), ("long", 600)] {
        let properties = json!({"MessageExpiryInterval": expiry});
        js.ask("answers", "publish", json!({"topic": "answer/x", "payload": payload, "properties": properties})).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(js.connect("asks", json!({"v": 5, "id": "asks", "clean": false, "expiry": 600})).await);
    let came = js.take("asks", 1).await.remove(0);
    assert_eq!(came["payload"], "long");
    let left = came["properties"]["MessageExpiryInterval"].as_u64().unwrap();
    assert!((580..600).contains(&left), "{left}");

    // What says why not.
    let answer = js.ask("asks", "subscribe", json!({"filters": [["fine", 1], ["$share/x/fine", 1]]})).await;
    assert_eq!(answer["reasons"], json!([1, 1]));
    let answer = js.ask("asks", "unsubscribe", json!({"filters": ["fine", "never"]})).await;
    assert_eq!(answer["reasons"], json!([0, 0x11]));
    let answer = js.ask("asks", "publish", json!({"topic": "$SYS/x"})).await;
    assert_eq!(answer["reason"], 0x87);
}

#[tokio::test]
async fn topic_aliases_go_both_ways() {
    let gateway = Gateway::start("").await;
    let mut js = Clients::mqtt_js(&gateway);
    // More topics than there are aliases, so that they are given anew.
    let answer = js.ask("p", "connect", json!({"v": 5, "aliases": 0})).await;
    assert!(answer["properties"]["TopicAliasMaximum"].as_u64() > Some(0), "{answer}");
    js.connect("s", json!({"v": 5, "aliases": 5})).await;
    js.subscribe("s", "a/rather/long/topic/#", 2).await;
    for round in 0..3 {
        for n in 0..100 {
            let topic = format!("a/rather/long/topic/{n}");
            // Not at QoS 2, which MQTT.js hands out later than what came behind it.
            js.publish("p", &topic, &format!("{round}"), n % 2).await;
            js.publish("p", &topic, &format!("{round} again"), n % 2).await;
        }
        let came = js.take("s", 200).await;
        let mut aliased = 0;
        for (n, message) in came.iter().enumerate() {
            assert_eq!(message["topic"], format!("a/rather/long/topic/{}", n / 2));
            aliased += usize::from(!message["properties"]["TopicAlias"].is_null());
        }
        assert!(aliased > 0, "the gateway uses none of the aliases that it may");
    }
}

#[tokio::test]
async fn members_share_a_subscription_and_unsubscribe_from_it() {
    let gateway = Gateway::start("").await;
    let mut js = Clients::mqtt_js(&gateway);
    for version in [4, 5] {
        js.connect("p", json!({"v": version})).await;
        for name in ["a", "b"] {
            js.connect(name, json!({"v": version})).await;
            js.subscribe(name, "$share/group/work/+", 1).await;
        }
        js.burst("p", "work/x", 1, 0..100).await;
        let mut all = [js.payloads("a", 50).await, js.payloads("b", 50).await].concat();
        all.sort_by_key(|number| number.parse::<u32>().unwrap());
        assert_eq!(all, numbers(0..100));
        js.ask("a", "unsubscribe", json!({"filters": ["$share/group/work/+"]})).await;
        js.burst("p", "work/x", 1, 0..10).await;
        assert_eq!(js.payloads("b", 10).await, numbers(0..10));
        // Who is cut off leaves its part to the others.
        js.subscribe("a", "$share/group/work/+", 1).await;
        js.vanish("b").await;
        js.burst("p", "work/x", 1, 0..10).await;
        assert_eq!(js.payloads("a", 10).await, numbers(0..10));
        for name in ["p", "a"] {
            js.disconnect(name).await;
        }
    }
}
