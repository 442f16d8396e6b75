//! What a group of requests is about to ask for, read in one round trip: writers, their
//! usage, and limits of tables. Good until the transaction writes anything.

use std::collections::{BTreeSet, HashMap};

use crate::ctldb::{TableLimit, WriterRow};
use crate::schema::{TableRef, WriterName};

use super::rows::text;

pub(super) type Found = (i64, Option<String>, Option<String>, Option<Vec<u8>>, Option<i64>, Option<i64>);

/// Answers by what was asked; a name that is missing was not asked for.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub writers: HashMap<WriterName, Option<WriterRow>>,
    /// By writer and bucket.
    pub usage: HashMap<(WriterName, i64), i64>,
    pub limits: HashMap<TableRef, Option<TableLimit>>,
}

/// The question for all of them; `None` when there are none. Rows are told by the place
/// of the name that they were asked for by, tables behind writers.
pub(super) fn question(writers: &BTreeSet<&WriterName>, bucket: i64, tables: &BTreeSet<&TableRef>) -> Option<String> {
    let writer = |(place, name): (usize, &&WriterName)| {
        let name = text(name.as_str());
        format!(
            "SELECT {place}, writer, secret, cookie, \
             (SELECT max_rows_per_minute FROM max_writer_rates WHERE writer_name = {name}), \
             (SELECT amount FROM writer_usage WHERE writer_name = {name} AND bucket = {bucket}) \
             FROM mutators WHERE writer = {name}"
        )
    };
    let limit = |(place, table): (usize, &&TableRef)| {
        let (place, family, name) = (writers.len() + place, text(table.family.as_str()), text(table.table.as_str()));
        format!(
            "SELECT {place}, NULL, NULL, NULL, warn_size_bytes, max_size_bytes FROM max_table_sizes \
             WHERE family_name = {family} AND table_name = {name}"
        )
    };
    let parts = writers.iter().enumerate().map(writer).chain(tables.iter().enumerate().map(limit));
    let all = parts.collect::<Vec<_>>().join(" UNION ALL ");
    (!all.is_empty()).then_some(all)
}

impl Ahead {
    /// What `found` says of those who were asked for.
    pub fn new(writers: &BTreeSet<&WriterName>, bucket: i64, tables: &BTreeSet<&TableRef>, found: Vec<Found>) -> Self {
        let mut ahead = Self::default();
        ahead.writers.extend(writers.iter().map(|name| ((*name).clone(), None)));
        ahead.limits.extend(tables.iter().map(|table| ((*table).clone(), None)));
        for (place, writer, secret, cookie, first, second) in found {
            let Ok(place) = usize::try_from(place) else { continue };
            if let Some(name) = writers.iter().nth(place) {
                // A collation may have found another writer's row.
                if writer.as_deref() == Some(name.as_str()) {
                    let (secret_hash, cookie) = (secret.unwrap_or_default(), cookie.unwrap_or_default());
                    let row = WriterRow { secret_hash, cookie, rows_per_minute: first };
                    ahead.writers.insert((*name).clone(), Some(row));
                    ahead.usage.insert(((*name).clone(), bucket), second.unwrap_or(0));
                }
            } else if let Some(table) = tables.iter().nth(place - writers.len()) {
                let limit = first.zip(second).map(|(warn_bytes, max_bytes)| TableLimit { warn_bytes, max_bytes });
                ahead.limits.insert((*table).clone(), limit);
            }
        }
        ahead
    }
}
