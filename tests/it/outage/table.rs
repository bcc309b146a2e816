//! docs/outages.md, held to the tests that it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/outages.md");

#[test]
fn the_table_names_every_test_of_outages_and_each_exists() {
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/outage")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() || path.ends_with("table.rs") {
            continue;
        }
        let (file, source) = (path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap());
        let names = source.split("test]\n").skip(1).filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next());
        tests.extend(names.map(|name| format!("[`{name}`](../tests/it/outage/{file})")));
    }
    assert!(tests.len() > 20, "only {}", tests.len());
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| **"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
    for row in &rows[1..] {
        assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "not four cells: {row:?}");
        assert!(tests.remove(row[2]), "no such test, or it stands twice: {}", row[2]);
    }
    assert!(tests.is_empty(), "not in the table: {tests:#?}");
}
