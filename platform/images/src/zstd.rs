//! Zstandard as layers have it: frames one after another, skippable ones between them.
//!
//! Source: RFC 8878, sections 3.1.1 and 3.1.2. A frame's window is bounded by the decoder (100 MB), and so is its memory.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, Read};

/// `0x184D2A50` to `0x184D2A5F` begin frames that are to be passed over.
const SKIPPABLE: u32 = 0x184D_2A50;

/// Decompresses all frames of a stream.
pub(crate) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), within: false }
    }

    pub fn into_inner(self) -> R {
        self.source
    }

    /// Begins the next frame; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = Vec::with_capacity(4);
            (&mut self.source).take(4).read_to_end(&mut magic)?;
            let bytes: [u8; 4] = match magic.as_slice().try_into() {
                Ok(bytes) => bytes,
                Err(_) if magic.is_empty() => return Ok(false),
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            if u32::from_le_bytes(bytes) & !15 != SKIPPABLE {
                let source = io::Cursor::new(bytes).chain(&mut self.source);
                self.decoder.init(source).map_err(io::Error::other)?;
                self.within = true;
                return Ok(true);
            }
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.within = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn all(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        Frames::new(bytes).read_to_end(&mut found).map(|_| found)
    }

    #[test]
    fn frames_are_joined_and_skippable_ones_passed_over() {
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let skippable = [&0x184D_2A53_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"xyz"].concat();
        let stream = [frame(b"one "), skippable.clone(), frame(b""), frame(b"two")].concat();
        assert_eq!(all(&stream).unwrap(), b"one two");
        assert!(all(&stream[..stream.len() - 3]).is_err());
        assert!(all(&skippable[..9]).is_err());
        assert!(all(b"(\xb5/").is_err());
    }
}
