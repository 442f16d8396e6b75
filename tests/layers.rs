//! The layers of ARCHITECTURE.md hold: a module uses only what stands to its left.
//! Read from the `use crate::` lines and the paths in the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; names in one entry stand side by side and don't use each other.
const LAYERS: &[&[&str]] = &[
    &["schema"],
    &["sql"],
    &["ledger"],
    &["ctldb", "ldb", "changelog", "snapshot"],
    &["reader"],
    &["executive"],
    &["messages"],
    &["http"],
    &["actors"],
    &["node"],
    &["cli"],
];

/// Stand beside the layers: everyone may use them, they use none of the layers.
const BESIDE: &[&str] = &["config", "metrics", "telemetry", "signals", "failpoint", "disk", "backoff"];

/// Of those beside, the ones that the others there may use, since they use none themselves:
/// settings are read from files, and a signal's last words are logged.
const GROUND: &[&str] = &["failpoint", "disk", "telemetry"];

/// Pairs within one entry where the first may use the second, and why.
const WITHIN: &[(&str, &str)] = &[
    // The applier writes rows and changelog entries of one commit together.
    ("ldb", "changelog"),
    // A snapshot is a copy of an LDB.
    ("snapshot", "ldb"),
];

/// Pairs where the first does not use the second, although it stands to its left.
const NEVER: &[(&str, &str)] = &[
    // It starts a node, and otherwise knows one by HTTP and by its files.
    ("cli", "actors"),
];

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn room_of(path: &Path, src: &Path) -> String {
    let first = path.strip_prefix(src).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The names behind `crate::` in the code, comments and tests left out.
fn used_rooms(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let behind = lines.flat_map(|line| line.split("crate::").skip(1));
    behind.flat_map(first_names).collect()
}

/// `ldb` of `ldb::Ldb;`, and both names of `{node, telemetry};`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    match path.strip_prefix('{') {
        Some(group) => {
            group.split('}').next().unwrap().split(',').map(name).filter(|n: &String| !n.is_empty()).collect()
        }
        None => vec![name(path)],
    }
}

fn height(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

#[test]
fn a_module_uses_only_what_stands_to_its_left() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::<String, usize>::new();
    for file in files {
        let room = room_of(&file, &src);
        *seen.entry(room.clone()).or_default() += 1;
        if room == "main" || room == "lib" {
            continue;
        }
        let own = height(&room);
        assert!(own.is_some() || BESIDE.contains(&room.as_str()), "{room} has no place in the layers");
        for used in used_rooms(&fs::read_to_string(&file).unwrap()) {
            let pair = (room.as_str(), used.as_str());
            let allowed = used == room
                || match (own, height(&used)) {
                    (_, None) => {
                        let is_ground = GROUND.contains(&used.as_str()) && !GROUND.contains(&room.as_str());
                        BESIDE.contains(&used.as_str()) && (own.is_some() || is_ground || used == "failpoint")
                    }
                    (None, Some(_)) => false,
                    (Some(_), Some(_)) if NEVER.contains(&pair) => false,
                    (Some(own), Some(other)) => other < own || (other == own && WITHIN.contains(&pair)),
                };
            if !allowed {
                wrong.push(format!("{} uses {used}", file.strip_prefix(&src).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for room in LAYERS.iter().copied().flatten().chain(BESIDE) {
        assert!(seen.contains_key(*room), "{room} is in the layers and not in src");
    }
}

#[test]
fn the_domain_knows_neither_actors_nor_http() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in LAYERS.iter().take_while(|layer| layer[0] != "messages").copied().flatten() {
        let directory = src.join(room);
        if directory.is_dir() {
            rust_files(&directory, &mut files);
        }
    }
    assert!(files.len() > 20, "the domain has more files than {}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Stores are reached over HTTP; their clients are made in one place.
        let may_know_a_client = file.starts_with(src.join("snapshot/store"));
        for word in ["actix", "reqwest", "hyper", "utoipa"] {
            if word == "reqwest" && may_know_a_client {
                continue;
            }
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
}
