//! Runs a compose file's services as processes of this machine: hosts, ports and paths mapped, the database a
//! private MariaDB, everything else (commands, environment, health checks, order) as the file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::file::{ComposeFile, Image, Service};
use support::port::Port;
use support::wait::wait_until;
use support::{Flavour, NodeProcess, PrivateServer, scratch_dir};

/// The service that a private MariaDB stands for.
const DATABASE: &str = "mysql";
const HEALTH_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

pub struct Fleet {
    file: ComposeFile,
    image: Image,
    database: PrivateServer,
    ports: BTreeMap<(String, u16), Port>,
    volumes: TempDir,
    /// In the order of their start; with each the directory of what its container keeps to itself.
    running: Vec<(String, NodeProcess, TempDir)>,
}

impl Fleet {
    /// Prepares the mapping; only the database server runs already, as its image would set it up.
    pub fn new(file: ComposeFile, image: Image) -> Self {
        let nodes = file.services.keys().filter(|name| *name != DATABASE);
        let listeners = nodes.flat_map(|name| image.ports.iter().map(|port| (name.clone(), *port)));
        let ports = listeners.map(|listener| (listener, Port::claim())).collect();
        let database = PrivateServer::start(Flavour::MariaDb);
        let environment = &file.services[DATABASE].environment;
        let (user, password) = (&environment["MARIADB_USER"], &environment["MARIADB_PASSWORD"]);
        let name = &environment["MARIADB_DATABASE"];
        database.execute(&format!("CREATE DATABASE {name}"));
        database.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'"));
        database.execute(&format!("GRANT ALL ON {name}.* TO '{user}'@'%'"));
        Self { file, image, database, ports, volumes: scratch_dir(), running: Vec::new() }
    }

    /// Starts every service once all that it depends on are healthy, until all are healthy.
    pub fn up(&mut self) {
        let mut waiting: Vec<String> = self.file.services.keys().cloned().collect();
        let mut healthy: Vec<String> = Vec::new();
        while !waiting.is_empty() {
            let is_next = |name: &String| self.file.services[name].depends_on.keys().all(|on| healthy.contains(on));
            let (next, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_next);
            assert!(!next.is_empty(), "services wait for each other: {later:?}");
            for name in next {
                self.start(&name);
                wait_until(&format!("{name} is healthy"), HEALTH_DEADLINE, || self.is_healthy(&name));
                healthy.push(name);
            }
            waiting = later;
        }
    }

    /// Stops every service by SIGTERM, dependants first, and forgets what is not in a volume.
    pub fn down(&mut self) {
        while let Some((name, mut process, _)) = self.running.pop() {
            let status = process.stop(STOP_DEADLINE);
            assert!(status.success(), "{name} ended with {status}:\n{}", process.log());
        }
        self.database.stop();
    }

    /// Starts the database where [`Self::down`] stopped it, and then the rest.
    pub fn up_again(&mut self) {
        self.database.start_again();
        self.up();
    }

    /// Where a service's container port is reached from outside.
    pub fn url(&self, service: &str, port: u16) -> String {
        format!("http://127.0.0.1:{}", self.ports[&(service.to_owned(), port)].number)
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes.path().join(name)
    }

    fn start(&mut self, name: &str) {
        if name == DATABASE {
            return;
        }
        let service = &self.file.services[name];
        for (volume, _, _) in service.mounts() {
            std::fs::create_dir_all(self.volume(volume)).expect("make the volume");
        }
        let container = scratch_dir();
        let words: Vec<&String> = self.image.entrypoint.iter().chain(&service.command).collect();
        let mut command = self.command(name, container.path(), &words);
        command.current_dir(container.path());
        let process = NodeProcess::spawn(command, Arc::new(scratch_dir()));
        self.running.push((name.to_owned(), process, container));
    }

    fn is_healthy(&mut self, name: &str) -> bool {
        let container = match self.running.iter_mut().find(|(running, ..)| running == name) {
            Some((_, process, container)) => {
                let ended = process.exit_status();
                assert!(ended.is_none(), "{name} ended with {ended:?}:\n{}", process.log());
                container.path().to_owned()
            }
            None => PathBuf::from("/"),
        };
        let test: Vec<&String> = self.file.services[name].healthcheck.test.iter().collect();
        let (shell, line) = ("sh".to_owned(), "-c".to_owned());
        let words = match test[0].as_str() {
            "CMD" => test[1..].to_vec(),
            "CMD-SHELL" => vec![&shell, &line, test[1]],
            other => panic!("{name}'s health check is neither CMD nor CMD-SHELL: {other}"),
        };
        self.command(name, &container, &words).output().expect("run the health check").status.success()
    }

    /// A command as it would run in the service's container: with the image's and the service's environment only.
    fn command(&self, name: &str, container: &Path, words: &[&String]) -> Command {
        let service = &self.file.services[name];
        let program = match words[0].as_str() {
            "ctlstore" => env!("CARGO_BIN_EXE_ctlstore"),
            other => other,
        };
        let mut command = Command::new(program);
        command.args(words[1..].iter().map(|word| self.mapped(name, container, word)));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if name == DATABASE {
            // The client in the health check names no port: in the container it is the default one.
            command.env("MYSQL_TCP_PORT", self.database.port().to_string()).envs(&service.environment);
        } else {
            let environment = self.image.environment.iter().chain(&service.environment);
            command.envs(environment.map(|(key, value)| (key, self.mapped(name, container, value))));
        }
        command
    }

    /// The text with the container's paths and every service's address replaced by those of this machine.
    fn mapped(&self, name: &str, container: &Path, text: &str) -> String {
        let mut paths = self.paths(&self.file.services[name], container);
        // The longest first: a volume may be mounted inside another.
        paths.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
        let text = paths.iter().fold(text.to_owned(), |text, (inside, outside)| text.replace(inside, outside));
        let database = format!("127.0.0.1:{}", self.database.port());
        let text = text.replace(&format!("{DATABASE}:3306"), &database);
        self.ports.iter().fold(text, |text, ((service, port), mapped)| {
            let own: &[&str] = if service == name { &["0.0.0.0", "127.0.0.1"] } else { &[] };
            let hosts = own.iter().copied().chain([service.as_str()]);
            let outside = format!("127.0.0.1:{}", mapped.number);
            hosts.fold(text, |text, host| text.replace(&format!("{host}:{port}"), &outside))
        })
    }

    /// Paths inside the container and what stands for them: volumes, and for the rest of the image's data
    /// directory a directory that goes with the container.
    fn paths(&self, service: &Service, container: &Path) -> Vec<(String, String)> {
        let outside = |path: PathBuf| path.display().to_string();
        let data = &self.image.environment["CTLSTORE__NODE__DATA_DIR"];
        let mounts: Vec<_> =
            service.mounts().map(|(volume, path, _)| (path.to_owned(), outside(self.volume(volume)))).collect();
        let mounted = mounts.iter().any(|(path, _)| path == data);
        let private = (!mounted).then(|| (data.clone(), outside(container.join("data"))));
        mounts.into_iter().chain(private).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Dependants first, so that the logs of a failed test do not end with complaints about the others.
        while self.running.pop().is_some() {}
    }
}
