//! The address that an environment has inside, of a /30 of link-local addresses, as Lambda's own have.

use std::net::Ipv4Addr;

/// The /30 blocks of 169.254.0.0/16 that environments get; the last hold what AWS answers on (169.254.169.x and the like
/// are never the route of an environment: the engine decides by the destination before it looks here).
const BLOCKS: u16 = 1 << 14;

/// One environment's block: `.1` the engine's side, `.2` the environment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InsideAddress(u16);

impl InsideAddress {
    /// The environment's own address, the only one that it may send from.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from(0xA9FE_0000 + 4 * u32::from(self.0) + 2)
    }
}

/// Blocks that are free. Blocks of 169.254.169.0/24, where AWS's services answer, are never given.
#[derive(Debug, Default)]
pub struct InsideAddresses {
    never_given: u16,
    returned: Vec<InsideAddress>,
}

impl InsideAddresses {
    /// A free block, if there is one.
    pub fn take(&mut self) -> Option<InsideAddress> {
        if let Some(block) = self.returned.pop() {
            return Some(block);
        }
        while self.never_given < BLOCKS {
            let block = InsideAddress(self.never_given);
            self.never_given += 1;
            if block.address().octets()[2] != 169 {
                return Some(block);
            }
        }
        None
    }

    /// Gives a block back.
    pub fn put(&mut self, block: InsideAddress) {
        self.returned.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_has_a_block_of_its_own_and_none_has_the_metadata_address() {
        let mut addresses = InsideAddresses::default();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(block) = addresses.take() {
            assert!(seen.insert(block.address()));
            assert_ne!(block.address().octets()[2], 169);
        }
        assert_eq!(seen.len(), usize::from(BLOCKS) - 64);
        let block = InsideAddress(7);
        addresses.put(block);
        assert_eq!(addresses.take(), Some(block));
    }
}
