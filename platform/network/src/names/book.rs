//! The book of names: what is known here, without asking anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::aws_name::AwsName;
use model::stack::Cidr;

use super::aws::ServiceAddresses;
use super::name::Name;
use crate::attach::{Attachments, Place};

/// Where `--attach` names lead that have no address otherwise: 198.19.192.0/18.
const ATTACHED: u32 = 0xC613_C000;
/// How many of them.
const ATTACHED_MAX: u32 = (1 << 14) - 2;
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// What one VPC's resolver knows beside what everybody knows.
#[derive(Clone, Debug, Default)]
pub struct VpcNames {
    /// `EnableDnsSupport`: without it nothing is answered at all.
    pub dns_support: bool,
    /// The VPC's IPv4 ranges; its own addresses have names (`ip-10-0-1-5.ec2.internal`).
    pub ranges: Vec<Cidr>,
    records: BTreeMap<Name, BTreeSet<IpAddr>>,
    /// Names that stand for names of others.
    aliases: BTreeMap<Name, Name>,
    /// `CNAME` records: what an answer says beside the addresses.
    cnames: BTreeMap<Name, Name>,
    reverse: BTreeMap<IpAddr, Name>,
    zones: BTreeSet<Name>,
    services: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Names that are answered with one of their addresses at a time.
    one_of: BTreeSet<Name>,
}

impl VpcNames {
    /// A VPC's names, none yet.
    pub fn new(dns_support: bool, ranges: Vec<Cidr>) -> Self {
        Self { dns_support, ranges, ..Self::default() }
    }

    /// Adds an address to a name; `*.` stands for every name below that has no record.
    pub fn add(&mut self, name: Name, address: IpAddr) {
        if !name.as_str().starts_with('*') {
            self.reverse.entry(address).or_insert_with(|| name.clone());
        }
        self.records.entry(name).or_default().insert(address);
    }

    /// Makes the VPC the authority for a name and everything below it: what has no record there does not exist.
    pub fn add_zone(&mut self, apex: Name) {
        self.zones.insert(apex);
    }

    /// Adds addresses to a name, but not the name to the addresses.
    pub fn extend(&mut self, name: &Name, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.records.entry(name.clone()).or_default().insert(address);
        }
    }

    /// Makes a name stand for one that is not of the template.
    pub fn add_alias(&mut self, name: Name, target: Name) {
        self.aliases.insert(name, target);
    }

    /// Adds a `CNAME` record. The name's addresses are added as any other's.
    pub fn add_cname(&mut self, name: Name, target: Name) {
        self.cnames.insert(name, target);
    }

    /// The target of a name's `CNAME` record, or of a wildcard's, unless another record is nearer.
    fn cname(&self, name: &Name) -> Option<&Name> {
        let (record, target) = self.find_in(&self.cnames, name)?;
        let is_nearer = |other: &Name| other == name || other.as_str().len() > record.as_str().len();
        let others = self.find_in(&self.records, name).map(|(other, _)| other);
        let mut others = others.into_iter().chain(self.find_in(&self.aliases, name).map(|(other, _)| other));
        (record == name || !others.any(is_nearer)).then_some(target)
    }

    /// Answers for a name with one of its addresses after the other.
    pub fn take_turns(&mut self, name: &Name) {
        self.one_of.insert(name.clone());
    }

    /// How many addresses a name has.
    pub fn count(&self, name: &Name) -> usize {
        self.records.get(name).map_or(0, BTreeSet::len)
    }

    /// An interface endpoint with private DNS: all names of the service (`ssm`, of this Region) lead to it.
    pub fn add_service(&mut self, service: &str, address: IpAddr) {
        self.services.entry(service.to_owned()).or_default().insert(address);
    }

    fn find(&self, name: &Name) -> Option<&BTreeSet<IpAddr>> {
        self.find_in(&self.records, name).map(|(_, found)| found)
    }

    /// What is there for the name, or for the nearest wildcard above it, and under which of them.
    fn find_in<'a, T>(&self, names: &'a BTreeMap<Name, T>, name: &Name) -> Option<(&'a Name, &'a T)> {
        if let Some(found) = names.get_key_value(name) {
            return Some(found);
        }
        let mut above = name.parent();
        while let Some(parent) = above {
            let wildcard = Name::new(&format!("*.{parent}"));
            if let Some(found) = wildcard.and_then(|wildcard| names.get_key_value(&wildcard)) {
                return Some(found);
            }
            // A wildcard does not reach over a zone's start.
            above = if self.zones.contains(&parent) { None } else { parent.parent() };
        }
        None
    }

    /// The most specific zone that a name is in.
    fn zone_of(&self, name: &Name) -> Option<&Name> {
        self.zones.iter().filter(|zone| name.is_in(zone)).max_by_key(|zone| zone.as_str().len())
    }

    fn holds(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }
}

