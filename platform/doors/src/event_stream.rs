//! `application/vnd.amazon.eventstream`: messages with headers, a payload and two checksums.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the whole message |
//! | 4 | length of the headers |
//! | 4 | CRC-32 of these eight bytes |
//! | … | headers: length of the name (1), name, type 7 for text (1), length of the value (2), value |
//! | … | payload |
//! | 4 | CRC-32 of all before |
//!
//! All numbers are big-endian. Source: AWS SDKs' "Event stream encoding"; the Lambda service model (botocore
//! `lambda/2015-03-31`, `InvokeWithResponseStreamResponseEvent`), published. botocore's own parser reads what this writes in
//! `tests/sdk/test_streaming.py`.

use bytes::{BufMut as _, Bytes, BytesMut};
use crc32fast::Hasher;

/// Largest payload of one message, in bytes: far less than the 16 MiB that SDKs take.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// Longest text of a header that SDKs take.
const VALUE_MAX: usize = i16::MAX as usize;
/// Type 7: text.
const STRING: u8 = 7;
const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// One message around a payload: what comes before it, and the checksum behind it. So a large payload need not be copied.
///
/// Names are cut at 255 bytes, values at 32,767, or up to three before: never within a character.
pub fn around(headers: &[(&str, &str)], payload: &[u8]) -> (Bytes, Bytes) {
    let mut head = BytesMut::with_capacity(128);
    head.put_bytes(0, PRELUDE_BYTES);
    for (name, value) in headers {
        // Cut between characters: a reader that gets half of one refuses the whole message.
        let name = cut(name, u8::MAX.into()).as_bytes();
        let value = cut(value, VALUE_MAX).as_bytes();
        head.put_u8(u8::try_from(name.len()).expect("cut above"));
        head.put_slice(name);
        head.put_u8(STRING);
        head.put_u16(u16::try_from(value.len()).expect("cut above"));
        head.put_slice(value);
    }
    let length = |bytes: usize| u32::try_from(bytes).expect("payloads are bounded").to_be_bytes();
    let (whole, headers) = (head.len() + payload.len() + CHECKSUM_BYTES, head.len() - PRELUDE_BYTES);
    head[..4].copy_from_slice(&length(whole));
    head[4..8].copy_from_slice(&length(headers));
    let checksum = crc32fast::hash(&head[..8]);
    head[8..PRELUDE_BYTES].copy_from_slice(&checksum.to_be_bytes());
    let mut hasher = Hasher::new();
    hasher.update(&head);
    hasher.update(payload);
    let tail = Bytes::copy_from_slice(&hasher.finalize().to_be_bytes());
    (head.freeze(), tail)
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The same in one piece.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let (head, tail) = around(headers, payload);
    [&head[..], payload, &tail[..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one message back, the slow way.
    fn read(bytes: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let crc = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1))
                })
            })
        };
        assert_eq!(number(0) as usize, bytes.len());
        assert_eq!(number(8), crc(&bytes[..8]));
        assert_eq!(number(bytes.len() - 4), crc(&bytes[..bytes.len() - 4]));
        let end = 12 + number(4) as usize;
        let (mut at, mut headers) = (12, Vec::new());
        while at < end {
            let name = usize::from(bytes[at]);
            let value = at + 1 + name;
            assert_eq!(bytes[value], STRING);
            let length = usize::from(u16::from_be_bytes([bytes[value + 1], bytes[value + 2]]));
            let text = |from: usize, length| String::from_utf8(bytes[from..from + length].to_vec()).unwrap();
            headers.push((text(at + 1, name), text(value + 3, length)));
            at = value + 3 + length;
        }
        assert_eq!(at, end);
        (headers, bytes[end..bytes.len() - 4].to_vec())
    }

    #[test]
    fn a_message_reads_back() {
        for payload in [&b""[..], b"x", &[0; 70_000]] {
            let headers = [(":event-type", "PayloadChunk"), ("n", "")];
            let (found, body) = read(&message(&headers, payload));
            let expected: Vec<_> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!((found, &body[..]), (expected, payload));
        }
    }

    #[test]
    fn the_example_of_the_sdks_comes_out_byte_for_byte() {
        // "payload_one_str_header" of AWS's test vectors.
        let expected = [
            0, 0, 0, 61, 0, 0, 0, 32, 0x07, 0xfd, 0x83, 0x96, 12, b'c', b'o', b'n', b't', b'e', b'n', b't',
            b'-', b't', b'y', b'p', b'e', 7, 0, 16, b'a', b'p', b'p', b'l', b'i', b'c', b'a', b't', b'i',
            b'o', b'n', b'/', b'j', b's', b'o', b'n', b'{', b'\'', b'f', b'o', b'o', b'\'', b':', b'\'',
            b'b', b'a', b'r', b'\'', b'}', 0x8d, 0x9c, 0x08, 0xb1,
        ];
        let message = message(&[("content-type", "application/json")], b"{'foo':'bar'}");
        assert_eq!(&message[..], expected);
    }

    #[test]
    fn what_is_too_long_for_a_header_is_cut() {
        let (found, _) = read(&message(&[("n", &"v".repeat(40_000))], b""));
        assert_eq!(found[0].1.len(), VALUE_MAX);
        let (found, _) = read(&message(&[(&"é".repeat(200), &"é".repeat(20_000))], b""));
        assert_eq!((found[0].0.len(), found[0].1.len()), (254, VALUE_MAX - 1));
    }
}
