//! What host names stand for. Each address is a destination of its own to a NAT gateway.

use std::net::Ipv4Addr;
use template::yaml::{Mapping, Node, Problem, Problems};

/// The most addresses of one name.
const ADDRESSES_MAX: usize = 1_000;

/// A host name with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name, as `to` writes it.
    pub name: String,
    /// Its addresses, which connections take in turn.
    pub addresses: Vec<Ipv4Addr>,
}

/// Reads `hosts`; what could not be read is recorded and left out.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Vec<Host> {
    let entries = node.mapping(problems).map_or(&[][..], Mapping::entries);
    let read = entries.iter().filter_map(|entry| {
        let items = entry.value.sequence(problems)?;
        if items.is_empty() || items.len() > ADDRESSES_MAX {
            let message = format!("a host has 1 to {ADDRESSES_MAX} addresses, and this one {}", items.len());
            problems.push(Problem::at(entry.value.span, message));
        }
        let addresses = items.iter().filter_map(|item| address(item, problems)).collect();
        Some(Host { name: entry.key.to_string(), addresses })
    });
    read.collect()
}

fn address(node: &Node, problems: &mut Problems) -> Option<Ipv4Addr> {
    let address = node.string(problems)?.parse();
    if address.is_err() {
        problems.push(Problem::wrong_type(node, "an IPv4 address"));
    }
    address.ok()
}
