//! The README is run: its configs are checked by the program, its commands are carried out or stand in a script that is.
//! What it and the page on installing name is there.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Authority, Gateway};

/// Commands that this test does not run itself, and who does.
const RUN_ELSEWHERE: [(&str, &str); 15] = [
    ("cargo run --release -- demo", "tests/it/demo.rs runs the same demo"),
    ("./tests/run", "this is part of it"),
    (".ci/cross-build", "by hand, and checked in tests/it/install.rs"),
    (".ci/deb target/aarch64-unknown-linux-gnu/release/fieldpost", "tests/it/install.rs builds a package"),
    ("scp target/debian/fieldpost_*_arm64.deb pi@raspberrypi:", "needs a Pi"),
    ("sudo apt install ./fieldpost_*_arm64.deb", "needs a Pi; tests/it/install.rs looks into the package"),
    ("sudoedit /etc/fieldpost/fieldpost.toml", "needs a Pi"),
    ("sudo systemctl enable --now fieldpost", "needs a Pi; tests/it/install.rs reads the unit"),
    ("sudo systemctl restart fieldpost", "needs a Pi; tests/it/install.rs reads the unit"),
    ("sudo systemctl reload fieldpost", "needs a Pi; tests/it/broker/reload.rs sends what the unit sends"),
    ("sudo fieldpost store ls", "tests/it/store_cli.rs"),
    ("sudo fieldpost store export --aside", "tests/it/store_cli.rs"),
    ("sudo fieldpost store backup /var/backups/fieldpost.db", "tests/it/store_cli.rs"),
    ("sudo fieldpost bridge test plant/tank/level", "tests/it/bridge/cli.rs"),
    ("ssh -L 8080:127.0.0.1:8080 pi@raspberrypi", "needs a Pi"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    read("README.md")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap()
}

/// The fenced blocks of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|l| l.trim() != "```").map(|l| format!("{l}\n")).collect());
        }
    }
    blocks
}

fn fieldpost(folder: &Path, args: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn succeed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    assert!(!stderr.contains("warning"), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The README's configs as one file, with the files that they name beside it.
fn config(folder: &Path) -> String {
    let config = blocks(&readme(), "toml").concat();
    std::fs::write(folder.join("cloud.password"), "secret\n").unwrap();
    Authority::new(folder, "ca").certify("server", "gateway");
    std::fs::write(folder.join("fieldpost.toml"), &config).unwrap();
    config
}

#[test]
fn its_configs_are_right_and_mean_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path());
    succeed(&fieldpost(folder.path(), &["user", "add", "users", "dashboard"], "a long password\n"));
    assert_eq!(succeed(&fieldpost(folder.path(), &["user", "list", "users"], "")), "dashboard\n");
    let checked = succeed(&fieldpost(folder.path(), &["check", "fieldpost.toml"], ""));
    for topic in ["plant/meter/voltage", "plant/tank/level", "plant/tank/setpoint/set", "plant/position/latitude"] {
        assert!(checked.contains(topic), "{topic} is not in\n{checked}");
    }
}

#[tokio::test]
async fn its_clients_see_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    // Loopback without users, as the chapter on mapping has it; nothing has to answer for a command to be answered.
    let config = config(folder.path());
    let (mapping, _) = config.split_once("[uplink.cloud]").unwrap();
    let gateway = Gateway::start(mapping).await;
    let port = gateway.mqtt_port().to_string();
    let text = readme();
    let line = |start: &str| {
        let found = text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("no {start} in the README"));
        found.replace("mosquitto_sub", "").replace("mosquitto_pub", "").replace('\'', "")
    };
    let subscribe = line("mosquitto_sub");
    let mut subscriber = Command::new("mosquitto_sub")
        .args(["-p", &port, "-W", "30", "-C", "2"])
        .args(subscribe.split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The subscription has to be there first, beside those of the two writable points.
    while subscriptions(&gateway).await != 3 {
        assert!(subscriber.try_wait().unwrap().is_none(), "mosquitto_sub ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let publish = line("mosquitto_pub");
    let sent = Command::new("mosquitto_pub").args(["-p", &port]).args(publish.split_whitespace()).status().unwrap();
    assert!(sent.success());
    let output = tokio::task::spawn_blocking(move || subscriber.wait_with_output()).await.unwrap().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(seen.starts_with("plant/tank/setpoint/set 80\n"), "{seen}");
}

async fn subscriptions(gateway: &Gateway) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&gateway.get("/api/status").await.1).unwrap();
    status["status"]["broker"]["subscriptions"].as_u64().unwrap_or_else(|| panic!("{status}"))
}

#[test]
fn each_of_its_commands_is_run() {
    let text = readme();
    for line in blocks(&text, "sh").concat().lines().filter(|l| !l.trim().is_empty()) {
        let starts = ["sudo fieldpost check ", "sudo fieldpost user add ", "mosquitto_"];
        let here = starts.iter().any(|start| line.starts_with(start));
        let elsewhere = RUN_ELSEWHERE.iter().any(|(command, _)| *command == line);
        assert!(here || elsewhere, "`{line}` is in the README and nothing runs it");
    }
    for (command, _) in RUN_ELSEWHERE {
        assert!(text.contains(command), "`{command}` is not in the README any more");
    }
}

/// What people read first.
const PAGES: [&str; 2] = ["README.md", "docs/install.md"];

#[test]
fn every_path_they_name_is_there() {
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut named = 0;
    for page in PAGES {
        let text = read(page);
        // `fieldpost_*_arm64.deb` and the like are no paths, and are cut into pieces that do not look like one.
        for word in text.split(|c| !of_a_path(c)).map(|word| word.trim_end_matches('.')) {
            let word = word.strip_prefix("./").unwrap_or(word);
            let folders = ["src/", "tests/", "docs/", "config/", "systemd/", "migrations/", ".ci/"];
            if folders.iter().any(|folder| word.starts_with(folder)) {
                assert!(repository().join(word).exists(), "{page} names {word}, which is not there");
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} paths were seen");
}

#[test]
fn every_subcommand_they_name_is_one() {
    let help = succeed(&fieldpost(repository(), &["--help"], ""));
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let known: Vec<_> = listed.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(known.contains(&"run") && known.contains(&"user"), "{known:?}");
    let mut named = 0;
    for page in PAGES {
        let text = read(page);
        for (at, name) in text.match_indices("fieldpost ") {
            let rest = &text[at + name.len()..];
            let word = &rest[..rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len())];
            // The name of the package, of the user or of the unit has something else behind it, or nothing.
            if !word.is_empty() {
                assert!(known.contains(&word), "{page} names `fieldpost {word}`, which is not in --help");
                named += 1;
            }
        }
    }
    assert!(named >= 4, "only {named} were seen");
}
