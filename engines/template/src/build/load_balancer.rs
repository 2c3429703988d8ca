//! Load balancers: their addresses' place in the VPC, and which functions their listeners lead to. They are not run.

use super::{Builder, Fields, Item, choice};
use crate::problem::{Problem, quoted};
use crate::yaml::Node;
use model::stack::{BalancerKind, FunctionTarget, LoadBalancer, LoadBalancerRoute};
use std::collections::BTreeMap;

pub(super) const LOAD_BALANCER: &str = "AWS::ElasticLoadBalancingV2::LoadBalancer";
const KINDS: &[(&str, BalancerKind)] = &[
    ("application", BalancerKind::Application),
    ("network", BalancerKind::Network),
    ("gateway", BalancerKind::Gateway),
];

impl Builder<'_, '_> {
    /// Joins listeners and their rules to load balancers, where they lead to functions.
    pub(super) fn join_load_balancers(&mut self, items: &[Item<'_>]) {
        let mut groups: BTreeMap<&str, FunctionTarget> = BTreeMap::new();
        for item in items.iter().filter(|item| item.kind == "AWS::ElasticLoadBalancingV2::TargetGroup") {
            if item.fields.string("TargetType", &mut self.problems).as_deref() != Some("lambda") {
                continue;
            }
            // A target group has one function.
            let target = item.fields.inners("Targets", &mut self.problems).into_iter().next();
            let target = target.and_then(|target| target.string("Id", &mut self.problems));
            if let Some(target) = target {
                groups.insert(item.reference, self.links.function(&target));
            }
        }
        let balancers = items.iter().filter(|item| item.kind == LOAD_BALANCER);
        let mut balancers: Vec<(&str, LoadBalancer)> =
            balancers.map(|item| (item.reference, self.load_balancer(item))).collect();
        let mut listeners: BTreeMap<&str, usize> = BTreeMap::new();
        for item in items.iter().filter(|item| item.kind == "AWS::ElasticLoadBalancingV2::Listener") {
            let arn = item.fields.string("LoadBalancerArn", &mut self.problems).unwrap_or_default();
            let Some(at) = balancers.iter().position(|(reference, _)| is(reference, &arn)) else { continue };
            listeners.insert(item.reference, at);
            let port = item.fields.number("Port", "", 1..=65_535, &mut self.problems);
            balancers[at].1.ports.extend(port.and_then(|port| u16::try_from(port).ok()));
            if let Some(target) = self.forwards(&item.fields, "DefaultActions", &groups) {
                balancers[at].1.routes.push(LoadBalancerRoute { path: None, target });
            }
        }
        for item in items.iter().filter(|item| item.kind == "AWS::ElasticLoadBalancingV2::ListenerRule") {
            let arn = item.fields.string("ListenerArn", &mut self.problems).unwrap_or_default();
            let listener = listeners.iter().find(|(reference, _)| is(reference, &arn));
            let Some(at) = listener.map(|(_, at)| *at) else { continue };
            let Some(target) = self.forwards(&item.fields, "Actions", &groups) else { continue };
            for condition in item.fields.inners("Conditions", &mut self.problems) {
                let inner = condition.inner("PathPatternConfig", &mut self.problems);
                let values = inner.as_ref().unwrap_or(&condition).strings("Values", &mut self.problems);
                let is_path = condition.get("Field").and_then(Node::as_str) == Some("path-pattern");
                for path in values.into_iter().filter(|_| is_path) {
                    let stars = path.strip_suffix("/*").unwrap_or(&path).contains(['*', '?']);
                    if stars {
                        let message = format!("the path pattern {} is not planned", quoted(&path));
                        self.warnings.push(Problem::at(condition.span, message).help("/cart or /cart/*"));
                        continue;
                    }
                    let target = target.clone();
                    balancers[at].1.routes.push(LoadBalancerRoute { path: Some(path), target });
                }
            }
        }
        self.stack.load_balancers = balancers.into_iter().map(|(_, balancer)| balancer).collect();
    }

    fn load_balancer(&mut self, item: &Item<'_>) -> LoadBalancer {
        let fields = &item.fields;
        let kind = fields.get("Type").and_then(|node| choice(node, KINDS, &mut self.problems));
        const SCHEMES: &[(&str, bool)] = &[("internet-facing", false), ("internal", true)];
        let internal = fields.get("Scheme").and_then(|node| choice(node, SCHEMES, &mut self.problems));
        let mut subnets = self.links_to(fields, "Subnets", "AWS::EC2::Subnet");
        for mapping in fields.inners("SubnetMappings", &mut self.problems) {
            subnets.extend(self.link(&mapping, "SubnetId", "AWS::EC2::Subnet", true));
        }
        LoadBalancer {
            id: item.id.to_owned(),
            place: item.place(),
            kind: kind.unwrap_or(BalancerKind::Application),
            internal: internal.unwrap_or(false),
            dns_name: self.resolver.identity(item.index).balancer_name(),
            subnets,
            security_groups: self.links_to(fields, "SecurityGroups", "AWS::EC2::SecurityGroup"),
            ports: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// The function that the first forwarding action leads to.
    fn forwards(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        groups: &BTreeMap<&str, FunctionTarget>,
    ) -> Option<FunctionTarget> {
        fields.inners(key, &mut self.problems).into_iter().find_map(|action| {
            let config = action.inner("ForwardConfig", &mut self.problems);
            let several = config.map(|config| config.inners("TargetGroups", &mut self.problems));
            let group = several.and_then(|several| several.into_iter().next()).unwrap_or(action);
            let arn = group.string("TargetGroupArn", &mut self.problems)?;
            groups.iter().find(|(reference, _)| is(reference, &arn)).map(|(_, target)| target.clone())
        })
    }
}

/// Whether `text` is a resource's `Ref` or its ARN by `Fn::GetAtt`.
fn is(reference: &str, text: &str) -> bool {
    text.strip_prefix(reference)
        .is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && rest.ends_with("Arn")))
}
