//! Metrics that a node sends to a Dogstatsd agent, as a real socket receives them.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use support::{Client, Node};

const DEADLINE: Duration = Duration::from_secs(60);

struct Agent {
    socket: UdpSocket,
    datagrams: Vec<String>,
}

impl Agent {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        Self { socket, datagrams: Vec::new() }
    }

    fn address(&self) -> String {
        self.socket.local_addr().unwrap().to_string()
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.datagrams.iter().flat_map(|datagram| datagram.lines())
    }

    /// Receives until a line begins with `start` and holds `part`.
    #[track_caller]
    fn wait_for(&mut self, start: &str, part: &str) -> String {
        let until = Instant::now() + DEADLINE;
        let mut buffer = [0; 65_536];
        loop {
            let found = self.lines().find(|line| line.starts_with(start) && line.contains(part));
            if let Some(line) = found {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "{start} … {part} did not come, but\n{}", self.datagrams.concat());
            if let Ok(length) = self.socket.recv(&mut buffer) {
                self.datagrams.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        }
    }
}

fn node(agent: &Agent) -> Node {
    Node::new()
        .set("metrics.dogstatsd", agent.address())
        .set("metrics.dogstatsd_flush_interval", "100ms")
        .set("metrics.dogstatsd_tags", vec!["application:billing", "shadow:true"])
}

#[test]
fn metrics_come_under_the_original_s_names_and_tags() {
    let mut agent = Agent::new();
    let process = node(&agent).roles(&["executive", "reflector", "reader", "heartbeat"]).start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("shop", "prices");
    client.upsert("shop", "prices", &[(1, "one")]);
    support::client::wait_for_value(&process.reader_url(), "shop", "prices", 1, "one");
    let version = format!("version:{}", env!("CARGO_PKG_VERSION"));
    let tags = format!("application:billing,shadow:true,{version}");
    let applied = agent.wait_for("ctlstore.reflector.sql_ldb_writer.apply:", "|c|#");
    assert!(applied.ends_with(&format!("|c|#application:billing,id:ldb.db-0,shadow:true,{version}")), "{applied}");
    let lag = agent.wait_for("ctlstore.reflector.reflector-ledger-latency:", "|g|#");
    assert!(lag.ends_with(&tags), "{lag}");
    let api = "code:200,method:POST,shadow:true,uri:/families/{family}/mutations";
    let latency = agent.wait_for("ctlstore.executive.api-latency:", api);
    let seconds: f64 = latency.split([':', '|']).nth(1).unwrap().parse().unwrap();
    assert!((0.0..30.0).contains(&seconds) && latency.contains("|h"), "{latency}");
    agent.wait_for("ctlstore.executive.dml_ledger_writer.exec.success:", "|c|#");
    agent.wait_for("ctlstore.sidecar.http.message.count:", "http_res_status:200,http_res_status_bucket:2xx");
    agent.wait_for("ctlstore.global.get_row_by_key:", "app:ctlstore-sidecar");
    assert!(agent.datagrams.iter().all(|datagram| datagram.len() <= 1024), "no datagram is larger than the bound");
}

#[test]
fn the_last_lines_come_with_the_stop() {
    let mut agent = Agent::new();
    let mut process = node(&agent).roles(&["executive"]).set("metrics.dogstatsd_flush_interval", "1h").start();
    Client::new(process.executive_url()).create_family("shop").expect(200);
    assert!(process.stop(Duration::from_secs(30)).success());
    agent.wait_for("ctlstore.executive.api-latency:", "uri:/families/{family}");
}

#[test]
fn an_agent_that_is_away_costs_a_line_of_the_log_and_nothing_else() {
    let process = node(&Agent::new())
        .roles(&["executive"])
        .set("metrics.dogstatsd", "no-such-host.invalid:8125")
        .set("metrics.dogstatsd_flush_interval", "50ms")
        .start();
    support::wait_until("the log tells of it", DEADLINE, || process.log().contains("no-such-host.invalid:8125"));
    let metrics = || support::http::get(&format!("{}/metrics", process.ops_url())).expect(200).text();
    let failures = r#"ctlstore_errors_total{component="dogstatsd",kind="unavailable"} "#;
    let count = || metrics().lines().find_map(|line| line.strip_prefix(failures)?.parse::<u64>().ok());
    support::wait_until("it is tried again", DEADLINE, || count() > Some(3));
    Client::new(process.executive_url()).create_family("shop").expect(200);
    assert_eq!(process.log().matches("metrics are not sent").count(), 1, "{}", process.log());
}
