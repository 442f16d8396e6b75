//! [`MutationRequest`], and the check of one [`Mutation`] against its table. The check makes the row change
//! for the ctldb and the statement for the ledger. No I/O; `admission` runs the checks.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::ctldb::{ColumnCollation, RowChange, StoredTable};
use ctlstore_core::schema::{FamilyName, Field, FieldValue, TableName, TableRef};
use ctlstore_core::sql;

use super::credentials::Credentials;
use super::error::Refusal;
use super::limits::{MAX_COOKIE_BYTES, MAX_MUTATIONS, MAX_STATEMENT_BYTES};

/// One row to write or delete. It is not yet checked against its table.
#[derive(Debug)]
pub struct Mutation {
    pub(super) table: TableRef,
    delete: bool,
    /// By field name in lower case, as JSON source.
    values: HashMap<String, Box<RawValue>>,
}

impl Mutation {
    /// `values` has field names in any letter case and their values as JSON source.
    pub fn new(
        family: &FamilyName,
        table: &str,
        delete: bool,
        values: Vec<(String, Box<RawValue>)>,
    ) -> Result<Self, Refusal> {
        let table = TableRef::new(family.clone(), TableName::new(table)?)?;
        let mut by_name = HashMap::with_capacity(values.len());
        for (mut name, value) in values {
            name.make_ascii_lowercase();
            if by_name.contains_key(&name) {
                return Err(Refusal::FieldTwice { table: table.sql_name(), field: shown(&name) });
            }
            by_name.insert(name, value);
        }
        Ok(Self { table, delete, values: by_name })
    }

    /// Checks the mutation against its table. Returns the row change and the ledger's statement.
    pub(super) fn check(&self, table: &Arc<StoredTable>) -> Result<(RowChange, String), Refusal> {
        let schema = &table.schema;
        let known = |name: &str| schema.fields().iter().any(|f| f.name.as_str() == name);
        if let Some(unknown) = self.values.keys().find(|name| !known(name)) {
            return Err(Refusal::UnknownField { table: self.table.clone(), field: shown(unknown) });
        }
        let (change, statement) = if self.delete {
            let key: Vec<FieldValue> =
                schema.key_in_column_order().into_iter().map(|i| self.value(table, i)).collect::<Result<_, _>>()?;
            let statement = sql::delete(schema, &key);
            (RowChange::Delete { table: Arc::clone(table), key }, statement)
        } else {
            let values: Vec<FieldValue> =
                (0..schema.fields().len()).map(|i| self.value(table, i)).collect::<Result<_, _>>()?;
            let statement = sql::upsert(schema, &values);
            (RowChange::Upsert { table: Arc::clone(table), values }, statement)
        };
        if statement.len() > MAX_STATEMENT_BYTES {
            return Err(Refusal::StatementTooLarge { table: self.table.clone(), bytes: statement.len() });
        }
        Ok((change, statement))
    }

    fn value(&self, table: &StoredTable, index: usize) -> Result<FieldValue, Refusal> {
        let field: &Field = &table.schema.fields()[index];
        let is_key = table.schema.is_key(index);
        let refused = |reason| Refusal::BadValue { table: self.table.clone(), field: field.name.clone(), reason };
        let Some(json) = self.values.get(field.name.as_str()) else {
            return Err(Refusal::MissingField { table: self.table.clone(), field: field.name.clone() });
        };
        let value = FieldValue::from_json(field, is_key, json).map_err(refused)?;
        let ends_in_space = matches!(&value, FieldValue::Text(text) if text.ends_with(' '));
        if is_key && ends_in_space && table.collation == ColumnCollation::Padded {
            return Err(Refusal::PaddedKey { table: self.table.clone(), field: field.name.clone() });
        }
        Ok(value)
    }
}

/// A name from outside, cut to the length that an error may repeat.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

pub(super) fn check_cookie_length(cookie: &[u8]) -> Result<(), Refusal> {
    if cookie.len() > MAX_COOKIE_BYTES { Err(Refusal::CookieTooLong(cookie.len())) } else { Ok(()) }
}

