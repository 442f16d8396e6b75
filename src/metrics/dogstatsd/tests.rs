//! The node's own metrics become lines, flush after flush.

use std::time::Duration;

use ctlstore_ldb::CheckpointMode;

use super::*;
use crate::metrics::{Component, ErrorKind, ExecutionPath, Method, Metrics, Route, Server};

fn identity() -> Identity {
    Identity {
        reflector: Some("reflector"),
        executive: true,
        sidecar: true,
        heartbeat: true,
        ldb: "ldb.db".to_owned(),
        max_lag_seconds: 60.0,
        compressed: false,
        tags: vec!["shadow:false".to_owned()],
    }
}

const VERSION: &str = concat!("version:", env!("CARGO_PKG_VERSION"));

#[track_caller]
fn has(lines: &[String], line: &str) {
    let line = line.replace("VERSION", VERSION);
    assert!(lines.iter().any(|have| have.trim_end() == line), "{line} is not in\n{}", lines.concat());
}

#[test]
fn counters_tell_what_they_gained() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(identity()));
    metrics.applier.statements(ExecutionPath::Bound, 3);
    let first = exporter.lines(&metrics.encode().unwrap());
    has(&first, "ctlstore.reflector.sql_ldb_writer.apply:3|c|#id:ldb.db-0,shadow:false,VERSION");
    has(&first, "ctlstore.reflector.reflector.shovel_start:1|c|#shadow:false,VERSION");
    let second = exporter.lines(&metrics.encode().unwrap());
    assert!(!second.concat().contains("|c|"), "{second:?}");
    metrics.applier.statements(ExecutionPath::Bound, 4);
    let third = exporter.lines(&metrics.encode().unwrap());
    has(&third, "ctlstore.reflector.sql_ldb_writer.apply:4|c|#id:ldb.db-0,shadow:false,VERSION");
}

#[test]
fn gauges_tell_their_value_each_time_and_none_that_is_unknown() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(identity()));
    let lines = exporter.lines(&metrics.encode().unwrap());
    assert!(!lines.concat().contains("reflector-ledger-latency"), "{lines:?}");
    has(&lines, "ctlstore.reflector.ledger-health:1|g|#shadow:false,status:unknown,VERSION");
    metrics.applier.lag_seconds.set(1.5);
    metrics.applier.wal_bytes.set(4096);
    for _ in 0..2 {
        let lines = exporter.lines(&metrics.encode().unwrap());
        has(&lines, "ctlstore.reflector.reflector-ledger-latency:1.5|g|#shadow:false,VERSION");
        has(&lines, "ctlstore.reflector.wal-file-size:4096|g|#ldb:ldb.db-wal,shadow:false,VERSION");
        has(&lines, "ctlstore.reflector.ledger-health:1|g|#shadow:false,status:healthy,VERSION");
    }
    metrics.applier.checkpoint(CheckpointMode::Passive, true);
    let lines = exporter.lines(&metrics.encode().unwrap());
    has(&lines, "ctlstore.reflector.wal-checkpoint-status:1|g|#busy:false,ldb:ldb.db-wal,shadow:false,VERSION");
}

#[test]
fn errors_have_their_own_name_and_the_common_one() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(identity()));
    metrics.error(Component::Heartbeat, ErrorKind::Unavailable);
    metrics.error(Component::Poller, ErrorKind::Timeout);
    let lines = exporter.lines(&metrics.encode().unwrap());
    has(&lines, "ctlstore.heartbeat.heartbeat-errors:1|c|#shadow:false,VERSION");
    has(&lines, "ctlstore.heartbeat.errors:1|c|#error:heartbeat-errors,shadow:false,VERSION");
    has(&lines, "ctlstore.reflector.shovel.deadline_exceeded:1|c|#shadow:false,VERSION");
    assert!(!lines.concat().contains("shovel_error"), "a timeout is no other error: {lines:?}");
}

