//! Something that is no regular file, where a file of ours is expected. Opening a named
//! pipe waits for its other end, so a node would start, or go on, never.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::client::{role_status, wait_for_value};
use support::{Client, Node, scratch_dir, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("run mkfifo").success());
}

/// Every role but those that publish and beat, with an empty data directory.
fn node() -> Node {
    let node = Node::new().roles(&["executive", "reflector", "reader"]);
    fs::create_dir_all(node.data_dir()).expect("make the data directory");
    node
}

#[test]
fn a_pipe_in_the_place_of_the_seq_file_the_history_or_the_changelog_is_named_and_rows_go_on() {
    let node = node();
    let data = node.data_dir();
    fs::create_dir(data.join("ldb.db.changes")).expect("make the history's directory");
    let segment = data.join("ldb.db.changes/00000000000000000007.log");
    make_pipe(&segment);
    make_pipe(&data.join("ldb.db.seq"));
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "good")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "good");
    let details = |key: &str| role_status(&process.ops_url(), "applier")["details"][key].to_string();
    for (key, name) in [("seq_file_error", "ldb.db.seq"), ("changelog_error", "00000000000000000007.log")] {
        let expected = format!("{name} is a named pipe, not a regular file; move it away");
        wait_until("the applier names it", DEADLINE, || details(key).contains(&expected));
    }
    // Where it has been moved away, nothing is missing.
    fs::remove_file(segment).expect("remove the pipe");
    fs::remove_file(data.join("ldb.db.seq")).expect("remove the pipe");
    client.upsert("fam", "tab", &[(1, "better")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "better");
    let is_well = |key: &str| details(key) == "null";
    wait_until("both are written", DEADLINE, || is_well("seq_file_error") && is_well("changelog_error"));
}

#[test]
fn pipes_beside_an_ldb_that_is_not_made_yet_do_not_hang_the_start() {
    let node = node();
    for name in ["ldb.db.seq", "ldb.db.caughtup"] {
        make_pipe(&node.data_dir().join(name));
    }
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "good")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "good");
    let expected = "ldb.db.caughtup is a named pipe, not a regular file; move it away";
    wait_until("the applier names it", DEADLINE, || {
        role_status(&process.ops_url(), "applier").to_string().contains(expected)
    });
}

#[test]
fn a_pipe_at_the_changelogs_path_is_named_and_rows_go_on() {
    let node = node();
    make_pipe(&node.data_dir().join("change.log"));
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "good")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "good");
    wait_until("the applier names it", DEADLINE, || {
        let status = role_status(&process.ops_url(), "applier");
        status["details"]["changelog_error"].to_string().contains("change.log is a named pipe")
    });
}

#[test]
fn a_start_fails_by_name_where_another_file_is_no_regular_one() {
    for (name, kind) in [
        ("ldb.db", "a named pipe"),
        ("ldb.db.lock", "a named pipe"),
        ("ldb.db", "a directory"),
        ("ldb.db", "a socket"),
        ("ctldb.db", "a named pipe"),
        ("ctldb.db.lock", "a named pipe"),
    ] {
        let node = node();
        let path = node.data_dir().join(name);
        let _socket = match kind {
            "a named pipe" => {
                make_pipe(&path);
                None
            }
            "a directory" => {
                fs::create_dir(&path).expect("make a directory");
                None
            }
            _ => Some(UnixListener::bind(&path).expect("make a socket")),
        };
        let mut process = node.spawn();
        assert!(!process.wait_exit(DEADLINE).success(), "{name}");
        let expected = format!("{name} is {kind}, not a regular file; move it away");
        assert!(process.log().contains(&expected), "{name}: {}", process.log());
    }
}

#[test]
fn a_secret_or_a_settings_file_may_be_a_pipe_that_somebody_writes() {
    let home = scratch_dir();
    let pipe = home.path().join("pipe");
    make_pipe(&pipe);
    let given = pipe.clone();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.args(["config", "--config"]).arg(&given).output().expect("run ctlstore config")
    };
    let late = run();
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(
        !late.status.success() && said.contains("pipe): cannot be read: a pipe that did not end within 5 s"),
        "{said}"
    );
    let written = std::thread::spawn(run);
    fs::write(pipe, "[ops]\nbind = \"127.0.0.1:4711\"\n").expect("write the settings");
    let output = written.join().expect("the command ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("127.0.0.1:4711"), "{output:?}");
}
