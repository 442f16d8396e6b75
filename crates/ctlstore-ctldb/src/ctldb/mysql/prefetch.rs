//! Reads an operation's read set in the round trip that takes the ledger lock: writers, their
//! limits and usage, and limits of tables. Entry points: [`questions`] makes the queries,
//! [`Prefetched::read`] reads their answers. The module sends nothing.
//!
//! The answers are valid until the transaction writes. The answers that are still true after the
//! commit may serve the next transaction (`optimistic`).

use std::collections::HashMap;

use mysql_async::Row;

use crate::ctldb::session::{ReadSet, TableLimit, WriterMark, WriterRow};
use ctlstore_core::schema::{TableRef, WriterName};

use super::error::SqlError;
use super::pooled_connection::{ResultSets, read_row};
use super::rows::quote;

/// One query for all names of a kind; each row has its name. A collation may also find rows of
/// other names, which are skipped.
const WRITERS: &str = "SELECT writer, secret, cookie FROM mutators WHERE writer IN ({names})";
const RATES: &str = "SELECT writer_name, max_rows_per_minute FROM max_writer_rates WHERE writer_name IN ({names})";
const USAGE: &str = "SELECT writer_name, bucket, amount FROM writer_usage WHERE writer_name IN ({names}) \
                     AND bucket = UNIX_TIMESTAMP() - UNIX_TIMESTAMP() % {period}";
const LIMITS: &str = "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE ";

/// The most answers of each kind that are kept from write to write. Above that all are dropped.
const MOST_KEPT: usize = 1_024;

/// The answers by name. A name that is missing was not asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefetched {
    pub writers: HashMap<WriterName, Option<WriterRow>>,
    /// By writer and bucket; only those that have a row.
    pub usage: HashMap<(WriterName, i64), i64>,
    pub limits: HashMap<TableRef, Option<TableLimit>>,
}

/// The queries for a read set. Each has a result set of its own.
pub(super) fn questions(read_set: &ReadSet<'_>) -> Vec<String> {
    let mut questions = Vec::new();
    if !read_set.writers.is_empty() {
        let names: Vec<String> = read_set.writers.iter().map(|name| quote(name.as_str())).collect();
        let fill = |sql: &str| sql.replace("{names}", &names.join(","));
        let period = read_set.usage_period.max(1).to_string();
        questions.extend([fill(WRITERS), fill(RATES), fill(USAGE).replace("{period}", &period)]);
    }
    if !read_set.tables.is_empty() {
        let key = |table: &&TableRef| {
            let family = quote(table.family.as_str());
            let name = quote(table.table.as_str());
            format!("(family_name = {family} AND table_name = {name})")
        };
        questions.push(format!("{LIMITS}{}", read_set.tables.iter().map(key).collect::<Vec<_>>().join(" OR ")));
    }
    questions
}

impl Prefetched {
    /// Reads the result sets of [`questions`], in their order.
    pub fn read(read_set: &ReadSet<'_>, sets: ResultSets) -> Result<Self, SqlError> {
        let (mut ahead, mut sets) = (Self::default(), sets.into_iter());
        if !read_set.writers.is_empty() {
            let [writers, rates, usage] = [(); 3].map(|()| sets.next().unwrap_or_default());
            ahead.read_writers(read_set, writers, rates)?;
            // If the collation equates another spelling with this name, the upsert adds to the other
            // spelling's row. Such a row is skipped here, so the usage stays unknown. `Session::usage`
            // then asks with the same collation, and the quota is checked against the right row.
            for row in usage {
                let (name, bucket, amount) = read_row::<(String, i64, Option<i64>)>(row)?;
                if let Some(writer) = read_set.writers.iter().find(|writer| writer.as_str() == name) {
                    ahead.usage.insert(((*writer).clone(), bucket), amount.unwrap_or(0));
                }
            }
        }
        ahead.limits.extend(read_set.tables.iter().map(|table| ((*table).clone(), None)));
        for row in sets.next().unwrap_or_default() {
            let (family, name, warn, max) = read_row::<(String, String, Option<i64>, Option<i64>)>(row)?;
            let is_it = |table: &&&TableRef| table.family.as_str() == family && table.table.as_str() == name;
            if let Some(table) = read_set.tables.iter().find(is_it) {
                let limit = warn.zip(max).map(|(warn_bytes, max_bytes)| TableLimit { warn_bytes, max_bytes });
                ahead.limits.insert((*table).clone(), limit);
            }
        }
        Ok(ahead)
    }

    /// Only the answers to this read set, with usage in `bucket`. `None` if an answer is missing or a
    /// writer does not exist.
    pub fn only(&self, read_set: &ReadSet<'_>, bucket: i64) -> Option<Self> {
        let mut only = Self::default();
        for &writer in &read_set.writers {
            let key = (writer.clone(), bucket);
            let row = self.writers.get(writer).filter(|row| row.is_some())?;
            only.writers.insert(writer.clone(), row.clone());
            only.usage.insert(key.clone(), *self.usage.get(&key)?);
        }
        for &table in &read_set.tables {
            only.limits.insert(table.clone(), *self.limits.get(table)?);
        }
        (!only.writers.is_empty()).then_some(only)
    }

    /// Adds newer answers, which replace older ones.
    pub fn extend(&mut self, newer: Self) {
        self.writers.extend(newer.writers);
        self.usage.extend(newer.usage);
        self.limits.extend(newer.limits);
        if self.writers.len().max(self.usage.len()).max(self.limits.len()) > MOST_KEPT {
            *self = Self::default();
        }
    }

    /// Changes the answers as these marks change the rows.
    pub fn mark(&mut self, bucket: i64, marks: &[WriterMark<'_>]) {
        for mark in marks {
            if let Some(Some(row)) = self.writers.get_mut(mark.writer) {
                row.cookie = mark.cookie.to_vec();
            }
            if let Some(amount) = self.usage.get_mut(&(mark.writer.clone(), bucket)) {
                *amount = amount.saturating_add(mark.rows);
            }
        }
    }

    fn read_writers(&mut self, read_set: &ReadSet<'_>, writers: Vec<Row>, rates: Vec<Row>) -> Result<(), SqlError> {
        let rates = rates.into_iter().map(read_row).collect::<Result<HashMap<String, Option<i64>>, _>>();
        let mut rates = rates?;
        self.writers.extend(read_set.writers.iter().map(|name| ((*name).clone(), None)));
        for row in writers {
            let (name, secret_hash, cookie) = read_row::<(String, String, Vec<u8>)>(row)?;
            if let Some(writer) = read_set.writers.iter().find(|writer| writer.as_str() == name) {
                let rows_per_minute = rates.remove(&name).flatten();
                let row = WriterRow { secret_hash, cookie, rows_per_minute };
                self.writers.insert((*writer).clone(), Some(row));
            }
        }
        Ok(())
    }
}
