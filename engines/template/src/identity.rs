//! Names, ids, ARNs and attributes: what `Ref` and `Fn::GetAtt` give, made from the stack's name and the logical id
//! alone, so that every run gives the same.

use crate::Inputs;
use crate::yaml::Node;
use model::name::{dns_suffix_of, partition_of};
use model::stack::{BadRange, Cidr};
use std::net::Ipv4Addr;

/// Longest name of a function.
const MAX_FUNCTION_NAME: usize = 64;

/// What `Fn::GetAtt` gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    /// Text.
    Text(String),
    /// A list of text.
    List(Vec<String>),
    /// The type has no such attribute; these it has.
    Unknown(&'static [&'static str]),
}

/// What is needed to name a resource.
pub(crate) struct Identity<'a> {
    /// The stack, Region and account.
    pub(crate) inputs: &'a Inputs,
    /// The Region's zones.
    pub(crate) zones: &'a [String],
    /// Logical id.
    pub(crate) id: &'a str,
    /// The type's name.
    pub(crate) kind: &'a str,
    /// The resolved properties.
    pub(crate) properties: &'a Node,
    /// How many resources of this type come before; of an elastic IP, which address it has.
    pub(crate) number: usize,
}

/// Subnets that name no zone are put into so many, in turn.
const PLACED_ZONES: usize = 3;

const PUBLIC_IPS_FIRST: u32 = u32::from_be_bytes([198, 18, 0, 1]);
const PUBLIC_IPS: u32 = 0x1_fffe;

fn public_ip(number: usize) -> Ipv4Addr {
    (PUBLIC_IPS_FIRST + (number % PUBLIC_IPS as usize) as u32).into()
}

/// The number of the elastic IP that has an address.
pub(crate) fn number_of_public_ip(address: Ipv4Addr) -> Option<usize> {
    let number = u32::from(address).checked_sub(PUBLIC_IPS_FIRST).filter(|number| *number < PUBLIC_IPS)?;
    usize::try_from(number).ok()
}

/// The property that names a resource of this type, if it has one and `Ref` or an ARN shows it.
pub(crate) fn name_property(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "AWS::Lambda::Function" => "FunctionName",
        "AWS::Lambda::Alias" | "AWS::ApiGateway::RestApi" | "AWS::ApiGatewayV2::Api" => "Name",
        "AWS::Lambda::LayerVersion" => "LayerName",
        "AWS::IAM::Role" => "RoleName",
        "AWS::IAM::ManagedPolicy" => "ManagedPolicyName",
        "AWS::IAM::User" => "UserName",
        "AWS::SSM::Parameter"
        | "AWS::SecretsManager::Secret"
        | "AWS::Events::Rule"
        | "AWS::Events::EventBus" => "Name",
        "AWS::ApiGateway::Stage" | "AWS::ApiGatewayV2::Stage" => "StageName",
        "AWS::ApiGateway::ApiKey" => "Name",
        "AWS::ApiGateway::UsagePlan" => "UsagePlanName",
        "AWS::RDS::DBInstance" => "DBInstanceIdentifier",
        "AWS::RDS::DBCluster" => "DBClusterIdentifier",
        "AWS::RDS::DBProxy" => "DBProxyName",
        "AWS::RDS::DBProxyTargetGroup" => "TargetGroupName",
        "AWS::RDS::DBSubnetGroup" => "DBSubnetGroupName",
        "AWS::RDS::DBParameterGroup" => "DBParameterGroupName",
        "AWS::ElastiCache::CacheCluster" => "ClusterName",
        "AWS::ElastiCache::ReplicationGroup" => "ReplicationGroupId",
        "AWS::ElastiCache::ServerlessCache" => "ServerlessCacheName",
        "AWS::ElastiCache::SubnetGroup" => "CacheSubnetGroupName",
        "AWS::S3::Bucket" => "BucketName",
        "AWS::DynamoDB::Table" => "TableName",
        "AWS::SQS::Queue" => "QueueName",
        "AWS::SNS::Topic" => "TopicName",
        "AWS::Logs::LogGroup" => "LogGroupName",
        "AWS::Kinesis::Stream" => "Name",
        "AWS::EC2::SecurityGroup" => "GroupName",
        _ => return None,
    })
}

