//! The real binary as a process: `ctlstore node` with a generated configuration, every listener on port 0.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{process, wait};

/// How long a start may take on a machine that compiles at the same time.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// The configuration of a node. Each start uses the same data directory.
#[derive(Clone)]
pub struct Node {
    /// Contains the configuration file, the data directory `data` and the logs.
    home: Arc<TempDir>,
    settings: BTreeMap<String, Value>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    /// Its log goes to a full pipe that is not read.
    log_is_unread: bool,
    /// Soft and hard limit of open files.
    open_files: Option<(u32, u32)>,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// Every role on an embedded SQLite ctldb in a fresh data directory, all binds on 127.0.0.1:0.
    pub fn new() -> Self {
        let home = Arc::new(process::scratch_dir());
        let node = Self {
            home,
            settings: BTreeMap::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
            log_is_unread: false,
            open_files: None,
        };
        let data_dir = node.data_dir().display().to_string();
        ["executive.bind", "reader.bind", "ops.bind"]
            .into_iter()
            .fold(node, |node, key| node.set(key, "127.0.0.1:0"))
            .set("node.data_dir", data_dir)
    }

    /// One setting by its dotted key: strings, numbers, booleans, `vec![…]` of them.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    pub fn roles(self, roles: &[&str]) -> Self {
        self.set("node.roles", roles.to_vec())
    }

    pub fn ctldb(self, url: &str) -> Self {
        self.set("ctldb.url", url)
    }

    /// An environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A further command line argument after `node --config FILE`.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Gives it a standard error that is a full pipe until the test binary ends.
    pub fn unread_log(mut self) -> Self {
        self.log_is_unread = true;
        self
    }

    /// Sets its limits of open files at the start. It may raise the soft one up to the hard one.
    pub fn open_files(mut self, soft: u32, hard: u32) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The LDB's path if `ldb.path` is not set.
    pub fn ldb_path(&self) -> PathBuf {
        self.data_dir().join("ldb.db")
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it ends before, or is not ready within a minute. The message has the log.
    #[track_caller]
    pub fn start(&self) -> NodeProcess {
        let mut node = self.spawn();
        node.wait_ready();
        node
    }

    /// Starts it without waiting, for starts that fail or hang.
    pub fn spawn(&self) -> NodeProcess {
        let config = self.home.path().join("config.toml");
        // JSON's literals of strings, numbers, booleans and arrays are valid TOML.
        let lines: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        std::fs::write(&config, lines.concat()).expect("write the node's configuration");
        let arguments = ["node".as_ref(), "--config".as_ref(), config.as_os_str()];
        let binary = process::binary();
        let mut command = Command::new(self.open_files.map_or(binary, |_| "prlimit"));
        if let Some((soft, hard)) = self.open_files {
            command.arg(format!("--nofile={soft}:{hard}")).arg(binary);
        }
        command.args(arguments).args(&self.arguments).envs(self.environment.iter().cloned());
        command.current_dir(self.home.path());
        if !self.log_is_unread {
            return NodeProcess::spawn(command, self.home.clone());
        }
        NodeProcess::spawn_with(command, self.home.clone(), process::full_pipe())
    }
}

/// A started process of the binary. Dropping it kills it, and prints its log if the test is failing.
pub struct NodeProcess {
    child: Child,
    exit: Option<ExitStatus>,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr_path: PathBuf,
    _home: Arc<TempDir>,
}

impl NodeProcess {
    /// Starts any command of the binary in the same way; its log is in `home`.
    pub fn spawn(command: Command, home: Arc<TempDir>) -> Self {
        let stderr_path = home.path().join("stderr.log");
        let stderr = File::options().create(true).append(true).open(&stderr_path).expect("open the node's log");
        Self::spawn_with(command, home, stderr.into())
    }

    fn spawn_with(mut command: Command, home: Arc<TempDir>, stderr: Stdio) -> Self {
        let stderr_path = home.path().join("stderr.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = process::spawn(command);
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let output = child.stdout.take().expect("stdout is a pipe");
        let lines = stdout.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, exit: None, stdout, stderr_path, _home: home }
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait::wait_until("the node says that it is running", START_DEADLINE, || {
            if let Some(status) = self.exit_status() {
                panic!("the node ended with {status} before it was running");
            }
            self.stdout().iter().any(|line| line.starts_with("running"))
        });
    }

    /// `http://127.0.0.1:PORT`
    #[track_caller]
    pub fn executive_url(&self) -> String {
        self.url("executive")
    }

    #[track_caller]
    pub fn reader_url(&self) -> String {
        self.url("reader")
    }

    #[track_caller]
    pub fn ops_url(&self) -> String {
        self.url("ops")
    }

    /// The address in the line `listening NAME …` on standard output.
    #[track_caller]
    pub fn url(&self, listener: &str) -> String {
        let prefix = format!("listening {listener} ");
        let lines = self.stdout();
        let found = lines.iter().find_map(|line| line.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("the node does not listen as {listener}: {lines:?}")).trim_end().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal (libc::SIGTERM, …) unless the process has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.exit_status().is_none() {
            process::signal(&self.child, signal);
        }
    }

    /// Kills it and waits for its end.
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait_exit(Duration::from_secs(30));
    }

    /// Sends SIGTERM and waits for the end; returns the exit status.
    #[track_caller]
    pub fn stop(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait_exit(deadline)
    }

    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        wait::wait_for("the node ends", deadline, || self.exit_status())
    }

    /// Waits until it has ended; returns the exit status.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("ask for the node's state");
        }
        self.exit
    }

    /// The lines that it has printed so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its standard error so far, after that of earlier starts of the same node.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr_path).unwrap_or_default()).into_owned()
    }

    pub fn log_path(&self) -> &Path {
        &self.stderr_path
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- stdout of node {}\n{}", self.pid(), self.stdout().join("\n"));
            eprintln!("--- stderr of node {}\n{}---", self.pid(), self.log());
        }
    }
}
