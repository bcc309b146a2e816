//! The table of a standard's normative statements, and whether it tells the truth about the tests.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    statement: Vec<Statement>,
}

/// A normative statement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Statement {
    number: String,
    /// What it says, in one line.
    says: String,
    /// The test that holds the broker to it, as `file::function`.
    test: Option<String>,
    /// Why there is none.
    not_here: Option<String>,
}

/// `NAME.toml` has these numbers, in this order; each statement has a test of its number or a reason; and the tests in
/// the folder `NAME` are those that it names.
pub fn check(name: &str, numbers: &[String]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/broker/spec");
    let table = std::fs::read_to_string(folder.join(name).with_extension("toml")).unwrap();
    let table: Table = toml::from_str(&table).unwrap_or_else(|e| panic!("{e}"));
    let listed: Vec<_> = table.statement.iter().map(|statement| statement.number.clone()).collect();
    assert_eq!(listed, numbers, "the numbers of the standard, in its order");
    let mut named = BTreeSet::new();
    for Statement { number, says, test, not_here } in table.statement {
        assert!(!says.is_empty(), "{number} says something");
        match (test, not_here) {
            (Some(test), None) => {
                let function = number.to_lowercase().replace(['.', '-'], "_");
                assert!(test.ends_with(&format!("::{function}")), "{number} has a test of its number, not {test}");
                named.insert(test);
            }
            (None, Some(reason)) => assert!(!reason.is_empty(), "{number} has a reason"),
            _ => panic!("{number} has either a test or a reason why not"),
        }
    }
    assert_eq!(tests(&folder.join(name)), named, "the tests that there are, and those in the table");
}

/// The tests in a folder, as `file::function`.
fn tests(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        for part in source.split("#[tokio::test]\n").skip(1) {
            let function = part.strip_prefix("async fn ").and_then(|rest| rest.split_once('(')).expect("a test").0;
            found.insert(format!("{stem}::{function}"));
        }
    }
    found
}
