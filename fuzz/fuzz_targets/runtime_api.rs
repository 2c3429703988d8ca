//! Any bytes as a runtime's request, its chunks and trailers: the same outcome however they arrive, never a panic.
#![no_main]

use runtime_api::untrusted::read;

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    assert_eq!(read(bytes, usize::from(piece)), read(bytes, usize::MAX));
    let chunked = [&b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"[..], bytes];
    let chunked = chunked.concat();
    assert_eq!(read(&chunked, usize::from(piece)), read(&chunked, usize::MAX));
});
