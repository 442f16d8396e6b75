//! Reads what a client of the change feed asks for: which tables, with rows or without, and where to
//! go on. Entry point: [`FeedRequest::of`].

use actix_web::HttpRequest;
use url::form_urlencoded;

use crate::http::error::HttpError;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FamilyName, TableName};
use ctlstore_ldb::changelog::history::{Record, What};

/// The header by which a client that lost its connection names the last event that it got.
pub const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Default)]
pub struct FeedRequest {
    pub filter: TableFilter,
    pub with_rows: bool,
    pub since: Since,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Since {
    #[default]
    Now,
    /// After the last event that the client got.
    Event(FeedPosition),
    /// After this ledger seq, at which the client has read rows.
    LedgerSeq(Seq),
    /// After an event that this reader has not sent.
    Unknown,
}

/// An event's id, `<history>-<number>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPosition {
    pub history: String,
    pub number: u64,
}

/// Which tables the client asks for.
#[derive(Debug, Default)]
pub struct TableFilter {
    family: Option<FamilyName>,
    table: Option<TableName>,
}

impl FeedRequest {
    pub fn of(request: &HttpRequest) -> Result<Self, HttpError> {
        let mut asked = Self::default();
        let mut named = Vec::new();
        for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
            match &*name {
                "family" => asked.filter.family = Some(FamilyName::new(&value).map_err(HttpError::bad_request)?),
                "table" => asked.filter.table = Some(TableName::new(&value).map_err(HttpError::bad_request)?),
                "rows" => asked.with_rows = value.parse().map_err(|_| bad("rows is neither true nor false"))?,
                "since" => asked.since = Since::parse(&value).ok_or_else(|| bad("since is no event id and no seq"))?,
                _ => return Err(bad("there are family, table, since and rows, and no other parameter")),
            }
            if named.contains(&name) {
                return Err(HttpError::bad_request(format!("{name} is given twice")));
            }
            named.push(name);
        }
        if asked.filter.table.is_some() && asked.filter.family.is_none() {
            return Err(bad("a table is named by its family too"));
        }
        // The header counts before `since`: a browser's event source repeats the URL that it began with.
        if let Some(last) = request.headers().get(LAST_EVENT_ID).filter(|last| !last.is_empty()) {
            asked.since = last.to_str().ok().and_then(FeedPosition::parse).map_or(Since::Unknown, Since::Event);
        }
        Ok(asked)
    }
}

fn bad(message: &'static str) -> HttpError {
    HttpError::bad_request(message)
}

impl Since {
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().map(|seq| Self::LedgerSeq(Seq(seq)));
        }
        FeedPosition::parse(text).map(Self::Event)
    }
}

impl FeedPosition {
    fn parse(text: &str) -> Option<Self> {
        let (history, number) = text.split_once('-')?;
        let is_history = history.len() == 32 && history.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok().filter(|number| *number < u64::MAX)?;
        is_history.then(|| Self { history: history.to_owned(), number })
    }
}

impl TableFilter {
    /// Whether the client gets this record. Every client gets a resync.
    pub fn takes(&self, record: &Record) -> bool {
        let (What::Row { family, table, .. } | What::Table { family, table, .. }) = &record.what else { return true };
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        is(self.family.as_ref().map(FamilyName::as_str), family)
            && is(self.table.as_ref().map(TableName::as_str), table)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn parse_request(query: &str) -> Result<FeedRequest, String> {
        let request = TestRequest::with_uri(&format!("/changes{query}")).to_http_request();
        FeedRequest::of(&request).map_err(|error| error.to_string())
    }

    #[test]
    fn a_position_is_an_event_id_or_a_ledger_seq() {
        assert_eq!(parse_request("").unwrap().since, Since::Now);
        assert_eq!(parse_request("?since=4711").unwrap().since, Since::LedgerSeq(Seq(4711)));
        let position = FeedPosition { history: ID.to_owned(), number: 7 };
        assert_eq!(parse_request(&format!("?since={ID}-7")).unwrap().since, Since::Event(position.clone()));
        let last = |id: &str| {
            let request = TestRequest::with_uri("/changes?since=1").insert_header((LAST_EVENT_ID, id));
            FeedRequest::of(&request.to_http_request()).unwrap().since
        };
        assert_eq!(last(&format!("{ID}-7")), Since::Event(position));
        assert_eq!(last("someone else's"), Since::Unknown);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (query, reason) in [
            ("?since=", "since is no event id"),
            ("?since=-1", "since is no event id"),
            ("?since=99999999999999999999", "since is no event id"),
            (&*format!("?since={ID}-x"), "since is no event id"),
            ("?rows=yes", "neither true nor false"),
            ("?family=a__b", "two underscores"),
            ("?table=tab", "by its family"),
            ("?family=fam&table=1", "must have 3 to 50"),
            ("?famly=fam", "no other parameter"),
            ("?rows=true&rows=true", "rows is given twice"),
        ] {
            let error = parse_request(query).unwrap_err();
            assert!(error.contains(reason), "{query}: {error}");
        }
    }
}
