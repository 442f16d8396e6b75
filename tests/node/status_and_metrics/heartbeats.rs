//! Scenarios with a heartbeat whose executive starts, stops, refuses and hangs.

use std::net::TcpListener;
use std::time::Duration;

use super::fixture::lines;
use super::watch::{DEADLINE, Moved, Watch, until};
use support::port::Port;
use support::{Node, NodeProcess, wait_until};

fn heartbeat(executive: &str, secret: &str) -> Node {
    Node::new()
        .roles(&["heartbeat"])
        .set("heartbeat.executive_url", executive)
        .set("heartbeat.secret", secret)
        .set("heartbeat.interval", "100ms")
}

fn watched<'a>(node: &Node, moved: &'a Moved) -> (NodeProcess, Watch<'a>) {
    let process = node.start();
    let watch = Watch::new(process.ops_url(), moved);
    (process, watch)
}

pub fn an_executive_that_comes_and_goes(moved: &Moved) {
    let port = Port::claim();
    let executive = Node::new().roles(&["executive"]).set("executive.bind", format!("127.0.0.1:{}", port.number));
    let url = format!("http://127.0.0.1:{}", port.number);
    let (process, watch) = watched(&heartbeat(&url, "Zaungast-Ziegel"), moved);
    let away = [
        "ctlstore_errors_total{component=\"heartbeat\",kind=\"unavailable\"}",
        "/heartbeat/state",
        "/heartbeat/not_ready",
        "/heartbeat/last_error",
        "/heartbeat/details/failures",
    ];
    watch.begins("an executive that is away", &away);
    until("it is tried again", || (watch.now("/heartbeat/details/failures").as_u64()? >= 3).then_some(()));
    assert_eq!(lines(&process, &["no beat"]).len(), 1, "{}", process.log());
    let beats = [
        "ctlstore_heartbeat_beats_total",
        "ctlstore_heartbeat_last_success_timestamp_seconds",
        "/heartbeat/state",
        "/heartbeat/last_seq",
        "/heartbeat/details/beats",
        "/heartbeat/details/last_at",
    ];
    let mut running = watch.event("an executive that comes", &beats, || executive.start());
    assert_eq!(lines(&process, &["beating again"]).len(), 1, "{}", process.log());

    let (other, refused) = watched(&heartbeat(&url, "Nachtigall-Nebel"), moved);
    let refusal = ["ctlstore_errors_total{component=\"heartbeat\",kind=\"refused\"}"];
    refused.begins("an executive that knows Nachtigall-Nebel", &refusal);
    assert_eq!(refused.now("/heartbeat/last_error")["kind"], "refused");
    for (process, watch) in [(&process, &watch), (&other, &refused)] {
        let said = process.log() + &watch.sample().into_values().map(|value| value.to_string()).collect::<String>();
        assert!(!said.contains("Zaungast-Ziegel") && !said.contains("Nachtigall-Nebel"), "{said}");
    }

    watch.event("an executive that goes", &["/heartbeat/state"], || {
        assert!(running.stop(DEADLINE).success());
    });
    let _again = executive.start();
    watch.wait_ready();
}

pub fn an_executive_that_hangs(moved: &Moved) {
    // Connections wait in the backlog for ever.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let (mut process, watch) = watched(&heartbeat(&url, "Wendeltreppe"), moved);
    let late = ["ctlstore_errors_total{component=\"heartbeat\",kind=\"timeout\"}"];
    watch.begins("an executive that hangs", &late);
    // It does not delay a stop either.
    assert!(process.stop(Duration::from_secs(20)).success());
    wait_until("the log tells of the stop", DEADLINE, || !lines(&process, &["stopped", "heartbeat"]).is_empty());
}
