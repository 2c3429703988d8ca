//! The addresses that AWS's own host names have here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use model::aws_name::AwsName;

use super::Name;

/// Where AWS service names lead: 198.19.128.0/18, of the benchmark range that is never on the internet (RFC 2544).
const SERVICES: u32 = 0xC613_8000;
/// Addresses of services that are served here, from the start of the range.
const SERVED_MAX: u32 = 256;
/// Addresses of services that are not.
const OTHERS: u32 = (1 << 14) - SERVED_MAX - 1;
/// Names remembered of services that are not served, to say in the log which one was called.
const REMEMBERED_MAX: usize = 1_024;

/// The addresses that AWS's names have here: the same for a service always, so that connections are counted per service as
/// on AWS per destination.
#[derive(Debug)]
pub struct ServiceAddresses {
    region: String,
    served: Vec<String>,
    /// Whether names of services that are not served go to the world.
    passthrough: bool,
    remembered: Mutex<BTreeMap<Ipv4Addr, Name>>,
}

impl ServiceAddresses {
    /// Addresses in a Region, with the services that are served here; the others' names go to the world only when
    /// `passthrough` is set.
    pub fn new(region: &str, served: impl IntoIterator<Item = String>, passthrough: bool) -> Self {
        let mut served: Vec<_> = served.into_iter().take(SERVED_MAX as usize).collect();
        served.sort();
        served.dedup();
        Self { region: region.to_owned(), served, passthrough, remembered: Mutex::default() }
    }

    /// The address for one of AWS's names; `None` when it is left to the world.
    pub fn address(&self, aws: &AwsName, name: &Name) -> Option<Ipv4Addr> {
        let here = aws.region.as_ref().is_none_or(|region| *region == self.region);
        if let Some(index) = self.served.binary_search(&aws.service).ok().filter(|_| here) {
            return Some(Ipv4Addr::from(SERVICES + 1 + index as u32));
        }
        if self.passthrough {
            return None;
        }
        let place =
            hash(aws.service.bytes().chain(*b".").chain(aws.region.iter().flat_map(|text| text.bytes())));
        let address = Ipv4Addr::from(SERVICES + SERVED_MAX + place % OTHERS);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < REMEMBERED_MAX || remembered.contains_key(&address) {
            remembered.insert(address, name.clone());
        }
        Some(address)
    }

    /// The service that is served at an address.
    pub fn served_at(&self, address: Ipv4Addr) -> Option<&str> {
        let index = u32::from(address).checked_sub(SERVICES + 1)?;
        self.served.get(index as usize).map(String::as_str)
    }

    /// Where the services are that are served here.
    pub fn served(&self) -> impl Iterator<Item = Ipv4Addr> {
        (0..self.served.len() as u32).map(|index| Ipv4Addr::from(SERVICES + 1 + index))
    }

    /// Whether an address stands for a service that is not served, and the name that was asked for last.
    pub fn not_served(&self, address: Ipv4Addr) -> Option<Option<Name>> {
        let offset = u32::from(address).checked_sub(SERVICES)?;
        let other = (SERVED_MAX..SERVED_MAX + OTHERS).contains(&offset);
        other.then(|| self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned())
    }
}

/// FNV-1a: the same on every machine and in every version.
fn hash(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_one_address_and_others_are_told_apart() {
        let addresses = ServiceAddresses::new("us-east-1", ["sts".into(), "ssm".into()], false);
        let address =
            |name: &str| addresses.address(&AwsName::read(name).unwrap(), &Name::new(name).unwrap());
        let ssm = address("ssm.us-east-1.amazonaws.com").unwrap();
        assert_eq!(address("vpce-1.ssm.us-east-1.vpce.amazonaws.com"), Some(ssm));
        assert_eq!((addresses.served_at(ssm), addresses.not_served(ssm)), (Some("ssm"), None));
        let sqs = address("sqs.us-east-1.amazonaws.com").unwrap();
        assert_eq!((addresses.served_at(sqs), sqs), (None, address("sqs.us-east-1.amazonaws.com").unwrap()));
        assert_eq!(addresses.not_served(sqs).unwrap().unwrap().as_str(), "sqs.us-east-1.amazonaws.com");
        let elsewhere = address("ssm.eu-west-1.amazonaws.com").unwrap();
        assert_eq!(addresses.served_at(elsewhere), None, "another Region's parameters are not here");
        let world = ServiceAddresses::new("us-east-1", ["ssm".into()], true);
        let sqs = "sqs.us-east-1.amazonaws.com";
        assert_eq!(world.address(&AwsName::read(sqs).unwrap(), &Name::new(sqs).unwrap()), None);
    }
}
