//! Which settings of a config differ from those of another, by their keys.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

/// The settings of all files, down to the second level: `broker.users`, `bus.plc`. Of each value only a fingerprint is
/// kept: it may be a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<Arc<str>, u64>);

impl Settings {
    pub(super) fn new(all: &DeTable<'_>) -> Self {
        let mut settings = BTreeMap::new();
        for (section, value) in all {
            let section = section.get_ref();
            match value.get_ref() {
                DeValue::Table(table) => settings.extend(
                    table
                        .iter()
                        .map(|(key, value)| (format!("{section}.{}", key.get_ref()).into(), print(value.get_ref()))),
                ),
                other => drop(settings.insert(section.as_ref().into(), print(other))),
            }
        }
        Self(settings)
    }

    /// The keys that are in one only, or have another value.
    pub fn changed(&self, other: &Self) -> Vec<Arc<str>> {
        let mut keys: Vec<_> = self.0.keys().chain(other.0.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| self.0.get(key) != other.0.get(key));
        keys
    }
}

/// The fingerprint of a value, wherever it stands and however it is laid out.
fn print(value: &DeValue<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(value, &mut hasher);
    hasher.finish()
}

fn add(value: &DeValue<'_>, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => number.to_string().hash(hasher),
        DeValue::Float(number) => number.to_string().hash(hasher),
        DeValue::Boolean(truth) => truth.hash(hasher),
        DeValue::Datetime(date) => date.to_string().hash(hasher),
        DeValue::Array(list) => {
            list.len().hash(hasher);
            list.iter().for_each(|item| add(item.get_ref(), hasher));
        }
        DeValue::Table(table) => {
            let mut sorted: Vec<_> = table.iter().map(|(key, value)| (key.get_ref(), value.get_ref())).collect();
            sorted.sort_by_key(|(key, _)| *key);
            sorted.len().hash(hasher);
            for (key, value) in sorted {
                key.hash(hasher);
                add(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::new(&DeTable::parse(text).unwrap().into_inner())
    }

    #[test]
    fn changed_keys_are_named_and_layout_is_no_change() {
        let old = settings("[a]\nx = 1\ny = { p = 1, q = [1, 2] }\n[b.c]\nz = 'gone'\n[d]\nsame = 1.5");
        assert!(
            old.changed(&settings("d.same = 1.5\na = { y.q = [ 1,2 ], y.p = 1, x = 1 }\nb = { c = { z = \"gone\" } }"))
                .is_empty()
        );
        let new = settings("[a]\nx = 2\ny = { p = 1, q = [1, 2, 3] }\n[d]\nsame = 1.5\nmore = true");
        let changed = old.changed(&new);
        assert_eq!(changed.iter().map(|key| &**key).collect::<Vec<_>>(), ["a.x", "a.y", "b.c", "d.more"]);
    }
}
