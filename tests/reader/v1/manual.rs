//! The examples of docs/http.md work as written, and give the answers that the page shows.

use std::process::Command;

use super::fixture::stage;

const MANUAL: &str = include_str!("../../../docs/http.md");

/// Commands with their expected output.
fn examples() -> Vec<(&'static str, String)> {
    let mut examples: Vec<(&str, String)> = Vec::new();
    for block in MANUAL.split("```").skip(1).step_by(2) {
        for line in block.trim().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => examples.push((command, String::new())),
                None => {
                    let (_, output) = examples.last_mut().expect("a command comes before its output");
                    output.extend([line, "\n"]);
                }
            }
        }
    }
    examples
}

#[test]
fn the_examples_of_the_manual_answer_as_it_says() {
    let stage = stage([
        r#"CREATE TABLE shop___prices ("country" VARCHAR(191), "item" INTEGER, "cents" INTEGER, PRIMARY KEY("country","item"));"#,
        r#"CREATE TABLE shop___images ("hash" BLOB(255), "alt" TEXT, PRIMARY KEY("hash"));"#,
        r#"REPLACE INTO shop___prices ("country","item","cents") VALUES('de',7,1999)"#,
        r#"REPLACE INTO shop___prices ("country","item","cents") VALUES('de',9,50),('de',12,700)"#,
        r#"REPLACE INTO shop___prices ("country","item","cents") VALUES('fr',7,1899)"#,
        r#"REPLACE INTO shop___images ("hash","alt") VALUES(x'cafe','a cup')"#,
        r#"REPLACE INTO shop___images ("hash","alt") VALUES(x'00','')"#,
    ]);
    let directory = support::scratch_dir();
    let examples = examples();
    assert!(examples.len() >= 10, "{} examples", examples.len());
    for (command, want) in examples {
        let mut shell = Command::new("bash");
        let ran = shell.args(["-c", command]).env("R", &stage.server.url).current_dir(directory.path()).output();
        let ran = ran.expect("bash runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{command}: {said}");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), want, "{command}");
    }
}
