//! Common HTTP clients with their default settings. A client that is not installed fails its test;
//! tools/install-http-clients installs them.

use std::path::Path;
use std::process::{Command, Output};

use support::{Client, Node, NodeProcess, client::wait_for_value};

fn node() -> NodeProcess {
    let node = Node::new().start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "one");
    node
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// The output of a test program, which has to succeed.
#[track_caller]
fn printed(program: &str, source: &str, url: &str) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/http_clients/programs").join(source);
    let output = run(program, &[source.to_str().expect("utf-8"), url]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn none_of_300_writes_of_javas_default_client_fails() {
    let node = node();
    assert_eq!(printed("java", "Writes.java", &node.executive_url()), "300");
    wait_for_value(&node.reader_url(), "fam", "tab", 299, "java");
}

#[test]
fn python_and_node_js_read_by_one_connection() {
    let node = node();
    assert_eq!(printed("python3", "reads.py", &node.reader_url()), "303");
    assert_eq!(printed("node", "reads.js", &node.reader_url()), "301");
}

#[test]
fn curl_asks_for_every_version_of_http() {
    let node = node();
    let executive = node.executive_url();
    let reader = node.reader_url();
    for version in ["--http1.0", "--http1.1", "--http2"] {
        let path = format!("{reader}/v1/rows/fam/tab/1");
        // Three requests over one connection; curl counts the connections.
        let output = run(
            "curl",
            &[
                "-sS",
                "-w",
                "%{num_connects} %{http_code}\n",
                version,
                "-H",
                "Connection: keep-alive",
                &path,
                &path,
                &path,
            ],
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.matches("200").count() == 3, "{version}: {text} {output:?}");
        let family = format!("{executive}/families/by{}", version.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        let output = run("curl", &["-sS", "-w", "%{http_code}", version, "-X", "POST", "-d", "", &family]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{version}: {output:?}");
    }
    let output = run("curl", &["-sS", "--http1.0", "-N", "-m", "2", &format!("{reader}/changes")]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("retry: 1000\n"), "{output:?}");
}

#[test]
fn wget_finds_every_server_healthy_by_head() {
    let node = node();
    for url in [
        format!("{}/status", node.executive_url()),
        format!("{}/ping", node.reader_url()),
        format!("{}/healthcheck", node.reader_url()),
        format!("{}/healthz", node.ops_url()),
        format!("{}/readyz", node.ops_url()),
        format!("{}/readyz/reader", node.ops_url()),
    ] {
        let output = run("wget", &["--no-proxy", "--tries=1", "--spider", "-q", &url]);
        assert!(output.status.success(), "{url}: {output:?}");
    }
    let output = run("wget", &["--no-proxy", "--tries=1", "--spider", "-q", &format!("{}/readyz/no", node.ops_url())]);
    assert!(!output.status.success());
}
