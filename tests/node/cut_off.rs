//! Hosts that are cut off from the ctldb, and hosts whose ctldb was restored from a backup: their
//! readiness, and the age that they report for their data.

mod age;
mod ready;
mod restored;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use support::client::wait_for_value;
use support::http::{self, Answer};
use support::{Client, Node, NodeProcess};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// An executive on an embedded ctldb that can be hidden from its hosts.
pub struct Origin {
    pub node: Node,
    pub process: NodeProcess,
    pub client: Client,
}

impl Origin {
    pub fn new() -> Self {
        let node = Node::new().roles(&["executive"]);
        let process = node.start();
        let client = Client::registered(process.executive_url());
        client.create_simple_table("fam", "tab");
        Self { node, process, client }
    }

    pub fn ctldb(&self) -> PathBuf {
        self.node.data_dir().join("ctldb.db")
    }

    pub fn host(&self) -> Node {
        Node::new()
            .roles(&["reflector", "reader"])
            .ctldb(&format!("sqlite:{}", self.ctldb().display()))
            .set("reflector.poll_interval", "50ms")
    }

    /// The hosts can't reach the ctldb until it is put back.
    pub fn hide(&self) {
        fs::rename(self.ctldb(), self.ctldb().with_extension("hidden")).expect("hide the ctldb");
    }

    pub fn put_back(&self) {
        fs::rename(self.ctldb().with_extension("hidden"), self.ctldb()).expect("put the ctldb back");
    }

    /// A host with one row.
    pub fn following(&self, host: &Node) -> NodeProcess {
        self.client.upsert("fam", "tab", &[(1, "one")]);
        let process = host.start();
        wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
        process
    }
}

pub fn ready(process: &NodeProcess, role: &str) -> Answer {
    http::get(&format!("{}/readyz{role}", process.ops_url()))
}

pub fn read_with(process: &NodeProcess, headers: &[(&str, &str)]) -> Answer {
    let url = format!("{}/get-row-by-key/fam/tab", process.reader_url());
    http::request("POST", &url, headers, r#"{"Key":[{"Value":1}]}"#)
}
