//! A node whose MySQL or MariaDB server goes away and comes back.

use std::time::Duration;

use support::client::{read_value, role_status, upserts, wait_for_value};
use support::{Client, Flavour, Node, NodeProcess, PrivateServer, http, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn node_on(server: &PrivateServer) -> Node {
    Node::new().ctldb(&server.url("ctldb")).set("executive.request_timeout", "3s")
}

#[test]
fn a_server_that_stops_and_starts_costs_writes_and_no_reads() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    let node = node_on(&server).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "before")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "before");

    for (round, kill) in [(2, false), (3, true)] {
        if kill {
            server.kill9()
        } else {
            server.stop()
        }
        let refused = client.try_mutate("fam", &upserts("tab", &[(round, "while away")])).expect("an answer");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.header("retry-after").is_some());
        assert_eq!(http::get(&client.url("/status")).status, 503);
        assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));
        wait_until("the poller says so", DEADLINE, || role_status(&node.ops_url(), "poller")["state"] == "retrying");
        assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));

        server.start_again();
        client.wait_until_serving();
        wait_until("it is written again", DEADLINE, || {
            client.try_mutate("fam", &upserts("tab", &[(round, "after")])).is_ok_and(|answer| answer.status == 200)
        });
        wait_for_value(&node.reader_url(), "fam", "tab", round, "after");
        wait_until("all is well", DEADLINE, || http::is_ok(&format!("{}/readyz", node.ops_url())));
    }
}

#[test]
fn a_node_starts_while_its_server_is_away_and_serves_when_it_is_back() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    server.stop();
    let node = node_on(&server).start();
    assert_eq!(http::get(&format!("{}/status", node.executive_url())).status, 503);
    server.start_again();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "one");
}