/// A mutation request. Everything is checked that needs no ctldb.
#[derive(Debug)]
pub struct MutationRequest {
    pub(super) credentials: Credentials,
    pub(super) cookie: Vec<u8>,
    pub(super) check_cookie: Option<Vec<u8>>,
    pub(super) mutations: Vec<Mutation>,
}

impl MutationRequest {
    /// The cookie is stored as it is, also an empty one. If `check_cookie` is given, it must be equal to the
    /// stored one.
    pub fn new(
        credentials: Credentials,
        cookie: Vec<u8>,
        check_cookie: Option<Vec<u8>>,
        mutations: Vec<Mutation>,
    ) -> Result<Self, Refusal> {
        check_cookie_length(&cookie)?;
        check_cookie_length(check_cookie.as_deref().unwrap_or_default())?;
        if mutations.is_empty() {
            return Err(Refusal::NoMutations);
        }
        if mutations.len() > MAX_MUTATIONS {
            return Err(Refusal::TooManyMutations(mutations.len()));
        }
        Ok(Self { credentials, cookie, check_cookie, mutations })
    }

    /// The approximate number of bytes that the request sends to the ctldb.
    pub fn weight(&self) -> usize {
        let values = self.mutations.iter().flat_map(|m| m.values.values());
        self.cookie.len() + values.map(|value| value.get().len()).sum::<usize>()
    }

    pub fn rows(&self) -> usize {
        self.mutations.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctlstore_core::schema::{FieldName, FieldType, TableSchema};

    fn table(collation: ColumnCollation) -> Arc<StoredTable> {
        let field = |name, field_type| Field { name: FieldName::new(name).unwrap(), field_type };
        let fields = vec![field("id", FieldType::String), field("n", FieldType::Integer)];
        let key = [FieldName::new("id").unwrap()];
        let schema = TableSchema::new(TableRef::parse("fam", "tab").unwrap(), fields, &key).unwrap();
        Arc::new(StoredTable { schema, extra_columns: Vec::new(), collation })
    }

    fn mutation(delete: bool, json: &str) -> Result<Mutation, Refusal> {
        let values: Vec<(String, Box<RawValue>)> = serde_json::from_str::<Vec<(String, Box<RawValue>)>>(json).unwrap();
        Mutation::new(&FamilyName::new("fam").unwrap(), "TAB", delete, values)
    }

    #[test]
    fn names_match_in_any_letter_case_but_only_once() {
        let taken = mutation(false, r#"[["ID","a"],["N",1]]"#).unwrap().check(&table(ColumnCollation::Exact)).unwrap();
        assert_eq!(taken.1, r#"REPLACE INTO fam___tab ("id","n") VALUES('a',1)"#);
        assert!(matches!(mutation(false, r#"[["id","a"],["ID","a"]]"#), Err(Refusal::FieldTwice { .. })));
    }

    #[test]
    fn an_upsert_names_every_field_and_a_delete_its_key() {
        let exact = table(ColumnCollation::Exact);
        let check = |delete, json| mutation(delete, json).unwrap().check(&exact);
        assert!(matches!(check(false, r#"[["id","a"]]"#), Err(Refusal::MissingField { .. })));
        assert!(matches!(check(false, r#"[["id","a"],["n",1],["x",1]]"#), Err(Refusal::UnknownField { .. })));
        assert!(matches!(check(true, r#"[["n",1]]"#), Err(Refusal::MissingField { .. })));
        assert!(matches!(check(true, r#"[["id","a"],["x",1]]"#), Err(Refusal::UnknownField { .. })));
        assert!(check(true, r#"[["id","a"],["n","not looked at"]]"#).is_ok());
        assert!(matches!(check(false, r#"[["id",null],["n",1]]"#), Err(Refusal::BadValue { .. })));
    }

    #[test]
    fn padding_collations_take_no_key_that_ends_in_a_space() {
        let json = r#"[["id","a "],["n",1]]"#;
        for delete in [false, true] {
            let padded = mutation(delete, json).unwrap().check(&table(ColumnCollation::Padded));
            assert!(matches!(padded, Err(Refusal::PaddedKey { .. })));
            assert!(mutation(delete, json).unwrap().check(&table(ColumnCollation::Exact)).is_ok());
        }
    }
}
