//! `watch`: the change feed of a reader, line by line, over broken connections and
//! restarts of the reader.

mod events;
mod format;

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::value::RawValue;

use crate::backoff::Backoff;
use ctlstore_core::schema::{FamilyName, TableName};

use super::args::JsonArg;
use super::client::{self, ServerClient};
use super::failure::{Exit, Failure};
use super::interrupt::Interrupt;
use super::output::{Out, note};

use self::events::{Event, Events};
use self::format::Data;

/// Between two tries to connect again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore watch                                      every change from now on, until ctrl-C
  ctlstore watch -f shop -t flags --rows              of one table, with the row as it is now
  ctlstore watch -f shop --json | jq -c .data.key     one JSON object a line: event, id and data
  ctlstore watch --since 4711                         what came behind ledger seq 4711
  ctlstore watch --json --since \"$LAST_ID\" --count 10 behind an event that was seen, ten changes

A line is ledger seq, what happened (upsert, delete; of a whole table cleared, dropped, altered
or many), family, table, the key and, with --rows, the row. A broken connection is made again,
and goes on where it was. \"resync\" says that changes are not known: what was read before is to
be read again; it is told on standard error too.")]
pub struct Watch {
    /// The reader; host and port will do
    #[arg(short, long, value_name = "URL", env = "CTLSTORE_READER", default_value = "http://127.0.0.1:1331")]
    reader: String,
    /// Only changes of this family
    #[arg(short, long, value_name = "FAMILY")]
    family: Option<FamilyName>,
    /// Only changes of this table
    #[arg(short, long, value_name = "TABLE", requires = "family")]
    table: Option<TableName>,
    /// Begin behind this event's id, or behind this ledger seq, instead of now
    #[arg(long, value_name = "ID|SEQ")]
    since: Option<String>,
    /// Each change with its row as it is when it is sent
    #[arg(long)]
    rows: bool,
    /// End after so many changes
    #[arg(short = 'n', long, value_name = "CHANGES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    json: JsonArg,
}

/// Where the command stands.
struct Place {
    /// The last event that was printed, or went by unprinted.
    id: Option<String>,
    /// Changes that are still to come.
    left: Option<u64>,
}

/// Why a connection is no more.
enum Ended {
    /// Everything that was asked for has come.
    Done,
    /// As the server wants it, or against its will.
    Broken(Failure),
}

impl Watch {
    pub fn run(&self) -> anyhow::Result<()> {
        let reader = ServerClient::new("reader", "--reader or CTLSTORE_READER", &self.reader)?;
        let mut place = Place { id: None, left: self.count };
        client::run(async {
            let interrupt = Interrupt::listen().context("signals")?;
            let ended = interrupt.unless(self.follow(&reader, &mut place)).await;
            ended.unwrap_or_else(|| Err(stopped(place.id.as_deref()).into()))
        })
    }

    async fn follow(&self, reader: &ServerClient, place: &mut Place) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut is_lost = false;
        loop {
            let before = place.id.clone();
            let failure = match self.connection(reader, place, &mut is_lost).await? {
                Ended::Done => return Ok(()),
                Ended::Broken(failure) => failure,
            };
            // With nothing seen yet a reader that is not there is more likely a mistake.
            if place.id.is_none() || failure.exit() != Exit::Unavailable {
                return Err(failure.into());
            }
            if place.id != before {
                backoff.reset();
            }
            if !is_lost {
                note(&format!("{failure}; trying again"));
                is_lost = true;
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// One connection from its beginning to its end.
    async fn connection(&self, reader: &ServerClient, place: &mut Place, is_lost: &mut bool) -> anyhow::Result<Ended> {
        let mut stream = match reader.open(self.request(reader, place)).await {
            Ok(stream) => stream,
            Err(failure) => return Ok(Ended::Broken(failure)),
        };
        if std::mem::take(is_lost) {
            note(&format!("connected to the reader at {} again", reader.shown()));
        }
        let mut events = Events::default();
        loop {
            let piece = match stream.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(Ended::Broken(ended(reader))),
                Err(failure) => return Ok(Ended::Broken(failure)),
            };
            let ended = events.push(piece.as_ref()).with_context(|| format!("the reader at {}", reader.shown()))?;
            let mut out = Out::new();
            for event in ended {
                self.take(&mut out, event, place)?;
                if place.left == Some(0) {
                    out.flush()?;
                    return Ok(Ended::Done);
                }
            }
            out.flush()?;
        }
    }

    fn request(&self, reader: &ServerClient, place: &Place) -> reqwest::RequestBuilder {
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(self.family.as_ref().map(|family| ("family", family.as_str())));
        query.extend(self.table.as_ref().map(|table| ("table", table.as_str())));
        query.extend(self.rows.then_some(("rows", "true")));
        query.extend(self.since.as_deref().map(|since| ("since", since)));
        let request = reader.get(&["changes"], &query).header("accept", "text/event-stream");
        match &place.id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    }

    fn take(&self, out: &mut Out, event: Event, place: &mut Place) -> anyhow::Result<()> {
        if !event.data.is_empty() {
            self.show(out, &event, place).with_context(|| format!("event {:?}", event.name))?;
        }
        place.id = event.id.or(place.id.take());
        Ok(())
    }

    fn show(&self, out: &mut Out, event: &Event, place: &mut Place) -> anyhow::Result<()> {
        let data: Data<'_> = serde_json::from_str(&event.data)?;
        match event.name.as_str() {
            "start" if place.id.is_none() && out.is_terminal() => {
                note(&format!("the reader is at ledger seq {}; ctrl-C ends", data.ledger_seq));
            }
            // On a terminal the line itself is red.
            "resync" if !out.is_terminal() => {
                let reason = data.reason.as_deref().unwrap_or("it does not say why");
                note(&format!("resync at ledger seq {}: {reason}", data.ledger_seq));
            }
            "change" | "table" => place.left = place.left.map(|left| left - 1),
            _ => {}
        }
        match (self.json.json, event.name.as_str()) {
            (true, _) => format::json(out, event, serde_json::from_str::<&RawValue>(&event.data)?),
            (false, "start") => Ok(()),
            (false, _) => format::line(out, event, &data),
        }
    }
}

fn ended(reader: &ServerClient) -> Failure {
    Failure::new(Exit::Unavailable, format!("the reader at {} ended the stream", reader.shown()))
}

fn stopped(id: Option<&str>) -> Failure {
    let further = id.map(|id| format!("; --since {id} goes on from here")).unwrap_or_default();
    Failure::new(Exit::Interrupted, format!("stopped by a signal{further}"))
}
