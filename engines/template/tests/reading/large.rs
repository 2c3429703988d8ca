//! A large template, made by rule: groups of seven resources that point at one another, as a big team's would.

use std::fmt::Write as _;
use template::yaml::{Kind, Node, Style};

/// Resources of one group.
const GROUP: usize = 7;

/// A SAM template of about `resources` resources, of which `mistakes` mention a name that does not exist.
pub fn template(resources: usize, mistakes: usize) -> String {
    let mut text =
        "Transform: AWS::Serverless-2016-10-31\nParameters:\n  Stage: {Type: String, Default: dev}\n\
                    Conditions:\n  Prod: !Equals [!Ref Stage, prod]\nResources:\n\
                    \x20 Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/16}}\n"
            .to_owned();
    for group in 0..resources / GROUP {
        let (high, low) = (group / 16 % 256, group % 16 * 16);
        let table = if group < mistakes { "Tabel" } else { "Table" };
        write!(
            text,
            "  Subnet{group}:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: 10.0.{high}.{low}/28
      AvailabilityZone: !Select [0, !GetAZs '']
      Tags: [{{Key: Name, Value: !Sub '${{AWS::StackName}}-{group}'}}]
  Table{group}:
    Type: AWS::EC2::RouteTable
    Properties: {{VpcId: !Ref Vpc}}
  Association{group}:
    Type: AWS::EC2::SubnetRouteTableAssociation
    Properties: {{SubnetId: !Ref Subnet{group}, RouteTableId: !Ref {table}{group}}}
  Group{group}:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: functions
      VpcId: !Ref Vpc
      SecurityGroupEgress:
        - {{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0}}
  Setting{group}:
    Type: AWS::SSM::Parameter
    Properties: {{Type: String, Name: !Sub '/${{Stage}}/{group}', Value: !If [Prod, a, b]}}
  Role{group}:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: 'sts:AssumeRole'}}]
  Function{group}:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/{group}
      Handler: app.handler
      Runtime: python3.13
      Role: !GetAtt Role{group}.Arn
      Environment:
        Variables:
          SETTING: !Ref Setting{group}
          ADDRESS: !Join ['/', [!Ref 'AWS::Region', !GetAtt Subnet{group}.CidrBlock]]
      VpcConfig: {{SubnetIds: [!Ref Subnet{group}], SecurityGroupIds: [!GetAtt Group{group}.GroupId]}}
      Events:
        Get: {{Type: HttpApi, Properties: {{Path: '/{group}', Method: GET}}}}
"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

/// The same template as JSON, with calls in the long spelling.
#[allow(dead_code, reason = "the tests read YAML only")]
pub fn as_json(yaml: &str) -> String {
    let document = template::yaml::parse("large", yaml).expect("the template is YAML");
    json(&document.root).to_string()
}

fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    let value = match &node.kind {
        Kind::Scalar(scalar) if scalar.style == Style::Plain && scalar.value.parse::<u32>().is_ok() => {
            Value::from(scalar.value.parse::<u32>().unwrap_or_default())
        }
        Kind::Scalar(scalar) => Value::String(scalar.value.to_string()),
        Kind::Sequence(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Mapping(mapping) => {
            mapping.entries().iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect()
        }
    };
    match node.tag.as_deref() {
        None => value,
        Some("Ref") => serde_json::json!({ "Ref": value }),
        Some(tag) => serde_json::json!({ format!("Fn::{tag}"): value }),
    }
}
