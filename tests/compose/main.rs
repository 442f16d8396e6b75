//! The original's example of a fleet runs with this program in place of its own: every service's command line as a
//! process, on a private MariaDB with the original's tables, all at once and before there is a database.

mod fleet;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use fleet::{Fleet, services};
use serde_json::{Value, json};
use support::http;
use support::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);
/// More than the supervisor's interval.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(180);
const CREDENTIALS: [(&str, &str); 2] = [("ctlstore-writer", "example"), ("ctlstore-secret", "a-secret")];
const DOCKERFILE: &str = include_str!("../../Dockerfile");

fn write_price(fleet: &Fleet, name: &str, price: i64) {
    let url = format!("{}/families/shop/mutations", fleet.url("executive"));
    let body = json!({"mutations": [{"table": "prices", "values": {"name": name, "price": price}}]});
    http::request("POST", &url, &CREDENTIALS, body.to_string()).expect(200);
}

fn row(fleet: &Fleet, table: &str, key: &str) -> Option<Value> {
    let url = format!("{}/get-row-by-key/{table}", fleet.url("sidecar"));
    let answer = http::post(&url, json!({"Key": [{"Value": key}]}).to_string());
    (answer.status == 200).then(|| answer.json())
}

fn price(fleet: &Fleet, name: &str) -> Option<i64> {
    row(fleet, "shop/prices", name)?["price"].as_i64()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn the_fleet_comes_up_without_an_order_and_carries_rows_and_snapshots() {
    let mut fleet = Fleet::new();
    fleet.start_all();
    fleet.start_database();
    wait_until("the executive takes writes", DEADLINE, || {
        fleet.restart_ended();
        http::is_ok(&format!("{}/status", fleet.url("executive")))
    });
    let executive = fleet.url("executive");
    http::post(&format!("{executive}/families/shop"), "").expect(200);
    let table = json!({"fields": [["name", "string"], ["price", "integer"]], "keyFields": ["name"]});
    http::post(&format!("{executive}/families/shop/tables/prices"), table.to_string()).expect(200);
    http::post(&format!("{executive}/writers/example"), CREDENTIALS[1].1).expect(200);
    write_price(&fleet, "first", 1);
    wait_until("the sidecar has the row", DEADLINE, || price(&fleet, "first") == Some(1));
    heartbeat_arrives(&fleet);
    files_are_read_by_others(&fleet);
    let metrics = http::get(&format!("{}/metrics", fleet.url("reflector"))).expect(200).text();
    assert!(metrics.contains("ctlstore_ldb_seq "), "-metrics-bind serves metrics: {metrics}");
    assert!(fleet.log("reflector").contains("-ledger-latency.disable"), "what has no meaning is in the log");
    exchanged_one_by_one(&mut fleet);
    let snapshot = fleet.path("supervisor", "/snapshots/snapshot.db");
    wait_until("a snapshot is published", SNAPSHOT_DEADLINE, || snapshot.exists());
    assert_eq!(mode(&snapshot), 0o644);
    fleet.stop_all();
}

fn heartbeat_arrives(fleet: &Fleet) {
    let beat = || row(fleet, "ctlstore/heartbeats", "heartbeat").and_then(|row| row["value"].as_i64());
    let first = wait_for("a heartbeat", DEADLINE, beat);
    wait_until("the next heartbeat", DEADLINE, || beat() > Some(first));
}

/// As the original's are: programs of any user open the LDB and follow the changelog.
fn files_are_read_by_others(fleet: &Fleet) {
    let spool = fleet.path("reflector", "/var/spool/ctlstore");
    // The path is a link to the file, and SQLite keeps the log beside the file.
    let ldb = spool.join("ldb.db").canonicalize().expect("the LDB's file");
    let beside = |end: &str| ldb.with_file_name(format!("{}{end}", ldb.file_name().unwrap().to_string_lossy()));
    for path in [ldb.clone(), beside("-wal"), beside("-shm"), spool.join("changelog")] {
        wait_until(&format!("{} is there", path.display()), DEADLINE, || path.exists());
        assert_eq!(mode(&path), 0o644, "{}", path.display());
    }
    let changelog = std::fs::read_to_string(fleet.path("reflector", "/var/spool/ctlstore/changelog")).unwrap();
    assert!(changelog.contains(r#""family":"shop","table":"prices""#), "{changelog}");
    assert_eq!(mode(&fleet.path("supervisor", "/data")), 0o755, "a directory that the node made");
}

/// Each service ends in good order when it is told to, and goes on where it was.
fn exchanged_one_by_one(fleet: &mut Fleet) {
    for (number, name) in services().keys().enumerate() {
        fleet.stop(name);
        fleet.start(name);
        let url = fleet.url("executive");
        wait_until("the executive takes writes again", DEADLINE, || http::is_ok(&format!("{url}/status")));
        let sidecar = fleet.url("sidecar");
        wait_until("the sidecar answers again", DEADLINE, || http::is_ok(&format!("{sidecar}/healthcheck")));
        let wanted = number as i64 + 2;
        write_price(fleet, name, wanted);
        wait_until(&format!("a row after {name} was exchanged"), DEADLINE, || price(fleet, name) == Some(wanted));
    }
}

#[test]
fn the_image_has_what_the_services_name() {
    let (_, image) = DOCKERFILE.rsplit_once("\nFROM ").expect("a stage of the image");
    for service in services().values() {
        assert_eq!(service.words[0], "/usr/local/bin/ctlstore");
    }
    assert!(image.contains("COPY --from=build /image/usr/local/bin/ /usr/local/bin/\n"), "{image}");
    assert!(DOCKERFILE.contains("ln -s ctlstore /image/usr/local/bin/ctlstore-cli"), "the original's second name");
    // The services make files in these, and the image's user may make no directory at the root.
    for directory in ["/var/spool/ctlstore", "/data", "/snapshots"] {
        let line = format!("COPY --from=build --chown=65532:65532 /image{directory} {directory}\n");
        assert!(image.contains(&line), "{directory} belongs to the image's user");
    }
}
