//! Writers, their secrets and their cookies.

use serde_json::json;

use crate::fixture::Stage;

const REFUSED: &str = "unknown writer or wrong secret (401 Unauthorized from ";

#[test]
fn a_writer_is_registered_rotated_and_removed() {
    let stage = Stage::furnished();
    stage.run(&["writer", "register", "loader"]).ok();
    let with = |secret: &str, arguments: &[&str]| stage.cli().env("CTLSTORE_SECRET", secret).args(arguments).run();
    let other = with("other", &["writer", "register", "loader"]).fails(4);
    assert!(other.starts_with("writer \"loader\" exists with another secret (409 Conflict from POST "), "{other}");

    stage.write("new", "new-secret\n");
    stage.run(&["writer", "rotate", "loader", "--new-secret-file", "new"]).ok();
    with("a-secret", &["cookie", "get"]).fails(4);
    with("new-secret", &["cookie", "get"]).ok();
    assert!(with("a-secret", &["writer", "rotate", "loader", "--new-secret", "xyz"]).fails(4).starts_with(REFUSED));

    assert!(with("a-secret", &["writer", "remove", "loader"]).fails(4).starts_with(REFUSED));
    let from_file = stage.cli().unset("CTLSTORE_SECRET").args(&["writer", "remove", "loader", "--secret-file", "new"]);
    from_file.run().ok();
    with("new-secret", &["cookie", "get"]).fails(4);
    with("another", &["writer", "register", "loader"]).ok();
}

#[test]
fn a_cookie_is_printed_as_it_was_set_byte_for_byte() {
    let stage = Stage::furnished();
    stage.run(&["cookie", "set", "position-17"]).ok();
    assert_eq!(stage.run(&["cookie", "get"]).ok(), "position-17");
    stage.cli().input([1, 10, 2]).args(&["cookie", "set"]).run().ok();
    assert_eq!(stage.run(&["cookie", "get"]).ok(), "\u{1}\n\u{2}");
    assert_eq!(stage.run(&["cookie", "get", "--json"]).json(), json!({"cookie": "AQoC", "text": "\u{1}\n\u{2}"}));
    let secret_from_stdin = stage.cli().unset("CTLSTORE_SECRET").input("a-secret\n");
    assert_eq!(secret_from_stdin.args(&["cookie", "get", "--secret-file", "-"]).run().ok(), "\u{1}\n\u{2}");
    let long = stage.run(&["cookie", "set", &"x".repeat(1025)]).fails(4);
    assert!(long.starts_with("the cookie has 1025 bytes, at most 1024 fit (400 Bad Request from "), "{long}");
}
