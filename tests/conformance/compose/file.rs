//! The parts of a compose file and of a Dockerfile that say how a service runs. Reads text; starts nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// A compose file with its anchors resolved and its variables at their defaults.
#[derive(Deserialize)]
pub struct ComposeFile {
    pub services: BTreeMap<String, Service>,
    pub volumes: BTreeMap<String, Option<serde_yaml_ng::Value>>,
}

#[derive(Deserialize)]
pub struct Service {
    pub image: String,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub ports: Vec<String>,
    /// `volume:/path` or `volume:/path:ro`
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub depends_on: BTreeMap<String, Dependency>,
    pub healthcheck: HealthCheck,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub condition: String,
}

#[derive(Deserialize)]
pub struct HealthCheck {
    /// `CMD` and a command, or `CMD-SHELL` and a line for the shell.
    pub test: Vec<String>,
}

impl ComposeFile {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("read the compose file");
        let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&interpolate(&text)).expect("a YAML file");
        value.apply_merge().expect("merge keys that name mappings");
        serde_yaml_ng::from_value(value).expect("a compose file")
    }
}

impl Service {
    /// Volume name, path inside the container, and whether it is read-only there.
    pub fn mounts(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.volumes.iter().map(|mount| {
            let (volume, rest) = mount.split_once(':').expect("a volume and a path");
            let (path, mode) = rest.split_once(':').unwrap_or((rest, "rw"));
            (volume, path, mode == "ro")
        })
    }
}

/// `${NAME:-default}` becomes the default, as where NAME is not set, and `$$` a dollar.
fn interpolate(text: &str) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a closed ${");
        let (_, default) = variable.split_once(":-").expect("a variable with a default");
        result.push_str(default);
        result.push_str(rest);
    }
    result.replace("$$", "$")
}

/// What a Dockerfile's last stage says about every container of its image.
pub struct Image {
    pub environment: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub ports: Vec<u16>,
    pub user: String,
}

impl Image {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("read the Dockerfile");
        let (_, stage) = text.rsplit_once("\nFROM ").expect("a stage of its own for the image");
        let all = |keyword: &str| -> Vec<String> {
            stage.lines().filter_map(|line| line.strip_prefix(keyword)).map(|rest| rest.trim().to_owned()).collect()
        };
        let one = |keyword: &str| all(keyword).pop().unwrap_or_else(|| panic!("the image has no {keyword}"));
        let pair =
            |line: String| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).expect("ENV NAME=VALUE");
        Self {
            environment: all("ENV ").into_iter().map(pair).collect(),
            entrypoint: serde_json::from_str(&one("ENTRYPOINT ")).expect("an entry point in exec form"),
            ports: one("EXPOSE ").split_whitespace().map(|port| port.parse().expect("a port")).collect(),
            user: one("USER "),
        }
    }
}
