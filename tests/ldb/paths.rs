//! Canonical statements run with bound values, all others as text. Both ways must give the same file.
//! Otherwise a host's data would depend on the program that wrote its LDB.

use ctlstore_core::schema::{Field, FieldName, FieldType, FieldValue, TableRef, TableSchema};
use ctlstore_core::sql;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use support::ldb::{Scratch, batch_of, dump, row};

/// A table with a column of each type, keyed by two of them.
fn table() -> TableSchema {
    let fields = FieldType::ALL
        .map(|field_type| Field { name: FieldName::new(&format!("f_{field_type}")).unwrap(), field_type });
    let key = ["f_integer", "f_string"].map(|name| FieldName::new(name).unwrap());
    TableSchema::new(TableRef::parse("fam", "tab").unwrap(), fields.to_vec(), &key).unwrap()
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |float| float.is_finite()),
        any::<f64>().prop_filter("finite", |float| float.is_finite()),
        (any::<i32>(), 0..12).prop_map(|(digits, scale)| f64::from(digits) / 10f64.powi(scale)),
        (any::<i64>(), -330..330)
            .prop_map(|(digits, scale)| digits as f64 * 10f64.powi(scale))
            .prop_filter("finite", |float| float.is_finite()),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::MAX,
            f64::MIN,
            f64::EPSILON,
            9_007_199_254_740_993.0,
            9_223_372_036_854_775_808.0,
            -9_223_372_036_854_775_808.0,
            18_446_744_073_709_551_616.0,
        ]),
    ]
}

/// Numbers in spellings that no executive writes.
fn odd_number() -> impl Strategy<Value = String> {
    "-?[0-9]{1,30}(\\.[0-9]{1,30})?"
}

/// Values of every kind for every column, since the Go program does not check a value's type.
fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        Just(FieldValue::Null),
        any::<bool>().prop_map(FieldValue::Boolean),
        any::<i64>().prop_map(FieldValue::Integer),
        (-3i64..3).prop_map(FieldValue::Integer),
        float().prop_map(FieldValue::Real),
        any::<String>().prop_map(FieldValue::Text),
        "['\\\\\"\u{0}\n%_;-]{0,6}".prop_map(FieldValue::Text),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?(e[0-9])?".prop_map(FieldValue::Text),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(FieldValue::Blob),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let upsert = prop::collection::vec(value(), FieldType::ALL.len());
    prop_oneof![
        6 => upsert.prop_map(|values| sql::upsert(&table(), &values)),
        2 => prop::collection::vec(odd_number(), FieldType::ALL.len()).prop_map(|numbers| {
            let columns: Vec<_> = table().fields().iter().map(|field| sql::quoted(field.name.as_str())).collect();
            format!("REPLACE INTO fam___tab ({}) VALUES({})", columns.join(","), numbers.join(","))
        }),
        1 => (value(), value()).prop_map(|(one, other)| sql::delete(&table(), &[one, other])),
    ]
}

/// Runs the statements as text in SQLite, without ctlstore's code.
fn as_text(statements: &[String]) -> Vec<String> {
    let connection = Connection::open_in_memory().unwrap();
    for statement in statements {
        connection.execute_batch(statement).unwrap();
    }
    dump(&connection)
}

#[test]
fn bound_values_and_text_leave_the_same_file() {
    let mut runner = TestRunner::new(Config { cases: 150, ..Config::default() });
    runner
        .run(&prop::collection::vec(statement(), 1..60), |mut statements| {
            statements.insert(0, sql::create_table(&table()));
            let scratch = Scratch::new();
            let mut ldb = scratch.open();
            ldb.apply(&batch_of(statements.iter().zip(1..).map(|(statement, seq)| row(seq, statement)))).unwrap();
            prop_assert_eq!(dump(&scratch.reader()), as_text(&statements));
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_our_executive_writes_is_bound() {
    let mut runner = TestRunner::new(Config { cases: 2_000, ..Config::default() });
    let values = prop::collection::vec(value(), FieldType::ALL.len());
    runner
        .run(&values, |values| {
            let statement = sql::upsert(&table(), &values);
            prop_assert!(matches!(sql::parse(&statement), sql::Statement::Upsert(_)), "{}", statement);
            Ok(())
        })
        .unwrap();
}

#[test]
fn sqlite_and_the_parser_read_every_float_alike() {
    let connection = Connection::open_in_memory().unwrap();
    let mut runner = TestRunner::new(Config { cases: 20_000, ..Config::default() });
    runner
        .run(&float(), |float| {
            let mut literal = String::new();
            sql::push_literal(&mut literal, &FieldValue::Real(float));
            let read: f64 =
                connection.query_row(&format!("SELECT CAST({literal} AS REAL)"), [], |row| row.get(0)).unwrap();
            // SQLite has no negative zero.
            prop_assert_eq!(read.to_bits(), (float + 0.0).to_bits(), "{}", literal);
            Ok(())
        })
        .unwrap();
}
