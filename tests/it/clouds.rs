//! The page on clouds: each of its configs is one, and what it names is there.

use std::path::Path;
use std::process::Command;

use crate::support::Authority;

const PAGE: &str = include_str!("../../docs/clouds.md");

#[test]
fn each_config_of_the_page_on_clouds_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["aws", "plant7"] {
        Authority::new(folder.path(), &format!("ca-{name}")).certify(name, "gateway");
    }
    std::fs::copy(folder.path().join("ca-aws.pem"), folder.path().join("ca.pem")).expect("the authority is there");
    std::fs::write(folder.path().join("secret"), "secret\n").expect("it can be written");
    let blocks: Vec<_> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect();
    assert!(blocks.len() >= 7, "only {} configs", blocks.len());
    for block in blocks {
        // Files of a Pi stand in this folder here.
        let config = block.replace("/etc/fieldpost/cloud.password", "secret");
        std::fs::write(folder.path().join("fieldpost.toml"), &config).expect("it can be written");
        let mut check = Command::new(env!("CARGO_BIN_EXE_fieldpost"));
        let output = check.arg("check").arg(folder.path().join("fieldpost.toml")).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("warning"), "{config}\n{said}");
    }
}

#[test]
fn the_files_that_the_page_on_clouds_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = PAGE.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)));
    let named: Vec<_> = words.filter(|word| word.starts_with("tests/")).collect();
    assert!(named.len() >= 2, "{named:?}");
    for path in named {
        assert!(root.join(path.trim_end_matches('.')).exists(), "{path} is not there");
    }
}
