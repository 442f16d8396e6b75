//! Loads settings from their sources. Entry point: [`load`]. Each source is checked key by key, so
//! that every problem names its source and none hides another. The good values are then merged and
//! checked together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf, absolute};

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use ctlstore_core::disk;

use super::keys;
use super::problem::{Origin, Problem, Problems, shown};
use super::settings::Settings;
use super::{resolve, validate};

const DEFAULTS: &str = include_str!("../../config/default.toml");
/// The largest size of a settings file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
const ENV_PREFIX: &str = "CTLSTORE";

/// Where settings come from, over the built-in defaults. Each source overrides the one before:
/// `defaults`, `file`, `environment`, `roles`, `translated`.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Variables of the environment; only those like `CTLSTORE__SECTION__KEY` count.
    pub environment: Vec<(OsString, OsString)>,
    /// Roles from flags; none leaves the roles as they are.
    pub roles: Vec<String>,
    /// Values that take the place of built-in defaults.
    pub defaults: Vec<Given>,
    /// Values of another program's command line and environment, over everything else.
    pub translated: Vec<Given>,
}

/// One setting from a source that is neither TOML nor named by keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub key: &'static str,
    pub value: GivenValue,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenValue {
    Text(String),
    List(Vec<String>),
}

impl From<&GivenValue> for Value {
    fn from(value: &GivenValue) -> Self {
        match value {
            GivenValue::Text(text) => Self::from(text.as_str()),
            GivenValue::List(items) => Self::from(items.clone()),
        }
    }
}

/// The values of one source by dotted key; known keys only.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Loads the settings. Paths are absolute then, and secret files are read.
///
/// # Errors
/// All problems, one line each.
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    let mut loader = Loader::new().map_err(|error| Problems(vec![built_in(&error)]))?;
    loader.given(&sources.defaults);
    if let Some(path) = &sources.file {
        loader.file(path);
    }
    loader.environment(&sources.environment);
    loader.roles(&sources.roles);
    loader.given(&sources.translated);
    loader.finish()
}

