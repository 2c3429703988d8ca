//! Doors, names, and whatever else a template has: what the network has to do with it.

use super::{View, or_none};
use model::stack::{DbInstance, Link, Logged};

impl View<'_> {
    pub(super) fn of_names(&self, id: &str) -> Option<(String, Vec<String>)> {
        let stack = self.stack;
        let by = |service: String| vec![format!("functions reach it as {service}:443")];
        if let Some(url) = stack.http_apis.iter().find(|api| api.id == id).map(|api| &api.url) {
            let mut lines = vec![format!("a door: clients reach it at {url}; it stands in no VPC")];
            lines.extend(self.service_behind(id).map(by).unwrap_or_default());
            return Some(("an HTTP API".to_owned(), lines));
        }
        if let Some(url) = stack.rest_apis.iter().find(|api| api.id == id).map(|api| &api.url) {
            let mut lines = vec![format!("a door: clients reach it at {url}; it stands in no VPC")];
            lines.extend(self.service_behind(id).map(by).unwrap_or_default());
            return Some(("a REST API".to_owned(), lines));
        }
        if let Some(url) = stack.function_urls.iter().find(|found| found.id == id) {
            let lines = vec![format!(
                "a door to {}: clients reach it at {}; it stands in no VPC",
                url.target.function.as_str(),
                url.url
            )];
            return Some(("a function URL".to_owned(), lines));
        }
        if stack.ssm_parameters.iter().any(|found| found.id == id) {
            return Some(("a parameter of SSM".to_owned(), self.service_behind(id).map(by)?));
        }
        if stack.secrets.iter().any(|found| found.id == id) {
            return Some(("a secret".to_owned(), self.service_behind(id).map(by)?));
        }
        if let Some(balancer) = stack.load_balancers.iter().find(|found| found.id == id) {
            let lines = vec![
                format!("name: {}", balancer.dns_name),
                "faces the internet: functions reach it through a NAT gateway, by its public addresses"
                    .to_owned(),
            ];
            return Some(("a load balancer".to_owned(), lines));
        }
        let zone = stack.hosted_zones.iter().find(|found| found.id == id)?;
        let vpcs: Vec<&str> = zone.vpcs.iter().map(Link::as_str).collect();
        let mut lines = vec![format!("domain: {}", zone.name), format!("seen from: {}", or_none(&vpcs))];
        lines.extend(zone.records.iter().map(|record| {
            let to = record.alias.clone().unwrap_or_else(|| record.values.join(", "));
            format!("{} {} {to}", record.name, record.record_type)
        }));
        Some(("a hosted zone".to_owned(), lines))
    }

    pub(super) fn of_others(&self, id: &str) -> Option<(String, Vec<String>)> {
        if let Some(other) = self.stack.others.iter().find(|found| found.id == id) {
            let lines = match self.service_behind(id) {
                Some(service) => vec![format!("functions reach it as {service}:443")],
                None => vec!["not part of the network that is run here".to_owned()],
            };
            return Some((other.resource_type.clone(), lines));
        }
        let stack = self.stack;
        if stack.roles.iter().any(|role| role.id == id) {
            return Some(("a role".to_owned(), vec!["not part of the network".to_owned()]));
        }
        let records =
            stack.hosted_zones.iter().flat_map(|zone| zone.records.iter().map(move |one| (zone, one)));
        let mut records = records.filter(|(_, record)| record.id == id).peekable();
        if records.peek().is_some() {
            let lines = records.map(|(zone, record)| {
                let to = record.alias.clone().unwrap_or_else(|| record.values.join(", "));
                format!("{} {} {to}, in the zone {}", record.name, record.record_type, zone.id)
            });
            return Some(("a record".to_owned(), lines.collect()));
        }
        if let Some(group) = stack.db_subnet_groups.iter().find(|found| found.id == id) {
            let subnets: Vec<&str> = group.subnets.iter().map(Link::as_str).collect();
            let lines = vec![format!("databases with it stand in one of {}", or_none(&subnets))];
            return Some(("a database subnet group".to_owned(), lines));
        }
        if let Some(log) = stack.flow_logs.iter().find(|found| found.id == id) {
            let (Logged::Vpc(of) | Logged::Subnet(of) | Logged::NetworkInterface(of)) = &log.of;
            let lines = vec![
                format!("of the interfaces in {}: {} traffic", of.as_str(), log.traffic),
                format!("a line for what passes within {} s: {}", log.interval.as_secs(), log.format),
            ];
            return Some(("a flow log".to_owned(), lines));
        }
        if let Some(targets) = stack.db_proxy_target_groups.iter().find(|found| found.id == id) {
            let databases: Vec<&str> =
                targets.instances.iter().chain(&targets.clusters).map(Link::as_str).collect();
            let lines = vec![format!("{} leads to {}", targets.proxy.as_str(), or_none(&databases))];
            return Some(("the targets of a database proxy".to_owned(), lines));
        }
        let part_of = |found: &&DbInstance| found.cluster.as_ref().is_some_and(|part| part.id == id);
        let instances: Vec<&str> =
            stack.db_instances.iter().filter(part_of).map(|found| &*found.id).collect();
        if !instances.is_empty() {
            let lines =
                vec![format!("its instances are {}; its endpoint leads to the first", instances.join(", "))];
            return Some(("a database cluster".to_owned(), lines));
        }
        let kind = stack.types.get(id)?;
        let line = match &**kind {
            "AWS::EC2::VPCCidrBlock" => "a further range of its VPC, which has all its ranges in a row",
            "AWS::ElastiCache::SubnetGroup" => "caches with it stand in the first of its subnets",
            _ => "not part of the network",
        };
        Some((kind.clone(), vec![line.to_owned()]))
    }
}
