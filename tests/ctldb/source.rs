//! The ledger of every kind of ctldb, read as the reflector reads it.

use std::time::{Duration, Instant};

use ctlstore_core::ledger::{Block, BlockLimit, LedgerInfo, LedgerSource, Seq, SourceError};
use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::{AnySource, Ctldb, LedgerTable, Location};
use support::ctldb::*;
use support::{Flavour, PrivateServer, TestDatabase, every_ctldb};

const PLENTY: BlockLimit = BlockLimit { rows: 10_000, bytes: 64 << 20 };

fn source_at(url: &str) -> AnySource {
    named_source(url, LedgerTable::default())
}

fn named_source(url: &str, ledger: LedgerTable) -> AnySource {
    AnySource::new(&Location::parse(url).unwrap(), ledger, Duration::from_secs(10)).unwrap()
}

async fn read(source: &mut AnySource, after: i64, limit: BlockLimit) -> Block {
    source.read(Seq(after), None, limit).await.unwrap()
}

/// Reads from the start. Tries again while the server needs longer than the source waits.
async fn read_in_time(source: &mut AnySource) -> Block {
    let deadline = soon();
    loop {
        match source.read(Seq(0), None, PLENTY).await {
            Ok(block) => return block,
            Err(error) => assert!(Instant::now() < deadline, "still {error}"),
        }
    }
}

fn seqs(block: &Block) -> Vec<i64> {
    block.rows.iter().map(|row| row.seq.0).collect()
}

/// A prepared ctldb whose ledger has these statements.
async fn filled(database: &TestDatabase, statements: Vec<String>) {
    let ctldb = prepared(database).await;
    if !statements.is_empty() {
        write(&ctldb, vec![Step::Append(statements)]).await;
    }
    ctldb.close().await;
}

#[tokio::test]
async fn rows_come_in_order_with_their_time_and_text() {
    for (name, database) in every_ctldb() {
        let before = Timestamp::now();
        let statements = ["--- BEGIN", "REPLACE INTO f___t (\"a\") VALUES('ä''\u{1f600}\\')", "--- COMMIT"];
        filled(&database, statements.map(str::to_owned).to_vec()).await;
        let mut source = source_at(&database.url);
        let block = read(&mut source, 0, PLENTY).await;
        assert_eq!(seqs(&block), [1, 2, 3], "{name}");
        assert!(block.at_end, "{name}");
        assert_eq!(block.rows.iter().map(|row| row.statement.as_str()).collect::<Vec<_>>(), statements, "{name}");
        // SQLite's clock has milliseconds.
        let second = Duration::from_secs(1).as_micros() as i64;
        let written = block.rows[0].leader_ts.unwrap().unix_micros();
        let span = before.unix_micros() - second..=Timestamp::now().unix_micros() + second;
        assert!(span.contains(&written), "{name}: {written} is not in {span:?}");
        assert_eq!(seqs(&read(&mut source, 2, PLENTY).await), [3], "{name}");
        let block = read(&mut source, 3, PLENTY).await;
        assert!(block.rows.is_empty() && block.at_end, "{name}");
    }
}

#[tokio::test]
async fn blocks_keep_to_rows_bytes_and_range() {
    for (name, database) in every_ctldb() {
        filled(&database, (1..=50).map(|i| format!("{i:0100}")).collect()).await;
        database.query("DELETE FROM ctlstore_dml_ledger WHERE seq IN (3, 4, 5)");
        let mut source = source_at(&database.url);
        let block = read(&mut source, 0, BlockLimit { rows: 4, bytes: 1 << 20 }).await;
        assert_eq!(seqs(&block), [1, 2, 6, 7], "{name}");
        assert!(!block.at_end, "{name}");
        // The row that passes the limit is still part of it.
        let block = read(&mut source, 7, BlockLimit { rows: 100, bytes: 250 }).await;
        assert_eq!(seqs(&block), [8, 9, 10], "{name}");
        assert!(!block.at_end, "{name}");
        let block = read(&mut source, 10, BlockLimit { rows: 100, bytes: 0 }).await;
        assert_eq!(seqs(&block), [11], "{name}");
        let block = source.read(Seq(1), Some(Seq(6)), PLENTY).await.unwrap();
        assert_eq!(seqs(&block), [2, 6], "{name}");
        assert!(!block.at_end, "{name}: what stands behind a range is not known");
        // After small blocks, a later large block is still read to its end.
        let mut after = 11;
        while after < 50 {
            let block = read(&mut source, after, PLENTY).await;
            assert_eq!(block.rows[0].seq, Seq(after + 1), "{name}");
            after = block.rows.last().unwrap().seq.0;
        }
        assert!(read(&mut source, 50, PLENTY).await.at_end, "{name}");
    }
}

