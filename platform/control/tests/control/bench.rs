//! A control plane in a folder of its own, and requests for it.

use crate::pack::Pack;
use control::{Blob, Change, Control, CreateFunction, FunctionCode, OpenError, Options, Settings};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a test works with.
pub struct Bench {
    pub control: Control,
    pub changes: Heard,
    pub folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (control, changes) = open(folder.path()).unwrap();
        Self { control, changes, folder }
    }

    /// Closes and opens again, as a restart does.
    pub fn again(self) -> Self {
        drop(self.control);
        let (control, changes) = open(self.folder.path()).unwrap();
        Self { control, changes, folder: self.folder }
    }

    /// What the observer heard since the last time.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.changes.lock().unwrap())
    }

    /// How many packages lie on the disk.
    pub fn packages(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("code")).unwrap().count()
    }
}

/// Waits until nothing is left of what is removed behind everybody's back.
pub fn await_removals(data_dir: &Path) {
    let begun = Instant::now();
    while std::fs::read_dir(data_dir.join("staging")).unwrap().count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "staging is not emptied");
        std::thread::yield_now();
    }
}

pub fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        account_id: "000000000000".to_owned(),
        region: "us-east-1".to_owned(),
        account_concurrency: 1_000,
        unreserved_minimum: 100,
        experimental_snap_start: false,
        passable: false,
    }
}

/// What the observer heard.
pub type Heard = Arc<Mutex<Vec<String>>>;

pub fn open(data_dir: &Path) -> Result<(Control, Heard), OpenError> {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&changes);
    let observer = move |change| {
        let text = match change {
            Change::Put(function) => format!("put {} {}", function.name, function.version_key),
            Change::Removed { name } => format!("removed {name}"),
            Change::Reserved { name, reserved } => format!("reserved {name} {reserved:?}"),
        };
        heard.lock().unwrap().push(text);
    };
    Ok((Control::open(options(data_dir), Box::new(observer))?, changes))
}

/// The code of a function whose one file holds `text`.
pub fn code(text: &str) -> FunctionCode {
    FunctionCode { zip_file: Some(Blob(Pack::of(&[("index.py", text)]))), ..FunctionCode::default() }
}

/// A request for a function whose one file holds `text`.
pub fn create(name: &str, text: &str) -> CreateFunction {
    CreateFunction {
        function_name: Some(name.to_owned()),
        code: Some(code(text)),
        settings: Settings {
            runtime: Some("python3.13".to_owned()),
            handler: Some("index.handler".to_owned()),
            role: Some("arn:aws:iam::000000000000:role/lambda".to_owned()),
            ..Settings::default()
        },
        ..CreateFunction::default()
    }
}
