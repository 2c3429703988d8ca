//! Broken, hostile and merely wrong templates: problems with places, all at once, and never a panic.

use super::{inputs, problems, said, stack, warnings};
use proptest::prelude::*;
use template::Cause;

#[test]
fn texts_that_are_no_template_are_refused_at_once() {
    let bomb = (1..20).fold("a0: &a0 [lol, lol]\n".to_owned(), |text, level| {
        let alias = format!("*a{}", level - 1);
        text + &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "))
    });
    let large = "x: y\n".repeat(10 * 1024 * 1024);
    for (text, expected) in [
        ("Resources:\n  A: {Type: [\n", "not valid YAML"),
        ("{\"Resources\": {\"A\": {\"Type\": \"x\",}", "not valid YAML"),
        ("Resources:\n\tA: {Type: x}\n", "not valid YAML"),
        (bomb.as_str(), "more than 400000 values, counting each use of an alias"),
        (large.as_str(), "the file has 52428800 bytes, and 8388608 is the most that is read"),
        ("- a\n- b\n", "t:1:1: expected a mapping, found a list"),
        ("hello", "t:1:1: expected a mapping, found `hello`"),
        ("Description: nothing\n", "t:1:1: a template needs `Resources`"),
        ("Resources:\n", "t:1:1: a template needs `Resources`"),
        ("Resources: [a]\n", "t:1:12: expected a mapping, found a list"),
        ("Resource: {}\n", "the key `Resource` does not exist (did you mean `Resources`?)"),
        (
            "Resources: {'Fn::ForEach::Each': [N, [A, B], {'${N}F': {Type: x}}]}\n",
            "t:1:13: Fn::ForEach needs the transform AWS::LanguageExtensions (add `Transform: AWS::Language",
        ),
        ("Resources: {A: 5}\n", "t:1:16: expected a mapping, found `5`"),
        ("Resources: {A: {}}\n", "t:1:13: the resource `A` needs `Type`"),
        ("Resources: {A: {Typ: x}}\n", "the key `Typ` does not exist (did you mean `Type`?)"),
        ("Resources: {A: {Type: [x]}}\n", "t:1:23: expected text, found a list"),
        ("Resources: {A_b: {Type: x}}\n", "the resource `A_b` is not named by letters and digits alone"),
        ("Resources: {A: {Type: x, Properties: [1]}}\n", "t:1:38: expected a mapping, found a list"),
        ("Resources: {A: {Type: x, DependsOn: B}}\n", "the resource `B` does not exist"),
        ("Resources: {A: {Type: x, DependsOn: {a: b}}}\n", "expected text, found a mapping"),
        ("Resources: {}\nOutputs: {A: {}}\n", "the output `A` needs `Value`"),
        (
            "Resources: {}\nGlobals: {Functon: {}}\n",
            "the key `Functon` does not exist (did you mean `Function`?)",
        ),
    ] {
        let said = problems(text);
        let start: String = text.chars().take(50).collect();
        assert!(said.iter().any(|one| one.contains(expected)), "{start}: {said:?}");
    }
}

#[test]
fn circles_are_told_with_their_path() {
    let text = "\
Resources:
  A: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !GetAtt B.Value}}
  B: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Sub 'x-${C}'}}
  C: {Type: 'AWS::SSM::Parameter', DependsOn: A, Properties: {Type: String, Value: c}}
  D: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Ref D}}
  E: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Ref A}}
  F: {Type: 'AWS::Lambda::Function', Properties: {Timeout: 5000}}
";
    let outcome = template::read("t", text, &inputs());
    let circles: Vec<&template::Problem> =
        outcome.problems.iter().filter(|problem| matches!(problem.cause, Cause::Cycle { .. })).collect();
    assert_eq!(circles.len(), 2, "{:?}", said(&outcome.problems));
    assert_eq!(circles[0].message(), "resources depend on each other in a circle: A -> B -> C -> A");
    let places: Vec<(u32, &str)> =
        circles[0].related.iter().map(|related| (related.span.line, related.label.as_str())).collect();
    assert_eq!((circles[0].span.line, circles[0].label.as_str()), (2, "A needs B"));
    assert_eq!(places, [(3, "B needs C"), (4, "C needs A")]);
    assert_eq!(circles[1].message(), "resources depend on each other in a circle: D -> D");
    let all = said(&outcome.problems);
    assert!(
        all.iter().any(|one| one.contains("Timeout in seconds is 5000")),
        "the rest is checked as well: {all:?}"
    );
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let text = "\
Parameters:
  Stage: {Type: String}
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties: {CidrBlock: 10.0.0.1/16}
  Subnet:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vcp, CidrBlock: 10.0.0.0/24}
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: g
      SecurityGroupIngress:
        - {IpProtocol: tcp, FromPort: 80, CidrIp: 0.0.0.0/0}
        - {IpProtocol: tpc, FromPort: 80, ToPort: 80, CidrIp: 0.0.0.0/0}
        - {IpProtocol: tcp, FromPort: 90, ToPort: 80, CidrIp: 0.0.0.0/0}
        - {IpProtocol: tcp, FromPort: 80, ToPort: 70000}
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: [a]
      Code: {ZipFile: x}
      MemorySize: lots
      Environment: {Variables: {LIST: [1]}}
      VpcConfig: {SubnetIds: [!Ref Group], SecurityGroupIds: [!Ref Group]}
