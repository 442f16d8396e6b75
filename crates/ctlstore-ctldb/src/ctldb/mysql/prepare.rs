//! Makes what is missing of the schema, checks what is there, and finds out what the
//! server can do.

use std::time::Instant;

use crate::ctldb::meta::{self, FORMAT_VERSION, LEDGER_ID, OUR_FORMAT, SCHEMA_PROBES};
use crate::ctldb::{CtldbError, LedgerTable};

use super::error::{NO_SUCH_TABLE, SqlError};
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

/// Texts are kept below this even where the server takes more: a packet is held in memory on both sides.
const MAX_TEXT_BYTES: usize = 1024 * 1024;

/// What is known of the server once it is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// The collation for columns that we create: it compares bytes.
    pub collation: String,
    /// Texts of several statements or rows are split below this.
    pub text_bytes: usize,
    /// What no text reaches.
    pub packet_bytes: usize,
    /// Whether it takes several statements as one block.
    pub blocks: bool,
}

pub(super) async fn prepare(
    link: &mut PooledConnection,
    ledger: &LedgerTable,
    deadline: Instant,
) -> Result<Server, CtldbError> {
    let mut collations: Vec<String> = link.rows(COLLATIONS, deadline).await?;
    if collations.is_empty() {
        return Err(CtldbError::Schema("the server has no binary collation for utf8mb4".to_owned()));
    }
    let collation = collations.swap_remove(0);
    let max_packet: u64 = link.row(MAX_PACKET, deadline).await?;
    let packet_bytes = usize::try_from(max_packet).unwrap_or(usize::MAX);
    let text_bytes = usize::try_from(max_packet / 4).unwrap_or(MAX_TEXT_BYTES).min(MAX_TEXT_BYTES);
    for statement in statements(SCHEMA) {
        link.query(&ledger.fill(&statement.replace("{collation}", &collation)), deadline).await?;
    }
    let ours = format!(
        "{ADD_META}('{FORMAT_VERSION}', '{OUR_FORMAT}'), ('{LEDGER_ID}', {})",
        quote(&uuid::Uuid::new_v4().to_string())
    );
    link.query(&ours, deadline).await?;
    meta::check_format(&link.row::<String>(FORMAT, deadline).await?)?;
    for probe in SCHEMA_PROBES {
        link.query(&ledger.fill(probe), deadline).await.map_err(not_as_it_must_be)?;
    }
    let blocks = knows_blocks(link, deadline).await?;
    Ok(Server { collation, text_bytes, packet_bytes, blocks })
}

/// Whatever a server, or what stands before it, has against a block: it works without.
async fn knows_blocks(link: &mut PooledConnection, deadline: Instant) -> Result<bool, SqlError> {
    match link.query(&StatementBatch::block(&["DO 0", "DO 0"]).take(true), deadline).await {
        Ok(_) => Ok(true),
        Err(SqlError::Server { .. }) => Ok(false),
        Err(error @ SqlError::Broken(_)) => Err(error),
    }
}

/// The schema as one would make it by hand, for a server of this collation, in a
/// session of any SQL mode.
pub(super) fn schema_sql(ledger: &LedgerTable, collation: &str) -> String {
    SCHEMA.replace("{collation}", collation).replace("{ledger}", &format!("`{}`", ledger.as_str()))
}

/// The schema's statements; its comments hold no semicolon.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    script.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

fn not_as_it_must_be(error: SqlError) -> CtldbError {
    const UNKNOWN_COLUMN: u16 = 1054;
    match error {
        SqlError::Server { code: NO_SUCH_TABLE | UNKNOWN_COLUMN, message } => CtldbError::Schema(message),
        other => other.into(),
    }
}
