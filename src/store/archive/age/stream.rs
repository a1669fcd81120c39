//! What follows the head: chunks of 64 KiB, each sealed under its number, the last one as such.

use std::io::{self, BufRead, BufReader, Read, Write};

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use super::{
    AgeError, Identity, Recipient,
    header::{self, FILE_KEY_BYTES, Head, Shape},
    random,
};

/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 << 10;
/// Bytes that sealing adds.
const TAG: usize = 16;
/// Bytes of the nonce that the payload's key is made with.
const SALT: usize = 16;

fn key(file_key: &[u8; FILE_KEY_BYTES], salt: &[u8]) -> Result<LessSafeKey, AgeError> {
    header::cipher(&header::derive(file_key, salt, b"payload"))
}

/// The nonce of a chunk: its number, big endian, and whether it is the last.
fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let low = bytes.iter_mut().rev().skip(1).zip(number.to_le_bytes());
    low.for_each(|(to, from)| *to = from);
    if let Some(last) = bytes.last_mut() {
        *last = u8::from(is_last);
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what is written to it. Without [`finish`](Self::finish) the file does not open to its end.
pub struct Sealer<W> {
    pub(super) to: W,
    key: LessSafeKey,
    number: u64,
    chunk: Vec<u8>,
    is_broken: bool,
}

impl<W> std::fmt::Debug for Sealer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<W: Write> Sealer<W> {
    /// Begins a file for these recipients.
    ///
    /// # Errors
    /// When there is none, no randomness, or the head cannot be written.
    pub fn new(mut to: W, recipients: &[Recipient]) -> Result<Self, AgeError> {
        let (head, file_key) = header::write(recipients)?;
        let salt = random::<SALT>()?;
        to.write_all(head.as_bytes())?;
        to.write_all(salt.as_ref())?;
        let key = key(&file_key, salt.as_ref())?;
        let chunk = Vec::with_capacity(CHUNK + TAG);
        Ok(Self { to, key, number: 0, chunk, is_broken: false })
    }

    /// A part that was sealed is never sealed again, nor another one under its number: after an
    /// error there is nothing but that error.
    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the file could not be written before"));
        }
        self.is_broken = true;
        let nonce = nonce(self.number, is_last);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut self.chunk);
        sealed.ok().ok_or_else(|| io::Error::other("a chunk could not be sealed"))?;
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        self.number += 1;
        self.is_broken = false;
        Ok(())
    }

    /// Seals the last chunk and gives back what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for what follows: it may be the last.
        if self.is_broken || self.chunk.len() == CHUNK {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK.saturating_sub(self.chunk.len()));
        self.chunk.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Opens what a [`Sealer`] wrote. Every byte it gives was sealed with the file's key, in this place.
pub struct Opener<R> {
    from: BufReader<R>,
    key: LessSafeKey,
    number: u64,
    /// A part as it was read.
    sealed: Vec<u8>,
    /// The same, open.
    chunk: Vec<u8>,
    /// Bytes of the chunk that were given.
    given: usize,
    /// Whether it was sealed as the last one.
    is_last: bool,
    /// Whether something follows it.
    goes_on: bool,
}

impl<R> std::fmt::Debug for Opener<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<R: Read> Opener<R> {
    /// Begins to open a file.
    ///
    /// # Errors
    /// When it is none of this format, or not for this identity.
    pub fn new(from: R, identity: &Identity) -> Result<Self, AgeError> {
        let mut from = BufReader::with_capacity(CHUNK + TAG, from);
        let file_key = Head::read(&mut from)?.file_key(identity)?;
        let mut salt = [0; SALT];
        from.read_exact(&mut salt).ok().ok_or(AgeError::Changed("it ends after its head"))?;
        let key = key(&file_key, &salt)?;
        let (sealed, chunk) = (Vec::new(), Vec::new());
        Ok(Self { from, key, number: 0, sealed, chunk, given: 0, is_last: false, goes_on: true })
    }

    fn open_next(&mut self) -> io::Result<()> {
        self.chunk.clear();
        self.given = 0;
        if self.is_last {
            return Err(self.broken("it goes on after its end"));
        }
        self.sealed.clear();
        (&mut self.from).take((CHUNK + TAG) as u64).read_to_end(&mut self.sealed)?;
        self.goes_on = !self.from.fill_buf()?.is_empty();
        // A full part that says otherwise than its place is given like any other, as others do; what
        // follows it, or does not, is the error.
        let is_last = !self.goes_on;
        let is_full = self.sealed.len() == CHUNK + TAG;
        if self.open(is_last) {
            self.is_last = is_last;
        } else if is_full && self.open(!is_last) {
            self.is_last = !is_last;
        } else {
            return Err(self.broken("a part of it, or its end"));
        }
        if self.chunk.is_empty() && self.number > 0 {
            return Err(self.broken("its last part is empty"));
        }
        self.number += 1;
        Ok(())
    }

    /// Gives nothing any more.
    fn broken(&mut self, what: &'static str) -> io::Error {
        (self.is_last, self.goes_on) = (true, true);
        io::Error::new(io::ErrorKind::InvalidData, AgeError::Changed(what))
    }

    /// Opens the part that was read, as the last one or not. Nothing is there when it does not open.
    fn open(&mut self, is_last: bool) -> bool {
        self.chunk.clone_from(&self.sealed);
        let nonce = nonce(self.number, is_last);
        let opened = self.key.open_in_place(nonce, Aad::empty(), &mut self.chunk);
        let length = opened.map(|text| text.len()).ok();
        self.chunk.truncate(length.unwrap_or(0));
        length.is_some()
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.given == self.chunk.len() {
            if self.is_last && !self.goes_on {
                return Ok(0);
            }
            self.open_next()?;
        }
        let rest = self.chunk.get(self.given..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.given += count;
        Ok(count)
    }
}

/// What can be seen of a file without any key: that its head is one and its length can be.
///
/// # Errors
/// When it is no such file, or was cut.
pub fn shape(from: impl Read, file_bytes: u64) -> Result<Shape, AgeError> {
    let shape = Head::read(&mut BufReader::new(from))?.shape();
    let payload = file_bytes.saturating_sub(shape.header_bytes + SALT as u64);
    let rest = payload % (CHUNK + TAG) as u64;
    if payload < TAG as u64 || (1..=TAG as u64).contains(&rest) && payload > TAG as u64 {
        return Err(AgeError::Changed("its length is that of no whole file"));
    }
    Ok(shape)
}
