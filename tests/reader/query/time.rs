//! The time of a query. It ends within 1.5 times `max_time`, with any function or operator, on the longest
//! values, and in as many columns as fit into the SQL.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Reader;
use super::endings::{DEADLINE, send, wait_for_running};

const MAX_TIME: Duration = Duration::from_millis(600);
/// Time for the request itself on a busy machine.
const SLACK: Duration = Duration::from_millis(400);
const LONG_TABLE: &str = r#"CREATE TABLE fam___long ("k" INTEGER, "v" TEXT, PRIMARY KEY("k"));"#;
/// Values of a million bytes each: letters, digits, spaces, JSON and bytes.
const LONG: [&str; 5] = [
    "INSERT INTO fam___long VALUES (1, replace(hex(zeroblob(500000)), '0', 'a'))",
    "INSERT INTO fam___long VALUES (2, replace(hex(zeroblob(500000)), '0', '1'))",
    "INSERT INTO fam___long VALUES (3, replace(hex(zeroblob(500000)), '0', ' '))",
    "INSERT INTO fam___long VALUES (4, '[' || replace(hex(zeroblob(249000)), '0', '1,') || '1]')",
    "INSERT INTO fam___long VALUES (5, randomblob(1000000))",
];

fn reader(max_time: &str) -> Reader {
    let mut statements = vec![LONG_TABLE];
    statements.extend(LONG);
    Reader::start(&[("reader.query.max_time", json!(max_time))], &statements)
}

/// Runs each query over one row after another, and returns those that took too long.
fn each_ends_in_time(expressions: impl IntoIterator<Item = String>) {
    let reader = reader("600ms");
    let mut late = Vec::new();
    let mut most = Duration::ZERO;
    for expression in expressions {
        for columns in [80, 1500] {
            let all = vec![expression.as_str(); columns].join(",");
            if all.len() > 60_000 {
                continue;
            }
            let sql = format!("SELECT {all} FROM fam___long");
            let began = Instant::now();
            let answer = reader.sql(&sql);
            let took = began.elapsed();
            most = most.max(took);
            assert!([200, 400, 403, 416, 422].contains(&answer.status), "{expression}: {}", answer.text());
            if took > MAX_TIME * 3 / 2 + SLACK {
                late.push(format!("{columns} of {expression}: {} ms, {}", took.as_millis(), answer.text()));
            }
        }
    }
    assert!(late.is_empty(), "{late:#?}");
    assert!(most > Duration::ZERO);
}

