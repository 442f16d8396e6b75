//! Writes the answer of a query as JSON, row by row, within its limits. Entry point: [`AnswerWriter`].

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::FieldType;

use super::super::json;
use super::super::table::is_bytes;
use super::error::QueryError;
use super::limits::QueryLimits;

/// A query's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    pub seq: Seq,
    /// One object with `columns`, `rows`, `seq` and `truncated`.
    pub json: Vec<u8>,
}

struct AnswerColumn {
    name: String,
    /// Whether it is a table's column of bytes; `None` for a computed column, in which each value
    /// has its own kind.
    is_bytes: Option<bool>,
}

/// An answer that is being written.
pub(super) struct AnswerWriter {
    json: Vec<u8>,
    columns: Vec<AnswerColumn>,
    limits: QueryLimits,
    limit: Option<u64>,
    rows: u64,
    is_truncated: bool,
}

impl AnswerWriter {
    /// Begins an answer. `limit` is the most rows that the client wants.
    pub(super) fn begin(statement: &Statement<'_>, limits: &QueryLimits, limit: Option<u64>) -> Self {
        let mut this = Self {
            json: Vec::with_capacity(4096),
            columns: Vec::with_capacity(statement.column_count()),
            limits: *limits,
            limit,
            rows: 0,
            is_truncated: false,
        };
        this.json.extend_from_slice(b"{\"columns\":[");
        for (i, column) in statement.columns().enumerate() {
            this.json.extend_from_slice(if i == 0 { b"{\"name\":" } else { b",{\"name\":" });
            json::push_text(&mut this.json, column.name().as_bytes());
            if let Some(field_type) = column.decl_type().and_then(FieldType::from_column_type) {
                this.json.extend_from_slice(b",\"type\":");
                json::push_text(&mut this.json, field_type.api_name().as_bytes());
            }
            this.json.push(b'}');
            this.columns
                .push(AnswerColumn { name: column.name().to_owned(), is_bytes: column.decl_type().map(is_bytes) });
        }
        this.json.extend_from_slice(b"],\"rows\":[");
        this
    }

    /// Appends a row. Returns false if no further row is wanted.
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<bool, QueryError> {
        if self.limit == Some(self.rows) {
            self.is_truncated = true;
            return Ok(false);
        }
        if self.rows == self.limits.max_rows {
            return Err(QueryError::TooManyRows { max: self.limits.max_rows });
        }
        self.json.extend_from_slice(if self.rows == 0 { b"[" } else { b",[" });
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                self.json.push(b',');
            }
            let value = row.get_ref(i).expect("the row has the columns of its statement");
            push_value(&mut self.json, column, value)?;
            // This is checked after each value, since one row may have hundreds of long ones.
            self.check_size()?;
        }
        self.json.push(b']');
        self.rows += 1;
        Ok(true)
    }

    /// Completes the answer.
    pub(super) fn end(mut self, seq: Seq) -> Result<QueryAnswer, QueryError> {
        let end = format!("],\"seq\":{seq},\"truncated\":{}}}\n", self.is_truncated);
        self.json.extend_from_slice(end.as_bytes());
        self.check_size()?;
        self.json.shrink_to_fit();
        Ok(QueryAnswer { seq, json: self.json })
    }

    fn check_size(&self) -> Result<(), QueryError> {
        if self.json.len() > self.limits.max_bytes {
            return Err(QueryError::TooManyBytes { max: self.limits.max_bytes });
        }
        Ok(())
    }
}

fn push_value(out: &mut Vec<u8>, column: &AnswerColumn, value: ValueRef<'_>) -> Result<(), QueryError> {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Integer(integer) => out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes()),
        ValueRef::Real(float) if float.is_finite() => json::push_float(out, float),
        ValueRef::Real(_) => return Err(QueryError::Infinite { column: column.name.clone() }),
        // As in other reads, the type of a table's column decides, whatever kind of value it has.
        ValueRef::Text(bytes) if column.is_bytes == Some(true) => json::push_base64(out, bytes),
        ValueRef::Blob(bytes) if column.is_bytes == Some(false) => json::push_text(out, bytes),
        ValueRef::Text(bytes) => json::push_text(out, bytes),
        ValueRef::Blob(bytes) => json::push_base64(out, bytes),
    }
    Ok(())
}
