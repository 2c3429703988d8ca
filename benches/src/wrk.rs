//! Load by `wrk`: closed loop, one thread, latencies in microseconds.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What to send, and how hard.
#[derive(Clone, Debug)]
pub struct Load {
    pub url: String,
    /// A `POST` of this body; a `GET` without it.
    pub body: Option<&'static str>,
    pub connections: u32,
    pub length: Duration,
    /// Whether every answer must be a refusal (4xx) rather than a success.
    pub refused: bool,
    /// Whether to ask for an asynchronous invocation.
    pub event: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// wrk's own table of percentiles is rounded; its script interface is not.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("counted %d %d %d %d %d %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.status, e.connect + e.read + e.write + e.timeout))
end
"#;

/// Runs wrk; the script is written into `folder`.
///
/// Fails when a request failed, or was answered with another kind of status than `load.refused` says: a wrong answer
/// is no speed.
pub fn run(folder: &Path, load: &Load) -> Result<Outcome> {
    let mut script = SCRIPT.to_owned();
    if let Some(body) = load.body {
        script.push_str(&format!(
            "wrk.method = \"POST\"\nwrk.body = '{body}'\nwrk.headers[\"Content-Type\"] = \"application/json\"\n"
        ));
    }
    if load.event {
        script.push_str("wrk.headers[\"X-Amz-Invocation-Type\"] = \"Event\"\n");
    }
    let path = folder.join("load.lua");
    fs::write(&path, script).with_context(|| path.display().to_string())?;
    // wrk counts whole seconds only.
    let seconds = load.length.as_secs().max(1);
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{}", load.connections), &format!("-d{seconds}s"), "--timeout", "30s", "-s"])
        .arg(&path)
        .arg(&load.url)
        .stdin(Stdio::null())
        .output()
        .context("cannot start wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("counted "));
    let Some(line) = line.filter(|_| output.status.success()) else {
        bail!("wrk failed on {}: {text}{}", load.url, String::from_utf8_lossy(&output.stderr));
    };
    read(line, load.refused).with_context(|| format!("wrk on {}", load.url))
}

fn read(line: &str, refused: bool) -> Result<Outcome> {
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, duration_us, p50, p99, refusals, errors] = numbers[..] else {
        bail!("`{line}` is not six numbers")
    };
    let wrong = if refused { requests.saturating_sub(refusals) } else { refusals };
    if requests == 0 || wrong + errors > 0 {
        bail!("{requests} answers, {wrong} of the wrong kind, {errors} errors");
    }
    Ok(Outcome {
        per_second: requests as f64 / (duration_us as f64 / 1e6),
        p50_us: p50 as f64,
        p99_us: p99 as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_second() {
        let read = read("50000 2000000 120 900 0 0", false).unwrap();
        assert_eq!(read, Outcome { per_second: 25_000.0, p50_us: 120.0, p99_us: 900.0 });
    }

    #[test]
    fn wrong_answers_are_no_speed() {
        assert!(read("100 1000000 1 1 1 0", false).is_err());
        assert!(read("100 1000000 1 1 0 1", false).is_err());
        assert!(read("100 1000000 1 1 99 0", true).is_err());
        assert!(read("100 1000000 1 1 100 0", true).is_ok());
        assert!(read("0 1000000 0 0 0 0", false).is_err());
    }
}
