//! Templates that take parts from files of their own.

use super::{inputs, said};
use std::collections::BTreeMap;
use template::{Inputs, Outcome};

const API: &str = "
openapi: 3.0.1
paths:
  /a:
    get:
      x-amazon-apigateway-integration:
        type: aws_proxy
        uri: {Fn::Sub: 'arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Cart.Arn}/invocations'}
";

fn read(text: &str, files: &[(&str, Result<&str, &str>)]) -> Outcome {
    let one = |(name, text): &(&str, Result<&str, &str>)| {
        ((*name).to_owned(), text.map(str::to_owned).map_err(str::to_owned))
    };
    let files: BTreeMap<_, _> = files.iter().map(one).collect();
    template::read("t", text, &Inputs { files, ..inputs() })
}

fn sam(resources: &str) -> String {
    format!(
        "Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: cart, Handler: a.b, Runtime: python3.13}}
{resources}"
    )
}

#[test]
fn definitions_of_apis_are_read_from_their_files() {
    let text = sam("
  Included:
    Type: AWS::Serverless::HttpApi
    Properties: {DefinitionBody: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: ../../api.yaml}}}}
  Named: {Type: AWS::Serverless::Api, Properties: {StageName: v1, DefinitionUri: ../../api.yaml}}
  Plain: {Type: AWS::ApiGateway::RestApi, Properties: {BodyS3Location: ../../api.yaml}}
  Far: {Type: AWS::Serverless::Api, Properties: {StageName: v1, DefinitionUri: 's3://bucket/api.yaml'}}
  Stored: {Type: AWS::ApiGatewayV2::Api, Properties: {BodyS3Location: {Bucket: bucket, Key: api.yaml}}}
  Absent: {Type: AWS::ApiGateway::RestApi, Properties: {Name: absent, BodyS3Location: !Ref AWS::NoValue}}
  Short: {Type: AWS::Serverless::HttpApi, Properties: {DefinitionBody: !Transform {Name: 'AWS::Include', Parameters: {Location: ../../api.yaml}}}}
");
    assert_eq!(template::files_of(&text), ["../../api.yaml".to_owned()].into());
    let outcome = read(&text, &[("../../api.yaml", Ok(API))]);
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    let stack = outcome.stack.unwrap();
    let http = stack.http_apis.iter().map(|api| (api.id.as_str(), &api.routes));
    let rest = stack.rest_apis.iter().map(|api| (api.id.as_str(), &api.routes));
    for (id, routes) in http.chain(rest) {
        let keys: Vec<&str> = routes.iter().map(|route| route.route_key.as_str()).collect();
        assert_eq!(
            keys,
            if matches!(id, "Far" | "Stored" | "Absent") { &[][..] } else { &["GET /a"][..] },
            "{id}"
        );
        for route in routes {
            let called = route.integration.as_ref().unwrap().function.as_ref().unwrap();
            assert_eq!(called.function.as_str(), "Cart", "{id}");
        }
    }
    let warned = said(&outcome.warnings);
    let of = |words: &str| warned.iter().filter(|line| line.contains(words)).count();
    let told =
        (of("functions in it are not resolved"), of("is in another file"), of("is in S3"), warned.len());
    assert_eq!(told, (2, 1, 1, 4));
}

#[test]
fn models_of_a_definition_are_no_calls() {
    let text = sam("
  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1, DefinitionUri: api.yaml}}
");
    let models = "Cart: {type: object, properties: {Ref: {type: string}}}";
    let api = "paths: {/a: {get: {x-amazon-apigateway-integration: {type: mock}}}}";
    for definition in [
        format!("swagger: '2.0'\n{api}\ndefinitions: {{{models}}}\n"),
        format!("openapi: 3.0.1\n{api}\ncomponents: {{schemas: {{{models}}}}}\n"),
    ] {
        let outcome = read(&text, &[("api.yaml", Ok(&definition))]);
        assert_eq!((said(&outcome.problems), said(&outcome.warnings)), Default::default());
        assert_eq!(outcome.stack.unwrap().rest_apis[0].routes[0].route_key, "GET /a");
    }
}

#[test]
fn a_definition_that_is_yet_to_be_made_leaves_its_api_without_routes() {
    let text = sam("
  Api: {Type: AWS::Serverless::Api, Properties: {StageName: v1, DefinitionUri: build/api.json}}
");
    let outcome = read(&text, &[("build/api.json", Err("cannot open build/api.json"))]);
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    assert_eq!(outcome.stack.unwrap().rest_apis[0].routes, []);
    let warned = said(&outcome.warnings);
    assert!(
        warned.len() == 1
            && warned[0].contains("cannot open build/api.json: the API has no routes from there"),
        "{warned:?}"
    );
}

#[test]
fn more_files_than_are_read_are_told() {
    let parts: Vec<String> = (0..=100)
        .map(|number| {
            format!("  - Fn::Transform: {{Name: AWS::Include, Parameters: {{Location: {number:03}}}}}\n")
        })
        .collect();
    let text = format!("Metadata:\n{}{}", parts.concat(), "Resources: {P: {Type: AWS::SNS::Topic}}\n");
    let names = template::files_of(&text);
    assert_eq!((names.len(), names.contains("100")), (100, false));
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), Ok("a: b"))).collect();
    let warned = said(&read(&text, &files).warnings);
    assert!(
        warned[0].contains("`100` is not read") && warned[0].contains("100 files are the most"),
        "{warned:?}"
    );
}

