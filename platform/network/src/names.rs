//! Names: what a function's resolver answers, from the template, from `--attach`, from AWS's own names, or from the host.

mod aws;
mod book;
mod name;
mod of_network;
mod resolver;
mod upstream;
pub mod wire;

pub use aws::ServiceAddresses;
pub use book::{Answer, Book, VpcNames, service_names};
pub use name::Name;
pub use resolver::{Asker, Resolver, Transport};
pub use upstream::{Upstream, UpstreamError};
