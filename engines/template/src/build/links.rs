//! From ids, names and ARNs back to the resources that bear them.

use super::{Builder, Fields};
use crate::problem::Problem;
use crate::resolve::Resolver;
use crate::yaml::Node;
use model::stack::{FunctionTarget, Link};
use std::collections::BTreeMap;

/// Resources by type and by what they are called.
pub(super) struct Links {
    by_name: BTreeMap<(&'static str, String), String>,
}

/// Types that others point at.
const LINKED: &[&str] = &[
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::EC2::VPC",
    "AWS::EC2::Subnet",
    "AWS::EC2::RouteTable",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::NatGateway",
    "AWS::EC2::EIP",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::NetworkAcl",
    "AWS::EC2::VPCEndpoint",
    "AWS::EC2::NetworkInterface",
    "AWS::EC2::Instance",
    "AWS::EC2::VPCPeeringConnection",
    "AWS::EC2::TransitGateway",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGateway::UsagePlan",
    "AWS::ApiGateway::ApiKey",
    "AWS::RDS::DBInstance",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBSubnetGroup",
    "AWS::RDS::DBParameterGroup",
    "AWS::RDS::DBProxy",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::SecretsManager::Secret",
];

impl Links {
    pub(super) fn of(resolver: &Resolver<'_>) -> Self {
        let mut by_name = BTreeMap::new();
        for (index, resource) in resolver.resources.iter().enumerate().filter(|(_, resource)| resource.active)
        {
            let Some(kind) = LINKED.iter().copied().find(|kind| *kind == resource.kind) else { continue };
            let mut add = |name: String| {
                by_name.entry((kind, name)).or_insert_with(|| resource.id.clone());
            };
            add(resource.reference.clone());
            let identity = resolver.identity(index);
            match kind {
                "AWS::Lambda::Function" | "AWS::SecretsManager::Secret" | "AWS::RDS::DBInstance" => {
                    add(identity.arn());
                    add(identity.name());
                }
                "AWS::EC2::EIP" => add(identity.allocation_id()),
                "AWS::EC2::VPC" => {
                    by_name.insert(
                        ("AWS::EC2::NetworkAcl", identity.default_network_acl()),
                        super::acl::default_acl_id(&resource.id),
                    );
                    by_name.insert(
                        ("AWS::EC2::SecurityGroup", identity.default_security_group()),
                        default_group(&resource.id),
                    );
                }
                _ => {}
            }
        }
        Self { by_name }
    }

    /// What `text` is called in the template, for one type.
    pub(super) fn to(&self, kind: &'static str, text: &str) -> Link {
        match self.by_name.get(&(kind, text.to_owned())) {
            Some(id) => Link::Logical(id.clone()),
            None => Link::Literal(text.to_owned()),
        }
    }

    /// A resource of the template that is called `text` but is of another type: `(type, logical id)`. Only ids that EC2
    /// gives tell by themselves what they are.
    pub(super) fn other(&self, kind: &str, text: &str) -> Option<(&'static str, &str)> {
        const PREFIXES: &[&str] =
            &["vpc-", "subnet-", "rtb-", "igw-", "nat-", "sg-", "vpce-", "acl-", "eipalloc-"];
        if !PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return None;
        }
        let others = LINKED.iter().copied().filter(|other| *other != kind);
        others
            .into_iter()
            .find_map(|other| self.by_name.get(&(other, text.to_owned())).map(|id| (other, id.as_str())))
    }

    /// A function by name, partial or full ARN, or the address that API Gateway uses; perhaps with a qualifier.
    pub(super) fn function(&self, text: &str) -> FunctionTarget {
        const KIND: &str = "AWS::Lambda::Function";
        let text = text.split_once("/functions/").map_or(text, |(_, rest)| {
            let ends = ["/invocations", "/response-streaming-invocations"];
            ends.iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest)
        });
        if let whole @ Link::Logical(_) = self.to(KIND, text) {
            return FunctionTarget { function: whole, qualifier: None };
        }
        if let Some((function, qualifier)) = text.rsplit_once(':')
            && let function @ Link::Logical(_) = self.to(KIND, function)
        {
            return FunctionTarget { function, qualifier: Some(qualifier.to_owned()) };
        }
        // `ACCOUNT:function:NAME[:QUALIFIER]`, or an ARN of another partition's spelling.
        if let Some((_, rest)) = text.split_once(":function:").or_else(|| text.split_once("function:")) {
            let (name, qualifier) = match rest.split_once(':') {
                Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
                None => (rest, None),
            };
            if let function @ Link::Logical(_) = self.to(KIND, name) {
                return FunctionTarget { function, qualifier };
            }
        }
        FunctionTarget { function: Link::Literal(text.to_owned()), qualifier: None }
    }
}

impl Builder<'_, '_> {
    /// A property that points at a resource of `kind`.
    pub(super) fn link(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        kind: &'static str,
        required: bool,
    ) -> Option<Link> {
        let node = if required { fields.require(key, &mut self.problems)? } else { fields.get(key)? };
        self.link_of(node, kind)
    }

    /// A property that lists resources of `kind`.
    pub(super) fn links_to(&mut self, fields: &Fields<'_>, key: &str, kind: &'static str) -> Vec<Link> {
        let items = fields.items(key, &mut self.problems);
        items.into_iter().filter_map(|node| self.link_of(node, kind)).collect()
    }

    /// Where a value points; that it points at a resource of another type is a problem.
    pub(super) fn link_of(&mut self, node: &Node, kind: &'static str) -> Option<Link> {
        let text = node.string(&mut self.problems)?;
        let link = self.links.to(kind, text);
        if link.logical().is_none()
            && let Some(other) = self.links.other(kind, text)
        {
            let message = format!("expected {kind}, found {} ({})", other.1, other.0);
            self.problems.push(Problem::at(node.span, message));
            return None;
        }
        Some(link)
    }
}

/// The id of a VPC's own security group.
pub(super) fn default_group(vpc: &str) -> String {
    format!("{vpc}.DefaultSecurityGroup")
}
