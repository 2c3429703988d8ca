//! What AWS asks of the zones of subnets: one subnet in each for an interface endpoint, two zones for databases.

use super::{Builder, Item, span};
use crate::intrinsic::Call;
use crate::problem::{Problem, quoted};
use crate::yaml::Node;
use model::name::zone_id;
use model::stack::{EndpointKind, Link};
use std::collections::BTreeMap;

impl Builder<'_, '_> {
    /// Looks at subnets that name their zone: AWS chooses one for those that do not, and for whoever asks them for theirs.
    pub(super) fn check_availability_zones(&mut self, items: &[Item<'_>]) {
        let is_given = |item: &&Item<'_>| {
            let written = self.resolver.resources[item.index].properties.get("AvailabilityZone");
            let asked = written.and_then(Call::of).is_some_and(|call| call.name == "GetAtt");
            let zone = item.fields.get("AvailabilityZone").and_then(Node::as_str);
            !asked && zone.is_some_and(|zone| !zone.is_empty())
        };
        let given = items.iter().filter(is_given);
        let zones = given.filter_map(|item| Some((item.id, &*self.stack.subnet(item.id)?.availability_zone)));
        let zones: BTreeMap<&str, &str> = zones.collect();
        let of = |link: &Link| {
            link.logical().and_then(|id| zones.get_key_value(id)).map(|(id, zone)| (*id, *zone))
        };
        let mut problems = Vec::new();
        for endpoint in self.stack.vpc_endpoints.iter().filter(|found| found.kind == EndpointKind::Interface)
        {
            let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
            for (id, zone) in endpoint.subnets.iter().filter_map(of) {
                let Some(before) = seen.insert(zone, id) else { continue };
                let message =
                    format!("{} stands twice in {zone}: in {before} and in {id}", quoted(&endpoint.id));
                let help = "AWS says: Found another VPC endpoint subnet in the availability zone \
                            (DuplicateSubnetsInSameZone)";
                problems.push(Problem::at(span(endpoint.place), message).help(help));
            }
        }
        // An Outpost has one zone, and a Local Zone is none of the Region's.
        for group in self.stack.db_subnet_groups.iter().filter(|group| group.subnets.len() > 1) {
            let Some((_, first)) = group.subnets.first().and_then(of) else { continue };
            let is_of_outpost = |link: &Link| {
                let item = items.iter().find(|item| Some(item.id) == link.logical());
                item.is_some_and(|item| item.fields.get("OutpostArn").is_some())
            };
            let is_alone = group.subnets.iter().all(|link| of(link).is_some_and(|(_, zone)| zone == first));
            if is_alone && zone_id(first).is_some() && !group.subnets.iter().any(is_of_outpost) {
                let message =
                    format!("{} needs subnets in two zones, and has {first} alone", quoted(&group.id));
                let help = "AWS says: The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement \
                            (DBSubnetGroupDoesNotCoverEnoughAZs)";
                problems.push(Problem::at(span(group.place), message).help(help));
            }
        }
        problems.into_iter().for_each(|problem| self.problems.push(problem));
    }
}
