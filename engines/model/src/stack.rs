//! What a template describes, resolved: functions, doors, networks and databases, each with its place in the text.
//!
//! Everything is a plain value that can be written as JSON. Names are AWS's. Where one resource points at another,
//! a [`Link`] says whether the other one is in the same template.

mod acl;
mod api;
mod cidr;
mod database;
mod dynamic;
mod flow_log;
mod function;
mod network;
mod zone;

pub use acl::{AnyCidr, NetworkAcl, NetworkAclAssociation, NetworkAclEntry};
pub use api::{
    ApiKey, ApiRoute, Authorizer, AuthorizerKind, BalancerKind, CacheSettings, Cors, EndpointType, HttpApi,
    IdentitySource, Integration, IntegrationKind, LoadBalancer, LoadBalancerRoute, MockResponse, PlanStage,
    Protocol, Quota, RestApi, Stage, StageCache, Throttle, UsagePlan,
};
pub use cidr::{Address, BadRange, Cidr, Cidr6, Range};
pub use database::{
    Cache, DbClusterPart, DbInstance, DbParameterGroup, DbProxy, DbProxyAuth, DbProxyTargetGroup,
    DbSubnetGroup, GenerateSecret, Secret, SsmParameter,
};
pub use dynamic::{DynamicReference, DynamicService};
pub use flow_log::{BadLogFormat, Field, FlowLog, LogFormat, Logged, TrafficType};
pub use function::{
    Alias, Architecture, AuthType, Code, DockerBuild, EventInvokeConfig, Function, FunctionTarget,
    FunctionUrl, ImageConfig, InvokeMode, Layer, PackageType, Permission, Role, Version, VpcConfig,
};
pub use network::{
    Destination, EgressOnlyInternetGateway, ElasticIp, EndpointKind, InternetGateway, NatGateway, Peer,
    PrefixList, Route, RouteTable, RouteTableAssociation, RouteTarget, SecurityGroup, SecurityGroupRule,
    Subnet, TransportProtocol, Vpc, VpcEndpoint, VpcPeeringConnection,
};
pub use zone::{HostedZone, RecordSet};

use serde::Serialize;
use std::collections::BTreeMap;

/// Where something is defined in the template's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// First byte, from the text's start.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// How one resource points at another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// The logical id of a resource of this template.
    Logical(String),
    /// Something outside the template: an id, a name or an ARN as written.
    Literal(String),
}

impl Link {
    /// The logical id, when it points into the template.
    pub fn logical(&self) -> Option<&str> {
        match self {
            Self::Logical(id) => Some(id),
            Self::Literal(_) => None,
        }
    }

    /// The logical id or the literal.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Logical(text) | Self::Literal(text) => text,
        }
    }
}

/// A resource of a type that Onrush does not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherResource {
    /// Logical id.
    pub id: String,
    /// `AWS::DynamoDB::Table` and the like.
    pub resource_type: String,
    /// What `Ref` gives for it here.
    pub physical_id: String,
    /// Where it is defined.
    pub place: Place,
}

/// One of the template's outputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Output {
    /// Its name.
    pub id: String,
    /// Its value.
    pub value: String,
    /// The value with AWS host names of this stack's doors replaced by where they answer here, if there are any.
    pub local_url: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// The name under which other stacks may import it.
    pub export: Option<String>,
    /// Where it is defined.
    pub place: Place,
}

