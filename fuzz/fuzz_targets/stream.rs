//! Any bytes as a streamed response: its prelude is the same however it arrives, and every message of an event stream can be
//! taken apart again.
#![no_main]

use bytes::Bytes;
use doors::{event_stream, prelude::Reader};

/// Status, headers and the first bytes of the body; `None` for what is refused.
type Seen = Option<(u16, Vec<(String, Vec<u8>)>, Vec<u8>)>;

fn prelude(bytes: &[u8], piece: usize) -> Seen {
    let mut reader = Reader::default();
    let mut seen: Seen = None;
    for piece in bytes.chunks(piece.max(1)) {
        match &mut seen {
            Some((_, _, body)) => body.extend_from_slice(piece),
            None => {
                let Some((head, body)) = reader.push(&Bytes::copy_from_slice(piece)).ok()? else { continue };
                let headers = head.headers().iter();
                let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
                seen = Some((head.status().as_u16(), headers, body.to_vec()));
            }
        }
    }
    seen
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

libfuzzer_sys::fuzz_target!(|input: (u8, &str, &str, &[u8])| {
    let (piece, name, value, bytes) = input;
    assert_eq!(prelude(bytes, piece.into()), prelude(bytes, usize::MAX));
    let message = event_stream::message(&[(":event-type", "PayloadChunk"), (name, value)], bytes);
    let (whole, headers) = (number(&message, 0), number(&message, 4));
    assert_eq!(whole, message.len());
    assert_eq!(&message[12 + headers..whole - 4], bytes);
    let mut left = &message[12..12 + headers];
    let mut count = 0;
    while let Some((&length, rest)) = left.split_first() {
        let (_, rest) = rest.split_at(length.into());
        assert_eq!(rest[0], 7);
        let length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
        // What SDKs read must be text.
        assert!(std::str::from_utf8(&rest[3..3 + length]).is_ok());
        left = &rest[3 + length..];
        count += 1;
    }
    assert_eq!(count, 2);
});
