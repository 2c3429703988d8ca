//! AWS's endpoints as functions see them: under their usual names, over TLS, with answers of ours.
//!
//! | service | who answers |
//! |---|---|
//! | `ssm`, `secretsmanager` | [`vault`]: the parameters and secrets of the template |
//! | `sts` | [`sts`]: who a function is |
//! | `lambda`, `execute-api`, `lambda-url` | the API and the doors of this Onrush |
//! | attached ones (`s3`, `dynamodb`, …) | the attached server, behind our TLS |
//!
//! [`Authority`] signs for all those names. What stands at which address, and who may reach it, is others' affair: a
//! connection comes in at [`Services::serve`].

mod answer;
pub mod authority;
mod forward;
pub mod generate;
mod secrets_manager;
mod server;
mod ssm;
mod store;
pub mod sts;
pub mod untrusted;
pub mod vault;

pub use authority::{Authority, AuthorityError};
pub use forward::{Body, Upstream};
pub use server::{OpenError, Options, Security, Services};
pub use vault::Vault;

/// Services that are answered here without being attached, by their names in host names.
pub const SERVED: [&str; 6] = ["execute-api", "lambda", "lambda-url", "secretsmanager", "ssm", "sts"];

/// What the parameters of services that are answered here may weigh, in bytes. Source: Secrets Manager quotas, 65,536
/// bytes of secret value; Parameter Store, 8 KB; base64 and JSON around them.
const REQUEST_BYTES_MAX: usize = 1 << 20;
