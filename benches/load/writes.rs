//! The executive with eight writers, against one connection straight to the same
//! kind of database. Interleaved, so that both meet the same disk.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Load, address, load, median, send_all};
use super::data::{self, WRITERS};
use super::direct::{Direct, autocommit, multi_row, one_by_one};
use super::report::Report;
use super::support::Node;

const ROUND: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;
/// Rows that are written over and over; the tables stay small.
const ROWS: usize = 8_000;

/// Each writer's requests of `size` mutations, over rows of its own.
fn requests(size: usize) -> Arc<Vec<Vec<Vec<u8>>>> {
    let share = ROWS / WRITERS;
    let of_writer = |w: usize| {
        (0..share / size).map(|i| w * share + i * size).map(|i| data::write_points(w, i..i + size)).collect()
    };
    Arc::new((0..WRITERS).map(of_writer).collect())
}

/// `ours` and `theirs` are two empty databases on the same server or disk.
pub async fn measure(report: &mut Report, kind: &str, ours: &str, theirs: &str) {
    let node = super::roomy(Node::new()).roles(&["executive"]).ctldb(ours).start();
    let url = node.executive_url();
    let executive = address(&url);
    send_all(executive, &data::schema(), 1).await;
    let mut direct = Direct::open(theirs).await;
    let (hundreds, singles) = (requests(100), requests(1));
    let references = [multi_row(100, ROWS), multi_row(800, ROWS), one_by_one(ROWS), autocommit(ROWS)];

    let (mut by_hundreds, mut one_at_a_time, mut rates) = (Vec::new(), Vec::new(), [const { Vec::new() }; 4]);
    for _ in 0..ROUNDS {
        by_hundreds.push(load(executive, WRITERS, &hundreds, 200, ROUND).await);
        one_at_a_time.push(load(executive, WRITERS, &singles, 200, ROUND).await);
        for (units, rates) in references.iter().zip(&mut rates) {
            rates.push(direct.rate(units, ROUND).await);
        }
    }
    let [by_100, by_800, plain, autocommit] = rates.map(|mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    tell(report, kind, median(by_hundreds), median(one_at_a_time), (by_100 * 100.0, by_800 * 800.0), plain);
    report.figure(&format!("{kind}, one connection, autocommit INSERT"), format!("{autocommit:.0} rows/s"), "");
}

fn tell(report: &mut Report, kind: &str, hundreds: Load, singles: Load, ceiling: (f64, f64), plain: f64) {
    let rows = hundreds.per_second * 100.0;
    let what = format!("{kind}, 8 writers × 100 mutations");
    report.ratio(&what, rows, ("multi-row, commits of 100", ceiling.0), "rows/s", "≥ 0.4");
    report.ratio(&what, rows, ("multi-row, commits of 800", ceiling.1), "rows/s", "≥ 0.4");
    let what = format!("{kind}, 8 writers × 1 mutation");
    report.ratio(&what, singles.per_second, ("a transaction each, statement by statement", plain), "req/s", "≥ 5");
    for (what, load) in [("100 mutations", hundreds), ("1 mutation", singles)] {
        report.figure(
            &format!("{kind}, 8 writers × {what}, p50 / p99"),
            format!("{:.1?} / {:.1?}", load.p50, load.p99),
            "",
        );
    }
}
