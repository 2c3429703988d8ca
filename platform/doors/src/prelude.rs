//! The prelude of a streamed HTTP response: status, headers and cookies as JSON, then eight zero bytes, then the body.
//!
//! A runtime says by its content type that there is one. Source: AWS's Node runtime (`awslambda.HttpResponseStream.from`); API
//! Gateway Developer Guide, "Lambda proxy integration with response streaming" (the prelude is looked for in the first 16 KB;
//! for function URLs assumed to be at most 64 KiB).

use crate::reply::{self, Malformed};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Response};
use serde_json::{Map, Value};

/// What a response with a prelude is declared as.
pub const CONTENT_TYPE: &str = "application/vnd.awslambda.http-integration-response";
/// Largest prelude, in bytes, its end included.
const BYTES_MAX: usize = 64 * 1024;
/// The same of a REST API. Source: as above, published.
const REST_BYTES_MAX: usize = 16 * 1024;
const END: [u8; 8] = [0; 8];

/// A prelude that comes in pieces.
#[derive(Debug)]
pub struct Reader {
    bytes: BytesMut,
    searched: usize,
    max: usize,
    /// Whether headers may stand in `multiValueHeaders`, too.
    multiple: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), searched: 0, max: BYTES_MAX, multiple: false }
    }
}

impl Reader {
    /// Whether a response that is declared so begins with a prelude.
    pub fn applies(content_type: Option<&str>) -> bool {
        let bare = content_type.and_then(|text| text.split(';').next()).unwrap_or("").trim();
        bare.eq_ignore_ascii_case(CONTENT_TYPE)
    }

    /// That of a REST API's integration, which API Gateway calls metadata.
    pub(crate) fn of_rest() -> Self {
        Self { max: REST_BYTES_MAX, multiple: true, ..Self::default() }
    }

    /// Takes one more piece. Once the prelude is whole: the response without a body, and the first bytes of its body.
    ///
    /// # Errors
    /// It is too large, or says nothing that can be sent.
    pub fn push(&mut self, piece: &Bytes) -> Result<Option<(Response<()>, Bytes)>, Malformed> {
        let room = self.max.saturating_sub(self.bytes.len()).min(piece.len());
        self.bytes.extend_from_slice(&piece[..room]);
        let from = self.searched.saturating_sub(END.len() - 1);
        let Some(at) = self.bytes[from..].windows(END.len()).position(|window| window == END) else {
            self.searched = self.bytes.len();
            return if self.bytes.len() < self.max {
                Ok(None)
            } else {
                Err(Malformed("the prelude has no end"))
            };
        };
        let body_from = from + at + END.len();
        let head = decode(&self.bytes[..from + at], self.multiple)?;
        // The end lies in this piece, or an earlier one would have had it.
        let body = piece.slice(room - (self.bytes.len() - body_from)..);
        Ok(Some((head, body)))
    }
}

/// The response that a prelude stands for.
fn decode(text: &[u8], multiple: bool) -> Result<Response<()>, Malformed> {
    let mut members: Map<String, Value> = if text.iter().all(u8::is_ascii_whitespace) {
        Map::new()
    } else {
        serde_json::from_slice(text).map_err(|_| Malformed("the prelude is no JSON object"))?
    };
    let more = if multiple { members.remove("multiValueHeaders") } else { None };
    members.retain(|name, _| ["statusCode", "headers", "cookies"].contains(&name.as_str()));
    members.entry("statusCode").or_insert(Value::from(200));
    let mut repeated = take_repeated(&mut members);
    if let Some(more) = more {
        repeated.extend(take_multiple(&mut members, more)?);
    }
    let has_type = names_content_type(text)
        || repeated.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let result = Bytes::from(Value::Object(members).to_string());
    let mut response = reply::decode(&result)?.map(drop);
    if repeated.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        // The one that a result has by default.
        response.headers_mut().remove(http::header::CONTENT_TYPE);
    }
    for (name, value) in repeated {
        let name: HeaderName = name.parse().map_err(|_| Malformed("a header's name cannot be sent"))?;
        let value = value.as_str().and_then(|text| HeaderValue::from_str(text).ok());
        let value = value.ok_or(Malformed("a header's value cannot be sent"))?;
        // How the body is framed is the server's, whatever the function says: or it could split the response.
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    // What a result is without a word of its type; a stream is bytes.
    if !has_type {
        response.headers_mut().insert(http::header::CONTENT_TYPE, OCTETS);
    }
    Ok(response)
}

/// Headers with several values in a list, which the Rust runtime writes so.
fn take_repeated(members: &mut Map<String, Value>) -> Vec<(String, Value)> {
    let Some(Value::Object(headers)) = members.get_mut("headers") else { return Vec::new() };
    let mut repeated = Vec::new();
    headers.retain(|name, value| {
        let Value::Array(values) = value else { return true };
        repeated.extend(std::mem::take(values).into_iter().map(|value| (name.clone(), value)));
        false
    });
    repeated
}

