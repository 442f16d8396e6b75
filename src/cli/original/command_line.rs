//! Command lines as Go's flag library reads them, and the environment under them. Entry
//! point: [`CommandLine::read`]. It does not know what a value means.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::cli::failure::Failure;
use crate::config::Origin;

use super::flags::{Flag, Takes};

const ENV_PREFIX: &str = "CTLSTORE_";

/// A flag's text and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub origin: Origin,
}

/// The text that each flag was given, by the flag's name without dashes.
#[derive(Debug, Default)]
pub struct CommandLine {
    values: BTreeMap<String, Text>,
    /// The words from the first one on that is no flag. The original does not read them.
    pub unread: Vec<String>,
    pub wants_help: bool,
}

impl CommandLine {
    /// Flags go over the environment.
    ///
    /// # Errors
    /// A flag that `flags` has not, one without its value, or text that is not UTF-8.
    pub fn read(flags: &[Flag], arguments: &[OsString], environment: &[(OsString, OsString)]) -> Result<Self, Failure> {
        let mut line = Self::default();
        line.read_environment(flags, environment)?;
        line.read_arguments(flags, arguments)?;
        Ok(line)
    }

    pub fn get(&self, name: &str) -> Option<&Text> {
        self.values.get(name)
    }

    fn read_environment(&mut self, flags: &[Flag], environment: &[(OsString, OsString)]) -> Result<(), Failure> {
        for flag in flags {
            let variable = variable_of(&flag.name);
            let Some((_, value)) = environment.iter().find(|(name, _)| *name == *variable) else { continue };
            let text = value.to_str().ok_or_else(|| Failure::usage(format!("{variable} is not UTF-8")))?.to_owned();
            // Compose files pass on variables that are not set as empty ones.
            if !text.is_empty() {
                self.values.insert(flag.name.clone(), Text { text, origin: Origin::Environment(variable) });
            }
        }
        Ok(())
    }

    fn read_arguments(&mut self, flags: &[Flag], arguments: &[OsString]) -> Result<(), Failure> {
        let not_utf8 = |argument: &OsString| Failure::usage(format!("{} is not UTF-8", argument.to_string_lossy()));
        let words: Vec<&str> = arguments
            .iter()
            .map(|argument| argument.to_str().ok_or_else(|| not_utf8(argument)))
            .collect::<Result<_, _>>()?;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(body) = flag_body(word) else {
                // A lone -- ends the flags and is no word itself.
                let first = (word != "--").then_some(word);
                self.unread = first.into_iter().chain(words).map(str::to_owned).collect();
                return Ok(());
            };
            let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
                if matches!(name, "h" | "help") {
                    self.wants_help = true;
                    return Ok(());
                }
                return Err(unknown(flags, word, name));
            };
            let value = match value {
                Some(value) => value,
                None if flag.takes == Takes::Switch => "true",
                None => words.next().ok_or_else(|| Failure::usage(format!("-{name} needs a value")))?,
            };
            let origin = Origin::Flag(format!("-{name}"));
            self.values.insert(flag.name.clone(), Text { text: value.to_owned(), origin });
        }
        Ok(())
    }
}

/// The variable that stands for a flag.
pub fn variable_of(flag: &str) -> String {
    format!("{ENV_PREFIX}{}", flag.replace(['-', '.'], "_").to_uppercase())
}

/// The text after one or two dashes; `None` for a word that is no flag.
fn flag_body(word: &str) -> Option<&str> {
    let body = word.strip_prefix('-')?;
    let body = body.strip_prefix('-').unwrap_or(body);
    (!body.is_empty()).then_some(body)
}

fn unknown(flags: &[Flag], word: &str, name: &str) -> Failure {
    let distance = |flag: &&Flag| strsim::damerau_levenshtein(&flag.name, name);
    let near = flags.iter().min_by_key(distance).filter(|flag| distance(flag) <= 1 + name.len() / 3);
    // The name of a part was probably left out, such as `reflector.`.
    let of_part = flags.iter().find(|flag| flag.name.strip_suffix(name).is_some_and(|part| part.ends_with('.')));
    let shown = word.split('=').next().unwrap_or(word);
    match of_part.or(near) {
        Some(near) => Failure::usage(format!("no flag {shown}, did you mean -{}? -help lists them", near.name)),
        None => Failure::usage(format!("no flag {shown}; -help lists them")),
    }
}
