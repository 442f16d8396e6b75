//! The reader library on LDBs that do not change: rows as types, keys, errors, scans, read transactions,
//! and the position of an LDB.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::Duration;

use ctlstore_core::schema::FieldType;
use ctlstore_reader::{Key, ReadError, ReadTransaction, Reader, Value, ValueRef};
use serde::Deserialize;

use support::library::{Written, scratch};

const TABLES: &str = r#"
    CREATE TABLE fam___all ("s" VARCHAR(191), "i" INTEGER, "d" REAL, "t" TEXT, "b" BLOB, "k" BLOB(255), PRIMARY KEY("s"));
    INSERT INTO fam___all VALUES('full', -7, 0.25, 'text', x'00ff', x'0102'), ('empty', NULL, NULL, NULL, NULL, NULL),
        ('nul', 1, 2, x'610062', 'as text', NULL);
    CREATE TABLE fam___pairs ("v" TEXT, "n" INTEGER, "g" VARCHAR(191), PRIMARY KEY("g","n"));
    INSERT INTO fam___pairs VALUES('a', 1, 'x'), ('b', 2, 'x'), ('c', 10, 'x'), ('d', 1, 'y');
    CREATE TABLE fam___bytes ("k" BLOB(255), "v" INTEGER, PRIMARY KEY("k"));
    INSERT INTO fam___bytes VALUES(x'', 0), (x'61', 1), (x'ff00', 2);
    UPDATE _ldb_seq SET seq = 4710"#;

fn filled() -> (tempfile::TempDir, Written, Reader) {
    let (directory, written) = scratch();
    written.apply(TABLES);
    let reader = Reader::open(&written.path).unwrap();
    (directory, written, reader)
}

#[derive(Debug, Deserialize, PartialEq)]
struct All {
    s: String,
    i: Option<i32>,
    d: Option<f64>,
    t: Option<String>,
    b: Option<Vec<u8>>,
    k: Option<[u8; 2]>,
}

