//! Stacks of one app, read together.

use crate::{inputs, said};
use model::stack::Stack;
use template::{Inputs, app};

const BASE: &str = r#"
Parameters: {Range: {Type: String, Default: 10.1.0.0/16}}
Conditions: {Off: !Equals [a, b]}
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: !Ref Range}}
  Subnet: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.1.1.0/24}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {VpcId: !Ref Vpc, GroupDescription: functions}}
  Worker:
    Type: AWS::Lambda::Function
    Properties: {Runtime: python3.13, Handler: a.b, Role: !Sub 'arn:aws:iam::${AWS::AccountId}:role/r', Code: ./base}
Outputs:
  Subnet: {Value: !Ref Subnet, Export: {Name: !Sub '${AWS::StackName}-Subnet'}}
  Group: {Value: !GetAtt Group.GroupId, Export: {Name: base:Group}}
  Off: {Condition: Off, Value: !Ref Nothing, Export: {Name: base:Off}}
"#;

const SHOP: &str = r#"
Transform: AWS::Serverless-2016-10-31
Parameters: {Network: {Type: String, Default: base}}
Globals: {Function: {Runtime: python3.13, Handler: a.b}}
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ./shop
      Environment: {Variables: {NAME: !Ref AWS::StackName}}
      VpcConfig:
        SubnetIds: [Fn::ImportValue: !Sub '${Network}-Subnet']
        SecurityGroupIds: [!ImportValue 'base:Group']
      Events: {Get: {Type: HttpApi, Properties: {Path: /, Method: get}}}
  Caller:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ./shop, Environment: {Variables: {WORKER: !Ref Worker}}}
"#;

fn read(stacks: &[(&str, &str)], inputs: &Inputs) -> template::Outcome {
    let files: Vec<_> = stacks.iter().map(|(name, text)| (*name, format!("{name}.yaml"), *text)).collect();
    template::read("t", &app::join(files.iter().map(|(name, file, text)| (*name, &**file, *text))), inputs)
}

#[track_caller]
fn stack(stacks: &[(&str, &str)]) -> Stack {
    let outcome = read(stacks, &inputs());
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    outcome.stack.expect("a stack when there is no problem")
}

fn problems(stacks: &[(&str, &str)]) -> Vec<String> {
    let outcome = read(stacks, &inputs());
    assert!(outcome.stack.is_none());
    said(&outcome.problems)
}

const BASE_WITHOUT_OFF: fn() -> String =
    || BASE.lines().filter(|line| !line.contains("Off")).collect::<Vec<_>>().join("\n");

#[test]
fn a_function_of_one_stack_is_in_the_subnets_of_another() {
    let base = BASE_WITHOUT_OFF();
    // In whichever order they are named.
    for stacks in [[("base", &*base), ("shop", SHOP)], [("shop", SHOP), ("base", &*base)]] {
        let stack = stack(&stacks);
        let function =
            stack.functions.iter().find(|function| function.id == "shopWorker").expect("told apart");
        let vpc = function.vpc.as_ref().expect("it is in the VPC");
        assert_eq!(vpc.subnets[0].logical(), Some("Subnet"));
        assert_eq!(vpc.security_groups[0].logical(), Some("Group"));
        assert_eq!(stack.subnets[0].cidr.to_string(), "10.1.1.0/24");
        let names: Vec<_> = stack.functions.iter().map(|function| function.name.as_str()).collect();
        // As each alone would have it.
        let alone = template::read("t", &base, &Inputs { stack_name: "base".into(), ..Inputs::default() });
        assert!(names.contains(&&*alone.stack.unwrap().functions[0].name), "{names:?}");
        assert_eq!(stack.http_apis.len(), 1);
        assert_eq!(stack.http_apis[0].id, "ServerlessHttpApi");
        assert_eq!(stack.name, stacks[0].0, "the first one's");
    }
}

#[test]
fn each_stack_has_its_own_names() {
    let base = BASE_WITHOUT_OFF();
    let stack = stack(&[("base", &base), ("shop", SHOP)]);
    let function = stack.functions.iter().find(|function| function.id == "shopWorker").unwrap();
    assert_eq!(function.environment["NAME"], "shop");
    let caller = stack.functions.iter().find(|function| function.id == "Caller").unwrap();
    assert_eq!(caller.environment["WORKER"], function.name);
    let ids: Vec<_> = stack.functions.iter().map(|function| function.id.as_str()).collect();
    assert_eq!(ids, ["baseWorker", "shopWorker", "Caller"]);
}

