//! What is done with each property of the network's types: nothing that a template says of its network is passed over in
//! silence.
//!
//! Source: CloudFormation template reference, "AWS::EC2", "AWS::Route53", "AWS::ElasticLoadBalancingV2". What a property
//! means that is not named here is not known; CloudFormation itself would refuse it ("Encountered unsupported property").

use super::{Builder, Item, span};
use crate::problem::{Problem, Problems, quoted};
use crate::suggest::did_you_mean;
use crate::yaml::{Mapping, Node};
use model::stack::{Destination, EndpointKind, RouteTarget};
use std::net::Ipv6Addr;

/// The properties of a type.
struct Known {
    kind: &'static str,
    /// Those that are run.
    run: &'static [&'static str],
    /// Those that change nothing of what functions meet: names, tags, what instances alone have.
    quiet: &'static [&'static str],
    /// Those that would change something and are not run, with what happens instead.
    not_run: &'static [(&'static str, &'static str)],
}

/// What a NAT gateway takes of IPv6 (VPC User Guide, "DNS64 and NAT64").
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const NO_POOL: &str = "addresses from an IPAM pool are not known here: give the range itself";
const ROUTED: &str = "every name is answered with all its records";
const ELSEWHERE: &str = "the way through it is not run";

const KNOWN: &[Known] = &[
    Known {
        kind: "AWS::EC2::VPC",
        run: &["CidrBlock", "EnableDnsHostnames", "EnableDnsSupport"],
        quiet: &["InstanceTenancy", "Tags"],
        not_run: &[("Ipv4IpamPoolId", NO_POOL), ("Ipv4NetmaskLength", NO_POOL)],
    },
    Known {
        kind: "AWS::EC2::Subnet",
        run: &[
            "VpcId",
            "CidrBlock",
            "Ipv6CidrBlock",
            "AvailabilityZone",
            "MapPublicIpOnLaunch",
            "EnableDns64",
        ],
        quiet: &[
            "AssignIpv6AddressOnCreation",
            "EnableLniAtDeviceIndex",
            "PrivateDnsNameOptionsOnLaunch",
            "Tags",
        ],
        not_run: &[
            ("AvailabilityZoneId", "the subnet counts as one of the first zone: give AvailabilityZone"),
            ("Ipv6Native", "functions have an IPv4 address in it, too"),
            ("Ipv4IpamPoolId", NO_POOL),
            ("Ipv4NetmaskLength", NO_POOL),
            ("Ipv6IpamPoolId", NO_POOL),
            ("Ipv6NetmaskLength", NO_POOL),
            ("Ipv6CidrBlocks", "one IPv6 range is known of a subnet: give Ipv6CidrBlock"),
            ("OutpostArn", "the subnet counts as one of the Region"),
        ],
    },
    Known { kind: "AWS::EC2::RouteTable", run: &["VpcId"], quiet: &["Tags"], not_run: &[] },
    Known {
        kind: "AWS::EC2::Route",
        run: &[
            "RouteTableId",
            "DestinationCidrBlock",
            "DestinationIpv6CidrBlock",
            "DestinationPrefixListId",
            "GatewayId",
            "NatGatewayId",
            "VpcEndpointId",
            "NetworkInterfaceId",
            "InstanceId",
            "VpcPeeringConnectionId",
            "TransitGatewayId",
            "EgressOnlyInternetGatewayId",
            "LocalGatewayId",
            "CarrierGatewayId",
            "CoreNetworkArn",
            "OdbNetworkArn",
        ],
        quiet: &[],
        not_run: &[],
    },
    Known {
        kind: "AWS::EC2::SubnetRouteTableAssociation",
        run: &["SubnetId", "RouteTableId"],
        quiet: &[],
        not_run: &[],
    },
    Known { kind: "AWS::EC2::InternetGateway", run: &[], quiet: &["Tags"], not_run: &[] },
    Known {
        kind: "AWS::EC2::VPCGatewayAttachment",
        run: &["VpcId", "InternetGatewayId"],
        quiet: &[],
        not_run: &[("VpnGatewayId", ELSEWHERE)],
    },
    Known {
        kind: "AWS::EC2::NatGateway",
        run: &[
            "AllocationId",
            "AvailabilityMode",
            "AvailabilityZoneAddresses",
            "ConnectivityType",
            "SecondaryAllocationIds",
            "SecondaryPrivateIpAddressCount",
            "SecondaryPrivateIpAddresses",
            "SubnetId",
            "VpcId",
        ],
        quiet: &["MaxDrainDurationSeconds", "Tags"],
        not_run: &[("PrivateIpAddress", "it has the next address of its subnet")],
    },
    Known {
        kind: "AWS::EC2::EIP",
        run: &["Domain"],
        quiet: &["NetworkBorderGroup", "Tags"],
        not_run: &[
            ("Address", "it has an address of 198.18.0.0/16"),
            ("InstanceId", "instances are not run"),
            ("IpamPoolId", "it has an address of 198.18.0.0/16"),
            ("PublicIpv4Pool", "it has an address of 198.18.0.0/16"),
            ("TransferAddress", "it has an address of 198.18.0.0/16"),
        ],
    },
    Known {
        kind: "AWS::EC2::SecurityGroup",
        run: &["GroupDescription", "GroupName", "SecurityGroupEgress", "SecurityGroupIngress", "VpcId"],
        quiet: &["Tags"],
        not_run: &[],
    },
    Known { kind: "AWS::EC2::SecurityGroupIngress", ..INGRESS },
    Known { kind: "AWS::EC2::SecurityGroupEgress", ..EGRESS },
    Known {
        kind: "AWS::EC2::VPCEndpoint",
        run: &[
            "VpcId",
            "ServiceName",
            "VpcEndpointType",
            "SubnetIds",
            "SecurityGroupIds",
            "RouteTableIds",
            "PrivateDnsEnabled",
            "PolicyDocument",
        ],
        quiet: &["Tags"],
        not_run: &[
            ("DnsOptions", "its names lead to its IPv4 addresses"),
            ("IpAddressType", "it has IPv4 addresses alone"),
            ("ResourceConfigurationArn", ELSEWHERE),
            ("ServiceNetworkArn", ELSEWHERE),
            ("ServiceRegion", "its service counts as one of this Region"),
        ],
    },
    Known { kind: "AWS::EC2::NetworkAcl", run: &["VpcId"], quiet: &["Tags"], not_run: &[] },
    Known {
        kind: "AWS::EC2::NetworkAclEntry",
        run: &[
            "NetworkAclId",
            "RuleNumber",
            "RuleAction",
            "Protocol",
            "Egress",
            "CidrBlock",
            "Ipv6CidrBlock",
            "PortRange",
            "Icmp",
        ],
        quiet: &[],
        not_run: &[],
    },
    Known {
        kind: "AWS::EC2::SubnetNetworkAclAssociation",
        run: &["SubnetId", "NetworkAclId"],
        quiet: &[],
        not_run: &[],
    },
    Known {
        kind: "AWS::EC2::FlowLog",
        run: &["LogFormat", "MaxAggregationInterval", "ResourceId", "ResourceType", "TrafficType"],
        // Where lines go is said when the platform starts.
        quiet: &[
            "DeliverCrossAccountRole",
            "DeliverLogsPermissionArn",
            "DestinationOptions",
            "LogDestination",
            "LogDestinationType",
            "LogGroupName",
            "Tags",
        ],
        not_run: &[],
    },
    Known { kind: "AWS::EC2::EgressOnlyInternetGateway", run: &["VpcId"], quiet: &["Tags"], not_run: &[] },
    Known {
        kind: "AWS::EC2::VPCPeeringConnection",
        run: &["VpcId", "PeerVpcId", "PeerRegion"],
        quiet: &["AssumeRoleRegion", "PeerOwnerId", "PeerRoleArn", "Tags"],
        not_run: &[],
    },
    Known {
        kind: "AWS::EC2::PrefixList",
        run: &["AddressFamily", "Entries", "MaxEntries", "PrefixListName"],
        quiet: &["Tags"],
        not_run: &[],
    },
    Known {
        kind: "AWS::EC2::VPCCidrBlock",
        run: &["VpcId", "CidrBlock", "AmazonProvidedIpv6CidrBlock", "Ipv6CidrBlock"],
        quiet: &["Ipv6CidrBlockNetworkBorderGroup", "Ipv6Pool"],
        not_run: &[
            ("Ipv4IpamPoolId", NO_POOL),
            ("Ipv4NetmaskLength", NO_POOL),
            ("Ipv6IpamPoolId", NO_POOL),
            ("Ipv6NetmaskLength", NO_POOL),
        ],
    },
    Known {
        kind: "AWS::Route53::HostedZone",
        run: &["Name", "VPCs"],
        quiet: &["HostedZoneConfig", "HostedZoneFeatures", "HostedZoneTags", "QueryLoggingConfig"],
        not_run: &[],
    },
    Known { kind: "AWS::Route53::RecordSet", ..RECORD },
    Known {
        kind: "AWS::Route53::RecordSetGroup",
        run: &["HostedZoneId", "HostedZoneName", "RecordSets"],
        quiet: &["Comment"],
        not_run: &[],
    },
    Known {
        kind: "AWS::ElasticLoadBalancingV2::LoadBalancer",
        run: &["Scheme", "SecurityGroups", "SubnetMappings", "Subnets", "Type"],
        quiet: &[
            "EnableCapacityReservationProvisionStabilize",
            "EnablePrefixForIpv6SourceNat",
            "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic",
            "LoadBalancerAttributes",
            "MinimumLoadBalancerCapacity",
            "Name",
            "Tags",
        ],
        not_run: &[
            ("IpAddressType", "it has IPv4 addresses alone"),
            ("Ipv4IpamPoolId", "its public addresses are made up"),
        ],
    },
];

