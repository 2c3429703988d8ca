//! Work inside a named network namespace.

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

/// Runs on a thread of its own that is inside; devices opened there stay there.
pub fn within<T: Send>(name: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        let path = Path::new("/run/netns").join(name);
        let namespace = File::open(&path).with_context(|| path.display().to_string())?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        act()
    };
    thread::scope(|scope| scope.spawn(inside).join().map_err(|_| anyhow!("the thread in {name} panicked"))?)
}
