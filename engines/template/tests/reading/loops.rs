//! `Fn::ForEach`.

use super::{problems, stack};
use model::stack::Function;

const ASKED: &str = "Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]\n";
#[test]
fn a_loop_gives_resources_outputs_conditions_and_properties() {
    let text = "\
Parameters:
  Sizes: {Type: CommaDelimitedList, Default: '128,256'}
  Last: {Type: String, Default: c}
Conditions:
  'Fn::ForEach::Wanted': [Name, [Cart, Old], {'Is${Name}': !Not [!Equals [!Ref Name, Old]]}]
Resources:
  'Fn::ForEach::Functions':
    - Name
    - [Cart, Old]
    - '${Name}Function':
        Type: AWS::Serverless::Function
        Condition: 'Is${Name}'
        Properties:
          CODE
          FunctionName: !Join ['-', [shop, !Ref Name]]
          Environment:
            Variables:
              KEPT: '${Other}{Name}'
              'Fn::ForEach::Places': [Place, [a/b, !Ref Last], {'AT&{Place}': 'https://${Place}/${Name}'}]
      'Fn::ForEach::Sized':
        - Size
        - !Ref Sizes
        - '${Name}Size${Size}':
            Type: AWS::Serverless::Function
            Properties:
              CODE
              MemorySize: !Ref Size
              FunctionName: !Sub '${Name}-${Size}-${AWS::Region}'
Outputs:
  'Fn::ForEach::Arns': [Name, [Cart], {'${Name}Arn': {Value: !GetAtt '${Name}Function.Arn'}}]
";
    let text = format!(
        "{ASKED}{}",
        text.replace("CODE", "<<: {Handler: app.handler, Runtime: python3.12, CodeUri: ./code}")
    );
    let stack = stack(&text);
    let sized = |function: &Function| (function.id.clone(), function.name.clone(), function.memory_mb);
    let found: Vec<_> = stack.functions.iter().map(sized).collect();
    let of = |id: &str, name: &str, memory_mb| (id.to_owned(), name.to_owned(), memory_mb);
    assert_eq!(
        found,
        [
            of("CartFunction", "shop-Cart", 128),
            of("CartSize128", "Cart-128-us-east-1", 128),
            of("CartSize256", "Cart-256-us-east-1", 256),
            of("OldSize128", "Old-128-us-east-1", 128),
            of("OldSize256", "Old-256-us-east-1", 256),
        ]
    );
    let variables: Vec<_> =
        stack.functions[0].environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["ATab=https://a/b/Cart", "ATc=https://c/Cart", "KEPT=${Other}{Name}"]);
}

#[test]
fn names_in_a_loop_may_be_put_together() {
    let text = "\
Parameters:
  IsCartWanted: {Type: String, Default: 'true'}
  IsOldWanted: {Type: String, Default: 'false'}
Conditions:
  'Fn::ForEach::Wanted': [Name, [Cart, Old], {'Is${Name}': !Equals [!Ref {'Fn::Sub': 'Is${Name}Wanted'}, 'true']}]
Resources:
  'Fn::ForEach::Functions':
    - Name
    - [Cart, Old]
    - '${Name}Role': {Type: AWS::IAM::Role, Properties: {RoleName: !Sub 'of-${Name}', AssumeRolePolicyDocument: {}}}
      '${Name}Function':
        Type: AWS::Serverless::Function
        Condition: !Sub 'Is${Name}'
        DependsOn: [!Sub '${Name}Role']
        Properties:
          Handler: app.handler
          Runtime: python3.12
          CodeUri: ./code
          Role: !GetAtt [!Sub '${Name}Role', Arn]
          Environment:
            Variables:
              ROLE: {Ref: !Sub '${Name}Role'}
              SAME: !Ref {'Fn::Sub': '${Name}Role'}
              SIZE: !Sub '${Name}${!Literal}'
";
    let stack = stack(&format!("{ASKED}{text}"));
    let [function] = &stack.functions[..] else { panic!("{:?}", stack.functions) };
    let variables: Vec<_> =
        function.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["ROLE=of-Cart", "SAME=of-Cart", "SIZE=Cart${Literal}"]);
}

