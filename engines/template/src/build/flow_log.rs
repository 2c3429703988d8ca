//! Flow logs.
//!
//! Source: CloudFormation template reference, `AWS::EC2::FlowLog` (published).

use super::{Builder, Item, choice, span};
use crate::problem::{Problem, quoted};
use crate::suggest::did_you_mean;
use crate::yaml::Node;
use model::stack::{BadLogFormat, Field, FlowLog, Link, LogFormat, Logged, TrafficType};
use std::time::Duration;

/// `MaxAggregationInterval` where the template has none, seconds.
const USUAL_INTERVAL_S: i64 = 600;

/// What a flow log may be of, with the type that it must point at; of the others no interface here is part.
const KINDS: &[(&str, Option<&str>)] = &[
    ("VPC", Some(VPC)),
    ("Subnet", Some(SUBNET)),
    ("NetworkInterface", Some("AWS::EC2::NetworkInterface")),
    ("TransitGateway", None),
    ("TransitGatewayAttachment", None),
    ("RegionalNatGateway", None),
];
const VPC: &str = "AWS::EC2::VPC";
const SUBNET: &str = "AWS::EC2::Subnet";

const TRAFFIC: &[(&str, TrafficType)] =
    &[("ACCEPT", TrafficType::Accept), ("REJECT", TrafficType::Reject), ("ALL", TrafficType::All)];

const DESTINATIONS: &[(&str, ())] = &[("cloud-watch-logs", ()), ("s3", ()), ("kinesis-data-firehose", ())];

impl Builder<'_, '_> {
    pub(super) fn flow_log(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let kind = fields.require("ResourceType", &mut self.problems);
        let kind = kind.and_then(|node| choice(node, KINDS, &mut self.problems));
        let resource = fields.require("ResourceId", &mut self.problems);
        if let Some(node) = fields.get("LogDestinationType") {
            choice(node, DESTINATIONS, &mut self.problems);
        }
        let interval = self.interval(fields.get("MaxAggregationInterval"));
        let Some(points_at) = kind else { return };
        let Some(points_at) = points_at else {
            let message = format!("{} is not run: a flow log of this type", quoted(item.id));
            let problem = Problem::at(item.span, message);
            self.warnings.push(problem.help("those of VPCs, subnets and network interfaces are"));
            return;
        };
        let format =
            fields.get("LogFormat").map_or_else(|| Some(LogFormat::default()), |node| self.log_format(node));
        let traffic = fields.require("TrafficType", &mut self.problems);
        let traffic = traffic.and_then(|node| choice(node, TRAFFIC, &mut self.problems));
        let of = resource.and_then(|node| self.link_of(node, points_at));
        let (Some(of), Some(traffic), Some(format), Some(interval)) = (of, traffic, format, interval) else {
            return;
        };
        let of = match points_at {
            VPC => Logged::Vpc(of),
            SUBNET => Logged::Subnet(of),
            _ => Logged::NetworkInterface(of),
        };
        self.stack.flow_logs.push(FlowLog {
            id: item.id.to_owned(),
            place: item.place(),
            flow_log_id: item.reference.to_owned(),
            of,
            traffic,
            format,
            interval,
        });
    }

    /// Says which logs have nothing of subnets from outside, as these may be of any of several VPCs.
    pub(super) fn check_flow_logs(&mut self) {
        if self.stack.outside_vpc().is_some() {
            return;
        }
        for log in &self.stack.flow_logs {
            if let Logged::Vpc(Link::Literal(id)) = &log.of {
                let message = format!(
                    "{} has no lines of subnets from outside the template: the VPC {} is not the only one that it names",
                    quoted(&log.id),
                    quoted(id)
                );
                self.warnings.push(Problem::at(span(log.place), message).help("log the subnets"));
            }
        }
    }

    fn log_format(&mut self, node: &Node) -> Option<LogFormat> {
        let bad = match node.string(&mut self.problems)?.parse() {
            Ok(format) => return Some(format),
            Err(bad) => bad,
        };
        let help = match &bad {
            BadLogFormat::Unknown(name) => did_you_mean(name, Field::names()),
            BadLogFormat::Empty | BadLogFormat::Form(_) => None,
        };
        self.problems.push(Problem::at(node.span, bad.to_string()).maybe_help(help));
        None
    }

    /// One minute or ten, and nothing between.
    fn interval(&mut self, node: Option<&Node>) -> Option<Duration> {
        let Some(node) = node else { return Some(Duration::from_secs(USUAL_INTERVAL_S as u64)) };
        let seconds =
            node.integer("MaxAggregationInterval in seconds", 60..=USUAL_INTERVAL_S, &mut self.problems)?;
        if seconds == 60 || seconds == USUAL_INTERVAL_S {
            return Some(Duration::from_secs(seconds.unsigned_abs()));
        }
        let message = format!("MaxAggregationInterval is 60 or 600 seconds, not {seconds}");
        self.problems.push(Problem::at(node.span, message));
        None
    }
}
