//! The ledger table's name, which the settings may change, and the statements on it.
//! It is the one identifier that comes from outside, so it is checked here.

use ctlstore_core::sql::quoted;

use super::CtldbError;

/// A checked SQL identifier: 1 to 64 of `a-z A-Z 0-9 _`, not starting with a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTable(String);

impl LedgerTable {
    pub fn new(name: &str) -> Result<Self, CtldbError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) || name.as_bytes()[0].is_ascii_digit() {
            return Err(CtldbError::Schema(format!("{name:?} can't be the ledger table's name")));
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sql` with the table's name, quoted, in place of each `{ledger}`.
    pub(super) fn fill(&self, sql: &str) -> String {
        sql.replace("{ledger}", &quoted(&self.0))
    }
}

impl Default for LedgerTable {
    /// The protocol's name.
    fn default() -> Self {
        Self("ctlstore_dml_ledger".to_owned())
    }
}
