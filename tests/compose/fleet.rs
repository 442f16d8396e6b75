//! Runs the services as processes of this machine: hosts, ports and paths of the containers mapped, the database a
//! private MariaDB that is started when the test says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use support::original::SCHEMA;
use support::port::Port;
use support::{Flavour, NodeProcess, PrivateServer, scratch_dir};
use tempfile::TempDir;

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// One service of the example.
#[derive(Deserialize)]
pub struct Service {
    pub words: Vec<String>,
    /// Mounted from the volume that all who share it have.
    #[serde(default)]
    shares: Option<String>,
}

pub fn services() -> BTreeMap<String, Service> {
    serde_yaml_ng::from_str(include_str!("services.yml")).expect("services")
}

pub struct Fleet {
    services: BTreeMap<String, Service>,
    database: PrivateServer,
    ports: BTreeMap<&'static str, Port>,
    shared: TempDir,
    /// What each container has for itself.
    own: BTreeMap<String, TempDir>,
    running: BTreeMap<String, NodeProcess>,
}

impl Fleet {
    /// The database has the original's tables and is stopped.
    pub fn new() -> Self {
        let mut database = PrivateServer::start(Flavour::MariaDb);
        database.execute("CREATE DATABASE ctldb CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci");
        database.execute("CREATE USER 'ctldb'@'%' IDENTIFIED BY 'ctldbpw'");
        database.execute("GRANT ALL ON ctldb.* TO 'ctldb'@'%'");
        let url = database.url("ctldb");
        for statement in SCHEMA {
            support::sql::query(&url, statement).expect("make the original's tables");
        }
        database.stop();
        let services = services();
        let own = services.keys().map(|name| (name.clone(), scratch_dir())).collect();
        let ports = ["executive", "sidecar", "reflector"].into_iter().map(|name| (name, Port::claim())).collect();
        Self { services, database, ports, shared: scratch_dir(), own, running: BTreeMap::new() }
    }

    pub fn start_database(&mut self) {
        self.database.start_again();
    }

    pub fn start_all(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        names.iter().for_each(|name| self.start(name));
    }

    pub fn start(&mut self, name: &str) {
        let service = &self.services[name];
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctlstore"));
        command.args(service.words[1..].iter().map(|word| self.mapped(name, word)));
        // As the image sets it, but for the port, which all containers have to themselves.
        let data = self.own[name].path().join("var/lib/ctlstore");
        command.env_clear().env("CTLSTORE__NODE__DATA_DIR", data).env("CTLSTORE__OPS__BIND", "127.0.0.1:0");
        command.env("CTLSTORE_PATH", self.path(name, "/var/spool/ctlstore"));
        if name == "sidecar" {
            // The port that a container would publish.
            command.env("CTLSTORE_BIND_ADDR", format!("127.0.0.1:{}", self.ports["sidecar"].number));
        }
        command.current_dir(self.own[name].path());
        let process = NodeProcess::spawn(command, Arc::new(scratch_dir()));
        self.running.insert(name.to_owned(), process);
    }

    /// As `restart: always` does.
    pub fn restart_ended(&mut self) {
        let ended: Vec<String> =
            self.running.iter_mut().filter_map(|(name, process)| process.exit_status().map(|_| name.clone())).collect();
        ended.iter().for_each(|name| self.start(name));
    }

    pub fn stop(&mut self, name: &str) {
        let mut process = self.running.remove(name).expect("a running service");
        let status = process.stop(STOP_DEADLINE);
        assert!(status.success(), "{name} ended with {status}:\n{}", process.log());
    }

    pub fn stop_all(&mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        names.iter().for_each(|name| self.stop(name));
    }

    pub fn log(&self, name: &str) -> String {
        self.running[name].log()
    }

    /// Where a service answers.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name].number)
    }

    /// What stands for a path of a service's container.
    pub fn path(&self, name: &str, path: &str) -> PathBuf {
        let shares = self.services[name].shares.as_deref();
        match shares.and_then(|shared| path.strip_prefix(shared)) {
            Some(rest) => self.shared.path().join(rest.trim_start_matches('/')),
            None => self.own[name].path().join(path.trim_start_matches('/')),
        }
    }

    fn mapped(&self, name: &str, word: &str) -> String {
        let address = |name: &str| format!("127.0.0.1:{}", self.ports[name].number);
        let database = format!("127.0.0.1:{}", self.database.port());
        let word = word.replace("mysql:3306", &database).replace("executive:3000", &address("executive"));
        let word = word.replace("0.0.0.0:3000", &address("executive")).replace("0.0.0.0:9090", &address("reflector"));
        let outside = |inside: &str| self.path(name, inside).display().to_string();
        ["/var/spool/ctlstore", "/data", "/snapshots"].iter().fold(word, |word, inside| {
            match word.strip_prefix("file://").unwrap_or(&word).starts_with(inside) {
                true => word.replacen(inside, &outside(inside), 1),
                false => word,
            }
        })
    }
}
