//! The ledger's SQL: literals and the few statement forms, written and read.
//! Pure text; what runs a statement is elsewhere.

mod cursor;
mod form;
mod literal;
mod parse;

pub use cursor::{Hex, Literal};
pub use form::{BEGIN, COMMIT, add_column, clear_table, create_table, delete, drop_table, quoted, upsert};
pub use literal::{push_blob, push_literal, push_text};
pub use parse::{Parser, RowStatement, Statement, parse};
