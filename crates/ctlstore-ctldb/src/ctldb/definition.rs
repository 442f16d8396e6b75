//! A table's definition in the ledger, and its comparison with the table in the ctldb. An operator may change the
//! ctldb by hand, but the LDBs know only the ledger. Entry points: [`Definition::of`] and [`compare`]. No I/O.
//!
//! The ledger may be pruned, so the definitions are recorded beside it (`ctlstore_table_definition`). Each has the
//! seq of the last schema statement in it. Later statements, which other programs may have written, are added when
//! the table is read.

use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FieldType, TableRef, TableSchema};
use ctlstore_core::sql;

use super::dry_run;
use super::session::TableFault;

/// The name in `ctlstore_meta` of the seq up to which the definitions are recorded.
pub(super) const DEFINITIONS_SEQ: &str = "definitions_seq";

/// A row of the record that belongs to no table. If it is missing, the record was lost, for example by a restore of
/// only some tables. [`DEFINITIONS_SEQ`] is then invalid.
pub(super) const RECORD_MARK: &str = "(table_name, ledger_seq, statement) VALUES ('', 0, 'mark')";

/// The condition on `statement` that selects the ledger rows which change a definition.
pub(super) const IS_SCHEMA_CHANGE: &str = "(statement LIKE 'CREATE TABLE %' OR statement LIKE 'ALTER TABLE %' \
                                           OR statement LIKE 'DROP TABLE %')";

/// Why a table that is gone from the ctldb can't be written to.
pub(super) const MISSING_IN_CTLDB: &str = "the ledger has it, the ctldb does not";

/// The prefix of a recorded definition that is no statement but a reason.
const UNREADABLE: &str = "-- ";

/// The ledger's definition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Definition {
    /// The table was never made, or was dropped.
    Absent,
    Table(TableSchema),
    /// The ledger has a statement that no LDB can apply, or a column that can't be a field. Holds the reason.
    Unreadable(String),
}

/// A definition as it is recorded, with the seq of the last statement in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub seq: Seq,
    pub statement: String,
}

impl Definition {
    /// The recorded definition with the changes of later ledger rows. `rows` may belong to any table.
    pub fn of<'a>(
        table: &TableRef,
        recorded: Option<&Recorded>,
        rows: impl IntoIterator<Item = (Seq, &'a str)>,
    ) -> Self {
        let (since, mut definition) = match recorded {
            None => (Seq::ZERO, Self::Absent),
            Some(recorded) => (recorded.seq, Self::read(table, &recorded.statement)),
        };
        let name = table.sql_name();
        for (seq, statement) in rows {
            if seq > since && changed_table(statement) == Some(name.as_str()) {
                definition = definition.after(table, seq, statement);
            }
        }
        definition
    }

    fn read(table: &TableRef, recorded: &str) -> Self {
        match recorded.strip_prefix(UNREADABLE) {
            Some(reason) => Self::Unreadable(reason.to_owned()),
            None if recorded.is_empty() => Self::Absent,
            None => Self::run(table, None, recorded, "the recorded definition"),
        }
    }

    fn after(self, table: &TableRef, seq: Seq, statement: &str) -> Self {
        match self {
            Self::Table(before) => Self::run(table, Some(&before), statement, &format!("ledger row {seq}")),
            Self::Unreadable(reason) if !statement.starts_with("DROP TABLE ") => Self::Unreadable(reason),
            _ => Self::run(table, None, statement, &format!("ledger row {seq}")),
        }
    }

    fn run(table: &TableRef, before: Option<&TableSchema>, statement: &str, what: &str) -> Self {
        match dry_run::run(table, before, statement) {
            Ok(Some(schema)) => Self::Table(schema),
            Ok(None) => Self::Absent,
            Err(reason) => Self::Unreadable(format!("no ldb can apply {what}: {reason}")),
        }
    }

    /// The fault of a table that can't be written to because of `reason`.
    pub fn fault(&self, table: &TableRef, reason: String) -> TableFault {
        let mend = match self {
            Self::Absent => format!("DROP TABLE {table}; and make it through an executive"),
            Self::Table(schema) => format!("change it back to what the ledger says: {}", sql::create_table(schema)),
            Self::Unreadable(_) => "ctlstore tail-ledger, and look at that row".to_owned(),
        };
        TableFault { table: table.sql_name(), reason, mend, blocks_writes: true }
    }

    /// The form in which it is recorded.
    pub fn to_record(&self) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Table(schema) => sql::create_table(schema),
            Self::Unreadable(reason) => format!("{UNREADABLE}{reason}"),
        }
    }
}

/// The SQL name of the table that a schema statement changes.
pub(super) fn changed_table(statement: &str) -> Option<&str> {
    use sql::Statement::{AddColumn, CreateTable, DropTable};
    match sql::parse(statement) {
        CreateTable { table } | AddColumn { table } | DropTable { table } => Some(table),
        _ => None,
    }
}

/// A column of the ctldb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub declared: String,
    /// Whether a row may omit it.
    pub is_optional: bool,
    pub is_generated: bool,
    pub collation: Option<String>,
}

/// A table as the ctldb has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Physical {
    /// Objects that could change or refuse a row: a view instead of a table, a trigger, another unique index.
    pub obstacles: Vec<String>,
    pub columns: Vec<Column>,
    /// In the key's order.
    pub key: Vec<String>,
}

