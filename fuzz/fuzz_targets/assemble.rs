//! Feeds any sequence of ledger rows to the assembler. It must refuse them or group them into batches
//! that have every row once, in order, and only whole transactions.
#![no_main]

use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_core::sql::{BEGIN, COMMIT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|steps: Vec<u8>| {
    let mut assembler = Assembler::after(Seq::ZERO);
    let mut seq = 0i64;
    let mut pushed = Vec::new();
    let mut taken = Vec::new();
    for step in steps {
        // Two bits choose the statement, the others how far the seq advances. It may go back by one.
        seq += i64::from(step >> 2) - 1;
        let statement = match step & 3 {
            0 => BEGIN,
            1 => COMMIT,
            _ => "DELETE FROM fam___tab",
        };
        let row = LedgerRow { seq: Seq(seq), leader_ts: None, statement: statement.to_owned() };
        if assembler.push(row).is_err() {
            break;
        }
        pushed.push(seq);
        if step & 3 == 3
            && let Some(batch) = assembler.take_complete()
        {
            let statements = batch.rows().iter().map(|row| row.statement.as_str());
            let depth = statements.fold(0, |depth, statement| match statement {
                BEGIN => depth + 1,
                COMMIT => depth - 1,
                _ => depth,
            });
            assert_eq!(depth, 0);
            taken.extend(batch.rows().iter().map(|row| row.seq.0));
        }
    }
    assert!(pushed.starts_with(&taken));
});
