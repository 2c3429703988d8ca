//! The time of one byte there and back.

use anyhow::Result;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// So often, with a pause before each.
pub fn run(address: Ipv4Addr, port: u16, times: usize, pause: Duration) -> Result<()> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_nodelay(true)?;
    let mut once = || -> Result<f64> {
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        let begun = Instant::now();
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        Ok(begun.elapsed().as_secs_f64() * 1e6)
    };
    for _ in 0..times / 10 {
        once()?;
    }
    let mut took = (0..times).map(|_| once()).collect::<Result<Vec<_>>>()?;
    took.sort_by(f64::total_cmp);
    println!("{} {}", took[times / 2], took[times * 99 / 100]);
    Ok(())
}