impl Physical {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The definition that its columns make, for a ledger that no longer has one.
    pub fn definition(&self, table: &TableRef) -> Result<TableSchema, String> {
        let columns = self.columns.iter().map(|column| (column.name.as_str(), column.declared.as_str()));
        dry_run::define(table, columns, self.key.iter().map(String::as_str))
    }
}

/// Compares the table in the ctldb with the ledger's definition. Returns the definition and the columns that only the
/// ctldb has, `None` if neither has the table. An error is the reason why rows can't be written. `holds` says whether a
/// column of a declared type keeps or refuses every value of a field type.
pub(super) fn compare(
    definition: Definition,
    physical: Option<&Physical>,
    holds: impl Fn(FieldType, &str) -> bool,
) -> Result<Option<(TableSchema, Vec<String>)>, String> {
    let (schema, physical) = match (definition, physical) {
        (Definition::Absent, None) => return Ok(None),
        (Definition::Absent, Some(_)) => return Err("the ledger has no such table: it was made by hand".to_owned()),
        (Definition::Unreadable(reason), _) => return Err(reason),
        (Definition::Table(_), None) => return Err(MISSING_IN_CTLDB.to_owned()),
        (Definition::Table(schema), Some(physical)) => (schema, physical),
    };
    if let Some(obstacle) = physical.obstacles.first() {
        return Err(obstacle.clone());
    }
    for field in schema.fields() {
        let name = &field.name;
        let field_type = field.field_type;
        match physical.column(name.as_str()) {
            None => return Err(format!("the ctldb has no column {name}, the ledger has")),
            Some(column) if column.is_generated => return Err(format!("column {name} is a generated one")),
            Some(column) if !holds(field_type, &column.declared) => {
                return Err(format!(
                    "column {name} is {} in the ctldb and {field_type} in the ledger",
                    column.declared
                ));
            }
            Some(_) => {}
        }
    }
    let key: Vec<&str> = schema.key_fields().map(|field| field.name.as_str()).collect();
    let is_same_key = key.len() == physical.key.len() && key.iter().zip(&physical.key).all(|(a, b)| a == b);
    if !is_same_key {
        let theirs = physical.key.join(", ");
        let ours = key.join(", ");
        return Err(format!("its key is ({theirs}) in the ctldb and ({ours}) in the ledger"));
    }
    let of_ledger = |column: &Column| schema.fields().iter().any(|f| column.name.eq_ignore_ascii_case(f.name.as_str()));
    let extra: Vec<&Column> = physical.columns.iter().filter(|column| !of_ledger(column)).collect();
    if let Some(column) = extra.iter().find(|column| !column.is_optional) {
        return Err(format!("column {} is not in the ledger and wants a value in each row", column.name));
    }
    let extra = extra.into_iter().map(|column| column.name.to_ascii_lowercase()).collect();
    Ok(Some((schema, extra)))
}

/// The fault of a table with columns that only the ctldb has. Such a table is written to without these columns.
pub(super) fn extra_columns_fault(table: &TableRef, columns: &[String]) -> Option<TableFault> {
    let first = columns.first()?;
    let reason = format!("the ctldb has a column {first}, which the ledger has not: no ldb gets its values");
    let mend = format!("ALTER TABLE {table} DROP COLUMN {first};");
    Some(TableFault { table: table.sql_name(), reason, mend, blocks_writes: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: &str = r#"CREATE TABLE fam___tab ("a" VARCHAR(191), PRIMARY KEY("a"));"#;
    const ADD: &str = r#"ALTER TABLE fam___tab ADD COLUMN "b" REAL"#;

    fn table() -> TableRef {
        TableRef::parse("fam", "tab").unwrap()
    }

    fn fields(definition: &Definition) -> usize {
        match definition {
            Definition::Table(schema) => schema.fields().len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_definition_is_what_was_recorded_and_what_came_behind() {
        let other = r#"CREATE TABLE fam___tab2 ("x" INTEGER, PRIMARY KEY("x"));"#;
        let rows = [(Seq(1), CREATE), (Seq(2), other), (Seq(5), ADD)];
        let whole = Definition::of(&table(), None, rows);
        assert_eq!(fields(&whole), 2);
        let recorded = Recorded { seq: Seq(5), statement: whole.to_record() };
        assert_eq!(Definition::of(&table(), Some(&recorded), rows), whole);
        let dropped = Definition::of(&table(), Some(&recorded), [(Seq(6), "DROP TABLE IF EXISTS fam___tab")]);
        assert_eq!((&dropped, dropped.to_record().as_str()), (&Definition::Absent, ""));
        assert_eq!(fields(&Definition::of(&table(), None, [(Seq(7), CREATE)])), 1);
    }

    #[test]
    fn what_no_ldb_can_apply_makes_a_definition_unreadable_until_it_is_dropped() {
        let broken = Definition::of(&table(), None, [(Seq(1), CREATE), (Seq(2), CREATE), (Seq(3), ADD)]);
        let Definition::Unreadable(reason) = &broken else { panic!("{broken:?}") };
        assert!(reason.contains("ledger row 2") && reason.contains("already exists"), "{reason}");
        let recorded = Recorded { seq: Seq(3), statement: broken.to_record() };
        assert_eq!(Definition::of(&table(), Some(&recorded), []), broken);
        let again = [(Seq(4), "DROP TABLE IF EXISTS fam___tab"), (Seq(5), CREATE)];
        assert_eq!(fields(&Definition::of(&table(), Some(&recorded), again)), 1);
    }
}
