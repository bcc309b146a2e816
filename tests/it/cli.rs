//! The program as a person or systemd runs it: exit codes, and what goes to stdout and stderr.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::Authority;

fn fieldpost(args: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/config");
    let output = Command::new(env!("CARGO_BIN_EXE_fieldpost")).args(args).current_dir(folder).output();
    output.expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is text")
}

#[test]
fn exit_codes_are_those_of_sysexits() {
    for (args, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&[], 64),
        (&["chek"], 64),
        (&["check", "--jsno"], 64),
        (&["check", "warning-full-example/fieldpost.toml"], 0),
        (&["check", "warning-no-points/fieldpost.toml"], 0),
        (&["check", "syntax/fieldpost.toml"], 78),
        (&["check", "line-speed/fieldpost.toml"], 78),
        (&["check", "not-there/fieldpost.toml"], 78),
        (&["run", "unknown-bus/fieldpost.toml"], 78),
    ] {
        let output = fieldpost(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        // Data on stdout, messages on stderr.
        assert_eq!(output.stdout.is_empty(), code != 0, "{args:?}");
        assert!(code == 0 || !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn check_finds_what_the_gateway_would_not_start_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    let listener = "[[broker.listener]]\nlisten = \"127.0.0.1:0\"\n";
    let tls = format!("{listener}tls = {{ certificate = \"server.pem\", key = \"server.key\" }}\n");
    Authority::new(folder.path(), "ca").certify("server", "gateway");
    Authority::new(folder.path(), "ca").certify("other", "gateway");
    file("empty.pem", "");
    for (config, code, said) in [
        (tls.clone(), 0, ""),
        (tls.replace("server.key", "other.key"), 69, "do not fit together"),
        (tls.replace("server.pem", "empty.pem"), 69, "contains no certificate"),
        (tls.replace("server.key", "gone.key"), 69, "no private key can be read"),
        ("[broker]\nlisten = \"127.0.0.1:0\"\nusers = \"users\"\n".to_owned(), 78, "`fieldpost user add"),
    ] {
        file("fieldpost.toml", &config);
        for command in ["check", "run"].into_iter().take(if code == 0 { 1 } else { 2 }) {
            let path = folder.path().join("fieldpost.toml");
            let output = fieldpost(&[command, path.to_str().expect("UTF-8")]);
            let shown = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{command}: {config}{shown}");
            assert!(shown.contains(said), "{command}: {config}{shown}");
        }
    }
}

#[test]
fn errors_are_plain_text_in_a_pipe() {
    let output = fieldpost(&["check", "unknown-bus/fieldpost.toml"]);
    let shown = text(&output.stderr);
    assert!(shown.contains("unknown-bus/fieldpost.toml:5:7") && shown.contains("did you mean `plc`?"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn check_shows_what_a_config_means() {
    let output = fieldpost(&["check", "warning-full-example/fieldpost.toml"]);
    let expected = include_str!("cases/check.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/check.txt"), &output.stdout)
            .expect("the case can be written");
    } else {
        assert_eq!(text(&output.stdout), expected);
    }
}

#[test]
fn check_says_the_same_in_json() {
    let output = fieldpost(&["check", "--json", "warning-full-example/fieldpost.toml"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["gateway"], "plant7");
    let request = &json["buses"][1]["devices"][0]["requests"][0];
    assert_eq!((&request["every_ms"], &request["count"]), (&10_000.into(), &1.into()));
    let load = json["buses"][0]["load"].as_f64().expect("a serial line has a load");
    assert!((0.1..1.0).contains(&load), "{load}");
    let points = json["points"].as_array().expect("a list");
    let pump = points.iter().find(|p| p["point"] == "pump").expect("it is there");
    assert_eq!((&pump["topic"], &pump["set"]), (&"plant/tank/pump".into(), &"plant/tank/pump/set".into()));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let config =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/config/warning-full-example/fieldpost.toml");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_fieldpost"))
        .arg("check")
        .arg(config)
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panic"), "{}", text(&output.stderr));
}
