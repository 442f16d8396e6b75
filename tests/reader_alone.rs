//! A program outside this repository can depend on the crate with the feature `reader` alone: without the node's
//! dependencies, and without the SQLite build option that only this repository's cargo configuration sets.

mod support;

use std::path::Path;
use std::process::Command;

use support::scratch_dir;

const MANIFEST: &str = r#"
[package]
name = "elsewhere"
version = "0.0.0"
edition = "2024"

[dependencies]
ctlstore = { path = "@REPOSITORY@", default-features = false, features = ["reader"] }

[profile.dev]
debug = false
"#;

const PROGRAM: &str = r#"
fn main() {
    let path = std::env::args().nth(1).expect("the path of an LDB");
    let mut reader = ctlstore::ldb::read::LdbReader::new(path);
    println!("seq {}", reader.last_seq().expect("the LDB's seq"));
}
"#;

/// What only the node needs; none of it may reach a program that only reads.
const NODE_ONLY: [&str; 5] = ["actix", "tokio", "mysql_async", "reqwest", "clap"];

#[test]
fn a_program_elsewhere_reads_an_ldb_with_the_feature_reader_alone() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = scratch_dir();
    let package = directory.path();
    std::fs::create_dir(package.join("src")).expect("make src");
    let manifest = MANIFEST.replace("@REPOSITORY@", &repository.display().to_string());
    std::fs::write(package.join("Cargo.toml"), manifest).expect("write the manifest");
    std::fs::write(package.join("src/main.rs"), PROGRAM).expect("write the program");
    // The same versions as here, so that nothing is asked of the network.
    std::fs::copy(repository.join("Cargo.lock"), package.join("Cargo.lock")).expect("copy the lock file");

    let tree = cargo(package, &["tree", "--prefix", "none", "--edges", "normal"]);
    let found: Vec<_> =
        NODE_ONLY.iter().filter(|name| tree.lines().any(|line| line.split(' ').next() == Some(name))).collect();
    assert!(tree.contains("rusqlite ") && found.is_empty(), "{found:?} in\n{tree}");

    let ldb = package.join("ldb.db");
    let connection = rusqlite::Connection::open(&ldb).expect("make an LDB");
    let statements = "PRAGMA journal_mode = WAL;
        CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
        INSERT INTO _ldb_seq VALUES (1, 4711);";
    connection.execute_batch(statements).expect("fill the LDB");
    let output = cargo(package, &["run", "--quiet", "--", &ldb.display().to_string()]);
    assert_eq!(output.trim(), "seq 4711");
}

/// Runs cargo as from a shell outside the repository and returns what it printed.
fn cargo(package: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.arg("--offline").args(arguments).current_dir(package);
    // The tests' cargo has set it for everything that they start.
    command.env_remove("LIBSQLITE3_FLAGS");
    // Kept between runs: SQLite takes a minute to compile.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("reader-alone"));
    let output = command.output().expect("run cargo");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
