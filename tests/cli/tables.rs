//! The commands that the original has too, with its flags, under both names of the program.

use serde_json::json;

use crate::fixture::{Stage, binary};

#[test]
fn a_family_and_a_table_are_created_once_and_again_without_harm() {
    let stage = Stage::new();
    assert_eq!(stage.run(&["create-family", "shop"]).ok(), "");
    assert_eq!(stage.run(&["create-family", "shop"]).ok(), "family shop exists already\n");
    let create = |fields: &[&str], key: &str| {
        let fields = fields.iter().flat_map(|field| ["--field", field]);
        let arguments: Vec<&str> = ["create-table", "--family", "shop"]
            .into_iter()
            .chain(fields)
            .chain(["--key-field", key, "flags"])
            .collect();
        stage.run(&arguments)
    };
    assert_eq!(create(&["name:string", "on:integer"], "name").ok(), "");
    assert_eq!(create(&["name:string", "on:integer"], "name").ok(), "table shop___flags exists already\n");
    stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "note:text", "--field", "x:decimal"]).ok();
    assert_eq!(create(&["name:string", "on:integer"], "name").ok(), "table shop___flags exists already\n");
    let other = "table shop___flags exists with other fields or another key";
    assert_eq!(create(&["name:string", "on:text"], "name").fails(4), other);
    assert_eq!(create(&["name:string", "on:integer"], "on").fails(4), other);
    let shown = stage.run(&["schema", "show", &stage.process.executive_url(), "-f", "shop"]).json();
    let fields = json!([["name", "string"], ["on", "integer"], ["note", "text"], ["x", "decimal"]]);
    assert_eq!(shown, json!([{"family": "shop", "name": "flags", "fields": fields, "keyFields": ["name"]}]));
}

#[test]
fn rows_are_read_by_key_with_bytes_in_hex() {
    let stage = Stage::furnished();
    let fields = ["--field", "id:bytestring", "--field", "n:integer", "--field", "v:text"];
    let arguments = ["create-table", "-f", "shop"].into_iter().chain(fields);
    let arguments: Vec<&str> = arguments.chain(["--key-field", "n", "--key-field", "id", "blobs"]).collect();
    stage.run(&arguments).ok();
    stage.run(&["mutate", "-f", "shop", "-t", "blobs", "--set", "id=0x00ff", "--set", "n=-7", "--set", "v=a\nb"]).ok();
    stage.run(&["mutate", "-f", "shop", "-t", "flags", "--set", "name=dark", "--set", "on=1", "--null", "raw"]).ok();
    stage.caught_up();

    let read = |arguments: &[&str]| stage.run(&[&["read-keys", "-f", "shop", "-t", "blobs"], arguments].concat());
    let shown = read(&["-7", "0x00FF"]).ok();
    assert_eq!(shown, "COLUMN  VALUE\n------  -----\nid      0x00ff\nn       -7\nv       a\\nb\n");
    assert_eq!(read(&["--quiet", "-7", "0x00FF"]).ok(), "id  0x00ff\nn   -7\nv   a\\nb\n");
    assert_eq!(read(&["-q", "--json", "-7", "0x00ff"]).json(), json!({"id": "AP8=", "n": -7, "v": "a\nb"}));
    let flag = stage.run(&["read-keys", "-f", "shop", "-t", "flags", "-q", "dark"]).ok();
    assert_eq!(flag, "name  dark\non    1\nraw   NULL\n");

    assert_eq!(read(&["1", "0x00"]).fails(3), "no such row in table shop___blobs");
    assert_eq!(read(&["1"]).fails(2), "the key of table shop___blobs is (n, id), not 1 value");
    let unknown = stage.run(&["read-keys", "-f", "shop", "-t", "nope", "1"]).fails(3);
    assert_eq!(unknown, "no table shop___nope in the ldb, which has blobs, flags of family shop");
    let unknown = stage.run(&["read-keys", "-f", "none", "-t", "nope", "1"]).fails(3);
    assert_eq!(unknown, "no table none___nope in the ldb, which has the families shop");
}