struct Loader {
    defaults: Config,
    known: keys::KnownKeys,
    layers: Vec<Layer>,
    /// The source of each key's effective value. Defaults are not listed.
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Loader {
    fn new() -> Result<Self, ConfigError> {
        let defaults = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml)).build()?;
        let known = keys::KnownKeys::of(&defaults.collect()?);
        Ok(Self { defaults, known, layers: Vec::new(), origins: BTreeMap::new(), problems: Vec::new() })
    }

    fn file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let text = match disk::read_given_text(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) => {
                // A relative path does not tell which directory it was looked for in.
                let place = absolute(path).ok().filter(|_| path.is_relative());
                let place = place.map(|place| format!("{} ", place.display())).unwrap_or_default();
                return self.refuse_source("--config", origin, format!("{place}cannot be read: {error}"));
            }
        };
        match File::from_str(&text, FileFormat::Toml).collect() {
            Ok(values) => {
                let mut found = Vec::new();
                self.leaves("", values, &origin, &mut found);
                self.add_layer(found);
            }
            Err(error) => self.refuse_source("--config", origin, syntax(error)),
        }
    }

    fn environment(&mut self, variables: &[(OsString, OsString)]) {
        let mut spellings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ours = Map::new();
        for (name, value) in variables {
            let Some(name) = name.to_str() else {
                self.unreadable_name(name);
                continue;
            };
            if let Some(meant) = self.one_underscore_short(name) {
                let origin = Origin::Environment(name.to_owned());
                self.refuse_source(name, origin, format!("not looked at, did you mean {meant}?"));
            }
            let Some(key) = key_of(name) else { continue };
            spellings.entry(key).or_default().push(name.to_owned());
            match value.to_str() {
                Some(value) => drop(ours.insert(name.to_owned(), value.to_owned())),
                None => self.refuse_source(name, Origin::Environment(name.to_owned()), "not UTF-8".to_owned()),
            }
        }
        let source = Environment::with_prefix(ENV_PREFIX).prefix_separator("__").separator("__").source(Some(ours));
        let mut found = Vec::new();
        for (key, value) in source.collect().unwrap_or_default() {
            let Some(names) = spellings.get_mut(&key) else { continue };
            names.sort();
            let origin = Origin::Environment(names[0].clone());
            if names.len() > 1 {
                let reason = format!("{} are the same setting: keep one of them", names.join(" and "));
                self.problems.push(Problem { key, value: None, origin, reason });
            } else if self.known.is_key(&key) {
                found.push((key, value, origin));
            } else {
                self.unknown(&key, &value, origin);
            }
        }
        self.add_layer(found);
    }

    /// Refuses a name that begins as ours; the names of other programs don't matter.
    fn unreadable_name(&mut self, name: &OsStr) {
        let shown = name.to_string_lossy();
        if key_of(&shown).is_some() {
            self.refuse_source(&shown, Origin::Environment(shown.to_string()), "its name is not UTF-8".to_owned());
        }
    }

    /// The variable that a name like `CTLSTORE_READER__BIND` means.
    fn one_underscore_short(&self, name: &str) -> Option<String> {
        let upper = name.to_uppercase();
        let rest = upper.strip_prefix(ENV_PREFIX)?.strip_prefix('_').filter(|rest| !rest.starts_with('_'))?;
        let key = rest.replace("__", ".").to_lowercase();
        self.known.is_key(&key).then(|| format!("{ENV_PREFIX}__{rest}"))
    }

    fn roles(&mut self, roles: &[String]) {
        if !roles.is_empty() {
            let roles: Vec<Value> = roles.iter().map(|role| Value::from(role.as_str())).collect();
            self.add_layer(vec![("node.roles".to_owned(), Value::from(roles), Origin::Flag("--role".to_owned()))]);
        }
    }

    fn given(&mut self, given: &[Given]) {
        let found = given.iter().map(|given| (given.key.to_owned(), Value::from(&given.value), given.origin.clone()));
        self.add_layer(found.collect());
    }

    /// Collects the known keys of a file's tables and reports the unknown ones.
    fn leaves(&mut self, section: &str, values: Map<String, Value>, origin: &Origin, found: &mut Found) {
        for (name, value) in values {
            let key = if section.is_empty() { name } else { format!("{section}.{name}") };
            if self.known.is_key(&key) {
                found.push((key, value, origin.clone()));
            } else if !self.known.is_section(&key) {
                self.unknown(&key, &value, origin.clone());
            } else if let ValueKind::Table(values) = value.kind {
                self.leaves(&key, values, origin, found);
            } else {
                let reason = format!("a section, not a value: its keys are {}", self.known.keys_of(&key));
                self.problems.push(Problem { value: shown(&key, &value), key, origin: origin.clone(), reason });
            }
        }
    }

    fn add_layer(&mut self, found: Found) {
        let mut layer = Map::new();
        for (key, value, origin) in found {
            if layer.contains_key(&key) {
                let reason = "given twice, once with quotes around the whole key".to_owned();
                self.problems.push(Problem { key, value: None, origin, reason });
                continue;
            }
            match self.check(&key, &value) {
                Ok(()) => drop(layer.insert(key.clone(), value)),
                Err(error) => self.problems.push(Problem {
                    key: key.clone(),
                    value: shown(&key, &value),
                    origin: origin.clone(),
                    reason: reason(error),
                }),
            }
            if origin != Origin::Default {
                self.origins.insert(key, origin);
            }
        }
        self.layers.push(Layer(layer));
    }

    /// Whether `value` can be the value of `key`, with defaults for the other keys.
    fn check(&self, key: &str, value: &Value) -> Result<(), ConfigError> {
        let alone = Config::builder().add_source(self.defaults.clone()).set_override(key, value.clone())?.build()?;
        alone.try_deserialize::<Settings>().map(drop)
    }

    fn unknown(&mut self, key: &str, value: &Value, origin: Origin) {
        let reason = match self.known.nearest(key) {
            Some(near) => match origin {
                Origin::Environment(_) => {
                    format!("unknown key, did you mean {ENV_PREFIX}__{}?", near.replace('.', "__").to_uppercase())
                }
                _ => format!("unknown key, did you mean {near}?"),
            },
            None => "unknown key".to_owned(),
        };
        self.problems.push(Problem { key: key.to_owned(), value: shown(key, value), origin, reason });
    }

    fn refuse_source(&mut self, key: &str, origin: Origin, reason: String) {
        self.problems.push(Problem { key: key.to_owned(), value: None, origin, reason });
    }

    /// Merges the good values and checks them together.
    fn finish(mut self) -> Result<Settings, Problems> {
        let bad: BTreeSet<String> = self.problems.iter().map(|problem| problem.key.clone()).collect();
        let mut builder = Config::builder().add_source(self.defaults);
        for layer in self.layers {
            builder = builder.add_source(layer);
        }
        let merged = builder.build().and_then(Config::try_deserialize::<Settings>);
        let mut settings = match merged {
            Ok(settings) => settings,
            Err(error) => {
                self.problems.push(built_in(&error));
                return Err(Problems(self.problems));
            }
        };
        let mut findings = validate::Findings::new(&settings, self.origins, bad);
        validate::exclusive(&settings, &mut findings);
        resolve::resolve(&mut settings, &mut findings);
        validate::validate(&settings, &mut findings);
        self.problems.extend(findings.into_problems());
        self.problems.sort_by(|a, b| a.key.cmp(&b.key));
        if self.problems.is_empty() { Ok(settings) } else { Err(Problems(self.problems)) }
    }
}

type Found = Vec<(String, Value, Origin)>;

/// The key that a variable names, known or not; `None` for other programs' variables.
fn key_of(name: &str) -> Option<String> {
    let prefix = format!("{ENV_PREFIX}__");
    let (start, key) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(&prefix).then(|| key.to_lowercase().replace("__", "."))
}

/// An error in the built-in defaults, which no user can cause.
fn built_in(error: &ConfigError) -> Problem {
    Problem { key: "settings".to_owned(), value: None, origin: Origin::Default, reason: error.to_string() }
}

/// The reason in an error about a value, without the value, which may be a secret.
fn reason(error: ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => reason(*error),
        ConfigError::Message(message) => message,
        _ => "a value of another kind is wanted".to_owned(),
    }
}

/// The place at which a file is not TOML, without its text, which may contain secrets.
fn syntax(error: ConfigError) -> String {
    let ConfigError::FileParse { cause, .. } = error else { return "not TOML".to_owned() };
    match cause.downcast_ref::<toml::de::Error>() {
        Some(error) => {
            let place = error.to_string();
            let place = place.lines().next().unwrap_or_default().trim_start_matches("TOML parse error ").to_owned();
            format!("not TOML {place}: {}", error.message().replace('\n', ", "))
        }
        None => "not TOML".to_owned(),
    }
}
