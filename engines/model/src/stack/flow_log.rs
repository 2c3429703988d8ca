//! VPC flow logs: of what, of which traffic, and the fields of a line.
//!
//! Source: VPC User Guide, "Flow log records", section "Available fields" (names and versions); CloudFormation template
//! reference, `AWS::EC2::FlowLog`; published.

use super::{Link, Place};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A flow log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowLog {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `fl-…`.
    pub flow_log_id: String,
    /// Whose interfaces it is of.
    pub of: Logged,
    /// Which traffic it has.
    pub traffic: TrafficType,
    /// The fields of its lines.
    pub format: LogFormat,
    /// What passes within it is one record of a flow: one minute, or ten.
    pub interval: Duration,
}

/// What a flow log is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Logged {
    /// All interfaces of a VPC.
    Vpc(Link),
    /// Those of a subnet.
    Subnet(Link),
    /// One.
    NetworkInterface(Link),
}

/// Which traffic a flow log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum TrafficType {
    /// What is let through.
    Accept,
    /// What is not.
    Reject,
    /// Both.
    #[default]
    All,
}

impl fmt::Display for TrafficType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
            Self::All => "ALL",
        })
    }
}

/// A field of a flow log's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is called as AWS calls it")]
pub enum Field {
    Version,
    AccountId,
    InterfaceId,
    SrcAddr,
    DstAddr,
    SrcPort,
    DstPort,
    Protocol,
    Packets,
    Bytes,
    Start,
    End,
    Action,
    LogStatus,
    VpcId,
    SubnetId,
    TcpFlags,
    Type,
    PktSrcAddr,
    PktDstAddr,
    Region,
    AzId,
    PktSrcAwsService,
    PktDstAwsService,
    FlowDirection,
    TrafficPath,
    /// One that interfaces without an instance never have a value for.
    Unset(&'static str),
}

/// Each field's name, the version that brought it, and what it is; those of version 2 in the order of the default format.
const FIELDS: &[(&str, u8, Field)] = &[
    ("version", 2, Field::Version),
    ("account-id", 2, Field::AccountId),
    ("interface-id", 2, Field::InterfaceId),
    ("srcaddr", 2, Field::SrcAddr),
    ("dstaddr", 2, Field::DstAddr),
    ("srcport", 2, Field::SrcPort),
    ("dstport", 2, Field::DstPort),
    ("protocol", 2, Field::Protocol),
    ("packets", 2, Field::Packets),
    ("bytes", 2, Field::Bytes),
    ("start", 2, Field::Start),
    ("end", 2, Field::End),
    ("action", 2, Field::Action),
    ("log-status", 2, Field::LogStatus),
    ("vpc-id", 3, Field::VpcId),
    ("subnet-id", 3, Field::SubnetId),
    ("instance-id", 3, Field::Unset("instance-id")),
    ("tcp-flags", 3, Field::TcpFlags),
    ("type", 3, Field::Type),
    ("pkt-srcaddr", 3, Field::PktSrcAddr),
    ("pkt-dstaddr", 3, Field::PktDstAddr),
    ("region", 4, Field::Region),
    ("az-id", 4, Field::AzId),
    ("sublocation-type", 4, Field::Unset("sublocation-type")),
    ("sublocation-id", 4, Field::Unset("sublocation-id")),
    ("pkt-src-aws-service", 5, Field::PktSrcAwsService),
    ("pkt-dst-aws-service", 5, Field::PktDstAwsService),
    ("flow-direction", 5, Field::FlowDirection),
    ("traffic-path", 5, Field::TrafficPath),
    ("ecs-cluster-arn", 7, Field::Unset("ecs-cluster-arn")),
    ("ecs-cluster-name", 7, Field::Unset("ecs-cluster-name")),
    ("ecs-container-instance-arn", 7, Field::Unset("ecs-container-instance-arn")),
    ("ecs-container-instance-id", 7, Field::Unset("ecs-container-instance-id")),
    ("ecs-container-id", 7, Field::Unset("ecs-container-id")),
    ("ecs-second-container-id", 7, Field::Unset("ecs-second-container-id")),
    ("ecs-service-name", 7, Field::Unset("ecs-service-name")),
    ("ecs-task-definition-arn", 7, Field::Unset("ecs-task-definition-arn")),
    ("ecs-task-arn", 7, Field::Unset("ecs-task-arn")),
    ("ecs-task-id", 7, Field::Unset("ecs-task-id")),
    ("reject-reason", 8, Field::Unset("reject-reason")),
    ("resource-id", 9, Field::Unset("resource-id")),
    ("encryption-status", 10, Field::Unset("encryption-status")),
];

impl Field {
    fn row(self) -> &'static (&'static str, u8, Self) {
        // Each is in the table.
        FIELDS.iter().find(|(_, _, field)| *field == self).unwrap_or(&FIELDS[0])
    }