#[tokio::test]
async fn large_rows_are_read_whole_and_few_at_a_time() {
    for (name, database) in every_ctldb() {
        let statements: Vec<String> = (0..40).map(|i| format!("{i} {}", "x".repeat(700_000))).collect();
        filled(&database, statements.clone()).await;
        let mut source = source_at(&database.url);
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let block = read(&mut source, after, BlockLimit { rows: 1_000, bytes: 2_000_000 }).await;
            assert!(block.rows.len() <= 3, "{name}: {} rows", block.rows.len());
            after = block.rows.last().map_or(after, |row| row.seq.0);
            found.extend(block.rows.into_iter().map(|row| row.statement));
            if block.at_end {
                break;
            }
        }
        assert!(found == statements, "{name}: not the statements that were written");
    }
}

#[tokio::test]
async fn a_ledger_is_described() {
    for (name, database) in every_ctldb() {
        filled(&database, vec![]).await;
        let id = database.value("SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'");
        let empty = LedgerInfo { ledger_id: id, ..LedgerInfo::default() };
        let mut source = source_at(&database.url);
        assert_eq!(source.describe().await.unwrap(), empty, "{name}");

        let create = "CREATE TABLE f___t (\"a\" INTEGER, PRIMARY KEY(\"a\"));";
        filled(&database, vec![create.into(), "x".into(), "y".into()]).await;
        let full = LedgerInfo { first: Some(Seq(1)), first_creates_table: true, last: Some(Seq(3)), ..empty.clone() };
        assert_eq!(source.describe().await.unwrap(), full, "{name}");

        database.query("INSERT INTO ctlstore_meta (name, value) VALUES ('low_water_seq', '2')");
        database.query("DELETE FROM ctlstore_dml_ledger WHERE seq = 1");
        let pruned = LedgerInfo { first: Some(Seq(2)), first_creates_table: false, low_water: Some(Seq(2)), ..full };
        assert_eq!(source.describe().await.unwrap(), pruned, "{name}");

        // The original's ctldb has no such table.
        database.query("DROP TABLE ctlstore_meta");
        let originals = LedgerInfo { ledger_id: None, low_water: None, ..pruned };
        assert_eq!(source.describe().await.unwrap(), originals, "{name}");
    }
}

