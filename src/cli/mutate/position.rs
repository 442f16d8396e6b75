//! A writer's position in an input, kept in its cookie: how many lines are written, and a digest of
//! them, which tells another input apart. Entry points: [`InputPosition`] while lines go by, and
//! [`InputCookie`].

use sha2::{Digest, Sha256};

const FORM: &str = "ctlstore-mutate 1";

/// The position after some lines of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputCookie {
    pub lines: u64,
    /// The SHA-256 of these lines, a newline after each, in lower-case hex.
    pub digest: String,
}

impl InputCookie {
    pub fn bytes(&self) -> Vec<u8> {
        format!("{FORM} lines={} sha256={}", self.lines, self.digest).into_bytes()
    }

    /// `None` if the cookie has another form.
    pub fn of_cookie(cookie: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(cookie).ok()?.strip_prefix(FORM)?;
        let (lines, digest) = rest.strip_prefix(" lines=")?.split_once(" sha256=")?;
        Some(Self { lines: lines.parse().ok()?, digest: digest.to_owned() })
    }
}

/// Counts and digests lines as they go by.
#[derive(Debug, Clone, Default)]
pub struct InputPosition {
    lines: u64,
    digest: Sha256,
}

impl InputPosition {
    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn pass(&mut self, line: &str) {
        self.lines += 1;
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
    }

    pub fn to_cookie(&self) -> InputCookie {
        InputCookie { lines: self.lines, digest: hex::encode(self.digest.clone().finalize()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_from_its_cookie() {
        let mut position = InputPosition::default();
        position.pass("one");
        position.pass("two");
        let place = position.to_cookie();
        assert_eq!((place.lines, InputCookie::of_cookie(&place.bytes())), (2, Some(place.clone())));
        let mut other = InputPosition::default();
        ["one\ntwo", ""].iter().for_each(|line| other.pass(line));
        assert_ne!(other.to_cookie().digest, place.digest);
        for strange in ["", "ctlstore-mutate 1", "ctlstore-mutate 1 lines=x sha256=", "\u{fffd}"] {
            assert_eq!(InputCookie::of_cookie(strange.as_bytes()), None, "{strange:?}");
        }
    }
}
