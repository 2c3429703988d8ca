//! The addresses that AWS's own host names have here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use limits::network::service_address;
use model::aws_name::AwsName;

use super::Name;

/// Where AWS's services have their addresses: 198.19.128.0/18, of the benchmark range that is never on the internet
/// (RFC 2544). Which one has which is said by `limits::network::service_address`, since routes of gateway endpoints ask, too.
const SERVICES: u32 = 0xC613_8000;
const SERVICES_LAST: u32 = 0xC613_BFFF;
/// Services whose answers are of the caller's Region, whichever that is.
const ANY_REGION: [&str; 3] = ["lambda", "lambda-url", "sts"];
/// Names remembered of services that are not served, to say in the log which one was called.
const REMEMBERED_MAX: usize = 1_024;

/// The addresses that AWS's names have here: the same for a service always, so that connections are counted per service as
/// on AWS per destination.
#[derive(Debug)]
pub struct ServiceAddresses {
    region: String,
    served: BTreeMap<Ipv4Addr, String>,
    /// Whether names of services that are not served go to the world.
    passthrough: bool,
    remembered: Mutex<BTreeMap<Ipv4Addr, Name>>,
}

impl ServiceAddresses {
    /// Addresses in a Region, with the services that are served here; the others' names go to the world only when
    /// `passthrough` is set.
    pub fn new(region: &str, served: impl IntoIterator<Item = String>, passthrough: bool) -> Self {
        let served = served.into_iter().map(|service| (service_address(&service), service)).collect();
        Self { region: region.to_owned(), served, passthrough, remembered: Mutex::default() }
    }

    /// The address for one of AWS's names; `None` when it is left to the world.
    pub fn address(&self, aws: &AwsName, name: &Name) -> Option<Ipv4Addr> {
        let here = aws.region.as_ref().is_none_or(|region| *region == self.region)
            || ANY_REGION.contains(&aws.service.as_str());
        let usual = service_address(&aws.service);
        if here && self.served_at(usual).is_some_and(|service| service == aws.service) {
            return Some(usual);
        }
        if self.passthrough {
            return None;
        }
        let address = match &aws.region {
            Some(region) if !here => service_address(&format!("{}.{region}", aws.service)),
            _ => usual,
        };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < REMEMBERED_MAX || remembered.contains_key(&address) {
            remembered.insert(address, name.clone());
        }
        Some(address)
    }

    /// The service that is served at an address.
    pub fn served_at(&self, address: Ipv4Addr) -> Option<&str> {
        self.served.get(&address).map(String::as_str)
    }

    /// Whether an address stands for a service that is not served, and the name that was asked for last.
    pub fn not_served(&self, address: Ipv4Addr) -> Option<Option<Name>> {
        let other =
            (SERVICES..=SERVICES_LAST).contains(&u32::from(address)) && !self.served.contains_key(&address);
        other.then(|| self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned())
    }
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
        assert_eq!(address("sts.eu-west-1.amazonaws.com"), address("sts.us-east-1.amazonaws.com"));
        let world = ServiceAddresses::new("us-east-1", ["ssm".into()], true);
        let sqs = "sqs.us-east-1.amazonaws.com";
        assert_eq!(world.address(&AwsName::read(sqs).unwrap(), &Name::new(sqs).unwrap()), None);
    }
}
