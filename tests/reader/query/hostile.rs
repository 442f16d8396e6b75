//! SQL that would use up the machine. It is ended, and other requests go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{MANY, MANY_TABLE, Reader};
use support::http::post;
use support::wait_until;

const MIB: u64 = 1024 * 1024;

/// The most bytes by which the process may grow. Each of two queries may take its 16 MiB, twice its
/// answer of 4 MiB, and twice the longest value as JSON (6 MiB). A buffer exists twice while it grows.
/// The allocator may keep as much again.
const MAX_GROWTH: u64 = 2 * 2 * (16 + 2 * 4 + 2 * 6) * MIB;

const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ";

/// A list of `many` items, with separators.
fn many(count: usize, one: impl Fn(usize) -> String, separator: &str) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(separator)
}

fn text(sql: &str) -> String {
    sql.to_owned()
}

/// A query in which each `WITH` reads the one before it twice.
fn doubling(columns: &str, one: impl Fn(usize) -> String) -> String {
    format!(
        "WITH a0{columns} AS (SELECT 1), {} SELECT count(*) FROM a29",
        many(29, |i| format!("a{}{columns} AS ({})", i + 1, one(i)), ", ")
    )
}

/// The subject of a case, its SQL, and the statuses that it may end with.
fn hostile() -> Vec<(&'static str, String, &'static [u16])> {
    let long = "replace(hex(zeroblob(500000)), '0', 'a')";
    vec![
        ("endless recursion", format!("{NUMBERS}SELECT count(*) FROM n"), &[422]),
        (
            "endless recursion without doubles",
            text("WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT count(*) FROM n"),
            &[422],
        ),
        (
            "a queue that grows",
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n UNION ALL SELECT i + 2 FROM n) SELECT count(*) FROM n",
            ),
            &[422],
        ),
        (
            "a queue of long values",
            text(
                "WITH RECURSIVE n(i) AS (SELECT zeroblob(9) UNION ALL SELECT randomblob(100000) FROM n UNION ALL SELECT randomblob(100000) FROM n) SELECT count(*) FROM n",
            ),
            &[422],
        ),
        ("endless rows", format!("{NUMBERS}SELECT i FROM n"), &[416]),
        ("endless long rows", format!("{NUMBERS}SELECT hex(randomblob(400000)) FROM n"), &[416]),
        (
            "a cross join",
            text("SELECT count(*) FROM fam___many a, fam___many b, fam___many c WHERE a.v < b.v AND b.v < c.v"),
            &[422],
        ),
        (
            "a join of 64",
            format!(
                "SELECT count(*) FROM {} WHERE {}",
                many(64, |i| format!("fam___many t{i}"), ","),
                many(63, |i| format!("t{i}.v || t{}.v = t{}.v", i + 1, i * 7 % 64), " AND ")
            ),
            &[422],
        ),
        ("a join of more", format!("SELECT count(*) FROM {}", many(65, |i| format!("fam___many t{i}"), ",")), &[400]),
        ("sorting more than memory", text("SELECT v, randomblob(1000) r FROM fam___many ORDER BY r"), &[422]),
        (
            "distinct of more than memory",
            text("SELECT count(DISTINCT a.v || b.k) FROM fam___many a, fam___many b"),
            &[422],
        ),
        (
            "a union of more than memory",
            text(
                "SELECT count(*) FROM (SELECT a.k, randomblob(500) r FROM fam___many a UNION SELECT b.k, randomblob(500) FROM fam___many b)",
            ),
            &[422],
        ),
        (
            "a materialized table",
            text(
                "WITH x AS MATERIALIZED (SELECT k, randomblob(1000) r FROM fam___many) SELECT count(*) FROM x a, x b WHERE a.r < b.r",
            ),
            &[422],
        ),
        (
            "an automatic index",
            text(
                "SELECT count(*) FROM fam___many a JOIN (SELECT k, randomblob(1000) r FROM fam___many) b ON a.v = b.r",
            ),
            &[422],
        ),
        (
            "a window",
            format!(
                "{NUMBERS}SELECT count(*) FROM (SELECT group_concat(hex(zeroblob(1000))) OVER (ORDER BY i) FROM n)"
            ),
            &[422],
        ),
        ("a long aggregate", format!("{NUMBERS}SELECT group_concat(hex(randomblob(1000))) FROM n"), &[422]),
        ("a long json aggregate", format!("{NUMBERS}SELECT json_group_array(hex(randomblob(1000))) FROM n"), &[422]),
        (
            "many long aggregates",
            format!("SELECT {} FROM fam___many", many(500, |i| format!("group_concat(v || {i})"), ",")),
            &[422],
        ),
        ("long columns", format!("SELECT {}", many(1000, |_| text("hex(zeroblob(400000))"), ",")), &[416, 422]),
        ("empty bytes", format!("SELECT {}", many(1000, |_| text("zeroblob(1000000)"), ",")), &[416, 422]),
        ("long arguments", format!("SELECT max({})", many(60, |_| text("hex(zeroblob(500000))"), ",")), &[422]),
        (
            "long json",
            format!("SELECT length(json_array({}))", many(60, |_| text("hex(zeroblob(500000))"), ",")),
            &[422],
        ),
        ("a gigabyte at random", text("SELECT randomblob(1000000000)"), &[422]),
        ("a gigabyte of nothing", text("SELECT length(zeroblob(2000000000))"), &[422]),
        (
            "a chain of replacements",
            format!("SELECT {}'aaaaaaaaaa'{}", "replace(".repeat(20), ", 'a', 'aaaaaaaaaa')".repeat(20)),
            &[422],
        ),
        ("a wide format", text("SELECT printf('%1000000000d', 1)"), &[422]),
        ("a wide format by argument", text("SELECT format('%*d', 1000000000, 1)"), &[422]),
        ("many of a character", text("SELECT printf('%.*c', 1000000000, 'x')"), &[422]),
        // One call of a function can't be interrupted, so it must end soon without help.
        ("like", format!("SELECT count(*) FROM fam___many WHERE {long} || k LIKE '{}b'", "%a".repeat(15)), &[422]),
        ("like, too long", format!("SELECT 'a' LIKE '{}'", "%a".repeat(17)), &[400]),
        ("glob", format!("SELECT count(*) FROM fam___many WHERE {long} || k GLOB '{}b'", "*a".repeat(15)), &[422]),
        (
            "many globs a row",
            format!(
                "SELECT max(max({})) FROM fam___many",
                many(30, |i| format!("{long} || k || {i} GLOB '*{}b'", "a".repeat(30)), ",")
            ),
            &[422],
        ),
        (
            "glob with classes",
            format!("SELECT count(*) FROM fam___many WHERE {long} || k GLOB '{}b'", "*[a-z]".repeat(5)),
            &[422],
        ),
        ("instr", format!("SELECT count(*) FROM fam___many WHERE instr({long} || k, {long} || 'b')"), &[422]),
        (
            "replace",
            format!("SELECT sum(length(replace({long} || k, substr({long}, 1, 400000) || 'b', ''))) FROM fam___many"),
            &[422],
        ),
        ("trim", format!("SELECT sum(length(trim({long} || k, '{}a'))) FROM fam___many", "b".repeat(63)), &[422]),
        (
            "unhex",
            format!(
                "SELECT count(unhex(replace({long}, 'a', 'z') || k, replace(hex(zeroblob(200000)), '0', 'y') || 'z')) FROM fam___many"
            ),
            &[422],
        ),
        (
            "json_each twice",
            format!("SELECT count(*) FROM json_each('[{0}1]') a, json_each('[{0}1]') b", "1,".repeat(10_000)),
            &[422],
        ),
        ("deep json", format!("SELECT json('{}{}')", "[".repeat(3000), "]".repeat(3000)), &[400]),
        (
            "long json for each row",
            text(
                "SELECT sum(json_extract(j, '$[74999]')) FROM (SELECT '[' || replace(hex(zeroblob(75000)), '0', '1,') || '1]' j), fam___many",
            ),
            &[422],
        ),
        ("doubled joins", doubling("(x)", |i| format!("SELECT a.x FROM a{i} a, a{i} b")), &[400, 422]),
        (
            "doubled unions",
            doubling("(x)", |i| format!("SELECT x FROM a{i} UNION ALL SELECT x FROM a{i}")),
            &[400, 422],
        ),
        (
            "doubled subqueries",
            doubling("(x)", |i| format!("SELECT (SELECT max(x) FROM a{i}) + (SELECT min(x) FROM a{i})")),
            &[400, 422],
        ),
        ("doubled stars", doubling("", |i| format!("SELECT * FROM a{i} a, a{i} b")), &[400, 422]),
        ("deep parentheses", format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)), &[400]),
        ("deep negation", format!("SELECT {}1", "NOT ".repeat(10_000)), &[400]),
        (
            "deep subqueries",
            format!("SELECT * FROM {}fam___many{}", "(SELECT * FROM ".repeat(1000), ")".repeat(1000)),
            &[400],
        ),
        ("a long compound", many(400, |_| text("SELECT 1"), " UNION "), &[400]),
        ("a long list", format!("SELECT 1 IN ({})", many(20_000, |_| text("1"), ",")), &[200]),
        (
            "many alternatives",
            format!("SELECT count(*) FROM fam___many WHERE {}", many(4000, |i| format!("k={i}"), " OR ")),
            &[400],
        ),
        ("many columns", format!("SELECT {}", many(2001, |i| i.to_string(), ",")), &[400]),
    ]
}