/// The attributes of the types that are run, for checking and for "did you mean"; nothing for all other types.
pub(crate) fn attributes(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "AWS::Lambda::Function" => {
            &["Arn", "SnapStartResponse", "SnapStartResponse.ApplyOn", "SnapStartResponse.OptimizationStatus"]
        }
        "AWS::Lambda::Version" => &["Version", "FunctionArn"],
        "AWS::Lambda::Alias" => &["AliasArn"],
        "AWS::Lambda::Url" => &["FunctionUrl", "FunctionArn"],
        "AWS::Lambda::LayerVersion" => &["LayerVersionArn"],
        "AWS::IAM::Role" => &["Arn", "RoleId"],
        "AWS::EC2::VPC" => &[
            "VpcId",
            "CidrBlock",
            "DefaultSecurityGroup",
            "DefaultNetworkAcl",
            "CidrBlockAssociations",
            "Ipv6CidrBlocks",
        ],
        "AWS::EC2::Subnet" => &[
            "SubnetId",
            "AvailabilityZone",
            "AvailabilityZoneId",
            "CidrBlock",
            "VpcId",
            "Ipv6CidrBlocks",
            "NetworkAclAssociationId",
            "OutpostArn",
        ],
        "AWS::EC2::RouteTable" => &["RouteTableId"],
        "AWS::EC2::InternetGateway" => &["InternetGatewayId"],
        "AWS::EC2::NatGateway" => &["NatGatewayId"],
        "AWS::EC2::EIP" => &["AllocationId", "PublicIp"],
        "AWS::EC2::SecurityGroup" => &["GroupId", "Id", "VpcId"],
        "AWS::EC2::SecurityGroupIngress"
        | "AWS::EC2::SecurityGroupEgress"
        | "AWS::EC2::FlowLog"
        | "AWS::EC2::SubnetRouteTableAssociation" => &["Id"],
        "AWS::EC2::VPCEndpoint" => &["Id", "DnsEntries", "NetworkInterfaceIds", "CreationTimestamp"],
        "AWS::ApiGatewayV2::Api" => &["ApiEndpoint", "ApiId"],
        "AWS::ApiGateway::RestApi" => &["RootResourceId", "RestApiId"],
        "AWS::ApiGateway::Resource" => &["ResourceId"],
        "AWS::ApiGateway::Deployment" => &["DeploymentId"],
        "AWS::ApiGateway::UsagePlan" => &["Id"],
        "AWS::ApiGateway::ApiKey" => &["APIKeyId"],
        "AWS::RDS::DBInstance" => &[
            "Endpoint.Address",
            "Endpoint.Port",
            "Endpoint.HostedZoneId",
            "DBInstanceArn",
            "DbiResourceId",
            "MasterUserSecret.SecretArn",
        ],
        "AWS::RDS::DBProxy" => &["DBProxyArn", "Endpoint", "VpcId"],
        "AWS::RDS::DBProxyTargetGroup" => &["TargetGroupArn"],
        "AWS::ElastiCache::CacheCluster" => &[
            "RedisEndpoint.Address",
            "RedisEndpoint.Port",
            "ConfigurationEndpoint.Address",
            "ConfigurationEndpoint.Port",
            "Id",
        ],
        "AWS::ElastiCache::ReplicationGroup" => &[
            "PrimaryEndPoint.Address",
            "PrimaryEndPoint.Port",
            "ReaderEndPoint.Address",
            "ReaderEndPoint.Port",
            "ConfigurationEndPoint.Address",
            "ConfigurationEndPoint.Port",
            "ReadEndPoint.Addresses",
            "ReadEndPoint.Addresses.List",
            "ReadEndPoint.Ports",
            "ReadEndPoint.Ports.List",
            "ReplicationGroupId",
        ],
        "AWS::ElastiCache::ServerlessCache" => &[
            "Endpoint.Address",
            "Endpoint.Port",
            "ReaderEndpoint.Address",
            "ReaderEndpoint.Port",
            "ARN",
            "CreateTime",
            "FullEngineVersion",
            "Status",
        ],
        "AWS::SSM::Parameter" => &["Type", "Value"],
        "AWS::SecretsManager::Secret" => &["Id"],
        _ => return None,
    })
}

