//! `fieldpost bridge test`.

use std::process::Command;

const CONFIG: &str = r##"
[gateway]
id = "plant7"
[bus.plc]
modbus-tcp = { host = "192.168.1.50" }
[device.tank]
bus = "plc"
unit = 1
topic = "plant/{device}/{point}"
[device.tank.points]
pump = { coil = 3, write = true }
[uplink.cloud]
url = "mqtt://a"
publish = [
  { filter = "plant/private/#", drop = true },
  { filter = "plant/+/+/set/result", as = "results/{1}/{2}", qos = 2, retain = "clear" },
  "plant/#",
]
subscribe = [{ filter = "cmd/#", strip = "cmd/", max-age = "10s" }]
[uplink.old]
url = "mqtt://b"
protocol = "3.1.1"
publish = ["plant/#"]
subscribe = ["plant/+/+/set"]
"##;

/// What `bridge test` prints with these arguments, and its exit code.
fn test(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fieldpost.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let (topic, more) = args.split_first().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fieldpost"))
        .args(["bridge", "test", topic])
        .arg(&file)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

#[test]
fn it_shows_which_rule_decides_and_what_comes_out() {
    for (args, code, said) in [
        (
            &["plant/tank/level", "--from", "here", "--retain"][..],
            0,
            "up to cloud
  rule 3 of `publish`, plant/#: decides
  goes as plant/tank/level at QoS 1, retained, marked plant7
up to old
  rule 1 of `publish`, plant/#: decides
  goes as plant/tank/level at QoS 1, retained
",
        ),
        (
            &["plant/tank/pump/set/result", "--from", "here", "--retain", "--qos", "2"],
            0,
            "up to cloud
  rule 2 of `publish`, plant/+/+/set/result: decides
  rule 3 of `publish`, plant/#: would be for it, but an earlier one is
  goes as results/tank/pump at QoS 2, marked plant7
up to old
  rule 1 of `publish`, plant/#: decides
  goes as plant/tank/pump/set/result at QoS 1, retained
",
        ),
        (
            &["cmd/plant/tank/pump/set", "--from", "cloud", "--payload", "on"],
            0,
            "down from cloud
  rule 1 of `subscribe`, cmd/#: decides
  goes as plant/tank/pump/set at QoS 1, for 10 s at most, marked plant7/cloud
  then a command: tank.pump is to be on
down from old
  nothing goes: no rule is for it
",
        ),
        (
            &["other"],
            1,
            "up to cloud
  nothing goes: no rule is for it
up to old
  nothing goes: no rule is for it
down from cloud
  nothing goes: no rule is for it
down from old
  nothing goes: no rule is for it
",
        ),
    ] {
        assert_eq!(test(args), (Some(code), said.to_owned()), "{args:?}");
    }
    let (code, dropped) = test(&["plant/private/x", "--from", "here"]);
    assert_eq!(code, Some(0), "the other uplink takes it");
    assert!(
        dropped.contains("rule 1 of `publish`, plant/private/#, which drops: decides\n")
            && dropped.contains("nothing goes: rule 1 drops it\n")
    );
    let (code, wrong) = test(&["a/#"]);
    assert_eq!(code, Some(64));
    assert!(wrong.contains("`a/#` is no topic"), "{wrong}");
}

#[test]
fn it_knows_what_an_old_cloud_would_send_back() {
    let (code, text) = test(&["plant/tank/pump/set", "--from", "here"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("only if the cloud knows bridges: else the cloud would send `plant/tank/pump/set` back"),
        "{text}"
    );
}

#[test]
fn it_says_the_same_in_json() {
    let (code, text) = test(&["plant/private/x", "--from", "here", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0));
    let [cloud, old] = &json["ways"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(
        (&cloud["uplink"], &cloud["goes"], &cloud["why"]),
        (&"cloud".into(), &serde_json::Value::Null, &"rule 1 drops it".into())
    );
    assert_eq!((&cloud["rules"][0]["rule"], &cloud["rules"][0]["drop"]), (&1.into(), &true.into()));
    assert_eq!((&old["goes"]["topic"], &old["goes"]["qos"]), (&"plant/private/x".into(), &1.into()));
}
