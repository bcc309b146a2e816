//! The program as a person or systemd runs it: exit codes, and what goes to stdout and stderr.

use std::path::Path;
use std::process::{Command, Output, Stdio};

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
