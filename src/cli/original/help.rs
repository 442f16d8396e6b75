//! Writes the list of flags for people: as help, and as the tables of docs/migration.md.
//! Entry points: [`text`] and [`markdown`]. The list itself is in `flags`.

use std::fmt::Write;

use super::command_line::variable_of;
use super::flags::{Becomes, Flag, OriginalCommand, flags_of};

/// The help of one command.
pub fn text(command: OriginalCommand) -> String {
    let flags = flags_of(command);
    let shown = |flag: &Flag| format!("-{}{}", flag.name, flag.takes.shown());
    let width = flags.iter().map(|flag| shown(flag).len()).max().unwrap_or(0);
    let name = command.name();
    let mut text = format!(
        "Runs a node as the Go program's {name} does.\n\nUsage: ctlstore {name} [FLAGS]\n\n\
         Flags, and the setting that each becomes [default]:\n"
    );
    for flag in &flags {
        let _ = writeln!(text, "  {:width$}  {}", shown(flag), meaning(flag).replace('`', ""));
    }
    let variable = flags.first().map_or_else(String::new, |flag| variable_of(&flag.name));
    let first = flags.first().map_or("", |flag| flag.name.as_str());
    let _ = write!(
        text,
        "\nOne dash or two, -flag VALUE or -flag=VALUE. The environment has each in capitals: {variable} is\n\
         -{first}; flags go over it, and both over CTLSTORE__SECTION__KEY.\n\
         ctlstore config --as {name} … prints the settings of a command line.\n"
    );
    text
}

/// A table in Markdown with a row for each flag of `command`.
pub fn markdown(command: OriginalCommand) -> String {
    let mut table = "| flag | default there | here |\n| --- | --- | --- |\n".to_owned();
    for flag in flags_of(command) {
        let default = if flag.default.is_empty() { String::new() } else { format!("`{}`", flag.default) };
        let default = if flag.is_required { "required".to_owned() } else { default };
        let _ = writeln!(table, "| `-{}` | {default} | {} |", flag.name, in_table(&flag));
    }
    table
}

fn in_table(flag: &Flag) -> String {
    match flag.becomes {
        Becomes::Setting(key, form) if form.note().is_empty() => format!("`{key}`"),
        Becomes::Setting(key, form) => format!("`{key}`: {}", form.note()),
        Becomes::Nothing(why) => format!("nothing: {why}"),
    }
}

fn meaning(flag: &Flag) -> String {
    let default = match (flag.is_required, flag.default) {
        (true, _) => " (required)".to_owned(),
        (false, "") => String::new(),
        (false, default) => format!(" [{default}]"),
    };
    format!("{}{default}", in_table(flag))
}
