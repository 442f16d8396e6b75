//! Metrics of this node under the names and tags of the original, as lines of Dogstatsd's
//! protocol. Entry point: [`Exporter`], which is given the text of `/metrics` at an interval
//! and tells what has changed. It opens no socket, and nothing counts twice for it: requests
//! and statements cost the same with it and without.

mod names;
mod samples;

use std::collections::HashMap;

pub use names::listed;

use self::names::{Kind, ProgramPart, RULES, Rule, SPECIAL_LATENCY, Tag};
use self::samples::{Sample, samples};

/// The facts of a node that its names and tags depend on.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// `reflector` or `supervisor`, for a node that keeps an LDB.
    pub reflector: Option<&'static str>,
    pub executive: bool,
    pub sidecar: bool,
    pub heartbeat: bool,
    /// The LDB's file name.
    pub ldb: String,
    /// The lag up to which a reflector counts as healthy, in seconds; 0 says nothing of it.
    pub max_lag_seconds: f64,
    /// Whether snapshots are stored compressed.
    pub compressed: bool,
    /// `name:value`, on every line.
    pub tags: Vec<String>,
}

/// Turns what `/metrics` says into lines, one flush after the other.
#[derive(Debug)]
pub struct Exporter {
    identity: Identity,
    /// The last value of each series that only grows.
    previous: HashMap<String, f64>,
    is_first: bool,
}

impl Exporter {
    pub fn new(identity: Identity) -> Self {
        Self { identity, previous: HashMap::new(), is_first: true }
    }

    /// The lines of this flush; `text` is that of `/metrics`.
    pub fn lines(&mut self, text: &str) -> Vec<String> {
        let samples = samples(text);
        let grown: Vec<f64> = samples.iter().map(|sample| self.grown(sample)).collect();
        let mut lines = Lines { identity: &self.identity, lines: Vec::new() };
        if self.is_first {
            lines.begin();
        }
        for rule in RULES {
            if !lines.has(rule.part) {
                continue;
            }
            for (sample, grown) in samples.iter().zip(&grown).filter(|(sample, _)| rule.is_of(sample)) {
                lines.rule(rule, sample, *grown);
            }
        }
        if lines.has(ProgramPart::Executive) {
            api_latency(&mut lines, &samples, &grown);
        }
        if lines.has(ProgramPart::Reflector) {
            health(&mut lines, &samples);
        }
        let lines = lines.lines;
        self.is_first = false;
        lines
    }

    /// How far a series that only grows went since the last flush.
    fn grown(&mut self, sample: &Sample<'_>) -> f64 {
        if !sample.only_grows() {
            return 0.0;
        }
        let last = self.previous.get_mut(sample.series);
        match last {
            Some(last) => (sample.value - std::mem::replace(last, sample.value)).max(0.0),
            None => {
                self.previous.insert(sample.series.to_owned(), sample.value);
                sample.value
            }
        }
    }
}

/// Lines in datagrams of at most `max_bytes`. A line that fits in none is left out; the
/// second value counts those.
pub fn datagrams(lines: &[String], max_bytes: usize) -> (Vec<String>, usize) {
    let (mut datagrams, mut too_long) = (Vec::<String>::new(), 0);
    for line in lines {
        match datagrams.last_mut() {
            _ if line.len() > max_bytes => too_long += 1,
            Some(last) if last.len() + line.len() <= max_bytes => last.push_str(line),
            _ => datagrams.push(line.clone()),
        }
    }
    (datagrams, too_long)
}

struct Lines<'i> {
    identity: &'i Identity,
    lines: Vec<String>,
}

type Tags = Vec<(String, String)>;

