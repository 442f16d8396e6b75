//! `schema show`, `schema diff`, `schema apply`.

use serde_json::json;

use crate::fixture::Stage;

const ELSEWHERE: &str = r#"[
    {"family":"shop","name":"flags","fields":[["name","string"],["on","integer"],["raw","binary"],["note","text"]],"keyFields":["name"]},
    {"family":"shop","name":"prices","fields":[["id","integer"]],"keyFields":["id"]},
    {"family":"club","name":"members","fields":[["id","integer"]],"keyFields":["id"]}
]"#;

#[test]
fn what_an_executive_lacks_of_a_file_is_shown_and_then_created() {
    let stage = Stage::furnished();
    stage.write("wanted.json", ELSEWHERE);
    let missing = "+ field of shop___flags: note:text\n+ table shop___prices: id:integer; key id\n\
                   + table club___members: id:integer; key id\n";
    assert_eq!(stage.run(&["schema", "diff", "wanted.json"]).ok(), missing);
    let check = stage.run(&["schema", "diff", "wanted.json", "--check"]);
    assert_eq!((check.code, check.out.as_str()), (Some(1), missing));
    let json = stage.run(&["schema", "diff", "wanted.json", "-f", "club", "--json"]).json();
    assert_eq!((&json["change"], &json["table"]["name"]), (&json!("create-table"), &json!("members")));

    // If there is no terminal to ask at, nothing is applied without --yes.
    let asked = stage.run(&["schema", "apply", "wanted.json"]);
    assert_eq!((asked.code, asked.out.as_str()), (Some(2), missing));
    assert_eq!(stage.run(&["schema", "diff", "wanted.json"]).ok(), missing);

    let done = stage.run(&["schema", "apply", "wanted.json", "--yes"]).ok();
    assert_eq!(done, format!("{missing}done: 3\n"));
    assert_eq!(stage.run(&["schema", "diff", "wanted.json", "--check"]).ok(), "");
    assert_eq!(stage.run(&["schema", "apply", "wanted.json"]).ok(), "nothing is missing\n");
}

#[test]
fn a_conflict_is_shown_and_nothing_is_applied() {
    let stage = Stage::furnished();
    let key = ELSEWHERE.replace("\"keyFields\":[\"name\"]", "\"keyFields\":[\"on\"]");
    stage.write("wanted.json", &key.replace("[\"raw\",\"binary\"]", "[\"raw\",\"text\"]"));
    let apply = stage.run(&["schema", "apply", "wanted.json", "--yes"]);
    assert!(apply.out.starts_with("! table shop___flags: the key is name, not on\n"), "{apply:?}");
    assert!(apply.out.contains("! table shop___flags: field raw is binary, not text\n"), "{apply:?}");
    assert_eq!(apply.fails(4), "2 conflicts, nothing was done");
    assert_eq!(stage.last_seq(), 1);
}

#[test]
fn executives_ldbs_exports_and_files_can_be_compared_with_each_other() {
    let stage = Stage::furnished();
    stage.caught_up();
    let executive = stage.process.executive_url();
    let ldb = stage.node.ldb_path();
    let ldb = ldb.to_str().unwrap();
    stage.write("export.ndjson", &stage.run(&["export", "-f", "shop"]).ok());
    stage.write("shown.json", &stage.run(&["schema", "show", ldb]).ok());
    let places = [executive.as_str(), ldb, "export.ndjson", "shown.json"];
    for from in places {
        for to in places {
            let diff = stage.run(&["schema", "diff", from, to, "-f", "shop", "--check"]);
            assert_eq!(diff.ok(), "", "{from} and {to}");
        }
    }
    let other = Stage::new();
    let lacks = other.run(&["schema", "diff", ldb, &other.process.executive_url(), "--check"]);
    assert_eq!((lacks.code, lacks.out.lines().count()), (Some(1), 1));
    other.run(&["schema", "apply", ldb, &other.process.executive_url(), "-y"]).ok();
    other.run(&["schema", "diff", &executive, &other.process.executive_url(), "-f", "shop", "--check"]).ok();
    let unsaid = stage.run(&["schema", "show", &executive]).fails(2);
    assert_eq!(unsaid, "an executive must be told which families: give --family");
    stage.run(&["schema", "apply", "shown.json", "export.ndjson"]).fails(2);
    let both = stage.run(&["schema", "diff", "shown.json", ldb, "--executive", "127.0.0.1:1"]).fails(2);
    assert_eq!(both, "TO and --executive both say where the tables should be: give one of them");
    stage.run(&["schema", "show", "nowhere"]).fails(3);
    // Only an export's first line counts, however long it is.
    let long = format!("{}{}", stage.run(&["export", "-f", "shop"]).ok(), "{\"é\":\"é\"}\n".repeat(2_000_000));
    stage.write("long.ndjson", &long);
    assert_eq!(stage.run(&["schema", "show", "long.ndjson"]).json()[0]["name"], "flags");
    stage.write("bad.json", "{\"tables\":");
    let bad = stage.run(&["schema", "show", "bad.json"]).fails(2);
    assert_eq!(bad, "bad.json is no schema file: it ends too early at line 1 column 10");
}
