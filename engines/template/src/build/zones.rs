//! Hosted zones of Route 53 and their records.

use super::{Builder, Fields, Item};
use crate::problem::{Problem, quoted};
use model::stack::{HostedZone, RecordSet};

/// Longest time to live, seconds (RFC 2181).
const MAX_TTL_S: u32 = i32::MAX as u32;
/// That of records without one: of an alias it is the target's.
const DEFAULT_TTL_S: u32 = 60;
/// Types of records that the resolver answers from private zones.
const ANSWERED: [&str; 3] = ["A", "AAAA", "CNAME"];

impl Builder<'_, '_> {
    pub(super) fn hosted_zone(&mut self, item: &Item<'_>) {
        let Some(name) = item.fields.require("Name", &mut self.problems) else { return };
        let Some(name) = name.string(&mut self.problems).map(domain) else { return };
        let mut vpcs = Vec::new();
        for vpc in item.fields.inners("VPCs", &mut self.problems) {
            vpcs.extend(self.link(&vpc, "VPCId", "AWS::EC2::VPC", true));
        }
        self.stack.hosted_zones.push(HostedZone {
            id: item.id.to_owned(),
            place: item.place(),
            hosted_zone_id: item.reference.to_owned(),
            name,
            vpcs,
            records: Vec::new(),
        });
    }

    /// Puts records into their zones.
    pub(super) fn join_zones(&mut self, items: &[Item<'_>]) {
        for item in items {
            match item.kind {
                "AWS::Route53::RecordSet" => self.record(item, &item.fields, &item.fields),
                "AWS::Route53::RecordSetGroup" => {
                    for record in item.fields.inners("RecordSets", &mut self.problems) {
                        self.record(item, &item.fields, &record);
                    }
                }
                _ => {}
            }
        }
        self.check_zones();
    }

    /// A private zone needs its VPC's `EnableDnsHostnames`, which may have been set without the template.
    fn check_zones(&mut self) {
        for zone in &self.stack.hosted_zones {
            for vpc in self.stack.vpcs.iter().filter(|vpc| vpc.dns_support && !vpc.dns_hostnames) {
                if !zone.vpcs.iter().any(|link| link.logical() == Some(&vpc.id)) {
                    continue;
                }
                let message = format!(
                    "{} is a private zone of {}, which needs EnableDnsHostnames for it",
                    quoted(&zone.id),
                    vpc.id
                );
                let help = "without, Route 53 does not answer its names there; here they are answered";
                self.warnings.push(Problem::at(super::span(zone.place), message).help(help));
            }
        }
    }

    /// One record; its zone is named by `owner`, or by itself.
    fn record(&mut self, item: &Item<'_>, owner: &Fields<'_>, fields: &Fields<'_>) {
        let name = fields.require("Name", &mut self.problems);
        let name = name.and_then(|node| node.string(&mut self.problems).map(domain));
        let kind = fields.require("Type", &mut self.problems);
        let kind = kind.and_then(|node| node.string(&mut self.problems).map(str::to_owned));
        let (Some(name), Some(kind)) = (name, kind) else { return };
        let mut by = |key: &str| {
            fields.string(key, &mut self.problems).or_else(|| owner.string(key, &mut self.problems))
        };
        let (id, zone_name) = (by("HostedZoneId"), by("HostedZoneName").map(|name| domain(&name)));
        if id.is_none() && zone_name.is_none() {
            let problem = Problem::at(fields.span, format!("the record {} is of no zone", quoted(&name)));
            self.problems.push(problem.help("give HostedZoneId or HostedZoneName"));
            return;
        }
        let zone = self.stack.hosted_zones.iter().position(|zone| {
            id.as_ref().is_some_and(|id| *id == zone.hosted_zone_id) || zone_name.as_ref() == Some(&zone.name)
        });
        // Those of zones elsewhere are answered by whoever serves them.
        let Some(zone) = zone else { return };
        let is_private = !self.stack.hosted_zones[zone].vpcs.is_empty();
        if is_private && !ANSWERED.contains(&&*kind) {
            let message = format!("the record {} of type {} is not run", quoted(&name), quoted(&kind));
            let problem = Problem::at(fields.span, message);
            let to = if self.resolver.scope.inputs.strict { &mut self.problems } else { &mut self.warnings };
            to.push(problem.help(format!("{} are answered", ANSWERED.join(", "))));
        }
        let within =
            |apex: &str| name.strip_suffix(apex).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if !within(&self.stack.hosted_zones[zone].name) {
            let message = format!(
                "the record {} does not lie in the zone {}",
                quoted(&name),
                quoted(&self.stack.hosted_zones[zone].name)
            );
            self.problems.push(Problem::at(fields.span, message));
            return;
        }
        let alias = fields.inner("AliasTarget", &mut self.problems);
        let alias = alias.and_then(|alias| alias.string("DNSName", &mut self.problems));
        // An alias that comes from `DnsEntries` bears its zone in front.
        let alias = alias.map(|name| domain(name.rsplit(':').next().unwrap_or_default()));
        let values = fields.strings("ResourceRecords", &mut self.problems);
        if alias.is_none() && values.is_empty() {
            let problem = Problem::at(fields.span, format!("the record {} has no value", quoted(&name)));
            self.problems.push(problem.help("give ResourceRecords or AliasTarget"));
            return;
        }
        let ttl = fields.number("TTL", "seconds", 0..=MAX_TTL_S, &mut self.problems);
        self.stack.hosted_zones[zone].records.push(RecordSet {
            id: item.id.to_owned(),
            place: super::place(fields.span),
            name,
            record_type: kind,
            ttl_s: ttl.unwrap_or(DEFAULT_TTL_S),
            values,
            alias,
        });
    }
}

/// A domain as it is compared: lower case, without the dot at its end, `\052` as a star.
fn domain(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase().replace("\\052", "*")
}