/// What the book says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// One of these addresses of a record, with the next question about it the next.
    OneOf(Name, Vec<IpAddr>),
    /// This name.
    Pointer(Name),
    /// Whatever this name leads to.
    Alias(Name),
    /// There is no such name, as this zone's authority says.
    NoSuchName(Name),
    /// Whoever the host asks may know.
    AskTheHost,
}

/// Every name that is known here.
#[derive(Debug)]
pub struct Book {
    region: String,
    vpcs: Vec<VpcNames>,
    outside: VpcNames,
    attached: BTreeMap<Name, IpAddr>,
    services: ServiceAddresses,
}

impl Book {
    /// The names of these VPCs (in the stack's order), of what is attached, and of AWS's services.
    pub fn new(
        region: &str,
        vpcs: Vec<VpcNames>,
        attachments: &Attachments,
        services: ServiceAddresses,
    ) -> Self {
        let attached = attached(attachments);
        let outside = VpcNames { dns_support: true, ..VpcNames::default() };
        Self { region: region.to_owned(), vpcs, outside, attached, services }
    }

    /// Gives functions outside every VPC names of their own: those of the template's that lead there from everywhere.
    pub fn with_outside(self, outside: VpcNames) -> Self {
        Self { outside, ..self }
    }

    /// The addresses of AWS's services.
    pub fn services(&self) -> &ServiceAddresses {
        &self.services
    }

    /// A VPC's names.
    pub fn vpc(&self, index: usize) -> Option<&VpcNames> {
        self.vpcs.get(index)
    }

    /// Every address that a name leads to, in whichever VPC: where an attached `NAME:PORT` answers.
    pub fn addresses_of(&self, name: &Name) -> BTreeSet<IpAddr> {
        let in_vpcs = self.vpcs.iter().filter_map(|vpc| vpc.find(name).or_else(|| self.endpoint(vpc, name)));
        in_vpcs.flatten().chain(self.attached.get(name)).copied().collect()
    }

