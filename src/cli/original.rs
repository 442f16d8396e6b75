//! The commands of the original that run a role, with its flags, so that its command lines
//! work with this program. Each command line becomes settings of a node: entry points are
//! [`run`] and [`settings_of`]. It runs no part of a node itself.

mod command_line;
mod dsn;
mod flags;
mod help;
mod read_key;
mod translate;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::config::{Settings, Sources, load};

use self::command_line::CommandLine;
pub use self::flags::OriginalCommand;
use self::flags::{Becomes, flags_of};
pub use self::help::markdown;
pub use self::read_key::LdbReadKey;
pub use self::translate::Note;
use super::failure::Failure;
use super::{node, output};

/// Words that the original's flag library reads, and clap does not.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct OriginalArgs {
    /// The Go program's flags; -help lists them
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

/// The settings that a command line becomes, and what is to be said of it.
pub struct OriginalSettings {
    pub settings: Settings,
    pub notes: Vec<Note>,
}

/// Runs a node as the original's `command` with these flags would.
///
/// # Errors
/// As [`settings_of`], and what ends the node.
pub fn run(command: OriginalCommand, arguments: &OriginalArgs) -> anyhow::Result<()> {
    match settings_of(command, &arguments.flags)? {
        Some(OriginalSettings { settings, notes }) => node::run_with(settings, || log(command, &notes)),
        None => output::say(help::text(command).trim_end()),
    }
}

/// The settings that `arguments` become as flags of `command`, over those of the
/// environment; `None` if they ask for help.
///
/// # Errors
/// A line for flags that are unknown or missing, and
/// [`Problems`](crate::config::Problems) for values that no setting can have.
pub fn settings_of(command: OriginalCommand, arguments: &[OsString]) -> anyhow::Result<Option<OriginalSettings>> {
    let of_command = |error: Failure| Failure::usage(format!("{}: {error}", command.name()));
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let flags = flags_of(command);
    let line = CommandLine::read(&flags, arguments, &environment).map_err(of_command)?;
    if line.wants_help {
        return Ok(None);
    }
    let home = std::env::var_os("CTLSTORE_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let translation = translate::translate(command, &flags, &line, home.as_deref());
    let translation = translation.map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => of_command(failure).into(),
        Err(error) => error,
    })?;
    let sources =
        Sources { environment, defaults: translation.defaults, translated: translation.given, ..Sources::default() };
    Ok(Some(OriginalSettings { settings: load(&sources)?, notes: translation.notes }))
}

/// The settings of `config --as`, whose words are a command and its flags.
///
/// # Errors
/// As [`settings_of`], and a command that is none.
pub fn settings_as(words: &[OsString]) -> anyhow::Result<Option<OriginalSettings>> {
    let (name, arguments) =
        words.split_first().map_or(("".into(), words), |(name, rest)| (name.to_string_lossy(), rest));
    let Some(command) = OriginalCommand::named(&name) else {
        let known: Vec<&str> = OriginalCommand::ALL.into_iter().map(OriginalCommand::name).collect();
        return Err(Failure::usage(format!("--as {name}: no such command, there are {}", known.join(", "))).into());
    };
    let settings = settings_of(command, arguments)?;
    if settings.is_none() {
        output::say(help::text(command).trim_end())?;
    }
    Ok(settings)
}

/// The flags of a command, with the setting that each becomes, if it becomes one.
pub fn flag_names(command: OriginalCommand) -> Vec<(String, Option<&'static str>)> {
    let key = |becomes| match becomes {
        Becomes::Setting(key, _) => Some(key),
        Becomes::Nothing(_) => None,
    };
    flags_of(command).into_iter().map(|flag| (flag.name, key(flag.becomes))).collect()
}

/// One line for each reason.
fn log(command: OriginalCommand, notes: &[Note]) {
    for Note { flags, says } in notes {
        tracing::warn!(command = command.name(), flags, "{says}");
    }
}