/// `multiValueHeaders`: what stands there and in `headers` counts once, there.
fn take_multiple(members: &mut Map<String, Value>, more: Value) -> Result<Vec<(String, Value)>, Malformed> {
    let Value::Object(more) = more else {
        return if more.is_null() {
            Ok(Vec::new())
        } else {
            Err(Malformed("multiValueHeaders is no object"))
        };
    };
    if let Some(Value::Object(headers)) = members.get_mut("headers") {
        headers.retain(|name, _| !more.keys().any(|other| other.eq_ignore_ascii_case(name)));
    }
    let mut repeated = Vec::new();
    for (name, values) in more {
        let Value::Array(values) = values else { return Err(Malformed("multiValueHeaders has no lists")) };
        repeated.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(repeated)
}

/// What a stream is unless it says otherwise.
pub const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

fn names_content_type(text: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(text).unwrap_or_default();
    let headers = value["headers"].as_object();
    headers.is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use proptest::prelude::*;

    const PRELUDE: &[u8] =
        b"{\"statusCode\":418,\"headers\":{\"x-a\":\"1\",\"Content-Type\":\"text/html\"},\"cookies\":[\"a=1\",\"b=2\"]}";

    fn wire(prelude: &[u8], body: &[u8]) -> Vec<u8> {
        [prelude, &END, body].concat()
    }

    /// A response with its body, if the prelude has an end.
    type Found = Option<(Response<()>, Vec<u8>)>;

    /// Reads in pieces of `size`.
    fn read(wire: &[u8], size: usize) -> Result<Found, Malformed> {
        let mut reader = Reader::default();
        let mut found: Found = None;
        for piece in wire.chunks(size) {
            let piece = Bytes::copy_from_slice(piece);
            match &mut found {
                Some((_, body)) => body.extend_from_slice(&piece),
                None => found = reader.push(&piece)?.map(|(head, body)| (head, body.to_vec())),
            }
        }
        Ok(found)
    }

    #[test]
    fn a_prelude_is_found_however_it_is_cut() {
        let wire = wire(PRELUDE, b"\0\0body");
        for size in 1..=wire.len() {
            let (head, body) = read(&wire, size).unwrap().unwrap();
            assert_eq!(
                (head.status(), &body[..]),
                (StatusCode::IM_A_TEAPOT, &b"\0\0body"[..]),
                "pieces of {size}"
            );
            let cookies: Vec<_> = head.headers().get_all("set-cookie").iter().collect();
            assert!(cookies.len() == 2 && head.headers()["content-type"] == "text/html");
        }
        for cut in 0..PRELUDE.len() + 8 {
            assert!(read(&wire[..cut], 1_000).unwrap().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_list_is_a_header_for_each_value() {
        let (head, _) =
            read(&wire(b"{\"headers\":{\"vary\":[\"a\",\"b\"],\"x\":\"y\"}}", b""), 99).unwrap().unwrap();
        let values: Vec<_> = head.headers().get_all("vary").iter().collect();
        assert!(values == ["a", "b"] && head.headers()["x"] == "y");
    }

    #[test]
    fn the_framing_of_the_body_is_not_the_functions() {
        let lists = r#"{"Content-Length":["1","2"],"transfer-encoding":["chunked"],"Connection":["close"],"x":["y"]}"#;
        for member in ["headers", "multiValueHeaders"] {
            let prelude = format!("{{\"{member}\":{lists}}}");
            let whole = Bytes::from(wire(prelude.as_bytes(), b"body"));
            let (head, _) = Reader::of_rest().push(&whole).unwrap().unwrap();
            let mut names: Vec<_> = head.headers().keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["content-type", "x"], "{member}");
        }
    }

    #[test]
    fn little_is_enough() {
        for prelude in [&b"{}"[..], b"", b"{\"headers\":{}}", b"{\"headers\":null,\"body\":\"ignored\"}"] {
            let (head, body) = read(&wire(prelude, b"x"), 3).unwrap().unwrap();
            assert_eq!((head.status(), &body[..]), (StatusCode::OK, &b"x"[..]));
            assert_eq!(head.headers()["content-type"], "application/octet-stream");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_malformed() {
        for prelude in [
            &b"not json"[..],
            b"[]",
            b"{\"statusCode\":100}",
            b"{\"statusCode\":{}}",
            b"{\"headers\":{\"a b\":\"c\"}}",
            b"{\"headers\":{\"a\":\"c\\r\\nx: y\"}}",
            b"{\"cookies\":\"a\"}",
            b"{\"headers\":{\"a\":[1]}}",
        ] {
            assert!(read(&wire(prelude, b""), 1_000).is_err(), "{}", String::from_utf8_lossy(prelude));
        }
    }

    #[test]
    fn an_endless_prelude_is_given_up() {
        let endless = vec![b' '; BYTES_MAX];
        assert!(read(&endless[..BYTES_MAX - 1], 1_000).unwrap().is_none());
        assert_eq!(read(&endless, 1_000).unwrap_err(), Malformed("the prelude has no end"));
        assert!(read(&vec![b'1'; 10 * BYTES_MAX], 10 * BYTES_MAX).is_err());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 2 => any::<u8>()], 0..200), size in 1usize..50,
            valid in any::<bool>(),
        ) {
            let start = if valid { PRELUDE } else { b"" };
            let wire = [start, &bytes].concat();
            let plain = |found: Result<Found, Malformed>| {
                found.map(|found| found.map(|(head, body)| (head.status(), head.headers().clone(), body)))
            };
            prop_assert_eq!(plain(read(&wire, size)), plain(read(&wire, wire.len().max(1))));
        }
    }

    #[test]
    fn a_content_type_says_whether_there_is_one() {
        assert!(
            Reader::applies(Some(CONTENT_TYPE)) && Reader::applies(Some(&format!("{CONTENT_TYPE}; v=1")))
        );
        assert!(!Reader::applies(Some("text/plain")) && !Reader::applies(None));
    }
}
