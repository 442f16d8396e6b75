//! The command line of the real binary: what it explains, what it exits with.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

fn ctlstore(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = support::scratch_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command.current_dir(dir.path()).env_clear().envs(variables.iter().copied()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that gives its one client this answer and tells what it was asked.
fn answering(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = client.read(&mut request).unwrap();
        client.write_all(answer.as_bytes()).unwrap();
        text(&request[..length])
    });
    (address, server)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NOT_READY: &str =
    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 16\r\nconnection: close\r\n\r\nreader: no ldb\r\n";
const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[test]
fn help_names_every_command_and_shows_examples() {
    let output = ctlstore(&["--help"], &[]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for word in ["node", "config", "health", "ledger", "version", "Examples:", "ctlstore node --config host.toml"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    let help = text(&ctlstore(&["node", "--help"], &[]).stdout);
    assert!(help.contains("--config <FILE>") && help.contains("--role <ROLE>"), "{help}");
}

#[test]
fn the_version_is_the_package_s() {
    let version = format!("ctlstore {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&ctlstore(&["version"], &[]).stdout), version);
    assert_eq!(text(&ctlstore(&["--version"], &[]).stdout), version);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["nod"][..], &["node", "--rolle", "reader"], &["config", "--config"], &[]] {
        let output = ctlstore(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn wrong_settings_stop_every_command_that_reads_them_with_2() {
    for command in ["node", "config", "health"] {
        let output = ctlstore(&[command], &[("CTLSTORE__OPS__BIND", "here")]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(text(&output.stderr).contains("ops.bind = \"here\" (environment CTLSTORE__OPS__BIND)"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn health_is_0_when_the_node_answers_that_it_is_ready() {
    let (address, server) = answering(OK);
    let output = ctlstore(&["health"], &[("CTLSTORE__OPS__BIND", &address)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
}

#[test]
fn health_finds_a_node_that_listens_on_every_address() {
    let (address, server) = answering(OK);
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    let output = ctlstore(&["health"], &[("CTLSTORE__OPS__BIND", &everywhere)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    server.join().unwrap();
}

#[test]
fn health_asks_the_url_it_is_given_and_no_proxy() {
    let (address, server) = answering(OK);
    let url = format!("http://{address}/status?x=1");
    let output = ctlstore(&["health", "--url", &url], &[("http_proxy", "http://127.0.0.1:1")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(server.join().unwrap().starts_with("GET /status?x=1 HTTP/1.1\r\n"));
}

#[test]
fn health_asks_whether_a_node_is_ready_if_its_address_has_no_path() {
    for flag in ["--ops", "--url"] {
        for scheme in ["http://", ""] {
            for end in ["", "/"] {
                let (address, server) = answering(OK);
                let output = ctlstore(&["health", flag, &format!("{scheme}{address}{end}")], &[]);
                assert!(output.status.success(), "{}", text(&output.stderr));
                assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"), "{flag} {scheme}{end}");
            }
        }
    }
    let bad = ctlstore(&["health", "--ops", "ftp://host/"], &[]);
    assert_eq!(bad.status.code(), Some(2));
    let wanted = "ctlstore: --ops \"ftp://host/\" is no URL of a node, as http://host:port is\n";
    assert_eq!(text(&bad.stderr), wanted);
    let help = text(&ctlstore(&["health", "--help"], &[]).stdout);
    for word in ["--ops <URL>", "--url", "/readyz", "ctlstore health --ops 10.0.0.7:9090"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
}

#[test]
fn health_is_1_with_the_reason_for_any_other_answer() {
    for (answer, reason) in
        [(NOT_READY, "503 Service Unavailable \"reader: no ldb\""), (MOVED, "302 Found \"\""), ("", "")]
    {
        let (address, server) = answering(answer);
        let url = format!("http://{address}/readyz");
        let output = ctlstore(&["health", "--url", &url], &[]);
        assert_eq!(output.status.code(), Some(1), "{answer}");
        let told = text(&output.stderr);
        assert!(told.starts_with(&format!("ctlstore: {url}: {reason}")), "{told}");
        server.join().unwrap();
    }
}

#[test]
fn health_is_1_when_nobody_listens() {
    // A port below 1024 is given to nobody by chance.
    let output = ctlstore(&["health"], &[("CTLSTORE__OPS__BIND", "127.0.0.1:1")]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert_eq!(told, "ctlstore: http://127.0.0.1:1/readyz: Connection refused (os error 111)\n");
}