const VPC_CONFIG: Known = Known {
    kind: "VpcConfig of a function",
    run: &["Ipv6AllowedForDualStack", "SecurityGroupIds", "SubnetIds"],
    quiet: &[],
    not_run: &[],
};
const INGRESS: Known = Known {
    kind: "an ingress rule of a security group",
    run: &[
        "GroupId",
        "IpProtocol",
        "FromPort",
        "ToPort",
        "CidrIp",
        "CidrIpv6",
        "Description",
        "SourceSecurityGroupId",
        "SourceSecurityGroupName",
        "SourcePrefixListId",
    ],
    quiet: &["SourceSecurityGroupOwnerId"],
    not_run: &[("GroupName", "groups of EC2-Classic are not known: give GroupId")],
};
const EGRESS: Known = Known {
    kind: "an egress rule of a security group",
    run: &[
        "GroupId",
        "IpProtocol",
        "FromPort",
        "ToPort",
        "CidrIp",
        "CidrIpv6",
        "Description",
        "DestinationSecurityGroupId",
        "DestinationSecurityGroupName",
        "DestinationPrefixListId",
    ],
    quiet: &["DestinationSecurityGroupOwnerId"],
    not_run: &[],
};
const RECORD: Known = Known {
    kind: "a record",
    run: &["Name", "Type", "TTL", "ResourceRecords", "AliasTarget", "HostedZoneId", "HostedZoneName"],
    quiet: &["Comment", "SetIdentifier"],
    not_run: &[
        ("CidrRoutingConfig", ROUTED),
        ("Failover", ROUTED),
        ("GeoLocation", ROUTED),
        ("GeoProximityLocation", ROUTED),
        ("HealthCheckId", ROUTED),
        ("MultiValueAnswer", ROUTED),
        ("Region", ROUTED),
        ("Weight", ROUTED),
    ],
};

