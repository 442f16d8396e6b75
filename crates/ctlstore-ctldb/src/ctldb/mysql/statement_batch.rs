//! [`StatementBatch`]: statements that go to the server in one piece, because only their common outcome
//! matters. A server answers each statement of such a batch, and each answer wakes this process. If the
//! server knows blocks (MariaDB), the batch is one block with one answer.

/// Begins a block of statements, which is no transaction of its own. The first statement that fails ends it.
const BLOCK: &str = "BEGIN NOT ATOMIC ";
const END: &str = ";END";

/// Longer batches are blocks only as far as they must be. A row costs the server more in a block (about
/// 4 µs), and the cost of an answer does not grow with the batch.
const MAX_BLOCK_BYTES: usize = 16 * 1024;

/// Statements not yet sent.
#[derive(Debug, Default)]
pub(super) struct StatementBatch {
    sql: String,
    statements: usize,
    /// The length of the first part, which must be in a block. 0 if nothing must.
    block_bytes: usize,
}

impl StatementBatch {
    pub fn of(statements: &[&str]) -> Self {
        Self { sql: statements.join(";"), statements: statements.len(), block_bytes: 0 }
    }

    /// Statements that must be in one block.
    pub fn block(statements: &[&str]) -> Self {
        let batch = Self::of(statements);
        Self { block_bytes: batch.len(), ..batch }
    }

    pub fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    pub fn len(&self) -> usize {
        self.sql.len()
    }

    pub fn push(&mut self, statement: &str) {
        if !self.sql.is_empty() {
            self.sql.push(';');
        }
        self.sql.push_str(statement);
        self.statements += 1;
    }

    /// Takes all statements out. `blocks` says whether the server knows blocks.
    pub fn take(&mut self, blocks: bool) -> String {
        let Self { sql, statements, block_bytes } = std::mem::take(self);
        let whole = blocks && statements > 1 && sql.len() <= MAX_BLOCK_BYTES;
        match if whole { sql.len() } else { block_bytes } {
            0 => sql,
            length => [BLOCK, &sql[..length], END, &sql[length..]].concat(),
        }
    }

    /// As [`StatementBatch::take`], followed by `last`, whose answer is the last one.
    pub fn take_with(&mut self, blocks: bool, last: &str) -> String {
        if self.is_empty() { last.to_owned() } else { [&self.take(blocks), last].join(";") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(make: impl Fn() -> StatementBatch, blocks: bool) -> [String; 2] {
        let mut text = make();
        let taken = text.take(blocks);
        assert!(text.is_empty());
        [taken, make().take_with(blocks, "SELECT 1")]
    }

    #[test]
    fn several_statements_are_a_block_where_the_server_knows_them() {
        for blocks in [false, true] {
            assert_eq!(texts(StatementBatch::default, blocks), ["", "SELECT 1"]);
            assert_eq!(texts(|| StatementBatch::of(&["DO 1"]), blocks), ["DO 1", "DO 1;SELECT 1"]);
        }
        let two = || StatementBatch::of(&["DO 1", "DO 2"]);
        assert_eq!(texts(two, false), ["DO 1;DO 2", "DO 1;DO 2;SELECT 1"]);
        let block = "BEGIN NOT ATOMIC DO 1;DO 2;END";
        assert_eq!(texts(two, true), [block, &format!("{block};SELECT 1")]);
    }

    #[test]
    fn of_a_long_text_only_what_has_to_be_is_a_block() {
        let long = format!("DO '{}'", "x".repeat(MAX_BLOCK_BYTES));
        assert_eq!(texts(|| StatementBatch::of(&["DO 1", &long]), true)[0], format!("DO 1;{long}"));
        let begun = || {
            let mut text = StatementBatch::block(&["DO 1", "DO 2"]);
            text.push(&long);
            text.push("COMMIT");
            text
        };
        assert_eq!(texts(begun, true)[0], format!("BEGIN NOT ATOMIC DO 1;DO 2;END;{long};COMMIT"));
    }
}