impl Identity<'_> {
    /// What `Ref` gives.
    pub(crate) fn reference(&self) -> String {
        let hex = |prefix: &str| self.hex(prefix);
        match self.kind {
            "AWS::Lambda::Version" => self.qualified(&self.property("FunctionName"), &self.version()),
            "AWS::Lambda::Alias" => self.qualified(&self.property("FunctionName"), &self.name()),
            "AWS::Lambda::Url" => self.function_arn(&self.property("TargetFunctionArn")),
            "AWS::Lambda::LayerVersion" | "AWS::SecretsManager::Secret" | "AWS::SNS::Topic" => self.arn(),
            "AWS::IAM::ManagedPolicy" | "AWS::RDS::DBProxyTargetGroup" => self.arn(),
            "AWS::SecretsManager::SecretTargetAttachment" => self.property("SecretId"),
            "AWS::SQS::Queue" => {
                let Inputs { region, account_id, .. } = self.inputs;
                format!("https://sqs.{region}.amazonaws.com/{account_id}/{}", self.name())
            }
            "AWS::EC2::VPC" => hex("vpc"),
            "AWS::EC2::Subnet" => hex("subnet"),
            "AWS::EC2::RouteTable" => hex("rtb"),
            "AWS::EC2::SubnetRouteTableAssociation" => hex("rtbassoc"),
            "AWS::EC2::InternetGateway" => hex("igw"),
            "AWS::EC2::EgressOnlyInternetGateway" => hex("eigw"),
            "AWS::EC2::VPNGateway" => hex("vgw"),
            "AWS::EC2::FlowLog" => hex("fl"),
            "AWS::EC2::NatGateway" => hex("nat"),
            "AWS::EC2::SecurityGroup" => hex("sg"),
            "AWS::EC2::SecurityGroupIngress" | "AWS::EC2::SecurityGroupEgress" => hex("sgr"),
            "AWS::EC2::VPCEndpoint" => hex("vpce"),
            "AWS::EC2::NetworkAcl" => hex("acl"),
            "AWS::EC2::NetworkInterface" => hex("eni"),
            "AWS::EC2::Instance" => hex("i"),
            "AWS::EC2::TransitGateway" => hex("tgw"),
            "AWS::EC2::VPCPeeringConnection" => hex("pcx"),
            "AWS::EC2::PrefixList" => hex("pl"),
            "AWS::EC2::SubnetNetworkAclAssociation" => hex("aclassoc"),
            "AWS::EC2::VPCCidrBlock" => hex("vpc-cidr-assoc"),
            "AWS::Route53::HostedZone" => format!("Z{}", self.letters("zone", 19).to_uppercase()),
            "AWS::Route53::RecordSet" => self.property("Name"),
            "AWS::EC2::EIP" => self.public_ip().to_string(),
            "AWS::ApiGateway::RestApi"
            | "AWS::ApiGatewayV2::Api"
            | "AWS::ApiGateway::Resource"
            | "AWS::ApiGateway::Deployment"
            | "AWS::ApiGateway::UsagePlan"
            | "AWS::ApiGateway::ApiKey"
            | "AWS::ApiGatewayV2::Integration"
            | "AWS::ApiGatewayV2::Route"
            | "AWS::ApiGatewayV2::Deployment"
            | "AWS::ApiGatewayV2::Authorizer"
            | "AWS::ApiGateway::Authorizer" => self.letters(self.kind, 10),
            _ => self.name(),
        }
    }

    /// What `Fn::GetAtt` gives for `attribute`.
    pub(crate) fn attribute(&self, attribute: &str) -> Attribute {
        if let Some(known) = attributes(self.kind)
            && !known.contains(&attribute)
        {
            return Attribute::Unknown(known);
        }
        if self.kind.starts_with("AWS::ElastiCache::")
            && let Some(text) = self.cache_endpoint(attribute)
        {
            return if attribute.ends_with(".List") {
                Attribute::List(vec![text])
            } else {
                Attribute::Text(text)
            };
        }
        let Inputs { region, port, .. } = self.inputs;
        Attribute::Text(match (self.kind, attribute) {
            ("AWS::EC2::VPC", "CidrBlockAssociations") => {
                return Attribute::List(vec![self.hex("vpc-cidr-assoc")]);
            }
            ("AWS::EC2::VPCEndpoint", "DnsEntries") => {
                let zone = self.letters("zone", 14).to_uppercase();
                return Attribute::List(vec![format!("Z{zone}:{}", self.endpoint_name())]);
            }
            ("AWS::EC2::VPC", "Ipv6CidrBlocks") => {
                return Attribute::List(vec![self.ipv6_block().to_string()]);
            }
            ("AWS::EC2::Subnet", "Ipv6CidrBlocks") => {
                let given = Some(self.property("Ipv6CidrBlock")).filter(|range| !range.is_empty());
                return Attribute::List(given.into_iter().collect());
            }
            (_, "NetworkInterfaceIds") => {
                return Attribute::List(Vec::new());
            }
            ("AWS::Lambda::Version", "Version") => self.version(),
            ("AWS::Lambda::Url", "FunctionUrl") => {
                format!("http://{}.lambda-url.{region}.localhost:{port}/", self.letters("url", 32))
            }
            // "The ARN of the version", as schema and user guide of the type say.
            ("AWS::Lambda::Version", "FunctionArn")
            | ("AWS::Lambda::Alias", "AliasArn")
            | ("AWS::Lambda::Url", "FunctionArn")
            | ("AWS::Lambda::LayerVersion", "LayerVersionArn") => self.reference(),
            ("AWS::Lambda::Function", "SnapStartResponse.ApplyOn") => "None".into(),
            ("AWS::Lambda::Function", "SnapStartResponse.OptimizationStatus") => "Off".into(),
            ("AWS::IAM::Role", "RoleId") => format!("AROA{}", self.letters("role", 17).to_uppercase()),
            ("AWS::EC2::VPC", "DefaultSecurityGroup") => self.default_security_group(),
            ("AWS::EC2::VPC", "DefaultNetworkAcl") => self.default_network_acl(),
            ("AWS::EC2::VPC" | "AWS::EC2::Subnet", "CidrBlock") => {
                let written = self.property("CidrBlock");
                match written.parse::<Cidr>() {
                    Err(BadRange::HostBits(meant)) => meant.to_string(),
                    _ => written,
                }
            }
            ("AWS::EC2::Subnet", "AvailabilityZone") => self.zone(),
            ("AWS::EC2::Subnet", "AvailabilityZoneId") => model::name::zone_id(&self.zone())
                .unwrap_or_else(|| format!("{region}-az{}", self.zone_number() + 1)),
            (_, "VpcId") if self.kind != "AWS::EC2::VPC" => self.property("VpcId"),
            ("AWS::EC2::EIP", "AllocationId") => self.allocation_id(),
            ("AWS::EC2::PrefixList", "PrefixListId") | ("AWS::EC2::NetworkAcl", _) => self.reference(),
            ("AWS::EC2::VPCEndpoint", "CreationTimestamp") => "2020-01-01T00:00:00Z".into(),
            ("AWS::EC2::Subnet", "NetworkAclAssociationId") => self.hex("aclassoc"),
            ("AWS::ApiGatewayV2::Api", "ApiEndpoint") => self.api_url(),
            ("AWS::ApiGateway::RestApi", "RootResourceId") => self.letters("root", 10),
            ("AWS::RDS::DBInstance", "Endpoint.Address") => self.db_address(),
            ("AWS::RDS::DBInstance", "Endpoint.Port") => self.db_port().to_string(),
            ("AWS::RDS::DBInstance", "Endpoint.HostedZoneId") => self.letters("zone", 14).to_uppercase(),
            ("AWS::RDS::DBInstance", "DbiResourceId") => {
                format!("db-{}", self.letters("dbi", 26).to_uppercase())
            }
            ("AWS::RDS::DBInstance", "MasterUserSecret.SecretArn") => {
                self.arn_of("secretsmanager", &format!("secret:rds!db-{}", self.letters("secret", 12)))
            }
            ("AWS::RDS::DBCluster", "Endpoint.Address") => self.cluster_address(false),
            ("AWS::RDS::DBCluster", "ReadEndpoint.Address") => self.cluster_address(true),
            ("AWS::RDS::DBCluster", "Endpoint.Port") => self.db_port().to_string(),
            ("AWS::RDS::DBCluster", "MasterUserSecret.SecretArn") => {
                self.arn_of("secretsmanager", &format!("secret:rds!cluster-{}", self.letters("secret", 12)))
            }
            ("AWS::RDS::DBProxy", "Endpoint") => self.db_address(),
            ("AWS::ElastiCache::ReplicationGroup", "ReplicationGroupId") => self.name(),
            (_, "ARN") => self.arn(),
            ("AWS::ElasticLoadBalancingV2::LoadBalancer", "DNSName") => self.balancer_name(),
            ("AWS::SSM::Parameter", "Value" | "Type") => self.property(attribute),
            ("AWS::SecretsManager::Secret", "Id") => self.arn(),
            (_, "AliasArn" | "DBInstanceArn" | "DBProxyArn" | "TargetGroupArn") => self.arn(),
            (_, "Arn") => self.arn(),
            (
                _,
                "Id" | "VpcId" | "GroupId" | "ApiId" | "RestApiId" | "ResourceId" | "DeploymentId"
                | "APIKeyId",
            ) => self.reference(),
            (
                "AWS::EC2::RouteTable"
                | "AWS::EC2::InternetGateway"
                | "AWS::EC2::NatGateway"
                | "AWS::EC2::VPNGateway",
                _,
            ) => self.reference(),
            ("AWS::EC2::Subnet", "SubnetId") => self.reference(),
            ("AWS::EC2::EIP", "PublicIp") => self.reference(),
            // A type that is not run: something stable that says what it stands for.
            _ => format!("{}.{attribute}", self.reference()),
        })
    }

    /// The resource's name: given, or made from the stack's name and the logical id.
    pub(crate) fn name(&self) -> String {
        let given = name_property(self.kind).map(|key| self.property(key)).filter(|name| !name.is_empty());
        given.unwrap_or_else(|| self.default_name())
    }

    fn default_name(&self) -> String {
        let name = format!("{}-{}", self.inputs.stack_name, self.id);
        match self.kind {
            "AWS::Lambda::LayerVersion" | "AWS::ApiGateway::Stage" | "AWS::ApiGatewayV2::Stage" => {
                self.id.to_owned()
            }
            "AWS::RDS::DBProxyTargetGroup" => "default".to_owned(),
            "AWS::S3::Bucket"
            | "AWS::RDS::DBInstance"
            | "AWS::RDS::DBCluster"
            | "AWS::RDS::DBProxy"
            | "AWS::RDS::DBSubnetGroup"
            | "AWS::RDS::DBParameterGroup"
            | "AWS::ElastiCache::CacheCluster"
            | "AWS::ElastiCache::ReplicationGroup"
            | "AWS::ElastiCache::ServerlessCache"
            | "AWS::ElastiCache::SubnetGroup" => name.to_lowercase(),
            "AWS::Lambda::Function" if name.len() > MAX_FUNCTION_NAME => {
                let kept: String = name.chars().take(MAX_FUNCTION_NAME - 13).collect();
                format!("{kept}-{}", self.letters("name", 12))
            }
            _ => name,
        }
    }

    /// The resource's ARN.
    pub(crate) fn arn(&self) -> String {
        let name = self.name();
        match self.kind {
            "AWS::Lambda::Function" => self.function_arn(&name),
            "AWS::Lambda::LayerVersion" => self.arn_of("lambda", &format!("layer:{name}:1")),
            "AWS::IAM::Role" => self.iam_arn("role", &name),
            "AWS::IAM::ManagedPolicy" => self.iam_arn("policy", &name),
            "AWS::IAM::User" => self.iam_arn("user", &name),
            "AWS::SecretsManager::Secret" => {
                self.arn_of("secretsmanager", &format!("secret:{name}-{}", self.letters("secret", 6)))
            }
            "AWS::RDS::DBInstance" => self.arn_of("rds", &format!("db:{name}")),
            "AWS::RDS::DBProxy" => {
                self.arn_of("rds", &format!("db-proxy:prx-0{:016x}", self.digest("proxy")))
            }
            "AWS::RDS::DBProxyTargetGroup" => {
                self.arn_of("rds", &format!("target-group:prx-tg-0{:016x}", self.digest("target-group")))
            }
            "AWS::S3::Bucket" => format!("arn:{}:s3:::{name}", self.partition()),
            "AWS::DynamoDB::Table" => self.arn_of("dynamodb", &format!("table/{name}")),
            "AWS::SQS::Queue" => self.arn_of("sqs", &name),
            "AWS::SNS::Topic" => self.arn_of("sns", &name),
            "AWS::Logs::LogGroup" => self.arn_of("logs", &format!("log-group:{name}:*")),
            "AWS::Kinesis::Stream" => self.arn_of("kinesis", &format!("stream/{name}")),
            "AWS::Events::Rule" => self.arn_of("events", &format!("rule/{name}")),
            _ => {
                let service = self.kind.split("::").nth(1).unwrap_or("custom").to_lowercase();
                self.arn_of(&service, &name)
            }
        }
    }

    /// A subnet's zone: as given, else the Region's zones in turn.
    pub(crate) fn zone(&self) -> String {
        let given = self.property("AvailabilityZone");
        if given.is_empty() { self.zones.get(self.zone_number()).cloned().unwrap_or_default() } else { given }
    }

    fn zone_number(&self) -> usize {
        let given = self.property("AvailabilityZone");
        let by_name = self.zones.iter().position(|zone| *zone == given);
        by_name.unwrap_or(self.number % self.zones.len().clamp(1, PLACED_ZONES))
    }

    /// `sg-…` of a VPC's own group.
    pub(crate) fn default_security_group(&self) -> String {
        format!("sg-0{:016x}", self.digest("default-security-group"))
    }

    /// `acl-…` of a VPC's own network ACL.
    pub(crate) fn default_network_acl(&self) -> String {
        format!("acl-0{:016x}", self.digest("default-network-acl"))
    }

    /// The /56 that Amazon provides for a VPC: here of 2001:db8::/32, which RFC 3849 keeps off the internet.
    pub(crate) fn ipv6_block(&self) -> model::stack::Cidr6 {
        let number = u128::from(self.digest("ipv6") & 0xff_ffff);
        let first = (0x2001_0db8_u128 << 96) | number << 72;
        model::stack::Cidr6::around(first.into(), 56).expect("a prefix below 129")
    }

    /// `eipalloc-…`.
    pub(crate) fn allocation_id(&self) -> String {
        self.hex("eipalloc")
    }

    /// An address of 198.18.0.0/15, which RFC 2544 keeps off the internet; by number, so that no two are the same.
    pub(crate) fn public_ip(&self) -> Ipv4Addr {
        public_ip(self.number)
    }

    /// Where an API answers here.
    pub(crate) fn api_url(&self) -> String {
        let Inputs { region, port, .. } = self.inputs;
        format!("http://{}.execute-api.{region}.localhost:{port}", self.reference())
    }

    /// Host name of a database or proxy.
    pub(crate) fn db_address(&self) -> String {
        self.db_address_with(if self.kind == "AWS::RDS::DBProxy" { "proxy-" } else { "" })
    }

    /// Host name of a database cluster: of its writer, or of its readers.
    pub(crate) fn cluster_address(&self, reads: bool) -> String {
        self.db_address_with(if reads { "cluster-ro-" } else { "cluster-" })
    }

    fn db_address_with(&self, middle: &str) -> String {
        // The middle label is the same for all databases of an account and Region.
        let Inputs { region, account_id, .. } = self.inputs;
        let customer = base36(digest(&["rds", account_id, region]), 12);
        format!("{}.{middle}{customer}.{region}.rds.{}", self.name(), dns_suffix_of(region))
    }

    /// Host names of a cache: its primary, reader and configuration endpoints, as far as its type has them.
    ///
    /// Source: ElastiCache User Guide, "Finding connection endpoints" (published by example).
    pub(crate) fn cache_names(&self) -> Vec<String> {
        let Inputs { region, account_id, .. } = self.inputs;
        let customer = base36(digest(&["cache", account_id, region]), 6);
        let short = model::name::zone_id(&format!("{region}a"));
        let short =
            short.as_deref().and_then(|zone| zone.split_once('-')).map_or(&**region, |(short, _)| short);
        let end = format!("{short}.cache.{}", dns_suffix_of(region));
        let name = self.name().to_lowercase();
        let configuration = format!("clustercfg.{name}.{customer}.{end}");
        match self.kind {
            "AWS::ElastiCache::ServerlessCache" => vec![format!("{name}-{customer}.serverless.{end}")],
            "AWS::ElastiCache::CacheCluster" if self.is_memcached() => {
                vec![format!("{name}.{customer}.cfg.{end}")]
            }
            "AWS::ElastiCache::CacheCluster" => vec![format!("{name}.{customer}.0001.{end}")],
            _ if self.property("TransitEncryptionEnabled") == "true" => vec![
                format!("master.{name}.{customer}.{end}"),
                format!("replica.{name}.{customer}.{end}"),
                configuration,
            ],
            _ => vec![
                format!("{name}.{customer}.ng.0001.{end}"),
                format!("{name}-ro.{customer}.ng.0001.{end}"),
                configuration,
            ],
        }
    }

    /// A cache's ports: as given, or the engine's; a serverless one reads at the next.
    pub(crate) fn cache_ports(&self) -> Vec<u16> {
        let usual = if self.is_memcached() { 11211 } else { 6379 };
        let port = self.property("Port").parse().unwrap_or(usual);
        match self.kind {
            "AWS::ElastiCache::ServerlessCache" => vec![usual, usual + 1],
            _ => vec![port],
        }
    }

    fn is_memcached(&self) -> bool {
        self.property("Engine") == "memcached"
    }

    /// The address or port of one of a cache's endpoints: `PrimaryEndPoint.Address`.
    fn cache_endpoint(&self, attribute: &str) -> Option<String> {
        let (endpoint, part) = attribute.split_once('.')?;
        let (names, ports) = (self.cache_names(), self.cache_ports());
        let which = match endpoint {
            "ReaderEndPoint" | "ReaderEndpoint" | "ReadEndPoint" => 1,
            "ConfigurationEndPoint" => 2,
            _ => 0,
        };
        match part {
            "Address" | "Addresses" | "Addresses.List" => names.get(which).or(names.first()).cloned(),
            "Port" | "Ports" | "Ports.List" => ports.get(which).or(ports.first()).map(u16::to_string),
            _ => None,
        }
    }

    /// Host name of a VPC endpoint.
    pub(crate) fn endpoint_name(&self) -> String {
        let service = self.property("ServiceName");
        let (id, suffix) = (self.reference(), self.letters("endpoint", 8));
        match service.strip_prefix("com.amazonaws.").and_then(|rest| rest.split_once('.')) {
            Some((region, service)) => {
                let service: Vec<&str> = service.rsplit('.').collect();
                format!("{id}-{suffix}.{}.{region}.vpce.{}", service.join("."), dns_suffix_of(region))
            }
            // com.amazonaws.vpce.REGION.vpce-svc-…: a service of somebody's own.
            None => {
                let region = &self.inputs.region;
                format!("{id}-{suffix}.{service}.{region}.vpce.{}", dns_suffix_of(region))
            }
        }
    }

    /// Host name of a load balancer.
    pub(crate) fn balancer_name(&self) -> String {
        let region = &self.inputs.region;
        let internal = if self.property("Scheme") == "internal" { "internal-" } else { "" };
        let number = self.digest("balancer") % 10_000_000_000;
        let name = Some(self.property("Name")).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("{}-{}", self.inputs.stack_name, self.id)).to_lowercase();
        let end = dns_suffix_of(region);
        match self.property("Type").as_str() {
            "network" => format!("{name}-{:016x}.elb.{region}.{end}", self.digest("balancer")),
            _ => format!("{internal}{name}-{number}.{region}.elb.{end}"),
        }
    }

    /// A database's port: as given, or the engine's.
    pub(crate) fn db_port(&self) -> u16 {
        let engine = self.property("Engine");
        self.property("Port").parse().unwrap_or(match engine.as_str() {
            _ if engine.contains("postgres") => 5432,
            _ if engine.starts_with("oracle") => 1521,
            _ if engine.starts_with("sqlserver") => 1433,
            _ => 3306,
        })
    }

    fn property(&self, key: &str) -> String {
        self.properties.get(key).and_then(Node::as_str).unwrap_or_default().to_owned()
    }

    fn function_arn(&self, function: &str) -> String {
        if function.starts_with("arn:") {
            return function.to_owned();
        }
        self.arn_of("lambda", &format!("function:{function}"))
    }

    /// The number that a version gets on the first deployment.
    fn version(&self) -> String {
        (self.number + 1).to_string()
    }

    fn qualified(&self, function: &str, qualifier: &str) -> String {
        format!("{}:{qualifier}", self.function_arn(function))
    }

    fn arn_of(&self, service: &str, rest: &str) -> String {
        let Inputs { region, account_id, .. } = self.inputs;
        format!("arn:{}:{service}:{region}:{account_id}:{rest}", self.partition())
    }

    fn partition(&self) -> &'static str {
        partition_of(&self.inputs.region)
    }

    fn iam_arn(&self, kind: &str, name: &str) -> String {
        let path =
            Some(self.property("Path")).filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".into());
        format!("arn:{}:iam::{}:{kind}{path}{name}", self.partition(), self.inputs.account_id)
    }

    fn digest(&self, purpose: &str) -> u64 {
        digest(&[&self.inputs.account_id, &self.inputs.region, &self.inputs.stack_name, self.id, purpose])
    }

    fn hex(&self, prefix: &str) -> String {
        format!("{prefix}-0{:016x}", self.digest(prefix))
    }

    /// `length` lower-case letters and digits.
    pub(crate) fn letters(&self, purpose: &str, length: usize) -> String {
        let mut text = String::with_capacity(length);
        let mut round = 0_u32;
        while text.len() < length {
            let wanted = (length - text.len()).min(12);
            text += &base36(self.digest(&format!("{purpose}#{round}")), wanted);
            round += 1;
        }
        text
    }
}

