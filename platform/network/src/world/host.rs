//! The host's own world: its kernel forwards what leaves the device, with an address of the host's.
//!
//! Nothing of the host's own rules is touched. The masquerade is a table of ours that the kernel removes with the socket
//! that made it, also after `kill -9`; forwarding is allowed for that device and those of the default route alone, and
//! what it was before is written down. Of the host's networks, and of its own addresses, nothing is reachable.

use super::{DEVICE, Outside, WorldError, device, elsewhere, forwarding};
use netdev::nft::{self, Place, Step, Table};
use netdev::route;
use std::io;
use std::path::Path;

const TABLE: &str = "onrush";
const AFTER_ROUTING: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// What the host's kernel does for us until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// Put back while the table still keeps others from opening the world: what they allow would be put back, too.
    _forwarding: forwarding::Changed,
    _table: Table,
}

pub(super) fn open(state_dir: &Path) -> Result<Outside, WorldError> {
    elsewhere(|| {
        let failed = |doing| move |error| WorldError::Kernel { doing, error };
        let refused = route::Connected::watch().map_err(failed("list the host's networks"))?;
        let uplinks = route::uplinks().map_err(failed("find the host's default route"))?;
        let mut names: Vec<String> = uplinks
            .into_iter()
            .map(route::name)
            .collect::<Result<_, _>>()
            .map_err(failed("find a way out"))?;
        if names.is_empty() {
            let no_route = "the host has no default route for IPv4";
            return Err(failed("find a way out")(io::Error::new(
                io::ErrorKind::NetworkUnreachable,
                no_route,
            )));
        }
        let outside = device("host")?;
        let name = DEVICE.to_string_lossy().into_owned();
        names.push(name.clone());
        let rule = vec![Step::FromDevice(name.clone()), Step::NotToDevice(name.clone()), Step::Masquerade];
        let place = Place { kind: "nat", hook: AFTER_ROUTING, priority: SOURCE_NAT };
        let table =
            Table::create(TABLE, "leaving", place, &[rule]).map_err(failed("make a masquerade table"))?;
        let changed = forwarding::allow(state_dir, &names).map_err(failed("allow forwarding"))?;
        let mut warnings = Vec::new();
        for chain in nft::dropping_forward_chains().unwrap_or_default() {
            warnings.push(format!(
                "the chain `{chain}` of this host's packet rules drops what is forwarded: functions will not reach the \
                 world unless it accepts the device {name}"
            ));
        }
        let _held = Some(Held { _table: table, _forwarding: changed });
        Ok(Outside { refused: Some(refused), warnings, _held, ..outside })
    })
}
