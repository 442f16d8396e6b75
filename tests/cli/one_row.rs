//! `mutate` with one row from flags.

use serde_json::json;

use crate::fixture::Stage;

#[test]
fn values_are_read_by_their_field_s_type_and_a_row_is_deleted_by_its_key() {
    let stage = Stage::furnished();
    stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "x:decimal", "--field", "s:text"]).ok();
    stage.run(&["cookie", "set", "mine"]).ok();
    let mutate = |arguments: &[&str]| stage.run(&[&["mutate", "-f", "shop", "-t", "flags"], arguments].concat());
    let row = ["--set", "name=007", "--set", "on=true", "--set", "raw=0x00ff", "--set", "x=1e3", "--set", "s=a=b"];
    assert_eq!(mutate(&row).ok(), "wrote 1 row in 1 request, up to seq 4\n");
    stage.caught_up();
    let read = || stage.run(&["read-keys", "-f", "shop", "-t", "flags", "007", "--json"]);
    assert_eq!(read().json(), json!({"name": "007", "on": 1, "raw": "AP8=", "x": 1000, "s": "a=b"}));
    assert_eq!(stage.run(&["cookie", "get"]).ok(), "mine", "the cookie is the writer's own");

    let written = mutate(&["--delete", "--set", "name=007", "--json"]).json();
    assert_eq!(written, json!({"rows": 1, "requests": 1, "skipped": 0, "seq": 5}));
    stage.caught_up();
    read().fails(3);
}

#[test]
fn what_can_t_be_a_row_is_refused_with_the_field_s_name() {
    let stage = Stage::furnished();
    let mutate = |arguments: &[&str]| stage.run(&[&["mutate", "-f", "shop"], arguments].concat());
    let unknown = mutate(&["-t", "flags", "--set", "nam=x"]).fails(4);
    assert_eq!(unknown, "table shop___flags has no field nam, it has name, on, raw");
    let number = mutate(&["-t", "flags", "--set", "name=x", "--set", "on=1.5"]).fails(2);
    assert_eq!(number, "field on: \"1.5\" is not a whole number of 64 bits");
    let missing = mutate(&["-t", "flags", "--set", "name=x"]).fails(4);
    let start = "rows 1 to 1: table shop___flags: field on is missing (400 Bad Request from POST ";
    assert!(missing.starts_with(start) && missing.ends_with("; nothing is written"), "{missing}");
    let table = mutate(&["-t", "nope", "--set", "name=x"]).fails(3);
    assert!(table.starts_with("no table shop___nope (404 Not Found from "), "{table}");
    assert_eq!(mutate(&["--set", "name=x"]).fails(2), "--set goes with --table");
    assert_eq!(stage.last_seq(), 1);
}
