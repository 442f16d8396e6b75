//! The mistakes of a new user: one clear line, and the exit code of the table in `--help`.

use crate::fixture::{Cli, Stage, alone, binary};
use support::scratch_dir;

#[test]
fn a_server_that_is_not_there_or_is_another_one_is_told() {
    let away = alone(&["create-family", "shop", "-e", "127.0.0.1:1"]).fails(5);
    let start = "the executive at http://127.0.0.1:1 can't be reached: Connection refused";
    assert!(away.starts_with(start) && away.ends_with("name another by --executive or CTLSTORE_EXECUTIVE"), "{away}");
    let unknown = alone(&["create-family", "shop", "-e", "http://no-such-host.invalid:3000"]).fails(5);
    assert!(unknown.starts_with("the executive at http://no-such-host.invalid:3000 can't be reached: "), "{unknown}");
    for bad in ["http://", "ftp://host/", ":", "mailto:x"] {
        let said = alone(&["create-family", "shop", "-e", bad]).fails(2);
        assert!(said.contains("is no URL of an executive"), "{said}");
    }
    let stage = Stage::new();
    let ops = stage.process.ops_url();
    let other = stage.run(&["create-family", "shop", "-e", &ops]).fails(1);
    assert!(
        other.starts_with("what answers there is no executive (404 Not Found from POST http://127.0.0.1:"),
        "{other}"
    );
    let reader = stage.process.reader_url();
    stage.run(&["status", "--ops", &reader]).fails(1);
}

#[test]
fn a_path_in_front_of_the_executive_is_kept() {
    let stage = Stage::new();
    let under = format!("{}/behind/a/proxy/", stage.process.executive_url());
    let said = stage.run(&["create-family", "shop", "-e", &under]).fails(1);
    assert!(said.contains("/behind/a/proxy/families/shop)"), "{said}");
}

#[test]
fn bad_names_types_and_keys_are_told_before_anything_is_asked() {
    let table = |arguments: &[&str]| {
        let ran = alone(&[&["create-table", "-f", "shop"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        ran.err.lines().next().unwrap().to_owned()
    };
    let said = table(&["--field", "a:strin", "--key-field", "a", "flags"]);
    assert!(said.contains("no type \"strin\", there are string, integer, decimal"), "{said}");
    assert!(table(&["--field", "a", "--key-field", "a", "flags"]).contains("it is name:type"));
    assert!(table(&["--field", "1:text", "--key-field", "a", "flags"]).contains("must start with a letter"));
    assert!(table(&["--field", "a:text", "--key-field", "a", "flags"]).contains("field a of type text can't be a key"));
    assert!(table(&["--field", "a:string", "--key-field", "b", "flags"]).contains("key field b is not one of"));
    assert!(table(&["--field", "a:string", "--key-field", "a", "f"]).contains("3 to 50 characters"));
    assert!(table(&["--field", "a:string", "flags"]).contains("required arguments were not provided"));
    let odd = alone(&["read-keys", "-f", "shop", "-t", "flags", "0xabc"]);
    assert_eq!(odd.code, Some(2));
    assert!(odd.err.contains("has an odd number of hex digits"), "{odd:?}");
}

#[test]
fn a_missing_secret_is_told_and_a_wrong_one_refused() {
    let stage = Stage::furnished();
    let one = ["mutate", "-f", "shop", "-t", "flags", "--set", "name=a", "--set", "on=1", "--null", "raw"];
    let without = stage.cli().unset("CTLSTORE_SECRET").args(&one).run().fails(2);
    assert_eq!(without, "no secret: set CTLSTORE_SECRET or give --secret-file");
    let wrong = stage.cli().env("CTLSTORE_SECRET", "wrong").args(&one).run().fails(4);
    assert!(wrong.starts_with("unknown writer or wrong secret"), "{wrong}");
    let nobody = stage.cli().env("CTLSTORE_WRITER", "nobody").args(&one).run().fails(4);
    assert!(nobody.starts_with("unknown writer or wrong secret"), "{nobody}");
    let file =
        stage.cli().unset("CTLSTORE_SECRET").args(&[&one[..], &["--secret-file", "none"]].concat()).run().fails(1);
    assert_eq!(file, "secret file none: No such file or directory (os error 2)");
    // A file counts before the variable, but two flags contradict each other.
    stage.write("secret", "a-secret\n");
    stage.run(&[&one[..], &["--secret-file", "secret"]].concat()).ok();
    let two = stage.run(&[&one[..], &["--secret-file", "secret", "--secret", "other"]].concat()).fails(2);
    assert_eq!(two, "--secret and --secret-file both give the secret: give one of them");
    // Help shows neither the variable's value nor a default made of it.
    let help = stage.cli().env("CTLSTORE_SECRET", "hunter2").args(&["mutate", "--help"]).run().ok();
    assert!(!help.contains("hunter2"), "{help}");
}

#[test]
fn what_is_not_there_is_3_and_what_is_not_allowed_4() {
    let stage = Stage::furnished();
    let family = stage.run(&["create-table", "-f", "none", "--field", "a:string", "--key-field", "a", "tab"]).fails(3);
    assert!(family.starts_with("no family none (404 Not Found from POST "), "{family}");
    let field = stage.run(&["add-fields", "-f", "shop", "-t", "flags", "--field", "on:integer"]).fails(4);
    assert!(field.starts_with("table shop___flags has a field on already (409 Conflict from PUT "), "{field}");
    stage.run(&["add-fields", "-f", "shop", "-t", "none", "--field", "on:integer"]).fails(3);
}

#[test]
fn every_bad_snapshot_url_is_named() {
    let directory = scratch_dir();
    let prune = ["ledger", "prune", "--keep", "1d", "--snapshot", "ftp://a/x", "--snapshot", "file:s.db"];
    let ran = Cli::new(binary(), directory.path()).args(&[&prune[..], &["--snapshot", "s3://"]].concat()).run();
    let said = ran.fails(2);
    assert!(said.contains("--snapshot \"ftp://a/x\": ") && said.contains("; --snapshot \"s3://\": "), "{said}");
}

#[test]
fn settings_that_are_wrong_stop_what_reads_them_with_2() {
    let directory = scratch_dir();
    for command in [&["tail-ledger"][..], &["doctor"], &["ctldb", "backup", "b.db"], &["ctldb", "restore", "b.db"]] {
        let ran = Cli::new(binary(), directory.path()).env("CTLSTORE__OPS__BIND", "here").args(command).run();
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.starts_with("ctlstore: the settings are wrong\nops.bind = \"here\" "), "{ran:?}");
    }
}
