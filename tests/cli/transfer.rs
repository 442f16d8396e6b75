//! `export` and `import`.

use serde_json::{Value, json};

use crate::fixture::{Stage, flags};

const AWKWARD: &str =
    "{\"table\":\"flags\",\"values\":{\"name\":\"ä \\\"'\\n\",\"on\":-9223372036854775808,\"raw\":\"AP8=\"}}\n";

/// Doubles at the edges of their range.
const NUMBERS: [&str; 6] = ["1e300", "-0.0", "5e-324", "0.1", "1e21", "17"];

fn exported(stage: &Stage) -> String {
    let numbers = ["create-table", "-f", "shop", "--field", "x:decimal", "--field", "id:integer"];
    stage.run(&[&numbers[..], &["--key-field", "id", "numbers"]].concat()).ok();
    let line = |(id, x)| format!("{{\"table\":\"numbers\",\"values\":{{\"id\":{id},\"x\":{x}}}}}\n");
    let numbers: String = NUMBERS.iter().enumerate().map(line).collect();
    stage.cli().input(numbers).args(&["mutate", "-f", "shop"]).run().ok();
    stage.cli().input(AWKWARD.to_owned() + &flags(120)).args(&["mutate", "-f", "shop"]).run().ok();
    stage.caught_up();
    stage.run(&["export", "-f", "shop"]).ok()
}

#[test]
fn an_export_imported_elsewhere_is_the_same_family() {
    let stage = Stage::furnished();
    let export = exported(&stage);
    let lines: Vec<&str> = export.lines().collect();
    let head: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&head["ctlstore_export"], &head["family"], &head["seq"]), (&json!(1), &json!("shop"), &json!(135)));
    assert_eq!((&head["tables"][0]["name"], &head["tables"][1]["name"]), (&json!("flags"), &json!("numbers")));
    assert_eq!((lines.len(), lines[128]), (129, "{\"end\":true,\"rows\":127}"));
    assert_eq!(lines[122], "{\"table\":\"numbers\",\"values\":{\"x\":1e300,\"id\":0}}");

    let other = Stage::new();
    other.run(&["writer", "register", "loader"]).ok();
    other.write("shop.ndjson", &export);
    let written = other.run(&["import", "shop.ndjson", "--json"]).json();
    assert_eq!((&written["rows"], &written["requests"]), (&json!(127), &json!(2)));
    other.caught_up();
    let again = other.run(&["export", "-f", "shop"]).ok();
    let rows = |export: &str| export.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(&again), rows(&export));
    // Written over, nothing is different.
    other.cli().input(export.clone()).args(&["import", "-"]).run().ok();
    other.caught_up();
    assert_eq!(rows(&other.run(&["export", "-f", "shop"]).ok()), rows(&export));

    other.run(&["import", "shop.ndjson", "--family", "shop2"]).ok();
    other.caught_up();
    assert_eq!(rows(&other.run(&["export", "-f", "shop2"]).ok()), rows(&export));
}

#[test]
fn an_import_goes_on_where_it_ended() {
    let stage = Stage::furnished();
    let export = exported(&stage);
    let other = Stage::new();
    other.run(&["writer", "register", "loader"]).ok();
    let import = |text: String| other.cli().input(text).args(&["import", "-", "--resume", "--json"]).run();
    let torn: String = export.lines().take(50).map(|line| format!("{line}\n")).collect();
    let told = import(torn).fails(1);
    let start =
        "the export is not whole: it has 49 rows and no last line that says so; these rows are written up to seq ";
    assert!(told.starts_with(start), "{told}");
    let whole = import(export).json();
    assert_eq!((&whole["rows"], &whole["skipped"]), (&json!(78), &json!(49)));
}

#[test]
fn nothing_is_written_into_tables_that_are_different() {
    let stage = Stage::furnished();
    let export = exported(&stage);
    stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "note:text"]).ok();
    let last = stage.last_seq();
    let refused = stage.cli().input(export.clone()).args(&["import", "-"]).run().fails(4);
    assert_eq!(refused, "table shop___flags is there with other fields; `ctlstore schema diff` tells which");
    assert_eq!(stage.last_seq(), last);
    let import = |text: &str| stage.cli().input(text).args(&["import", "-"]).run();
    assert_eq!(import("").fails(4), "the export is empty");
    assert!(import("{\"table\":\"flags\",\"values\":{}}").fails(4).starts_with("line 1: no export: "));
    let newer = export.replace("\"ctlstore_export\":1", "\"ctlstore_export\":2");
    assert_eq!(import(&newer).fails(4), "line 1: format 2 is newer than this program");
    let absent = stage.run(&["export", "-f", "none"]).fails(3);
    assert_eq!(absent, "no tables of family none in the ldb, which has the families: shop");
}

#[test]
fn an_export_under_writes_belongs_to_one_seq() {
    let stage = Stage::new();
    let client = support::Client::registered(stage.process.executive_url());
    client.create_simple_table("fam", "one");
    client.create_table("fam", "two", &[("id", "integer"), ("value", "text")], 1).expect(200);
    // Each request writes the same value to both tables.
    let write = |value: u64| {
        let one = |table: &str| json!({"table": table, "values": {"id": 1, "value": value.to_string()}});
        client.try_mutate("fam", &json!({"mutations": [one("one"), one("two")]})).expect("an answer").expect(200);
    };
    write(0);
    stage.caught_up();
    let done = std::sync::atomic::AtomicBool::new(false);
    let exports: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| (1..).take_while(|_| !done.load(std::sync::atomic::Ordering::Relaxed)).for_each(write));
        let exports = (0..10).map(|_| stage.run(&["export", "-f", "fam"])).collect::<Vec<_>>();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        exports.into_iter().map(crate::fixture::Ran::ok).collect()
    });
    for export in &exports {
        let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[1]["values"], lines[2]["values"], "{export}");
        // Two tables, and four ledger rows for each request.
        let value: i64 = lines[1]["values"]["value"].as_str().unwrap().parse().unwrap();
        assert_eq!(lines[0]["seq"], json!(2 + 4 * (value + 1)), "{export}");
    }
    assert_ne!(exports.first(), exports.last(), "the writes went on meanwhile");
}
