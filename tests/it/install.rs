//! The way onto a Pi: the package, the unit in it, and the scripts that build them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of `key=` in a unit file, in order.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// Runs a program to its end and gives what it printed; panics with what it complained if it failed.
fn output(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> String {
    let program = program.as_ref();
    let done = Command::new(program)
        .args(arguments)
        .current_dir(repository())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(done.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("paths and listings are UTF-8")
}

/// Whether the tool can be started here; says so where not, as on a system without .debs.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: this machine has no {tool}");
    }
    found
}

/// A package unpacked: its files, and under `DEBIAN` what dpkg reads and runs.
struct Package {
    root: tempfile::TempDir,
    name: String,
}

impl Package {
    /// Packs a small program in the place of fieldpost, which would take the packer long to compress.
    fn build() -> Self {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let printed = output(repository().join(".ci/deb"), &["/bin/true".as_ref(), out.as_os_str()]);
        let deb = PathBuf::from(printed.trim_end());
        output("dpkg-deb", &["--raw-extract".as_ref(), deb.as_os_str(), root.path().as_os_str()]);
        let name = deb.file_name().unwrap().to_string_lossy().into_owned();
        Self { root, name }
    }

    /// Where a path of the installed system stands in the unpacked package.
    fn path(&self, installed: &str) -> PathBuf {
        self.root.path().join(installed.trim_start_matches('/'))
    }

    fn read(&self, installed: &str) -> String {
        read(self.path(installed))
    }
}

#[test]
fn what_the_unit_starts_and_reads_is_in_the_package() {
    if !has("dpkg-deb") || !has("readelf") {
        return;
    }
    let package = Package::build();
    let unit = package.read("/usr/lib/systemd/system/fieldpost.service");

    let start = settings(&unit, "ExecStart");
    let [program, "run", config] = start[0].split(' ').collect::<Vec<_>>()[..] else {
        panic!("ExecStart={start:?} is not `<program> run <config>`");
    };
    assert_ne!(fs::metadata(package.path(program)).unwrap().permissions().mode() & 0o111, 0, "{program} must run");
    assert_eq!(package.read(config), read("config/fieldpost.toml"));
    assert_eq!(package.read("/DEBIAN/conffiles").trim_end(), config, "an upgrade must keep the user's config");

    let sysusers = package.read("/usr/lib/sysusers.d/fieldpost.conf");
    let made: Vec<&str> =
        sysusers.lines().filter_map(|line| line.strip_prefix("u ")?.split_whitespace().next()).collect();
    assert_eq!(settings(&unit, "User"), made, "the unit's user must be one that the package makes");
    let maintainer = package.read("/DEBIAN/postinst");
    assert!(maintainer.contains("systemd-sysusers /usr/lib/sysusers.d/fieldpost.conf"), "{maintainer}");
}

#[test]
fn the_package_carries_the_programs_version_and_machine() {
    if !has("dpkg-deb") || !has("readelf") {
        return;
    }
    let package = Package::build();
    let control = package.read("/DEBIAN/control");
    let field = |name: &str| {
        let line = control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in:\n{control}")).to_owned()
    };
    let (version, architecture) = (field("Version"), field("Architecture"));
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(architecture, output("dpkg", &["--print-architecture".as_ref()]).trim_end());
    assert_eq!(package.name, format!("fieldpost_{version}_{architecture}.deb"));
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{control}");
}

#[test]
fn what_a_restart_cannot_mend_is_not_restarted() {
    let unit = read("systemd/fieldpost.service");
    assert_eq!(settings(&unit, "Restart"), ["on-failure"]);
    assert_eq!(settings(&unit, "RestartPreventExitStatus"), ["64 77 78"]);
    assert_eq!(settings(&unit, "StartLimitIntervalSec"), ["0"], "a gateway that nobody stands beside must not give up");
}

