//! Which program runs a function, what must be bound into its sandbox, and which variables AWS sets.
//!
//! [`Runtimes`] answers for one machine and one data directory. [`Runtimes::resolve`] turns a runtime
//! identifier and a handler into a [`Launch`]: the argument vector, the read-only binds and the variables
//! that depend on the runtime. [`Runtimes::prepare`] installs once what AWS's own `/var/runtime` carries
//! (the runtime interface client, boto3, the JavaScript SDK). [`base_environment`] joins all that with
//! what AWS sets for every function, and [`Runtimes::build_rust`] makes the `bootstrap` of a Rust function.
//!
//! Everything here blocks: it reads directories and runs interpreters, pip, npm and cargo. Call it from a
//! thread that may wait.

mod barrier;
mod cache;
mod environment;
mod error;
mod function_build;
mod handler;
mod image;
mod install;
mod installer;
mod interpreter;
mod node;
mod provided;
mod python;
mod runtime;
mod rust_build;

pub use barrier::barrier;
pub use environment::{
    FunctionFacts, RESERVED_VARIABLES, base_environment, credentials, extension_environment, key_of_account,
    own_key,
};
pub use error::{BuildError, RuntimeError};
pub use function_build::{Build, FunctionBuildError};
pub use image::ImageProgram;
pub use interpreter::closed_to_others;
pub use runtime::{Launch, Request, Runtimes, TRUST, Warning};
pub use rust_build::rust_sources;
