//! Turns a command line of the original into settings of a node. Entry point:
//! [`translate`]. It opens nothing; `config` checks the settings when it loads them.

use std::path::Path;

use ctlstore_core::MASK;

use crate::cli::failure::Failure;
use crate::config::{Given, GivenValue, Origin, Problem, Problems, shown_text};

use super::command_line::{CommandLine, variable_of};
use super::flags::{Becomes, ECS, Flag, Form, OriginalCommand, Takes};
use super::{dsn, values};

/// Where the original's programs keep their files.
const SPOOL: &str = "/var/spool/ctlstore";
const LDB_FILE: &str = "ldb.db";
/// The least and the most that a datagram may have here.
const DATAGRAM: (i64, i64) = (512, 65_507);
const DEFAULT_DATAGRAM: i64 = 1024;

/// The settings of a command line.
#[derive(Debug, Default)]
pub struct Translation {
    /// In place of our defaults: the original's.
    pub defaults: Vec<Given>,
    /// The values of its flags and variables.
    pub given: Vec<Given>,
    pub notes: Vec<Note>,
}

/// A flag that has no meaning here, or another one than in the original.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// As they were given, with commas between them.
    pub flags: String,
    pub says: String,
}

/// The settings that `line` becomes as flags of `command`. `home` is `CTLSTORE_PATH`.
///
/// # Errors
/// [`Failure`] for flags that are missing, [`Problems`] for values that no setting can have.
pub fn translate(
    command: OriginalCommand,
    flags: &[Flag],
    line: &CommandLine,
    home: Option<&Path>,
) -> anyhow::Result<Translation> {
    refuse_missing(flags, line)?;
    let mut translator = Translator { command, flags, line, into: Translation::default(), problems: Vec::new() };
    translator.base(home.unwrap_or(Path::new(SPOOL)));
    for flag in flags {
        translator.flag(flag);
    }
    translator.notes_of_the_command();
    if translator.problems.is_empty() { Ok(translator.into) } else { Err(Problems(translator.problems).into()) }
}

fn refuse_missing(flags: &[Flag], line: &CommandLine) -> Result<(), Failure> {
    let is_missing = |flag: &&Flag| flag.is_required && line.get(&flag.name).is_none_or(|text| text.text.is_empty());
    let missing: Vec<String> = flags.iter().filter(is_missing).map(|flag| format!("-{}", flag.name)).collect();
    let [first, ..] = missing.as_slice() else { return Ok(()) };
    let missing = is_or_are(&missing);
    let variable = variable_of(&first[1..]);
    // A word that is no flag may have kept it from being read.
    let unread = match line.unread.first() {
        Some(word) => format!("; nothing is read from {word:?} on, which is no flag"),
        None => String::new(),
    };
    Err(Failure::usage(format!("{missing} missing (or {variable} and so on){unread}; -help lists all flags")))
}

fn is_or_are(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        names => format!("{} are", names.join(", ")),
    }
}

struct Translator<'a> {
    command: OriginalCommand,
    flags: &'a [Flag],
    line: &'a CommandLine,
    into: Translation,
    problems: Vec<Problem>,
}

