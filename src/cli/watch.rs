//! `watch`: prints the change feed of a reader line by line. It goes on after broken connections and
//! restarts of the reader. `events` reads the stream, `format` writes the lines.

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

use self::events::{EventParser, FeedEvent};
use self::format::EventData;

/// The pause between two tries to connect: the shortest and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ctlstore watch                                      every change from now on, until ctrl-C
  ctlstore watch -f shop -t flags --rows              one table, with the row as it is now
  ctlstore watch -f shop --json | jq -c .data.key     one JSON object a line: event, id and data
  ctlstore watch --since 4711                         the changes after ledger seq 4711
  ctlstore watch --json --since \"$LAST_ID\" --count 10 ten changes after an event, by its id

A line has the ledger seq, what happened (upsert or delete; cleared, dropped, altered or many for a
whole table), family, table, key and, with --rows, the row. After a broken connection the command
connects again and goes on. \"resync\" says that changes were missed: read again what you have read
before. It is printed on standard error too.")]
pub struct WatchArgs {
    /// The reader's URL, or its host and port
    #[arg(short, long, value_name = "URL", env = "CTLSTORE_READER", default_value = "http://127.0.0.1:1331")]
    reader: String,
    /// Only changes of this family
    #[arg(short, long, value_name = "FAMILY")]
    family: Option<FamilyName>,
    /// Only changes of this table
    #[arg(short, long, value_name = "TABLE", requires = "family")]
    table: Option<TableName>,
    /// Begin after the event with this id, or after this ledger seq, instead of now
    #[arg(long, value_name = "ID|SEQ")]
    since: Option<String>,
    /// Print the row of each change, as it is when the change is sent
    #[arg(long)]
    rows: bool,
    /// End after this many changes
    #[arg(short = 'n', long, value_name = "CHANGES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    json: JsonArg,
}

/// How far the command is.
struct WatchPosition {
    /// The id of the last event, whether it was printed or not.
    id: Option<String>,
    /// How many changes are still to be printed.
    left: Option<u64>,
}

/// How a connection has ended.
enum ConnectionEnd {
    /// All changes that were asked for are printed.
    Done,
    /// The server has ended it, or it broke.
    Broken(Failure),
}

impl WatchArgs {
    pub fn run(&self) -> anyhow::Result<()> {
        let reader = ServerClient::new("reader", "--reader or CTLSTORE_READER", &self.reader)?;
        let mut place = WatchPosition { id: None, left: self.count };
        client::run(async {
            let interrupt = Interrupt::listen().context("signals")?;
            let ended = interrupt.unless(self.follow(&reader, &mut place)).await;
            ended.unwrap_or_else(|| Err(stopped(place.id.as_deref()).into()))
        })
    }

    async fn follow(&self, reader: &ServerClient, place: &mut WatchPosition) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        let mut is_lost = false;
        loop {
            let before = place.id.clone();
            let failure = match self.connection(reader, place, &mut is_lost).await? {
                ConnectionEnd::Done => return Ok(()),
                ConnectionEnd::Broken(failure) => failure,
            };
            // If no event has come yet, a reader that is not there is more likely a mistake.
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
    async fn connection(
        &self,
        reader: &ServerClient,
        place: &mut WatchPosition,
        is_lost: &mut bool,
    ) -> anyhow::Result<ConnectionEnd> {
        let mut stream = match reader.open(self.request(reader, place)).await {
            Ok(stream) => stream,
            Err(failure) => return Ok(ConnectionEnd::Broken(failure)),
        };
        if std::mem::take(is_lost) {
            note(&format!("connected to the reader at {} again", reader.shown()));
        }
        let mut events = EventParser::default();
        loop {
            let piece = match stream.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(ConnectionEnd::Broken(ended(reader))),
                Err(failure) => return Ok(ConnectionEnd::Broken(failure)),
            };
            let ended = events.push(piece.as_ref()).with_context(|| format!("the reader at {}", reader.shown()))?;
            let mut out = Out::new();
            for event in ended {
                self.take(&mut out, event, place)?;
                if place.left == Some(0) {
                    out.flush()?;
                    return Ok(ConnectionEnd::Done);
                }
            }
            out.flush()?;
        }
    }

    fn request(&self, reader: &ServerClient, place: &WatchPosition) -> reqwest::RequestBuilder {
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

    fn take(&self, out: &mut Out, event: FeedEvent, place: &mut WatchPosition) -> anyhow::Result<()> {
        if !event.data.is_empty() {
            self.show(out, &event, place).with_context(|| format!("event {:?}", event.name))?;
        }
        place.id = event.id.or(place.id.take());
        Ok(())
    }

    fn show(&self, out: &mut Out, event: &FeedEvent, place: &mut WatchPosition) -> anyhow::Result<()> {
        let data: EventData<'_> = serde_json::from_str(&event.data)?;
        match event.name.as_str() {
            "start" if place.id.is_none() && out.is_terminal() => {
                note(&format!("the reader is at ledger seq {}; ctrl-C ends", data.ledger_seq));
            }
            // On a terminal the event's own line is red.
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