/// Functions of one id have each their own versions, and subnets lie in the zones in which each stack alone has them.
#[test]
fn resources_are_numbered_in_their_own_stack() {
    let shop = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  Subnet: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  Worker:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: a.b, CodeUri: ./shop, AutoPublishAlias: live}
Outputs: {Version: {Value: !GetAtt Worker.Version.Version}}
";
    let read = stack(&[("one", shop), ("two", shop)]);
    let versions: Vec<_> = read.outputs.iter().map(|output| (&*output.id, &*output.value)).collect();
    assert_eq!(versions, [("oneVersion", "1"), ("twoVersion", "1")]);
    assert_eq!(read.subnets[0].availability_zone, read.subnets[1].availability_zone);
}

#[test]
fn a_parameter_is_given_to_the_stacks_that_declare_it() {
    let base = BASE_WITHOUT_OFF().replace("10.1.1.0/24", "10.2.1.0/24");
    let given = |name: &str, value: &str| Inputs {
        parameters: [(name.to_owned(), value.to_owned())].into(),
        ..inputs()
    };
    let outcome = read(&[("shop", SHOP), ("base", &base)], &given("Range", "10.2.0.0/16"));
    assert_eq!(outcome.stack.expect("it fits").vpcs[0].cidr.to_string(), "10.2.0.0/16");
    let outcome = read(&[("shop", SHOP), ("base", &base)], &given("Rangee", "10.2.0.0/16"));
    assert!(said(&outcome.problems)[0].contains("the parameter `Rangee` does not exist"));
}

