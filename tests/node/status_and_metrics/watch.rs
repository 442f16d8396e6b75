//! The values of a node's status and metrics by name, and which event has changed which of them.
//!
//! A metric's name is its series as `/metrics` has it, with its labels; a field's is `/role/field` or
//! `/role/details/field` after its place in `/status`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use support::http;
use support::wait::{wait_for, wait_until};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// All values of a node at one moment.
pub type Sample = BTreeMap<String, Value>;

/// The values that changed, each with its event.
#[derive(Debug, Default)]
pub struct Moved(Mutex<BTreeMap<String, String>>);

impl Moved {
    fn note(&self, what: &str, event: &str) {
        self.0.lock().unwrap().entry(what.to_owned()).or_insert_with(|| event.to_owned());
    }

    /// Whether this value changed, or a series of this metric.
    pub fn any(&self, name: &str) -> bool {
        let is_of =
            |what: &String| what.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.lock().unwrap().keys().any(is_of)
    }

    /// Whether a series with this label changed.
    pub fn label(&self, name: &str, value: &str) -> bool {
        let label = format!("{name}=\"{value}\"");
        self.0.lock().unwrap().keys().any(|what| what.contains(&label))
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

/// One node; its values are read before and after each event.
#[derive(Clone)]
pub struct Watch<'a> {
    ops: String,
    moved: &'a Moved,
}

impl<'a> Watch<'a> {
    pub fn new(ops: String, moved: &'a Moved) -> Self {
        Self { ops, moved }
    }

    /// Runs `cause`, which causes the event, and waits until each of `what` differs from before.
    #[track_caller]
    pub fn event<T>(&self, event: &str, what: &[&str], cause: impl FnOnce() -> T) -> T {
        let before = self.sample();
        let result = cause();
        let mut unmoved = what.to_vec();
        for name in what {
            wait_until(&format!("{event} moves {name}"), DEADLINE, || {
                if unmoved.contains(name) {
                    // Each name needs only one look: a value may change for a moment and return before others have changed.
                    let now = self.sample();
                    unmoved.retain(|name| value(&now, name) == value(&before, name));
                }
                !unmoved.contains(name)
            });
            self.moved.note(name, event);
        }
        result
    }

    /// For an event since the node's start: waits until each of `what` differs from a fresh node's value.
    #[track_caller]
    pub fn begins(&self, event: &str, what: &[&str]) {
        let fresh = [Value::Null, json!(0), json!("0"), json!("NaN"), json!("starting"), json!("is starting")];
        for name in what {
            wait_until(&format!("{event} moves {name}"), DEADLINE, || !fresh.contains(&value(&self.sample(), name)));
            self.moved.note(name, event);
        }
    }

    /// For values that change without an event, too: waits until `is` says that the value shows the event.
    #[track_caller]
    pub fn shows(&self, event: &str, name: &str, is: impl Fn(&Value) -> bool) {
        wait_until(&format!("{event} shows in {name}"), DEADLINE, || is(&value(&self.sample(), name)));
        self.moved.note(name, event);
    }

    /// One value now. A missing field is null, and a missing metric is 0.
    #[track_caller]
    pub fn now(&self, name: &str) -> Value {
        value(&self.sample(), name)
    }

    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        self.now(name).as_str().unwrap_or_else(|| panic!("{name} is no text")).to_owned()
    }

    #[track_caller]
    pub fn wait_state(&self, role: &str, state: &str) {
        wait_until(&format!("the {role} is {state}"), DEADLINE, || self.now(&format!("/{role}/state")) == state);
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until("the node is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", self.ops)));
    }

    #[track_caller]
    pub fn sample(&self) -> Sample {
        sample(&self.ops)
    }
}

fn value(sample: &Sample, name: &str) -> Value {
    let absent = if name.starts_with('/') { Value::Null } else { json!("0") };
    sample.get(name).cloned().unwrap_or(absent)
}

/// Asks for the status and the metrics.
#[track_caller]
pub fn sample(ops: &str) -> Sample {
    let mut sample = Sample::new();
    let metrics = http::get(&format!("{ops}/metrics")).expect(200).text();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let number: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        // As text, because JSON has no NaN.
        sample.insert(name.to_owned(), json!(number.to_string()));
    }
    let status = http::get(&format!("{ops}/status")).expect(200).json();
    for (field, value) in status.as_object().expect("an object") {
        if field != "roles" {
            sample.insert(format!("/{field}"), value.clone());
        }
    }
    for role in status["roles"].as_array().expect("an array") {
        let name = role["role"].as_str().expect("a name");
        for (field, value) in role.as_object().expect("an object") {
            match value.as_object().filter(|_| field == "details") {
                Some(details) => {
                    let named = |(field, value): (&String, &Value)| (format!("/{name}/details/{field}"), value.clone());
                    sample.extend(details.iter().map(named));
                }
                None => drop(sample.insert(format!("/{name}/{field}"), value.clone())),
            }
        }
    }
    sample
}

/// The names of all metrics by their `# TYPE` lines, with the suffix of their series.
#[track_caller]
pub fn metric_names(ops: &str) -> Vec<String> {
    let metrics = http::get(&format!("{ops}/metrics")).expect(200).text();
    let name = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_count"),
            _ => name.to_owned(),
        })
    };
    metrics.lines().filter_map(name).collect()
}

/// Waits until the closure returns a value.
#[track_caller]
pub fn until<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_for(what, DEADLINE, attempt)
}
