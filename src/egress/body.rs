//! A request's body on its way to the server: as long as its head said, chunks written anew, and
//! without a secret's placeholder.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{head::Framing, template::Scanner};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes of the line before a chunk, extensions included, or of a trailer field.
const LINE_BYTES_MAX: usize = 1 << 10;
/// Lines of a trailer.
const TRAILER_LINES_MAX: usize = 32;
/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 15;

/// Why a body did not go through.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The client broke off.
    Client(#[expect(dead_code, reason = "for logs")] io::Error),
    /// The server takes no more.
    Server(#[expect(dead_code, reason = "for logs")] io::Error),
    /// The chunks are not as RFC 9112 section 7.1 writes them.
    Malformed,
    /// A placeholder stands in it.
    Secret,
}

/// Sends the body. `rest` is its beginning, as far as it was read already; what lies beyond the
/// body's end is left alone.
pub(super) async fn send<R, W>(
    framing: Framing,
    rest: &[u8],
    from: &mut R,
    to: &mut W,
) -> Result<(), BodyError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut source = Source { rest, from, scanner: Scanner::default() };
    match framing {
        Framing::None => {}
        Framing::Length(length) => source.copy(length, to).await?,
        Framing::Chunked => chunks(&mut source, to).await?,
    }
    to.flush().await.map_err(BodyError::Server)
}

async fn chunks<R, W>(source: &mut Source<'_, R>, to: &mut W) -> Result<(), BodyError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let size = chunk_size(&source.line().await?)?;
        if size == 0 {
            break;
        }
        let line = format!("{size:x}\r\n");
        to.write_all(line.as_bytes()).await.map_err(BodyError::Server)?;
        source.copy(size, to).await?;
        if !source.line().await?.is_empty() {
            return Err(BodyError::Malformed);
        }
        to.write_all(b"\r\n").await.map_err(BodyError::Server)?;
    }
    // The trailer is read and left out: nothing here promises to look at its fields.
    for _ in 0..TRAILER_LINES_MAX {
        if source.line().await?.is_empty() {
            return to.write_all(b"0\r\n\r\n").await.map_err(BodyError::Server);
        }
    }
    Err(BodyError::Malformed)
}

/// The size before a chunk; extensions are left out.
fn chunk_size(line: &[u8]) -> Result<u64, BodyError> {
    let text = std::str::from_utf8(line).map_err(|_not_text| BodyError::Malformed)?;
    let digits = text.split_once(';').map_or(text, |(digits, _)| digits);
    let is_size = (1..=SIZE_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_size);
    size.ok_or(BodyError::Malformed)
}

/// What the client sends, with what was read of it already in front.
struct Source<'s, R> {
    rest: &'s [u8],
    from: &'s mut R,
    scanner: Scanner,
}

impl<R: AsyncRead + Unpin> Source<'_, R> {
    /// Copies exactly so many bytes.
    async fn copy<W: AsyncWrite + Unpin>(
        &mut self,
        length: u64,
        to: &mut W,
    ) -> Result<(), BodyError> {
        let mut left = length;
        let mut buffer = vec![0; BUFFER_BYTES];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = if self.rest.is_empty() {
                let room = buffer.get_mut(..wanted.min(BUFFER_BYTES)).unwrap_or_default();
                match self.from.read(room).await.map_err(BodyError::Client)? {
                    0 => return Err(BodyError::Client(io::ErrorKind::UnexpectedEof.into())),
                    read => buffer.get(..read).unwrap_or_default(),
                }
            } else {
                let (piece, rest) = self.rest.split_at(wanted.min(self.rest.len()));
                self.rest = rest;
                piece
            };
            if self.scanner.feed(piece) {
                return Err(BodyError::Secret);
            }
            to.write_all(piece).await.map_err(BodyError::Server)?;
            left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(left));
        }
        Ok(())
    }

    /// One line without its end, which is CRLF and nothing else.
    async fn line(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut line = Vec::new();
        while line.len() <= LINE_BYTES_MAX {
            let byte = if let [first, rest @ ..] = self.rest {
                let byte = *first;
                self.rest = rest;
                byte
            } else {
                self.from.read_u8().await.map_err(BodyError::Client)?
            };
            if byte == b'\n' {
                return match line.pop() {
                    Some(b'\r') if !line.contains(&b'\r') => Ok(line),
                    _ => Err(BodyError::Malformed),
                };
            }
            line.push(byte);
        }
        Err(BodyError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(framing: Framing, rest: &[u8], more: &[u8]) -> Result<String, BodyError> {
        let mut to = Vec::new();
        send(framing, rest, &mut &more[..], &mut to).await?;
        Ok(String::from_utf8(to).unwrap())
    }

    #[tokio::test]
    async fn a_body_ends_where_its_head_said() {
        assert_eq!(sent(Framing::Length(5), b"he", b"lloGET /").await.unwrap(), "hello");
        assert_eq!(sent(Framing::Length(2), b"hello", b"").await.unwrap(), "he");
        assert_eq!(sent(Framing::None, b"hello", b"x").await.unwrap(), "");
        assert!(matches!(sent(Framing::Length(9), b"he", b"llo").await, Err(BodyError::Client(_))));
    }

    #[tokio::test]
    async fn chunks_are_written_anew() {
        let body = b"05;name=\"v\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET /";
        let wanted = "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";
        for cut in [0, 1, 14, 20, body.len()] {
            let (rest, more) = body.split_at(cut);
            assert_eq!(sent(Framing::Chunked, rest, more).await.unwrap(), wanted, "{cut}");
        }
    }

    #[tokio::test]
    async fn chunks_that_could_be_read_in_two_ways_are_refused() {
        for body in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"ffffffffffffffff\r\nhello",
            b"fffffffffffffffff5\r\nhello",
        ] {
            let ended = sent(Framing::Chunked, body, b"").await;
            let shown = String::from_utf8_lossy(body);
            assert!(matches!(ended, Err(BodyError::Malformed)), "{shown}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_placeholder_in_a_body_stops_it_also_across_pieces() {
        let ended = sent(Framing::Length(30), b"a={{sec", b"ret:TOKEN}} and so on....").await;
        assert!(matches!(ended, Err(BodyError::Secret)), "{ended:?}");
        let chunked = b"8\r\na={{secr\r\n8\r\net:TOKEN\r\n0\r\n\r\n";
        let ended = sent(Framing::Chunked, chunked, b"").await;
        assert!(matches!(ended, Err(BodyError::Secret)), "{ended:?}");
    }
}
