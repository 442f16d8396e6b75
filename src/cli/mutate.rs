//! `mutate`: writes one row from flags, or many from NDJSON. `lines` reads the input, and `sender`
//! writes it in requests.

pub mod lines;
mod position;
pub mod sender;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use ctlstore_core::schema::{FamilyName, FieldName, FieldType, TableName, TableSchema};

use self::lines::MutationLines;
use self::sender::{Sender, WriteSummary, WriteTarget};
use super::args::{self, CredentialsArg, ExecutiveArg, JsonArg};
use super::failure::Failure;
use super::output::{note, say, say_json};
use super::{client, table_json};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore mutate -f shop -t flags --set name=dark-mode --set on=1
  ctlstore mutate -f shop -t flags --delete --set name=dark-mode
  ctlstore mutate -f shop --input flags.ndjson            many rows, in requests of at most 100
  generate | ctlstore mutate -f shop -t flags --resume    many rows; run again, it goes on

A line of the input is one mutation, as in the executive's API; bytes are base64:
  {\"table\":\"flags\",\"values\":{\"name\":\"dark-mode\",\"on\":1}}
  {\"table\":\"flags\",\"delete\":true,\"values\":{\"name\":\"dark-mode\"}}

The writer's cookie stays as it is. With --resume it holds the position in the input: each
request sets it, in the transaction that writes its rows, to the number of lines that are
written and a digest of them. The same command skips these lines when it is run again, and
refuses an input that begins differently. Use a separate writer for each such input.

Ctrl-C ends the command after the request that is in progress. It then says how many rows are
written.")]
pub struct MutateArgs {
    #[command(flatten)]
    executive: ExecutiveArg,
    #[command(flatten)]
    credentials: CredentialsArg,
    /// The family
    #[arg(short, long, value_name = "FAMILY")]
    family: FamilyName,
    /// The table of the row, and of lines that name none
    #[arg(short, long, value_name = "TABLE")]
    table: Option<TableName>,
    /// A field and its value, read by the field's type, 0x… for bytes; an upsert needs
    /// every field, a delete every key field
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = assignment, conflicts_with_all = ["input", "resume"])]
    set: Vec<(FieldName, String)>,
    /// A field whose value is NULL
    #[arg(long = "null", value_name = "FIELD", conflicts_with_all = ["input", "resume"])]
    null: Vec<FieldName>,
    /// Delete the row instead of writing it
    #[arg(long, requires = "set")]
    delete: bool,
    /// File with mutations, one JSON object a line; "-" is standard input, the default
    /// if no field is set
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Go on where an earlier run of the same input ended
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    json: JsonArg,
}

fn assignment(text: &str) -> Result<(FieldName, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is field=value")?;
    Ok((FieldName::new(name).map_err(|error| error.to_string())?, value.to_owned()))
}

impl MutateArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let executive = self.executive.client()?;
        let secret = self.credentials.secret()?;
        let target =
            WriteTarget { executive, family: self.family.clone(), writer: self.credentials.writer.clone(), secret };
        let summary = client::run(async {
            if self.set.is_empty() && self.null.is_empty() { self.many(target).await } else { self.one(target).await }
        })?;
        report(&summary, &self.json)
    }

    async fn one(&self, target: WriteTarget) -> anyhow::Result<WriteSummary> {
        let table = self.table.as_ref().ok_or_else(|| Failure::usage("--set goes with --table"))?;
        let schema = table_json::table_of(&target.executive, &args::table_ref(&self.family, table)?).await?;
        let mut values = Map::new();
        for (name, text) in &self.set {
            values.insert(name.to_string(), value(&schema, name, text)?);
        }
        values.extend(self.null.iter().map(|name| (name.to_string(), Value::Null)));
        let mutation = json!({ "table": table, "delete": self.delete, "values": values }).to_string();
        let mut sender = Sender::begin(target, false).await?;
        sender.push("", mutation).await?;
        sender.finish().await
    }

    async fn many(&self, target: WriteTarget) -> anyhow::Result<WriteSummary> {
        let input = self.input.as_deref().unwrap_or(Path::new("-"));
        if input == Path::new("-") && std::io::stdin().is_terminal() {
            note("reading mutations from the terminal, one JSON object a line; ctrl-D ends");
        }
        let mut lines = MutationLines::open(input)?;
        let mut sender = Sender::begin(target, self.resume).await?;
        while let Some(line) = sender.awaiting(lines.next()).await? {
            let mutation = lines::mutation(&line, self.table.as_ref().map(TableName::as_str));
            sender.push(&line, mutation.map_err(|why| lines.wrong(why))?).await?;
        }
        sender.finish().await
    }
}

/// A value from the command line as JSON, by the field's type. The executive checks further rules.
fn value(schema: &TableSchema, name: &FieldName, text: &str) -> Result<Value, Failure> {
    let Some(index) = schema.position(name) else {
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
        let message = format!("table {} has no field {name}, it has {}", schema.table(), known.join(", "));
        return Err(Failure::refused(message));
    };
    let wrong = |what: &str| Failure::usage(format!("field {name}: {text:?} is not {what}"));
    Ok(match schema.fields()[index].field_type {
        FieldType::String | FieldType::Text => Value::from(text),
        FieldType::Integer => match text {
            "true" | "false" => Value::from(text == "true"),
            _ => text.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number of 64 bits"))?,
        },
        FieldType::Decimal => {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            Value::Number(number.ok_or_else(|| wrong("a finite number"))?)
        }
        FieldType::Binary | FieldType::ByteString => {
            let bytes = match text.strip_prefix("0x") {
                Some(digits) => hex::decode(digits).map_err(|_| wrong("hex after 0x"))?,
                None => text.as_bytes().to_vec(),
            };
            Value::from(STANDARD.encode(bytes))
        }
    })
}

/// Prints what was written, for people or as JSON.
pub fn report(summary: &WriteSummary, json: &JsonArg) -> anyhow::Result<()> {
    if json.json {
        return say_json(summary);
    }
    let WriteSummary { rows, requests, skipped, seq } = summary;
    let skipped = if *skipped > 0 { format!(", {skipped} were written before") } else { String::new() };
    let seq = seq.map(|seq| format!(", up to seq {seq}")).unwrap_or_default();
    let rows = plural(*rows, "row");
    let requests = plural(*requests, "request");
    say(&format!("wrote {rows} in {requests}{seq}{skipped}"))
}

fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("{count} {one}") } else { format!("{count} {one}s") }
}