#[tokio::test]
async fn a_pruned_ledger_goes_on_with_its_numbers() {
    on_every_ctldb(async |ctldb, database| {
        write(ctldb, vec![Step::Append(vec!["a".into(), "b".into()])]).await;
        database.query("INSERT INTO ctlstore_meta (name, value) VALUES ('low_water_seq', '3')");
        database.query("DELETE FROM ctlstore_dml_ledger");
        assert_eq!(write(ctldb, vec![Step::Append(vec!["c".into()])]).await[0].number(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_ledger_that_is_not_there_is_named() {
    for (name, database) in every_ctldb() {
        let mut source = named_source(&database.url, LedgerTable::new("other_ledger").unwrap());
        if !database.is_mysql() {
            // There is no file yet.
            let error = source.describe().await.unwrap_err();
            assert!(matches!(error, SourceError::Unavailable(_)), "{name}: {error}");
        }
        filled(&database, vec![]).await;
        for error in [source.describe().await.err(), source.read(Seq(0), None, PLENTY).await.err()].map(Option::unwrap)
        {
            assert!(matches!(&error, SourceError::NoLedger(table) if table == "other_ledger"), "{name}: {error}");
        }
        database.query("CREATE TABLE other_ledger (seq INTEGER PRIMARY KEY, leader_ts TEXT, statement TEXT)");
        database.query("INSERT INTO other_ledger VALUES (7, '2026-01-02 03:04:05', 'x')");
        let block = read(&mut source, 0, PLENTY).await;
        assert_eq!(seqs(&block), [7], "{name}");
        assert_eq!(block.rows[0].leader_ts, Timestamp::parse("2026-01-02 03:04:05"), "{name}");
    }
}

#[tokio::test]
async fn times_of_other_writers_are_read_and_nonsense_is_named() {
    for (name, database) in every_ctldb() {
        filled(&database, vec![]).await;
        database.query("CREATE TABLE other (seq INTEGER PRIMARY KEY, leader_ts VARCHAR(40), statement TEXT)");
        database
            .query("INSERT INTO other VALUES (1, NULL, 'a'), (2, '2026-01-02 03:04:05.678', 'b'), (3, 'noon', 'c')");
        let mut source = named_source(&database.url, LedgerTable::new("other").unwrap());
        let block = source.read(Seq(0), Some(Seq(2)), PLENTY).await.unwrap();
        let times: Vec<_> = block.rows.iter().map(|row| row.leader_ts).collect();
        assert_eq!(times, [None, Timestamp::parse("2026-01-02 03:04:05.678")], "{name}");
        let error = source.read(Seq(2), None, PLENTY).await.unwrap_err();
        assert!(matches!(error, SourceError::BadRow { seq: Seq(3), .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn times_are_utc_wherever_the_server_is() {
    let server = PrivateServer::start_with(Flavour::MariaDb, &["--default-time-zone=+05:00"]);
    server.execute("CREATE DATABASE test");
    let ctldb = prepared_at(&server.url("test")).await;
    write(&ctldb, vec![Step::Append(vec!["x".into()])]).await;
    let block = read(&mut source_at(&server.url("test")), 0, PLENTY).await;
    let age = block.rows[0].leader_ts.unwrap().age_at(Timestamp::now());
    let ahead = Timestamp::now().age_at(block.rows[0].leader_ts.unwrap());
    assert!(age.max(ahead) < Duration::from_secs(3_600), "off by {age:?} or {ahead:?}");
}

#[tokio::test]
async fn a_server_that_goes_away_or_hangs_is_unavailable_until_it_is_back() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE test");
    let url = server.url("test");
    let ctldb = prepared_at(&url).await;
    write(&ctldb, vec![Step::Append(vec!["x".into()])]).await;
    ctldb.close().await;
    let location = Location::parse(&url).unwrap();
    let mut source = AnySource::new(&location, LedgerTable::default(), Duration::from_secs(2)).unwrap();
    assert_eq!(seqs(&read_in_time(&mut source).await), [1]);

    server.signal(libc::SIGSTOP);
    let error = source.read(Seq(0), None, PLENTY).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    server.signal(libc::SIGCONT);
    assert_eq!(seqs(&read_in_time(&mut source).await), [1]);

    server.stop();
    let error = source.read(Seq(0), None, PLENTY).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    let error = source.describe().await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    server.start_again();
    assert_eq!(seqs(&read_in_time(&mut source).await), [1]);

    source.close().await;
    assert_eq!(seqs(&read_in_time(&mut source).await), [1]);
}

#[tokio::test]
async fn an_sqlite_ctldb_is_read_while_it_is_written() {
    let database = support::sqlite();
    let ctldb = prepared(&database).await;
    let mut source = source_at(&database.url);
    for round in 1..=20 {
        write(&ctldb, vec![Step::Append(vec!["x".into(), "y".into()])]).await;
        assert_eq!(source.describe().await.unwrap().last, Some(Seq(2 * round)));
        assert_eq!(seqs(&read(&mut source, 2 * round - 2, PLENTY).await), [2 * round - 1, 2 * round]);
    }
}

#[tokio::test]
async fn another_file_at_the_path_is_another_ledger() {
    let (database, other) = (support::sqlite(), support::sqlite());
    filled(&database, vec!["old".into()]).await;
    filled(&other, vec!["new".into(), "new".into()]).await;
    let mut source = source_at(&database.url);
    assert_eq!(source.describe().await.unwrap().last, Some(Seq(1)));
    let path = |database: &TestDatabase| database.url.strip_prefix("sqlite:").unwrap().to_owned();
    for part in ["-wal", "-shm"] {
        std::fs::remove_file(path(&database) + part).unwrap();
    }
    std::fs::remove_file(path(&database)).unwrap();
    let error = source.describe().await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    std::fs::rename(path(&other), path(&database)).unwrap();
    assert_eq!(source.describe().await.unwrap().last, Some(Seq(2)));
}

#[test]
fn ledger_tables_are_plain_names() {
    for bad in ["", "a b", "1ledger", "led\"ger", "a.b", "ä", &"x".repeat(65), "Families", "fam___tab", "sqlite_x"] {
        assert!(LedgerTable::new(bad).is_err(), "{bad:?} was taken");
    }
    assert_eq!(LedgerTable::new("My_ledger2").unwrap().as_str(), "My_ledger2");
}