/// The process's RssAnon, in bytes.
fn anonymous_memory(reader: &Reader) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", reader.node.pid())).expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.split_whitespace().next().expect("a number").parse::<u64>().expect("a number") * 1024
}

/// Tells the other threads that the work is over, also after a panic. Otherwise they would go on.
pub struct Over<'f>(pub &'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a row by its key again and again while `work` runs. Returns the number of answered reads and the
/// most memory of the process.
fn beside<T>(reader: &Reader, work: impl FnOnce() -> T) -> (T, u64, u64) {
    let is_over = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let most = AtomicU64::new(0);
    let url = format!("{}/get-row-by-key/fam/many", reader.node.reader_url());
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                post(&url, r#"{"Key":[{"Value":7}]}"#).expect(200);
                reads.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(anonymous_memory(reader), Ordering::Relaxed);
            }
        });
        let _over = Over(&is_over);
        work()
    });
    (done, reads.into_inner(), most.into_inner())
}

#[test]
fn hostile_sql_is_ended_while_others_are_served_and_memory_stays_bounded() {
    // The cases that another limit must end get enough time, also on a busy machine.
    for (max_time, may_run_out) in [("300ms", true), ("1m", false)] {
        let reader = Reader::start(&[("reader.query.max_time", json!(max_time))], &[MANY_TABLE, MANY]);
        let some: Vec<_> = hostile().into_iter().filter(|row| row.2.contains(&422) == may_run_out).collect();
        each_ends_as_it_may(&reader, &some);
    }
}

