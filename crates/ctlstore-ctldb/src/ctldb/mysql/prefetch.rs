//! What an operation is about to ask for, read in one round trip with the ledger lock:
//! writers, their limits and usage, and limits of tables. Good until the transaction
//! writes anything; what it then leaves of that may serve the next one (`assumed`).

use std::collections::HashMap;

use mysql_async::Row;

use crate::ctldb::{ReadSet, TableLimit, WriterMark, WriterRow};
use ctlstore_core::schema::{TableRef, WriterName};

use super::error::SqlError;
use super::pooled_connection::{ResultSets, read_row};
use super::rows::quote;

/// One question for all names of a kind; each row says whose it is. A collation may find
/// other names' rows as well, which are passed over.
const WRITERS: &str = "SELECT writer, secret, cookie FROM mutators WHERE writer IN ({names})";
const RATES: &str = "SELECT writer_name, max_rows_per_minute FROM max_writer_rates WHERE writer_name IN ({names})";
const USAGE: &str = "SELECT writer_name, bucket, amount FROM writer_usage WHERE writer_name IN ({names}) \
                     AND bucket = UNIX_TIMESTAMP() - UNIX_TIMESTAMP() % {period}";
const LIMITS: &str = "SELECT family_name, table_name, warn_size_bytes, max_size_bytes FROM max_table_sizes WHERE ";

/// Answers of each kind that are kept from write to write; all are forgotten above that.
const MOST_KEPT: usize = 1_024;

/// Answers by what was asked; a name that is missing was not asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefetched {
    pub writers: HashMap<WriterName, Option<WriterRow>>,
    /// By writer and bucket, where there is such a row.
    pub usage: HashMap<(WriterName, i64), i64>,
    pub limits: HashMap<TableRef, Option<TableLimit>>,
}

/// The questions, each with a result set of its own.
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
            let (family, name) = (quote(table.family.as_str()), quote(table.table.as_str()));
            format!("(family_name = {family} AND table_name = {name})")
        };
        questions.push(format!("{LIMITS}{}", read_set.tables.iter().map(key).collect::<Vec<_>>().join(" OR ")));
    }
    questions
}

impl Prefetched {
    /// What the result sets of [`questions`] say, in their order.
    pub fn read(read_set: &ReadSet<'_>, sets: ResultSets) -> Result<Self, SqlError> {
        let (mut ahead, mut sets) = (Self::default(), sets.into_iter());
        if !read_set.writers.is_empty() {
            let [writers, rates, usage] = [(); 3].map(|()| sets.next().unwrap_or_default());
            ahead.read_writers(read_set, writers, rates)?;
            // The upsert would add to the row of another spelling where the collation takes it for
            // this one. Passed over here, it is not known, and then `Session::usage` asks for it by
            // the same collation: the quota is held against the row that will be added to.
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

    /// The answers to the read set, with usage in `bucket`; none unless there are all
    /// of them and all of the writers.
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

    /// Newer answers take the place of these.
    pub fn extend(&mut self, newer: Self) {
        self.writers.extend(newer.writers);
        self.usage.extend(newer.usage);
        self.limits.extend(newer.limits);
        if self.writers.len().max(self.usage.len()).max(self.limits.len()) > MOST_KEPT {
            *self = Self::default();
        }
    }

    /// What is so once these marks are written.
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
