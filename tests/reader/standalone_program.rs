//! A program outside this repository can depend on ctlstore-reader alone. It needs neither the node's
//! dependencies nor the SQLite build option that only this repository's cargo configuration sets.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::scratch_dir;

const MANIFEST: &str = r#"
[package]
name = "elsewhere"
version = "0.0.0"
edition = "2024"

[dependencies]
ctlstore-reader = { path = "@REPOSITORY@/crates/ctlstore-reader" }

[profile.dev]
debug = false
"#;

/// The example of this repository. It needs only the library.
const PROGRAM: &str = include_str!("../../crates/ctlstore-reader/examples/watch_row.rs");

/// All packages that such a program gets besides the library: SQLite, serde, time, and their own
/// dependencies. There are no actors, HTTP, TLS, runtime or MySQL.
const ALLOWED: &[&str] = &[
    "base64",
    "bitflags",
    "deranged",
    "fallible-iterator",
    "fallible-streaming-iterator",
    "foldhash",
    "futures-core",
    "hashbrown",
    "hashlink",
    "hex",
    "itoa",
    "libc",
    "libsqlite3-sys",
    "memchr",
    "num-conv",
    "powerfmt",
    "proc-macro2",
    "quote",
    "rusqlite",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "smallvec",
    "syn",
    "thiserror",
    "thiserror-impl",
    "time",
    "time-core",
    "time-macros",
    "unicode-ident",
    "zmij",
];

const LDB: &str = r#"PRAGMA journal_mode = WAL;
    CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
    INSERT INTO _ldb_seq VALUES (1, 4711);
    CREATE TABLE shop___prices ("country" VARCHAR(191), "item" INTEGER, "cents" INTEGER, PRIMARY KEY("country","item"));
    INSERT INTO shop___prices VALUES ('de', 7, 1999);"#;

#[test]
fn a_program_elsewhere_reads_and_follows_an_ldb_with_ctlstore_reader_alone() {
    let directory = scratch_dir();
    let package = directory.path();
    make_package(package);
    let tree = cargo(package, &["tree", "--prefix", "none", "--edges", "normal"]);
    let names = tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    let names: BTreeSet<_> =
        names.filter(|name| !["elsewhere", "ctlstore-core", "ctlstore-reader"].contains(name)).collect();
    let unwanted: Vec<_> = names.iter().filter(|name| !ALLOWED.contains(name)).collect();
    assert!(names.contains("rusqlite") && unwanted.is_empty(), "{unwanted:?} in\n{tree}");

    let ldb = package.join("ldb.db");
    let connection = rusqlite::Connection::open(&ldb).expect("make an LDB");
    connection.execute_batch(LDB).expect("fill the LDB");
    cargo(package, &["build", "--quiet"]);
    let mut command = Command::new(target_directory().join("debug/elsewhere"));
    let command = command.arg(&ldb).args(["shop", "prices", "de", "7"]).stdout(Stdio::piped());
    let mut program = command.spawn().expect("start the program");
    let mut lines = BufReader::new(program.stdout.take().expect("its output")).lines();
    let mut line = || lines.next().expect("a line").expect("the line is text");
    assert_eq!(line(), r#"4711: cents=1999 country="de" item=7"#);
    let change = "BEGIN; UPDATE shop___prices SET cents = 5; UPDATE _ldb_seq SET seq = 4712; COMMIT";
    connection.execute_batch(change).expect("change the row");
    assert_eq!(line(), r#"4712: cents=5 country="de" item=7"#);
    connection
        .execute_batch("BEGIN; DELETE FROM shop___prices; UPDATE _ldb_seq SET seq = 4713; COMMIT")
        .expect("delete");
    assert_eq!(line(), "4713: no such row");
    program.kill().and_then(|()| program.wait()).expect("end the program");
}

fn make_package(package: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir(package.join("src")).expect("make src");
    let manifest = MANIFEST.replace("@REPOSITORY@", &repository.display().to_string());
    std::fs::write(package.join("Cargo.toml"), manifest).expect("write the manifest");
    std::fs::write(package.join("src/main.rs"), PROGRAM).expect("write the program");
    // The versions are those of this repository, so that cargo needs no network.
    std::fs::copy(repository.join("Cargo.lock"), package.join("Cargo.lock")).expect("copy the lock file");
}

/// The directory is kept between runs, since SQLite takes a minute to compile.
fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("reader-alone")
}

/// Runs cargo as a shell outside the repository does, and returns its output.
fn cargo(package: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.arg("--offline").args(arguments).current_dir(package);
    // The cargo that runs the tests has set it for their child processes.
    command.env_remove("LIBSQLITE3_FLAGS");
    command.env("CARGO_TARGET_DIR", target_directory());
    let output = command.output().expect("run cargo");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
