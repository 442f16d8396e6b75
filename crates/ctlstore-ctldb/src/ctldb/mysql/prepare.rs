//! Prepares a server: makes the tables that are missing, checks those that are there, and finds out what
//! the server can do. Entry point: [`prepare`], whose answer is [`Server`]. Data tables are not touched.

use std::time::Instant;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::own_tables::{self, FORMAT_VERSION, LEDGER_ID, OUR_FORMAT, SCHEMA_PROBES};

use super::error::{NO_SUCH_TABLE, SqlError, UNKNOWN_COLUMN};
use super::pooled_connection::PooledConnection;
use super::rows::quote;
use super::statement_batch::StatementBatch;

const SCHEMA: &str = include_str!("schema.sql");
const COLLATIONS: &str = "SELECT collation_name FROM information_schema.collations \
                          WHERE collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin', 'utf8mb4_bin') \
                          ORDER BY collation_name = 'utf8mb4_bin', collation_name";
const MAX_PACKET: &str = "SELECT @@max_allowed_packet";
const ADD_META: &str = "INSERT IGNORE INTO ctlstore_meta (name, value) VALUES ";
const FORMAT: &str = "SELECT value FROM ctlstore_meta WHERE name = 'format_version'";

/// Batches stay below this size even if the server accepts larger ones: both sides hold a packet in memory.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// The properties of a prepared server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// The collation for columns that we create. It compares bytes.
    pub collation: String,
    /// Batches of several statements or rows are split below this size.
    pub text_bytes: usize,
    /// Any statement must be shorter than this.
    pub packet_bytes: usize,
    /// Whether it accepts several statements as one block.
    pub blocks: bool,
}

pub(super) async fn prepare(
    connection: &mut PooledConnection,
    ledger: &LedgerTable,
    deadline: Instant,
) -> Result<Server, CtldbError> {
    let mut collations: Vec<String> = connection.rows(COLLATIONS, deadline).await?;
    if collations.is_empty() {
        return Err(CtldbError::Schema("the server has no binary collation for utf8mb4".to_owned()));
    }
    let collation = collations.swap_remove(0);
    let max_packet: u64 = connection.row(MAX_PACKET, deadline).await?;
    let packet_bytes = usize::try_from(max_packet).unwrap_or(usize::MAX);
    let text_bytes = usize::try_from(max_packet / 4).unwrap_or(MAX_TEXT_BYTES).min(MAX_TEXT_BYTES);
    for statement in statements(SCHEMA) {
        connection.query(&ledger.fill(&statement.replace("{collation}", &collation)), deadline).await?;
    }
    let ours = format!(
        "{ADD_META}('{FORMAT_VERSION}', '{OUR_FORMAT}'), ('{LEDGER_ID}', {})",
        quote(&uuid::Uuid::new_v4().to_string())
    );
    connection.query(&ours, deadline).await?;
    own_tables::check_format(&connection.row::<String>(FORMAT, deadline).await?)?;
    for probe in SCHEMA_PROBES {
        connection.query(&ledger.fill(probe), deadline).await.map_err(missing_part)?;
    }
    let blocks = knows_blocks(connection, deadline).await?;
    Ok(Server { collation, text_bytes, packet_bytes, blocks })
}

/// Any error that the server, or a proxy before it, answers means that it has no blocks. Writes work without them.
async fn knows_blocks(connection: &mut PooledConnection, deadline: Instant) -> Result<bool, SqlError> {
    match connection.query(&StatementBatch::block(&["DO 0", "DO 0"]).take(true), deadline).await {
        Ok(_) => Ok(true),
        Err(SqlError::Server { .. }) => Ok(false),
        Err(error @ SqlError::Broken(_)) => Err(error),
    }
}

/// The schema as SQL for an operator, for a server of this collation and a session of any SQL mode.
pub fn schema_sql(ledger: &LedgerTable, collation: &str) -> String {
    SCHEMA.replace("{collation}", collation).replace("{ledger}", &format!("`{}`", ledger.as_str()))
}

/// The schema's statements; its comments hold no semicolon.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    script.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

fn missing_part(error: SqlError) -> CtldbError {
    match error {
        SqlError::Server { code: NO_SUCH_TABLE | UNKNOWN_COLUMN, message } => CtldbError::Schema(message),
        other => other.into(),
    }
}
