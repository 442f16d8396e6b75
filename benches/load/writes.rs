//! The executive with eight writers, against connections straight to the same kind of
//! database. Interleaved, so that both meet the same disk.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Load, address, load, median, send_all};
use super::commits::Commits;
use super::data::{self, WRITERS, WRITTEN_ROWS, roomy, share};
use super::direct::{Direct, autocommit, multi_row, one_by_one, rate_of_all};
use super::plain;
use super::report::Report;
use support::{Node, NodeProcess};

const ROUND: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 5;

/// Rows per second that the original's executive took from 8 writers with 100 mutations a
/// request, on another machine of this kind. What autocommit INSERT gave there is not on
/// record, so it stands beside our figure and scales nothing.
const ORIGINAL: f64 = 2_565.0;

/// Each writer's requests of `size` mutations, over rows of its own.
pub fn requests(size: usize) -> Arc<Vec<Vec<Vec<u8>>>> {
    let of_writer = |w: usize| share(w).step_by(size).map(|i| data::write_points(w, i..i + size)).collect();
    Arc::new((0..WRITERS).map(of_writer).collect())
}

/// The median.
pub fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// One kind of load on the executive, with what its commits were like.
#[derive(Default)]
struct Ours {
    loads: Vec<Load>,
    commits: Commits,
}

impl Ours {
    async fn round(&mut self, node: &NodeProcess, server: Option<u32>, requests: &Arc<Vec<Vec<Vec<u8>>>>) {
        let (url, before) = (node.executive_url(), Commits::so_far(node, server));
        self.loads.push(load(address(&url), WRITERS, requests, 200, ROUND).await);
        self.commits += Commits::so_far(node, server) - before;
    }

    fn tell(self, report: &mut Report, what: &str) -> Load {
        let load = median(self.loads);
        report.figure(&format!("{what}, p50 / p99"), format!("{:.1?} / {:.1?}", load.p50, load.p99), "");
        report.figure(&format!("{what}, each commit"), self.commits.to_string(), "");
        load
    }
}

/// `ours` and `theirs` are two empty databases on the same disk, or on the same server,
/// whose process `server` is.
pub async fn measure(report: &mut Report, kind: &str, ours: &str, theirs: &str, server: Option<u32>) {
    let node = roomy(Node::new()).roles(&["executive"]).ctldb(ours).start();
    send_all(address(&node.executive_url()), &data::schema(), 1).await;
    let mut direct = Direct::open(theirs).await;
    direct.add_writers(WRITERS).await;
    let mut eight = Vec::new();
    for _ in (0..WRITERS).filter(|_| server.is_some()) {
        eight.push(Direct::join(theirs).await);
    }
    let (hundreds, singles) = (requests(100), requests(1));
    let units: Vec<_> = (0..WRITERS).map(|writer| Arc::new(one_by_one(writer, share(writer)))).collect();
    let references = [
        multi_row(100, WRITTEN_ROWS),
        multi_row(800, WRITTEN_ROWS),
        one_by_one(0, 0..WRITTEN_ROWS),
        autocommit(WRITTEN_ROWS),
    ];

    let (mut by_hundreds, mut one_at_a_time) = (Ours::default(), Ours::default());
    let (mut rates, mut rates_of_eight, mut by_plain) = ([const { Vec::new() }; 4], Vec::new(), Vec::new());
    let plain = server.map(|_| plain::start(theirs));
    for _ in 0..ROUNDS {
        by_hundreds.round(&node, server, &hundreds).await;
        one_at_a_time.round(&node, server, &singles).await;
        if server.is_some() {
            rates_of_eight.push(rate_of_all(&mut eight, &units, ROUND).await);
        }
        if let Some(plain) = &plain {
            by_plain.push(load(&plain.address, WRITERS, &singles, 200, ROUND).await);
        }
        for (units, rates) in references.iter().zip(&mut rates) {
            rates.push(direct.rate(units, ROUND).await);
        }
    }
    let [by_100, by_800, one_connection, autocommit] = rates.map(middle);
    let what = format!("{kind}, 8 writers × 100 mutations");
    let rows = by_hundreds.tell(report, &what).per_second * 100.0;
    report.ratio(&what, rows, ("multi-row, commits of 100", by_100 * 100.0), "rows/s", "≥ 0.4");
    report.ratio(&what, rows, ("multi-row, commits of 800", by_800 * 800.0), "rows/s", "≥ 0.4");
    if server.is_some() {
        report.figure(
            &format!("{what}, of the original's {ORIGINAL} rows/s"),
            format!("{:.1}", rows / ORIGINAL),
            "≥ 8",
        );
    }
    let what = format!("{kind}, 8 writers × 1 mutation");
    let singles = one_at_a_time.tell(report, &what).per_second;
    if server.is_some() {
        let plain = ("an executive with a transaction a request, statement by statement", median(by_plain).per_second);
        report.ratio(&what, singles, plain, "req/s", "≥ 5");
        let eight = ("the same statements without HTTP, 8 connections", middle(rates_of_eight));
        report.ratio(&what, singles, eight, "req/s", "≥ 5, read strictly");
    }
    report.ratio(&what, singles, ("the same, one connection", one_connection), "req/s", "");
    report.figure(&format!("{kind}, one connection, autocommit INSERT"), format!("{autocommit:.0} rows/s"), "");
}
