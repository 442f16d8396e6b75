//! `version`, `completions` and `man`: what the program tells about itself. Completions and manual
//! pages are made from the definition of the command line, which the caller hands in.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::args::JsonArg;
use super::output::{Out, say, say_json};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore completions bash > /etc/bash_completion.d/ctlstore
  ctlstore completions zsh > \"${fpath[1]}/_ctlstore\"
  ctlstore completions fish > ~/.config/fish/completions/ctlstore.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(&self, mut program: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "ctlstore", &mut script);
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
pub struct ManArgs {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManArgs {
    pub fn run(&self, program: Command) -> anyhow::Result<()> {
        if let Some(directory) = &self.dir {
            let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(program, directory));
            return written.with_context(|| directory.display().to_string());
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        let mut out = Out::new();
        out.text(&String::from_utf8_lossy(&page))?;
        out.flush()
    }
}

#[derive(Debug, Args)]
pub struct VersionArgs {
    #[command(flatten)]
    json: JsonArg,
}

impl VersionArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json.json {
            return say_json(&json!({ "version": version, "sqlite": rusqlite::version() }));
        }
        say(&format!("ctlstore {version}"))
    }
}
