//! A body as it arrives: chunks taken apart without waiting for the end, and the trailers behind them.
//!
//! Pure: bytes go in through a buffer, pieces come out. Nothing is held but what has not been taken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};

/// Longest line with a chunk's size, extensions included.
const SIZE_LINE_MAX: usize = 1024;
/// Most bytes of trailers: an error document of a megabyte in base64, and its type.
const TRAILERS_BYTES_MAX: usize = 3 << 19;
/// Most trailers.
const TRAILERS_MAX: usize = 32;
/// A piece of at least this is handed on as it lies; smaller ones are gathered into one of about this size.
const GATHERED_BYTES: usize = 16 * 1024;

/// What a body still has to come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// So many bytes, by `Content-Length`.
    Plain(u64),
    /// A line with a size.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line end behind a chunk.
    LineEnd,
    /// Trailers, of which so many bytes hold no end.
    Trailers { scanned: usize },
    /// Nothing.
    Over,
}

/// What came out of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes of the body; never none.
    Data(Bytes),
    /// More has to be read first.
    More,
    /// The body is over.
    End(Trailers),
}

/// The trailers that say that a function failed while it streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trailers {
    /// `Lambda-Runtime-Function-Error-Type`.
    pub(crate) error_type: Option<String>,
    /// `Lambda-Runtime-Function-Error-Body`, decoded; as it is where it is no base64.
    pub(crate) error_body: Option<Bytes>,
}

impl Chunks {
    /// Takes what `buffer` holds of the body, up to about `GATHERED_BYTES` by copying or any number without.
    ///
    /// # Errors
    /// Says what is no chunk.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken, &'static str> {
        let mut gathered = BytesMut::new();
        loop {
            match self {
                // What was gathered goes first.
                Self::Plain(0) | Self::Trailers { .. } | Self::Over if !gathered.is_empty() => break,
                Self::Plain(0) => {
                    *self = Self::Over;
                    return Ok(Taken::End(Trailers::default()));
                }
                Self::Plain(left) | Self::Data(left) if !buffer.is_empty() => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    let is_large = here >= GATHERED_BYTES;
                    if is_large && !gathered.is_empty() {
                        return Ok(Taken::Data(gathered.freeze()));
                    }
                    *left -= here as u64;
                    let piece = buffer.split_to(here);
                    if let Self::Data(0) = self {
                        *self = Self::LineEnd;
                    }
                    if is_large || (gathered.is_empty() && buffer.len() <= 2) {
                        // Nothing to gather it with.
                        return Ok(Taken::Data(piece.freeze()));
                    }
                    gathered.extend_from_slice(&piece);
                }
                Self::LineEnd if buffer.len() >= 2 => {
                    if &buffer[..2] != b"\r\n" {
                        return Err("chunk without its end");
                    }
                    buffer.advance(2);
                    *self = Self::Size;
                }
                Self::Size if !buffer.is_empty() => match httparse::parse_chunk_size(buffer) {
                    Ok(httparse::Status::Complete((after, size))) => {
                        buffer.advance(after);
                        *self = if size == 0 { Self::Trailers { scanned: 0 } } else { Self::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if buffer.len() < SIZE_LINE_MAX => break,
                    _ => return Err("bad chunk size"),
                },
                Self::Trailers { scanned } => match end_of_trailers(buffer, scanned) {
                    Some(length) => {
                        let trailers = Trailers::parse(&buffer[..length])?;
                        buffer.advance(length);
                        *self = Self::Over;
                        return Ok(Taken::End(trailers));
                    }
                    None if buffer.len() > TRAILERS_BYTES_MAX => return Err("trailers too large"),
                    None => break,
                },
                Self::Over => return Ok(Taken::End(Trailers::default())),
                Self::Plain(_) | Self::Data(_) | Self::LineEnd | Self::Size => break,
            }
            if gathered.len() >= GATHERED_BYTES {
                break;
            }
        }
        Ok(if gathered.is_empty() { Taken::More } else { Taken::Data(gathered.freeze()) })
    }
}

/// How long the trailers are with the empty line that ends them; `scanned` bytes were looked at before.
fn end_of_trailers(buffer: &[u8], scanned: &mut usize) -> Option<usize> {
    if buffer.starts_with(b"\r\n") {
        return Some(2);
    }
    let from = scanned.saturating_sub(3).min(buffer.len());
    let found = buffer[from..].windows(4).position(|window| window == b"\r\n\r\n");
    *scanned = buffer.len();
    found.map(|at| from + at + 4)
}