impl Builder<'_, '_> {
    /// Names each property that has no effect here, at its place; a problem where reading is strict.
    pub(super) fn check_network_properties(&mut self, items: &[Item<'_>]) {
        let mut said = Problems::default();
        for item in items {
            if item.kind == "AWS::Lambda::Function" {
                inner(item.fields.get("VpcConfig")).for_each(|config| look(&VPC_CONFIG, config, &mut said));
                continue;
            }
            let Some(known) = KNOWN.iter().find(|known| known.kind == item.kind) else { continue };
            let mapping = item.fields.mapping();
            look(known, mapping, &mut said);
            match item.kind {
                "AWS::EC2::SecurityGroup" => {
                    for (key, known) in [("SecurityGroupIngress", &INGRESS), ("SecurityGroupEgress", &EGRESS)]
                    {
                        inner(mapping.get(key)).for_each(|rule| look(known, rule, &mut said));
                    }
                }
                "AWS::Route53::RecordSetGroup" => {
                    inner(mapping.get("RecordSets")).for_each(|record| look(&RECORD, record, &mut said));
                }
                _ => {}
            }
        }
        for route in &self.stack.routes {
            if let (Destination::Ipv6(range), RouteTarget::NatGateway(gateway)) =
                (&route.destination, &route.target)
            {
                if (range.first(), range.prefix()) == NAT64 {
                    continue;
                }
                let message = format!(
                    "{} of {range} leads to a NAT gateway, which takes 64:ff9b::/96 alone",
                    quoted(&route.id)
                );
                let help =
                    format!("other packets are dropped at {} (route.none); IPv4 passes", gateway.as_str());
                said.push(Problem::at(span(route.place), message).help(help));
            }
        }
        for endpoint in &self.stack.vpc_endpoints {
            if endpoint.kind == EndpointKind::Other {
                let message = format!("{} is not run: an endpoint of this type", quoted(&endpoint.id));
                let help =
                    "interface and gateway endpoints are; routes to this one lead out of what is known";
                said.push(Problem::at(span(endpoint.place), message).help(help));
            }
        }
        let to = if self.resolver.scope.inputs.strict { &mut self.problems } else { &mut self.warnings };
        said.into_vec().into_iter().for_each(|problem| to.push(problem));
    }
}

/// The mappings of a list, or the one that stands in its place.
fn inner(node: Option<&Node>) -> impl Iterator<Item = &Mapping> {
    let items = node.map(|node| node.as_sequence().unwrap_or(std::slice::from_ref(node)));
    items.unwrap_or_default().iter().filter_map(Node::as_mapping)
}

fn look(known: &Known, mapping: &Mapping, said: &mut Problems) {
    let owner = known.kind;
    for entry in mapping.entries() {
        let key = &*entry.key;
        if known.run.contains(&key) || known.quiet.contains(&key) || is_off(key, &entry.value) {
            continue;
        }
        if said.is_full() {
            said.drop_one();
            continue;
        }
        let problem = match known.not_run.iter().find(|(name, _)| *name == key) {
            Some((_, instead)) => {
                Problem::at(entry.key_span, format!("{key} of {owner} is not run")).help(*instead)
            }
            None => {
                let message = format!("{owner} has no property {}; it is not read", quoted(key));
                let names = known.run.iter().chain(known.quiet).copied();
                let names = names.chain(known.not_run.iter().map(|(name, _)| *name));
                Problem::at(entry.key_span, message).maybe_help(did_you_mean(key, names))
            }
        };
        said.push(problem);
    }
}

/// A switch that is off asks for nothing, nor does an address type that is the usual one.
fn is_off(key: &str, value: &Node) -> bool {
    let switches = ["Ipv6Native", "MultiValueAnswer"];
    match value.as_str() {
        Some(text) => {
            (switches.contains(&key) && text.eq_ignore_ascii_case("false"))
                || (key == "IpAddressType" && text == "ipv4")
        }
        None => false,
    }
}
