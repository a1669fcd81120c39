//! Parses a stream of server-sent events.

use std::collections::VecDeque;

/// No frame of this API is larger: an event carries at most one message or one tool's output.
const FRAME_BYTES_MAX: usize = 8 << 20;

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its `event:`.
    pub(super) event: String,
    /// Its `data:` lines.
    pub(super) data: String,
}

/// Takes bytes as they come, gives frames as they end.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    frame: Frame,
    has_data: bool,
    ready: VecDeque<Frame>,
}

/// A frame is larger than any that this API sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event stream sent a frame larger than {FRAME_BYTES_MAX} bytes")]
pub(crate) struct TooLarge;

impl Parser {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let text = String::from_utf8_lossy(&line);
                self.take_line(text.trim_end_matches('\r'));
            } else {
                self.line.push(*byte);
            }
            if self.line.len() + self.frame.data.len() > FRAME_BYTES_MAX {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                self.ready.push_back(std::mem::take(&mut self.frame));
            }
            self.frame = Frame::default();
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.frame.event),
            "data" => {
                if self.has_data {
                    self.frame.data.push('\n');
                }
                self.has_data = true;
                self.frame.data.push_str(value);
            }
            // `id` repeats the event's seq; comments are pings; `retry` is our own business.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let stream = ": ping\n\nid: 1\nevent: run.created\ndata: {\"a\":\r\ndata: 1}\n\ndata:é\n\n";
        let frame = |event: &str, data: &str| Frame { event: event.into(), data: data.into() };
        let wanted = [frame("run.created", "{\"a\":\n1}"), frame("", "é")];
        for size in 1..=stream.len() {
            let mut parser = Parser::default();
            stream.as_bytes().chunks(size).for_each(|c| parser.push(c).unwrap());
            let found: Vec<Frame> = std::iter::from_fn(|| parser.next()).collect();
            assert_eq!(found, wanted, "cut into {size}");
        }
    }

    #[test]
    fn an_endless_frame_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; FRAME_BYTES_MAX + 1]), Err(TooLarge));
    }
}
