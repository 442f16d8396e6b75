//! Checks that an HTTP header can carry a text unchanged, as writer names and secrets have to be.
//! Entry point: [`check_header_text`]. This file knows nothing else of HTTP.

/// Why a header can't carry a text. The error does not repeat the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    #[error("is not utf-8")]
    NotUtf8,
    #[error("has a control character, such as a line end or a tab, which no header carries")]
    ControlCharacter,
    #[error("begins or ends with a space, which http takes away")]
    OuterSpace,
}

/// Accepts UTF-8 without control characters and without spaces at either end.
pub fn check_header_text(bytes: &[u8]) -> Result<&str, HeaderTextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| HeaderTextError::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(HeaderTextError::ControlCharacter);
    }
    if text.trim() != text {
        return Err(HeaderTextError::OuterSpace);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_arrives_as_it_was_sent_is_taken() {
        for good in ["abc", "a b", "pässwörd", "a/b%20c", "~!@#$%^&*()"] {
            assert_eq!(check_header_text(good.as_bytes()), Ok(good));
        }
        for bad in ["abc\n", "abc\r\n", "a\tb", "a\0b", "a\u{7f}b", "a\u{85}b", "\u{1b}[0m"] {
            assert_eq!(check_header_text(bad.as_bytes()), Err(HeaderTextError::ControlCharacter), "{bad:?}");
        }
        for bad in [" abc", "abc ", "\u{a0}abc", "abc\u{3000}"] {
            assert_eq!(check_header_text(bad.as_bytes()), Err(HeaderTextError::OuterSpace), "{bad:?}");
        }
        assert_eq!(check_header_text(b"abc\xff"), Err(HeaderTextError::NotUtf8));
    }
}