#[test]
fn every_function_on_long_values_in_many_columns_ends_in_time() {
    let sqlite = rusqlite::Connection::open_in_memory().unwrap();
    let mut statement = sqlite.prepare("SELECT DISTINCT name, type, narg FROM pragma_function_list").unwrap();
    let functions: Vec<(String, String, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(functions.len() > 100, "{}", functions.len());
    let calls = functions.into_iter().filter(|(name, ..)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    each_ends_in_time(calls.flat_map(|(name, kind, count)| {
        let counts = if count < 0 { vec![1, 2, 6] } else { vec![count] };
        let over = if kind == "w" { " OVER ()" } else { "" };
        counts.into_iter().map(move |count| {
            let arguments = vec!["v"; usize::try_from(count).unwrap()].join(",");
            format!("{name}({arguments}){over}")
        })
    }));
}

#[test]
fn every_operator_on_long_values_in_many_columns_ends_in_time() {
    let twos = [
        "+",
        "-",
        "*",
        "/",
        "%",
        "&",
        "|",
        "<<",
        ">>",
        "||",
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "IS",
        "IS NOT",
        "AND",
        "OR",
        "->",
        "->>",
        "IS DISTINCT FROM",
        "LIKE",
        "GLOB",
        "NOT LIKE",
    ];
    let mut all: Vec<String> = twos.iter().map(|two| format!("v {two} v")).collect();
    for one in [
        "-v",
        "~v",
        "NOT v",
        "+v",
        "v ISNULL",
        "v IS TRUE",
        "v BETWEEN v AND v",
        "v IN (v, 1, v)",
        "v IN (SELECT v)",
        "CASE v WHEN 1 THEN 2 ELSE v END",
        "CASE WHEN v THEN 1 END",
        "CAST(v AS INTEGER)",
        "CAST(v AS REAL)",
        "CAST(v AS NUMERIC)",
        "CAST(v AS TEXT)",
        "CAST(v AS BLOB)",
        "v = v COLLATE NOCASE",
        "v = v COLLATE RTRIM",
        "v < v COLLATE NOCASE",
        "(v, v) = (v, v)",
        "(v, v, v) < (v, v, v)",
        "EXISTS (SELECT v)",
        "v+v+v+v+v+v+v+v+v+v+v+v",
        "length(v)+length(v)",
        "(SELECT max(v) FROM fam___long)",
        "(SELECT count(*) FROM json_each(v))",
        "v LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a'",
        "v LIKE '%aaaaaaaaaaaaaaaaaaaaaaaaaaaaab'",
        "v LIKE '%_%_%_%_%_%_b'",
        "v LIKE '%\\a%\\a%\\ab' ESCAPE '\\'",
        "v LIKE '%é%é%'",
        "v GLOB '*[a-z]*[a-z]*[a-z]*[^a]b'",
        "v GLOB '*a*a*a*a*b'",
        "v GLOB '*[aaaaaaaaaaaaaaaaaaaaaaaaaaab]'",
        "hex(v)",
        "trim(v, 'bcdefghijklmnopqrstuvwxyza1 ')",
        "instr(v, v || 'b')",
        "replace(v, 'a', 'bb')",
        "unhex(v, ' a')",
        "printf('%s%s', v, v)",
        "printf('%*d', 900000, 1)",
        "format('%Q', v)",
        "strftime(v, 1)",
        "date(v, v)",
        "group_concat(v, v)",
        "json_extract(v, '$[1]', '$[200000]')",
        "zeroblob(1000000)",
        "randomblob(1000000)",
        "json_group_array(v)",
        "string_agg(v, v) OVER (ORDER BY k)",
        "sum(v) OVER (ORDER BY k)",
    ] {
        all.push(one.to_owned());
    }
    each_ends_in_time(all);
}

#[test]
fn a_row_of_many_searches_ends_soon_after_its_client_has_left() {
    // Each of these takes a second or more within one row.
    let reader = reader("1m");
    let all = (0..80).map(|i| format!("(a.v || {i} LIKE '{}b{i}')", "%a".repeat(13))).collect::<Vec<_>>().join("+");
    let joined = (b'a'..=b'h').map(|name| format!("fam___long {}", char::from(name))).collect::<Vec<_>>().join(",");
    let client = send(&reader, &format!("SELECT sum({all}) FROM {joined}"));
    wait_for_running(&reader, 1.0);
    let began = Instant::now();
    drop(client);
    wait_for_running(&reader, 0.0);
    assert!(began.elapsed() < DEADLINE / 4, "it ran on for {:?}", began.elapsed());
}

#[test]
fn the_time_that_a_query_has_is_told_where_its_values_are_too_long_for_it() {
    let reader = reader("600ms");
    let sums = vec!["v + v"; 1000].join(",");
    let text = reader.sql(&format!("SELECT {sums} FROM fam___long")).expect(422).text();
    assert!(text.contains("the most for so many operations on each row"), "{text}");
    // Short values may be used so often, and values that are used seldom may be so long.
    reader.sql(&format!("SELECT {}", vec!["1 + 1"; 1900].join(","))).expect(200);
    for sql in
        ["SELECT length(v), v LIKE '%b%', upper(v) = v, k FROM fam___long", "SELECT v FROM fam___long WHERE k = 1"]
    {
        reader.sql(sql).expect(200);
    }
}
