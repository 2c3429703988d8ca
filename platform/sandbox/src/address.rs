//! The address that an environment has inside, of a /30 of link-local addresses, as Lambda's own have.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The /30 blocks of 169.254.0.0/16 that environments get.
const BLOCKS: u16 = 1 << 14;

/// One environment's block: `.1` the other side, `.2` the environment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Block(u16);

impl Block {
    /// The environment's own address, the only one that it may send from.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from(0xA9FE_0000 + 4 * u32::from(self.0) + 2)
    }

    /// The same for IPv6: fd00::/96 and the other address.
    pub fn address6(self) -> Ipv6Addr {
        let [a, b, c, d] = self.address().octets();
        Ipv6Addr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
    }
}

/// Blocks that are free. Those of 169.254.169.0/24, where AWS's services answer, are never given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    never_given: u16,
    returned: Vec<Block>,
}

/// A block that goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    block: Block,
    from: Blocks,
}

impl Lease {
    /// The block.
    pub fn block(&self) -> Block {
        self.block
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.from.0.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.block);
    }
}

impl Blocks {
    /// A free block, if there is one.
    pub fn take(&self) -> Option<Lease> {
        let block = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Lease { block, from: self.clone() })
    }
}

impl Free {
    fn take(&mut self) -> Option<Block> {
        if let Some(block) = self.returned.pop() {
            return Some(block);
        }
        while self.never_given < BLOCKS {
            let block = Block(self.never_given);
            self.never_given += 1;
            if block.address().octets()[2] != 169 {
                return Some(block);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_environment_has_a_block_of_its_own_and_none_has_the_metadata_address() {
        let blocks = Blocks::default();
        let mut leases = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(lease) = blocks.take() {
            assert!(seen.insert(lease.block().address()));
            assert_ne!(lease.block().address().octets()[2], 169);
            leases.push(lease);
        }
        assert_eq!(seen.len(), usize::from(BLOCKS) - 64);
        let last = leases.pop().unwrap();
        let block = last.block();
        drop(last);
        assert_eq!(blocks.take().map(|lease| lease.block()), Some(block));
        assert_eq!(
            block.address6().to_string(),
            format!("fd00::{}", {
                let [a, b, c, d] = block.address().octets();
                format!("{:x}:{:x}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            })
        );
    }
}