#[test]
fn a_row_becomes_a_struct_a_map_a_tuple_or_what_a_type_makes_of_it() {
    let (_directory, _written, reader) = filled();
    let full: All = reader.get("fam", "all", "full").unwrap().unwrap();
    let t = Some("text".into());
    let b = Some(vec![0, 255]);
    assert_eq!(full, All { s: "full".into(), i: Some(-7), d: Some(0.25), t, b, k: Some([1, 2]) });
    let empty: All = reader.get("fam", "all", "empty").unwrap().unwrap();
    assert_eq!(empty, All { s: "empty".into(), i: None, d: None, t: None, b: None, k: None });

    let map: BTreeMap<String, Value> = reader.get("fam", "all", "full").unwrap().unwrap();
    let values: Vec<Value> = map.into_values().collect();
    let bytes = |bytes: &[u8]| Value::Blob(bytes.to_owned());
    assert_eq!(values, [bytes(&[0, 255]), 0.25.into(), (-7_i64).into(), bytes(&[1, 2]), "full".into(), "text".into()]);
    // In a text column bytes are text, since a text with a NUL is stored so. In a column of bytes text is bytes.
    let nul: HashMap<String, Value> = reader.get("fam", "all", "nul").unwrap().unwrap();
    assert_eq!((&nul["t"], &nul["b"]), (&Value::from("a\0b"), &bytes(b"as text")));

    let tuple: (String, u64, char) = reader.get("fam", "pairs", ("x", 2)).unwrap().unwrap();
    assert_eq!(tuple, ("b".to_owned(), 2, 'x'));
    let json: serde_json::Value = reader.get("fam", "pairs", ("x", 2)).unwrap().unwrap();
    assert_eq!(json, serde_json::json!({"v": "b", "n": 2, "g": "x"}));
    assert_eq!(reader.get::<()>("fam", "pairs", ("x", 3)).unwrap(), None);

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Letter {
        A,
        B,
    }
    #[derive(Deserialize)]
    struct Pair {
        #[serde(rename = "v")]
        letter: Letter,
        n: bool,
        #[serde(default)]
        later: Option<String>,
    }
    let pair: Pair = reader.get("fam", "pairs", ("x", 1)).unwrap().unwrap();
    assert!(matches!(pair.letter, Letter::A) && pair.n && pair.later.is_none());
    let error = reader.get::<Pair>("fam", "pairs", ("x", 10)).err().unwrap();
    assert_eq!(error.to_string(), r#"column "v" of table fam___pairs holds another text, wanted one of a, b"#);
    assert!(matches!(Letter::B, Letter::B));
}

#[test]
fn readers_and_scans_go_where_threads_go() {
    fn assert_shared<T: Clone + Send + Sync + 'static>() {}
    fn assert_sent<T: Send + 'static>() {}
    assert_shared::<Reader>();
    assert_sent::<ctlstore_reader::RotatingReader>();
    assert_sent::<ctlstore_reader::Scan<All>>();
}

#[test]
fn what_borrows_from_the_row_is_read_where_it_lies() {
    let (_directory, _written, reader) = filled();
    #[derive(Deserialize)]
    struct Borrowed<'r> {
        t: &'r str,
        b: &'r [u8],
        i: i64,
    }
    let seen = reader.get_with("fam", "all", "full", |row| {
        let whole: Borrowed<'_> = row.deserialize()?;
        let text: &str = row.get("t")?;
        let bytes: &[u8] = row.get("b")?;
        assert_eq!((whole.t.as_ptr(), whole.b.as_ptr()), (text.as_ptr(), bytes.as_ptr()));
        assert_eq!((whole.t, whole.b, whole.i), ("text", &[0, 255][..], -7));
        assert_eq!(row.value("d"), Some(ValueRef::Real(0.25)));
        assert_eq!(row.value("none"), None);
        assert_eq!(row.columns().map(|(name, _)| name).collect::<String>(), "sidtbk");
        Ok(format!("{row:?}"))
    });
    assert!(seen.unwrap().unwrap().contains(r#""t": Text("text")"#));
}

#[test]
fn keys_are_values_tuples_slices_or_made_when_the_program_runs() {
    let (_directory, _written, reader) = filled();
    fn v<T: for<'r> Deserialize<'r>>(reader: &Reader, table: &str, key: impl Key) -> Option<T> {
        reader.get_with("FAM", table, key, |row| row.get("v")).unwrap()
    }
    let pair = |key: Option<String>| assert_eq!(key.as_deref(), Some("b"));
    pair(v(&reader, "pairs", ("x", 2)));
    pair(v(&reader, "pairs", (String::from("x"), 2_u64)));
    pair(v(&reader, "pairs", ["x", "2"]));
    pair(v(&reader, "pairs", &["x".to_owned(), "2".to_owned()][..]));
    pair(v(&reader, "pairs", vec![Value::from("x"), Value::from(2)]));
    pair(v(&reader, "pairs", [ValueRef::Text("x"), ValueRef::Integer(2)]));
    assert_eq!(v::<String>(&reader, "pairs", ("x", None::<i64>)), None);
    assert_eq!(v::<String>(&reader, "pairs", ("x", u64::MAX)), None);
    assert_eq!(v(&reader, "bytes", &[0xff_u8, 0][..]), Some(2));
    assert_eq!(v(&reader, "bytes", ([0xff_u8, 0],)), Some(2));
    assert_eq!(v(&reader, "bytes", vec![0x61_u8]), Some(1));
    assert_eq!(v(&reader, "bytes", "a"), Some(1));
    assert_eq!(v(&reader, "bytes", ""), Some(0));
}

#[test]
fn errors_tell_what_was_wrong_and_where() {
    let (directory, _written, reader) = filled();
    let error = |error: Result<Option<All>, ReadError>| error.unwrap_err();
    let unknown = error(reader.get("fam", "none", "x"));
    assert!(matches!(&unknown, ReadError::UnknownTable(table) if table.sql_name() == "fam___none"), "{unknown}");
    assert!(matches!(error(reader.get("f", "none", "x")), ReadError::Name(_)));
    for wrong in [error(reader.get("fam", "pairs", "x")), error(reader.get("fam", "pairs", ("x", 1, 2)))] {
        assert!(matches!(wrong, ReadError::KeyArity { wanted: 2, got: 1 | 3, .. }), "{wrong}");
    }
    assert!(matches!(error(reader.get("fam", "pairs", ())), ReadError::KeyArity { got: 0, .. }));
    let missing = error(reader.get("fam", "pairs", ("x", 1)));
    assert!(matches!(&missing, ReadError::MissingColumn { column, .. } if column == "s"), "{missing}");

    let wrong_type = |wrong: ReadError| match wrong {
        ReadError::WrongType { column, wanted, found, .. } => (column, found, wanted),
        other => panic!("{other}"),
    };
    let column = |column: &str, found: &str, wanted: &str| (column.into(), found.into(), wanted.into());
    #[derive(Debug, Deserialize)]
    struct Strict<D = f64, I = u8> {
        s: String,
        d: D,
        i: I,
    }
    let strict = reader.get::<Strict<f64, i64>>("fam", "all", "full").unwrap().expect("the row");
    assert_eq!((strict.s.as_str(), strict.i), ("full", -7));
    assert!(strict.d.is_finite());
    let null = reader.get::<Strict>("fam", "all", "empty").unwrap_err();
    assert_eq!(wrong_type(null), column("i", "null", "u8"));
    let range = reader.get::<Strict>("fam", "all", "full").unwrap_err();
    assert_eq!(wrong_type(range), column("i", "the integer -7", "u8"));
    let text = reader.get::<Strict<String, i64>>("fam", "all", "full").unwrap_err();
    assert_eq!(wrong_type(text), column("d", "a real number", "a string"));
    let whole = reader.get::<i64>("fam", "all", "full").unwrap_err();
    assert!(matches!(whole, ReadError::Refused { column: None, .. }), "{whole}");
    assert!(whole.to_string().contains("a row, wanted i64"), "{whole}");
    // No error repeats stored data.
    let message = reader.get_with("fam", "all", "full", |row| row.get::<i64>("t")).unwrap_err().to_string();
    assert_eq!(message, r#"column "t" of table fam___all holds text, wanted i64"#);

    let away = Reader::open(directory.path().join("later.db")).unwrap();
    assert!(matches!(away.last_seq(), Err(ReadError::NotThereYet { .. })));
    assert!(matches!(error(away.get("fam", "all", "x")), ReadError::NotThereYet { .. }));
    std::fs::write(directory.path().join("bad.db"), [b'x'; 4096]).unwrap();
    assert!(matches!(Reader::open(directory.path().join("bad.db")), Err(ReadError::Sqlite(_))));
    Written::at(&directory.path().join("later.db")).apply(TABLES);
    assert!(away.get::<All>("fam", "all", "full").unwrap().is_some(), "it is there now");
}

#[test]
fn a_scan_gives_every_row_once_in_key_order_however_many_pieces_it_takes() {
    let (_directory, written, reader) = filled();
    written.apply(
        r#"CREATE TABLE fam___many ("g" VARCHAR(191), "n" INTEGER, "b" BLOB(255), "v" TEXT, PRIMARY KEY("g","b","n"));
        WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 4999)
        INSERT INTO fam___many SELECT 'g' || (i % 3), i, CAST(i / 10 AS BLOB), printf('%.200d', i) FROM c"#,
    );
    type Row = (String, i64, Vec<u8>, String);
    for (prefix, rows) in [(vec![], 5_000), (vec![Value::from("g1")], 1_667), (vec!["g1".into(), "7".into()], 4)] {
        let scanned: Vec<Row> = reader.scan_prefix("fam", "many", &prefix).map(Result::unwrap).collect();
        assert_eq!(scanned.len(), rows);
        let key = |row: &Row| (row.0.clone(), row.2.clone(), row.1);
        assert!(scanned.windows(2).all(|two| key(&two[0]) < key(&two[1])), "{prefix:?}");
        let within = |s: &ReadTransaction<'_>| s.scan_prefix("fam", "many", &prefix).collect::<Result<Vec<Row>, _>>();
        assert_eq!(reader.read_transaction(within).unwrap(), scanned);
        let mut handed = Vec::new();
        let each = |row: ctlstore_reader::Row<'_>| {
            handed.push(row.deserialize::<Row>()?);
            Ok(ControlFlow::Continue(()))
        };
        reader.read_transaction(|snapshot| snapshot.scan_with("fam", "many", &prefix, each)).unwrap();
        assert_eq!(handed, scanned);
    }
    let whole = reader.scan_prefix::<Row>("fam", "many", ("g1", "7", 73)).map(Result::unwrap);
    assert_eq!(whole.map(|row| row.1).collect::<Vec<_>>(), [73]);
    assert_eq!(reader.scan_prefix::<Row>("fam", "many", ("g1", "7", 74)).count(), 0);
    let mut first = None;
    reader
        .read_transaction(|snapshot| {
            snapshot.scan_with("fam", "many", "g2", |row| {
                assert!(first.replace(row.get::<i64>("n")?).is_none(), "it went on");
                Ok(ControlFlow::Break(()))
            })
        })
        .unwrap();
    assert_eq!(first, Some(2));
}

#[test]
fn a_scan_passes_keys_that_no_scan_can_go_on_from() {
    let (_directory, written, reader) = filled();
    written.apply(
        r#"CREATE TABLE fam___odd ("k" VARCHAR(191), "n" INTEGER, PRIMARY KEY("k"));
        WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 1999)
        INSERT INTO fam___odd SELECT CASE WHEN i < 1500 THEN NULL ELSE printf('%05d', i) END, i FROM c"#,
    );
    let rows = reader.scan_prefix::<(Option<String>, i64)>("fam", "odd", ()).map(|row| row.unwrap().1);
    assert_eq!(rows.collect::<std::collections::BTreeSet<_>>().len(), 2_000);
}

