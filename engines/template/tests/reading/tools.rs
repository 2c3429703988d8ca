//! Templates in the shape that other tools leave behind: `cdk synth` and `serverless package`.

use super::{inputs, stack, warnings};
use model::stack::{Code, Link};

const CDK: &str = include_str!("fixtures/cdk.json");
const SERVERLESS: &str = include_str!("fixtures/serverless.json");

#[test]
fn cdk_assets_routes_and_plans_are_read() {
    let stack = stack(CDK);
    let function = &stack.functions[0];
    assert_eq!(function.asset_path.as_deref(), Some("asset.4f0c9a7f5f"));
    let bucket = "cdk-hnb659fds-assets-000000000000-us-east-1".to_owned();
    assert_eq!(function.code, Code::S3 { bucket, key: "4f0c9a7f5f.zip".into(), version: None });
    assert_eq!(function.environment["GREETING"], "café 😀");
    assert_eq!(
        function.vpc.as_ref().unwrap().subnets,
        [Link::Logical("VpcPrivateSubnet1Subnet536B997A".into())]
    );
    assert_eq!(stack.layers[0].asset_path.as_deref(), Some("asset.aa"));
    assert_eq!((stack.aliases[0].name.as_str(), stack.aliases[0].provisioned_concurrency), ("live", Some(3)));
    let route = &stack.http_apis[0].routes[0];
    assert_eq!((route.method.as_str(), route.path.as_str()), ("ANY", "/{proxy+}"));
    assert_eq!(
        route.integration.as_ref().unwrap().function.as_ref().unwrap().function,
        Link::Logical("Fn9270CBC0".into())
    );
    let rest = &stack.rest_apis[0];
    let keys: Vec<&str> = rest.routes.iter().map(|route| route.route_key.as_str()).collect();
    assert_eq!(keys, ["GET /cart/{id}", "ANY /"]);
    let target = rest.routes[0].integration.as_ref().unwrap().function.as_ref().unwrap();
    assert_eq!((target.function.as_str(), target.qualifier.as_deref()), ("Fn9270CBC0", Some("live")));
    assert!(rest.routes[0].api_key_required);
    let plan = &stack.usage_plans[0];
    assert_eq!(plan.keys, [Link::Logical("PlanKey".into())]);
    assert_eq!(
        (plan.stages[0].stage.as_str(), plan.stages[0].throttles["/cart/{id}/GET"].burst_limit),
        ("prod", Some(2))
    );
    assert_eq!(plan.throttle.unwrap().rate_limit, Some(5.5));
    assert_eq!(warnings(CDK), Vec::<String>::new());
}

/// The CDK puts functions of its own beside the app's (`framework.onEvent`): `up` does not name them as what to try.
#[test]
fn who_serves_custom_resources_is_known() {
    let text = r#"{"Resources": {
        "Provider": {"Type": "AWS::Lambda::Function", "Properties": {"Code": {"ZipFile": "x"},
            "Handler": "framework.onEvent", "Runtime": "nodejs22.x", "Role": "arn:aws:iam::000000000000:role/r"}},
        "Own": {"Type": "AWS::Lambda::Function", "Properties": {"Code": {"ZipFile": "x"},
            "Handler": "index.handler", "Runtime": "nodejs22.x", "Role": "arn:aws:iam::000000000000:role/r"}},
        "Made": {"Type": "Custom::Thing", "Properties": {"ServiceToken": {"Fn::GetAtt": ["Provider", "Arn"]}}},
        "Other": {"Type": "AWS::CloudFormation::CustomResource", "Properties": {"ServiceToken": "arn:aws:sns:us-east-1:1:t"}}
    }}"#;
    assert_eq!(stack(text).providers, ["Provider"]);
}

#[test]
fn a_cdk_image_says_how_it_is_built() {
    let text = r#"{"Resources": {"Fn": {"Type": "AWS::Lambda::Function", "Properties": {
        "Code": {"ImageUri": {"Fn::Sub": "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/assets:4f0c"}},
        "PackageType": "Image", "Role": "arn:aws:iam::000000000000:role/r"},
      "Metadata": {"aws:cdk:path": "App/Fn/Resource", "aws:asset:path": "asset.4f0c",
        "aws:asset:dockerfile-path": "Dockerfile.prod", "aws:asset:docker-build-args": {"VERSION": "1"},
        "aws:asset:docker-build-target": "prod", "aws:asset:property": "Code.ImageUri"}}}}"#;
    let Code::Image { uri, docker: Some(docker) } = &stack(text).functions[0].code else {
        panic!("no build")
    };
    assert_eq!(uri.as_deref(), Some("000000000000.dkr.ecr.us-east-1.amazonaws.com/assets:4f0c"));
    assert_eq!(docker.context.as_deref(), Some("asset.4f0c"));
    assert_eq!(
        (docker.dockerfile.as_deref(), docker.target.as_deref()),
        (Some("Dockerfile.prod"), Some("prod"))
    );
    assert_eq!(docker.build_args["VERSION"], "1");
}

