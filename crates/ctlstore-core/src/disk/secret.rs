//! Reads a secret from a file or from standard input, by one rule. Entry points: [`read_secret`]
//! and [`secret_from`]. The secret is the text without one line end at its end; no part of it is
//! decoded.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::regular::read_given_text;

/// The most bytes that a file with a secret may hold. A wrong path can name a file that is larger
/// than memory.
pub const MAX_SECRET_FILE_BYTES: u64 = 4096;

/// The secret in the file at `path`. Links are followed, since container platforms mount secrets
/// by links.
///
/// # Errors
/// If the file is a directory or a device, too long, not UTF-8, or empty. No error repeats its text.
pub fn read_secret(path: &Path) -> io::Result<String> {
    secret_of(&read_given_text(path, MAX_SECRET_FILE_BYTES)?)
}

/// The secret that `input` delivers until its end.
///
/// # Errors
/// As for [`read_secret`].
pub fn secret_from(input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(MAX_SECRET_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET_FILE_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_SECRET_FILE_BYTES} bytes")));
    }
    secret_of(&String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not utf-8"))?)
}

fn secret_of(text: &str) -> io::Result<String> {
    let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    match line {
        "" => Err(io::Error::other("it is empty")),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_a_secret_and_nothing_is_decoded() {
        for (text, secret) in [
            ("pa%41ss\n", "pa%41ss"),
            ("p#a/s?s@\r\n", "p#a/s?s@"),
            ("two lines\n\n", "two lines\n"),
            (" spaces stay ", " spaces stay "),
            ("carriage\r", "carriage\r"),
        ] {
            assert_eq!(secret_from(text.as_bytes()).unwrap(), secret, "{text:?}");
        }
        for text in ["", "\n", "\r\n"] {
            assert_eq!(secret_from(text.as_bytes()).unwrap_err().to_string(), "it is empty", "{text:?}");
        }
        assert!(secret_from(&[0xff, 0xfe][..]).unwrap_err().to_string().contains("utf-8"));
        assert!(secret_from(io::repeat(b'x')).unwrap_err().to_string().contains("4096"));
    }
}
