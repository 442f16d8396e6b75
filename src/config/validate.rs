//! Checks the range of single values and the sense of several together. Entry points: [`exclusive`]
//! and [`validate`]. A finding about a key that is wrong already is left out, because it would only
//! repeat. The form of single values is `codec`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;

use ctlstore_core::disk::{FileId, directory_of};
use ctlstore_core::schema::TableRef;
use ctlstore_ctldb::executive::Secret;
use ctlstore_ldb::snapshot::SnapshotUrl;

use super::choices::Role;
use super::ctldb_url::CtldbUrl;
use super::problem::{Origin, Problem, shown_text};
use super::settings::{ReaderQuerySettings, Settings};

/// A writer's usage is kept for a day, so a longer period could not be counted.
const MAX_WRITER_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// A block lies in memory up to twice: one read ahead while one is applied.
const MAX_BLOCK_ROWS: usize = 1_000_000;
const MAX_BLOCK_BYTES: u64 = 1 << 30;
/// Statements of the protocol are far smaller than the least. SQLite takes no value above
/// 1,000,000,000 bytes.
const STATEMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=900 << 20;
const MIN_STATEMENT_MEMORY_BYTES: u64 = 16 << 20;
const MAX_READER_WORKERS: usize = 1024;
const MAX_QUERIES: usize = 64;
const MAX_WAITING_QUERIES: usize = 4096;
const MAX_QUERY_TIME: Duration = Duration::from_secs(60);
const QUERY_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 30;
/// Less would not hold the changes of one commit.
const MIN_RETAIN_BYTES: u64 = 64 * 1024;
/// The longest line fits in the least; no UDP datagram of IPv4 holds more than the most.
const DATAGRAM_BYTES: std::ops::RangeInclusive<u64> = 512..=65_507;
/// The owner's right to open what is in a directory.
const SEARCH: u32 = 0o100;
/// A destination's listing can hold far more.
const MAX_KEPT_SNAPSHOTS: usize = 1000;
/// A reader may be about to open the version before the newest.
const KEPT_VERSIONS: std::ops::RangeInclusive<usize> = 2..=1000;
/// The compressions that we use reach less than the most.
const EXPANSION: std::ops::RangeInclusive<u64> = 1..=100_000;
/// Each LDB costs a thread and up to 32 MiB of cache.
const MAX_LDBS: usize = 16;
/// Shorter would leave an LDB no time at rest.
const MIN_ROTATION: Duration = Duration::from_millis(100);

