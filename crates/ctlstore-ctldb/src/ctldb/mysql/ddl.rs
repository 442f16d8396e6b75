//! The parts of a schema change on a server that commits DDL by itself: the DDL's text, its rehearsal, and the intent
//! that ties it to its ledger row. Entry points: [`ddl`], [`rehearse`], [`carry_out`] and [`read_intents`].
//! `schema_change` has the order of the steps, `finish_ddl` finishes what was left.
//!
//! The connection that runs the DDL holds a named lock. An executive that finds an intent takes that lock first, so
//! no DDL of a dead executive is still running when it looks at the schema.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::ctldb::definition::Definition;
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
pub(super) const DROP_NAMED_LOCK: &str = "SELECT RELEASE_LOCK(CONCAT('ctlstore.ddl.', SHA1(DATABASE())))";
const ADD_INTENT: &str = "INSERT INTO ctlstore_ddl_intent (token, kind, table_name, column_name, ledger_seq, \
                          statement, ddl) VALUES ";
const INTENTS: &str =
    "SELECT token, kind, table_name, column_name, ledger_seq, statement, ddl FROM ctlstore_ddl_intent ORDER BY id";
const DELETE_INTENT: &str = "DELETE FROM ctlstore_ddl_intent WHERE token = ";
/// Intents, and whether no connection has the named lock: if one has it, the schema change is still running.
const ABANDONED: &str = "SELECT COUNT(*) > 0 AND COALESCE(IS_FREE_LOCK(CONCAT('ctlstore.ddl.', SHA1(DATABASE()))), 0) \
                         FROM ctlstore_ddl_intent";
const ANY_INTENT: &str = "SELECT COUNT(*) FROM ctlstore_ddl_intent";

/// The table on which a DDL is rehearsed. No family's table has such a name. A killed executive may leave it, and the
/// next rehearsal removes it.
const REHEARSAL: &str = "ctlstore_ddl_rehearsal";

/// The longest wait for the named lock. The executive that waits holds the ledger lock, so it gives up
/// before other writers do.
const NAMED_LOCK_SECONDS: u64 = 8;

/// The least time for a schema change that was begun. It is above the session's lock_wait_timeout.
pub(super) const LEAST_TIME: Duration = Duration::from_secs(5);

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
    /// The seq of its ledger row; of a DROP TABLE, the one that the row was to get.
    pub seq: Seq,
    pub statement: String,
    /// The DDL in the server's dialect.
    pub ddl: String,
}

impl Intent {
    pub fn new(change: &SchemaChange, statement: &str, seq: Seq, ddl: String) -> Self {
        let (kind, column) = match change {
            SchemaChange::CreateTable(_) => ("create", String::new()),
            SchemaChange::AddColumn(_, field) => ("add", field.name.to_string()),
            SchemaChange::DropTable(_) => ("drop", String::new()),
        };
        let effect = Effect { kind: kind.to_owned(), table: change.table().sql_name(), column };
        Self { token: Uuid::new_v4().to_string(), effect, seq, statement: statement.to_owned(), ddl }
    }

    /// The statement that adds it.
    pub fn insert(&self) -> String {
        let Self { token, effect, seq, statement, ddl } = self;
        let texts = [token, &effect.kind, &effect.table, &effect.column].map(|t| quote(t)).join(",");
        format!("{ADD_INTENT}({texts},{seq},{},{})", quote(statement), quote(ddl))
    }

    /// The SQL name of the table that it changes.
    pub fn table(&self) -> &str {
        &self.effect.table
    }

    /// Whether a table of this definition, the ledger's, has what the change makes.
    pub fn is_in(&self, definition: &Definition) -> bool {
        match (self.effect.kind.as_str(), definition) {
            ("create", Definition::Table(_)) => true,
            ("add", Definition::Table(schema)) => {
                schema.fields().iter().any(|field| field.name.as_str() == self.effect.column)
            }
            _ => false,
        }
    }

    /// The statement that deletes it.
    pub fn delete(&self) -> String {
        format!("{DELETE_INTENT}{}", quote(&self.token))
    }
}

/// The DDL of a change in this server's dialect.
pub(super) fn ddl(change: &SchemaChange, server: &Server) -> String {
    ddl_of(change, &change.table().sql_name(), server)
}