    /// Where an interface endpoint with private DNS answers for one of AWS's names in a VPC, unless a private zone there does.
    fn endpoint<'vpc>(&self, vpc: &'vpc VpcNames, name: &Name) -> Option<&'vpc BTreeSet<IpAddr>> {
        let aws = AwsName::read(name.as_str())?;
        let is_here = aws.region.as_ref().is_none_or(|region| *region == self.region);
        vpc.services.get(&aws.service).filter(|_| is_here && vpc.zone_of(name).is_none())
    }

    /// What the name leads to for somebody in that VPC, or in none.
    pub fn look_up(&self, vpc: Option<usize>, name: &Name) -> Answer {
        let vpc = vpc.and_then(|index| self.vpcs.get(index)).unwrap_or(&self.outside);
        if let Some(answer) = reverse(name) {
            return answer.map_or(Answer::AskTheHost, |address| self.pointer(vpc, address, name));
        }
        if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
            return Answer::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(target) = vpc.aliases.get(name) {
            return Answer::Alias(target.clone());
        }
        if let Some((record, found)) = vpc.find_in(&vpc.records, name) {
            let all = found.iter().copied().collect();
            return match vpc.one_of.contains(record) {
                true => Answer::OneOf(record.clone(), all),
                false => Answer::Addresses(all),
            };
        }
        if let Some((_, target)) = vpc.find_in(&vpc.aliases, name) {
            return Answer::Alias(target.clone());
        }
        // An attached server of the service stands behind the endpoint.
        if let Some(found) = self.endpoint(vpc, name) {
            return Answer::Addresses(found.iter().copied().collect());
        }
        if let Some(address) = self.attached.get(name) {
            return Answer::Addresses(vec![*address]);
        }
        if let Some(zone) = vpc.zone_of(name) {
            // The zone itself, and what only leads to its records, are there and have no address.
            return match name == zone
                || vpc.records.keys().chain(vpc.aliases.keys()).any(|one| one.is_in(name))
            {
                true => Answer::Addresses(Vec::new()),
                false => Answer::NoSuchName(zone.clone()),
            };
        }
        if let Some(own) = self.internal(name) {
            let known = own.filter(|address| *address == METADATA || vpc.holds(*address));
            let none = || Answer::NoSuchName(name.parent().unwrap_or_else(|| name.clone()));
            return known.map_or_else(none, |address| Answer::Addresses(vec![address.into()]));
        }
        let Some(aws) = AwsName::read(name.as_str()) else { return Answer::AskTheHost };
        match self.services.address(&aws, name) {
            Some(address) => Answer::Addresses(vec![address.into()]),
            None => Answer::AskTheHost,
        }
    }

    /// The names that a name stands for by `CNAME` records in that VPC, or in none: each is the next one's, at most `most`.
    pub fn cnames(&self, vpc: Option<usize>, name: &Name, most: usize) -> Vec<Name> {
        let vpc = vpc.and_then(|index| self.vpcs.get(index)).unwrap_or(&self.outside);
        std::iter::successors(vpc.cname(name), |next| vpc.cname(next)).take(most).cloned().collect()
    }

    /// The domain of a VPC's own host names: `ec2.internal` in us-east-1, `REGION.compute.internal` elsewhere.
    fn internal_domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        }
    }

    /// The address in a VPC's own host name; the outer `None` when the name is of another domain.
    fn internal(&self, name: &Name) -> Option<Option<Ipv4Addr>> {
        let first = name.as_str().strip_suffix(&self.internal_domain())?.strip_suffix('.')?;
        let address = first.strip_prefix("ip-").and_then(|numbers| numbers.replace('-', ".").parse().ok());
        Some(address.or((first == "instance-data").then_some(METADATA)))
    }

    fn pointer(&self, vpc: &VpcNames, address: IpAddr, name: &Name) -> Answer {
        if let Some(known) = vpc.reverse.get(&address) {
            return Answer::Pointer(known.clone());
        }
        if let Some((known, _)) = self.attached.iter().find(|(_, at)| **at == address) {
            return Answer::Pointer(known.clone());
        }
        let IpAddr::V4(four) = address else { return Answer::AskTheHost };
        if vpc.holds(four) {
            let own = format!("ip-{}.{}", four.to_string().replace('.', "-"), self.internal_domain());
            return Name::new(&own).map_or(Answer::AskTheHost, Answer::Pointer);
        }
        // The host's private network is no business of a function's, and these ranges have no names elsewhere.
        let private = four.is_private() || four.is_loopback() || four.is_link_local();
        let benchmark = four.octets()[0] == 198 && four.octets()[1] & 0xFE == 18;
        match private || benchmark {
            true => Answer::NoSuchName(name.parent().unwrap_or_else(|| name.clone())),
            false => Answer::AskTheHost,
        }
    }
}

/// The addresses that attached names have everywhere.
fn attached(attachments: &Attachments) -> BTreeMap<Name, IpAddr> {
    let mut attached = BTreeMap::new();
    let names = attachments.places.keys().filter_map(|(place, _)| match place {
        Place::Name(name) => Some(name),
        Place::Address(_) => None,
    });
    for name in names {
        let next = u32::try_from(attached.len()).unwrap_or(u32::MAX);
        if next < ATTACHED_MAX {
            attached.entry(name.clone()).or_insert(IpAddr::V4(Ipv4Addr::from(ATTACHED + 1 + next)));
        }
    }
    attached
}

