//! What the program tells of itself: version, shell completions, man pages, all
//! made from the command line's own definition.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use super::args::JsonArg;
use super::output::{Out, say, say_json};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore completions bash > /etc/bash_completion.d/ctlstore
  ctlstore completions zsh > \"${fpath[1]}/_ctlstore\"
  ctlstore completions fish > ~/.config/fish/completions/ctlstore.fish")]
pub struct Completions {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ctlstore", &mut script);
        let mut out = Out::new();
        out.text(&String::from_utf8_lossy(&script))?;
        out.flush()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore man | man -l -
  ctlstore man --dir /usr/local/share/man/man1    a page for each command")]
pub struct Man {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut root = Cli::command();
        root.build();
        if let Some(directory) = &self.dir {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
            return pages(directory, &root, "ctlstore");
        }
        let mut out = Out::new();
        out.text(&page(root)?)?;
        out.flush()
    }
}

fn page(command: Command) -> anyhow::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The page of a command and those of the commands below it.
fn pages(directory: &Path, command: &Command, name: &str) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.1"));
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    fs::write(&path, page(command.clone().name(named))?).with_context(|| path.display().to_string())?;
    command.get_subcommands().try_for_each(|below| pages(directory, below, &format!("{name}-{}", below.get_name())))
}

#[derive(Debug, Args)]
pub struct Version {
    #[command(flatten)]
    json: JsonArg,
}

impl Version {
    pub fn run(&self) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json.json {
            return say_json(&json!({ "version": version, "sqlite": rusqlite::version() }));
        }
        say(&format!("ctlstore {version}"))
    }
}