";
    let said = problems(text);
    for expected in [
        "t:2:3: the parameter `Stage` has no value and no default (--parameter-overrides Stage=VALUE)",
        "t:9:30: the parameter or resource `Vcp` does not exist (did you mean `Vpc`?)",
        "t:15:11: SecurityGroupIngress of Group (AWS::EC2::SecurityGroup) needs `ToPort`",
        "t:16:24: expected a protocol: tcp, udp, icmp, a number, or -1 for all, found `tpc`",
        "t:17:11: the ports run from 90 down to 80",
        "t:18:51: ToPort is 70000, and must be -1 to 65535",
        "t:23:16: expected text, found a list",
        "t:25:19: expected a whole number, found `lots`",
        "t:26:39: expected text, found a list",
        "t:27:31: expected AWS::EC2::Subnet, found Group (AWS::EC2::SecurityGroup)",
    ] {
        assert!(said.iter().any(|one| one == expected), "{expected}\nin {said:#?}");
    }
    assert!(said.windows(2).all(|pair| line_of(&pair[0]) <= line_of(&pair[1])), "sorted by place");
}

#[test]
fn code_that_cannot_be_resolved_is_told_once() {
    for code in ["ZipFile: !Sub '${Nope}'", "ImageUri: !Ref Nope", "S3Bucket: !Ref Nope, S3Key: k"] {
        let text = format!(
            "\
Resources:
  Function:
    Type: AWS::Lambda::Function
    Properties: {{Runtime: python3.13, Handler: a.h, Code: {{{code}}}}}
"
        );
        let said = problems(&text);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(said[0].contains("the parameter or resource `Nope` does not exist"), "{said:#?}");
    }
    let without = "Resources: {F: {Type: AWS::Lambda::Function, Properties: {Runtime: python3.13, Handler: a.h, Code: {S3Key: k}}}}";
    assert!(problems(without)[0].contains("the code of F cannot be found this way"));
}

#[test]
fn aliases_have_names_that_aws_takes() {
    let template = |name: &str| {
        format!(
            "\
Transform: AWS::Serverless-2016-10-31
Resources:
  Function:
    Type: AWS::Serverless::Function
    Properties: {{Runtime: python3.13, Handler: a.h, InlineCode: x, AutoPublishAlias: '{name}'}}
"
        )
    };
    let long = "a".repeat(129);
    for name in ["1", "2024", "a b", "blue/green", "", &long] {
        let said = problems(&template(name));
        assert_eq!(said.len(), 1, "{name}: {said:#?}");
        assert!(said[0].starts_with("t:5:") && said[0].contains("the alias `"), "{said:#?}");
    }
    for name in ["live", "v1", "1_a", "-", &long[1..]] {
        assert_eq!(stack(&template(name)).aliases[0].name, name);
    }
}

#[test]
fn bits_behind_a_prefix_are_left_out_and_said() {
    let text = "\
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.1/16}}
  Subnet: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.12.0/21}}
";
    let stack = stack(text);
    assert_eq!(stack.vpcs[0].cidr.to_string(), "10.0.0.0/16");
    assert_eq!(stack.subnets[0].cidr.to_string(), "10.0.8.0/21");
    let said = warnings(text);
    assert!(
        said[0].starts_with("t:2:56: 10.0.0.1/16 has bits behind its prefix: it is 10.0.0.0/16"),
        "{said:?}"
    );
}

fn line_of(problem: &str) -> u32 {
    problem.split(':').nth(1).and_then(|line| line.parse().ok()).unwrap_or_default()
}