#[test]
fn the_seq_is_read_from_the_ldb() {
    let stage = Stage::furnished();
    stage.caught_up();
    let ldb = stage.node.ldb_path();
    let seq = stage.cli().unset("CTLSTORE_LDB").args(&["read-seq", "--ldb", ldb.to_str().unwrap()]).run().ok();
    assert_eq!(seq, "1\n");
    assert_eq!(stage.run(&["read-seq", "--json"]).json(), json!({"seq": 1}));
    let nowhere = stage.run(&["read-seq", "-l", "nowhere.db"]).fails(3);
    assert!(nowhere.starts_with("no ldb at nowhere.db; "), "{nowhere}");
    stage.write("other.db", "not a database at all, but long enough to be looked at as one");
    let other = stage.run(&["read-seq", "-l", "other.db"]).fails(1);
    assert_eq!(other, "ldb other.db can't be read: file is not a database");
    // As the original's programs look for it.
    let home = ldb.parent().unwrap().to_str().unwrap();
    let seq = stage.cli().unset("CTLSTORE_LDB").env("CTLSTORE_PATH", home).args(&["read-seq"]).run().ok();
    assert_eq!(seq, "1\n");
}

#[test]
fn rows_are_listed_by_a_leading_part_of_their_key_from_file_and_reader() {
    let stage = Stage::new().furnish();
    let table = ["--field", "zone:string", "--field", "id:integer", "--field", "price:decimal"];
    let table: Vec<&str> = ["create-table", "-f", "shop"]
        .into_iter()
        .chain(table)
        .chain(["--key-field", "zone", "--key-field", "id", "prices"])
        .collect();
    stage.run(&table).ok();
    let line = |zone: &str, id: i64, price: &str| {
        format!("{{\"values\":{{\"zone\":\"{zone}\",\"id\":{id},\"price\":{price}}}}}\n")
    };
    let lines = line("eu", 2, "1.5") + &line("eu", 1, "10") + &line("us", 9_007_199_254_740_993, "null");
    stage.cli().input(lines).args(&["mutate", "-f", "shop", "-t", "prices"]).run().ok();
    stage.caught_up();

    let rows = |arguments: &[&str]| stage.run(&[&["rows", "-f", "shop", "-t", "prices"], arguments].concat());
    assert_eq!(rows(&[]).ok(), "eu\t1\t10\neu\t2\t1.5\nus\t9007199254740993\tNULL\n");
    assert_eq!(rows(&["eu"]).ok(), "eu\t1\t10\neu\t2\t1.5\n");
    assert_eq!(rows(&["--limit", "1"]).ok(), "eu\t1\t10\n");
    let json = "{\"zone\":\"eu\",\"id\":1,\"price\":10}\n{\"zone\":\"eu\",\"id\":2,\"price\":1.5}\n";
    assert_eq!(rows(&["--json", "eu"]).ok(), json);
    assert_eq!(rows(&["none"]).ok(), "");
    let reader = stage.process.reader_url();
    assert_eq!(rows(&["--reader", &reader, "eu"]).ok(), json);
    assert_eq!(rows(&["--reader", &reader, "us", "9007199254740993"]).ok().lines().count(), 1);
    // A variable does not go over what a flag or another variable of the file's says, a flag does.
    let both = |arguments: &[&str]| {
        let arguments = [&["rows", "-f", "shop", "-t", "prices"], arguments].concat();
        stage.cli().env("CTLSTORE_READER", "127.0.0.1:1").args(&arguments).run()
    };
    assert_eq!(both(&["eu"]).ok(), rows(&["eu"]).ok());
    assert_eq!(both(&["--reader", &reader, "eu"]).ok(), json);
    // Two flags contradict each other; `-l` is not the limit.
    for arguments in [&["-r", &reader, "-l", "5"][..], &["--reader", &reader, "--ldb", "other.db"]] {
        let refused = rows(arguments).fails(2);
        let wanted = "--reader and --ldb (-l) both say where to read: give one of them; --limit bounds the rows";
        assert_eq!(refused, wanted);
    }
    assert_eq!(rows(&["--reader", &reader, "--limit", "1"]).ok(), "{\"zone\":\"eu\",\"id\":1,\"price\":10}\n");

    assert_eq!(rows(&["eu", "1", "2"]).fails(2), "the key of table shop___prices is (zone, id), not 3 values");
    let unknown = stage.run(&["rows", "-f", "shop", "-t", "nope", "--reader", &reader]).fails(3);
    assert!(unknown.starts_with("no table shop___nope (404 Not Found from POST http://127.0.0.1:"), "{unknown}");
}