#[test]
fn what_no_stack_exports_is_refused_in_awss_words() {
    let base = BASE_WITHOUT_OFF();
    let slip = SHOP.replace("base:Group", "base:Grupp");
    let said = problems(&[("base", &base), ("shop", &slip)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("No export named base:Grupp found") && said[0].contains("`base:Group`"),
        "{said:?}"
    );
    // The place is the one in its own file.
    let line = slip.lines().position(|line| line.contains("base:Grupp")).unwrap() + 1;
    assert!(said[0].starts_with(&format!("t:{line}:")), "{said:?}");
    // Under a condition that is false.
    let conditional = BASE.replace("!Ref Nothing", "x");
    let said = problems(&[("base", &conditional), ("shop", &SHOP.replace("base:Group", "base:Off"))]);
    assert!(said[0].contains("No export named base:Off found"), "{said:?}");
    // Of its own no stack imports.
    let own = format!("{base}\n  Own: {{Value: !ImportValue 'base:Group'}}\n");
    assert!(problems(&[("base", &own), ("shop", SHOP)])[0].contains("No export named base:Group found"));
}

#[test]
fn a_name_is_exported_once() {
    let base = BASE_WITHOUT_OFF();
    let other = "Resources: {T: {Type: AWS::SNS::Topic}}\nOutputs: {T: {Value: !Ref T, Export: {Name: 'base:Group'}}}";
    let said = problems(&[("base", &base), ("other", other)]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("Export with name base:Group is already exported by stack base"), "{said:?}");
}

#[test]
fn stacks_that_need_each_other_are_refused() {
    let one = |own: &str, other: &str| {
        format!(
            "Resources:\n  P{own}: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: x}}}}\n  \
             Q{own}: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: !ImportValue {other}}}}}\n\
             Outputs: {{O: {{Value: !Ref P{own}, Export: {{Name: {own}}}}}}}"
        )
    };
    let said = problems(&[("a", &one("x", "y")), ("b", &one("y", "x"))]);
    assert!(said[0].contains("stacks depend on each other in a circle: a -> b -> a"), "{said:?}");
    // An export that is another's import.
    let through = "Resources: {T: {Type: AWS::SNS::Topic}}\n\
         Outputs: {O: {Value: !ImportValue x, Export: {Name: z}}}";
    let base = "Resources: {V: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}}\n\
         Outputs: {O: {Value: !Ref V, Export: {Name: x}}}";
    let last = "Resources: {S: {Type: AWS::EC2::Subnet, Properties: {VpcId: !ImportValue z, CidrBlock: 10.0.1.0/24}}}";
    let found = stack(&[("last", last), ("through", through), ("base", base)]);
    assert_eq!(found.subnets[0].vpc.logical(), Some("V"));
}

#[test]
fn what_is_not_imported_makes_no_circle() {
    let one = |own: &str, other: &str| {
        format!(
            "Conditions: {{No: !Equals [a, b]}}\nResources:\n  \
             P{own}: {{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: !If [No, !ImportValue {other}, v]}}}}\n  \
             Q{own}: {{Type: AWS::SSM::Parameter, Condition: No, Properties: {{Type: String, Value: !ImportValue {other}}}}}\n\
             Outputs: {{O: {{Value: !Ref P{own}, Export: {{Name: {own}}}}}}}"
        )
    };
    stack(&[("a", &one("x", "y")), ("b", &one("y", "x"))]);
}

/// Stacks that import from each other `count` exports in turn, each `call` of the next.
fn chain(count: usize, call: impl Fn(&str) -> String) -> [String; 2] {
    [0, 1].map(|stack| {
        let one = |at: usize| {
            let value = if at + 1 < count { call(&format!("!ImportValue x{}", at + 1)) } else { "''".into() };
            format!("\n  O{at}: {{Export: {{Name: x{at}}}, Value: {value}}}")
        };
        let outputs: String = (stack..count).step_by(2).map(one).collect();
        format!("Resources: {{T{stack}: {{Type: AWS::SNS::Topic}}}}\nOutputs:{outputs}")
    })
}

#[test]
fn exports_that_lead_to_others_are_followed_within_bounds() {
    let refused = |[a, b]: [String; 2]| problems(&[("a", &a), ("b", &b)]);
    let [a, b] = chain(30, |next| format!("!Join ['', [{next}]]"));
    stack(&[("a", &a), ("b", &b)]);
    // Each twice the next: a value of 2^34 parts.
    let said = refused(chain(34, |next| format!("!Join ['', [{next}, {next}]]")));
    assert!(said.iter().any(|said| said.contains("the template has become too large")), "{said:?}");
    // Each in as many calls as a template may nest.
    let nested = |next: &str| format!("{}{next}{}", "!Join ['', [".repeat(45), "]]".repeat(45));
    let said = refused(chain(60, nested));
    assert!(said[0].contains("leads to itself, or through too many others"), "{said:?}");
}

#[test]
fn problems_stand_in_the_file_that_they_are_of() {
    let base = BASE_WITHOUT_OFF();
    let slip = SHOP.replace("CodeUri", "CodeUrl");
    let whole = app::join([("base", "base.yaml", &*base), ("shop", "shop.yaml", &*slip)]);
    let outcome = template::read("t", &whole, &inputs());
    let found =
        outcome.problems.iter().chain(&outcome.warnings).find(|one| one.to_string().contains("CodeUrl"));
    let span = found.expect("a slip is told").span;
    let part = app::part_at(&whole, span.offset).unwrap();
    assert_eq!((part.stack, part.file), ("shop", "shop.yaml"));
    let at = span.offset as usize - part.offset;
    assert!(slip[at..].starts_with("CodeUrl"), "{:?}", &slip[at..at + 10]);
}

#[test]
fn a_template_with_the_sign_that_parts_them_is_one() {
    let base = format!("# \u{1e}other\tother.yaml\n{}", BASE_WITHOUT_OFF());
    assert_eq!(app::parts(&app::join([("base", "b", &*base), ("shop", "s", SHOP)])).len(), 2);
    assert_eq!(stack(&[("base", &base), ("shop", SHOP)]).functions.len(), 3);
}

#[test]
fn a_file_that_a_stack_names_is_its_own() {
    let with = "Resources:\n  A: {Type: AWS::SNS::Topic}\n  Fn::Transform: {Name: AWS::Include, Parameters: {Location: part.yaml}}";
    let whole = app::join([("a", "a.yaml", with), ("b", "b.yaml", with)]);
    let asked = app::files_of(&app::parts(&whole));
    assert_eq!(asked, [("a", "part.yaml".to_owned()), ("b", "part.yaml".to_owned())]);
    let file =
        |id: &str| Ok(format!("{id}: {{Type: AWS::EC2::VPC, Properties: {{CidrBlock: 10.0.0.0/16}}}}"));
    let files =
        [(app::file_name("a", "part.yaml"), file("InA")), (app::file_name("b", "part.yaml"), file("InB"))];
    let outcome = template::read("t", &whole, &Inputs { files: files.into(), ..inputs() });
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    let ids: Vec<_> = outcome.stack.unwrap().vpcs.into_iter().map(|vpc| vpc.id).collect();
    assert_eq!(ids, ["InA", "InB"]);
}
