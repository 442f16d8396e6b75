//! Changes the schema on a server that commits DDL by itself, so that a crash leaves no DDL
//! without its ledger row. Entry points: [`ddl`] makes the text, [`carry_out`] runs it, and
//! [`read_intents`] finds the changes that an executive began and did not finish. The module
//! writes no ledger row.
//!
//! 1. The first connection holds the ledger lock.
//! 2. A second connection takes a named lock, commits an intent and runs the DDL.
//! 3. The first connection writes the ledger row, deletes the intent and commits.
//!
//! An executive that finds an intent takes the named lock first. So no DDL of a dead executive
//! is still running when it looks at the schema.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::ctldb::error::CtldbError;
use crate::ctldb::session::SchemaChange;
use ctlstore_core::failpoint;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FieldType, TableSchema};
use ctlstore_core::sql::quoted;

use super::error::SqlError;
use super::pooled_connection::PooledConnection;
use super::prepare::Server;
use super::rows::quote;

/// The lock's name contains the database: other databases on the server have executives of their own.
const TAKE_NAMED_LOCK: &str = "SELECT COALESCE(GET_LOCK(CONCAT('ctlstore.ddl.', SHA1(DATABASE())), {seconds}), 0)";
const DROP_NAMED_LOCK: &str = "SELECT RELEASE_LOCK(CONCAT('ctlstore.ddl.', SHA1(DATABASE())))";
const ADD_INTENT: &str = "INSERT INTO ctlstore_ddl_intent (token, kind, table_name, column_name, ledger_seq, \
                          statement, ddl) VALUES ";
const INTENTS: &str =
    "SELECT token, kind, table_name, column_name, ledger_seq, statement FROM ctlstore_ddl_intent ORDER BY id";
const DELETE_INTENT: &str = "DELETE FROM ctlstore_ddl_intent WHERE token = ";

/// The longest wait for the named lock. The executive that waits holds the ledger lock, so it gives up
/// before other writers do.
const NAMED_LOCK_SECONDS: u64 = 8;

/// The least time for a schema change that was begun. It is above the session's lock_wait_timeout.
const LEAST_TIME: Duration = Duration::from_secs(5);

/// The trace that a schema change leaves in the server's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    kind: String,
    table: String,
    /// Empty unless a column is added.
    column: String,
}

/// A row of `ctlstore_ddl_intent`: a schema change that was begun.
#[derive(Debug, Clone)]
pub(super) struct Intent {
    pub token: String,
    pub effect: Effect,
    /// The seq that its ledger row was to get.
    pub seq: Seq,
    pub statement: String,
}

impl Intent {
    pub fn new(change: &SchemaChange, statement: &str, seq: Seq) -> Self {
        let (kind, column) = match change {
            SchemaChange::CreateTable(_) => ("create", String::new()),
            SchemaChange::AddColumn(_, field) => ("add", field.name.to_string()),
            SchemaChange::DropTable(_) => ("drop", String::new()),
        };
        let effect = Effect { kind: kind.to_owned(), table: change.table().sql_name(), column };
        Self { token: Uuid::new_v4().to_string(), effect, seq, statement: statement.to_owned() }
    }

    fn insert(&self, ddl: &str) -> String {
        let Self { token, effect, seq, statement } = self;
        let texts = [token, &effect.kind, &effect.table, &effect.column].map(|t| quote(t)).join(",");
        format!("{ADD_INTENT}({texts},{seq},{},{})", quote(statement), quote(ddl))
    }

    /// The SQL name of the table that it changes.
    pub fn table(&self) -> &str {
        &self.effect.table
    }

    /// The statement that deletes it.
    pub fn delete(&self) -> String {
        format!("{DELETE_INTENT}{}", quote(&self.token))
    }
}

/// The DDL of a change in this server's dialect.
pub(super) fn ddl(change: &SchemaChange, server: &Server) -> String {
    match change {
        SchemaChange::CreateTable(schema) => create_table(schema, server),
        SchemaChange::AddColumn(table, field) => {
            let declared = column_type(field.field_type, server);
            format!("ALTER TABLE {table} ADD COLUMN {} {declared}", quoted(field.name.as_str()))
        }
        SchemaChange::DropTable(table) => format!("DROP TABLE {table}"),
    }
}

fn create_table(schema: &TableSchema, server: &Server) -> String {
    let declare = |index: usize| {
        let field = &schema.fields()[index];
        let not_null = if schema.is_key(index) { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quoted(field.name.as_str()), column_type(field.field_type, server))
    };
    let columns: Vec<String> = (0..schema.fields().len()).map(declare).collect();
    let key: Vec<String> = schema.key_fields().map(|f| quoted(f.name.as_str())).collect();
    format!("CREATE TABLE {} ({}, PRIMARY KEY({})) ENGINE = InnoDB", schema.table(), columns.join(", "), key.join(","))
}

