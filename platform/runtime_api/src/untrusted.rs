//! What runtimes and extensions send, read from bytes alone by the parsers that are served: for fuzzing.

use crate::chunks::{Chunks, Taken};
use crate::http::{Broken, Framing, parse_head};
use crate::telemetry::subscription_problems;
use bytes::BytesMut;

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More would have to come.
    Unfinished,
    /// It is none; the connection would be closed.
    Refused,
    /// The body, the error's type and body of the trailers, and how many bytes are left over.
    Whole {
        /// The body, put together.
        body: Vec<u8>,
        /// What the trailers say of an error.
        error: (Option<String>, Option<Vec<u8>>),
        /// Bytes of the next request.
        left: usize,
    },
}

/// Reads one request whose body arrives in pieces of `piece` bytes (1 at least). The answer does not depend on them.
pub fn read(bytes: &[u8], piece: usize) -> Outcome {
    let (head, length) = match parse_head(bytes) {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Unfinished,
        Err(Broken::Closed | Broken::Malformed(_) | Broken::Io(_)) => return Outcome::Refused,
    };
    let mut chunks = match head.framing {
        Framing::Length(length) => Chunks::Plain(length as u64),
        Framing::Chunked => Chunks::Size,
    };
    let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
    let mut pieces = bytes[length..].chunks(piece.max(1));
    let mut rest = bytes.len() - length;
    loop {
        match chunks.take(&mut buffer) {
            Err(_) => return Outcome::Refused,
            Ok(Taken::Data(data)) => body.extend_from_slice(&data),
            Ok(Taken::End(trailers)) => {
                let error = (trailers.error_type, trailers.error_body.map(|body| body.to_vec()));
                return Outcome::Whole { body, error, left: rest + buffer.len() };
            }
            Ok(Taken::More) => match pieces.next() {
                None => return Outcome::Unfinished,
                Some(piece) => {
                    rest -= piece.len();
                    buffer.extend_from_slice(piece);
                }
            },
        }
    }
}

/// Reads the body with which an extension subscribes to telemetry, as the Telemetry API and the older Logs API do: every
/// problem, joined by `; `, or none.
pub fn subscribe(body: &[u8]) -> [Result<(), String>; 2] {
    subscription_problems(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_with_its_trailers() {
        let bytes = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\
            Lambda-Runtime-Function-Error-Type: T\r\n\r\nGET";
        let error = (Some("T".to_owned()), None);
        assert_eq!(read(bytes, 1), Outcome::Whole { body: b"abc".to_vec(), error, left: 3 });
    }

    #[test]
    fn a_subscription_is_read_by_both_apis() {
        let body = br#"{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox:80"}}"#;
        let [telemetry, logs] = subscribe(body);
        assert_eq!(telemetry, Ok(()));
        assert_eq!(logs, Err("schemaVersion \"2022-07-01\" is not supported".to_owned()));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(body: Vec<u8>, piece in 1_usize..40) {
            let mut bytes = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            bytes.extend(body);
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }
    }
}
