//! Reads names and literals from the front of a ledger statement. Entry point:
//! [`StatementCursor`]. The parser beside it knows the forms of statements.

use std::borrow::Cow;

/// The most digits in the shortest spelling of a float. A longer spelling is not canonical, and
/// SQLite may round it to another float than Rust does.
const MAX_FLOAT_DIGITS: usize = 17;

/// Any number of so many digits fits into 64 bits.
const SAFE_DIGITS: usize = 18;

/// The value of a literal. It borrows from the statement if it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal<'a> {
    Null,
    Integer(i64),
    Boolean(bool),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Hex<'a>),
}

/// Bytes, as the hex digits in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<'a>(&'a str);

impl<'a> Hex<'a> {
    /// `None` if these are not pairs of hex digits.
    pub(super) fn new(digits: &'a str) -> Option<Self> {
        let bytes = digits.as_bytes();
        // The loop has no early end, so that the compiler can check many bytes at once.
        let all_digits = bytes.iter().fold(true, |all, byte| all & byte.is_ascii_hexdigit());
        (all_digits && bytes.len().is_multiple_of(2)).then_some(Self(digits))
    }

    /// Replaces the content of `out` by the bytes.
    pub fn decode_into(self, out: &mut Vec<u8>) {
        // This is right for hex digits, and all of these are. A table of them is several times slower.
        let nibble = |digit: u8| (digit & 0x0f) + 9 * (digit >> 6);
        out.clear();
        let (pairs, _) = self.0.as_bytes().as_chunks::<2>();
        out.extend(pairs.iter().map(|[high, low]| nibble(*high) << 4 | nibble(*low)));
    }
}

/// The rest of a statement. Each method takes a piece off its front, or returns `None` if the text
/// is not in the canonical form.
#[derive(Clone, Copy)]
pub struct StatementCursor<'a> {
    pub text: &'a str,
}

impl<'a> StatementCursor<'a> {
    /// The rest after `prefix`.
    pub fn after(self, prefix: &str) -> Option<Self> {
        self.text.strip_prefix(prefix).map(|text| Self { text })
    }

    pub fn is_at_end(self) -> bool {
        self.text.is_empty()
    }

    /// Splits after the first `at` bytes. That place must be a character boundary.
    fn split(self, at: usize) -> (&'a str, Self) {
        let (piece, text) = self.text.split_at(at);
        (piece, Self { text })
    }

    /// The place of the first `byte`, which is an ASCII character.
    fn position(self, byte: u8) -> Option<usize> {
        memchr::memchr(byte, self.text.as_bytes())
    }

    /// A table's name without quotes.
    pub fn table(self) -> Option<(&'a str, Self)> {
        // SQLite treats an upper-case name as the same table; code that compares names would not.
        let is_name = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
        let length = self.text.as_bytes().iter().take_while(|b| is_name(b)).count();
        // An identifier does not begin with a digit.
        (length > 0 && !self.text.as_bytes()[0].is_ascii_digit()).then(|| self.split(length))
    }

    /// A column's name in double quotes.
    pub fn quoted_name(self) -> Option<(&'a str, Self)> {
        let inside = self.after("\"")?;
        let (name, rest) = inside.split(inside.position(b'"')?);
        let rest = rest.after("\"")?;
        // A doubled quote would belong to the name, and no checked name has one.
        (!name.is_empty() && !rest.text.starts_with('"')).then_some((name, rest))
    }

    /// `None` if a NUL is anywhere in the rest, at which SQLite's parser would stop.
    pub fn refuse_nul(self) -> Option<()> {
        self.position(0).is_none().then_some(())
    }

    /// A literal of any kind.
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
        // Two quotes in a row stand for one quote in the text.
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
        Some((Literal::Blob(Hex::new(digits)?), rest.after("'")?))
    }

    fn number_literal(self) -> Option<(Literal<'a>, Self)> {
        let bytes = self.text.as_bytes();
        let start = usize::from(bytes.first() == Some(&b'-'));
        let mut magnitude = 0i64;
        let mut end = start;
        while let Some(digit) = bytes.get(end).filter(|byte| byte.is_ascii_digit()) {
            magnitude = magnitude.wrapping_mul(10).wrapping_add((digit - b'0').into());
            end += 1;
        }
        let whole = end - start;
        if whole == 0 {
            return None;
        }
        let is_fraction = bytes.get(end) == Some(&b'.');
        if is_fraction {
            end += 1 + digits(&bytes[end + 1..])?;
        }
        let (number, rest) = self.split(end);
        let value = if is_fraction {
            float(number)?
        } else if whole <= SAFE_DIGITS {
            Literal::Integer(if start > 0 { -magnitude } else { magnitude })
        } else {
            // SQLite, too, reads a number beyond 64 bits as a float.
            number.parse().map(Literal::Integer).ok().or_else(|| float(number))?
        };
        Some((value, rest))
    }
}

/// The number of digits at the beginning of `bytes`; `None` for none.
fn digits(bytes: &[u8]) -> Option<usize> {
    let count = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    (count > 0).then_some(count)
}

/// A plain decimal number as a float; `None` if its spelling is too long to be canonical.
fn float(number: &str) -> Option<Literal<'static>> {
    if number.len() > MAX_FLOAT_DIGITS && significant_digits(number) > MAX_FLOAT_DIGITS {
        return None;
    }
    number.parse().ok().map(Literal::Real)
}

fn significant_digits(number: &str) -> usize {
    // These are the digits from the first to the last one that is not 0.
    let mut seen = 0;
    let mut significant = 0;
    for byte in number.bytes().filter(u8::is_ascii_digit) {
        seen += usize::from(seen > 0 || byte != b'0');
        if byte != b'0' {
            significant = seen;
        }
    }
    significant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_from_its_hex() {
        let all: Vec<u8> = (0..=255).collect();
        for digits in [hex::encode(&all), hex::encode_upper(&all)] {
            let mut bytes = vec![7];
            Hex::new(&digits).unwrap().decode_into(&mut bytes);
            assert_eq!(bytes, all);
        }
        for bad in ["0", "0g", "é", "0 ", "@0", "`0", "/0", ":0"] {
            assert_eq!(Hex::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers_end_where_64_bits_do() {
        for text in [
            "0",
            "-0",
            "999999999999999999",
            "-999999999999999999",
            "1000000000000000000",
            "9223372036854775807",
            "-9223372036854775808",
            "00000000000000000000001",
        ] {
            let (value, rest) = StatementCursor { text }.literal().unwrap();
            assert_eq!((value, rest.text), (Literal::Integer(text.parse().unwrap()), ""), "{text}");
        }
        let (value, _) = StatementCursor { text: "9223372036854776000" }.literal().unwrap();
        assert_eq!(value, Literal::Real(9_223_372_036_854_775_808.0));
        assert!(StatementCursor { text: "9223372036854775808" }.literal().is_none());
    }
}