#[test]
fn parts_join_what_stands_around_them() {
    let text = "
Transform: [{Name: 'AWS::Include', Parameters: {Location: top.json}}]
Resources:
  Own: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !FindInMap [Names, a, b], Name: own}}
  Fn::Transform: {Name: 'AWS::Include', Parameters: {Location: more.yaml}}
  Other:
    Type: AWS::SSM::Parameter
    Properties:
      Fn::Transform: [{Name: AWS::Include, Parameters: {Location: properties.yaml}}]
      Name: other
  Macro:
    Type: AWS::SSM::Parameter
    Properties: {Type: String, Value: x, Name: macro, Tags: {Fn::Transform: {Name: OurTags}}}
Outputs:
  More: {Value: !Ref More}
";
    let files = [
        ("top.json", Ok(r#"{"Mappings": {"Names": {"a": {"b": "from the top"}}}}"#)),
        (
            "more.yaml",
            Ok(
                "More: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: m, Name: more}}\nOwn: {}",
            ),
        ),
        ("properties.yaml", Ok("{Type: String, Value: o, Name: not this}")),
    ];
    let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(template::files_of(text), names.into_iter().collect());
    let outcome = read(text, &files);
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    let stack = outcome.stack.unwrap();
    let parameters: Vec<(&str, &str)> =
        stack.ssm_parameters.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    assert_eq!(parameters, [("own", "from the top"), ("other", "o"), ("macro", "x"), ("more", "m")]);
    assert_eq!(stack.outputs[0].value, "more");
    let warned = said(&outcome.warnings);
    assert!(warned.len() == 1 && warned[0].contains("the transform `OurTags` is not run"), "{warned:?}");
}

#[test]
fn what_is_wrong_with_a_part_is_told_where_it_is_named() {
    let at = "t:8:74: ";
    let text = sam("
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {DefinitionBody: {x: {a: {Name: AWS::Include}}, paths: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: api.yaml}}}}}
");
    let told = |file| said(&read(&text, &[("api.yaml", file)]).problems);
    let column = text.lines().nth(8).unwrap().find("Fn::Transform").unwrap() + 1;
    let at = at.replace("8:74", &format!("9:{column}"));
    assert_eq!(
        told(Err("cannot open api.yaml")),
        [format!("{at}cannot open api.yaml (paths are relative to the template)")]
    );
    assert!(
        told(Ok("a: [1"))[0].starts_with(&format!("{at}api.yaml:2:1: this is not valid YAML")),
        "{:?}",
        told(Ok("a: [1"))
    );
    let unknown =
        told(Ok("/a: {get: {x-amazon-apigateway-integration: {type: aws_proxy, uri: {Ref: Kart}}}}"));
    assert!(
        unknown[0].starts_with(&at) && unknown[0].ends_with("(did you mean `Cart`?; in api.yaml)"),
        "{unknown:?}"
    );
    let itself = told(Ok("/a: {Fn::Transform: {Name: AWS::Include, Parameters: {Location: api.yaml}}}"));
    assert!(itself[0].contains("not run inside of an included file"), "{itself:?}");
    let deep = format!("{}{}", "[".repeat(98), "]".repeat(98));
    assert!(told(Ok(&deep))[0].contains("nested more than 100 deep"), "{:?}", told(Ok(&deep)));
    // Nobody handed it in.
    let outcome = read(&text, &[]);
    assert!(outcome.problems.is_empty() && said(&outcome.warnings)[0].contains("is not read"));
}

#[test]
fn a_part_that_is_put_in_often_is_bounded() {
    let large = format!("Value: |\n{}", format!("  {}\n", "x".repeat(1 << 10)).repeat(1 << 10));
    let mut text = "Resources:\n".to_owned();
    for number in 0..20 {
        text += &format!(
            "  P{number}: {{Type: 'AWS::SSM::Parameter', Properties: {{Fn::Transform: {{Name: 'AWS::Include', Parameters: {{Location: x}}}}}}}}\n"
        );
    }
    let found = said(&read(&text, &[("x", Ok(&large))]).problems);
    assert!(found.iter().any(|line| line.contains("8388608 is the most")), "{found:?}");
}