#[test]
fn networks_that_cannot_be_are_told() {
    let text = "\
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/16}}
  One: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24}}
  Two: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.0.128/25}}
  Out: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.0.0/24}}
  Tiny: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.9.0/30}}
  Table: {Type: 'AWS::EC2::RouteTable', Properties: {VpcId: !Ref Vpc}}
  Route: {Type: 'AWS::EC2::Route', Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0}}
  Nat: {Type: 'AWS::EC2::NatGateway', Properties: {SubnetId: !Ref One}}
";
    let said = problems(text);
    for expected in [
        "t:4:76: 10.0.0.128/25 overlaps 10.0.0.0/24, the range of One",
        "t:5:76: 10.1.0.0/24 does not lie in 10.0.0.0/16, the range of Vpc",
        "t:6:77: 10.0.9.0/30 is not a /16 to /28, which VPCs and subnets must be",
        "t:8:3: the route `Route` leads nowhere",
        "t:9:3: Nat (AWS::EC2::NatGateway) needs `AllocationId`",
    ] {
        assert!(said.iter().any(|one| one.starts_with(expected)), "{expected}\nin {said:#?}");
    }
    let warned = warnings(text);
    assert!(
        warned[0].contains("the NAT gateway `Nat` stands in a subnet without a way to the internet"),
        "{warned:?}"
    );
}

#[test]
fn long_chains_and_deep_calls_end() {
    use std::fmt::Write as _;
    let mut chain =
        "Resources:\n  P0: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: x}}\n".to_owned();
    for number in (1..3000).rev() {
        let before = number - 1;
        writeln!(chain, "  P{number}: {{Type: 'AWS::SSM::Parameter', Properties: {{Type: String, Value: !GetAtt P{before}.Value}}}}").unwrap();
    }
    let stack = stack(&chain);
    assert!(stack.ssm_parameters.iter().all(|parameter| parameter.value == "x"));
    let deep = (0..45).fold("x".to_owned(), |inner, _| format!("!Join ['', [{inner}]]"));
    let text = format!("Resources: {{}}\nOutputs: {{A: {{Value: {deep}}}}}\n");
    assert_eq!(super::stack(&text).outputs[0].value, "x");
    // Each level doubles the text: it is stopped long before memory is.
    let mut doubling = "Resources:\n  P0: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: xxxxxxxxxxxxxxxx}}\n".to_owned();
    for number in 1..60 {
        let before = number - 1;
        writeln!(doubling, "  P{number}: {{Type: 'AWS::SSM::Parameter', Properties: {{Type: String, Value: !Sub '${{P{before}.Value}}${{P{before}.Value}}'}}}}").unwrap();
    }
    assert!(problems(&doubling)[0].contains("the text grows too long"));
    // A long text that is mentioned a thousand times; a list as long; globals copied into a thousand functions.
    let long = "x".repeat(200_000);
    let head = format!(
        "Transform: AWS::Serverless-2016-10-31\nParameters:\n  P: {{Type: String, Default: {long}}}\n"
    );
    let times =
        |what: &str| (0..1000).map(|number| what.replace('#', &number.to_string())).collect::<String>();
    let value = "  R#: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Ref P}}\n";
    let said = problems(&format!("{head}Resources:\n{}", times(value)));
    assert!(said[0].contains("here the template has become too large"), "{}", said[0]);
    let split = "  R#: {Type: x, Properties: {V: !Split [x, !Ref P]}}\n";
    let said = problems(&format!("{head}Resources:\n{}", times(split)));
    assert!(said[0].contains("here the template has become too large"), "{}", said[0]);
    let function =
        "  R#: {Type: 'AWS::Serverless::Function', Properties: {CodeUri: x, Handler: a, Runtime: b}}\n";
    let globals = format!("Globals: {{Function: {{Environment: {{Variables: {{LONG: {long}}}}}}}}}\n");
    let said = problems(&format!("{head}{globals}Resources:\n{}", times(function)));
    assert!(said[0].contains("the globals are too large to be copied into 1000 resources"), "{}", said[0]);
    let many = (0..10_001).map(|number| format!("  R{number}: {{Type: x}}\n")).collect::<String>();
    let said = problems(&format!("Resources:\n{many}"));
    assert!(said[0].contains("10001 resources, and 10000 is the most"), "{}", said[0]);
}

#[test]
fn five_thousand_resources_are_read_and_every_mistake_in_them_is_found() {
    let stack = stack(&super::large::template(5000, 0));
    assert_eq!((stack.functions.len(), stack.subnets.len()), (714, 714));
    assert_eq!(stack.http_apis[0].routes.len(), 714);
    let said = problems(&super::large::template(5000, 3));
    assert_eq!(said.len(), 3);
    assert!(
        said[0].contains("the parameter or resource `Tabel0` does not exist (did you mean `Table0`?)"),
        "{said:?}"
    );
}

