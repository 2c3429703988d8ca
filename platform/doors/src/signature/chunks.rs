//! Bodies in chunks that are signed one by one (`aws-chunked`): each signature covers the one before.
//!
//! Source: S3 API reference, "Signature calculations for the Authorization header: transferring payload in multiple
//! chunks", published.

use super::canonical::{hex_digest, unhex};
use bytes::{Bytes, BytesMut};
use ring::hmac;

/// What stands for the body's hash.
pub(super) const SEED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 32;
/// Bytes of a chunk's first line: its size, `;chunk-signature=` and the signature.
const LINE_BYTES_MAX: usize = 128;

/// The body without its framing; `None` when the framing is broken or a signature wrong.
pub(super) fn decode(key: &hmac::Key, time: &str, scope: &str, seed: &str, body: &Bytes) -> Option<Bytes> {
    let (mut rest, mut before, mut whole) = (body.clone(), seed.to_owned(), BytesMut::new());
    loop {
        let end = rest.windows(2).take(LINE_BYTES_MAX).position(|pair| pair == b"\r\n")?;
        let line = rest.split_to(end);
        let line = std::str::from_utf8(&line).ok()?;
        let (size, signature) = line.split_once(";chunk-signature=")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if rest.len().checked_sub(4)? < size {
            return None;
        }
        drop(rest.split_to(2));
        let data = rest.split_to(size);
        if rest.split_to(2) != "\r\n" {
            return None;
        }
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{before}\n{}\n{}",
            hex_digest(b""),
            hex_digest(&data)
        );
        hmac::verify(key, text.as_bytes(), &unhex(signature)?).ok()?;
        if data.is_empty() {
            return Some(whole.freeze());
        }
        signature.clone_into(&mut before);
        whole.extend_from_slice(&data);
    }
}
