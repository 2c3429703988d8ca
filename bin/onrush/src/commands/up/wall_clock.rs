//! A wall clock that jumps when a test says so: nobody sets the host's for that.

use std::path::PathBuf;
use std::time::Duration;

/// How often the file is read.
const PERIOD: Duration = Duration::from_millis(20);

/// Sets the wall clock ahead by the seconds that the file holds, until cancelled. What is no number changes nothing.
pub async fn follow(file: PathBuf) {
    loop {
        let text = tokio::fs::read_to_string(&file).await.unwrap_or_default();
        if let Ok(seconds) = text.trim().parse::<i64>() {
            telemetry::set_wall_clock_ahead(seconds.saturating_mul(1_000));
        }
        tokio::time::sleep(PERIOD).await;
    }
}
