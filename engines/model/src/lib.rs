//! The nouns, units, limit ids and eras that every room shares.
//!
//! Nothing here reads a clock, opens a file or draws randomness; a figure taken from AWS carries its
//! source in `eras/*.toml`.

pub mod aws_name;
pub mod era;
pub mod error;
mod figure;
pub mod gateway_response;
pub mod limit;
pub mod name;
pub mod price;
pub mod settings;
pub mod stack;
pub mod time;
pub mod wildcard;

/// Port of the API and of every door, as other emulators have it.
pub const DEFAULT_PORT: u16 = 4566;

pub use era::{Era, Overrides};
pub use figure::grouped;
pub use gateway_response::{ApiKind, GatewayResponse};
pub use limit::{LimitId, LimitRow, Refusal};
pub use time::Instant;