impl Trailers {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut headers = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let mut trailers = Self::default();
        let Ok(httparse::Status::Complete((_, found))) = httparse::parse_headers(bytes, &mut headers) else {
            return Err("bad trailers");
        };
        for header in found {
            if header.name.eq_ignore_ascii_case("lambda-runtime-function-error-type") {
                trailers.error_type = Some(String::from_utf8_lossy(header.value).into_owned());
            } else if header.name.eq_ignore_ascii_case("lambda-runtime-function-error-body") {
                let body = STANDARD.decode(header.value).unwrap_or_else(|_| header.value.to_vec());
                trailers.error_body = Some(body.into());
            }
        }
        Ok(trailers)
    }

    /// Whether the function failed.
    pub(crate) fn is_failure(&self) -> bool {
        self.error_type.as_deref().is_some_and(|kind| !kind.is_empty()) || self.error_body.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body, the trailers, and how many bytes are left over; `None` of what has not ended.
    type Outcome = Result<Option<(Vec<u8>, Trailers, usize)>, &'static str>;

    /// Feeds `wire` in pieces that end at `cuts`.
    fn read(wire: &[u8], cuts: &[usize]) -> Outcome {
        let (mut chunks, mut buffer, mut body) = (Chunks::Size, BytesMut::new(), Vec::new());
        let mut at = 0;
        for end in cuts.iter().copied().chain([wire.len()]) {
            let end = end.clamp(at, wire.len());
            buffer.extend_from_slice(&wire[at..end]);
            at = end;
            loop {
                match chunks.take(&mut buffer)? {
                    Taken::Data(piece) => {
                        assert!(!piece.is_empty());
                        body.extend_from_slice(&piece);
                    }
                    Taken::More => break,
                    Taken::End(trailers) => {
                        return Ok(Some((body, trailers, buffer.len() + wire.len() - at)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn encode(pieces: &[Vec<u8>], trailers: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            wire.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        wire
    }

    #[test]
    fn trailers_say_how_a_function_failed() {
        let body = STANDARD.encode(br#"{"errorType":"E"}"#);
        let trailers = format!(
            "X: y\r\nlambda-runtime-function-error-TYPE: E\r\nLambda-Runtime-Function-Error-Body: {body}\r\n"
        );
        let (data, trailers, left) = read(&encode(&[b"abc".to_vec()], &trailers), &[]).unwrap().unwrap();
        assert_eq!((&data[..], left), (&b"abc"[..], 0));
        assert_eq!(trailers.error_type.as_deref(), Some("E"));
        assert_eq!(trailers.error_body.as_deref(), Some(&br#"{"errorType":"E"}"#[..]));
        assert!(trailers.is_failure());
        // Announced and left empty is no failure; a body that is no base64 is kept as it came.
        let (_, empty, _) = read(b"0\r\nLambda-Runtime-Function-Error-Type: \r\n\r\n", &[]).unwrap().unwrap();
        assert!(!empty.is_failure());
        let (_, odd, _) = read(b"0\r\nLambda-Runtime-Function-Error-Body: {!\r\n\r\n", &[]).unwrap().unwrap();
        assert_eq!(odd.error_body.as_deref(), Some(&b"{!"[..]));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for wire in
            [&b"x\r\n"[..], b"3\r\nabcde", b"-1\r\n", b"ffffffffffffffffff\r\n", b"0\r\nno colon\r\n\r\n"]
        {
            assert!(read(wire, &[]).is_err(), "{:?}", String::from_utf8_lossy(wire));
        }
        let line = [b"1;".to_vec(), vec![b'x'; SIZE_LINE_MAX]].concat();
        assert!(read(&line, &[]).is_err());
        let trailers = [b"0\r\na: ".to_vec(), vec![b'x'; TRAILERS_BYTES_MAX]].concat();
        assert_eq!(read(&trailers, &[]), Err("trailers too large"));
    }

    #[test]
    fn a_plain_body_ends_with_its_length() {
        let (mut chunks, mut buffer) = (Chunks::Plain(5), BytesMut::from(&b"abc"[..]));
        assert_eq!(chunks.take(&mut buffer), Ok(Taken::Data(Bytes::from_static(b"abc"))));
        assert_eq!(chunks.take(&mut buffer), Ok(Taken::More));
        buffer.extend_from_slice(b"deNEXT");
        assert_eq!(chunks.take(&mut buffer), Ok(Taken::Data(Bytes::from_static(b"de"))));
        assert_eq!(chunks.take(&mut buffer), Ok(Taken::End(Trailers::default())));
        assert_eq!(&buffer[..], b"NEXT");
    }

    proptest! {
        #[test]
        fn a_body_comes_out_as_it_went_in_wherever_it_is_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..12),
            mut cuts in prop::collection::vec(0usize..200_000, 0..40),
            after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            cuts.sort_unstable();
            let wire = [encode(&pieces, "A: b\r\n"), after.clone()].concat();
            let (body, trailers, left) = read(&wire, &cuts).unwrap().unwrap();
            prop_assert_eq!(body, pieces.concat());
            prop_assert!(!trailers.is_failure());
            prop_assert_eq!(left, after.len());
        }

        #[test]
        fn an_unfinished_body_never_ends(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8), missing in 1usize..400,
        ) {
            let wire = encode(&pieces, "A: b\r\n");
            let there = wire.len().saturating_sub(missing);
            prop_assert_eq!(read(&wire[..there], &[]), Ok(None));
        }

        #[test]
        fn garbage_is_taken_or_refused_and_never_more_than_came(
            wire in prop::collection::vec(any::<u8>(), 0..3_000), mut cuts in prop::collection::vec(0usize..3_000, 0..9),
        ) {
            cuts.sort_unstable();
            if let Ok(Some((body, _, _))) = read(&wire, &cuts) {
                prop_assert!(body.len() <= wire.len());
            }
        }
    }
}