#[test]
fn the_gateway_may_raise_its_bound_on_open_files() {
    let unit = read("systemd/fieldpost.service");
    // Later lines add to earlier ones and take from them.
    let calls = settings(&unit, "SystemCallFilter");
    let (denied, allowed) =
        (calls.iter().position(|c| c.starts_with('~')), calls.iter().position(|c| c.contains("setrlimit")));
    assert!(denied.is_some() && allowed > denied, "{calls:?}");
    let [limits] = settings(&unit, "LimitNOFILE")[..] else { panic!("one LimitNOFILE") };
    let most: u32 = limits.rsplit(':').next().unwrap().parse().unwrap();
    assert!(most >= 2 * u32::from(u16::MAX) + 100, "max-clients and max-waiting at their most");
}

#[test]
fn the_gateway_may_ask_whether_a_time_server_keeps_the_clock() {
    let unit = read("systemd/fieldpost.service");
    let calls = settings(&unit, "SystemCallFilter");
    let (denied, allowed) =
        (calls.iter().position(|c| c.starts_with('~')), calls.iter().position(|c| c.contains("clock_adjtime")));
    assert!(denied.is_some() && allowed > denied, "{calls:?}");
    assert!(settings(&unit, "ProtectClock").is_empty(), "it forbids to ask as well");
    assert_eq!(settings(&unit, "CapabilityBoundingSet"), [""], "nothing is to set the clock");
}

#[test]
fn a_reload_sends_what_the_program_takes_for_one() {
    assert_eq!(settings(&read("systemd/fieldpost.service"), "ExecReload"), ["/bin/kill -HUP $MAINPID"]);
}

#[test]
fn systemd_understands_the_unit() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("fieldpost.service");
    fs::write(&unit, read("systemd/fieldpost.service").replace("/usr/bin/fieldpost", "/bin/true")).unwrap();
    let done = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    // Of other units on this machine it may complain as well.
    let complaints = String::from_utf8_lossy(&done.stderr);
    let ours: Vec<&str> = complaints.lines().filter(|line| line.contains("fieldpost.service")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

#[test]
fn cross_builds_in_the_images_of_one_release() {
    let config: toml::Table = read("cross.toml").parse().unwrap();
    let targets = config["target"].as_table().unwrap();
    for needed in ["aarch64-unknown-linux-gnu", "arm-unknown-linux-gnueabihf"] {
        assert!(targets.contains_key(needed), "no build for {needed}");
    }
    for (target, settings) in targets {
        assert_eq!(settings["image"].as_str(), Some(format!("ghcr.io/cross-rs/{target}:0.2.5").as_str()));
    }
}

/// Every script below `folder`: what starts with `#!`.
fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, found);
        } else if fs::read(&path).unwrap().starts_with(b"#!") {
            found.push(path);
        }
    }
}

#[test]
fn scripts_can_be_run_as_they_are() {
    let mut found = Vec::new();
    scripts(&repository().join(".ci"), &mut found);
    scripts(&repository().join("tests"), &mut found);
    for key in [".ci/run", ".ci/cross-build", ".ci/smoke-arm64", ".ci/deb", ".ci/debian/postinst"] {
        assert!(found.contains(&repository().join(key)), "{key} is missing, or does not start with #!");
    }
    for path in found {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} is not executable", path.display());
        let text = fs::read_to_string(&path).unwrap();
        for (first, shell) in [("#!/bin/sh", "sh"), ("#!/usr/bin/env bash", "bash")] {
            if text.lines().next() == Some(first) {
                output(shell, &["-n".as_ref(), path.as_os_str()]);
            }
        }
    }
}

/// A build must not change the toolchain of the machine that it runs on, and must not need containers.
#[test]
fn scripts_call_neither_rustup_nor_cross() {
    let mut found = Vec::new();
    scripts(&repository().join(".ci"), &mut found);
    scripts(&repository().join("tests"), &mut found);
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            for command in line.split([';', '&', '|', '(', '`']) {
                let program = command.split_whitespace().next().unwrap_or_default();
                assert!(!["rustup", "cross"].contains(&program), "{}: {line}", path.display());
            }
        }
    }
}