/// All that a template describes, in the template's order, after parameters, conditions and references.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stack {
    /// The stack's name.
    pub name: String,
    /// `us-east-1` and the like.
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
    /// The template's description.
    pub description: Option<String>,
    /// The Region's zones, as `Fn::GetAZs` gives them.
    pub availability_zones: Vec<String>,
    /// Lambda functions.
    pub functions: Vec<Function>,
    /// Published versions that the template names.
    pub versions: Vec<Version>,
    /// Aliases, also those that `AutoPublishAlias` makes.
    pub aliases: Vec<Alias>,
    /// Function URLs, also those of `FunctionUrlConfig`.
    pub function_urls: Vec<FunctionUrl>,
    /// Layer versions.
    pub layers: Vec<Layer>,
    /// Who may invoke what.
    pub permissions: Vec<Permission>,
    /// Roles: read, not evaluated.
    pub roles: Vec<Role>,
    /// API Gateway v2 APIs.
    pub http_apis: Vec<HttpApi>,
    /// API Gateway v1 APIs.
    pub rest_apis: Vec<RestApi>,
    /// Load balancers; they are not run.
    pub load_balancers: Vec<LoadBalancer>,
    /// Usage plans.
    pub usage_plans: Vec<UsagePlan>,
    /// API keys.
    pub api_keys: Vec<ApiKey>,
    /// VPCs.
    pub vpcs: Vec<Vpc>,
    /// Subnets.
    pub subnets: Vec<Subnet>,
    /// Route tables.
    pub route_tables: Vec<RouteTable>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Which subnet uses which route table.
    pub route_table_associations: Vec<RouteTableAssociation>,
    /// Internet gateways.
    pub internet_gateways: Vec<InternetGateway>,
    /// NAT gateways.
    pub nat_gateways: Vec<NatGateway>,
    /// Elastic IP addresses.
    pub elastic_ips: Vec<ElasticIp>,
    /// Security groups, also the default one of each VPC (`{Vpc}.DefaultSecurityGroup`).
    pub security_groups: Vec<SecurityGroup>,
    /// VPC endpoints.
    pub vpc_endpoints: Vec<VpcEndpoint>,
    /// Network ACLs, also the default one of each VPC (`{Vpc}.DefaultNetworkAcl`).
    pub network_acls: Vec<NetworkAcl>,
    /// Which subnet has which network ACL.
    pub network_acl_associations: Vec<NetworkAclAssociation>,
    /// Egress-only internet gateways.
    pub egress_only_gateways: Vec<EgressOnlyInternetGateway>,
    /// Peering connections.
    pub peerings: Vec<VpcPeeringConnection>,
    /// Prefix lists.
    pub prefix_lists: Vec<PrefixList>,
    /// Flow logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flow_logs: Vec<FlowLog>,
    /// Hosted zones.
    pub hosted_zones: Vec<HostedZone>,
    /// Database instances.
    pub db_instances: Vec<DbInstance>,
    /// Database subnet groups.
    pub db_subnet_groups: Vec<DbSubnetGroup>,
    /// Database parameter groups.
    pub db_parameter_groups: Vec<DbParameterGroup>,
    /// Database proxies.
    pub db_proxies: Vec<DbProxy>,
    /// What the proxies lead to.
    pub db_proxy_target_groups: Vec<DbProxyTargetGroup>,
    /// Caches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// SSM parameters.
    pub ssm_parameters: Vec<SsmParameter>,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// Outputs.
    pub outputs: Vec<Output>,
    /// Resources of types that Onrush does not run.
    pub others: Vec<OtherResource>,
    /// Every resource's type by its logical id, also of those that the SAM transform makes.
    #[serde(skip)]
    pub types: BTreeMap<String, String>,
    /// Functions that custom resources name as their provider, by logical id: a deployment calls them, nobody else does.
    #[serde(skip)]
    pub providers: Vec<String>,
}

impl Stack {
    /// The function with this logical id.
    pub fn function(&self, id: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.id == id)
    }

    /// The function with this logical id, name or ARN (unqualified).
    pub fn find_function(&self, word: &str) -> Option<&Function> {
        self.functions
            .iter()
            .find(|function| function.id == word || function.name == word || function.arn == word)
    }

    /// The id of the VPC that subnets from outside are of: the one from outside that the template names, where it is one.
    pub fn outside_vpc(&self) -> Option<&str> {
        let subnets = self.subnets.iter().map(|subnet| &subnet.vpc);
        let groups = self.security_groups.iter().filter_map(|group| group.vpc.as_ref());
        let endpoints = self.vpc_endpoints.iter().map(|endpoint| &endpoint.vpc);
        let logs = self.flow_logs.iter().filter_map(|log| match &log.of {
            Logged::Vpc(link) => Some(link),
            Logged::Subnet(_) | Logged::NetworkInterface(_) => None,
        });
        let all = subnets.chain(groups).chain(endpoints).chain(logs);
        let mut outside = all.filter(|link| link.logical().is_none()).map(Link::as_str);
        let first = outside.next()?;
        outside.all(|other| other == first).then_some(first)
    }

    /// The subnet with this logical id.
    pub fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id)
    }

    /// The security group with this logical id.
    pub fn security_group(&self, id: &str) -> Option<&SecurityGroup> {
        self.security_groups.iter().find(|group| group.id == id)
    }

    /// The route table that decides for a subnet: its own association, else none (the VPC's main table, which has
    /// only the local route).
    pub fn route_table_of(&self, subnet_id: &str) -> Option<&RouteTable> {
        let link = self.route_table_associations.iter().find(|a| a.subnet.logical() == Some(subnet_id))?;
        self.route_tables.iter().find(|table| Some(table.id.as_str()) == link.route_table.logical())
    }

    /// The routes of a table, in the template's order.
    pub fn routes_of<'stack>(&'stack self, table_id: &'stack str) -> impl Iterator<Item = &'stack Route> {
        self.routes.iter().filter(move |route| route.route_table.logical() == Some(table_id))
    }
}
