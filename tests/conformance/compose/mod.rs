//! The compose example works: every service of the file runs as a process, in the file's order, until the file's
//! own health checks pass; then data goes in at one end and comes out at the other, also after everything was
//! stopped and only the volumes were kept.

mod file;
mod fleet;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use file::{ComposeFile, Image};
use fleet::Fleet;
use serde_json::json;
use support::http;
use support::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
/// More than the snapshotter's interval, should its first snapshot not come at its start.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(400);
const CREDENTIALS: [(&str, &str); 2] = [("ctlstore-writer", "example"), ("ctlstore-secret", "a-secret")];

fn compose_file() -> ComposeFile {
    ComposeFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose-example.yml"))
}

fn image() -> Image {
    Image::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile"))
}

#[test]
fn the_example_comes_up_in_order_carries_a_row_and_keeps_it_across_down_and_up() {
    let mut fleet = Fleet::new(compose_file(), image());
    fleet.up();
    let executive = fleet.url("executive", 3000);
    http::post(&format!("{executive}/families/shop"), "").expect(200);
    let table = json!({"fields": [["name", "string"], ["price", "integer"]], "keyFields": ["name"]});
    http::post(&format!("{executive}/families/shop/tables/prices"), table.to_string()).expect(200);
    http::post(&format!("{executive}/writers/example"), CREDENTIALS[1].1).expect(200);
    write_price(&fleet, "before", 1);
    wait_until("the reader has the row", DEADLINE, || price(&fleet, "before") == Some(1));
    let snapshot = fleet.volume("snapshots").join("snapshot.db");
    wait_until("a snapshot is published", SNAPSHOT_DEADLINE, || snapshot.exists());

    fleet.down();
    fleet.up_again();
    assert_eq!(price(&fleet, "before"), Some(1), "the reader has what it had as soon as it is healthy");
    write_price(&fleet, "after", 2);
    wait_until("the reader has the new row", DEADLINE, || price(&fleet, "after") == Some(2));
    heartbeat_goes_on(&fleet);
    fleet.down();
}

fn write_price(fleet: &Fleet, name: &str, price: i64) {
    let url = format!("{}/families/shop/mutations", fleet.url("executive", 3000));
    let body = json!({"mutations": [{"table": "prices", "values": {"name": name, "price": price}}]});
    http::request("POST", &url, &CREDENTIALS, body.to_string()).expect(200);
}

fn price(fleet: &Fleet, name: &str) -> Option<i64> {
    row(fleet, "shop/prices", name)?["price"].as_i64()
}

fn row(fleet: &Fleet, table: &str, key: &str) -> Option<serde_json::Value> {
    let url = format!("{}/get-row-by-key/{table}", fleet.url("reader", 1331));
    let answer = http::post(&url, json!({"Key": [{"Value": key}]}).to_string());
    (answer.status == 200).then(|| answer.json())
}

/// The secret that the heartbeat made for itself at its first start still fits: a new beat arrives.
fn heartbeat_goes_on(fleet: &Fleet) {
    let beat = || row(fleet, "ctlstore/heartbeats", "heartbeat").and_then(|row| row["value"].as_i64());
    let first = wait_for("a heartbeat", DEADLINE, beat);
    wait_until("the next heartbeat", DEADLINE, || beat() > Some(first));
}

#[test]
fn every_service_of_ours_is_the_same_image_and_waits_for_health() {
    let file = compose_file();
    let expected = ["executive", "heartbeat", "mysql", "reader", "reflector", "snapshotter"];
    assert!(file.services.keys().map(String::as_str).eq(expected), "the services are {expected:?}");
    for (name, service) in &file.services {
        assert_eq!(service.image == "ctlstore", name != "mysql", "the image of {name}");
        for (on, dependency) in &service.depends_on {
            assert!(file.services.contains_key(on), "{name} depends on {on}");
            assert_eq!(dependency.condition, "service_healthy", "{name} on {on}");
        }
        assert!(service.ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name} is open to the network");
    }
    assert!(image().user.starts_with(|first: char| ('1'..='9').contains(&first)), "the image's user is not root");
}

#[test]
fn every_service_of_ours_has_settings_that_load() {
    let (file, image) = (compose_file(), image());
    for (name, service) in file.services.iter().filter(|(_, service)| service.image == "ctlstore") {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.arg("config").env_clear().envs(&image.environment).envs(&service.environment);
        let output = command.output().expect("print the settings");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_must_be_kept_lies_in_a_volume_that_one_service_writes() {
    let file = compose_file();
    for volume in file.volumes.keys() {
        let mounts = file.services.values().flat_map(|service| service.mounts());
        let writers = mounts.filter(|(name, _, read_only)| name == volume && !read_only).count();
        assert_eq!(writers, 1, "services that write to the volume {volume}");
    }
    let data = &image().environment["CTLSTORE__NODE__DATA_DIR"];
    for name in ["reflector", "heartbeat", "snapshotter", "reader"] {
        let service = &file.services[name];
        assert!(service.mounts().any(|(_, path, _)| path == data), "{name} keeps its data directory");
        let undeclared: Vec<_> = service.mounts().filter(|(volume, ..)| !file.volumes.contains_key(*volume)).collect();
        assert!(undeclared.is_empty(), "{name} mounts {undeclared:?}");
    }
    let shared =
        |name: &str| file.services[name].mounts().find(|(_, path, _)| path == data).map(|mount| mount.0.to_owned());
    assert_eq!(shared("reader"), shared("reflector"), "the reader reads the reflector's LDB");
}
