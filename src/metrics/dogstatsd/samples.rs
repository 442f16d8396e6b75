//! Reads the text of `/metrics` back into values. Entry point: [`samples`]. It knows the
//! text that this program writes, and no other.

use std::borrow::Cow;

const PREFIX: &str = "ctlstore_";

/// One line of `/metrics`.
#[derive(Debug)]
pub struct Sample<'t> {
    /// Name and labels as they stand there.
    pub series: &'t str,
    /// Without the prefix of all names.
    pub name: &'t str,
    labels: Vec<(&'t str, Cow<'t, str>)>,
    /// Of a bucket: what it has more than the one below.
    pub value: f64,
    /// The bounds of a bucket.
    bounds: Option<(f64, f64)>,
}

/// Every value in `text`. Buckets count what they hold alone, not what is below them.
pub fn samples(text: &str) -> Vec<Sample<'_>> {
    let mut samples: Vec<Sample<'_>> = Vec::new();
    // The bound and the value of the bucket before, of the same histogram.
    let mut below: Option<(f64, f64)> = None;
    for mut sample in text.lines().filter_map(sample) {
        let Some(bound) = sample.label("le").map(|bound| bound.parse().unwrap_or(f64::INFINITY)) else {
            below = None;
            samples.push(sample);
            continue;
        };
        let (low, under) = below.filter(|(low, _)| *low < bound).unwrap_or((0.0, 0.0));
        below = Some((bound, sample.value));
        sample.bounds = Some((low, bound));
        sample.value -= under;
        samples.push(sample);
    }
    samples
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)),
        None => (series, Vec::new()),
    };
    let name = name.strip_prefix(PREFIX)?;
    Some(Sample { series, name, labels, value: value.parse().ok()?, bounds: None })
}

/// `name="value"` with commas between them; a value may have escapes.
fn labels(mut text: &str) -> Vec<(&str, Cow<'_, str>)> {
    let mut labels = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut is_escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let Some(end) = end else { return labels };
        let value = &rest[..end];
        let plain = if value.contains('\\') {
            Cow::Owned(value.replace("\\n", " ").replace('\\', ""))
        } else {
            Cow::Borrowed(value)
        };
        labels.push((name, plain));
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}

impl Sample<'_> {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_ref())
    }

    /// Whether it counts, and so tells by what it gains.
    pub fn only_grows(&self) -> bool {
        ["_total", "_bucket", "_sum", "_count"].iter().any(|end| self.name.ends_with(end))
    }

    /// The value for all that a bucket holds: its middle, or its lower bound if it has no upper one.
    pub fn bucket_value(&self) -> Option<f64> {
        let (low, high) = self.bounds?;
        Some(if high.is_finite() { low + (high - low) / 2.0 } else { low })
    }
}
