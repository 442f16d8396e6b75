//! The table that the loads end with.

/// One measure: ours, what it is held against, and the target as the ratio or limit that is wanted.
pub struct Line {
    pub what: String,
    pub ours: String,
    pub reference: String,
    pub ratio: String,
    pub target: &'static str,
}

#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// A figure of ours over a figure of something else.
    pub fn ratio(&mut self, what: &str, ours: f64, reference: (&str, f64), unit: &str, target: &'static str) {
        self.push(Line {
            what: what.to_owned(),
            ours: format!("{ours:.0} {unit}"),
            reference: format!("{}: {:.0} {unit}", reference.0, reference.1),
            ratio: format!("{:.2}", ours / reference.1),
            target,
        });
    }

    /// A figure that stands alone.
    pub fn figure(&mut self, what: &str, ours: String, target: &'static str) {
        self.push(Line { what: what.to_owned(), ours, reference: String::new(), ratio: String::new(), target });
    }

    /// Shows the line at once as well, for whoever watches.
    fn push(&mut self, line: Line) {
        eprintln!("{}: {} {} {}", line.what, line.ours, line.reference, line.ratio);
        self.lines.push(line);
    }

    /// As Markdown.
    pub fn print(&self) {
        println!("\n| what | measured | against | ratio | target |\n| --- | --- | --- | --- | --- |");
        for Line { what, ours, reference, ratio, target } in &self.lines {
            println!("| {what} | {ours} | {reference} | {ratio} | {target} |");
        }
    }
}
