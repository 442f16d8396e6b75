//! What goes to the server as one text: statements that nobody waits for one by one. A server
//! answers each of them by itself, which wakes this process as often; where it knows blocks
//! (MariaDB), they are one, and it answers once.

/// A block of statements that is no transaction by itself. The first that fails ends it.
const BLOCK: &str = "BEGIN NOT ATOMIC ";
const END: &str = ";END";

/// Longer texts are blocks only where they have to be: a row costs the server more in a block
/// (about 4 µs), and what an answer costs does not grow.
const MAX_BLOCK_BYTES: usize = 16 * 1024;

/// Statements not yet sent.
#[derive(Debug, Default)]
pub(super) struct StatementBatch {
    sql: String,
    statements: usize,
    /// The length of what has to be in a block, if anything has to.
    block_bytes: usize,
}

impl StatementBatch {
    pub fn of(statements: &[&str]) -> Self {
        Self { sql: statements.join(";"), statements: statements.len(), block_bytes: 0 }
    }

    /// Statements that have to be in one block.
    pub fn block(statements: &[&str]) -> Self {
        let text = Self::of(statements);
        Self { block_bytes: text.len(), ..text }
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

    /// All of it, and then nothing is left. `blocks`: for a server that knows them.
    pub fn take(&mut self, blocks: bool) -> String {
        let Self { sql, statements, block_bytes } = std::mem::take(self);
        let whole = blocks && statements > 1 && sql.len() <= MAX_BLOCK_BYTES;
        match if whole { sql.len() } else { block_bytes } {
            0 => sql,
            length => [BLOCK, &sql[..length], END, &sql[length..]].concat(),
        }
    }

    /// All of it, and `last` behind it, whose answer is the last.
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