/// Of the attached names that are of an AWS service of this Region, the addresses and the service: routes of gateway endpoints
/// lead there, too.
pub fn service_names(region: &str, attachments: &Attachments) -> BTreeMap<IpAddr, String> {
    let services = attached(attachments).into_iter().filter_map(|(name, address)| {
        let aws = AwsName::read(name.as_str())?;
        let is_here = aws.region.as_ref().is_none_or(|found| found == region);
        (is_here && !aws.service.is_empty()).then_some((address, aws.service))
    });
    services.collect()
}

/// The address that a reverse name asks about: the outer `None` for other names, the inner for what is no whole address.
fn reverse(name: &Name) -> Option<Option<IpAddr>> {
    if let Some(rest) = name.as_str().strip_suffix(".in-addr.arpa") {
        let labels: Vec<&str> = rest.split('.').rev().collect();
        return Some(labels.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4));
    }
    let rest = name.as_str().strip_suffix(".ip6.arpa")?;
    let digits: Vec<&str> = rest.split('.').rev().collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return Some(None);
    }
    Some(u128::from_str_radix(&digits.concat(), 16).ok().map(|bits| IpAddr::V6(bits.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn book() -> Book {
        let mut vpc = VpcNames::new(true, vec!["10.20.0.0/16".parse().unwrap()]);
        vpc.add(name("orders.x.us-east-1.rds.amazonaws.com"), address("10.20.3.9"));
        vpc.add(name("*.shop.internal"), address("10.20.3.10"));
        vpc.add(name("eu.db.stock.internal"), address("10.20.3.12"));
        vpc.add_zone(name("stock.internal"));
        vpc.add(name("a.shop.internal"), address("10.20.3.11"));
        vpc.add_zone(name("shop.internal"));
        vpc.add_alias(name("www.shop.internal"), name("www.example.com"));
        vpc.add_service("ssm", address("10.20.1.4"));
        vpc.add_service("ssm", address("10.20.2.4"));
        let options = ["cache.example.com:443=localhost:1".to_owned(), "b.test:1=localhost:1".to_owned()];
        let attachments = Attachments::parse(&options, None).unwrap();
        let services = ServiceAddresses::new("us-east-1", ["ssm".to_owned()], false);
        Book::new("us-east-1", vec![vpc, VpcNames::new(true, vec![])], &attachments, services)
    }

    fn addresses(vpc: Option<usize>, text: &str) -> Vec<String> {
        match book().look_up(vpc, &name(text)) {
            Answer::Addresses(found) => found.iter().map(IpAddr::to_string).collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn a_vpc_has_names_that_others_do_not_see() {
        assert_eq!(addresses(Some(0), "orders.x.us-east-1.rds.amazonaws.com"), ["10.20.3.9"]);
        assert_ne!(addresses(Some(1), "orders.x.us-east-1.rds.amazonaws.com"), ["10.20.3.9"]);
        assert_eq!(addresses(Some(0), "ssm.us-east-1.amazonaws.com"), ["10.20.1.4", "10.20.2.4"]);
        let public = limits::network::service_address("ssm").to_string();
        assert_eq!(addresses(None, "ssm.us-east-1.amazonaws.com"), [public]);
        assert_ne!(addresses(Some(0), "ssm.eu-west-1.amazonaws.com"), ["10.20.1.4", "10.20.2.4"]);
    }

    #[test]
    fn private_zones_have_wildcards_and_an_end() {
        assert_eq!(addresses(Some(0), "a.shop.internal"), ["10.20.3.11"]);
        assert_eq!(addresses(Some(0), "x.y.shop.internal"), ["10.20.3.10"]);
        for there in ["shop.internal", "db.stock.internal"] {
            assert!(addresses(Some(0), there).is_empty(), "{there}");
        }
        assert_eq!(
            book().look_up(Some(0), &name("b.stock.internal")),
            Answer::NoSuchName(name("stock.internal"))
        );
        assert_eq!(book().look_up(Some(1), &name("a.shop.internal")), Answer::AskTheHost);
    }

    #[test]
    fn attached_names_have_an_address_everywhere() {
        assert_eq!(addresses(Some(1), "cache.example.com"), ["198.19.192.2"]);
        assert_eq!(addresses(None, "b.test"), ["198.19.192.1"]);
        assert_eq!(book().addresses_of(&name("b.test")), [address("198.19.192.1")].into());
        assert_eq!(book().look_up(None, &name("www.example.com")), Answer::AskTheHost);
    }

    #[test]
    fn an_attached_name_of_a_service_leads_to_the_endpoint_where_a_vpc_has_one() {
        let names =
            ["ssm.us-east-1.amazonaws.com", "ssm.us-east-1.api.aws", "ssm-fips.us-east-1.amazonaws.com"];
        let options = names.map(|name| format!("{name}:443=localhost:1"));
        let attachments = Attachments::parse(&options, None).unwrap();
        let mut with = VpcNames::new(true, vec![]);
        with.add(name(names[0]), address("10.20.1.4"));
        with.add_service("ssm", address("10.20.1.4"));
        let vpcs = vec![with, VpcNames::new(true, vec![])];
        let services = ServiceAddresses::new("us-east-1", ["ssm".to_owned()], false);
        let book = Book::new("us-east-1", vpcs, &attachments, services);
        for text in names {
            let Answer::Addresses(inside) = book.look_up(Some(0), &name(text)) else { panic!("{text}") };
            let Answer::Addresses(beside) = book.look_up(Some(1), &name(text)) else { panic!("{text}") };
            assert_eq!(inside, [address("10.20.1.4")], "{text}");
            assert!(beside[0].to_string().starts_with("198.19.19"), "{text}: {beside:?}");
            // The server is at both.
            assert_eq!(book.addresses_of(&name(text)), [inside[0], beside[0]].into(), "{text}");
        }
    }

    #[test]
    fn attached_names_of_a_service_are_known_as_its_own() {
        let options =
            ["s3.us-east-1.amazonaws.com", "carts.s3.amazonaws.com", "s3.eu-west-1.amazonaws.com", "b.test"]
                .map(|name| format!("{name}:443=localhost:1"));
        let attachments = Attachments::parse(&options, None).unwrap();
        let book =
            Book::new("us-east-1", vec![], &attachments, ServiceAddresses::new("us-east-1", [], false));
        let expected = ["carts.s3.amazonaws.com", "s3.us-east-1.amazonaws.com"].map(|text| {
            let addresses = book.addresses_of(&name(text));
            (*addresses.first().unwrap(), "s3".to_owned())
        });
        assert_eq!(service_names("us-east-1", &attachments), expected.into());
    }

    #[test]
    fn addresses_have_names_again() {
        let pointer = |vpc, text: &str| book().look_up(vpc, &name(text));
        assert_eq!(
            pointer(Some(0), "9.3.20.10.in-addr.arpa"),
            Answer::Pointer(name("orders.x.us-east-1.rds.amazonaws.com"))
        );
        assert_eq!(
            pointer(Some(0), "7.7.20.10.in-addr.arpa"),
            Answer::Pointer(name("ip-10-20-7-7.ec2.internal"))
        );
        assert_eq!(addresses(Some(0), "ip-10-20-7-7.ec2.internal"), ["10.20.7.7"]);
        assert!(matches!(pointer(Some(0), "ip-10-9-7-7.ec2.internal"), Answer::NoSuchName(_)));
        assert!(matches!(pointer(None, "1.0.168.192.in-addr.arpa"), Answer::NoSuchName(_)));
        // A wildcard is nobody's name.
        let own = Answer::Pointer(name("ip-10-20-3-10.ec2.internal"));
        assert_eq!(pointer(Some(0), "10.3.20.10.in-addr.arpa"), own);
        assert_eq!(pointer(None, "8.8.8.8.in-addr.arpa"), Answer::AskTheHost);
        assert_eq!(pointer(None, "8.8.in-addr.arpa"), Answer::AskTheHost);
        assert_eq!(pointer(None, "2.192.19.198.in-addr.arpa"), Answer::Pointer(name("cache.example.com")));
    }
}
