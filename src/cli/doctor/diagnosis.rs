//! One thing that `doctor` has examined: whether it works, what was found, and what mends it.

use std::fmt;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works now, and can fail later.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// The result of one examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub level: Level,
    pub what: String,
    /// The line that mends it.
    pub mend: Option<String>,
}

impl Diagnosis {
    pub fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), mend: None }
    }

    pub fn warn(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), mend: Some(mend.into()) }
    }

    pub fn fail(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), mend: Some(mend.into()) }
    }
}
