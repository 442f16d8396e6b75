//! What the program tells of itself: version, shell completions, man pages, all
//! made from the command line's own definition.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
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
        if let Some(directory) = &self.dir {
            let written =
                fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
            return written.with_context(|| directory.display().to_string());
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        let mut out = Out::new();
        out.text(&String::from_utf8_lossy(&page))?;
        out.flush()
    }
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
