//! Which devices the host forwards for, and how it was before.
//!
//! The kernel keeps these settings when a process dies, so what they were is written down before they are changed; the
//! next start puts them back.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const RECORD: &str = "forwarding";
/// Longest name of a device (`IFNAMSIZ`), less its NUL.
const NAME_BYTES_MAX: usize = 15;

/// Behind a device's name: the host forwarded for all, and not for this one.
const EXCEPTION: &str = " exception";

/// Settings that are put back when this is dropped.
#[derive(Debug)]
pub(super) struct Changed {
    state_dir: PathBuf,
}

impl Drop for Changed {
    fn drop(&mut self) {
        restore(&self.state_dir);
    }
}

/// The host's own switch: who turns it on turns it on for every device.
const ALL: &str = "all";

fn forwards(device: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(setting(device))?.trim() == "1")
}

fn setting(device: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(device).join("forwarding")
}

/// Lets the kernel forward what comes in by these devices.
pub(super) fn allow(state_dir: &Path, devices: &[String]) -> io::Result<Changed> {
    fs::create_dir_all(state_dir)?;
    fs::write(state_dir.join(RECORD), "")?;
    let changed = Changed { state_dir: state_dir.to_owned() };
    for device in devices {
        allow_also(state_dir, device)?;
    }
    Ok(changed)
}

/// One device more, for as long as [`Changed`] lives: without its record nothing is changed.
pub(super) fn allow_also(state_dir: &Path, device: &str) -> io::Result<()> {
    if forwards(device)? {
        return Ok(());
    }
    let mut record = OpenOptions::new().append(true).open(state_dir.join(RECORD))?;
    let of_all = if forwards(ALL)? { EXCEPTION } else { "" };
    record.write_all(format!("{device}{of_all}\n").as_bytes())?;
    fs::write(setting(device), "1")
}

/// Puts back what a run changed, this one or one that was killed, but not where somebody (Docker, an administrator) has let the
/// host forward for all since. Devices that are gone have taken theirs along.
pub fn restore(state_dir: &Path) {
    let record = state_dir.join(RECORD);
    let Ok(text) = fs::read_to_string(&record) else { return };
    let for_all = forwards(ALL).unwrap_or(false);
    for line in text.lines() {
        let exception = line.strip_suffix(EXCEPTION);
        let device = exception.unwrap_or(line);
        if is_device(device)
            && (exception.is_some() || !for_all)
            && setting(device).exists()
            && let Err(error) = fs::write(setting(device), "0")
        {
            tracing::warn!(device, %error, "cannot put back that this device does not forward");
        }
    }
    drop(fs::remove_file(record));
}

/// A damaged record must not make us write anywhere else.
fn is_device(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('/') && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_changes_nothing() {
        let state = std::env::temp_dir().join(format!("onrush-forwarding-{}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join(RECORD), "../../../../../tmp\n\nno-such-device\n/etc/passwd\n").unwrap();
        restore(&state);
        assert!(!state.join(RECORD).exists());
        restore(&state);
        assert!(!is_device("../x") && !is_device("") && !is_device("a/b") && is_device("eth0"));
        fs::remove_dir_all(state).unwrap();
    }
}
