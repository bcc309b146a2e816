//! The arrows of src/lib.rs and the one home of each library, held by reading the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of src, without comments and tests.
struct Source {
    /// Within src, such as `bus/decode.rs`.
    path: String,
    whole: String,
    code: String,
}

impl Source {
    /// The module under the crate's root that the file is of, such as `bus`.
    fn part(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// The modules under the crate's root that the file names.
    fn named(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for (at, path) in self.code.match_indices("crate::") {
            let rest = &self.code[at + path.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(heads(group)),
                None => drop(names.insert(word(rest))),
            }
        }
        names
    }
}

/// The first names of each path in a group, up to the brace that ends it.
fn heads(group: &str) -> Vec<&str> {
    let (mut depth, mut at_head, mut heads) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if at_head && is_word(c) => {
                heads.push(word(&group[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let source = |file: PathBuf| {
        let whole = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        Source { path, code: code(&whole), whole }
    };
    let sources: Vec<_> = files.into_iter().map(source).collect();
    assert!(sources.len() > 80, "only {} files", sources.len());
    // Modules that only tests have.
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    let is_test = |path: &str| {
        tests.iter().any(|test| {
            path == test
                || test.strip_suffix("rs").is_some_and(|stem| {
                    // What a test module has below it.
                    path.strip_prefix(&stem[..stem.len() - 1]).is_some_and(|rest| rest.starts_with('/'))
                })
        })
    };
    sources.into_iter().filter(|source| !is_test(&source.path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// What the compiler makes the program of. A test module in braces is the last thing in its file.
fn code(text: &str) -> String {
    let end = ["tests", "test"].iter().filter_map(|name| text.find(&format!("#[cfg(test)]\nmod {name} {{"))).min();
    let lines = text[..end.unwrap_or(text.len())].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The files of `#[cfg(test)] mod name;`.
fn test_modules(source: &Source) -> Vec<String> {
    let mut lines = source.whole.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        let Some(line) = lines.next() else { break };
        let declared = line.trim().strip_suffix(';').and_then(|line| line.split_once("mod "));
        if let Some((_, name)) = declared {
            let folder = match source.path.strip_suffix("/mod.rs") {
                Some(folder) => folder,
                None => source.path.strip_suffix(".rs").unwrap(),
            };
            found.push(format!("{folder}/{name}.rs"));
        }
    }
    found
}

/// What each part may name of the crate beside itself. `config`, `gateway` and `cli` compose the parts.
const ARROWS: &[(&str, &[&str])] = &[
    ("backoff", &[]),
    ("clock", &[]),
    ("message", &["clock"]),
    ("rate", &["units"]),
    ("reading", &["clock"]),
    ("record", &["clock", "message", "mqtt"]),
    ("secret", &[]),
    ("status", &["clock", "reading"]),
    ("tls", &[]),
    ("trail", &["message"]),
    ("units", &[]),
    ("websocket", &[]),
    ("bus", &["backoff", "clock", "reading", "status", "units"]),
    ("mapping", &["clock", "message", "mqtt", "reading", "status", "units"]),
    ("mqtt", &["clock", "message"]),
    ("broker", &["clock", "message", "mqtt", "rate", "status", "store", "tls", "trail", "units", "websocket"]),
    ("store", &["backoff", "clock", "message", "mqtt", "status", "units"]),
    (
        "uplink",
        &[
            "backoff",
            "broker",
            "clock",
            "message",
            "mqtt",
            "rate",
            "secret",
            "status",
            "store",
            "tls",
            "trail",
            "units",
            "websocket",
        ],
    ),
    ("admin", &["clock", "reading", "secret", "status", "units"]),
    ("control", &["broker", "clock", "message", "mqtt", "record", "store"]),
    // Its cloud is a broker; its devices know of the bus what a register is.
    ("simulator", &["broker", "bus", "clock", "status", "store"]),
];

#[test]
fn parts_name_only_what_they_may() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let composing = ["lib", "main", "cli", "config", "gateway"];
    let mut wrong = Vec::new();
    for source in sources() {
        let part = source.part();
        let named = source.named();
        let mut bad: Vec<_> = match arrows.get(part) {
            Some(allowed) => named.iter().filter(|name| **name != part && !allowed.contains(name)).collect(),
            None if composing.contains(&part) => Vec::new(),
            None => panic!("{} is of no part that this test knows: give it its arrows", source.path),
        };
        match &*source.path {
            path if part == "simulator" && path != "simulator/cloud.rs" => {
                bad.extend(named.iter().filter(|name| ["broker", "status", "store"].contains(name)));
            }
            _ if part == "config" => bad.extend(named.iter().filter(|name| ["gateway", "cli"].contains(name))),
            _ if part == "gateway" => bad.extend(named.iter().filter(|name| **name == "cli")),
            _ => {}
        }
        wrong.extend(bad.iter().map(|name| format!("{} names {name}", source.path)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where a library may be named: files, or folders with a slash at the end.
const HOMES: &[(&str, &[&str])] = &[
    ("annotate_snippets", &["config/diagnostic.rs"]),
    ("argon2", &["broker/access/hash.rs"]),
    ("askama", &["admin/"]),
    ("axum", &["admin/"]),
    ("base64", &["admin/access.rs", "broker/access/hash.rs", "record.rs", "uplink/proxy.rs"]),
    ("clap", &["cli/"]),
    ("libc", &["clock/kernel.rs"]),
    ("ring", &["admin/access.rs", "admin/routes.rs", "broker/access/hash.rs", "tls.rs"]),
    ("rusqlite", &["store/"]),
    ("rustls", &["broker/listener/tls.rs", "tls.rs", "uplink/tls.rs", "uplink/unchecked.rs"]),
    ("rustls_native_certs", &["uplink/"]),
    ("sd_notify", &["cli/run.rs", "gateway/watchdog.rs"]),
    ("strsim", &["config/diagnostic.rs"]),
    ("tokio_rustls", &["broker/listener/tls.rs", "uplink/tls.rs"]),
    ("toml", &["config/", "bus/profile.rs", "bus/point.rs"]),
    ("tracing_subscriber", &["cli/run.rs", "config/gateway.rs"]),
    ("tungstenite", &["broker/listener/upgrade.rs", "uplink/websocket.rs", "websocket.rs"]),
];

#[test]
fn each_library_has_its_home() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (library, homes) in HOMES {
        let path = format!("{library}::");
        let naming = sources.iter().filter(|source| names(&source.code, &path));
        let (at_home, elsewhere): (Vec<_>, Vec<_>) =
            naming.partition(|source| homes.iter().any(|home| in_home(&source.path, home)));
        wrong.extend(elsewhere.iter().map(|source| format!("{} names {library}", source.path)));
        // A home that nobody lives in is a mistake in this table.
        let empty = homes.iter().filter(|home| !at_home.iter().any(|source| in_home(&source.path, home)));
        wrong.extend(empty.map(|home| format!("{home} does not name {library}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn in_home(path: &str, home: &str) -> bool {
    if home.ends_with('/') { path.starts_with(home) } else { path == home }
}

/// Whether `code` has the path, and not as the end of a longer one.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| !code[..at].ends_with(|c| is_word(c) || c == ':'))
}

#[test]
fn the_program_has_no_loose_ends() {
    let mut wrong = Vec::new();
    for source in sources() {
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            if source.code.contains(word) {
                wrong.push(format!("{} has {word}", source.path));
            }
        }
        // Time that tests cannot pause.
        let clocks = ["std::time::Instant", "SystemTime", "time::{Duration, Instant}", "time::{Instant, Duration}"];
        let std_time = source.code.lines().any(|line| {
            line.contains("SystemTime")
                || (line.contains("std::time") && clocks.iter().any(|clock| line.contains(clock)))
        });
        if source.path != "clock.rs" && std_time {
            wrong.push(format!("{} has a clock of its own", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_file_says_what_it_is() {
    let silent: Vec<_> =
        sources().into_iter().filter(|source| !source.whole.starts_with("//! ")).map(|source| source.path).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn the_names_in_sources_are_read_as_they_stand() {
    let text = "use crate::{a, b::{c, d}, e::f};\nfn g() -> crate::h::I { x } // crate::j\n    /// crate::k\n";
    let source = Source { path: "p.rs".into(), whole: text.into(), code: code(text) };
    assert_eq!(source.named(), BTreeSet::from(["a", "b", "e", "h"]));
    assert!(names("toml::from_str(x)", "toml::") && names("(::toml::x)", "toml::") == names("x::toml::y", "toml::"));
    assert!(!names("my_toml::x", "toml::") && !names("crate::toml::x", "toml::"));
    assert!(!code("fn a() {}\n#[cfg(test)]\nmod tests {\n    x.unwrap()\n}\n").contains("unwrap"));
}
