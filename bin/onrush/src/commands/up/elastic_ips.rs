//! Which elastic IP has which address for as long as `up` runs, whatever comes and goes beside it.

use crate::stack::Read;
use model::stack::ElasticIp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// So many are remembered beside those that stand: connections through a gateway may outlive its address, and who gets that
/// address then would get their ports, too.
const REMEMBERED_MAX: usize = 4096;

/// The addresses by logical id.
#[derive(Debug, Default)]
pub struct ElasticIps(BTreeMap<String, Ipv4Addr>);

impl ElasticIps {
    /// All that are not to be given to another.
    pub fn all(&self) -> &BTreeMap<String, Ipv4Addr> {
        &self.0
    }

    /// A template was read.
    pub fn note(&mut self, read: Option<&Read>) {
        self.hold(read.map_or(&[], |read| &read.stack.elastic_ips));
    }

    fn hold(&mut self, standing: &[ElasticIp]) {
        self.0.extend(standing.iter().map(|ip| (ip.id.clone(), ip.public_ip)));
        if self.0.len() > standing.len() + REMEMBERED_MAX {
            self.0 = standing.iter().map(|ip| (ip.id.clone(), ip.public_ip)).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_remembered_and_not_for_ever() {
        let one = |number: usize| ElasticIp {
            id: format!("Eip{number}"),
            place: model::stack::Place::default(),
            allocation_id: String::new(),
            public_ip: Ipv4Addr::from(0xC612_0001 + number as u32),
        };
        let mut all = ElasticIps::default();
        for number in 0..=REMEMBERED_MAX {
            all.hold(&[one(number)]);
        }
        assert_eq!(all.all()["Eip0"], Ipv4Addr::new(198, 18, 0, 1));
        let last = one(REMEMBERED_MAX + 1);
        all.hold(std::slice::from_ref(&last));
        assert_eq!(all.all(), &[(last.id, last.public_ip)].into());
    }
}
