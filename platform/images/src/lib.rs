//! Container images: found, verified, and unpacked to folders that become a function's root.
//!
//! ```text
//!   reference -> Place -> Source (layout folder, archive, registry) -> documents, checked by digest
//!     -> per layer: decompress, check both digests, unpack below one folder -> Store, by content
//!     -> Image: settings, and folders to lay over each other
//! ```
//!
//! All of it is untrusted input: every size, count, depth and name has a named bound, nothing is written outside a folder of
//! the store, and nothing is believed before its digest was seen. The room knows nothing of Lambda, HTTP doors or sandboxes.

#![deny(unsafe_code)]

mod confined;
mod digest;
mod error;
mod layer;
mod manifest;
mod merge;
mod place;
mod source;
mod store;
mod tar;
mod tree;
mod zstd;

pub use confined::{Unpacker, unpack};
pub use digest::Digest;
pub use error::ImageError;
pub use manifest::{Architecture, SETTINGS_BYTES_MAX, Settings};
pub use merge::Scaffold;
pub use place::{Place, Repository};
pub use store::{ENTRIES_MAX, IMAGE_BYTES_MAX, Image, LAYERS_MAX, Lease, Look, Options, Store};