/// The same for another table.
fn ddl_of(change: &SchemaChange, table: &str, server: &Server) -> String {
    match change {
        SchemaChange::CreateTable(schema) => create_table(schema, table, server),
        SchemaChange::AddColumn(_, field) => {
            let declared = column_type(field.field_type, server);
            format!("ALTER TABLE {table} ADD COLUMN {} {declared}", quoted(field.name.as_str()))
        }
        SchemaChange::DropTable(_) => format!("DROP TABLE {table}"),
    }
}

fn create_table(schema: &TableSchema, table: &str, server: &Server) -> String {
    let declare = |index: usize| {
        let field = &schema.fields()[index];
        let not_null = if schema.is_key(index) { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quoted(field.name.as_str()), column_type(field.field_type, server))
    };
    let columns: Vec<String> = (0..schema.fields().len()).map(declare).collect();
    let key: Vec<String> = schema.key_fields().map(|f| quoted(f.name.as_str())).collect();
    format!("CREATE TABLE {table} ({}, PRIMARY KEY({})) ENGINE = InnoDB", columns.join(", "), key.join(","))
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

/// Whether there are intents whose schema change no connection is running.
pub(super) async fn has_abandoned(connection: &mut PooledConnection, deadline: Instant) -> Result<bool, CtldbError> {
    Ok(connection.row::<bool>(ABANDONED, deadline).await?)
}

/// Whether some schema change is on its way, or was abandoned.
pub(super) async fn is_changing(connection: &mut PooledConnection, deadline: Instant) -> Result<bool, CtldbError> {
    Ok(connection.row::<i64>(ANY_INTENT, deadline).await? > 0)
}

/// Checks whether the server accepts a change whose ledger row can't be taken back, and leaves no trace. The schema must
/// lack the change, no other transaction may use the table, and the server must be able to hold the definition.
pub(super) async fn rehearse(
    connection: &mut PooledConnection,
    database: &str,
    intent: &Intent,
    change: &SchemaChange,
    server: &Server,
    deadline: Instant,
) -> Result<(), CtldbError> {
    if has_effect(connection, database, &intent.effect, deadline).await? {
        return Err(CtldbError::Contention(format!("{} has just been changed", intent.table())));
    }
    // The server gives up waiting for the table within this time. Its answer tells more than a time-out here.
    let deadline = deadline.max(Instant::now() + LEAST_TIME);
    let remove = format!("DROP TABLE IF EXISTS {REHEARSAL}");
    let mut steps = vec![remove.clone()];
    if let SchemaChange::AddColumn(table, _) = change {
        // InnoDB does nothing for it, but the server waits until no transaction uses the table.
        steps.push(format!("ALTER TABLE {table} ENABLE KEYS"));
        steps.push(format!("CREATE TABLE {REHEARSAL} LIKE {table}"));
    }
    steps.push(ddl_of(change, REHEARSAL, server));
    let outcome = connection.query(&steps.join(";"), deadline).await;
    if let Err(SqlError::Broken(reason)) = outcome {
        return Err(CtldbError::Unavailable(reason));
    }
    connection.query(&remove, deadline).await?;
    Ok(outcome.map(drop)?)
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
    match connection.query(&intent.insert(), deadline).await {
        Ok(_) => failpoint::hit("ddl-after-intent"),
        Err(error @ SqlError::Server { .. }) => return DdlOutcome::NotDone(error.into()),
        Err(error @ SqlError::Broken(_)) => return DdlOutcome::Unknown(error.into()),
    }
    // An executive that takes the ledger lock from now on finds the intent. If one took it before the
    // intent was committed, the schema must not change during its transaction.
    let done = match still_locked().await {
        Ok(()) => connection.query_until(&intent.ddl, deadline).await,
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
    type IntentRow = (String, String, String, String, i64, String, String);
    let rows = connection.rows::<IntentRow>(INTENTS, deadline).await?;
    let intent = |(token, kind, table, column, seq, statement, ddl)| {
        let effect = Effect { kind, table, column };
        Intent { token, effect, seq: Seq(seq), statement, ddl }
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
