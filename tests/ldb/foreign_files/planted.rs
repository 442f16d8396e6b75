//! Links under names that a node uses, made by another user who may write in its data directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{DEADLINE, all_of, their_directory};
use support::client::{role_status, wait_for_value};
use support::{Client, Node, wait_until};

/// Files and directories of another user, with the name of a link to each.
struct Victims {
    theirs: PathBuf,
}

impl Victims {
    fn beside(node: &Node) -> Self {
        let theirs = their_directory(node);
        fs::create_dir_all(node.data_dir()).expect("make the data directory");
        fs::create_dir(theirs.join("directory")).expect("make a directory");
        fs::write(theirs.join("file"), "somebody else's\n").expect("write");
        Self { theirs }
    }

    /// Plants a link in the data directory, to one of them or to nothing yet.
    fn plant(&self, node: &Node, name: &str, target: &str) {
        let link = node.data_dir().join(name);
        let _ = fs::remove_file(&link);
        symlink(self.theirs.join(target), link).expect("plant a link");
    }
}

fn work(node: &Node, value: &str) -> support::NodeProcess {
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, value)]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, value);
    process
}

#[test]
fn what_a_node_makes_for_a_moment_goes_in_the_place_of_a_planted_link() {
    for target in ["file", "nothing yet"] {
        let node = Node::new().set("snapshotter.interval", "100ms").set("changelog.max_bytes", 200);
        let victims = Victims::beside(&node);
        fs::create_dir_all(node.data_dir().join("snapshots")).expect("make a directory");
        for name in [
            "heartbeat.secret.new",
            "change.log.new",
            "ldb.db.link",
            "ldb.db.incoming",
            "snapshots/snapshot.db.tmp",
            "snapshots/snapshot.db.json.tmp",
            "snapshots/snapshot.db.link.tmp",
        ] {
            victims.plant(&node, name, target);
        }
        let before = all_of(&victims.theirs);
        let process = work(&node, "one");
        let snapshot = node.data_dir().join("snapshots/snapshot.db.json");
        wait_until("a snapshot is published", DEADLINE, || snapshot.exists());
        wait_until("the heartbeat beats", DEADLINE, || {
            role_status(&process.ops_url(), "heartbeat")["state"] == "running"
        });
        drop(process);
        assert!(all_of(&victims.theirs) == before, "{target}");
        assert!(!fs::symlink_metadata(node.data_dir().join("heartbeat.secret")).expect("a secret").is_symlink());
    }
}

#[test]
fn a_planted_link_for_a_lock_or_the_secret_ends_the_start_and_is_named() {
    for name in ["ldb.db.lock", "ctldb.db.lock", "heartbeat.secret"] {
        for target in ["file", "nothing yet"] {
            let node = Node::new();
            let victims = Victims::beside(&node);
            victims.plant(&node, name, target);
            let reason = format!("{name} is a symbolic link, which is not followed here; remove it");
            super::assert_refused(&node, &victims.theirs, &reason);
            // The advice in the error works.
            fs::remove_file(node.data_dir().join(name)).expect("remove it");
            work(&node, "one");
        }
    }
}

#[test]
fn a_planted_link_for_the_seq_the_changelog_or_the_history_gets_nothing_and_is_told() {
    for (name, targets) in [
        ("ldb.db.seq", ["file", "nothing yet"]),
        ("ldb.db.caughtup", ["file", "nothing yet"]),
        ("change.log", ["file", "nothing yet"]),
        ("ldb.db.changes", ["directory", "nothing yet"]),
    ] {
        for target in targets {
            let node = Node::new();
            let victims = Victims::beside(&node);
            victims.plant(&node, name, target);
            let before = all_of(&victims.theirs);
            let process = work(&node, "one");
            wait_until("it is told", DEADLINE, || {
                let status = role_status(&process.ops_url(), "applier").to_string();
                status.contains(name) && status.contains("is a symbolic link, which is not followed here")
            });
            drop(process);
            assert!(all_of(&victims.theirs) == before, "{name} to {target}");
        }
    }
}

#[test]
fn a_link_at_the_ldb_s_path_that_leads_to_nothing_is_replaced_and_makes_nothing_there() {
    let node = Node::new();
    let victims = Victims::beside(&node);
    victims.plant(&node, "ldb.db", "nothing yet");
    victims.plant(&node, "ctldb.db", "nothing yet either");
    let before = all_of(&victims.theirs);
    let mut process = node.spawn();
    // A ctldb is the system of record, so a link to nothing must not start a new one.
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    fs::remove_file(node.data_dir().join("ctldb.db")).expect("remove it");
    work(&node, "one");
    assert!(all_of(&victims.theirs) == before);
    let generation = fs::read_link(node.ldb_path()).expect("a link");
    assert!(generation.starts_with(Path::new("ldb.db")) || generation.display().to_string().starts_with("ldb.db.gen-"));
}

/// Another user's rights, as in a directory that a whole team writes.
const NOBODY: u32 = 65534;

#[test]
fn a_link_of_another_user_at_the_ldb_s_or_the_ctldb_s_path_is_not_followed() {
    use std::os::unix::fs::{PermissionsExt, lchown};
    // SAFETY: a plain system call without arguments.
    assert_eq!(unsafe { libc::geteuid() }, 0, "giving a link to another user needs root");
    let other = Node::new();
    // A whole LDB and a whole ctldb, whose locks no process holds.
    drop(work(&other, "theirs"));
    for name in ["ldb.db", "ctldb.db"] {
        let node = Node::new();
        fs::create_dir_all(node.data_dir()).expect("make the data directory");
        fs::set_permissions(node.data_dir(), fs::Permissions::from_mode(0o1777)).expect("open it to all");
        let link = node.data_dir().join(name);
        symlink(other.data_dir().join(name), &link).expect("plant a link");
        lchown(&link, Some(NOBODY), Some(NOBODY)).expect("give it away");
        let reason = format!("{name} is a symbolic link of another user (uid {NOBODY})");
        super::assert_refused(&node, &other.data_dir(), &reason);
        fs::remove_file(&link).expect("remove it");
        work(&node, "ours");
    }
}
