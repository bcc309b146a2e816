//! Configs as people write them: each folder of `cases/config` is a config and, in `error.txt`, exactly what is said
//! about it; without one, nothing is. `BLESS=1 cargo test config` writes what is said now.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use fieldpost::bus::{Source, Table};
use fieldpost::config::Config;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/config")
}

fn load(case: &str) -> Config {
    Config::load(&cases().join(case).join("fieldpost.toml")).unwrap_or_else(|e| panic!("{case}:\n{e}"))
}

/// What is said about the config in `folder`.
fn said(folder: &Path) -> String {
    let text = match Config::load(&folder.join("fieldpost.toml")) {
        Ok(config) => config.warnings.to_string(),
        Err(errors) => errors.to_string(),
    };
    text.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn every_mistake_is_shown_at_its_place() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(cases()).expect("the cases are there") {
        let folder = entry.expect("a folder").path();
        let file = folder.join("error.txt");
        let said = said(&folder);
        count += 1;
        if env::var_os("BLESS").is_some() {
            if said.is_empty() {
                let _ = fs::remove_file(&file);
            } else {
                fs::write(&file, &said).expect("the case can be written");
            }
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("== {}: expected\n{expected}\n== but it is\n{said}", folder.display()));
        }
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = if name.starts_with("good-") {
            ""
        } else if name.starts_with("warning-") {
            "warning: "
        } else {
            "error: "
        };
        assert!(said.is_empty() == kind.is_empty() && said.starts_with(kind), "{name} says\n{said}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "only {count} cases");
}

#[test]
fn the_full_example_means_what_it_says() {
    let config = load("warning-full-example");
    assert_eq!(&*config.gateway.id, "plant7");
    let names: Vec<_> = config.buses.iter().map(|bus| (&*bus.name, bus.link.to_string())).collect();
    assert_eq!(
        names,
        [
            ("rs485", "modbus-rtu /dev/serial/by-id/usb-FTDI_A50285BI-if00-port0 9600 8N1".to_owned()),
            ("plc", "modbus-tcp 192.168.1.50:502".to_owned()),
            ("gps", "uart /dev/ttyAMA0 9600 8N1".to_owned()),
        ]
    );
    let meter = &config.buses[0].devices[0];
    assert_eq!((meter.unit, meter.points[0].every), (1, Duration::from_secs(1)));
    let tank = &config.buses[1].devices[0];
    let point = |name: &str| tank.points.iter().find(|p| &*p.name == name).expect("it is there");
    let level = point("level");
    assert_eq!(level.source, Source::Modbus { table: Table::Input, address: 8 });
    assert_eq!((level.every, level.stale_after), (Duration::from_secs(10), Duration::from_secs(30)));
    assert_eq!((level.decode.scale, level.write), (0.1, None));
    assert_eq!(point("flow").every, Duration::from_secs(10));
    assert_eq!(point("setpoint").write.map(|w| (w.min, w.max)), Some((Some(0.0), Some(100.0))));
    let route = config.routes.iter().find(|r| &*r.point == "level").expect("it is there");
    assert_eq!(&*route.topic, "plant/tank/level");
    assert_eq!((route.report.change, route.report.at_least), (Some(0.05), Some(Duration::from_secs(60))));
    assert_eq!(config.routes.len(), config.points.len());
    assert_eq!(config.uplinks.len(), 1);
}

#[test]
fn the_nearest_setting_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fieldpost.toml");
    fs::write(
        &file,
        r#"
        [gateway]
        id = "g"
        every = "5s"
        topic = "1/{device}/{point}"
        retain = false
        [bus.b]
        modbus-tcp = { host = "h" }
        [device.far]
        bus = "b"
        unit = 1
        points.p = { input = 1, as = "u32" }
        [device.near]
        bus = "b"
        unit = 2
        every = "2s"
        topic = "2/{point}"
        order = "CDAB"
        points.p = { input = 1, as = "u32" }
        points.q = { input = 3, as = "u32", every = "1s", topic = "3/x", order = "ABCD", retain = true, qos = 0 }
        [device.profiled]
        bus = "b"
        unit = 3
        addressing = "plc"
        profile = "eastron-sdm120"
        only = ["power", "voltage"]
        points.power = { every = "3s" }
        points.own = { holding = 40001, as = "u16" }
        "#,
    )
    .expect("it can be written");
    let config = Config::load(&file).unwrap_or_else(|e| panic!("{e}"));
    let rows: Vec<String> = config
        .routes
        .iter()
        .zip(config.buses[0].devices.iter().flat_map(|d| &d.points))
        .map(|(r, p)| {
            let Source::Modbus { address, .. } = p.source else { panic!("no register") };
            format!("{} {} {} {:?} {}", r.topic, address, p.decode.order, p.every, r.retain)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "1/far/p 1 ABCD 5s false",
            "2/p 1 CDAB 2s false",
            "3/x 3 ABCD 1s true",
            "1/profiled/voltage 0 ABCD 5s false",
            "1/profiled/power 12 ABCD 3s false",
            "1/profiled/own 0 ABCD 5s false",
        ]
    );
}

#[test]
fn files_in_conf_d_add_up() {
    let config = load("good-folder");
    assert_eq!((&*config.gateway.id, &*config.routes[0].topic), ("g", "g/tank/level"));
}

#[test]
fn no_text_makes_it_panic() {
    let example = fs::read_to_string(cases().join("warning-full-example/fieldpost.toml")).expect("it is there");
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        "=",
        "\"",
        "'",
        ".",
        ",",
        "#",
        "\n",
        "\0",
        "-1",
        "1e999",
        "99999999999999999999",
        "ü",
        "\u{feff}",
        "0x",
        "inf",
        "nan",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut failed = 0;
    for _ in 0..2000 {
        let mut text = example.clone();
        for _ in 0..random.usize(1..4) {
            let chars: Vec<(usize, char)> = text.char_indices().collect();
            let (at, c) = chars[random.usize(..chars.len())];
            match random.u8(..4) {
                0 => text.replace_range(at..at + c.len_utf8(), ""),
                1 => text.insert_str(at, pieces[random.usize(..pieces.len())]),
                2 => text.truncate(at.max(1)),
                _ => {
                    // A key or value goes, and another comes.
                    let end = text[at..].find([' ', '\n']).map_or(text.len(), |n| at + n);
                    text.replace_range(at..end, pieces[random.usize(..pieces.len())]);
                }
            }
        }
        if let Err(errors) = Config::parse(Path::new("fieldpost.toml"), text) {
            failed += 1;
            assert!(errors.render(true).contains("error"));
        }
    }
    assert!(failed > 500, "only {failed} were wrong at all");
}