#[test]
fn a_collection_may_stand_in_a_map() {
    let text = "\
Parameters:
  Stage: {Type: String, Default: test}
Mappings:
  Names: {test: {List: [One, Two], Sizes: [128]}, us-east-1: {List: [Three]}}
Resources:
  'Fn::ForEach::OfStage':
    - Name
    - !FindInMap [Names, !Ref Stage, List]
    - 'Fn::ForEach::Sized':
        - Size
        - Fn::FindInMap: [Names, !Ref Stage, Sizes]
        - '${Name}${Size}': &function
            Type: AWS::Serverless::Function
            Properties: {Handler: app.handler, Runtime: python3.12, CodeUri: ./code}
  'Fn::ForEach::OfRegion': [Name, !FindInMap [Names, !Ref AWS::Region, List], {'${Name}': *function}]
  'Fn::ForEach::Else':
    - Name
    - !FindInMap [Names, prod, List, DefaultValue: [Four, !Ref AWS::AccountId]]
    - 'Else${Name}': *function
";
    let stack = stack(&format!("{ASKED}{text}"));
    let found: Vec<_> = stack.functions.iter().map(|function| function.id.as_str()).collect();
    assert_eq!(found, ["One128", "Two128", "Three", "ElseFour", "Else000000000000"]);
}

#[test]
fn a_loop_over_the_parameter_store_that_names_by_letters_alone_is_no_reason_to_run_nothing() {
    let text = "\
Parameters:
  Zones: {Type: 'AWS::SSM::Parameter::Value<List<String>>', Default: /zones}
Resources:
  'Fn::ForEach::Topics': [Zone, !Ref Zones, {'Topic&{Zone}': {Type: AWS::SNS::Topic, Properties: {DisplayName: !Ref Zone}}}]
  Cart:
    Type: AWS::Serverless::Function
    Properties: {Handler: app.handler, Runtime: python3.12, CodeUri: ./code}
";
    let stack = stack(&format!("{ASKED}{text}"));
    assert_eq!(stack.functions.iter().map(|function| function.id.as_str()).collect::<Vec<_>>(), ["Cart"]);
}

#[test]
fn what_is_wrong_with_a_loop_is_told_at_its_place() {
    let body = |body: &str| format!("Transform: AWS::LanguageExtensions\nResources: {{{body}}}\n");
    for (text, expected) in [
        (body("'Fn::ForEach::A': [N, [x]]"), "t:2:13: the loop `A` is no list of three"),
        (
            body("'Fn::ForEach::A': [N, !Ref Nothing, {'${N}': {Type: x}}]"),
            "t:2:35: expected a list of texts",
        ),
        (body("'Fn::ForEach::A': [N, [[x]], {'${N}': {Type: x}}]"), "t:2:35: expected a list of texts"),
        (
            body("'Fn::ForEach::A': [N, [x, y], {Same: {Type: x}}]"),
            "t:2:44: a loop gives the key `Same` twice",
        ),
        (
            body("'Fn::ForEach::A': [N, [x], {'Fn::ForEach::A': [M, [y], {'${N}': {Type: x}}]}]"),
            "t:2:41: there are two loops `A`",
        ),
        (
            "Transform: AWS::LanguageExtensions\nParameters: {P: {Type: 'AWS::SSM::Parameter::Value<List<String>>', Default: /p}}\n\
             Resources: {'Fn::ForEach::A': [N, !Ref P, {'${N}': {Type: x}}]}\n"
                .to_owned(),
            "t:3:35: the values of a loop are needed here, and these lie in AWS's parameter store",
        ),
        (
            "Transform: AWS::LanguageExtensions\nConditions: {'Fn::ForEach::A': [N, [x], {'${N}': !Equals [a, b]}]}\n\
             Resources: {'Fn::ForEach::A': [N, [y], {'${N}': {Type: x}}]}\n"
                .to_owned(),
            "t:3:13: there are two loops `A`",
        ),
        (
            "Transform: AWS::LanguageExtensions\nParameters: {P: {Type: 'AWS::SSM::Parameter::Value<List<String>>', Default: /p}}\n\
             Resources: {'Fn::ForEach::A': [N, !Ref P, {'Fn::ForEach::B': [M, [x], {'${N}${M}': {Type: x}}]}]}\n"
                .to_owned(),
            "t:3:35: the values of a loop are needed here, and these lie in AWS's parameter store",
        ),
        (
            body("Cart: {Type: x}, 'Fn::ForEach::Cart': [N, [y], {'${N}': {Type: x}}]"),
            "t:2:30: the loop `Cart` has the name of a resource",
        ),
    ] {
        let said = problems(&text);
        assert!(said.iter().any(|said| said.starts_with(expected)), "{expected}: {said:?}");
    }
}

