//! Writes the ledger's statements exactly as the protocol says. Entry points: one function for each
//! form, such as [`upsert`].

use crate::schema::{Field, FieldValue, TableRef, TableSchema};

use super::literal::push_literal;

/// The ledger row that opens a ledger transaction of more than one mutation.
pub const BEGIN: &str = "--- BEGIN";
/// The ledger row that closes such a transaction.
pub const COMMIT: &str = "--- COMMIT";

/// A name in double quotes. A checked name contains none, but a name of another program may.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn create_table(table: &TableSchema) -> String {
    let columns: Vec<String> =
        table.fields().iter().map(|f| format!("{} {}", quoted(f.name.as_str()), f.field_type.ldb_type())).collect();
    let key: Vec<String> = table.key_fields().map(|f| quoted(f.name.as_str())).collect();
    format!("CREATE TABLE {} ({}, PRIMARY KEY({}));", table.table(), columns.join(", "), key.join(","))
}

pub fn add_column(table: &TableRef, field: &Field) -> String {
    format!("ALTER TABLE {table} ADD COLUMN {} {}", quoted(field.name.as_str()), field.field_type.ldb_type())
}

pub fn drop_table(table: &TableRef) -> String {
    format!("DROP TABLE IF EXISTS {table}")
}

pub fn clear_table(table: &TableRef) -> String {
    format!("DELETE FROM {table}")
}

/// An upsert of one row. `values` has one value for each field, in the table's column order.
pub fn upsert(table: &TableSchema, values: &[FieldValue]) -> String {
    debug_assert_eq!(values.len(), table.fields().len());
    let mut out = String::with_capacity(64 + values.len() * 16);
    out.push_str("REPLACE INTO ");
    out.push_str(&table.table().sql_name());
    out.push_str(" (");
    for (i, field) in table.fields().iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        out.push_str(field.name.as_str());
        out.push('"');
    }
    out.push_str(") VALUES(");
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_literal(&mut out, value);
    }
    out.push(')');
    out
}

/// A delete of one row. `key` has the values of the key fields, in the table's column order.
pub fn delete(table: &TableSchema, key: &[FieldValue]) -> String {
    let mut out = format!("DELETE FROM {} WHERE ", table.table());
    for (i, (index, value)) in table.key_in_column_order().into_iter().zip(key).enumerate() {
        if i > 0 {
            out.push_str(" AND ");
        }
        out.push('"');
        out.push_str(table.fields()[index].name.as_str());
        out.push_str("\" = ");
        push_literal(&mut out, value);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{FieldName, FieldType};

    fn table() -> TableSchema {
        let field = |name, field_type| Field { name: FieldName::new(name).unwrap(), field_type };
        TableSchema::new(
            TableRef::parse("fam", "tab").unwrap(),
            vec![field("a", FieldType::String), field("b", FieldType::Integer), field("c", FieldType::ByteString)],
            &[FieldName::new("b").unwrap(), FieldName::new("a").unwrap()],
        )
        .unwrap()
    }

    #[test]
    fn forms_are_the_protocols() {
        let table = table();
        assert_eq!(
            create_table(&table),
            r#"CREATE TABLE fam___tab ("a" VARCHAR(191), "b" INTEGER, "c" BLOB(255), PRIMARY KEY("b","a"));"#
        );
        let field = Field { name: FieldName::new("d").unwrap(), field_type: FieldType::Decimal };
        assert_eq!(add_column(table.table(), &field), r#"ALTER TABLE fam___tab ADD COLUMN "d" REAL"#);
        assert_eq!(drop_table(table.table()), "DROP TABLE IF EXISTS fam___tab");
        assert_eq!(clear_table(table.table()), "DELETE FROM fam___tab");
        let row = [FieldValue::Text("x".into()), FieldValue::Integer(1), FieldValue::Null];
        assert_eq!(upsert(&table, &row), r#"REPLACE INTO fam___tab ("a","b","c") VALUES('x',1,NULL)"#);
        assert_eq!(delete(&table, &row[..2]), r#"DELETE FROM fam___tab WHERE "a" = 'x' AND "b" = 1"#);
    }
}
