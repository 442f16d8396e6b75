//! A node, and the binary run beside it with what a user would have in the environment.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use support::{Node, NodeProcess, process, scratch_dir, wait::wait_for};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// The outcome of a run of the binary.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Asserts success and gives what was printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Asserts this exit code and gives the one line on standard error.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("ctlstore: "), "one line: {self:?}");
        lines[0]["ctlstore: ".len()..].to_owned()
    }

    /// Asserts this exit code, and that the last line on standard error is the error; progress
    /// may stand before it.
    #[track_caller]
    pub fn fails_with(self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.lines().last().is_some_and(|line| line.starts_with("ctlstore: ")), "{self:?}");
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}"))
    }
}

/// A command of the binary that has not run yet. Its environment has only what is set here.
pub struct Cli {
    command: Command,
    input: Vec<u8>,
}

impl Cli {
    pub fn new(program: &Path, directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(directory).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", directory);
        Self { command, input: Vec::new() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn unset(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    #[track_caller]
    pub fn run(mut self) -> Ran {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(self.command);
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let input = self.input;
        let feeder = std::thread::spawn(move || {
            // It may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("wait for the command");
        feeder.join().expect("the feeder does not panic");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("utf-8");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ctlstore"))
}

/// Runs the binary without a node.
pub fn alone(arguments: &[&str]) -> Ran {
    let directory = scratch_dir();
    Cli::new(binary(), directory.path()).args(arguments).run()
}

/// A node of its own for each test, with a directory to work in.
pub struct Stage {
    pub node: Node,
    pub process: NodeProcess,
    pub directory: TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|node| node)
    }

    pub fn with(more: impl FnOnce(Node) -> Node) -> Self {
        // Without a heartbeat every seq is the test's own.
        let node = Node::new().roles(&["executive", "reflector", "reader"]).set("reader.workers", 1);
        let node = more(node);
        let process = node.start();
        Self { node, process, directory: scratch_dir() }
    }

    /// With family `shop`, table `flags` (name string key, on integer, raw binary) and writer `loader`.
    pub fn furnished() -> Self {
        Self::new().furnish()
    }

    pub fn furnish(self) -> Self {
        self.run(&["create-family", "shop"]).ok();
        let fields = ["--field", "name:string", "--field", "on:integer", "--field", "raw:binary"];
        let table: Vec<&str> =
            ["create-table", "-f", "shop"].into_iter().chain(fields).chain(["--key-field", "name", "flags"]).collect();
        self.run(&table).ok();
        self.run(&["writer", "register", "loader"]).ok();
        self
    }

    pub fn cli(&self) -> Cli {
        self.cli_of(binary())
    }

    pub fn cli_of(&self, program: &Path) -> Cli {
        Cli::new(program, self.directory.path())
            .env("CTLSTORE_EXECUTIVE", &self.process.executive_url())
            .env("CTLSTORE_LDB", self.node.ldb_path().to_str().expect("a path"))
            .env("CTLSTORE_OPS", &self.process.ops_url())
            .env("CTLSTORE_WRITER", "loader")
            .env("CTLSTORE_SECRET", "a-secret")
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.cli().args(arguments).run()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write a file");
    }

    pub fn ctldb_url(&self) -> String {
        format!("sqlite:{}", self.node.data_dir().join("ctldb.db").display())
    }

    /// The ledger's last seq.
    pub fn last_seq(&self) -> i64 {
        let line = self.run(&["tail-ledger", "-n", "1", "--json", "--ctldb", &self.ctldb_url()]).json();
        line["seq"].as_i64().expect("a seq")
    }

    /// Waits until the LDB has everything that the ledger has.
    pub fn caught_up(&self) -> &Self {
        let wanted = self.last_seq();
        wait_for(&format!("the ldb has seq {wanted}"), DEADLINE, || {
            let ran = self.run(&["read-seq"]);
            (ran.code == Some(0) && ran.out.trim().parse::<i64>().ok()? >= wanted).then_some(())
        });
        self
    }
}

/// Lines that upsert the flags k1 to k`count`.
pub fn flags(count: u64) -> String {
    let line = |i| format!("{{\"table\":\"flags\",\"values\":{{\"name\":\"k{i}\",\"on\":{i},\"raw\":null}}}}\n");
    (1..=count).map(line).collect()
}
