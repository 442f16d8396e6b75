//! Parses server-sent events from the pieces of a connection. Entry point: [`EventParser::push`]. It
//! gives complete events, each within a bound. It does no input or output.

use std::mem;

/// The longest event, in bytes: a change with its row is shorter.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// One event. A heartbeat has no data, and may have an id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedEvent {
    /// The position after it.
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

/// An event is longer than [`MAX_BYTES`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {MAX_BYTES} bytes")]
pub struct EventTooLong;

/// Parses the events of one connection. An event that is cut off by the end does not count.
#[derive(Debug, Default)]
pub struct EventParser {
    /// The present line, up to its end.
    line: Vec<u8>,
    event: FeedEvent,
    bytes: usize,
}

impl EventParser {
    /// The events that end in this piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<FeedEvent>, EventTooLong> {
        let mut ended = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.bytes += part.len();
            if self.bytes > MAX_BYTES {
                return Err(EventTooLong);
            }
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                ended.extend(self.end_line());
            }
        }
        Ok(ended)
    }

    fn end_line(&mut self) -> Option<FeedEvent> {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            self.bytes = 0;
            return Some(mem::take(&mut self.event)).filter(|event| *event != FeedEvent::default());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => self.event.data.extend(["\n", value]),
            // Comments, the time to wait, and unknown fields.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 1000\nid: h-1\nevent: start\ndata: {\"ledgerSeq\":1}\n\n: heartbeat\nid: h-2\n\n\
                          event:change\r\nid:h-3\r\ndata: a\r\ndata: b\r\n\r\n\n";

    fn event(id: &str, name: &str, data: &str) -> FeedEvent {
        FeedEvent { id: Some(id.to_owned()), name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_in_pieces_of_any_size() {
        let wanted = [event("h-1", "start", "{\"ledgerSeq\":1}"), event("h-2", "", ""), event("h-3", "change", "a\nb")];
        for size in 1..=STREAM.len() {
            let mut events = EventParser::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let got: Vec<FeedEvent> = pieces.flat_map(|piece| events.push(piece).unwrap()).collect();
            assert_eq!(got, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn an_id_counts_only_with_the_end_of_its_event() {
        assert_eq!(EventParser::default().push(b"id: h-9\nevent: change\ndata: x\n"), Ok(vec![]));
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut events = EventParser::default();
        let piece = [b"data: ".as_slice(), &[b'x'; 1024 * 1024]].concat();
        let refused = (0..=MAX_BYTES / piece.len()).find_map(|_| events.push(&piece).err());
        assert_eq!(refused, Some(EventTooLong));
        // An event of many short lines is refused too.
        let mut events = EventParser::default();
        let lines = b"data: x\n".repeat(1024 * 128);
        let refused = (0..=MAX_BYTES / lines.len()).find_map(|_| events.push(&lines).err());
        assert_eq!(refused, Some(EventTooLong));
    }
}
