//! A program that writes to and reads from a node over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::{self, Answer};
use super::wait::wait_for;

pub const WRITER: &str = "tester";
pub const SECRET: &str = "tester-secret";

/// A registered writer of one executive.
#[derive(Debug, Clone)]
pub struct Client {
    pub executive: String,
}

impl Client {
    pub fn new(executive: impl Into<String>) -> Self {
        Self { executive: executive.into() }
    }

    /// Waits until the executive serves, and registers the writer with a rate limit that no test
    /// reaches.
    #[track_caller]
    pub fn registered(executive: impl Into<String>) -> Self {
        let client = Self::new(executive);
        client.wait_until_serving();
        http::post(&client.url(&format!("/writers/{WRITER}")), SECRET).expect(200);
        let limit = json!({ "amount": 1_000_000_000, "period": "1m" }).to_string();
        http::post(&client.url(&format!("/limits/writers/{WRITER}")), limit).expect(200);
        client
    }

    #[track_caller]
    pub fn wait_until_serving(&self) {
        let status = self.url("/status");
        wait_for("the executive serves", Duration::from_secs(60), || http::is_ok(&status).then_some(()));
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.executive)
    }

    pub fn create_family(&self, family: &str) -> Answer {
        http::post(&self.url(&format!("/families/{family}")), "")
    }

    /// Fields as `("name", "type")`; the first `keys` of them are the key.
    pub fn create_table(&self, family: &str, table: &str, fields: &[(&str, &str)], keys: usize) -> Answer {
        let key: Vec<&str> = fields[..keys].iter().map(|(name, _)| *name).collect();
        let body = json!({ "fields": fields, "keyFields": key }).to_string();
        http::post(&self.url(&format!("/families/{family}/tables/{table}")), body)
    }

    /// A family and one table `(id integer key, value text)` in it.
    #[track_caller]
    pub fn create_simple_table(&self, family: &str, table: &str) {
        self.create_family(family).expect(200);
        self.create_table(family, table, &[("id", "integer"), ("value", "text")], 1).expect(200);
    }

    /// Sends a mutation request; an error if there was no answer.
    pub fn try_mutate(&self, family: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let headers = [("ctlstore-writer", WRITER), ("ctlstore-secret", SECRET)];
        http::exchange("POST", &self.url(&format!("/families/{family}/mutations")), &headers, body.to_string())
    }

    /// Upserts rows into a simple table; returns the request's last seq.
    #[track_caller]
    pub fn upsert(&self, family: &str, table: &str, rows: &[(i64, &str)]) -> i64 {
        let answer = self.try_mutate(family, &upserts(table, rows)).expect("an answer").expect(200);
        answer.header("ctlstore-seq").expect("a seq").parse().expect("a number")
    }
}

/// The body that upserts rows into a simple table.
pub fn upserts(table: &str, rows: &[(i64, &str)]) -> Value {
    let one = |(id, value): &(i64, &str)| json!({ "table": table, "values": { "id": id, "value": value } });
    json!({ "mutations": rows.iter().map(one).collect::<Vec<_>>() })
}

/// The value in a simple table's row, as the reader has it now.
pub fn read_value(reader: &str, family: &str, table: &str, id: i64) -> Option<String> {
    let body = json!({ "Key": [{ "Value": id }] }).to_string();
    let answer = http::exchange("POST", &format!("{reader}/get-row-by-key/{family}/{table}"), &[], body).ok()?;
    (answer.status == 200).then(|| answer.json()["value"].as_str().expect("a text").to_owned())
}

/// Waits until the reader has this value in a simple table's row.
#[track_caller]
pub fn wait_for_value(reader: &str, family: &str, table: &str, id: i64, value: &str) {
    wait_for(&format!("row {id} reads {value}"), Duration::from_secs(60), || {
        (read_value(reader, family, table, id).as_deref() == Some(value)).then_some(())
    });
}

/// One role's part of `/status`, by its name.
#[track_caller]
pub fn role_status(ops: &str, role: &str) -> Value {
    let status = http::get(&format!("{ops}/status")).expect(200).json();
    let roles = status["roles"].as_array().expect("roles").clone();
    roles.into_iter().find(|r| r["role"] == role).unwrap_or_else(|| panic!("no {role} in {status}"))
}
