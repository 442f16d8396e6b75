//! Permissions of files and directories as settings have them: octal text, such as
//! "0640". Only the form and what no file may allow is checked here; files are made elsewhere.

use serde::de::Error;
use serde::{Deserializer, Serializer};

use super::codec::text;

/// The bits that a mode may have: read, write and search of owner, group and others.
const BITS: u32 = 0o777;
/// Files that every user may write can't be trusted.
const OTHERS_WRITE: u32 = 0o002;
/// The node owns its files: it reads and writes them.
const OWNER: u32 = 0o600;

pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    let text = text(input).map_err(|_| D::Error::custom("not octal permissions in quotes, such as \"0640\""))?;
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| is_octal && mode & !BITS == 0);
    match mode {
        None => Err(D::Error::custom("not octal permissions such as \"0640\"")),
        Some(mode) if mode & OTHERS_WRITE != 0 => Err(D::Error::custom("every user could write")),
        Some(mode) if mode & OWNER != OWNER => Err(D::Error::custom("the node itself must be able to read and write")),
        Some(mode) => Ok(mode),
    }
}

pub fn serialize<S: Serializer>(mode: &u32, output: S) -> Result<S::Ok, S::Error> {
    output.collect_str(&format_args!("{mode:04o}"))
}
