//! The original's metrics, and which of ours each comes from. The exporter and the table
//! in docs/migration.md come from this list.

use super::samples::Sample;

/// A program of the original, by which its metrics are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramPart {
    /// `ctlstore.reflector`, or `ctlstore.supervisor` of a node that publishes snapshots too.
    Reflector,
    /// Of a supervisor alone.
    Supervisor,
    Executive,
    Sidecar,
    /// Metrics of the library that the sidecar uses.
    Global,
    Heartbeat,
}

impl ProgramPart {
    /// The prefix as the documentation shows it.
    const fn shown(self) -> &'static str {
        match self {
            Self::Reflector => "reflector",
            Self::Supervisor => "supervisor",
            Self::Executive => "executive",
            Self::Sidecar => "sidecar",
            Self::Global => "global",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// How a value of ours becomes one of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The growth since the last flush.
    Count,
    /// The same, and again as `errors` with the tag `error`.
    Error,
    Gauge,
    /// A gauge that is 1 if the counter grew.
    Seen,
    /// The middle of each bucket, with the sample rate that stands for what it gained.
    Histogram,
}

impl Kind {
    const fn shown(self) -> &'static str {
        match self {
            Self::Count => "counter",
            Self::Error => "counter, also in `errors`",
            Self::Gauge | Self::Seen => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A tag beside those of every metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Fixed(&'static str, &'static str),
    /// The value of our label.
    Label(&'static str, &'static str),
    /// The class of the status in our label, such as `2xx`.
    Class(&'static str, &'static str),
    /// `temporary` or `generic`, by the kind of error in our label.
    Temporary(&'static str, &'static str),
    /// `id`: the LDB's file name and its number.
    Id,
    /// `ldb`: the WAL's file name.
    Wal,
    Compressed,
}

impl Tag {
    const fn name(self) -> &'static str {
        match self {
            Self::Fixed(name, _) | Self::Label(name, _) | Self::Class(name, _) | Self::Temporary(name, _) => name,
            Self::Id => "id",
            Self::Wal => "ldb",
            Self::Compressed => "compressed",
        }
    }
}

/// One metric of the original.
#[derive(Debug)]
pub struct Rule {
    pub part: ProgramPart,
    pub name: &'static str,
    pub kind: Kind,
    /// Our metric, without the prefix of all names.
    pub ours: &'static str,
    /// Labels and the value that each must have; `!` before it: must not have.
    pub when: &'static [(&'static str, &'static str)],
    pub tags: &'static [Tag],
}

impl Rule {
    pub fn is_of(&self, sample: &Sample<'_>) -> bool {
        let holds = |(label, wanted): &(&str, &str)| match wanted.strip_prefix('!') {
            Some(other) => sample.label(label) != Some(other),
            None => sample.label(label) == Some(wanted),
        };
        sample.name == self.ours && self.when.iter().all(holds)
    }
}

const fn rule(part: ProgramPart, name: &'static str, kind: Kind, ours: &'static str) -> Rule {
    Rule { part, name, kind, ours, when: &[], tags: &[] }
}

impl Rule {
    const fn when(self, when: &'static [(&'static str, &'static str)]) -> Self {
        Self { when, ..self }
    }

