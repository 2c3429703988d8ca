//! Joins those who unpack archives and layers to a confined process that does it.

use sandbox::Workshop;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What an order begins with: whose it is.
const ARCHIVE: u8 = b'a';
const LAYER: u8 = b'l';

/// Forks the process; call while there is one thread. Without it this process unpacks itself, and says so.
pub fn fork() -> Option<Arc<Workshop>> {
    match sandbox::fork_workshop(work) {
        Ok(workshop) => Some(Arc::new(workshop)),
        Err(error) => {
            tracing::warn!(%error, "archives are unpacked by the platform itself, unconfined");
            None
        }
    }
}

fn work(order: &[u8], input: OwnedFd, folder: OwnedFd) -> Vec<u8> {
    match order.split_first() {
        Some((&ARCHIVE, order)) => control::package::unpack(order, input, folder),
        Some((&LAYER, order)) => images::unpack(order, input, folder),
        _ => Vec::new(),
    }
}

/// For code packages.
#[derive(Debug)]
pub struct Archives(pub Arc<Workshop>);

/// For layers of images.
#[derive(Debug)]
pub struct Layers(pub Arc<Workshop>);

impl control::package::Unpacker for Archives {
    fn run(&self, order: &[u8], input: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        self.0.run(&[&[ARCHIVE], order].concat(), input, folder)
    }
}

impl images::Unpacker for Layers {
    fn run(&self, order: &[u8], input: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        self.0.run(&[&[LAYER], order].concat(), input, folder)
    }
}
