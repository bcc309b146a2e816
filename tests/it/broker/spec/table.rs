//! A table of normative statements in docs/, held to the standard's numbers and to the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

/// Checks a document with rows such as ``| MQTT-3.1.0-2 | what it asks | [`mqtt_3_1_0_2`](…/connect.rs) |``: it has every
/// one of `numbers` once and in order; each row names the test of its number, in a file of `folder`, or says why there
/// is none; and every test in `folder` is named.
///
/// `numbers` are sections and the numbers that they have, in the standard's order.
pub fn check(document: &str, folder: &str, numbers: &[(&str, RangeInclusive<usize>)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(document)).unwrap();
    let rows: Vec<[&str; 3]> = text.lines().filter(|line| line.starts_with("| MQTT-")).map(cells).collect();
    let expected = numbers.iter().flat_map(|(section, all)| all.clone().map(move |n| format!("MQTT-{section}-{n}")));
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), expected.collect::<Vec<_>>());

    let mut named = BTreeSet::new();
    for [number, statement, held] in rows {
        assert!(!statement.is_empty() && !held.is_empty(), "{number}: an empty cell");
        let Some((test, file)) = link(held) else {
            assert!(!held.contains("mqtt_"), "{number}: a test that is no link");
            continue;
        };
        assert_eq!(test, number.to_lowercase().replace(['.', '-'], "_"), "{number}: another number's test");
        let file = root.join(document).parent().unwrap().join(file);
        let source = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{number}: {}: {e}", file.display()));
        assert!(tests(&source).any(|name| name == test), "{number}: no {test} in {}", file.display());
        named.insert(test.to_owned());
    }
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        for name in tests(&source) {
            assert!(named.remove(name), "{name} in {} is not in {document}, or there twice", path.display());
        }
    }
    assert!(named.is_empty(), "not in {folder}: {named:?}");
}

fn cells(row: &str) -> [&str; 3] {
    let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
    cells.try_into().unwrap_or_else(|cells| panic!("not three cells: {cells:?}"))
}

/// ``[`test`](file)``.
fn link(cell: &str) -> Option<(&str, &str)> {
    cell.strip_prefix("[`")?.strip_suffix(')')?.split_once("`](")
}

/// The names of the tests in a file that are those of a number.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    source.split("\n#[tokio::test]\nasync fn ").skip(1).filter_map(|rest| rest.split_once('(')).map(|(name, _)| name)
}