#[test]
fn loops_of_loops_end() {
    let names = vec!["x"; 100].join(",");
    let mut inner = "'${A}': {Type: '${A}${A}${A}${A}${A}${A}'}".to_owned();
    for depth in 0..12 {
        inner = format!("'Fn::ForEach::L{depth}': [A, [{names}], {{{inner}}}]");
    }
    let text = format!("Transform: AWS::LanguageExtensions\nResources: {{{inner}}}\n");
    let said = problems(&text);
    assert!(said.iter().any(|said| said.contains("the template's loops have given too much")), "{said:?}");
    let long = format!("[{}]", "y".repeat(1 << 14));
    let many = "${A}".repeat(1 << 15);
    let text = format!(
        "Transform: AWS::LanguageExtensions\nResources: {{'Fn::ForEach::L': [A, {long}, {{'${{A}}': {{Type: '{many}'}}}}]}}\n"
    );
    let said = problems(&text);
    assert!(said.iter().any(|said| said.contains("the template's loops have given too much")), "{said:?}");
}

#[test]
fn loops_that_fail_end() {
    let list = |count: usize, of: &str| format!("[{}]", vec![of; count].join(",\n "));
    let body = |outer: usize, inner: &str| {
        let outer = list(outer, "y");
        format!(
            "{ASKED}Mappings: {{M: {{MAP}}}}\nResources: {{'Fn::ForEach::Outer': [A, {outer}, {{{inner}}}]}}\n"
        )
    };
    let keys = |of: &dyn Fn(usize) -> String| (0..30_000).map(of).collect::<Vec<_>>().join(",\n ");
    let last_is_none = list(80_000, "y").replace("y]", "[]]");
    let deep = format!("'Fn::ForEach::Inner': [B, [{}], {{}}]", list(40_000, "[y]"));
    let no_list = keys(&|at| format!("'Fn::ForEach::L{at}': 1"));
    let in_map = "'Fn::ForEach::Inner': [B, !FindInMap [M, None, List], {}]";
    for text in [
        body(80_000, &format!("'Fn::ForEach::Inner': [B, {last_is_none}, {{}}]")),
        body(80_000, in_map).replace("MAP", &keys(&|at| format!("K{at}: y"))),
    ] {
        let said = problems(&text);
        assert!(said.iter().any(|said| said.contains("loops have given too much")), "{said:?}");
    }
    let said = problems(&body(80_000, &deep));
    assert!(said.iter().any(|said| said.contains("expected a list of texts")), "{said:?}");
    let said = problems(&body(20_000, &no_list));
    let more = said.last().and_then(|said| said.split_once("and ")?.1.strip_suffix(" more problems"));
    assert!(more.is_some_and(|more| more.parse::<usize>().unwrap() < 400_000), "{said:?}");
}
