//! One TCP stream, either way: bytes that arrived by the time that it took.

use crate::server::CHUNK;
use anyhow::Result;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// What is on its way when the last byte is written is small beside all of it: a second's gigabytes to a window's megabytes.
pub fn up(address: Ipv4Addr, port: u16, length: Duration) -> Result<()> {
    let mut stream = TcpStream::connect((address, port + 1))?;
    let chunk = vec![7; CHUNK];
    report(length, || Ok(stream.write(&chunk)?))
}

pub fn down(address: Ipv4Addr, port: u16, length: Duration) -> Result<()> {
    let mut stream = TcpStream::connect((address, port + 2))?;
    let mut chunk = vec![0; CHUNK];
    report(length, || Ok(stream.read(&mut chunk)?))
}

fn report(length: Duration, mut step: impl FnMut() -> Result<usize>) -> Result<()> {
    // The window opens first.
    let opened = Instant::now();
    while opened.elapsed() < length / 10 {
        step()?;
    }
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < length {
        bytes += step()?;
    }
    println!("{}", bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9);
    Ok(())
}