#[test]
fn limits_of_tables_are_read_updated_and_deleted() {
    let stage = Stage::furnished();
    assert_eq!(stage.run(&["table-limits", "read"]).ok(), "warn: 52428800 bytes\nmax : 104857600 bytes\n");
    let of = ["--family", "shop", "--table", "flags"];
    let update = |sizes: &[&str]| stage.run(&[&["table-limits", "update"], &of[..], sizes].concat());
    update(&["--max-size", "1000000", "--warn-size", "500000"]).ok();
    let shown = stage.run(&["table-limits", "read"]).ok();
    let table = "\nFAMILY  TABLE  WARN    MAX\n------  -----  ----    ---\nshop    flags  500000  1000000\n";
    assert!(shown.ends_with(table), "{shown}");
    let shown = stage.run(&["table-limits", "read", "--json"]).json();
    assert_eq!(
        shown["tables"],
        json!([{"family": "shop", "table": "flags", "max-size": 1000000, "warn-size": 500000}])
    );
    update(&[]).ok();
    let shown = stage.run(&["table-limits", "read", "--json"]).json();
    assert_eq!(shown["tables"][0]["max-size"], 104_857_600, "the original's default");
    assert_eq!(update(&["--max-size", "10"]).fails(2), "--warn-size is above --max-size");
    stage.run(&[&["table-limits", "delete"], &of[..]].concat()).ok();
    let gone = stage.run(&[&["table-limits", "delete"], &of[..]].concat()).fails(3);
    assert!(gone.starts_with("no limit for table shop___flags "), "{gone}");
}

#[test]
fn limits_of_writers_are_read_updated_and_deleted() {
    let stage = Stage::furnished();
    assert_eq!(stage.run(&["writer-limits", "read"]).ok(), "default: 1000 rows per 1m\n");
    stage.run(&["writer-limits", "update", "--writer", "loader", "--rows-per-minute", "5"]).ok();
    let shown = stage.run(&["writer-limits", "read"]).ok();
    let table = "\nWRITER  LIMIT\n------  -----\nloader  5 rows per 1m\n";
    assert!(shown.ends_with(table), "{shown}");
    let shown = stage.run(&["writer-limits", "read", "--json"]).json();
    let rate = json!({"amount": 5, "period": 60_000_000_000_u64});
    assert_eq!(shown["writers"], json!([{"writer": "loader", "rate-limit": rate}]));
    stage.run(&["writer-limits", "delete", "--writer", "loader"]).ok();
    stage.run(&["writer-limits", "delete", "--writer", "loader"]).fails(3);
    stage.run(&["writer-limits", "update", "--writer", "nobody", "--rows-per-minute", "5"]).fails(3);
}

#[test]
fn under_the_name_of_the_original_s_second_program_scripts_keep_working() {
    let stage = Stage::new();
    let link = stage.path("ctlstore-cli");
    std::os::unix::fs::symlink(binary(), &link).expect("link the binary");
    let executive = stage.process.executive_url();
    // The original takes host and port without a scheme.
    let host = executive.strip_prefix("http://").unwrap();
    let ldb = stage.node.ldb_path();
    let run = |arguments: &[&str]| {
        stage.cli_of(&link).unset("CTLSTORE_EXECUTIVE").unset("CTLSTORE_LDB").args(arguments).run()
    };
    run(&["create-family", "--executive", host, "shop"]).ok();
    let table = ["--family", "shop", "--field", "name:string", "--field", "n:integer", "--key-field", "name", "flags"];
    run(&[&["create-table", "-e", host], &table[..]].concat()).ok();
    run(&["add-fields", "--executive", host, "--family", "shop", "--table", "flags", "--field", "v:text"]).ok();
    run(&["table-limits", "read", "--executive", host]).ok();
    run(&["writer-limits", "read", "--executive", host]).ok();
    stage.caught_up();
    assert_eq!(run(&["read-seq", "--ldb", ldb.to_str().unwrap()]).ok(), "2\n");
    let absent = ["read-keys", "-l", ldb.to_str().unwrap(), "-f", "shop", "-t", "flags", "none"];
    assert_eq!(run(&absent).fails(3), "no such row in table shop___flags");
    assert!(run(&["--help"]).ok().contains("Usage: ctlstore-cli <COMMAND>"));
}
