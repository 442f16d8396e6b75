//! Private servers of the MySQL family: own directory, own socket, own port on 127.0.0.1, no system-wide
//! configuration, root without a password. Installed by `make test` (MariaDB) and `tools/fetch-mysql56` (MySQL 5.6).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::port::Port;
use super::{process, sql, wait};

/// The variable with the directory into which `tools/fetch-mysql56` unpacked MySQL 5.6. Without it only MariaDB is tested.
pub const MYSQL56_VARIABLE: &str = "CTLSTORE_TEST_MYSQL56";

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// With flush=2 a commit costs no disk flush. A killed server loses nothing then; only a machine that fails would.
const OPTIONS: [&str; 5] = [
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-log-file-size=16M",
    "--performance-schema=0",
    "--max-connections=300",
    // A failed test may leave a transaction open; dropping its database must not wait for it for a day.
    "--lock-wait-timeout=10",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    MariaDb,
    MySql56,
}

/// A running or stopped server. Dropping it kills it and removes its directory.
pub struct PrivateServer {
    flavour: Flavour,
    port: Port,
    data: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl PrivateServer {
    pub fn start(flavour: Flavour) -> Self {
        Self::start_with(flavour, &[])
    }

    /// Starts one with further server options, such as `--auto-increment-increment=3`.
    pub fn start_with(flavour: Flavour, options: &[&str]) -> Self {
        let data = process::scratch_dir();
        initialise(flavour, data.path());
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { flavour, port: Port::claim(), data, options, child: None };
        server.start_again();
        server
    }

    /// Starts a stopped or killed server on its old port and data.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("open the server's log");
        let mut command = server_command(self.flavour, self.data.path());
        command
            .arg(format!("--port={}", self.port.number))
            .args(["--bind-address=127.0.0.1", "--socket=mysqld.sock", "--pid-file=mysqld.pid", "--skip-name-resolve"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the server's log"))
            .stderr(log);
        self.child = Some(process::spawn(command));
        wait::wait_until("the private server accepts connections", START_DEADLINE, || {
            if let Ok(Some(status)) = self.child.as_mut().expect("just started").try_wait() {
                panic!("the private server ended with {status}:\n{}", self.log());
            }
            sql::query(&self.url("mysql"), "SELECT 1").is_ok()
        });
    }

    /// Stops it in order, if it is running.
    pub fn stop(&mut self) {
        self.end(libc::SIGTERM);
    }

    /// Kills it, if it is running.
    pub fn kill9(&mut self) {
        self.end(libc::SIGKILL);
    }

    /// Stops it in order and starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Sends a signal to the running server, for instance SIGSTOP to make it hang and SIGCONT to let it go on.
    pub fn signal(&self, signal: i32) {
        process::signal(self.child.as_ref().expect("the server runs"), signal);
    }

    /// The process id of the running server.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// `mysql://root@127.0.0.1:PORT/database`
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port.number)
    }

    /// Runs one statement as root in the system database.
    #[track_caller]
    pub fn execute(&self, statement: &str) -> Vec<sql::Row> {
        sql::query(&self.url("mysql"), statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// The server's error log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.data.path().join("server.log")
    }

    fn end(&mut self, signal: i32) {
        let Some(mut child) = self.child.take() else { return };
        process::signal(&child, signal);
        wait::wait_until("the private server ends", STOP_DEADLINE, || ended(&mut child).is_some());
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().expect("ask for the server's state")
}

/// The server program with the options that every use of it needs.
fn server_command(flavour: Flavour, data: &Path) -> Command {
    let mut command = match flavour {
        Flavour::MariaDb => Command::new(program(&["mariadbd", "mysqld"])),
        Flavour::MySql56 => Command::new(mysql56_base().join("mysqld")),
    };
    command.arg("--no-defaults").args(directories(data)).args(OPTIONS).args(run_as());
    if flavour == Flavour::MySql56 {
        let base = mysql56_base();
        command.arg(format!("--basedir={}", base.display()));
        command.arg(format!("--lc-messages-dir={}", base.join("share").display()));
        // Its libaio is beside it.
        command.env("LD_LIBRARY_PATH", base);
    }
    command
}

/// A server that starts removes all temporary tables that it finds, so each one needs its own directory for them.
fn directories(data: &Path) -> [String; 2] {
    [format!("--datadir={}", data.display()), format!("--tmpdir={}", data.display())]
}

/// Fills an empty data directory with the system tables; root gets no password.
fn initialise(flavour: Flavour, data: &Path) {
    let outcome = match flavour {
        Flavour::MariaDb => Command::new(program(&["mariadb-install-db", "mysql_install_db"]))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(directories(data))
            .args(OPTIONS)
            .args(run_as())
            .output(),
        Flavour::MySql56 => {
            let mut script = b"USE mysql;\n".to_vec();
            for name in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
                script.extend(std::fs::read(mysql56_base().join("share").join(name)).expect("read the system tables"));
            }
            std::fs::create_dir(data.join("mysql")).expect("make the system database's directory");
            let path = data.join("bootstrap.sql");
            std::fs::write(&path, script).expect("write the bootstrap script");
            let input = File::open(&path).expect("open the bootstrap script");
            server_command(flavour, data).arg("--bootstrap").stdin(input).output()
        }
    };
    let output = outcome.expect("run the installation of the system tables");
    assert!(output.status.success(), "initialise {flavour:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The servers run as root only if the option names root.
fn run_as() -> Option<&'static str> {
    // SAFETY: plain system call without arguments.
    (unsafe { libc::geteuid() } == 0).then_some("--user=root")
}

/// Searches PATH and the sbin directories, which are not in an ordinary user's PATH.
fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut candidates = directories.flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    candidates.find(|program| program.is_file()).unwrap_or_else(|| panic!("{names:?} not found: run `make test`"))
}

fn mysql56_base() -> PathBuf {
    std::env::var_os(MYSQL56_VARIABLE).map(PathBuf::from).expect("CTLSTORE_TEST_MYSQL56 names MySQL 5.6's directory")
}