    /// The names of all fields.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, ..)| *name)
    }
}

/// The fields of a flow log's lines, in their order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat(Vec<Field>);

/// What is wrong with the text of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadLogFormat {
    /// There is no field in it.
    Empty,
    /// This word is not `${…}`.
    Form(String),
    /// There is no field of that name.
    Unknown(String),
}

impl LogFormat {
    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.0
    }

    /// The version that a line has: the highest of its fields'.
    pub fn version(&self) -> u8 {
        self.0.iter().map(|field| field.row().1).max().unwrap_or(2)
    }
}

/// All fields of version 2.
impl Default for LogFormat {
    fn default() -> Self {
        Self(FIELDS.iter().filter(|(_, version, _)| *version == 2).map(|(.., field)| *field).collect())
    }
}

impl FromStr for LogFormat {
    type Err = BadLogFormat;

    /// Reads `${srcaddr} ${dstaddr}`.
    fn from_str(text: &str) -> Result<Self, BadLogFormat> {
        let field = |word: &str| {
            let name = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.ok_or_else(|| BadLogFormat::Form(word.to_owned()))?;
            let found = FIELDS.iter().find(|(known, ..)| *known == name);
            found.map(|(.., field)| *field).ok_or_else(|| BadLogFormat::Unknown(name.to_owned()))
        };
        let fields = text.split_ascii_whitespace().map(field).collect::<Result<Vec<_>, _>>()?;
        if fields.is_empty() { Err(BadLogFormat::Empty) } else { Ok(Self(fields)) }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, field) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(formatter, "{space}${{{}}}", field.row().0)?;
        }
        Ok(())
    }
}

impl Serialize for LogFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for BadLogFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("the format has no field"),
            Self::Form(word) => write!(formatter, "`{word}` is no field: write ${{srcaddr}} ${{dstaddr}}"),
            Self::Unknown(name) => write!(formatter, "flow logs have no field `{name}`"),
        }
    }
}

impl std::error::Error for BadLogFormat {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_back_and_has_the_highest_version_of_its_fields() {
        let usual = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} \
                     ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";
        assert_eq!(LogFormat::default().to_string(), usual);
        assert_eq!((usual.parse(), LogFormat::default().version()), (Ok(LogFormat::default()), 2));
        for (text, version) in
            [("${srcaddr}", 2), ("${vpc-id} ${srcaddr}", 3), ("${az-id}  ${traffic-path}", 5)]
        {
            assert_eq!(text.parse::<LogFormat>().map(|format| format.version()), Ok(version), "{text}");
        }
        let all: Vec<String> = Field::names().map(|name| format!("${{{name}}}")).collect();
        let all: LogFormat = all.join(" ").parse().unwrap();
        assert_eq!((all.fields().len(), all.to_string().parse()), (FIELDS.len(), Ok(all.clone())));
        assert_eq!(" ".parse::<LogFormat>(), Err(BadLogFormat::Empty));
        assert_eq!("srcaddr".parse::<LogFormat>(), Err(BadLogFormat::Form("srcaddr".into())));
        assert_eq!("${src}".parse::<LogFormat>(), Err(BadLogFormat::Unknown("src".into())));
    }
}