/// Text columns name their collation: the database's default is unknown.
fn column_type(field_type: FieldType, server: &Server) -> String {
    match field_type {
        FieldType::String | FieldType::Text => {
            format!("{} CHARACTER SET utf8mb4 COLLATE {}", field_type.mysql_type(), server.collation)
        }
        other => other.mysql_type().to_owned(),
    }
}

/// Waits until no schema change of any executive is running.
pub(super) async fn take_named_lock(connection: &mut PooledConnection, deadline: Instant) -> Result<(), CtldbError> {
    let left = deadline.saturating_duration_since(Instant::now()).as_secs();
    let sql = TAKE_NAMED_LOCK.replace("{seconds}", &left.min(NAMED_LOCK_SECONDS).to_string());
    match connection.row::<i64>(&sql, deadline).await? {
        1 => Ok(()),
        _ => Err(CtldbError::Contention("a schema change is running".to_owned())),
    }
}

pub(super) async fn drop_named_lock(connection: &mut PooledConnection, deadline: Instant) -> Result<(), CtldbError> {
    Ok(connection.query(DROP_NAMED_LOCK, deadline).await.map(drop)?)
}

/// The outcome of [`carry_out`].
pub(super) enum DdlOutcome {
    /// The schema is changed; the intent waits for its ledger row.
    Done,
    /// The schema is as it was, and the intent is gone.
    NotDone(CtldbError),
    /// The connection was lost: the intent may be there, and the change too.
    Unknown(CtldbError),
}

/// Commits the intent and runs the DDL on `link`, which holds the named lock.
/// `still_locked` asks the other connection whether it still has the ledger lock.
pub(super) async fn carry_out(
    connection: &mut PooledConnection,
    database: &str,
    intent: &Intent,
    ddl: &str,
    deadline: Instant,
    still_locked: impl AsyncFnOnce() -> Result<(), CtldbError>,
) -> DdlOutcome {
    match has_effect(connection, database, &intent.effect, deadline).await {
        Ok(false) => {}
        Ok(true) => {
            return DdlOutcome::NotDone(CtldbError::Contention(format!(
                "{} has just been changed",
                intent.effect.table
            )));
        }
        Err(error) => return DdlOutcome::NotDone(error),
    }
    // The server gives up waiting for the table within this time. A late answer is better than an unknown outcome.
    let deadline = deadline.max(Instant::now() + LEAST_TIME);
    match connection.query(&intent.insert(ddl), deadline).await {
        Ok(_) => failpoint::hit("ddl-after-intent"),
        Err(error @ SqlError::Server { .. }) => return DdlOutcome::NotDone(error.into()),
        Err(error @ SqlError::Broken(_)) => return DdlOutcome::Unknown(error.into()),
    }
    // An executive that takes the ledger lock from now on finds the intent. If one took it before the
    // intent was committed, the schema must not change during its transaction.
    let done = match still_locked().await {
        Ok(()) => connection.query_until(ddl, deadline).await,
        Err(error) => return withdraw(connection, intent, error, deadline).await,
    };
    match done {
        Ok(_) => {
            failpoint::hit("ddl-after-ddl");
            DdlOutcome::Done
        }
        Err(error @ SqlError::Server { .. }) => withdraw(connection, intent, error.into(), deadline).await,
        Err(error @ SqlError::Broken(_)) => DdlOutcome::Unknown(error.into()),
    }
}

async fn withdraw(
    connection: &mut PooledConnection,
    intent: &Intent,
    error: CtldbError,
    deadline: Instant,
) -> DdlOutcome {
    match connection.query(&intent.delete(), deadline).await {
        Ok(_) => DdlOutcome::NotDone(error),
        Err(_) => DdlOutcome::Unknown(error),
    }
}

/// Reads all committed intents, oldest first.
pub(super) async fn read_intents(
    connection: &mut PooledConnection,
    deadline: Instant,
) -> Result<Vec<Intent>, CtldbError> {
    type IntentRow = (String, String, String, String, i64, String);
    let rows = connection.rows::<IntentRow>(INTENTS, deadline).await?;
    let intent = |(token, kind, table, column, seq, statement)| {
        let effect = Effect { kind, table, column };
        Intent { token, effect, seq: Seq(seq), statement }
    };
    Ok(rows.into_iter().map(intent).collect())
}

/// Whether the server's schema shows the effect.
pub(super) async fn has_effect(
    connection: &mut PooledConnection,
    database: &str,
    effect: &Effect,
    deadline: Instant,
) -> Result<bool, CtldbError> {
    let of_table = format!("table_schema = {} AND table_name = {}", quote(database), quote(&effect.table));
    let sql = match effect.kind.as_str() {
        "add" => format!(
            "SELECT COUNT(*) FROM information_schema.columns WHERE {of_table} AND column_name = {}",
            quote(&effect.column)
        ),
        "create" | "drop" => format!("SELECT COUNT(*) FROM information_schema.tables WHERE {of_table}"),
        other => return Err(CtldbError::Schema(format!("a schema change of the unknown kind {other} was begun"))),
    };
    let found = connection.row::<i64>(&sql, deadline).await? > 0;
    Ok(found != (effect.kind == "drop"))
}
