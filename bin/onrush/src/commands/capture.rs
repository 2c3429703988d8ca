//! `onrush capture`: copies of the packets behind an interface, in a file that tcpdump and Wireshark read.

use super::client::{block_on, send};
use crate::Stop;
use crate::arguments::Capture;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::Method;
use network::fabric::Pcap;
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub fn run(arguments: &Capture) -> Result<ExitCode, Stop> {
    block_on(follow(arguments))
}

async fn follow(arguments: &Capture) -> Result<ExitCode, Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no randomness: {error}"))?;
    let session = u64::from_ne_bytes(random);
    let path = format!("/_onrush/capture/{}?session={session}&wait=1", arguments.interface);
    let mut file: Option<Box<dyn Write>> = None;
    let (mut packets, mut written) = (0_u64, 0_u64);
    loop {
        let answer = tokio::select! {
            answer = send(&arguments.endpoint.endpoint, Method::GET, &path, &[], Bytes::new()) => answer?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        if !answer.status.is_success() {
            let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let message = value["message"].as_str().unwrap_or("it did not say why").to_owned();
            return Err(Stop::Failed(anyhow!(message)));
        }
        // Only now, so that a wrong name leaves no file behind.
        let out = match &mut file {
            Some(out) => out,
            None => {
                let mut out = open(arguments)?;
                out.write_all(&Pcap::header())?;
                eprintln!("looking at {}; Ctrl-C ends it", arguments.interface);
                file.insert(out)
            }
        };
        let put = out.write_all(&answer.body).and_then(|()| out.flush());
        if put.is_err() && arguments.write.as_os_str() == "-" {
            // The reader went away, as `head` does.
            break;
        }
        put.with_context(|| format!("cannot write {}", arguments.write.display()))?;
        packets += records(&answer.body);
        written += answer.body.len() as u64;
    }
    eprintln!("{packets} packets, {written} bytes");
    Ok(ExitCode::SUCCESS)
}

fn open(arguments: &Capture) -> Result<Box<dyn Write>, Stop> {
    if arguments.write.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = std::fs::File::create(&arguments.write);
    let file = file.with_context(|| format!("cannot write {}", arguments.write.display()))?;
    Ok(Box::new(file))
}

/// How many records there are.
fn records(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(header) = bytes.first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        bytes = bytes.get(16 + length..).unwrap_or_default();
        count += 1;
    }
    count
}