#[test]
fn many_problems_are_bounded() {
    let text = (0..5000)
        .fold("Resources:\n".to_owned(), |text, number| text + &format!("  R{number}: {{Type: [x]}}\n"));
    let said = problems(&text);
    assert_eq!(said.len(), template::problem::MAX_PROBLEMS + 1);
    assert!(said.last().unwrap().contains("and 4900 more problems"), "{:?}", said.last());
}

/// Words and signs that make texts which come far.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "Resources",
        "Parameters",
        "Conditions",
        "Mappings",
        "Outputs",
        "Globals",
        "Transform",
        "Type",
        "Properties",
        "A",
        "B",
        "AWS::Serverless-2016-10-31",
        "AWS::Serverless::Function",
        "AWS::Serverless::Api",
        "AWS::Serverless::HttpApi",
        "AWS::Lambda::Function",
        "AWS::Lambda::Url",
        "AWS::EC2::VPC",
        "AWS::EC2::Subnet",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::Route",
        "AWS::RDS::DBProxyTargetGroup",
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGateway::Method",
        "!Ref",
        "!Sub",
        "!GetAtt",
        "!If",
        "!Join",
        "!Select",
        "!Split",
        "!Cidr",
        "!FindInMap",
        "!Base64",
        "!Condition",
        "!Equals",
        "Fn::Sub",
        "Ref",
        "Fn::If",
        "'${A}'",
        "'${A.B.C}'",
        "A.Arn",
        "10.0.0.0/16",
        "fd00::/8",
        "CidrBlock",
        "VpcId",
        "Events",
        "Function",
        "HttpApi",
        "Code",
        "Environment",
        "Variables",
        "Value",
        "Default",
        "String",
        "List<Number>",
        "CommaDelimitedList",
        "AllowedPattern",
        "'(('",
        "true",
        "null",
        "-1",
        "99999999999999999999",
        "1e999",
        "&a",
        "*a",
        "<<",
        "é😀",
        "---",
        "|",
        ">",
        "? ",
        "# x",
    ];
    let signs =
        [": ", ":\n  ", "\n", "\n    ", "\n      ", "{", "}", "[", "]", ", ", "- ", "\"", "'", " ", "\t"];
    prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        4 => proptest::sample::select(signs.to_vec()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(|c| c.to_string()),
    ]
}

