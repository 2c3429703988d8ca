//! One file per command.

pub mod explain;
pub mod generate_event;
pub mod plan;

#[cfg(target_os = "linux")]
pub mod capture;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
pub mod deploy;
#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(target_os = "linux")]
pub mod invoke;
#[cfg(target_os = "linux")]
pub mod limits;
#[cfg(target_os = "linux")]
pub mod logs;
#[cfg(target_os = "linux")]
mod scope;
#[cfg(target_os = "linux")]
pub mod up;

use crate::Stop;
use crate::arguments::Figures;
use model::era::BadOverride;
use model::{Era, LimitId, Overrides};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

/// The era and the user's own figures.
fn figures(arguments: &Figures) -> Result<(Era, Overrides), Stop> {
    let era = Era::named(&arguments.era).map_err(|error| Stop::Usage(error.to_string()))?;
    let mut overrides = Overrides::default();
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for text in &arguments.limits {
        if let Some((id, value)) = text.split_once('=')
            && let Some(before) =
                given.insert(id.trim(), value.trim()).filter(|before| *before != value.trim())
        {
            return Err(Stop::Usage(format!(
                "--limit: {} is given twice, as {before} and {}",
                id.trim(),
                value.trim()
            )));
        }
        overrides.read(text).map_err(|error| {
            let id = text.split('=').next().unwrap_or("").trim();
            let known = LimitId::ALL.iter().map(|limit| limit.as_str());
            let cure = match error {
                BadOverride::Unknown(_) => template::yaml::did_you_mean(id, known)
                    .map_or("; `onrush limits` and docs/limits.md name them".to_owned(), |near| {
                        format!("; {near}")
                    }),
                _ => String::new(),
            };
            Stop::Usage(format!("--limit: {error}{cure}"))
        })?;
    }
    Ok((era, overrides))
}

/// Prints to standard output; whoever read it may be gone, and that stops nothing.
///
/// # Errors
/// It did not go there whole: no space, or a broken disk.
fn print(text: &str) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output").into())
        }
        _ => Ok(()),
    }
}

/// Whether standard output wants colour.
fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