fn each_ends_as_it_may(reader: &Reader, all: &[(&str, String, &[u16])]) {
    assert_eq!(reader.rows("SELECT count(*) FROM fam___many"), json!([[100_000]]));
    let before = anonymous_memory(reader);
    let (_, reads, most) = beside(reader, || {
        for (what, sql, statuses) in all {
            let answer = reader.sql(sql);
            assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        }
    });
    assert!(reads > 0);
    assert!(most < before + MAX_GROWTH, "{} MiB grew to {} MiB", before / MIB, most / MIB);
    // The server still answers.
    assert_eq!(reader.rows("SELECT count(*) FROM fam___many"), json!([[100_000]]));
}

#[test]
fn of_many_hostile_queries_at_once_some_run_and_the_others_are_told_to_come_back() {
    let settings = [("reader.query.max_time", json!("300ms")), ("reader.query.max_waiting", json!(4))];
    let reader = Reader::start(&settings, &[MANY_TABLE, MANY]);
    let before = anonymous_memory(&reader);
    let all = hostile();
    let (answers, reads, most) = beside(&reader, || {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..24)
                .map(|client| {
                    let some = all.iter().skip(client).step_by(24);
                    scope.spawn(|| some.map(|(_, sql, _)| reader.sql(sql)).collect::<Vec<_>>())
                })
                .collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
        })
    });
    for answer in &answers {
        assert!([200, 400, 416, 422, 503].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.status == 503, answer.header("retry-after").is_some(), "{answer:?}");
    }
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert!(count(422) > 0 && count(503) > 0, "{} ended, {} sent back", count(422), count(503));
    assert!(reads > 0);
    assert!(most < before + MAX_GROWTH, "{} MiB grew to {} MiB", before / MIB, most / MIB);
    wait_until("queries are answered again", Duration::from_secs(20), || reader.sql("SELECT 1").status == 200);
}
