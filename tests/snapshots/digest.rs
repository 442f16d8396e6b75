//! A table's digest: the same for the same content, however it was written, and another one
//! after any change.

use ctlstore_ldb::snapshot::{TableHasher, digests};
use proptest::prelude::*;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use sha2::{Digest, Sha256};

const COLUMNS: [(&str, &str); 5] =
    [("k", "VARCHAR(191)"), ("i", "INTEGER"), ("r", "REAL"), ("t", "TEXT"), ("b", "BLOB")];

type Row = Vec<Value>;

fn row(key: String) -> impl Strategy<Value = Row> {
    let null = || Just(Value::Null);
    let real = any::<f64>().prop_filter("a column holds no NaN", |real| !real.is_nan());
    (
        prop_oneof![any::<i64>().prop_map(Value::Integer), null()],
        prop_oneof![real.prop_map(Value::Real), null()],
        prop_oneof![".{0,8}".prop_map(Value::Text), null()],
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Blob), null()],
    )
        .prop_map(move |(i, r, t, b)| vec![Value::Text(key.clone()), i, r, t, b])
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::hash_set("[a-c ]{0,3}", 1..8)
        .prop_flat_map(|keys| keys.into_iter().map(row).collect::<Vec<_>>())
}

fn database(rows: &[Row]) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    let columns: Vec<String> = COLUMNS.iter().map(|(name, declared)| format!("\"{name}\" {declared}")).collect();
    connection.execute_batch(&format!("CREATE TABLE fam___tab ({}, PRIMARY KEY(\"k\"))", columns.join(","))).unwrap();
    for row in rows {
        connection.execute("REPLACE INTO fam___tab VALUES (?,?,?,?,?)", params_from_iter(row)).unwrap();
    }
    connection
}

fn digest(connection: &Connection) -> (u64, String) {
    let mut tables = digests(connection).unwrap();
    assert_eq!(tables.len(), 1);
    let table = tables.remove(0);
    assert_eq!(table.name, "fam___tab");
    (table.rows, table.digest)
}

/// The documented form, computed in another way: a sum of byte columns.
fn by_the_book(rows: &[Row]) -> String {
    let value = |value: &Value| -> Vec<u8> {
        let long = |tag: u8, bytes: &[u8]| [&[tag], &(bytes.len() as u64).to_be_bytes()[..], bytes].concat();
        match value {
            Value::Null => vec![0],
            Value::Integer(integer) => [&[1], &integer.to_be_bytes()[..]].concat(),
            Value::Real(real) if *real == 0.0 => vec![2, 0, 0, 0, 0, 0, 0, 0, 0],
            Value::Real(real) => [&[2], &real.to_be_bytes()[..]].concat(),
            Value::Text(text) => long(3, text.as_bytes()),
            Value::Blob(bytes) => long(4, bytes),
        }
    };
    let mut sum = [0_u8; 32];
    for row in rows {
        let hash = Sha256::digest(row.iter().flat_map(value).collect::<Vec<u8>>());
        let mut carry = 0;
        for (place, byte) in sum.iter_mut().zip(hash.iter()).rev() {
            let added = u16::from(*place) + u16::from(*byte) + carry;
            (*place, carry) = ((added & 0xff) as u8, added >> 8);
        }
    }
    let mut all = b"ctlstore table 1\0".to_vec();
    all.extend(5_u64.to_be_bytes());
    all.extend(COLUMNS.iter().flat_map(|(name, _)| value(&Value::Text((*name).to_owned()))));
    all.extend((rows.len() as u64).to_be_bytes());
    all.extend(sum);
    hex::encode(Sha256::digest(all))
}

proptest! {
    #[test]
    fn a_digest_is_of_the_rows_and_not_of_the_way_there(rows in rows()) {
        let plain = digest(&database(&rows));
        prop_assert_eq!(&plain, &(rows.len() as u64, by_the_book(&rows)));
        let mut reversed = rows.clone();
        reversed.reverse();
        // Each row is written, removed, and written again.
        let other = database(&reversed);
        other.execute_batch("CREATE INDEX i ON fam___tab (i, r, t, b, k); DELETE FROM fam___tab").unwrap();
        for row in &reversed {
            other.execute("INSERT INTO fam___tab VALUES (?,?,?,?,?)", params_from_iter(row)).unwrap();
        }
        prop_assert_eq!(&plain, &digest(&other));
        let mut hasher = TableHasher::new(COLUMNS);
        reversed.iter().flatten().for_each(|value| hasher.value(ValueRef::from(value)));
        prop_assert_eq!(plain.1, hex::encode(hasher.finish()));
    }

    #[test]
    fn any_one_change_gives_another_digest(rows in rows(), at in any::<prop::sample::Index>(), column in 0..5_usize) {
        let before = digest(&database(&rows));
        let mut changed = rows.clone();
        let value = &mut at.get_mut(&mut changed)[column];
        *value = match &*value {
            Value::Null => Value::Integer(0),
            Value::Integer(integer) => Value::Integer(integer ^ 1),
            Value::Real(real) if *real == 0.0 => Value::Real(1.0),
            Value::Real(real) => Value::Real(-real),
            Value::Text(text) => Value::Text(format!("{text}d")),
            Value::Blob(bytes) => Value::Blob([&bytes[..], &[0]].concat()),
        };
        prop_assert_ne!(&before, &digest(&database(&changed)));
        let mut fewer = rows.clone();
        fewer.remove(at.index(rows.len()));
        prop_assert_ne!(&before, &digest(&database(&fewer)));
        let swapped = database(&rows);
        swapped.execute_batch("ALTER TABLE fam___tab RENAME COLUMN i TO renamed").unwrap();
        prop_assert_ne!(&before, &digest(&swapped));
    }
}

#[test]
fn values_are_what_their_column_reads_as() {
    let of = |sql: &str| {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE fam___tab (i INTEGER, r REAL, t TEXT, b VARBINARY(9))").unwrap();
        connection.execute_batch(&format!("INSERT INTO fam___tab VALUES ({sql})")).unwrap();
        digest(&connection)
    };
    assert_eq!(of("1, 10, 'ab', x'6162'"), of("1.0, 10.0, x'6162', x'6162'"));
    assert_eq!(of("1, 0.0, '5', NULL"), of("true, -0.0, 5, NULL"));
    assert_ne!(of("1, 1, 'a', x'61'"), of("1, 1, 'a', 'a'"));
    assert_ne!(of("1, 1, 'ab', x''"), of("1, 1, 'a', x'62'"));
    assert_ne!(of("1, 1, NULL, NULL"), of("1, 1, '', NULL"));
    assert_ne!(of("1.5, 1, '', NULL"), of("1, 1, '', NULL"));
}

#[test]
fn the_appliers_and_sqlites_own_tables_have_no_digest() {
    let connection = Connection::open_in_memory().unwrap();
    let tables = "CREATE TABLE _ldb_seq (id, seq); CREATE TABLE b___b (id INTEGER PRIMARY KEY AUTOINCREMENT);
        CREATE TABLE a___a (x); CREATE INDEX i ON a___a (x); ANALYZE;";
    connection.execute_batch(tables).unwrap();
    let names: Vec<String> = digests(&connection).unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["a___a", "b___b"]);
}
