//! Ports of a shared interface: the first translation of a connection.
//!
//! An interface carries 65,000 connections ([`limits::eni`]), more than there are ports from 1024 on; so its last 488
//! have one below. Which port AWS takes is not published: here one that was never used, then the one that is free for
//! longest.

use std::collections::VecDeque;

const FIRST: u32 = 1024;
/// Ports that are given out; with those from [`FIRST`] on first.
const COUNT: u32 = 65_000;

/// One interface's ports.
#[derive(Clone, Debug, Default)]
pub struct InterfacePorts {
    touched: u32,
    returned: VecDeque<u16>,
}

impl InterfacePorts {
    /// The port that [`Self::take`] will give.
    pub fn next(&self) -> Option<u16> {
        if self.touched < COUNT { Some(number(self.touched)) } else { self.returned.front().copied() }
    }

    /// Gives a port out.
    pub fn take(&mut self) -> Option<u16> {
        if self.touched < COUNT {
            self.touched += 1;
            return Some(number(self.touched - 1));
        }
        self.returned.pop_front()
    }

    /// Takes a port back.
    pub fn give_back(&mut self, port: u16) {
        self.returned.push_back(port);
    }
}

fn number(index: u32) -> u16 {
    let port = FIRST + index;
    // What lies beyond the last port comes from below the first.
    if port <= u32::from(u16::MAX) { port as u16 } else { (FIRST - (port - u32::from(u16::MAX))) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sixty_five_thousand_different_ones() {
        let mut ports = InterfacePorts::default();
        let taken: BTreeSet<u16> = std::iter::from_fn(|| ports.take()).collect();
        assert_eq!((taken.len(), taken.first(), taken.last()), (65_000, Some(&536), Some(&65_535)));
        ports.give_back(7000);
        assert_eq!((ports.next(), ports.take(), ports.take()), (Some(7000), Some(7000), None));
    }
}
