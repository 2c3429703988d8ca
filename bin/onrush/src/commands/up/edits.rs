//! Edits of the user's own folders while they are served: the next invocation runs the new code, whole.

use control::Control;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A look may take a 500th of the time: large folders are looked at less often.
const SHARE: u32 = 500;

/// Looks at the folders until cancelled.
pub async fn watch(control: Arc<Control>) {
    loop {
        let begun = Instant::now();
        let looking = control.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || look(&looking)).await {
            tracing::error!(%error, "looking for edits failed");
        }
        tokio::time::sleep(PERIOD.max(begun.elapsed() * SHARE)).await;
    }
}

fn look(control: &Control) {
    // Those that are plain run packages, which nobody edits.
    for function in control.known_functions() {
        let word = function.logical_id.as_ref().unwrap_or(&function.name);
        match control.refresh_code(&function.name) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("{word}: its code changed; the next invocation runs it in a new environment");
            }
            // Half of a save, most likely: what was there goes on until it is whole.
            Err(error) => tracing::debug!(function = %word, error = %error.message, "cannot read the code"),
        }
    }
}