impl Translator<'_> {
    /// The defaults that make a node behave as the original does.
    fn base(&mut self, home: &Path) {
        let roles = self.command.roles().iter().map(|role| (*role).to_owned()).collect();
        let origin = Origin::Flag(self.command.name().to_owned());
        self.into.given.push(Given { key: "node.roles", value: GivenValue::List(roles), origin });
        self.default("node.data_dir", text(home.display()));
        // The original has no such server; one of ours must not take a port that it needs elsewhere.
        self.default("ops.bind", text("127.0.0.1:0"));
        self.default("ops.bind_fallback", text("true"));
        if self.command == OriginalCommand::Sidecar {
            self.default("ldb.path", text(home.join(LDB_FILE).display()));
        }
        if self.command.reflector_prefix().is_some() {
            self.default("ldb.file_mode", text("0644"));
            self.default("ldb.directory_mode", text("0755"));
            self.default("changelog.max_bytes", text("0"));
        }
    }

    fn flag(&mut self, flag: &Flag) {
        let given = self.line.get(&flag.name).cloned();
        let (key, form) = match (flag.becomes, &given) {
            (Becomes::Setting(key, form), _) => (key, form),
            (Becomes::Nothing(why), Some(_)) => return self.note(flag, why),
            (Becomes::Nothing(_), None) => return,
        };
        let origin = given.as_ref().map_or(Origin::Default, |text| text.origin.clone());
        let value = given.map_or_else(|| flag.default.to_owned(), |text| text.text);
        if value.is_empty() && origin == Origin::Default {
            return;
        }
        match self.value(flag, form, &value) {
            Ok(Some(value)) => self.put(key, value, origin),
            Ok(None) => {}
            Err(reason) => self.refuse(flag, &value, origin, reason),
        }
    }

    /// The setting's value; `None` leaves the setting as it is.
    fn value(&mut self, flag: &Flag, form: Form, value: &str) -> Result<Option<GivenValue>, String> {
        let plain = values::plain(flag.takes, value);
        Ok(Some(match form {
            Form::Value => text(plain?),
            Form::NotNegative => text(values::whole(value)?.max(0)),
            Form::One if value.is_empty() => GivenValue::List(Vec::new()),
            Form::One => GivenValue::List(vec![value.to_owned()]),
            Form::List => GivenValue::List(value.split(',').map(str::to_owned).collect()),
            Form::Debug if values::switch(value)? => text("debug"),
            Form::Debug => return Ok(None),
            Form::Driver => return self.driver(value),
            Form::DataSource => {
                let driver = self.effective(&flag.name.replace("upstream-dsn", "upstream-driver"));
                return self.data_source(flag, &driver, value);
            }
            Form::MysqlSource => return self.data_source(flag, "mysql", value),
            Form::HttpUrl if value.starts_with("http") => text(value),
            Form::HttpUrl => text(format!("http://{value}")),
            Form::Changelog if value.is_empty() => return Ok(None),
            Form::Changelog => text(plain?),
            Form::ChangelogSize => {
                let size = values::whole(value)?.max(0);
                let path = self.effective(&flag.name.replace("changelog-size", "changelog-path"));
                text(if path.is_empty() { 0 } else { size })
            }
            Form::WalPoll => {
                values::duration(value)?;
                return Ok(None);
            }
            Form::WalSize => return self.wal_size(flag, value),
            Form::Datagram => return self.datagram(flag, value),
            Form::Agent => text(values::agent(value)),
            Form::Fraction => return self.fraction(flag, value),
            Form::Tag(name) => {
                let value =
                    if flag.takes == Takes::Switch { values::switch(value)?.to_string() } else { value.to_owned() };
                GivenValue::List(vec![format!("{name}:{value}")])
            }
            Form::WarnSize => return self.warn_size(flag, value),
            Form::Ldbs => return self.ldbs(value),
            Form::Ldb => {
                // The default stands for $CTLSTORE_PATH, which is in the base already.
                if self.line.get(&flag.name).is_none() {
                    return Ok(None);
                }
                let path = plain?;
                self.data_beside(&path);
                text(path)
            }
        }))
    }

    fn driver(&mut self, value: &str) -> Result<Option<GivenValue>, String> {
        match value {
            "mysql" | "sqlite3" => Ok(None),
            _ => Err("there are mysql and sqlite3".to_owned()),
        }
    }

    fn data_source(&mut self, flag: &Flag, driver: &str, value: &str) -> Result<Option<GivenValue>, String> {
        // The driver's own flag reports a wrong driver.
        if !matches!(driver, "mysql" | "sqlite3") {
            return Ok(None);
        }
        let found = dsn::url_of(driver, value)?;
        if !found.left_out.is_empty() {
            let names: Vec<&str> = found.left_out.iter().filter_map(|one| one.split('=').next()).collect();
            let says = format!("left out of the data source, as there is no counterpart: {}", names.join(", "));
            self.note(flag, &says);
        }
        Ok(Some(text(found.url)))
    }

    fn wal_size(&mut self, flag: &Flag, value: &str) -> Result<Option<GivenValue>, String> {
        let size = values::whole(value)?.max(1);
        let poll = self.effective(&flag.name.replace("wal-checkpoint-threshold-size", "wal-poll-interval"));
        if values::duration(&poll).is_ok_and(|poll| !poll.is_zero()) {
            return Ok(Some(text(size)));
        }
        if self.line.get(&flag.name).is_some() {
            self.note(flag, "it counts only with -wal-poll-interval, as in the original");
        }
        Ok(None)
    }

    fn datagram(&mut self, flag: &Flag, value: &str) -> Result<Option<GivenValue>, String> {
        let wanted = match values::whole(value)? {
            negative @ ..0 => return Err(format!("{negative} is below 0")),
            0 => DEFAULT_DATAGRAM,
            bytes => bytes,
        };
        let bytes = wanted.clamp(DATAGRAM.0, DATAGRAM.1);
        if bytes != wanted {
            self.note(flag, &format!("a datagram has {} to {} bytes here: {bytes}", DATAGRAM.0, DATAGRAM.1));
        }
        Ok(Some(text(bytes)))
    }

    fn fraction(&mut self, flag: &Flag, value: &str) -> Result<Option<GivenValue>, String> {
        let wanted = values::number(value)?.abs();
        if wanted > 1.0 {
            self.note(flag, "the whole interval is the most that is left to chance: 1");
        }
        Ok(Some(text(wanted.min(1.0))))
    }

    fn warn_size(&mut self, flag: &Flag, value: &str) -> Result<Option<GivenValue>, String> {
        let wanted = values::whole(value)?.max(0);
        let max = values::whole(&self.effective("max-table-size")).unwrap_or(i64::MAX).max(0);
        if wanted > max {
            self.note(flag, "it is above -max-table-size, so it is lowered to that");
            // Also of a default: otherwise the maximum alone would be refused.
            let origin = self.line.get(&flag.name).map_or(Origin::Default, |text| text.origin.clone());
            self.put("executive.table_limit.warn_bytes", text(max), origin);
            return Ok(None);
        }
        Ok(Some(text(wanted)))
    }

    fn ldbs(&mut self, value: &str) -> Result<Option<GivenValue>, String> {
        let paths = values::list(value);
        if paths.len() < 2 {
            return Err("multi-reflector needs at least 2 paths; for one LDB there is the command reflector".to_owned());
        }
        let paths: Vec<String> = paths.iter().map(|path| values::path(path)).collect::<Result<_, _>>()?;
        self.data_beside(&paths[0]);
        Ok(Some(GivenValue::List(paths)))
    }

    /// The LDB's directory is the place for the other files of a node.
    fn data_beside(&mut self, ldb: &str) {
        if let Some(directory) = Path::new(ldb).parent() {
            self.default("node.data_dir", text(directory.display()));
        }
    }

    /// The flag's text, or its default.
    fn effective(&self, name: &str) -> String {
        let default = || self.flags.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default);
        self.line.get(name).map_or_else(|| default().to_owned(), |text| text.text.clone())
    }

    fn notes_of_the_command(&mut self) {
        let is_reflector = matches!(self.command, OriginalCommand::Reflector | OriginalCommand::MultiReflector);
        let is_told = self.line.get("ledger-latency.disable").or(self.line.get("ledger-latency.disable-ecs-behavior"));
        if is_reflector && is_told.is_none() && !self.into.notes.iter().any(|note| note.says == ECS) {
            self.into.notes.push(Note { flags: "-ledger-latency".to_owned(), says: ECS.to_owned() });
        }
        if !self.line.unread.is_empty() {
            let flags = self.line.unread.join(" ");
            let says = "not read, as in the original: no flag comes after a word that is none".to_owned();
            self.into.notes.push(Note { flags, says });
        }
    }

    fn note(&mut self, flag: &Flag, says: &str) {
        let shown = format!("-{}", flag.name);
        match self.into.notes.iter_mut().find(|note| note.says == says) {
            Some(note) => note.flags = format!("{}, {shown}", note.flags),
            None => self.into.notes.push(Note { flags: shown, says: says.to_owned() }),
        }
    }

    fn default(&mut self, key: &'static str, value: GivenValue) {
        self.put(key, value, Origin::Default);
    }

    /// The last value of a key counts.
    fn put(&mut self, key: &'static str, value: GivenValue, origin: Origin) {
        let values = if origin == Origin::Default { &mut self.into.defaults } else { &mut self.into.given };
        values.retain(|given| given.key != key);
        values.push(Given { key, value, origin });
    }

    fn refuse(&mut self, flag: &Flag, value: &str, origin: Origin, reason: String) {
        let is_secret = matches!(flag.becomes, Becomes::Setting("ctldb.url" | "heartbeat.secret", _));
        let is_driver = matches!(flag.becomes, Becomes::Setting(_, Form::Driver));
        let shown = if is_secret && !is_driver { MASK.to_owned() } else { shown_text(value) };
        self.problems.push(Problem { key: format!("-{}", flag.name), value: Some(shown), origin, reason });
    }
}

fn text(value: impl ToString) -> GivenValue {
    GivenValue::Text(value.to_string())
}
