//! Caches of ElastiCache: what leads to them. They are not run.

use super::{Builder, Item};
use model::stack::{Cache, Link};

const SUBNET_GROUP: &str = "AWS::ElastiCache::SubnetGroup";

/// The property with the security groups of a cache of this type; `None` for what is no cache.
fn groups_key(kind: &str) -> Option<&'static str> {
    match kind {
        "AWS::ElastiCache::CacheCluster" => Some("VpcSecurityGroupIds"),
        "AWS::ElastiCache::ReplicationGroup" | "AWS::ElastiCache::ServerlessCache" => {
            Some("SecurityGroupIds")
        }
        _ => None,
    }
}

/// Whether a resource is read by [`Builder::join_caches`].
pub(super) fn is_cache(item: &Item<'_>) -> bool {
    item.kind == SUBNET_GROUP || groups_key(item.kind).is_some()
}

impl Builder<'_, '_> {
    /// Builds the caches, each in the subnets of its group.
    pub(super) fn join_caches(&mut self, items: &[Item<'_>]) {
        for item in items {
            let Some(key) = groups_key(item.kind) else { continue };
            let fields = &item.fields;
            let mut subnets = self.links_to(fields, "SubnetIds", "AWS::EC2::Subnet");
            let group = self.link(fields, "CacheSubnetGroupName", SUBNET_GROUP, false);
            let is_its = |other: &&Item<'_>| {
                other.kind == SUBNET_GROUP && Some(other.id) == group.as_ref().and_then(Link::logical)
            };
            if let Some(group) = items.iter().find(is_its) {
                subnets.extend(self.links_to(&group.fields, "SubnetIds", "AWS::EC2::Subnet"));
            }
            let security_groups = self.links_to(fields, key, "AWS::EC2::SecurityGroup");
            let identity = self.resolver.identity(item.index);
            self.stack.caches.push(Cache {
                id: item.id.to_owned(),
                place: item.place(),
                names: identity.cache_names(),
                ports: identity.cache_ports(),
                subnets,
                security_groups,
            });
        }
    }
}
