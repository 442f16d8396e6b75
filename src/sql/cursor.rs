//! Takes a ledger statement apart from its front: names and the protocol's literals.
//! What the pieces make up is told elsewhere.

use std::borrow::Cow;

/// The most digits that a float's shortest spelling has. A spelling with more is not
/// canonical, and SQLite may round it to another float than Rust does.
const MAX_FLOAT_DIGITS: usize = 17;

/// A literal's value, borrowed from the statement where it can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal<'a> {
    Null,
    Integer(i64),
    Boolean(bool),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Vec<u8>),
}

/// What is left of the statement. Every step takes a piece off its front, or
/// gives `None` where the text is not in the canonical form.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    pub text: &'a str,
}

impl<'a> Cursor<'a> {
    pub fn after(self, prefix: &str) -> Option<Self> {
        self.text.strip_prefix(prefix).map(|text| Self { text })
    }

    pub fn is_at_end(self) -> bool {
        self.text.is_empty()
    }

    /// Splits after the first `at` bytes, which must be a character boundary.
    fn split(self, at: usize) -> (&'a str, Self) {
        let (piece, text) = self.text.split_at(at);
        (piece, Self { text })
    }

    /// Where `byte`, an ASCII character, comes first.
    fn position(self, byte: u8) -> Option<usize> {
        self.text.as_bytes().iter().position(|&b| b == byte)
    }

    pub fn table(self) -> Option<(&'a str, Self)> {
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let length = self.text.as_bytes().iter().take_while(|b| is_name(b)).count();
        // A name that starts with a digit is no identifier.
        (length > 0 && !self.text.as_bytes()[0].is_ascii_digit()).then(|| self.split(length))
    }

    pub fn quoted_name(self) -> Option<(&'a str, Self)> {
        let inside = self.after("\"")?;
        let (name, rest) = inside.split(inside.position(b'"')?);
        let rest = rest.after("\"")?;
        // A doubled quote would be part of the name.
        (!name.is_empty() && !rest.text.starts_with('"')).then_some((name, rest))
    }

    /// SQLite's parser would stop at a NUL, wherever it stands.
    pub fn refuse_nul(self) -> Option<()> {
        (!self.text.as_bytes().contains(&0)).then_some(())
    }

    pub fn literal(self) -> Option<(Literal<'a>, Self)> {
        match self.text.as_bytes().first()? {
            b'\'' => self.text_literal(),
            b'x' => self.blob_literal(),
            b'N' => Some((Literal::Null, self.after("NULL")?)),
            b't' => Some((Literal::Boolean(true), self.after("true")?)),
            b'f' => Some((Literal::Boolean(false), self.after("false")?)),
            _ => self.number_literal(),
        }
    }

    fn text_literal(self) -> Option<(Literal<'a>, Self)> {
        let inside = self.after("'")?;
        let (first, mut rest) = inside.split(inside.position(b'\'')?);
        rest = rest.after("'")?;
        let mut text = Cow::Borrowed(first);
        // A quote right behind the closing one stands for a quote in the text.
        while let Some(more) = rest.after("'") {
            let (piece, next) = more.split(more.position(b'\'')?);
            rest = next.after("'")?;
            let text = text.to_mut();
            text.push('\'');
            text.push_str(piece);
        }
        Some((Literal::Text(text), rest))
    }

    fn blob_literal(self) -> Option<(Literal<'a>, Self)> {
        let inside = self.after("x'")?;
        let (digits, rest) = inside.split(inside.position(b'\'')?);
        Some((Literal::Blob(hex::decode(digits).ok()?), rest.after("'")?))
    }

    fn number_literal(self) -> Option<(Literal<'a>, Self)> {
        let bytes = self.text.as_bytes();
        let whole = usize::from(bytes.first() == Some(&b'-'));
        let mut end = whole + digits(&bytes[whole..])?;
        if bytes.get(end) == Some(&b'.') {
            end += 1 + digits(&bytes[end + 1..])?;
        }
        let (number, rest) = self.split(end);
        let value = match number.parse() {
            Ok(integer) => Literal::Integer(integer),
            // A fraction, or beyond 64 bits, where SQLite reads a float as well.
            Err(_) => float(number)?,
        };
        Some((value, rest))
    }
}

/// How many digits `bytes` begin with, `None` for none.
fn digits(bytes: &[u8]) -> Option<usize> {
    let count = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    (count > 0).then_some(count)
}

/// A number in plain decimal as a float, where its spelling is short enough.
fn float(number: &str) -> Option<Literal<'static>> {
    // Counted from the first digit that is not 0 to the last one.
    let (mut seen, mut significant) = (0, 0);
    for byte in number.bytes().filter(u8::is_ascii_digit) {
        seen += usize::from(seen > 0 || byte != b'0');
        if byte != b'0' {
            significant = seen;
        }
    }
    if significant > MAX_FLOAT_DIGITS {
        return None;
    }
    number.parse().ok().map(Literal::Real)
}
