//! A scan that a program goes through at its own pace.

use serde::de::DeserializeOwned;

use crate::read::{Key, Pieces, ReadError};

use super::handle::Reader;

/// The rows of [`Reader::scan_prefix`]. It holds no transaction between two rows.
pub struct Scan<T> {
    reader: Reader,
    pieces: Pieces<T>,
}

impl<T: DeserializeOwned> Scan<T> {
    pub(super) fn new<K: Key + ?Sized>(reader: Reader, table: (&str, &str), prefix: &K) -> Self {
        Self { reader, pieces: Pieces::new(table, prefix) }
    }
}

impl<T: DeserializeOwned> Iterator for Scan<T> {
    type Item = Result<T, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { reader, pieces } = self;
        pieces.next(|pieces| reader.read_transaction(|transaction| pieces.read(transaction)))
    }
}
