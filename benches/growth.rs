//! What becomes of apply and of reads as a table grows: random upserts in commits of
//! 10,000 with the changelog, and point reads by the library, at each size. Prints a table;
//! `cargo bench --bench growth -- FILE` also draws it as SVG.
//!
//! By the clock, and by the CPU time of the thread, which other programs disturb less.
//! The file that is filled, of about 800 MB, goes to the temporary directory (`TMPDIR`).

mod ldb_support;

use std::fmt::Write;
use std::hint::black_box;

use ctlstore_core::ledger::Seq;
use ctlstore_ldb::Ldb;
use ctlstore_reader::Reader;
use ldb_support::{Beside, Row, apply, batches, fresh_ldb, measure, median, random};
use serde::Deserialize;

const SIZES: [usize; 5] = [100_000, 300_000, 1_000_000, 2_500_000, 5_000_000];
const COMMIT: usize = 10_000;
/// Upserts, and reads, of one round.
const OPERATIONS: usize = 20_000;
const ROUNDS: usize = 5;

#[derive(Deserialize)]
struct Read {
    id: String,
    n: i64,
    v: String,
}

/// Medians at one size: operations per second by the clock and by CPU time.
struct Figures {
    rows: usize,
    megabytes: u64,
    applied: [f64; 2],
    read: [f64; 2],
}

/// Rows `from` to `to`, each commit in the order of its keys.
fn grow(ldb: &mut Ldb, seq: &mut Seq, from: usize, to: usize) {
    let mut keys: Vec<u64> = (from..to).map(random).collect();
    // In the order of the key, since only then does it not take as long as all the rest.
    keys.sort_unstable();
    for chunk in keys.chunks(COMMIT) {
        let rows: Vec<_> = chunk.iter().map(|key| Row::new(*key, *key)).collect();
        apply(ldb, &batches(&rows, COMMIT, seq));
    }
}

fn rates(mut round: impl FnMut(usize)) -> [f64; 2] {
    let took: Vec<_> = (0..ROUNDS).map(|i| measure(|| round(i))).collect();
    let rate = |seconds: Vec<f64>| OPERATIONS as f64 / median(seconds);
    [
        rate(took.iter().map(|took| took.elapsed.as_secs_f64()).collect()),
        rate(took.iter().map(|took| took.cpu.as_secs_f64()).collect()),
    ]
}

fn figures(ldb: &mut Ldb, seq: &mut Seq, rows: usize) -> Figures {
    let some = |round: usize, i: usize| random(random(round * OPERATIONS + i) as usize % rows);
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|round| {
            let rows: Vec<_> = (0..OPERATIONS).map(|i| Row::new(some(round, i), random(i))).collect();
            batches(&rows, COMMIT, seq)
        })
        .collect();
    let applied = rates(|round| apply(ldb, &std::mem::take(&mut rounds[round])));
    let reader = Reader::open(ldb.path()).expect("the ldb is read");
    let keys: Vec<String> = (0..OPERATIONS).map(|i| Row::new(some(0, i), 0).id).collect();
    let read = rates(|_| {
        for key in &keys {
            let row = reader.get::<Read>("fam", "tab", key.as_str()).expect("the ldb is read").expect("there is a row");
            black_box((row.id, row.n, row.v));
        }
    });
    let megabytes = std::fs::metadata(ldb.file()).map_or(0, |file| file.len() / 1_000_000);
    Figures { rows, megabytes, applied, read }
}

/// Rates above sizes, both axes logarithmic.
fn draw(figures: &[Figures]) -> String {
    const W: f64 = 640.0;
    const H: f64 = 360.0;
    const LEFT: f64 = 80.0;
    const BOTTOM: f64 = 320.0;
    let x = |rows: f64| LEFT + (rows.log10() - 5.0) / 1.7 * (W - LEFT - 20.0);
    let y = |rate: f64| BOTTOM - (rate.log10() - 3.0) / 3.0 * (BOTTOM - 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {H}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{W}\" height=\"{H}\" fill=\"white\"/>\n"
    );
    let text = |svg: &mut String, x: f64, y: f64, anchor: &str, text: &str| {
        _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    for (rate, label) in [(1e3, "1,000/s"), (1e4, "10,000/s"), (1e5, "100,000/s"), (1e6, "1,000,000/s")] {
        let at = y(rate);
        _ = writeln!(svg, "<path d=\"M{LEFT} {at:.0}H{:.0}\" stroke=\"#ddd\"/>", W - 20.0);
        text(&mut svg, LEFT - 8.0, at + 4.0, "end", label);
    }
    for (rows, label) in [(1e5, "100,000 rows"), (1e6, "1 million"), (5e6, "5 million")] {
        text(&mut svg, x(rows), BOTTOM + 20.0, if rows > 2e6 { "end" } else { "middle" }, label);
    }
    type Rate = fn(&Figures) -> f64;
    let lines: [(Rate, &str, &str, &str); 4] = [
        (|f| f.read[1], "#1b6ca8", "", "point reads, by CPU time"),
        (|f| f.read[0], "#1b6ca8", "4", "point reads, by the clock"),
        (|f| f.applied[1], "#b8402a", "", "random upserts applied, by CPU time"),
        (|f| f.applied[0], "#b8402a", "4", "random upserts applied, by the clock"),
    ];
    for (i, (rate, colour, dashes, label)) in lines.into_iter().enumerate() {
        let points: Vec<String> =
            figures.iter().map(|f| format!("{:.1},{:.1}", x(f.rows as f64), y(rate(f)))).collect();
        let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        _ = writeln!(svg, "<polyline points=\"{}\" {style}/>", points.join(" "));
        let at = 40.0 + 16.0 * i as f64;
        _ = writeln!(svg, "<path d=\"M{} {}h24\" {style}/>", W - 280.0, at - 4.0);
        text(&mut svg, W - 250.0, at, "start", label);
    }
    svg + "</svg>\n"
}

fn main() {
    let (_directory, mut ldb) = fresh_ldb(Beside::Changelog);
    let (mut seq, mut from, mut all) = (Seq(1), 0, Vec::new());
    println!("| rows | LDB | upserts/s | by CPU | reads/s | by CPU |\n| --- | --- | --- | --- | --- | --- |");
    for rows in SIZES {
        grow(&mut ldb, &mut seq, from, rows);
        from = rows;
        let at = figures(&mut ldb, &mut seq, rows);
        let ([applied, applied_cpu], [read, read_cpu]) = (at.applied, at.read);
        println!("| {rows} | {} MB | {applied:.0} | {applied_cpu:.0} | {read:.0} | {read_cpu:.0} |", at.megabytes);
        all.push(at);
    }
    if let Some(file) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        std::fs::write(&file, draw(&all)).expect("the drawing is written");
    }
}