#[test]
fn latencies_are_the_middles_of_buckets_with_a_rate() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(identity()));
    let route = Route::of(Some("/get-row-by-key/{family}/{table}"));
    for _ in 0..4 {
        metrics.http.answered(Server::Reader, route, Method::of("POST"), 200, Duration::from_micros(300));
    }
    let lines = exporter.lines(&metrics.encode().unwrap());
    let line = lines.iter().find(|line| line.starts_with("ctlstore.global.get_row_by_key:")).expect("a latency");
    assert!(line.contains("|h|@0.25|#app:ctlstore-sidecar,"), "{line}");
    let value: f64 = line.split([':', '|']).nth(1).unwrap().parse().unwrap();
    assert!((0.0001..0.001).contains(&value), "{line}");
    assert!(!line.contains("shadow"), "the library's metrics have the library's tags: {line}");
    let of_route = "http_req_method:POST,http_req_path:/get-row-by-key/{family}/{table}";
    has(
        &lines,
        &format!(
            "ctlstore.sidecar.http.message.count:4|c|#{of_route},http_res_status:200,http_res_status_bucket:2xx,operation:write,shadow:false,type:response,VERSION"
        ),
    );
    has(
        &lines,
        &format!(
            "ctlstore.sidecar.http.message.count:4|c|#{of_route},operation:read,shadow:false,type:request,VERSION"
        ),
    );
}

#[test]
fn a_route_with_several_endings_has_its_mean_for_each() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(identity()));
    let route = Route::of(Some("/families/{family}"));
    let post = Method::of("POST");
    metrics.http.answered(Server::Executive, route, post, 200, Duration::from_millis(250));
    metrics.http.answered(Server::Executive, route, post, 409, Duration::from_millis(750));
    let lines = exporter.lines(&metrics.encode().unwrap());
    for code in [200, 409] {
        let tags = format!("code:{code},method:POST,shadow:false,uri:/families/{{family}},VERSION");
        has(&lines, &format!("ctlstore.executive.api-latency:0.5|h|#{tags}"));
    }
    metrics.http.answered(Server::Executive, route, post, 409, Duration::from_millis(750));
    let lines = exporter.lines(&metrics.encode().unwrap());
    let alone: Vec<&String> = lines.iter().filter(|line| line.contains("api-latency")).collect();
    assert!(alone.len() == 1 && alone[0].contains("code:409"), "{alone:?}");
}

#[test]
fn only_the_roles_of_the_node_are_told() {
    let (metrics, mut exporter) = (Metrics::new(), Exporter::new(Identity { heartbeat: true, ..Identity::default() }));
    metrics.applier.statements(ExecutionPath::Text, 1);
    metrics.applier.wal_bytes.set(1);
    assert!(exporter.lines(&metrics.encode().unwrap()).is_empty());
    let mut supervisor = Exporter::new(Identity { reflector: Some("supervisor"), ..Identity::default() });
    let lines = supervisor.lines(&metrics.encode().unwrap());
    has(&lines, "ctlstore.supervisor.snapshot-errors:0|c|#VERSION");
    assert!(lines.iter().all(|line| line.starts_with("ctlstore.supervisor.")), "{lines:?}");
}

#[test]
fn every_rule_names_a_metric_that_there_is() {
    let metrics = Metrics::new();
    metrics.applier.statements(ExecutionPath::Text, 1);
    metrics.applier.checkpoint(CheckpointMode::Passive, true);
    metrics.bootstrap.failed(ErrorKind::Timeout);
    metrics.error(Component::Poller, ErrorKind::Timeout);
    metrics.snapshotter.failed_at(0);
    metrics.http.answered(Server::Reader, Route::OTHER, Method::of("GET"), 200, Duration::ZERO);
    let text = metrics.encode().unwrap();
    let names: Vec<&str> = samples::samples(&text).iter().map(|sample| sample.name).collect();
    for rule in RULES {
        assert!(names.contains(&rule.ours), "{} is no metric of ours", rule.ours);
        for (label, value) in rule.when.iter().filter(|(_, value)| !value.starts_with('!')) {
            let known = match *label {
                "component" => Component::ALL.iter().any(|known| known.as_str() == *value),
                "kind" => ErrorKind::ALL.iter().any(|known| known.as_str() == *value),
                "server" => Server::ALL.iter().any(|known| known.as_str() == *value),
                "route" => Route::PATTERNS.contains(value),
                "complete" => ["true", "false"].contains(value),
                "status" => value.parse::<u16>().is_ok(),
                other => panic!("no such label: {other}"),
            };
            assert!(known, "{label} is never {value}");
        }
    }
}

#[test]
fn datagrams_are_bounded_and_whole_lines() {
    let lines: Vec<String> = (0..10).map(|i| format!("ctlstore.x{i}:1|c\n")).collect();
    let (packed, too_long) = datagrams(&lines, 40);
    assert!(packed.iter().all(|datagram| datagram.len() <= 40 && datagram.ends_with('\n')), "{packed:?}");
    assert_eq!((packed.concat(), too_long), (lines.concat(), 0));
    assert_eq!(datagrams(&["x".repeat(50), "y\n".to_owned()], 40), (vec!["y\n".to_owned()], 1));
}
