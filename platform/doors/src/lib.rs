//! Request to event and back: the Lambda REST API, function URLs, HTTP and REST APIs, and Onrush's own pages.
//!
//! One listener serves them all, told apart by host name first and by path second, as local emulators do:
//!
//! | host or path | door |
//! |---|---|
//! | `{url-id}.lambda-url.{region}.…` | [`function_url`] |
//! | `{api-id}.execute-api.{region}.…` | `http_api`, `rest_api` |
//! | `/_onrush/door/{LogicalId}/…` | one of these, for clients that cannot resolve such names |
//! | `/_onrush/code/…` | [`downloads`] |
//! | `/_onrush/…` | [`admin`] |
//! | anything else | [`lambda_rest`] |

pub mod admin;
mod arrival;
mod authorizer;
pub mod body;
pub mod clients;
pub mod cors;
pub mod downloads;
pub mod event;
pub mod event_stream;
mod event_v1;
pub mod flushed;
pub mod function_url;
pub mod gateway;
pub mod guard;
mod http_api;
pub mod lambda_rest;
pub mod network_pages;
pub mod orders;
pub mod prelude;
pub mod realms;
pub mod reply;
mod reply_v1;
mod rest_api;
pub mod router;
mod routes;
pub mod server;
pub mod signature;
pub mod streaming;
pub mod untrusted;
mod urls;

pub use gateway::{ApiParts, GatewaySettings};
pub use network_pages::{Later, NetworkLook, NetworkPages, Unseen};
pub use realms::{Opens, Realm};
pub use router::{Doors, Options, OtherServices};
pub use server::serve;

use bytes::Bytes;
use http_body_util::Full;

/// An answer that is there as a whole; what flows is a [`streaming::Outgoing`].
pub type Answer = http::Response<Full<Bytes>>;
