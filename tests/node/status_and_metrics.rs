//! Every field of `/status` and every metric changes with the event that it shows.
//!
//! The scenarios cause the events on real nodes, all at the same time. Each one names the values that an event must
//! change, and waits for that. A value that a node shows and no scenario has changed fails the test.

mod agents;
mod bootstrapping;
mod connecting;
mod feeding;
mod fetching;
mod fixture;
mod following;
mod heartbeats;
mod ldb;
mod panicking;
mod queries;
mod reading;
mod retention;
mod shared_server;
mod snapshots;
mod stopping;
mod watch;
mod writing;

use std::thread;

use ctlstore::metrics::{Component, ErrorKind, ExecutionPath, Method, Queue, RetryReason, Route, Server};
use support::Node;
use watch::{Moved, Watch, metric_names};

type Scenario = (&'static str, fn(&Moved));

const SCENARIOS: [Scenario; 32] = [
    ("an agent without an address", agents::an_agent_without_an_address),
    ("a request on its way to the ldb", writing::a_request_on_its_way_to_the_ldb),
    ("writes that wait for a stranger", writing::writes_that_wait_for_a_stranger),
    ("a table over its warning size", writing::a_table_over_its_warning_size),
    ("a ctldb that is away", following::a_ctldb_that_is_away),
    ("gaps and failing statements", following::a_ledger_with_gaps_and_statements_that_fail),
    ("a statement that takes long", following::a_statement_that_takes_long),
    ("a log that nobody reads", stopping::a_log_that_nobody_reads),
    ("a ledger that is another one", following::a_ledger_that_is_another_one),
    ("files that can't be written", ldb::files_that_cant_be_written),
    ("a stranger that locks the ldb", ldb::a_stranger_that_locks_the_ldb),
    ("a wal that readers keep from shrinking", ldb::a_wal_that_readers_keep_from_shrinking),
    ("a file that is deleted", ldb::a_file_that_is_deleted),
    ("disks that are full", ldb::disks_that_are_full),
    ("snapshots and why there are none", snapshots::snapshots_and_why_there_are_none),
    ("a destination that can't be written", snapshots::a_destination_that_cant_be_written),
    ("a destination that says nothing", snapshots::a_destination_that_says_nothing),
    ("a copy that fails its check", snapshots::a_copy_that_fails_its_check),
    ("a snapshot that is away, then bad, then good", bootstrapping::a_snapshot_that_is_away_then_bad_then_good),
    ("snapshots that are fetched", fetching::snapshots_that_are_fetched),
    ("a client of the change feed", feeding::a_client_of_the_change_feed),
    ("an executive that comes and goes", heartbeats::an_executive_that_comes_and_goes),
    ("an executive that hangs", heartbeats::an_executive_that_hangs),
    ("every route of every server", reading::every_route_of_every_server),
    ("an ldb that is empty or no database", reading::an_ldb_that_is_empty_or_no_database),
    ("troubles on a server that are put right", shared_server::troubles_that_are_put_right),
    ("queries that run and that wait", queries::queries_that_run_and_that_wait),
    ("more connections than there may be", connecting::more_connections_than_there_may_be),
    ("a request that panics", panicking::a_request_that_panics),
    ("a ledger that is kept short", retention::a_ledger_that_is_kept_short),
    ("a ledger whose snapshot is missing", retention::a_ledger_whose_snapshot_is_missing),
    ("a node that stops", stopping::a_node_that_stops),
];

/// Fields that no event changes: they tell which node and which role this is, and its bounds.
const CONSTANT: [&str; 3] = ["/version", "/role", "/bounds"];

#[test]
fn every_field_and_every_metric_is_moved_by_its_event() {
    let moved = Moved::default();
    thread::scope(|scope| {
        for (name, scenario) in SCENARIOS {
            let moved = &moved;
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, move || scenario(moved)).expect("start a thread");
        }
    });

    let node = Node::new().start();
    let watch = Watch::new(node.ops_url(), &moved);
    watch.wait_ready();
    let of_metrics = metric_names(&node.ops_url()).into_iter().filter(|name| !moved.any(name));
    let is_field = |name: &String| name.starts_with('/') && !CONSTANT.iter().any(|constant| name.ends_with(constant));
    let of_fields = watch.sample().into_keys().filter(is_field).filter(|name| !moved.any(name));
    let unmoved: Vec<String> = of_metrics.chain(of_fields).collect();
    assert!(unmoved.is_empty(), "nothing moves {unmoved:#?}");

    let mut unmoved = Vec::new();
    let mut check = |label: &str, value: &str| {
        if !moved.label(label, value) {
            unmoved.push(format!("{label}=\"{value}\""));
        }
    };
    Component::ALL.iter().for_each(|c| check("component", c.as_str()));
    ErrorKind::ALL.iter().for_each(|k| check("kind", k.as_str()));
    Queue::ALL.iter().for_each(|queue| check("queue", queue.as_str()));
    ExecutionPath::ALL.iter().for_each(|path| check("path", path.as_str()));
    ["passive", "restart", "truncate"].iter().for_each(|mode| check("mode", mode));
    RetryReason::ALL.iter().for_each(|reason| check("reason", reason.as_str()));
    Server::ALL.iter().for_each(|server| check("server", server.as_str()));
    Method::ALL.iter().for_each(|method| check("method", method.as_str()));
    Route::PATTERNS.iter().for_each(|route| check("route", route));
    assert!(unmoved.is_empty(), "nothing moves a series with {unmoved:#?}, but {:#?}", moved.names());
}
