//! Reads the recordings of arrivals that a load names, piece by piece.

use plan::Load;
use plan::recording::{Reader, Recording};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use template::Problem;
use template::yaml::Span;

/// So many bytes are read at once.
const CHUNK: usize = 1 << 16;

/// Why a recording could not be read.
#[derive(Debug)]
pub enum Unread {
    /// The load names what is no readable file.
    Named(Box<Problem>),
    /// A line of it is wrong: `arrivals.csv:17: …`.
    Line(String),
}

/// Reads what the load at `path` replays; names of files are relative to the load's folder.
pub fn supply(load: &mut Load, path: &Path) -> Result<(), Unread> {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let named = load.replays().map(|(phase, file)| (phase, folder.join(&file.text), file.span));
    let named: Vec<(usize, PathBuf, Span)> = named.collect();
    let mut read: BTreeMap<PathBuf, Arc<Recording>> = BTreeMap::new();
    for (phase, file, span) in named {
        let recording = match read.get(&file) {
            Some(recording) => Arc::clone(recording),
            None => Arc::new(recording(&file, span)?),
        };
        read.insert(file, Arc::clone(&recording));
        load.supply(phase, recording);
    }
    Ok(())
}

fn recording(path: &Path, span: Span) -> Result<Recording, Unread> {
    let unread = |error: &std::io::Error| {
        Unread::Named(Box::new(Problem::at(span, format!("cannot read {}: {error}", path.display()))))
    };
    let wrong = |error| Unread::Line(format!("{}:{error}", path.display()));
    let mut file = File::open(path).map_err(|error| unread(&error))?;
    let mut reader = Reader::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).map_err(|error| unread(&error))? {
            0 => return reader.finish().map_err(wrong),
            count => reader.push(&chunk[..count]).map_err(wrong)?,
        }
    }
}
