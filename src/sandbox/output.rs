//! What is kept of a tool's output.
//!
//! Invariants: memory is bounded by the limit whatever the tool writes; the beginning and the end
//! are kept, since the end is where an error usually stands; live pieces are a courtesy and are
//! dropped when nobody keeps up.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::domain::event::OutputStream;

/// Bytes beyond the kept ones that are read and thrown away before the tool is killed: a chatty
/// build may go on, an endless stream may not.
const DISCARDED_BYTES_MAX: u64 = 32 << 20;
/// Longest valid but incomplete UTF-8 sequence.
const PARTIAL_BYTES_MAX: usize = 3;

/// Where live pieces go.
pub type Live = mpsc::Sender<(OutputStream, String)>;

/// Collects both streams of one call.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    left_out: u64,
    live: Option<Live>,
    partial: [Vec<u8>; 2],
}

/// Whether the tool may go on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    TooMuch,
}

impl Capture {
    /// Keeps at most `limit` bytes, less a note where something is left out.
    pub(super) fn new(limit: usize, live: Option<Live>) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            half: limit / 2,
            left_out: 0,
            live,
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// Takes one piece as it was read.
    pub(super) fn push(&mut self, stream: OutputStream, bytes: &[u8]) -> Flow {
        self.tell(stream, bytes);
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
        self.left_out = self.left_out.saturating_add(excess as u64);
        if self.left_out > DISCARDED_BYTES_MAX { Flow::TooMuch } else { Flow::Continue }
    }

    fn tell(&mut self, stream: OutputStream, bytes: &[u8]) {
        let Some(live) = &self.live else { return };
        let [out, err] = &mut self.partial;
        let partial = match stream {
            OutputStream::Stdout => out,
            OutputStream::Stderr => err,
        };
        partial.extend_from_slice(bytes);
        let rest = partial.split_off(complete(partial));
        let text = String::from_utf8_lossy(partial).into_owned();
        *partial = rest;
        if !text.is_empty() {
            live.try_send((stream, text)).ok();
        }
    }

    /// What was kept, and whether anything was left out.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        let mut kept = self.head;
        if self.left_out > 0 {
            kept.extend_from_slice(
                format!("\n[… {} bytes left out …]\n", self.left_out).as_bytes(),
            );
        }
        kept.extend(self.tail);
        (kept, self.left_out > 0)
    }
}

/// How many bytes end with a whole character (or with something that never becomes one).
fn complete(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(PARTIAL_BYTES_MAX);
    for at in (start..bytes.len()).rev() {
        let Some(byte) = bytes.get(at) else { break };
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if at + length > bytes.len() { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_are_kept_and_the_middle_is_counted() {
        let mut capture = Capture::new(8, None);
        for piece in [&b"0123"[..], b"45", b"6789", b"ab"] {
            assert_eq!(capture.push(OutputStream::Stdout, piece), Flow::Continue);
        }
        let (kept, is_cut) = capture.finish();
        assert_eq!(String::from_utf8(kept).unwrap(), "0123\n[… 4 bytes left out …]\n89ab");
        assert!(is_cut);
    }

    #[test]
    fn output_within_the_limit_is_whole() {
        let mut capture = Capture::new(8, None);
        capture.push(OutputStream::Stdout, b"01234");
        capture.push(OutputStream::Stderr, b"567");
        assert_eq!(capture.finish(), (b"01234567".to_vec(), false));
    }

    #[test]
    fn a_flood_keeps_memory_bounded_and_is_stopped() {
        let mut capture = Capture::new(1_000, None);
        let piece = vec![b'y'; 64 << 10];
        let mut pushed = 0;
        while capture.push(OutputStream::Stdout, &piece) == Flow::Continue {
            pushed += 1;
            assert!(pushed < 10_000, "never stopped");
        }
        assert!(capture.tail.len() <= 500 && capture.head.len() <= 500);
        assert!(capture.tail.capacity() < 256 << 10, "{}", capture.tail.capacity());
    }

    #[test]
    fn live_pieces_break_between_characters_and_are_dropped_when_nobody_reads() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut capture = Capture::new(100, Some(sender));
        capture.push(OutputStream::Stdout, b"caf\xC3");
        capture.push(OutputStream::Stderr, b"x");
        capture.push(OutputStream::Stdout, b"\xA9!");
        assert_eq!(receiver.try_recv().unwrap(), (OutputStream::Stdout, "caf".to_owned()));
        assert_eq!(receiver.try_recv().unwrap(), (OutputStream::Stderr, "x".to_owned()));
        assert!(receiver.try_recv().is_err(), "the third found no room");
        assert_eq!(capture.finish().0, b"caf\xC3x\xA9!");
    }
}