    const fn tags(self, tags: &'static [Tag]) -> Self {
        Self { tags, ..self }
    }
}

use Kind::{Count, Error, Gauge, Histogram, Seen};
use ProgramPart::{Executive, Global, Heartbeat, Reflector, Sidecar, Supervisor};
use Tag::{Class, Compressed, Fixed, Id, Label, Temporary, Wal};

/// The latency of the executive's API comes from two metrics of ours.
pub const SPECIAL_LATENCY: &str = "api-latency";

const REQUEST: &[Tag] = &[
    Label("http_req_method", "method"),
    Label("http_req_path", "route"),
    Fixed("operation", "read"),
    Fixed("type", "request"),
];
const RESPONSE: &[Tag] = &[
    Label("http_req_method", "method"),
    Label("http_req_path", "route"),
    Label("http_res_status", "status"),
    Class("http_res_status_bucket", "status"),
    Fixed("operation", "write"),
    Fixed("type", "response"),
];
const ROUND_TRIP: &[Tag] = &[Label("http_req_path", "route"), Fixed("operation", "write"), Fixed("type", "response")];
const LIBRARY: &[Tag] = &[Fixed("app", "ctlstore-sidecar")];
const READER: (&str, &str) = ("server", "reader");

/// In the order of the documentation.
pub const RULES: &[Rule] = &[
    rule(Reflector, "sql_ldb_writer.apply", Count, "applier_statements_total").tags(&[Id]),
    rule(Reflector, "sql_ldb_writer.exec.success", Count, "applier_statements_total").tags(&[Id]),
    rule(Reflector, "sql_ldb_writer.commit.success", Count, "applier_statements_total").tags(&[Id]),
    rule(Reflector, "shovel.apply_statement.success", Count, "applier_statements_total"),
    rule(Reflector, "shovel.loop_enter", Count, "poller_polls_total"),
    rule(Reflector, "shovel.skipped_sequence", Count, "poller_gaps_total"),
    rule(Reflector, "sql_dml_source.skipped_sequence", Count, "poller_gaps_total"),
    rule(Reflector, "shovel.deadline_exceeded", Error, "errors_total")
        .when(&[("component", "poller"), ("kind", "timeout")]),
    rule(Reflector, "reflector.shovel_error", Error, "errors_total")
        .when(&[("component", "poller"), ("kind", "!timeout")]),
    rule(Reflector, "shovel.apply_statement.error", Error, "errors_total").when(&[("component", "applier")]),
    rule(Reflector, "sql_ldb_writer.exec.error", Error, "errors_total")
        .when(&[("component", "applier"), ("kind", "statement")])
        .tags(&[Id]),
    rule(Reflector, "reflector-ledger-latency", Gauge, "ldb_lag_seconds"),
    rule(Reflector, "wal-file-size", Gauge, "ldb_wal_bytes").tags(&[Wal]),
    rule(Reflector, "wal-checkpoint-status", Seen, "ldb_checkpoints_total")
        .when(&[("complete", "true")])
        .tags(&[Fixed("busy", "false"), Wal]),
    rule(Reflector, "wal-checkpoint-status", Seen, "ldb_checkpoints_total")
        .when(&[("complete", "false")])
        .tags(&[Fixed("busy", "true"), Wal]),
    rule(Reflector, "snapshot_download_time", Histogram, "bootstrap_duration_seconds_bucket"),
    rule(Reflector, "snapshot_download_errors", Error, "bootstrap_failures_total").tags(&[Temporary("type", "kind")]),
    rule(Supervisor, "ldb-size-bytes", Gauge, "snapshotter_size_bytes"),
    rule(Supervisor, "ldb-upload-time", Histogram, "snapshotter_duration_seconds_bucket").tags(&[Compressed]),
    rule(Supervisor, "snapshot-errors", Count, "snapshotter_failed_checks_total"),
    rule(Supervisor, "snapshot-errors", Count, "snapshotter_destination_failures_total"),
    rule(Executive, "dml_ledger_writer.exec.success", Count, "executive_ledger_statements_total"),
    rule(Executive, "table-size-warning", Count, "executive_over_warn_size_total"),
    rule(Executive, "table-size-overage", Error, "http_requests_total")
        .when(&[("server", "executive"), ("status", "507")]),
    rule(Executive, "errors", Count, "errors_total").when(&[("component", "executive")]).tags(&[Label("op", "kind")]),
    rule(Sidecar, "http.message.count", Count, "http_requests_total").when(&[READER]).tags(REQUEST),
    rule(Sidecar, "http.message.count", Count, "http_requests_total").when(&[READER]).tags(RESPONSE),
    rule(Sidecar, "http.rtt.seconds", Histogram, "http_request_duration_seconds_bucket")
        .when(&[READER])
        .tags(ROUND_TRIP),
    rule(Global, "get_row_by_key", Histogram, "http_request_duration_seconds_bucket")
        .when(&[READER, ("route", "/get-row-by-key/{family}/{table}")])
        .tags(LIBRARY),
    rule(Global, "get_rows_by_key_prefix", Histogram, "http_request_duration_seconds_bucket")
        .when(&[READER, ("route", "/get-rows-by-key-prefix/{family}/{table}")])
        .tags(LIBRARY),
    rule(Heartbeat, "heartbeat-errors", Error, "errors_total").when(&[("component", "heartbeat")]),
];

/// Of those that come from no single metric: name, type, tags and source.
const SPECIAL: [(&str, &str, &str, &str); 3] = [
    ("reflector.reflector.shovel_start", "counter", "", "1 at the start of the node"),
    (
        "reflector.ledger-health",
        "gauge",
        "`status`",
        "`ldb_lag_seconds` against `reader.ready_max_lag`, if that is set",
    ),
    (
        "executive.api-latency",
        "histogram",
        "`code` `method` `uri`",
        "`http_request_duration_seconds` and `http_requests_total`; the mean of a route that had several codes",
    ),
];

/// A table in Markdown with a row for each metric.
pub fn listed() -> String {
    let special = SPECIAL
        .iter()
        .map(|(name, kind, tags, source)| format!("| `ctlstore.{name}` | {kind} | {tags} | {source} |\n"));
    let rules = RULES.iter().map(|rule| {
        let mut tags: Vec<String> = rule.tags.iter().map(|tag| format!("`{}`", tag.name())).collect();
        tags.sort();
        tags.dedup();
        let when: Vec<String> = rule.when.iter().map(|(label, value)| condition(label, value)).collect();
        let when = if when.is_empty() { String::new() } else { format!(" of {}", when.join(", ")) };
        let part = rule.part.shown();
        let name = rule.name;
        let kind = rule.kind.shown();
        let tags = tags.join(" ");
        format!("| `ctlstore.{part}.{name}` | {kind} | {tags} | `{}`{when} |\n", rule.ours)
    });
    let head = "| metric | type | tags | from `ctlstore_…` |\n| --- | --- | --- | --- |\n".to_owned();
    std::iter::once(head).chain(rules).chain(special).collect()
}

fn condition(label: &str, value: &str) -> String {
    match value.strip_prefix('!') {
        Some(other) => format!("{label} other than `{other}`"),
        None => format!("{label} `{value}`"),
    }
}
