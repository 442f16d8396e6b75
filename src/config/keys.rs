//! The keys that exist, and which one a mistyped key means. Entry point: [`KnownKeys`].

use std::collections::BTreeSet;

use config::{Map, Value, ValueKind};

/// The dotted names of all keys and sections.
#[derive(Debug)]
pub struct KnownKeys {
    keys: BTreeSet<String>,
    sections: BTreeSet<String>,
}

impl KnownKeys {
    /// All keys. The defaults name each of them.
    pub fn of(defaults: &Map<String, Value>) -> Self {
        let mut known = Self { keys: BTreeSet::new(), sections: BTreeSet::new() };
        known.add("", defaults);
        known
    }

    fn add(&mut self, section: &str, values: &Map<String, Value>) {
        for (name, value) in values {
            let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            match &value.kind {
                ValueKind::Table(values) => {
                    self.add(&key, values);
                    self.sections.insert(key);
                }
                _ => drop(self.keys.insert(key)),
            }
        }
    }

    pub fn is_key(&self, key: &str) -> bool {
        self.keys.contains(key)
    }

    pub fn is_section(&self, key: &str) -> bool {
        self.sections.contains(key)
    }

    /// The keys of a section, separated by commas.
    pub fn keys_of(&self, section: &str) -> String {
        let inside = self.keys.iter().filter(|key| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')));
        inside.map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The key or section that was most likely meant: one with the same last part, or one that differs
    /// in few letters.
    pub fn nearest(&self, key: &str) -> Option<&str> {
        let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
        // The section that the key is in was not meant.
        let around = |section: &str| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        let candidates = self.keys.iter().chain(self.sections.iter().filter(|section| !around(section)));
        let near = candidates.map(|known| {
            let same_name = last(known) == last(key);
            let distance = strsim::damerau_levenshtein(known, key);
            (!same_name, distance, known)
        });
        let (other_name, distance, known) = near.min()?;
        (!other_name || distance <= 1 + key.len() / 6).then_some(known.as_str())
    }
}