/// FNV-1a with a final mix: any fixed function of good spread does; it need not resist an attacker.
fn digest(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// At most 12 digits, for 36^12 < 2^63.
fn base36(mut value: u64, length: usize) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        text.push(char::from(DIGITS[(value % 36) as usize]));
        value /= 36;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn with<T>(id: &str, kind: &str, properties: &str, ask: impl FnOnce(&Identity<'_>) -> T) -> T {
        let inputs = Inputs { stack_name: "shop".into(), ..Inputs::default() };
        let document = yaml::parse("t", properties).unwrap();
        let zones = vec!["us-east-1a".to_owned(), "us-east-1b".to_owned()];
        ask(&Identity { inputs: &inputs, zones: &zones, id, kind, properties: &document.root, number: 3 })
    }

    #[test]
    fn names_are_given_or_made() {
        for (kind, properties, expected) in [
            ("AWS::Lambda::Function", "FunctionName: cart", "cart"),
            ("AWS::Lambda::Function", "x: 1", "shop-Thing"),
            ("AWS::RDS::DBInstance", "x: 1", "shop-thing"),
            ("AWS::IAM::Role", "x: 1", "shop-Thing"),
            ("AWS::EC2::EIP", "x: 1", "198.18.0.4"),
            ("AWS::Lambda::LayerVersion", "x: 1", "arn:aws:lambda:us-east-1:000000000000:layer:Thing:1"),
            (
                "AWS::Lambda::Alias",
                "{Name: live, FunctionName: cart}",
                "arn:aws:lambda:us-east-1:000000000000:function:cart:live",
            ),
        ] {
            assert_eq!(with("Thing", kind, properties, |identity| identity.reference()), expected);
        }
        let long = "L".repeat(200);
        assert_eq!(
            with(&long, "AWS::Lambda::Function", "x: 1", |identity| identity.reference()).len(),
            MAX_FUNCTION_NAME
        );
    }

    #[test]
    fn arns_and_host_names_are_of_the_regions_partition() {
        for (region, partition, end) in [
            ("eu-west-1", "aws", "amazonaws.com"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ] {
            let inputs = Inputs { stack_name: "shop".into(), region: region.into(), ..Inputs::default() };
            let document = yaml::parse("t", "{Name: live, FunctionName: cart}").unwrap();
            let zones = vec![format!("{region}a")];
            let of = |kind| Identity {
                inputs: &inputs,
                zones: &zones,
                id: "Thing",
                kind,
                properties: &document.root,
                number: 3,
            };
            for kind in ["AWS::Lambda::Function", "AWS::S3::Bucket", "AWS::IAM::Role", "AWS::SQS::Queue"] {
                let arn = of(kind).arn();
                assert!(arn.starts_with(&format!("arn:{partition}:")), "{arn}");
            }
            assert!(of("AWS::RDS::DBInstance").db_address().ends_with(&format!(".{region}.rds.{end}")));
            assert!(of("AWS::ElasticLoadBalancingV2::LoadBalancer").balancer_name().ends_with(end));
        }
    }

    #[test]
    fn ids_look_like_those_of_aws_and_differ() {
        let subnet = |id: &str| with(id, "AWS::EC2::Subnet", "x: 1", |identity| identity.reference());
        assert_eq!(subnet("A"), subnet("A"));
        assert_ne!(subnet("A"), subnet("B"));
        assert_eq!(subnet("A").len(), "subnet-".len() + 17);
        let url = with("FUrl", "AWS::Lambda::Url", "x: 1", |identity| identity.attribute("FunctionUrl"));
        let Attribute::Text(url) = url else { panic!("{url:?}") };
        assert_eq!(url.split('.').next().map(str::len), Some("http://".len() + 32));
        assert!(url.ends_with(".lambda-url.us-east-1.localhost:4566/"), "{url}");
    }

    #[test]
    fn every_listed_attribute_has_a_value_of_its_own_kind() {
        for kind in ["AWS::Lambda::Function", "AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::SecurityGroup"]
        {
            for attribute in attributes(kind).unwrap() {
                let value = with("X", kind, "x: 1", |identity| identity.attribute(attribute));
                assert!(!matches!(value, Attribute::Unknown(_)), "{kind}.{attribute}");
            }
            let value = with("X", kind, "x: 1", |identity| identity.attribute("Nope"));
            assert!(matches!(value, Attribute::Unknown(_)));
        }
    }
}