#[test]
fn serverless_packages_are_read() {
    let stack = stack(SERVERLESS);
    let function = &stack.functions[0];
    assert_eq!(function.name, "shop-dev-hello");
    assert!(matches!(&function.code, Code::S3 { bucket, key, .. }
        if bucket == "shop-serverlessdeploymentbucket" && key.ends_with("/shop.zip")));
    assert_eq!(
        function.role.as_deref(),
        Some("arn:aws:iam::000000000000:role/shop-dev-us-east-1-lambdaRole")
    );
    let api = &stack.rest_apis[0];
    assert_eq!((api.routes[0].route_key.as_str(), api.stages[0].name.as_str()), ("GET /hello", "dev"));
    let endpoint = stack.outputs.iter().find(|output| output.id == "ServiceEndpoint").unwrap();
    assert_eq!(endpoint.local_url, Some(format!("{}/dev", api.url)));
    let said = warnings(SERVERLESS);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("AWS::S3::Bucket is not run") && said[1].contains("AWS::S3::BucketPolicy"),
        "{said:?}"
    );
}

#[test]
fn a_functions_mistyped_type_is_told_with_what_was_meant() {
    let text = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Cart: {Type: AWS::Serverles::Funtion, Properties: {Runtime: python3.13, Handler: a.b, InlineCode: x}}
  Steps: {Type: AWS::Serverless::StateMachine, Properties: {}}
  Application: {Type: AWS::Serverless::Application, Properties: {}}
  Table: {Type: AWS::Serverless::SimpleTable, Properties: {}}
  Graph: {Type: AWS::Serverless::GraphQLApi, Properties: {}}
";
    let warnings = template::read("t", text, &inputs()).warnings;
    let helps: Vec<_> = warnings.iter().filter_map(|warning| warning.help.as_deref()).collect();
    assert_eq!(helps, ["did you mean `AWS::Serverless::Function`?"]);
}

#[test]
fn web_socket_apis_are_no_doors_and_said_once() {
    let text = "
Resources:
  Chat: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: chat, ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.action}}
  Web: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: web, ProtocolType: HTTP}}
";
    let read = stack(text);
    assert_eq!(read.http_apis.iter().map(|api| api.id.as_str()).collect::<Vec<_>>(), ["Web"]);
    assert_eq!(read.others[0].id, "Chat");
    let said = warnings(text);
    assert!(said.len() == 1 && said[0].contains("with ProtocolType WEBSOCKET is not run: Chat"), "{said:?}");
}

/// As `sam build` 1.170 leaves it, cut down: it keeps the methods and says in `SamResourceId` that it has built.
#[test]
fn what_sam_built_is_not_built_again() {
    let text = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Shared:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: Shared, CompatibleRuntimes: [python3.13]}
    Metadata: {BuildMethod: python3.13, SamResourceId: Shared}
  Web:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: esbuild, BuildProperties: {EntryPoints: [app.ts]}, SamResourceId: Web}
    Properties: {CodeUri: Web, Runtime: nodejs22.x, Handler: app.handler}
";
    let built = stack(text);
    assert_eq!((&built.layers[0].build_method, &built.functions[0].build_method), (&None, &None));
    let source = stack(&text.replace(", SamResourceId: Shared", "").replace(", SamResourceId: Web", ""));
    assert_eq!(source.layers[0].build_method.as_deref(), Some("python3.13"));
    assert_eq!(source.functions[0].build_method.as_deref(), Some("esbuild"));
}

#[test]
fn flags_of_cargo_lambda_are_told() {
    let text = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Cart:
    Type: AWS::Serverless::Function
    Metadata:
      BuildMethod: rust-cargolambda
      BuildProperties: {Binary: cart, Flags: [--features, mock]}
    Properties: {CodeUri: cart, Runtime: provided.al2023, Handler: bootstrap}
";
    assert_eq!(stack(text).functions[0].build_binary.as_deref(), Some("cart"));
    let said = warnings(text);
    assert!(said.len() == 1 && said[0].starts_with("t:8:46: Cart is built without these flags"), "{said:?}");
    assert_eq!(
        warnings(&text.replace("      BuildMethod", "      SamResourceId: Cart\n      BuildMethod")),
        [""; 0]
    );
}