/// The findings so far, and what their lines need to know.
pub struct Findings {
    /// The effective values as they may be printed.
    values: toml::Table,
    origins: BTreeMap<String, Origin>,
    /// Keys with a value that was refused before.
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Findings {
    pub fn new(settings: &Settings, origins: BTreeMap<String, Origin>, bad: BTreeSet<String>) -> Self {
        // A value that can't be printed (a path that is not UTF-8) is left out of its line.
        let values = toml::Table::try_from(settings).unwrap_or_default();
        Self { values, origins, bad, problems: Vec::new() }
    }

    /// Refuses a combination of `keys`. The line is about the first one that was set.
    pub fn refuse(&mut self, keys: &[&str], reason: impl Into<String>) {
        if keys.iter().any(|key| self.bad.contains(*key)) {
            return;
        }
        // A key that was set is at fault, rather than one that has its default.
        let Some(key) = keys.iter().find(|key| self.origins.contains_key(**key)).or(keys.first()) else { return };
        self.problems.push(Problem {
            key: (*key).to_owned(),
            value: self.value(key),
            origin: self.origins.get(*key).cloned().unwrap_or(Origin::Default),
            reason: reason.into(),
        });
    }

    /// Whether a source other than the defaults has this key.
    fn is_given(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn value(&self, key: &str) -> Option<String> {
        let mut parts = key.split('.');
        let mut value = self.values.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        Some(value.as_str().map_or_else(|| value.to_string(), shown_text))
    }
}

/// Checks keys that exclude each other, before secret files are read.
pub fn exclusive(settings: &Settings, findings: &mut Findings) {
    let Settings { ctldb, ldb, heartbeat, .. } = settings;
    // The printed settings of a node have both, and can be loaded again.
    if ldb.paths.first().is_some_and(|first| *first != ldb.path) && findings.is_given("ldb.path") {
        findings.refuse(&["ldb.paths", "ldb.path"], "ldb.path is given as well: keep one of them");
    }
    if ctldb.password_file.is_some() {
        let keys = ["ctldb.password_file", "ctldb.url"];
        match &ctldb.url {
            CtldbUrl::Sqlite(_) => findings.refuse(&keys, "an sqlite: ctldb.url has no password"),
            CtldbUrl::Mysql(url) if url.has_password() => findings.refuse(&keys, "ctldb.url has a password as well"),
            CtldbUrl::Mysql(_) => {}
        }
    }
    if heartbeat.secret_file.is_some() && heartbeat.secret.is_some() {
        findings.refuse(&["heartbeat.secret_file", "heartbeat.secret"], "heartbeat.secret is given as well");
    }
}

/// All other checks. The settings' paths must be absolute.
pub fn validate(settings: &Settings, findings: &mut Findings) {
    times(settings, findings);
    sizes(settings, findings);
    servers(settings, findings);
    files(settings, findings);
    roles(settings, findings);
    several_ldbs(settings, findings);
    versions(settings, findings);
    retention(settings, findings);
    heartbeat(settings, findings);
}

fn times(settings: &Settings, findings: &mut Findings) {
    for (key, value) in [
        ("node.shutdown_timeout", settings.node.shutdown_timeout),
        ("executive.request_timeout", settings.executive.request_timeout),
        ("reflector.poll_interval", settings.reflector.poll_interval),
        ("reflector.poll_timeout", settings.reflector.poll_timeout),
        ("reflector.statement_max_time", settings.reflector.statement_max_time),
        ("ldb.versioned_interval", settings.ldb.versioned_interval),
        ("snapshotter.interval", settings.snapshotter.interval),
        ("snapshotter.store_timeout", settings.snapshotter.store_timeout),
        ("heartbeat.interval", settings.heartbeat.interval),
        ("changes.heartbeat", settings.changes.heartbeat),
        ("metrics.dogstatsd_flush_interval", settings.metrics.dogstatsd_flush_interval),
    ] {
        if value.is_zero() {
            findings.refuse(&[key], "must be longer than nothing");
        }
    }
    let period = settings.executive.writer_limit.period;
    if period.is_zero() || period > MAX_WRITER_PERIOD || period.subsec_nanos() != 0 {
        findings.refuse(&["executive.writer_limit.period"], "must be whole seconds, at least one and at most a day");
    }
}

fn sizes(settings: &Settings, findings: &mut Findings) {
    let Settings { executive, reflector, ldb, reader, .. } = settings;
    for (key, value) in [
        ("executive.table_limit.max_bytes", executive.table_limit.max_bytes),
        ("ldb.wal_checkpoint_bytes", ldb.wal_checkpoint_bytes),
        ("reader.max_response_bytes", reader.max_response_bytes),
        ("reader.query.max_rows", reader.query.max_rows),
        ("reader.query.max_waiting", reader.query.max_waiting as u64),
    ] {
        if value == 0 {
            findings.refuse(&[key], "must be more than 0");
        }
    }
    if executive.table_limit.warn_bytes > executive.table_limit.max_bytes {
        findings.refuse(
            &["executive.table_limit.warn_bytes", "executive.table_limit.max_bytes"],
            "warn_bytes is above max_bytes, so writes would be refused without a warning",
        );
    }
    if !(1..=MAX_BLOCK_ROWS).contains(&reflector.block_rows) {
        findings.refuse(&["reflector.block_rows"], format!("must be 1 to {MAX_BLOCK_ROWS}"));
    }
    if !(1..=MAX_BLOCK_BYTES).contains(&reflector.block_bytes) {
        findings.refuse(&["reflector.block_bytes"], "must be 1 byte to 1 GiB");
    }
    if !STATEMENT_BYTES.contains(&reflector.statement_max_bytes) {
        findings.refuse(&["reflector.statement_max_bytes"], "must be 1 MiB to 900 MiB");
    }
    if reflector.statement_max_memory_bytes < MIN_STATEMENT_MEMORY_BYTES {
        findings.refuse(&["reflector.statement_max_memory_bytes"], "must be at least 16 MiB");
    }
    if !DATAGRAM_BYTES.contains(&settings.metrics.dogstatsd_buffer_bytes) {
        let (least, most) = DATAGRAM_BYTES.into_inner();
        findings.refuse(&["metrics.dogstatsd_buffer_bytes"], format!("must be {least} to {most}"));
    }
    if ldb.directory_mode & SEARCH != SEARCH {
        findings
            .refuse(&["ldb.directory_mode"], "the node itself must be able to search its directories, as with 0700");
    }
    if (1..MIN_RETAIN_BYTES).contains(&settings.changes.retain_bytes) {
        findings.refuse(&["changes.retain_bytes"], "must be 0 or at least 64 KiB");
    }
    if !EXPANSION.contains(&settings.bootstrap.max_expansion) {
        let (least, most) = EXPANSION.into_inner();
        findings.refuse(&["bootstrap.max_expansion"], format!("must be {least} to {most}"));
    }
    if !KEPT_VERSIONS.contains(&ldb.versioned_keep) {
        let (least, most) = KEPT_VERSIONS.into_inner();
        findings.refuse(&["ldb.versioned_keep"], format!("must be {least} to {most}"));
    }
    if settings.snapshotter.keep > MAX_KEPT_SNAPSHOTS {
        findings.refuse(&["snapshotter.keep"], format!("must be at most {MAX_KEPT_SNAPSHOTS}"));
    }
    queries(&reader.query, findings);
    if reader.workers > MAX_READER_WORKERS {
        findings.refuse(&["reader.workers"], format!("must be at most {MAX_READER_WORKERS}"));
    }
}

/// Each query costs a thread and memory, and keeps the WAL from shrinking.
fn queries(query: &ReaderQuerySettings, findings: &mut Findings) {
    if !(1..=MAX_QUERIES).contains(&query.max_running) {
        findings.refuse(&["reader.query.max_running"], format!("must be 1 to {MAX_QUERIES}"));
    }
    if query.max_waiting > MAX_WAITING_QUERIES {
        findings.refuse(&["reader.query.max_waiting"], format!("must be at most {MAX_WAITING_QUERIES}"));
    }
    if query.max_time.is_zero() || query.max_time > MAX_QUERY_TIME {
        findings.refuse(&["reader.query.max_time"], "must be longer than nothing and at most a minute");
    }
    for (key, bytes) in [
        ("reader.query.max_response_bytes", query.max_response_bytes),
        ("reader.query.max_memory_bytes", query.max_memory_bytes),
    ] {
        if !QUERY_BYTES.contains(&bytes) {
            findings.refuse(&[key], "must be 64 KiB to 1 GiB");
        }
    }
}

/// Refuses two servers of this node on one port.
fn servers(settings: &Settings, findings: &mut Findings) {
    let mut binds = vec![("ops.bind", settings.ops.bind)];
    if settings.plays(Role::Executive) {
        binds.push(("executive.bind", settings.executive.bind));
    }
    if settings.plays(Role::Reader) {
        binds.push(("reader.bind", settings.reader.bind));
    }
    for (at, (key, bind)) in binds.iter().enumerate() {
        for (other_key, other) in &binds[at + 1..] {
            if overlap(bind, other) {
                findings.refuse(&[other_key, key], format!("{other_key} and {key} are the same port"));
            }
        }
    }
}

/// Port 0 is any free one. An unspecified address covers all addresses of the machine; that of IPv6
/// covers IPv4 too.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |a: &SocketAddr, b: &SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

/// Refuses files that would overwrite each other.
fn files(settings: &Settings, findings: &mut Findings) {
    // A host may start from a snapshot that it publishes, but not from its own LDB.
    let ldb = settings.ldb.key();
    let ldbs = settings.ldb.all();
    if settings.bootstrap.urls.iter().any(|url| matches!(url, SnapshotUrl::File(path) if ldbs.contains(path))) {
        findings.refuse(&["bootstrap.urls", ldb], format!("bootstrap.urls and {ldb} are the same file"));
    }
    let mut files: Vec<(&str, &Path)> = ldbs.iter().map(|path| (ldb, path.as_path())).collect();
    files.push(("changelog.path", &settings.changelog.path));
    if let CtldbUrl::Sqlite(path) = &settings.ctldb.url {
        files.push(("ctldb.url", path));
    }
    files.extend(settings.snapshotter.urls.iter().filter_map(|url| match url {
        SnapshotUrl::File(path) => Some(("snapshotter.urls", path.as_path())),
        _ => None,
    }));
    for (at, (key, path)) in files.iter().enumerate() {
        for (other_key, other) in &files[at + 1..] {
            let may_be_links = *key == "snapshotter.urls" && key == other_key;
            if place(path) == place(other) || (!may_be_links && is_one_file(path, other)) {
                findings.refuse(&[other_key, key], format!("{other_key} and {key} are the same file"));
            }
        }
    }
}

/// The path with its directory resolved, so that two spellings are equal. A link at its end stays.
fn place(path: &Path) -> PathBuf {
    let directory = std::fs::canonicalize(directory_of(path));
    match (directory, path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => path.to_owned(),
    }
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    matches!((FileId::of(one), FileId::of(other)), (Ok(Some(one)), Ok(Some(other))) if one == other)
}

fn roles(settings: &Settings, findings: &mut Findings) {
    if settings.plays(Role::Snapshotter) && settings.snapshotter.urls.is_empty() {
        findings.refuse(&["snapshotter.urls", "node.roles"], "the role snapshotter needs a destination");
    }
    let no_executive = settings.heartbeat.executive_url.is_none() && !settings.plays(Role::Executive);
    if settings.plays(Role::Heartbeat) && no_executive {
        findings.refuse(
            &["heartbeat.executive_url", "node.roles"],
            "the role heartbeat needs the role executive or heartbeat.executive_url",
        );
    }
}

fn several_ldbs(settings: &Settings, findings: &mut Findings) {
    let ldb = &settings.ldb;
    if ldb.paths.len() > MAX_LDBS {
        findings.refuse(&["ldb.paths"], format!("must be at most {MAX_LDBS} files"));
    }
    if ldb.rotation < MIN_ROTATION {
        findings.refuse(&["ldb.rotation"], "must be at least 100 ms");
    }
    if ldb.versioned && !ldb.paths.is_empty() {
        findings.refuse(&["ldb.paths", "ldb.versioned"], "a versioned ldb has ldb.path alone");
    }
}

/// A versioned LDB is fetched, and nothing on this host follows the ledger.
fn versions(settings: &Settings, findings: &mut Findings) {
    if !settings.ldb.versioned {
        return;
    }
    if settings.plays(Role::Reflector) && settings.bootstrap.urls.is_empty() {
        findings
            .refuse(&["ldb.versioned", "bootstrap.urls"], "versions are fetched from bootstrap.urls, which names none");
    }
    if settings.plays(Role::Snapshotter) {
        let reason = "the role snapshotter copies ldb.path, which nothing writes where the ldb is versioned";
        findings.refuse(&["ldb.versioned", "node.roles"], reason);
    }
}

fn retention(settings: &Settings, findings: &mut Findings) {
    let executive = &settings.executive;
    let Some(keep) = executive.ledger_retention else { return };
    if keep.is_zero() {
        findings.refuse(&["executive.ledger_retention"], "must be longer than nothing; \"\" keeps all rows");
    }
    if executive.retention_snapshots(&settings.snapshotter).is_empty() {
        let keys = ["executive.ledger_retention", "executive.ledger_retention_snapshots", "snapshotter.urls"];
        findings.refuse(&keys, "needs a snapshot that has what goes: executive.ledger_retention_snapshots names none");
    }
}

fn heartbeat(settings: &Settings, findings: &mut Findings) {
    let heartbeat = &settings.heartbeat;
    if let Err(error) = TableRef::new(heartbeat.family.clone(), heartbeat.table.clone()) {
        findings.refuse(&["heartbeat.table", "heartbeat.family"], error.to_string());
    }
    if let Some(secret) = &heartbeat.secret
        && let Err(refusal) = Secret::new(secret.expose_secret().as_bytes())
    {
        findings.refuse(&["heartbeat.secret", "heartbeat.secret_file"], refusal.to_string());
    }
}
