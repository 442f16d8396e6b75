//! Support for tests of the ctldb: an operation that is a list of steps, and short functions that make
//! tables, rows and statements.

pub mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, Field, FieldName, FieldType, FieldValue, TableRef, TableSchema, WriterName};
use ctlstore_core::sql;
use ctlstore_ctldb::{
    AnyCtldb, Ctldb, CtldbError, CtldbOperation, LedgerTable, Location, ReadSet, RowChange, SchemaChange, Session,
    StoredTable, TableLimit, WriterRow,
};

use crate::sql::query;
use crate::{TestDatabase, every_ctldb, mariadb, mysql56};

/// One call on a session.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads writers, the usage of a period, and tables, together with the lock.
    Expect(Vec<WriterName>, i64, Vec<TableRef>),
    Now,
    LastSeq,
    FamilyExists(&'static str),
    Table(TableRef),
    TablesOf(&'static str),
    TableSize(TableRef),
    Writer(&'static str),
    Usage(&'static str, i64),
    TableLimit(TableRef),
    TableLimits,
    WriterLimits,
    StoredKey(TableRef, Vec<FieldValue>),
    InsertFamily(&'static str),
    InsertWriter(&'static str, WriterRow),
    SetCookie(&'static str, Vec<u8>),
    AddUsage(&'static str, i64, i64),
    PruneUsage(i64),
    SetTableLimit(TableRef, TableLimit),
    DeleteTableLimit(TableRef),
    SetWriterLimit(&'static str, i64),
    DeleteWriterLimit(&'static str),
    /// Upserts these rows of one table.
    Upsert(TableRef, Vec<Vec<FieldValue>>),
    /// Deletes the rows with these keys.
    Delete(TableRef, Vec<Vec<FieldValue>>),
    Clear(TableRef),
    Append(Vec<String>),
    Alter(SchemaChange),
    Savepoint,
    RollbackToSavepoint,
    /// Fails the operation.
    Fail,
    /// Lets the test do something between two calls.
    Hook(Hook),
}

/// An action of the test in the middle of an operation.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Step {
    pub fn hook(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Hook(Hook(Arc::new(hook)))
    }

    /// The action runs in the first run of the operation only.
    pub fn hook_once(hook: impl Fn() + Send + Sync + 'static) -> Self {
        let done = AtomicBool::new(false);
        Self::hook(move || {
            if !done.swap(true, Ordering::Relaxed) {
                hook();
            }
        })
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// The answer of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Done,
    Flag(bool),
    Number(i64),
    Size(Option<u64>),
    Table(Option<Arc<StoredTable>>),
    Tables(Vec<Arc<StoredTable>>),
    Writer(Option<WriterRow>),
    TableLimit(Option<TableLimit>),
    TableLimits(Vec<(String, String, TableLimit)>),
    WriterLimits(Vec<(String, i64)>),
    Key(Option<Vec<FieldValue>>),
}

impl Answer {
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("{other:?} is not a number"),
        }
    }

    #[track_caller]
    pub fn table(&self) -> Arc<StoredTable> {
        match self {
            Self::Table(Some(table)) => table.clone(),
            other => panic!("{other:?} is not a table"),
        }
    }
}

/// Runs its steps in order.
pub struct Steps(pub Vec<Step>);

impl CtldbOperation for Steps {
    type Output = Vec<Answer>;

    fn read_set(&self) -> ReadSet<'_> {
        let mut read_set = ReadSet::default();
        for step in &self.0 {
            if let Step::Expect(writers, period, tables) = step {
                (read_set.usage_period, read_set.writers) = (*period, writers.iter().collect());
                read_set.tables = tables.iter().collect();
            }
        }
        read_set
    }

    async fn run<S: Session>(&self, session: &mut S) -> Result<Vec<Answer>, CtldbError> {
        let mut answers = Vec::new();
        for step in &self.0 {
            answers.push(run(session, step).await?);
        }
        Ok(answers)
    }
}

async fn run<S: Session>(s: &mut S, step: &Step) -> Result<Answer, CtldbError> {
    let done = |()| Answer::Done;
    match step {
        Step::Now => s.now().await.map(Answer::Number),
        Step::LastSeq => s.last_seq().await.map(|seq| Answer::Number(seq.0)),
        Step::FamilyExists(name) => s.family_exists(&family(name)).await.map(Answer::Flag),
        Step::Table(table) => s.table(table).await.map(Answer::Table),
        Step::TablesOf(name) => s.tables_of(&family(name)).await.map(Answer::Tables),
        Step::Expect(..) => Ok(Answer::Done),
        Step::TableSize(table) => s.table_size(table).await.map(Answer::Size),
        Step::Writer(name) => s.writer(&writer(name)).await.map(Answer::Writer),
        Step::Usage(name, bucket) => s.usage(&writer(name), *bucket).await.map(Answer::Number),
        Step::TableLimit(table) => s.table_limit(table).await.map(Answer::TableLimit),
        Step::TableLimits => s.table_limits().await.map(Answer::TableLimits),
        Step::WriterLimits => s.writer_limits().await.map(Answer::WriterLimits),
        Step::StoredKey(table, key) => {
            let stored = s.table(table).await?.expect("the table exists");
            s.stored_key(&stored, key).await.map(Answer::Key)
        }
        Step::InsertFamily(name) => s.insert_family(&family(name)).await.map(Answer::Flag),
        Step::InsertWriter(name, row) => s.insert_writer(&writer(name), row).await.map(done),
        Step::SetCookie(name, cookie) => s.set_cookie(&writer(name), cookie).await.map(done),
        Step::AddUsage(name, bucket, rows) => s.add_usage(&writer(name), *bucket, *rows).await.map(done),
        Step::PruneUsage(before) => s.prune_usage(*before).await.map(done),
        Step::SetTableLimit(table, limit) => s.set_table_limit(table, *limit).await.map(done),
        Step::DeleteTableLimit(table) => s.delete_table_limit(table).await.map(Answer::Flag),
        Step::SetWriterLimit(name, rows) => s.set_writer_limit(&writer(name), *rows).await.map(done),
        Step::DeleteWriterLimit(name) => s.delete_writer_limit(&writer(name)).await.map(Answer::Flag),
        Step::Upsert(table, rows) => {
            let table = s.table(table).await?.expect("the table exists");
            let upsert = |values: &Vec<FieldValue>| RowChange::Upsert { table: table.clone(), values: values.clone() };
            s.apply(&rows.iter().map(upsert).collect::<Vec<_>>()).await.map(done)
        }
        Step::Delete(table, keys) => {
            let table = s.table(table).await?.expect("the table exists");
            let delete = |key: &Vec<FieldValue>| RowChange::Delete { table: table.clone(), key: key.clone() };
            s.apply(&keys.iter().map(delete).collect::<Vec<_>>()).await.map(done)
        }
        Step::Clear(table) => s.clear(table).await.map(done),
        Step::Append(statements) => s.append(statements).await.map(|seq| Answer::Number(seq.0)),
        Step::Alter(change) => s.alter(change, &ledger_statement(change)).await.map(|Seq(seq)| Answer::Number(seq)),
        Step::Savepoint => s.savepoint().await.map(done),
        Step::RollbackToSavepoint => s.rollback_to_savepoint().await.map(done),
        Step::Hook(hook) => {
            (hook.0)();
            Ok(Answer::Done)
        }
        Step::Fail => Err(CtldbError::Failed("as the test wants".to_owned())),
    }
}

pub fn ledger_statement(change: &SchemaChange) -> String {
    match change {
        SchemaChange::CreateTable(schema) => sql::create_table(schema),
        SchemaChange::AddColumn(table, field) => sql::add_column(table, field),
        SchemaChange::DropTable(table) => sql::drop_table(table),
    }
}

/// Long enough for a slow machine. A test that waits for so long has failed.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub async fn try_write(ctldb: &impl Ctldb, steps: Vec<Step>) -> Result<Vec<Answer>, CtldbError> {
    ctldb.write(Steps(steps), soon()).await
}

#[track_caller]
pub fn write(ctldb: &impl Ctldb, steps: Vec<Step>) -> impl Future<Output = Vec<Answer>> {
    let caller = std::panic::Location::caller();
    async move { try_write(ctldb, steps).await.unwrap_or_else(|error| panic!("{caller}: {error}")) }
}

#[track_caller]
pub fn read(ctldb: &impl Ctldb, steps: Vec<Step>) -> impl Future<Output = Vec<Answer>> {
    let caller = std::panic::Location::caller();
    async move { ctldb.read(Steps(steps), soon()).await.unwrap_or_else(|error| panic!("{caller}: {error}")) }
}

pub fn family(name: &str) -> FamilyName {
    FamilyName::new(name).expect("a good family name")
}

pub fn writer(name: &str) -> WriterName {
    WriterName::new(name).expect("a good writer name")
}

/// `fam___tab` from its SQL name.
pub fn table_ref(name: &str) -> TableRef {
    TableRef::from_sql_name(name).expect("a good table name")
}

pub fn field(name: &str, field_type: FieldType) -> Field {
    Field { name: FieldName::new(name).expect("a good field name"), field_type }
}

pub fn table(name: &str, fields: &[(&str, FieldType)], key: &[&str]) -> TableSchema {
    let key: Vec<FieldName> = key.iter().map(|k| FieldName::new(k).expect("a good field name")).collect();
    let fields = fields.iter().map(|(name, field_type)| field(name, *field_type)).collect();
    TableSchema::new(table_ref(name), fields, &key).expect("a good table")
}

pub fn text(value: &str) -> FieldValue {
    FieldValue::Text(value.to_owned())
}

/// Opens a test's database as a node would.
#[track_caller]
pub fn open(database: &TestDatabase) -> AnyCtldb {
    open_at(&database.url)
}

#[track_caller]
pub fn open_at(url: &str) -> AnyCtldb {
    let location = Location::parse(url).expect("a good url");
    AnyCtldb::open(&location, LedgerTable::default()).unwrap_or_else(|error| panic!("open the ctldb: {error}"))
}

/// Runs a case on a fresh ctldb of every kind at hand.
pub async fn on_every_ctldb(case: impl AsyncFn(&AnyCtldb, &TestDatabase)) {
    for (name, database) in every_ctldb() {
        // Shown when the case fails.
        println!("on {name}");
        let ctldb = open(&database);
        ctldb.prepare().await.unwrap_or_else(|error| panic!("prepare {name}: {error}"));
        case(&ctldb, &database).await;
        ctldb.close().await;
    }
}

/// A table with one string key and one value, made in `ctldb`.
pub async fn make_table(ctldb: &impl Ctldb, name: &str) -> TableSchema {
    let schema = table(name, &[("k", FieldType::String), ("v", FieldType::Integer)], &["k"]);
    write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema.clone()))]).await;
    schema
}

/// The whole ledger: seq and statement.
#[track_caller]
pub fn ledger(database: &TestDatabase) -> Vec<(i64, String)> {
    let rows = database.query("SELECT seq, statement FROM ctlstore_dml_ledger ORDER BY seq");
    let row = |row: Vec<Option<String>>| {
        let [seq, statement] = row.try_into().expect("two columns");
        (seq.expect("a seq").parse().expect("a number"), statement.expect("a statement"))
    };
    rows.into_iter().map(row).collect()
}

/// The ledger's statements, after checking that their seqs are 1, 2, 3…
#[track_caller]
pub fn contiguous_ledger(database: &TestDatabase) -> Vec<String> {
    let rows = ledger(database);
    let seqs: Vec<i64> = rows.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "the ledger has a gap");
    rows.into_iter().map(|(_, statement)| statement).collect()
}

/// Runs a case on a fresh database of every server at hand; it opens the ctldb itself.
pub async fn on_every_server(case: impl AsyncFn(&TestDatabase)) {
    let databases = [("mariadb", Some(mariadb())), ("mysql 5.6", mysql56())];
    for (name, database) in databases {
        let Some(database) = database else { continue };
        // Shown when the case fails.
        println!("on {name}");
        case(&database).await;
    }
}

pub async fn prepared(database: &TestDatabase) -> AnyCtldb {
    prepared_at(&database.url).await
}

pub async fn prepared_at(url: &str) -> AnyCtldb {
    let ctldb = open_at(url);
    ctldb.prepare().await.unwrap_or_else(|error| panic!("prepare the ctldb: {error}"));
    ctldb
}

/// Another client's connection, which keeps its transactions open.
pub async fn stranger(database: &TestDatabase) -> mysql_async::Conn {
    mysql_async::Conn::from_url(&database.url).await.expect("connect as somebody else")
}

/// Ends every connection to this database.
pub fn kill_connections(url: &str) {
    let own = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    for row in query(url, own).expect("list the connections") {
        let id = row[0].as_deref().expect("an id");
        // A connection that has just ended is fine, too.
        let _ = query(url, &format!("KILL {id}"));
    }
}
