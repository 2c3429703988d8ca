//! A template of 5,000 resources, as intrinsic functions and references make it; once sound, once with mistakes.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;
use template::Inputs;

const RESOURCES: usize = 5_000;
/// Resources of one service: a role, a function, a permission, a parameter, a security group.
const OF_ONE_SERVICE: usize = 5;
/// One service in so many refers to what does not exist.
const MISTAKE_EVERY: usize = 10;
const WITHIN_MS: f64 = 200.0;

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    for (what, with_mistakes) in [("sound", false), ("with mistakes, all reported", true)] {
        let text = text(with_mistakes);
        let mut times = Samples::default();
        let mut problems = 0;
        for _ in 0..bench.rounds() {
            let begun = Instant::now();
            let outcome = black_box(template::read("template.yaml", &text, &Inputs::default()));
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            problems = outcome.problems.len();
            if with_mistakes {
                ensure!(problems > 0, "the mistakes were not found");
                continue;
            }
            ensure!(
                problems == 0,
                "{problems} problems in a sound template, the first: {:?}",
                outcome.problems[0]
            );
            let stack = outcome.stack.context("a sound template makes a stack")?;
            ensure!(
                stack.functions.len() == RESOURCES / OF_ONE_SERVICE,
                "{} functions",
                stack.functions.len()
            );
        }
        let size = text.len() / 1024;
        let found = if with_mistakes { format!(", {problems} problems") } else { String::new() };
        board.add(Figure {
            what: format!("template of {RESOURCES} resources ({size} KiB{found}), {what}"),
            unit: "ms",
            ours: times,
            other: None,
            goal: Goal::AtMost(WITHIN_MS),
        });
    }
    Ok(())
}

fn text(with_mistakes: bool) -> String {
    let mut text = "\
AWSTemplateFormatVersion: '2010-09-09'
Parameters:
  Stage: {Type: String, Default: prod}
Mappings:
  Sizes:
    prod: {Memory: 512}
Conditions:
  IsProduction: !Equals [!Ref Stage, prod]
Resources:
"
    .to_owned();
    for number in 0..RESOURCES / OF_ONE_SERVICE {
        let is_wrong = with_mistakes && number % MISTAKE_EVERY == 0;
        let role = if is_wrong { format!("Role{number}x") } else { format!("Role{number}") };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "  Role{number}:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub 'service-{number}-${{Stage}}-${{AWS::Region}}'
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement: [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: 'sts:AssumeRole'}}]
  Function{number}:
    Type: AWS::Lambda::Function
    DependsOn: Parameter{number}
    Properties:
      FunctionName: !Join ['-', [!Ref 'AWS::StackName', service, '{number}']]
      Runtime: python3.13
      Handler: index.handler
      Role: !GetAtt {role}.Arn
      MemorySize: !FindInMap [Sizes, prod, Memory]
      Timeout: !If [IsProduction, 30, 3]
      Environment:
        Variables:
          PARAMETER: !Ref Parameter{number}
          ADDRESS: !Sub 'https://${{AWS::AccountId}}.example.com/{number}'
          GROUP: !GetAtt Group{number}.GroupId
      Code: {{ZipFile: 'def handler(event, context): return event'}}
  Permission{number}:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !GetAtt Function{number}.Arn
      Principal: apigateway.amazonaws.com
  Parameter{number}:
    Type: AWS::SSM::Parameter
    Properties: {{Type: String, Name: !Sub '/${{Stage}}/service/{number}', Value: '{number}'}}
  Group{number}:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: !Sub 'service {number} in ${{AWS::Region}}'
      SecurityGroupEgress: [{{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0}}]
"
        );
    }
    text
}