#[test]
fn a_server_that_hangs_is_answered_for_in_time() {
    let server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE ctldb");
    let node = node_on(&server).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    client.upsert("fam", "tab", &[(1, "before")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 1, "before");
    server.signal(libc::SIGSTOP);
    let refused = client.try_mutate("fam", &upserts("tab", &[(2, "while hanging")])).expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(read_value(&node.reader_url(), "fam", "tab", 1).as_deref(), Some("before"));
    server.signal(libc::SIGCONT);
    client.wait_until_serving();
    client.upsert("fam", "tab", &[(3, "after")]);
    wait_for_value(&node.reader_url(), "fam", "tab", 3, "after");
}

/// A database and a user with a password for it.
fn with_user(server: &PrivateServer, user: &str, password: &str) {
    let password = password.replace('\\', "\\\\").replace('\'', "''");
    server.execute("CREATE DATABASE IF NOT EXISTS ctldb");
    server.execute(&format!("CREATE OR REPLACE USER '{user}' IDENTIFIED BY '{password}'"));
    server.execute(&format!("GRANT ALL ON ctldb.* TO '{user}'"));
}

/// Writes through the executive until it answers 200, and waits until the reader has the row.
fn write_and_read(process: &NodeProcess, client: &Client, value: &str) {
    wait_until("it is written", DEADLINE, || {
        client.try_mutate("fam", &upserts("tab", &[(1, value)])).is_ok_and(|answer| answer.status == 200)
    });
    wait_for_value(&process.reader_url(), "fam", "tab", 1, value);
}

#[test]
fn a_password_is_what_its_file_says_and_what_its_url_says_once_decoded() {
    let server = PrivateServer::start(Flavour::MariaDb);
    for (password, encoded) in [
        ("pass%41word", "pass%2541word"),
        ("a#b/c?d@e:f%", "a%23b%2Fc%3Fd%40e%3Af%25"),
        ("'\"\\ z\u{fc}rich\n", "%27%22%5C%20z%C3%BCrich%0A"),
    ] {
        with_user(&server, "us@er", password);
        for in_file in [true, false] {
            let credentials = if in_file { "us%40er".to_owned() } else { format!("us%40er:{encoded}") };
            let url = format!("mysql://{credentials}@127.0.0.1:{}/ctldb", server.port());
            let file = if in_file { "password" } else { "" };
            let node = Node::new().ctldb(&url).set("ctldb.password_file", file);
            std::fs::create_dir_all(node.data_dir()).expect("make the data directory");
            std::fs::write(node.data_dir().join("password"), format!("{password}\n")).expect("write the password");
            let process = node.start();
            let client = Client::registered(process.executive_url());
            client.create_simple_table("fam", "tab");
            write_and_read(&process, &client, password);
            drop(process);
            server.execute("DROP DATABASE ctldb");
            server.execute("CREATE DATABASE ctldb");
        }
    }
}

#[test]
fn a_password_that_is_changed_on_the_server_and_in_its_file_needs_no_restart() {
    let server = PrivateServer::start(Flavour::MariaDb);
    with_user(&server, "user", "geheim-0");
    let url = format!("mysql://user@127.0.0.1:{}/ctldb", server.port());
    let node = node_on(&server).ctldb(&url).set("ctldb.password_file", "password");
    std::fs::create_dir_all(node.data_dir()).expect("make the data directory");
    let file = node.data_dir().join("password");
    std::fs::write(&file, "geheim-0\n").expect("write the password");
    let mut process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    write_and_read(&process, &client, "before");
    // A changed password ends no session, so the test ends them.
    let hang_up = || drop(server.execute("KILL USER 'user'"));
    for round in 1..=3 {
        let password = format!("geheim-{round}%41#");
        let alter = format!("ALTER USER 'user' IDENTIFIED BY '{password}'");
        if round == 2 {
            // The file changes first: the old password is valid until the server has the new one.
            std::fs::write(&file, &password).expect("write the password");
            write_and_read(&process, &client, "between");
            server.execute(&alter);
            hang_up();
        } else {
            server.execute(&alter);
            hang_up();
            wait_until("the poller is refused", DEADLINE, || {
                role_status(&process.ops_url(), "poller")["last_error"].to_string().contains("Access denied")
            });
            let refused = client.try_mutate("fam", &upserts("tab", &[(1, "refused")])).expect("an answer");
            assert_eq!(refused.status, 503, "{}", refused.text());
            std::fs::write(&file, &password).expect("write the password");
        }
        write_and_read(&process, &client, &format!("round {round}"));
        wait_until("all is well", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
    }
    // A missing file is reported, and the node goes on once the file is back.
    std::fs::rename(&file, file.with_extension("away")).expect("take the file away");
    server.execute("ALTER USER 'user' IDENTIFIED BY 'geheim-4'");
    hang_up();
    wait_until("the file is named", DEADLINE, || {
        role_status(&process.ops_url(), "poller")["last_error"].to_string().contains("ctldb.password_file")
    });
    std::fs::write(&file, "geheim-4\r\n").expect("write the password");
    write_and_read(&process, &client, "the end");
    assert!(process.stop(DEADLINE).success());
    assert!(!process.log().contains("geheim"), "{}", process.log());
}

#[test]
fn a_server_at_an_ipv6_address_is_reached_and_named_as_in_its_url() {
    let mut server = PrivateServer::start_with(Flavour::MariaDb, &["--bind-address=*"]);
    server.execute("CREATE DATABASE ctldb");
    let url = format!("mysql://root@[::1]:{}/ctldb", server.port());
    let process = Node::new().ctldb(&url).start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    write_and_read(&process, &client, "over IPv6");
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_ctlstore"))
        .args(["doctor", "--role", "executive"])
        .env("CTLSTORE__CTLDB__URL", &url)
        .output()
        .expect("run doctor");
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains(&format!("ctldb: [::1]:{} answers", server.port())), "{told}");
    server.stop();
    wait_until("the poller names it", DEADLINE, || {
        let error = role_status(&process.ops_url(), "poller")["last_error"].to_string();
        error.contains(&format!("[::1]:{}: ", server.port()))
    });
}