#[test]
fn a_scan_goes_on_through_changes_and_stops_where_it_cannot() {
    let (_directory, written, reader) = filled();
    let rows = "WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 2999)";
    written.apply(&format!(
        r#"CREATE TABLE fam___live ("n" INTEGER, "v" TEXT, PRIMARY KEY("n"));
        {rows} INSERT INTO fam___live SELECT i, 'old' FROM c"#
    ));
    #[derive(Deserialize)]
    struct Live {
        n: i64,
        v: String,
        more: Option<i64>,
    }
    let mut scan = reader.scan_prefix::<Live>("fam", "live", ());
    assert_eq!(scan.next().unwrap().unwrap().v, "old");
    written.apply(r#"ALTER TABLE fam___live ADD COLUMN "more" INTEGER"#);
    written.apply("UPDATE fam___live SET v = 'new', more = n; DELETE FROM fam___live WHERE n % 2 = 1");
    let rest: Vec<Live> = scan.map(Result::unwrap).collect();
    let last = rest.last().unwrap();
    assert_eq!((last.n, last.v.as_str(), last.more), (2998, "new", Some(2998)));
    assert!(rest.windows(2).all(|two| two[0].n < two[1].n));

    let mut scan = reader.scan_prefix::<Live>("fam", "live", ());
    assert!(scan.next().is_some());
    written.apply(
        r#"DROP TABLE fam___live; CREATE TABLE fam___live ("n" INTEGER, "v" TEXT, PRIMARY KEY("n","v"));
        INSERT INTO fam___live VALUES(1, 'other')"#,
    );
    let error = scan.find_map(Result::err);
    assert!(matches!(error, Some(ReadError::KeyChanged { .. })), "{error:?}");
    assert!(scan.next().is_none());
    let mut wrong = reader.scan_prefix::<Live>("fam", "pairs", ("x", 1, 2));
    assert!(matches!(wrong.next(), Some(Err(ReadError::KeyArity { wanted: 2, got: 3, .. }))));
    assert!(wrong.next().is_none());
}

#[test]
fn an_ldb_tells_its_tables_schemas_seq_and_age() {
    let (_directory, written, reader) = filled();
    let names: Vec<String> = reader.tables().unwrap().iter().map(|table| table.sql_name()).collect();
    assert_eq!(names, ["fam___all", "fam___bytes", "fam___pairs"]);
    let schema = reader.schema("fam", "pairs").unwrap();
    let fields: Vec<_> = schema.fields().iter().map(|f| (f.name.as_str(), f.field_type)).collect();
    assert_eq!(fields, [("v", FieldType::Text), ("n", FieldType::Integer), ("g", FieldType::String)]);
    assert_eq!(schema.key_fields().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["g", "n"]);
    assert_eq!(reader.schema("fam", "bytes").unwrap().fields()[0].field_type, FieldType::ByteString);
    assert!(matches!(reader.schema("fam", "none"), Err(ReadError::UnknownTable(_))));
    written.apply(r#"CREATE TABLE fam___odd ("k" JSON, PRIMARY KEY("k"))"#);
    assert!(matches!(reader.schema("fam", "odd"), Err(ReadError::OddTable { .. })));

    assert_eq!(reader.last_seq().unwrap().0, 4712);
    assert_eq!(reader.ledger_latency().unwrap(), None);
    let too_old = |lag| reader.max_lag(lag).get::<()>("fam", "pairs", ("x", 1));
    assert!(matches!(too_old(Duration::MAX), Err(ReadError::TooOld { lag: None, .. })));
    let an_hour_ago = "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', '-1 hour')";
    written.apply(&format!("INSERT INTO _ldb_last_update VALUES('ledger', {an_hour_ago})"));
    let latency = reader.ledger_latency().unwrap().unwrap();
    assert!((3_600..3_700).contains(&latency.as_secs()), "{latency:?}");
    let error = too_old(Duration::from_secs(3_599)).unwrap_err();
    assert!(matches!(error, ReadError::TooOld { lag: Some(_), .. }), "{error}");
    assert_eq!(too_old(Duration::from_secs(3_700)).unwrap(), Some(()));
}
