//! Says in plain words what is wrong with a JSON text. The parser speaks of Rust's types
//! (`invalid type: map, expected u64`), which a sender of requests need not know. Entry points:
//! [`explain`], and [`explain_part`] for a text that was cut out of a larger one. Which status
//! or exit code an error has is decided elsewhere.

/// The longest explanation, in characters: the parser may repeat what it was sent.
const MAX_CHARS: usize = 160;

/// Explains the error, with its position in the text.
pub fn explain(error: &serde_json::Error) -> String {
    let (message, position) = parts(error);
    format!("{}{position}", cut(&reworded(&message)))
}

/// Explains the error without its position, which would count from the beginning of the part.
pub fn explain_part(error: &serde_json::Error) -> String {
    cut(&reworded(&parts(error).0))
}

/// The parser's message and the position at its end.
fn parts(error: &serde_json::Error) -> (String, String) {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&position) {
        Some(message) => (message.to_owned(), position),
        None => (text, String::new()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn reworded(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("{} is missing", rest.trim_matches('`'));
    }
    if let Some(rest) = message.strip_prefix("duplicate field ") {
        return format!("{} is given twice", rest.trim_matches('`'));
    }
    if let Some((name, known)) = unknown_name(message) {
        return format!("{name} is unknown, there is {known}");
    }
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        let Some(rest) = message.strip_prefix(kind) else { continue };
        let Some((found, wanted)) = rest.rsplit_once(", expected ") else { continue };
        return format!("{} where {} is wanted", name_of_found(found), name_of_wanted(wanted));
    }
    match message {
        _ if message.starts_with("EOF while parsing") => "it ends too early".to_owned(),
        "expected value" | "expected ident" => "a value is missing or malformed".to_owned(),
        "trailing characters" => "something follows the value".to_owned(),
        _ => message.to_owned(),
    }
}

/// The name and the known ones of ``unknown field `x`, expected `a` or `b` ``.
fn unknown_name(message: &str) -> Option<(&str, String)> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (name, known) = rest.split_once("`, ")?;
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    Some((name, if known.is_empty() { "none".to_owned() } else { known.join(", ") }))
}

fn name_of_found(found: &str) -> String {
    match found {
        "map" => return "an object".to_owned(),
        "sequence" => return "an array".to_owned(),
        "unit value" => return "null".to_owned(),
        length if length.bytes().all(|byte| byte.is_ascii_digit()) => return format!("an array of {length}"),
        _ => {}
    }
    match found.split_once(' ') {
        Some(("string", text)) => format!("the string {text}"),
        Some(("integer", number)) => format!("the number {}", number.trim_matches('`')),
        Some(("floating", number)) => format!("the number {}", number.trim_start_matches("point ").trim_matches('`')),
        Some(("boolean", value)) => value.trim_matches('`').to_owned(),
        _ => found.to_owned(),
    }
}

fn name_of_wanted(wanted: &str) -> String {
    match wanted {
        "a map" => "an object".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "unit" => "null".to_owned(),
        "a borrowed string" => "a string".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        _ if wanted.starts_with("struct ") => "an object".to_owned(),
        _ => match wanted.strip_prefix("a tuple of size ") {
            Some(size) => format!("an array of {size}"),
            None => wanted.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its absence counts")]
        sql: String,
        #[expect(dead_code, reason = "only its absence counts")]
        limit: Option<u64>,
    }

    fn told<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        explain_part(&serde_json::from_str::<T>(json).unwrap_err())
    }

    #[test]
    fn what_is_wrong_is_told_in_words_of_json() {
        assert_eq!(told::<Sample>("{}"), "sql is missing");
        assert_eq!(told::<Sample>(r#"{"sql":"","sql":""}"#), "sql is given twice");
        assert_eq!(told::<Sample>(r#"{"sqll":""}"#), "sqll is unknown, there is sql, limit");
        assert_eq!(told::<Sample>(r#"{"sql":{}}"#), "an object where a string is wanted");
        assert_eq!(
            told::<Sample>(r#"{"sql":"","limit":-1}"#),
            "the number -1 where a whole number of 0 or more is wanted"
        );
        assert_eq!(told::<Sample>("7"), "the number 7 where an object is wanted");
        assert_eq!(told::<u64>("1.5"), "the number 1.5 where a whole number of 0 or more is wanted");
        assert_eq!(told::<BTreeMap<String, bool>>("[1]"), "an array where an object is wanted");
        assert_eq!(told::<Vec<bool>>(r#"["yes"]"#), "the string \"yes\" where true or false is wanted");
        assert_eq!(told::<(String, String)>(r#"["a"]"#), "an array of 1 where an array of 2 is wanted");
        assert_eq!(told::<String>("true"), "true where a string is wanted");
        assert_eq!(told::<String>("null"), "null where a string is wanted");
        for early in ["", "[", "{\"a\"", "\"a"] {
            assert_eq!(told::<serde_json::Value>(early), "it ends too early", "{early}");
        }
        assert_eq!(told::<serde_json::Value>("{} {}"), "something follows the value");
        assert_eq!(told::<serde_json::Value>("nope"), "a value is missing or malformed");
    }

    #[test]
    fn the_position_is_told_and_a_long_value_is_cut() {
        let error = serde_json::from_str::<u64>("\n  {}").unwrap_err();
        assert_eq!(explain(&error), "an object where a whole number of 0 or more is wanted at line 2 column 2");
        let long = format!("\"{}\"", "x".repeat(10_000));
        let told = explain(&serde_json::from_str::<u64>(&long).unwrap_err());
        assert!(told.chars().count() < MAX_CHARS + 40 && told.contains("… at line 1"), "{told}");
    }
}
