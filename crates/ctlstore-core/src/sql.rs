//! The ledger's SQL as text: its literals and its few statement forms, written and parsed.
//! This room runs no statement.

mod cursor;
mod literal;
mod statement_parser;
mod statement_writer;

pub use cursor::{Hex, Literal};
pub use literal::{push_blob, push_literal, push_text};
pub use statement_parser::{RowStatement, Statement, StatementParser, parse};
pub use statement_writer::{BEGIN, COMMIT, add_column, clear_table, create_table, delete, drop_table, quoted, upsert};