/// Values of every shape, which are put where a template wants others.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_owned()),
        Just("5".to_owned()),
        Just("-1".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("10.0.0.0/16".to_owned()),
        Just("!Ref A".to_owned()),
        Just("!Ref 'AWS::NoValue'".to_owned()),
        Just("!GetAtt B.Arn".to_owned()),
        Just("!Sub '${A}/${C.Arn}'".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = proptest::sample::select(vec![
            "Fn::Join",
            "Fn::Select",
            "Fn::If",
            "Fn::Cidr",
            "Fn::Sub",
            "Fn::FindInMap",
            "Fn::Split",
            "Fn::Base64",
            "k",
            "Path",
            "Type",
            "Properties",
            "ZipFile",
            "SubnetIds",
            "AllowOrigins",
            "Statement",
            "CreateUsagePlan",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            (name, inner).prop_map(|(key, value)| format!("{{'{key}': {value}}}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_panic(text in any::<String>()) {
        template::read("t", &text, &inputs());
    }

    #[test]
    fn no_heap_of_pieces_makes_a_panic(pieces in proptest::collection::vec(piece(), 0..120)) {
        let text = pieces.concat();
        let outcome = template::read("t", &text, &inputs());
        prop_assert!(outcome.stack.is_some() == outcome.problems.is_empty());
        for problem in outcome.problems.iter().chain(&outcome.warnings) {
            prop_assert!(problem.span.end() <= text.len() + 1, "{problem:?}");
            prop_assert!(text.is_char_boundary(problem.span.offset as usize), "{problem:?}");
        }
    }

    #[test]
    fn no_value_in_a_wrong_place_makes_a_panic(
        kind in proptest::sample::select(KINDS.to_vec()),
        keys in proptest::collection::vec((proptest::sample::select(KEYS.to_vec()), value()), 0..6),
    ) {
        let properties: Vec<String> = keys.iter().enumerate()
            .filter(|(at, (key, _))| keys[..*at].iter().all(|(other, _)| other != key))
            .map(|(_, (key, value))| format!("      {key}: {value}\n")).collect();
        let text = format!(
            "Transform: AWS::Serverless-2016-10-31\nResources:\n  A:\n    Type: {kind}\n    Properties:\n{}\
             \x20 B: {{Type: 'AWS::IAM::Role'}}\n  C: {{Type: 'AWS::Lambda::Function', Properties: {{Code: x, Handler: a, Runtime: b}}}}\n",
            if properties.is_empty() { "      {}\n".to_owned() } else { properties.concat() },
        );
        let outcome = template::read("t", &text, &inputs());
        prop_assert!(outcome.stack.is_some() == outcome.problems.is_empty());
    }
}

/// Types that are read.
const KINDS: &[&str] = &[
    "AWS::Serverless::Function",
    "AWS::Serverless::Api",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::LayerVersion",
    "AWS::Lambda::Function",
    "AWS::Lambda::Url",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Alias",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::LayerVersion",
    "AWS::IAM::Role",
    "AWS::EC2::VPC",
    "AWS::EC2::Subnet",
    "AWS::EC2::Route",
    "AWS::EC2::NatGateway",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::VPCEndpoint",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGateway::UsagePlan",
    "AWS::ApiGateway::UsagePlanKey",
    "AWS::RDS::DBInstance",
    "AWS::RDS::DBProxy",
    "AWS::RDS::DBProxyTargetGroup",
    "AWS::SSM::Parameter",
    "AWS::SecretsManager::Secret",
];

/// Properties that they have.
const KEYS: &[&str] = &[
    "Code",
    "CodeUri",
    "InlineCode",
    "Handler",
    "Runtime",
    "Events",
    "FunctionUrlConfig",
    "AutoPublishAlias",
    "VpcConfig",
    "Environment",
    "Layers",
    "Policies",
    "Tags",
    "EventInvokeConfig",
    "MemorySize",
    "FunctionName",
    "StageName",
    "Auth",
    "Cors",
    "DefinitionBody",
    "CorsConfiguration",
    "EndpointConfiguration",
    "MethodSettings",
    "Body",
    "ApiId",
    "RouteKey",
    "Target",
    "RestApiId",
    "ResourceId",
    "ParentId",
    "PathPart",
    "HttpMethod",
    "Integration",
    "Uri",
    "CidrBlock",
    "VpcId",
    "SubnetId",
    "AllocationId",
    "GroupId",
    "IpProtocol",
    "FromPort",
    "ToPort",
    "SecurityGroupIngress",
    "ServiceName",
    "DestinationCidrBlock",
    "GatewayId",
    "ApiStages",
    "Quota",
    "Throttle",
    "KeyId",
    "Engine",
    "DBInstanceClass",
    "Auth",
    "ConnectionPoolConfigurationInfo",
    "DBProxyName",
    "Type",
    "Value",
    "Name",
    "GenerateSecretString",
    "Content",
];

/// As CloudFormation does; a slip is told all the same.
#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    let text = "
Parameters:
  Stage: {Type: String, Default: a}
  Stage: {Type: String, Default: b}
Resources:
  T: {Type: AWS::SNS::Topic, Properties: {TopicName: one, TopicName: two}}
Outputs: {T: {Value: !Ref Stage}}
";
    let json = r#"{"Resources": {"T": {"Type": "AWS::SNS::Topic"}, "T": {"Type": "AWS::SQS::Queue"}}}"#;
    assert_eq!(stack(text).outputs[0].value, "b");
    assert_eq!(stack(json).types["T"], "AWS::SQS::Queue");
    let said = warnings(text);
    assert!(
        said[0]
            .starts_with("t:4:3: the key `Stage` stands here a second time (CloudFormation takes the last"),
        "{said:?}"
    );
    let strict = template::Inputs { strict: true, ..inputs() };
    assert!(template::read("t", text, &strict).stack.is_none());
}

#[test]
fn strict_reading_says_why_it_refuses_and_what_helps() {
    let strict = template::Inputs { strict: true, ..inputs() };
    let help = |kind: &str| {
        let text = format!("Resources:\n  A: {{Type: '{kind}'}}\n");
        template::read("t", &text, &strict)
            .problems
            .into_iter()
            .find_map(|problem| problem.help)
            .unwrap_or_default()
    };
    let why = "strict reading takes only types that are run";
    assert_eq!(help("AWS::SNS::Topic"), why);
    assert_eq!(help("AWS::Lambda::Functoin"), format!("{why}; did you mean `AWS::Lambda::Function`?"));
    assert!(
        help("AWS::ElasticLoadBalancingV2::LoadBalancer")
            .ends_with("`--attach A=HOST:PORT` puts a server behind them")
    );
}
