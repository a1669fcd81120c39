//! Server-sent events, decoded from bytes as they arrive (HTML standard, section 9.2).
//!
//! Invariants: any bytes are accepted without a panic; what is buffered is bounded by
//! `LINE_BYTES_MAX` and `DATA_BYTES_MAX`; where the bytes are cut into chunks changes nothing.

use crate::domain::limits;

/// Longest line; one tool call's arguments may arrive as a single line.
pub(super) const LINE_BYTES_MAX: usize = 2 * limits::MODEL_ANSWER_BYTES_MAX;
/// Most data of one event.
pub(super) const DATA_BYTES_MAX: usize = 2 * limits::MODEL_ANSWER_BYTES_MAX;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The `event:` field; empty when none was sent.
    pub(super) name: String,
    /// The `data:` lines, a line break between them.
    pub(super) data: String,
}

/// Why the bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SseError {
    /// A line or an event is longer than allowed.
    TooLong,
    /// Not UTF-8.
    NotText,
}

/// Turns bytes into events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
    past_first_line: bool,
}

impl Decoder {
    /// Takes the next bytes and appends the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), SseError> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let (head, tail) = rest.split_at(at);
            let Some((&end, tail)) = tail.split_first() else { break };
            // "\r\n" is one line end, also when the chunk was cut between the two.
            let is_second_half = end == b'\n' && self.after_cr && head.is_empty();
            self.after_cr = end == b'\r';
            if !is_second_half {
                self.extend(head)?;
                self.end_line(out)?;
            }
            rest = tail;
        }
        if !rest.is_empty() {
            self.after_cr = false;
            self.extend(rest)?;
        }
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(SseError::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Event>) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).ok().ok_or(SseError::NotText)?;
        let text = if self.past_first_line { text } else { text.trim_start_matches('\u{feff}') };
        self.past_first_line = true;
        if text.is_empty() {
            self.end_event(out);
        } else {
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => self.data(value)?,
                "event" => value.clone_into(&mut self.event.name),
                // Comments (an empty field name), `id`, `retry` and unknown fields mean nothing
                // here.
                _ => {}
            }
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn data(&mut self, value: &str) -> Result<(), SseError> {
        if self.event.data.len() + value.len() >= DATA_BYTES_MAX {
            return Err(SseError::TooLong);
        }
        if self.has_data {
            self.event.data.push('\n');
        }
        self.event.data.push_str(value);
        self.has_data = true;
        Ok(())
    }

    fn end_event(&mut self, out: &mut Vec<Event>) {
        let event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.has_data) {
            out.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = "\u{feff}: hi\r\nevent: one\ndata: {\"a\":1}\n\ndata:two\rdata: 2é\r\r\ndata\r\n\r\nevent: none\n\nid: 7\nretry: 9\ndata:  x\n\ndata: cut".as_bytes();

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Event>, SseError> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.push(chunk, &mut out)?;
        }
        Ok(out)
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn where_the_bytes_are_cut_changes_nothing() {
        let expected =
            vec![event("one", "{\"a\":1}"), event("", "two\n2é"), event("", ""), event("", " x")];
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.split_at(at);
            assert_eq!(decode(&[a, b]), Ok(expected.clone()), "cut at {at}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(decode(&single), Ok(expected));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let chunk = vec![b'a'; 1 << 16];
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        let refused =
            (0..=LINE_BYTES_MAX / chunk.len()).find_map(|_| decoder.push(&chunk, &mut out).err());
        assert_eq!(refused, Some(SseError::TooLong));
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let line = [b"data:".as_slice(), &vec![b'a'; 1 << 16], b"\n"].concat();
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        let refused =
            (0..=DATA_BYTES_MAX / 65_536).find_map(|_| decoder.push(&line, &mut out).err());
        assert_eq!(refused, Some(SseError::TooLong));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(decode(&[b"data: \xff\n\n"]), Err(SseError::NotText));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_give_the_same_answer(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), any::<u8>()], 0..400),
            size in 1_usize..20,
        ) {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let whole = decode(&[&bytes]);
            let parts = decode(&chunks);
            prop_assert_eq!(whole, parts);
        }
    }
}
