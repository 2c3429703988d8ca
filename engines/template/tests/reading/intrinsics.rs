//! Every intrinsic function, in both spellings, by expression and expected value; and each misuse.

use super::{inputs, problems, said, stack};

/// What the expressions below may mention.
const AROUND: &str = "\
Parameters:
  Name: {Type: String, Default: cart}
  Names: {Type: CommaDelimitedList, Default: 'a,b,c'}
  Count: {Type: Number, Default: 3}
Mappings:
  Sizes:
    us-east-1: {Small: 128, List: [x, y]}
Conditions:
  Yes: !Equals [!Ref Name, cart]
  No: !Not [!Condition Yes]
  Both: !And [!Condition Yes, !Equals [!Ref Count, 3]]
  One: !Or [{Condition: No}, {'Fn::Equals': [a, a]}]
  Never: {'Fn::And': [{Condition: Both}, {Condition: No}]}
Resources:
  Bucket: {Type: 'AWS::S3::Bucket'}
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: 10.0.0.0/16}}
  Role: {Type: 'AWS::IAM::Role', Properties: {RoleName: !Sub 'x-${Name}'}}
Outputs:
  Value: {Value: ";

fn text(expression: &str) -> String {
    format!("{AROUND}{expression}}}\n")
}

#[test]
fn every_function_gives_its_value() {
    for (expression, expected) in [
        ("!Ref Name", "cart"),
        ("{Ref: Name}", "cart"),
        ("!Ref Bucket", "shop-bucket"),
        ("!Ref 'AWS::Region'", "us-east-1"),
        ("!Ref 'AWS::AccountId'", "000000000000"),
        ("!Ref 'AWS::StackName'", "shop"),
        ("!Ref 'AWS::Partition'", "aws"),
        ("!Ref 'AWS::URLSuffix'", "amazonaws.com"),
        (
            "!Ref 'AWS::StackId'",
            "arn:aws:cloudformation:us-east-1:000000000000:stack/shop/00000000-0000-0000-0000-000000000000",
        ),
        ("!GetAtt Role.Arn", "arn:aws:iam::000000000000:role/x-cart"),
        ("{'Fn::GetAtt': [Bucket, Arn]}", "arn:aws:s3:::shop-bucket"),
        ("{'Fn::GetAtt': [Bucket, !Sub Arn]}", "arn:aws:s3:::shop-bucket"),
        ("!Sub '${Name}-${AWS::Region}-${Role.Arn}'", "cart-us-east-1-arn:aws:iam::000000000000:role/x-cart"),
        ("!Sub ['${A}/${Name}/${!Literal}', {A: !Ref Bucket}]", "shop-bucket/cart/${Literal}"),
        ("{'Fn::Sub': '$${Count}'}", "$3"),
        ("!Join ['-', [a, !Ref Name, !Ref Count]]", "a-cart-3"),
        ("!Join ['', !Ref Names]", "abc"),
        ("{'Fn::Join': [',', {'Fn::Split': ['/', 'a/b//c']}]}", "a,b,,c"),
        ("!Select [1, !Ref Names]", "b"),
        ("!Select ['2', [x, y, z]]", "z"),
        ("!If [Yes, 1, 2]", "1"),
        ("!If [No, 1, 2]", "2"),
        ("!If [Both, !If [One, x, y], z]", "x"),
        ("!If [Never, x, y]", "y"),
        ("!Join ['-', [a, !If [No, b, !Ref 'AWS::NoValue'], c]]", "a-c"),
        ("!FindInMap [Sizes, !Ref 'AWS::Region', Small]", "128"),
        ("!Join ['', !FindInMap [Sizes, us-east-1, List]]", "xy"),
        ("!FindInMap [Sizes, eu-west-1, Small, {DefaultValue: none}]", "none"),
        ("!Base64 'hello'", "aGVsbG8="),
        ("{'Fn::Base64': !Sub '${Name}'}", "Y2FydA=="),
        ("!Base64 {'Fn::Sub': '${Name}'}", "Y2FydA=="),
        ("!Select [3, !Cidr [!GetAtt Vpc.CidrBlock, 6, 8]]", "10.0.3.0/24"),
        ("!Join [' ', !Cidr ['10.0.0.0/24', 2, 7]]", "10.0.0.0/25 10.0.0.128/25"),
        ("!Select [1, !Cidr ['2001:db8::/56', 2, 64]]", "2001:db8:0:1::/64"),
        ("!Join [',', !GetAZs '']", "us-east-1a,us-east-1b,us-east-1c,us-east-1d,us-east-1e,us-east-1f"),
        (
            "!Join [',', !GetAZs {Ref: 'AWS::Region'}]",
            "us-east-1a,us-east-1b,us-east-1c,us-east-1d,us-east-1e,us-east-1f",
        ),
        ("!Select [0, {'Fn::GetAZs': eu-west-1}]", "eu-west-1a"),
        ("!Select [3, !GetAZs us-west-2]", "us-west-2d"),
        ("!ImportValue network-vpc", "vpc-1234"),
        ("{'Fn::ImportValue': !Sub 'network-${Name}'}", "imported"),
        ("'{{resolve:ssm:/a/b:1}}'", "{{resolve:ssm:/a/b:1}}"),
        (
            "!Sub '{{resolve:secretsmanager:${Name}:SecretString:k}}'",
            "{{resolve:secretsmanager:cart:SecretString:k}}",
        ),
        ("!Length [a, b]", "2"),
        ("{'Fn::ToJsonString': {a: [1, true, x], b: !Ref Name}}", r#"{"a":[1,true,"x"],"b":"cart"}"#),
    ] {
        let mut inputs = inputs();
        inputs.imports.insert("network-vpc".into(), "vpc-1234".into());
        inputs.imports.insert("network-cart".into(), "imported".into());
        let outcome = template::read("t", &text(expression), &inputs);
        assert_eq!(said(&outcome.problems), Vec::<String>::new(), "{expression}");
        assert_eq!(outcome.stack.unwrap().outputs[0].value, expected, "{expression}");
    }
}

#[test]
fn each_misuse_is_told_with_its_place() {
    for (expression, expected) in [
        ("!Ref Nme", "the parameter or resource `Nme` does not exist (did you mean `Name`?)"),
        (
            "!Ref 'AWS::Regoin'",
            "the parameter or resource `AWS::Regoin` does not exist (did you mean `AWS::Region`?)",
        ),
        (
            "!Ref Role.Arn",
            "the parameter or resource `Role.Arn` does not exist (an attribute is had with Fn::GetAtt: !GetAtt Role.Arn)",
        ),
        ("!Ref Rloe.Arn", "the resource `Rloe` does not exist (did you mean `Role`?)"),
        ("!Ref Role.Alias", "`Role.Alias` does not exist (AutoPublishAlias of Role would make it)"),
        ("!Ref [a]", "expected the name of a parameter or resource, found a list tagged !Ref"),
        ("!GetAtt Buckt.Arn", "the resource `Buckt` does not exist (did you mean `Bucket`?)"),
        ("!GetAtt Name.Arn", "`Name` is a parameter, and has no attribute `Arn` (use Ref)"),
        ("!GetAtt Vpc.Cidr", "AWS::EC2::VPC has no attribute `Cidr` (it has VpcId, CidrBlock"),
        (
            "!GetAtt Vpc",
            "expected the name of a resource and an attribute, as in `Table.Arn`, found `Vpc` tagged !GetAtt",
        ),
        ("!Sub '${Role.Nam}'", "AWS::IAM::Role has no attribute `Nam`"),
        ("!Sub 'a ${Nope} b'", "the parameter or resource `Nope` does not exist"),
        ("!Sub '${Nopes.Arn}'", "the resource `Nopes` does not exist"),
        ("!Sub '${Names}'", "expected text, found a list (join the list with Fn::Join first)"),
        ("!Sub [a, b, c]", "expected Fn::Sub to have text, or [text, {Name: value}], found a list of 3"),
        ("!Join ['-', abc]", "expected a list, found `abc`"),
        ("!Join ['-']", "expected Fn::Join to have [delimiter, list], found a list of 1"),
        ("!Join ['-', [a, [b]]]", "expected text, found a list"),
        ("!Split ['', abc]", "expected Fn::Split to have a delimiter"),
        ("!Select [5, [a, b]]", "the list has 2 items, and item 5 is wanted (the first item is number 0)"),
        ("!Select [x, [a, b]]", "expected a whole number from 0, found `x`"),
        ("!If [Yse, 1, 2]", "the condition `Yse` does not exist (did you mean `Yes`?)"),
        (
            "!If [Yes, 1]",
            "expected Fn::If to have [condition, value if true, value if false], found a list of 2",
        ),
        ("!FindInMap [Sizs, x, y]", "the map `Sizs` does not exist (did you mean `Sizes`?)"),
        (
            "!FindInMap [Sizes, us-east-2, Small]",
            "the key `us-east-2` does not exist (did you mean `us-east-1`?)",
        ),
        ("!Cidr [10.0.0.0, 2, 8]", "expected a range such as 10.0.0.0/16, found `10.0.0.0`"),
        ("!Cidr [10.0.0.0/24, 4, 8]", "10.0.0.0/24 does not hold 4 ranges of 8 bits"),
        ("!Cidr [10.0.0.0/24, 0, 8]", "the number of ranges is 0, and must be 1 to 256"),
        (
            "!ImportValue other",
            "No export named other found (name the template that exports it beside this one, or give its value with --import other=VALUE)",
        ),
        ("!Equals [a, b]", "Fn::Equals gives no value; it can stand in the Conditions section only"),
        ("!Sup x", "the function `Sup` does not exist (did you mean `Sub`?)"),
        ("{'Fn::Jion': [a]}", "the function `Jion` does not exist (did you mean `Join`?)"),
        ("[a]", "expected text, found a list"),
    ] {
        let said = problems(&text(expression));
        let line = AROUND.lines().count();
        assert!(said[0].starts_with(&format!("t:{line}:")), "{expression}: {said:?}");
        assert!(said[0].contains(expected), "{expression}: {said:?}");
        assert_eq!(said.len(), 1, "{expression}: {said:?}");
    }
}

#[test]
fn bad_conditions_are_told() {
    let text = "\
Parameters: {Stage: {Type: String, Default: dev}}
Conditions:
  A: !Not [!Condition B]
  B: !Not [!Condition A]
  C: !Ref Stage
  D: !Equals [a]
  E: !Condition Z
  F: !And [!Condition C]
  G: !Equals [!Ref Thing, x]
Resources:
  Thing: {Type: 'AWS::S3::Bucket', Condition: Nope}
";
    let said = problems(text);
    for expected in [
        "t:3:3: conditions depend on each other in a circle: A -> B -> A",
        "t:5:6: expected Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition",
        "t:6:6: expected Fn::Equals to have [value, value], found a list of 1",
        "t:7:17: the condition `Z` does not exist",
        "t:8:6: expected Fn::And to have 2 to 10 conditions, found a list of 1",
        "t:9:20: a condition cannot depend on the resource `Thing`",
        "t:11:47: the condition `Nope` does not exist",
    ] {
        assert!(said.iter().any(|one| one.starts_with(expected)), "{expected} in {said:#?}");
    }
}

#[test]
fn what_a_false_condition_leaves_out_cannot_be_used() {
    let text = "\
Conditions: {Never: !Equals [a, b]}
Resources:
  One: {Type: 'AWS::S3::Bucket', Condition: Never}
  Two: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Ref One}}
Outputs:
  Fine: {Value: !If [Never, !Ref One, none]}
";
    let said = problems(text);
    assert!(
        said[0].starts_with("t:4:72: `One` does not exist here: its condition Never is false"),
        "{said:?}"
    );
    assert_eq!(said.len(), 1, "and nothing follows from it: {said:?}");
    let fine =
        stack(&text.replace(
            "  Two: {Type: 'AWS::SSM::Parameter', Properties: {Type: String, Value: !Ref One}}\n",
            "",
        ));
    assert_eq!(fine.outputs[0].value, "none");
    assert!(fine.others.is_empty());
}
