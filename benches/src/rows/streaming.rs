//! Streamed responses of the Rust function: how soon a piece is with its client, and how much flows from one function.
//!
//! Pieces are stamped by the function as it writes them, and read against the same clock. What flows is compared with a hyper
//! server behind a program that copies between two sockets: a platform between function and client does at least that.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::{Request, connect};
use crate::others;
use crate::platform::{Function, Platform, Site, door_path};
use anyhow::{Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Source of the goals: the project's list of figures.
const FIRST_BYTE_US: f64 = 1_000.0;
const MEGABYTES_PER_SECOND: f64 = 1_000.0;
/// Assumed: what is left for the platform's own work of what two copies take.
const OF_COPY: f64 = 0.6;
/// Digits of a time stamp in nanoseconds.
const STAMP_DIGITS: usize = 19;
/// The path of InvokeWithResponseStream.
const STREAMED: &str = "/2021-11-15/functions/streams/response-streaming-invocations";

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let function = Function { streams: true, ..Function::rust("streams", &bench.built_function("streams")?) };
    let ours = Site::new(bench, &[function])?.start()?;
    let (server, copied) = others::stream_floor(bench)?;
    let (server, copied): (SocketAddr, SocketAddr) = (server.url.parse()?, copied.url.parse()?);
    for (through, request) in both(r#"{"pieces":["x"]}"#) {
        ensure!(read(&ours, through, &request)?.0 > 0, "{through} streams nothing");
    }
    soon(bench, board, &ours, server)?;
    much(bench, board, &ours, copied)
}

/// The same order through a function URL and through InvokeWithResponseStream.
fn both(order: &str) -> [(&'static str, Request); 2] {
    [
        ("function URL", Request::new("POST", &door_path("streams"), order)),
        ("InvokeWithResponseStream", Request::new("POST", STREAMED, order)),
    ]
}

fn read(ours: &Platform, through: &str, request: &Request) -> Result<(u64, Duration)> {
    let (bytes, took) = drain(ours.address, request)?;
    ensure!(bytes > 100, "{through}: {bytes} bytes are no answer");
    Ok((bytes, took))
}

/// From the writing of a stream's first piece to its reading.
fn soon(bench: &Bench, board: &mut Board, ours: &Platform, server: SocketAddr) -> Result<()> {
    let streams = bench.pick(50, 200);
    let order = r#"{"clock":true,"pause_ms":2,"pieces":["",""]}"#;
    let floor = Request::new("GET", "/clock/2", "");
    for (through, request) in both(order) {
        let [mut p50, mut p99, mut floor_p50, mut floor_p99] = [const { Samples(Vec::new()) }; 4];
        for _ in 0..bench.rounds() {
            let [mut times, mut alone] = [const { Samples(Vec::new()) }; 2];
            for _ in 0..streams {
                alone.push(first_piece_us(server, &floor)?);
                times.push(first_piece_us(ours.address, &request)?);
            }
            p50.push(times.median());
            p99.push(times.quantile(0.99));
            floor_p50.push(alone.median());
            floor_p99.push(alone.quantile(0.99));
        }
        for (what, ours, floor) in [("p50", p50, floor_p50), ("p99", p99, floor_p99)] {
            board.add(Figure {
                what: format!("streaming, {through}, first byte after it was written, {what}"),
                unit: "us",
                ours,
                other: Some(("bare hyper", floor)),
                goal: Goal::AtMost(FIRST_BYTE_US),
            });
        }
    }
    Ok(())
}

/// What flows from one function, as fast as it goes.
fn much(bench: &Bench, board: &mut Board, ours: &Platform, copied: SocketAddr) -> Result<()> {
    let bytes: u64 = bench.pick(256 << 20, 2 << 30);
    let floor_request = Request::new("GET", &format!("/bytes/{bytes}"), "");
    let rate = |(read, took): (u64, Duration)| -> Result<f64> {
        ensure!(read >= bytes, "{read} of {bytes} bytes came");
        Ok(bytes as f64 / 1e6 / took.as_secs_f64())
    };
    for (through, request) in both(&format!(r#"{{"bytes":{bytes}}}"#)) {
        let [mut flows, mut floor] = [const { Samples(Vec::new()) }; 2];
        for _ in 0..bench.rounds() {
            floor.push(rate(drain(copied, &floor_request)?)?);
            flows.push(rate(read(ours, through, &request)?)?);
        }
        let mut figure = Figure {
            what: format!("streaming, {through}, one function, {} MiB", bytes >> 20),
            unit: "MB/s",
            ours: flows,
            other: Some(("hyper behind a socket copy", floor)),
            goal: Goal::AtLeast(MEGABYTES_PER_SECOND),
        };
        board.add(figure.clone());
        figure.goal = Goal::TimesAtLeast(OF_COPY);
        board.add(figure);
    }
    Ok(())
}

/// Reads an answer to its end and throws it away: its bytes, and the time from the request on.
fn drain(address: SocketAddr, request: &Request) -> Result<(u64, Duration)> {
    let mut stream = connect(address)?;
    let mut buffer = vec![0; 256 * 1024];
    let (begun, mut read) = (Instant::now(), 0);
    stream.write_all(request.bytes())?;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok((read, begun.elapsed())),
            count => read += count as u64,
        }
    }
}

/// From the stamp of the first piece to its reading, in microseconds.
fn first_piece_us(address: SocketAddr, request: &Request) -> Result<f64> {
    let mut stream = connect(address)?;
    let mut buffer = [0; 16 * 1024];
    let (mut text, mut found) = (Vec::new(), None);
    stream.write_all(request.bytes())?;
    loop {
        let count = stream.read(&mut buffer)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        if count == 0 {
            break;
        }
        if found.is_none() {
            text.extend_from_slice(&buffer[..count]);
            found = first_stamp(&text).map(|stamp| now.saturating_sub(stamp) as f64 / 1e3);
        }
    }
    found.ok_or_else(|| anyhow::anyhow!("no piece came: {}", String::from_utf8_lossy(&text)))
}

/// The first line of so many digits.
fn first_stamp(text: &[u8]) -> Option<u128> {
    let end = text.windows(STAMP_DIGITS + 1).position(|window| {
        window[..STAMP_DIGITS].iter().all(u8::is_ascii_digit) && window[STAMP_DIGITS] == b'\n'
    })?;
    std::str::from_utf8(&text[end..end + STAMP_DIGITS]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_among_other_digits() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n14\r\n1763800000000000001\n\r\n14\r\n1763800000000000002\n";
        assert_eq!(first_stamp(text), Some(1_763_800_000_000_000_001));
        assert_eq!(first_stamp(&text[..60]), None);
    }
}