impl Lines<'_> {
    fn has(&self, part: ProgramPart) -> bool {
        self.prefix(part).is_some()
    }

    fn prefix(&self, part: ProgramPart) -> Option<&'static str> {
        let identity = self.identity;
        match part {
            ProgramPart::Reflector => identity.reflector,
            ProgramPart::Supervisor => identity.reflector.filter(|name| *name == "supervisor"),
            ProgramPart::Executive => identity.executive.then_some("executive"),
            ProgramPart::Sidecar => identity.sidecar.then_some("sidecar"),
            ProgramPart::Global => identity.sidecar.then_some("global"),
            ProgramPart::Heartbeat => identity.heartbeat.then_some("heartbeat"),
        }
    }

    /// The metrics of a start.
    fn begin(&mut self) {
        if self.has(ProgramPart::Reflector) {
            self.push(ProgramPart::Reflector, "reflector.shovel_start", "1", "c", Vec::new());
        }
        if self.has(ProgramPart::Supervisor) {
            self.push(ProgramPart::Supervisor, "snapshot-errors", "0", "c", Vec::new());
        }
    }

    fn rule(&mut self, rule: &Rule, sample: &Sample<'_>, grown: f64) {
        let mut tags = self.tags(rule, sample);
        match rule.kind {
            Kind::Gauge if sample.value.is_nan() => {}
            Kind::Gauge => self.push(rule.part, rule.name, &number(sample.value), "g", tags),
            Kind::Seen if grown > 0.0 => self.push(rule.part, rule.name, "1", "g", tags),
            Kind::Count if grown > 0.0 => self.push(rule.part, rule.name, &number(grown), "c", tags),
            Kind::Error if grown > 0.0 => {
                self.push(rule.part, rule.name, &number(grown), "c", tags.clone());
                tags.push(("error".to_owned(), rule.name.to_owned()));
                self.push(rule.part, "errors", &number(grown), "c", tags);
            }
            Kind::Histogram => {
                if let Some(value) = sample.bucket_value() {
                    self.observed(rule.part, rule.name, value, grown, tags);
                }
            }
            Kind::Seen | Kind::Count | Kind::Error => {}
        }
    }

    /// `count` times `value`, as one sample that stands for so many.
    fn observed(&mut self, part: ProgramPart, name: &str, value: f64, count: f64, tags: Tags) {
        if count >= 1.0 {
            let kind = if count > 1.0 { format!("h|@{}", number(1.0 / count)) } else { "h".to_owned() };
            self.push(part, name, &number(value), &kind, tags);
        }
    }

    fn tags(&self, rule: &Rule, sample: &Sample<'_>) -> Tags {
        let label = |name| sample.label(name).unwrap_or_default().to_owned();
        let tag = |tag: &Tag| match tag {
            Tag::Fixed(name, value) => ((*name).to_owned(), (*value).to_owned()),
            Tag::Label(name, of) => ((*name).to_owned(), label(of)),
            Tag::Class(name, of) => ((*name).to_owned(), format!("{}xx", label(of).get(..1).unwrap_or("?"))),
            Tag::Temporary(name, of) => {
                let is_temporary = matches!(label(of).as_str(), "unavailable" | "timeout");
                ((*name).to_owned(), if is_temporary { "temporary" } else { "generic" }.to_owned())
            }
            Tag::Id => ("id".to_owned(), format!("{}-0", self.identity.ldb)),
            Tag::Wal => ("ldb".to_owned(), format!("{}-wal", self.identity.ldb)),
            Tag::Compressed => ("compressed".to_owned(), self.identity.compressed.to_string()),
        };
        rule.tags.iter().map(tag).collect()
    }

    fn push(&mut self, part: ProgramPart, name: &str, value: &str, kind: &str, mut tags: Tags) {
        let Some(prefix) = self.prefix(part) else { return };
        tags.push(("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        if part != ProgramPart::Global {
            let given = self.identity.tags.iter().filter_map(|tag| tag.split_once(':'));
            tags.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        tags.sort();
        let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        self.lines.push(format!("ctlstore.{prefix}.{name}:{value}|{kind}|#{}\n", tags.join(",")));
    }
}

/// The original has one latency for each route, method and status, and `/metrics` one for
/// each route. If requests of a route ended in several ways, each gets the route's mean.
fn api_latency(lines: &mut Lines<'_>, samples: &[Sample<'_>], grown: &[f64]) {
    let of_executive = |sample: &Sample<'_>| sample.label("server") == Some("executive");
    let moved: Vec<(&Sample<'_>, f64)> = samples
        .iter()
        .zip(grown.iter().copied())
        .filter(|(sample, grown)| of_executive(sample) && *grown > 0.0)
        .collect();
    let named = |name: &'static str, route: Option<&str>| -> Vec<(&Sample<'_>, f64)> {
        let is_of = |sample: &Sample<'_>| sample.name == name && sample.label("route") == route;
        moved.iter().filter(|(sample, _)| is_of(sample)).copied().collect()
    };
    let mut routes: Vec<Option<&str>> = moved.iter().map(|(sample, _)| sample.label("route")).collect();
    routes.sort_unstable();
    routes.dedup();
    for route in routes {
        let endings = named("http_requests_total", route);
        let tags = |sample: &Sample<'_>| -> Tags {
            let label = |name| sample.label(name).unwrap_or_default().to_owned();
            [("uri", label("route")), ("method", label("method")), ("code", label("status"))]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec()
        };
        if let [(ending, _)] = endings.as_slice() {
            for (bucket, count) in named("http_request_duration_seconds_bucket", route) {
                if let Some(value) = bucket.bucket_value() {
                    lines.observed(ProgramPart::Executive, SPECIAL_LATENCY, value, count, tags(ending));
                }
            }
            continue;
        }
        let total = |name| named(name, route).iter().map(|(_, grown)| grown).sum::<f64>();
        let mean = total("http_request_duration_seconds_sum") / total("http_request_duration_seconds_count").max(1.0);
        for (ending, count) in &endings {
            lines.observed(ProgramPart::Executive, SPECIAL_LATENCY, mean, *count, tags(ending));
        }
    }
}

/// The original says it of an instance whose attribute it sets.
fn health(lines: &mut Lines<'_>, samples: &[Sample<'_>]) {
    let most = lines.identity.max_lag_seconds;
    let Some(lag) = samples.iter().find(|sample| sample.name == "ldb_lag_seconds") else { return };
    if most > 0.0 {
        let status = match lag.value {
            unknown if unknown.is_nan() => "unknown",
            lag if lag <= most => "healthy",
            _ => "unhealthy",
        };
        let tags = vec![("status".to_owned(), status.to_owned())];
        lines.push(ProgramPart::Reflector, "ledger-health", "1", "g", tags);
    }
}

/// In the shortest digits that read back equal, and never beyond what an agent reads.
fn number(value: f64) -> String {
    match value {
        infinite if infinite.is_infinite() => number(f64::MAX.copysign(infinite)),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
