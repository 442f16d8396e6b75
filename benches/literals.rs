//! How fast values become literals of the ledger, and statements of the ledger
//! become values again. No I/O.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ctlstore_core::schema::FieldValue;
use ctlstore_core::sql::{parse, push_literal};

fn values() -> Vec<(&'static str, FieldValue)> {
    vec![
        ("integer", FieldValue::Integer(-1_234_567_890_123)),
        ("real", FieldValue::Real(12_345.678_901_234)),
        ("text of 100 bytes", FieldValue::Text("abcdefghij".repeat(10))),
        ("text of 100 quotes", FieldValue::Text("'".repeat(100))),
        ("blob of 100 bytes", FieldValue::Blob((0..100).collect())),
        ("text of 100,000 bytes", FieldValue::Text("abcdefghij".repeat(10_000))),
    ]
}

fn statements() -> [(&'static str, String); 4] {
    let upsert = r#"REPLACE INTO fam___tab ("id","n","r","v","b") VALUES("#;
    let (text, hex) = ("abcdefghij".repeat(10_000), "00ff".repeat(4));
    [
        ("upsert of 5 columns", format!("{upsert}'key-00000000000000000042',42,0.125,'{:064}',x'{hex}')", 42)),
        ("upsert with quotes", format!("{upsert}'it''s','',0.5,'{}',x'')", "''".repeat(32))),
        ("upsert of 100,000 bytes", format!("{upsert}'key',42,0.125,'{text}',x'{hex}')")),
        ("delete", r#"DELETE FROM fam___tab WHERE "id" = 'key-00000000000000000042'"#.to_owned()),
    ]
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write literal");
    for (name, value) in values() {
        let mut out = String::new();
        push_literal(&mut out, &value);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &value, |bencher, value| {
            bencher.iter(|| {
                out.clear();
                push_literal(&mut out, black_box(value));
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, statement) in statements() {
        group.throughput(Throughput::Bytes(statement.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &statement, |bencher, statement| {
            bencher.iter(|| black_box(parse(black_box(statement))));
        });
    }
    group.finish();
}

criterion_group!(benches, write, read);
criterion_main!(benches);
