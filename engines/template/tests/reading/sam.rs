//! What the SAM transform makes of the serverless types.

use super::{problems, stack, warnings};
use model::stack::{Code, EndpointType, IntegrationKind, Link};

const HEAD: &str = "Transform: AWS::Serverless-2016-10-31\nResources:\n";

fn sam(resources: &str) -> String {
    format!("{HEAD}{resources}")
}

/// The function `Work` with these events, and what stands behind it.
fn work(events: &str, others: &str) -> String {
    sam(&format!(
        "
  Work:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: work/
      Events:{events}{others}"
    ))
}

#[test]
fn implicit_apis_come_with_the_first_event() {
    let stack = stack(&sam("
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: 'def handler(event, context): return 1'
      Handler: index.handler
      Runtime: python3.13
      Events:
        Web: {Type: HttpApi}
        Old: {Type: Api, Properties: {Path: /old, Method: any}}
Outputs:
  Http: {Value: !Sub 'https://${ServerlessHttpApi}.execute-api.${AWS::Region}.amazonaws.com/'}
  Rest: {Value: !Sub 'https://${ServerlessRestApi}.execute-api.${AWS::Region}.amazonaws.com/Prod/'}
  Stage: {Value: !Ref ServerlessRestApiProdStage}
"));
    let http = &stack.http_apis[0];
    assert_eq!((http.id.as_str(), http.routes[0].route_key.as_str()), ("ServerlessHttpApi", "$default"));
    assert_eq!(http.routes[0].id, "Hello.Web");
    let rest = &stack.rest_apis[0];
    assert_eq!((rest.id.as_str(), rest.routes[0].route_key.as_str()), ("ServerlessRestApi", "ANY /old"));
    assert_eq!(
        (rest.stages[0].name.as_str(), rest.stages[0].id.as_str()),
        ("Prod", "ServerlessRestApiProdStage")
    );
    assert_eq!(rest.routes[0].integration.as_ref().unwrap().timeout_ms, 29_000);
    assert_eq!(stack.outputs[0].local_url, Some(format!("{}/", http.url)));
    assert_eq!(stack.outputs[1].local_url, Some(format!("{}/Prod/", rest.url)));
    assert_eq!(stack.outputs[2].value, "Prod");
    assert!(matches!(&stack.functions[0].code, Code::Inline { text } if text.starts_with("def handler")));
}

#[test]
fn aliases_provisioned_concurrency_and_destinations_are_joined() {
    let stack = stack(&sam("
  Work:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://bucket/path/work.zip
      Handler: app.handler
      Runtime: nodejs22.x
      AutoPublishAlias: live
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 5}
      Tracing: Active
      DeadLetterQueue: {Type: SQS, TargetArn: 'arn:aws:sqs:us-east-1:000000000000:dead'}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig:
          OnFailure: {Type: SQS, Destination: 'arn:aws:sqs:us-east-1:000000000000:failed'}
      FunctionUrlConfig: {AuthType: AWS_IAM}
      Layers: [!Ref Libraries]
      Tags: {team: shop}
  Libraries:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/libraries, CompatibleRuntimes: [nodejs22.x]}
Outputs:
  Version: {Value: !Ref Work.Version}
  Number: {Value: !GetAtt Work.Version.Version}
  Arn: {Value: !Sub '${Work.Version.FunctionArn}'}
"));
    let work = &stack.functions[0];
    assert_eq!(work.code, Code::S3 { bucket: "bucket".into(), key: "path/work.zip".into(), version: None });
    assert!(work.tracing);
    assert_eq!(work.dead_letter_target.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:dead"));
    assert_eq!(work.layers, [Link::Logical("Libraries".into())]);
    assert_eq!(work.tags["team"], "shop");
    let invoke = &work.event_invoke[0];
    assert_eq!(
        (invoke.qualifier.as_str(), invoke.maximum_retry_attempts, invoke.maximum_event_age_s),
        ("live", 1, 21_600)
    );
    assert_eq!(invoke.on_failure.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:failed"));
    let alias = &stack.aliases[0];
    assert_eq!(
        (alias.id.as_str(), alias.version.as_str(), alias.provisioned_concurrency),
        ("WorkAliaslive", "1", Some(5))
    );
    assert_eq!(stack.layers[0].code, Code::Local { path: "layers/libraries".into() });
    assert!(stack.outputs[0].value.ends_with(":function:shop-Work:1"));
    assert_eq!((stack.outputs[1].value.as_str(), &stack.outputs[2].value), ("1", &stack.outputs[0].value));
    assert!(stack.permissions.is_empty(), "AWS_IAM gives nobody leave");
}

#[test]
fn destinations_without_an_address_are_made_as_sam_makes_them() {
    let text = sam("
  Work:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: work/
      Handler: app.handler
      Runtime: nodejs22.x
      EventInvokeConfig:
        DestinationConfig:
          OnFailure: {Type: SQS}
          OnSuccess: {Type: SNS}
Outputs:
  Topic: {Value: !Ref Work.DestinationTopic}
  Queue: {Value: !Ref Work.DestinationQueue}
");
    let stack = stack(&text);
    let invoke = &stack.functions[0].event_invoke[0];
    let arns = [invoke.on_success.as_deref(), invoke.on_failure.as_deref()].map(Option::unwrap);
    assert!(
        arns[0].starts_with("arn:aws:sns:us-east-1:000000000000:shop-WorkEventInvokeConfigOnSuccessTopic"),
        "{arns:?}"
    );
    assert!(
        arns[1].starts_with("arn:aws:sqs:us-east-1:000000000000:shop-WorkEventInvokeConfigOnFailureQueue"),
        "{arns:?}"
    );
    assert_eq!(stack.outputs[0].value, arns[0]);
    assert!(stack.outputs[1].value.contains("OnFailureQueue"), "{}", stack.outputs[1].value);
    assert!(
        warnings(&text)[0].contains("AWS::SQS::Queue is not run: WorkEventInvokeConfigOnFailureQueue"),
        "{:?}",
        warnings(&text)
    );
}

#[test]
fn the_catch_all_route_may_be_spelled_out() {
    for written in ["{Path: $default}", "{Path: $default, Method: ANY}", "{}"] {
        let events = format!("{{Any: {{Type: HttpApi, Properties: {written}}}}}");
        let stack = stack(&sam(&format!(
            "
  Work:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: work/, Handler: app.handler, Runtime: nodejs22.x, Events: {events}}}
"
        )));
        assert_eq!(stack.http_apis[0].routes[0].route_key, "$default", "{written}");
    }
}

#[test]
fn versions_are_numbered_by_function_and_aliases_share_by_weight() {
    let text = r#"
Resources:
  A: {Type: AWS::Lambda::Function, Properties: {Code: a/, Handler: x.y, Runtime: python3.13, Role: arn:aws:iam::000000000000:role/r}}
  B: {Type: AWS::Lambda::Function, Properties: {Code: b/, Handler: x.y, Runtime: python3.13, Role: arn:aws:iam::000000000000:role/r}}
  One: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref A, Description: first}}
  Other: {Type: AWS::Lambda::Version, Properties: {FunctionName: !GetAtt B.Arn}}
  Two: {Type: AWS::Lambda::Version, Properties: {FunctionName: {"Fn::GetAtt": [A, Arn]}}}
  Live:
    Type: AWS::Lambda::Alias
    Properties:
      Name: live
      FunctionName: !Ref A
      FunctionVersion: !GetAtt One.Version
      Description: mostly the first
      RoutingConfig: {AdditionalVersionWeights: [{FunctionVersion: !GetAtt Two.Version, FunctionWeight: 0.25}]}
Outputs:
  Two: {Value: !Ref Two}
"#;
    let stack = stack(text);
    let numbers: Vec<(&str, &str)> =
        stack.versions.iter().map(|version| (version.id.as_str(), version.version.as_str())).collect();
    assert_eq!(numbers, [("One", "1"), ("Other", "1"), ("Two", "2")]);
    assert_eq!(stack.versions[0].description.as_deref(), Some("first"));
    assert!(stack.versions.iter().all(|version| !version.follows));
    let live = &stack.aliases[0];
    assert_eq!((live.version.as_str(), live.description.as_str()), ("1", "mostly the first"));
    assert_eq!(live.weights, [("2".to_owned(), 0.25)].into());
    assert!(stack.outputs[0].value.ends_with(":function:shop-A:2"), "{}", stack.outputs[0].value);
    let too_much = text.replace("FunctionWeight: 0.25", "FunctionWeight: 1.5");
    let said = problems(&too_much).join("\n");
    assert!(said.contains("a weight is a number from 0.0 to 1.0"), "{said}");
}

#[test]
fn a_rest_api_has_keys_plans_stages_and_a_body() {
    let stack = stack(&sam("
  Shop:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      EndpointConfiguration: {Type: REGIONAL}
      BinaryMediaTypes: [image~1png]
      Cors: {AllowOrigin: \"'*'\", AllowMethods: \"'GET,POST'\", MaxAge: \"'600'\"}
      MethodSettings:
        - {ResourcePath: '/*', HttpMethod: '*', ThrottlingRateLimit: 10, ThrottlingBurstLimit: 20}
        - {ResourcePath: '/~1cart~1{id}', HttpMethod: GET, ThrottlingRateLimit: 0.5}
      Auth:
        ApiKeyRequired: true
        UsagePlan:
          CreateUsagePlan: PER_API
          Quota: {Limit: 500, Period: DAY}
          Throttle: {RateLimit: 5, BurstLimit: 10}
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: cart
      Handler: app.handler
      Runtime: python3.13
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Shop, Path: '/cart/{id}', Method: GET}}
        Open: {Type: Api, Properties: {RestApiId: !Ref Shop, Path: /open, Method: GET, Auth: {ApiKeyRequired: false}}}
"));
    let api = &stack.rest_apis[0];
    assert_eq!(
        (api.endpoint_type, api.binary_media_types[0].as_str()),
        (EndpointType::Regional, "image/png")
    );
    let keys: Vec<(&str, bool)> =
        api.routes.iter().map(|route| (route.route_key.as_str(), route.api_key_required)).collect();
    assert_eq!(keys, [("GET /cart/{id}", true), ("GET /open", false)]);
    let stage = &api.stages[0];
    assert_eq!((stage.id.as_str(), stage.default_throttle.rate_limit), ("Shopv1Stage", Some(10.0)));
    assert_eq!(stage.route_throttles["/cart/{id}/GET"].rate_limit, Some(0.5));
    let cors = api.cors.as_ref().unwrap();
    assert_eq!((cors.allow_methods.len(), cors.max_age_s), (2, Some(600)));
    let plan = &stack.usage_plans[0];
    assert_eq!((plan.stages[0].stage.as_str(), plan.quota.as_ref().unwrap().limit), ("v1", 500));
    assert_eq!(plan.keys, [Link::Logical("ShopApiKey".into())]);
    assert!(stack.api_keys[0].enabled && stack.api_keys[0].value.len() == 40);
}

#[test]
fn open_api_bodies_become_routes() {
    let stack = stack(&sam("
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      StageName: prod
      CorsConfiguration: true
      DefinitionBody:
        openapi: 3.0.1
        paths:
          /cart:
            get:
              x-amazon-apigateway-integration:
                type: aws_proxy
                uri: !Sub arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Cart.Arn}/invocations
                payloadFormatVersion: '2.0'
            x-amazon-apigateway-any-method:
              x-amazon-apigateway-integration: {type: http_proxy, uri: 'https://example.com', timeoutInMillis: 1000}
  Cart:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: cart, Handler: a.b, Runtime: python3.13}
"));
    let api = &stack.http_apis[0];
    assert_eq!(api.stages[0].id, "ApiprodStage");
    assert_eq!(api.cors.as_ref().unwrap().allow_origins, ["*"]);
    let first = api.routes[0].integration.as_ref().unwrap();
    assert_eq!(first.function.as_ref().unwrap().function, Link::Logical("Cart".into()));
    let second = api.routes[1].integration.as_ref().unwrap();
    assert_eq!(
        (api.routes[1].route_key.as_str(), second.kind, second.timeout_ms),
        ("ANY /cart", IntegrationKind::HttpProxy, 1000)
    );
    assert_eq!(second.uri.as_deref(), Some("https://example.com"));
}

#[test]
fn images_and_docker_metadata_are_kept() {
    let stack = stack(&sam("
  Built:
    Type: AWS::Serverless::Function
    Metadata: {DockerContext: ./app, Dockerfile: Dockerfile, DockerTag: v1}
    Properties: {PackageType: Image, ImageConfig: {Command: [app.handler]}}
  Pulled:
    Type: AWS::Serverless::Function
    Properties: {PackageType: Image, ImageUri: '000000000000.dkr.ecr.us-east-1.amazonaws.com/app:1', Architectures: [arm64]}
"));
    let Code::Image { uri: None, docker: Some(docker) } = &stack.functions[0].code else { panic!() };
    assert_eq!(docker.context.as_deref(), Some("./app"));
    assert_eq!(stack.functions[0].image_config.as_ref().unwrap().command, ["app.handler"]);
    assert!(matches!(&stack.functions[1].code, Code::Image { uri: Some(_), docker: None }));
    assert_eq!(stack.functions[1].runtime, None);
}

#[test]
fn a_function_that_mentions_its_own_api_closes_a_circle_as_in_aws() {
    let said = problems(&sam("
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: cart
      Handler: a.b
      Runtime: python3.13
      Environment: {Variables: {API: !Ref ServerlessHttpApi}}
      Events:
        Web: {Type: HttpApi}
"));
    assert!(
        said[0].contains("resources depend on each other in a circle: Cart -> ServerlessHttpApi -> Cart"),
        "{said:?}"
    );
}

#[test]
fn a_file_system_of_a_function_is_said_not_to_be_there() {
    let said = warnings(&sam("
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: a.b
      CodeUri: cart
      FileSystemConfigs: [{Arn: 'arn:aws:elasticfilesystem:us-east-1:1:access-point/fsap-1', LocalMountPath: /mnt/shop}]
"));
    assert_eq!(said, ["t:10:27: a file system is not run: Cart finds nothing at /mnt/shop"]);
}

#[test]
fn slips_are_warnings_and_wrong_values_are_problems() {
    let text = sam("
  Cart:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: cart, Handler: a.b, Runtime: python3.13, MemorySiz: 512}
");
    let said = warnings(&text);
    assert_eq!(
        said,
        ["t:6:68: a function has no property `MemorySiz`; it is not read (did you mean `MemorySize`?)"]
    );
    let said = warnings(
        &text.replace("Transform: AWS::Serverless-2016-10-31\n", "").replace("MemorySiz", "MemorySize"),
    );
    assert!(said[0].contains("AWS::Serverless::Function needs the SAM transform"), "{said:?}");
    let said = problems(&sam("
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: cart
      Handler: a b
      MemorySize: 64
      Timeout: 901
      FunctionName: 'cart.v1'
      PackageType: Zp
      Architectures: [arm]
      EphemeralStorage: {Size: 20000}
      Environment: {Variables: {1A: x}}
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: 5}
      VpcConfig: {SubnetIds: [subnet-1]}
      FunctionUrlConfig: {AuthType: IAM, InvokeMode: STREAM}
  Likes:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: likes
      Handler: a.b
      Runtime: python3.31
      Role: likes-role
      Environment: {Variables: {AWS_REGION: x}}
      Events:
        Get: {Type: HttpApi, Properties: {Method: GTE, Path: /likes}}
        Put: {Type: Api, Properties: {Method: PTU, Path: /likes}}
"));
    let line = |needle: &str| said.iter().find(|one| one.contains(needle)).unwrap();
    assert!(line("`python3.31` is no runtime").ends_with("(did you mean `python3.13`?)"), "{said:#?}");
    // The line and column of the method itself.
    assert!(line("`GTE /likes` is not a route key").contains(":51: "), "{said:#?}");
    assert!(line("`GTE /likes` is not a route key").ends_with("(did you mean `GET`?)"), "{said:#?}");
    assert!(line("`PTU` is no HTTP method").contains(":47: "), "{said:#?}");
    for expected in [
        "Cart (AWS::Lambda::Function) needs `Runtime`",
        "the handler `a b` is not a name AWS takes",
        "MemorySize in MB is 64, and must be 128 to 10240",
        "Timeout in seconds is 901, and must be 1 to 900",
        "the function name `cart.v1` is not a name AWS takes",
        "expected one of Zip, Image, found `Zp`",
        "expected one of x86_64, arm64, found `arm`",
        "Size in MB is 20000, and must be 512 to 10240",
        "`1A` is not a name that an environment variable may have",
        "ProvisionedConcurrencyConfig needs `AutoPublishAlias`",
        "a VPC configuration needs both subnets and security groups",
        "expected one of NONE, AWS_IAM, found `IAM`",
        "expected one of BUFFERED, RESPONSE_STREAM, found `STREAM`",
        "this is not the ARN of a role",
        "`AWS_REGION` belongs to Lambda",
    ] {
        assert!(said.iter().any(|one| one.contains(expected)), "{expected} in {said:#?}");
    }
}

#[test]
fn what_sam_makes_of_events_that_are_not_run_has_its_names() {
    let events = "
        Tick: {Type: Schedule, Properties: {Schedule: rate(1 minute)}}
        Named: {Type: EventBridgeRule, Properties: {Pattern: {source: [a]}, Name: mine}}
        Jobs: {Type: SQS, Properties: {Queue: 'arn:aws:sqs:us-east-1:000000000000:jobs'}}
        Put: {Type: S3, Properties: {Bucket: bucket, Events: 's3:ObjectCreated:*'}}
        SignUp: {Type: Cognito, Properties: {UserPool: pool, Trigger: PreSignUp}}";
    let text = &work(
        events,
        "
  Later:
    Type: AWS::SSM::Parameter
    DependsOn: [WorkTickPermission, WorkPutPermission, WorkCognitoPermission]
    Properties: {Type: String, Value: !Ref WorkJobs}
Outputs:
  Tick: {Value: !Ref WorkTick}
  Arn: {Value: !GetAtt WorkNamed.Arn}
",
    );
    let read = stack(text);
    let value = |id: &str| read.outputs.iter().find(|output| output.id == id).unwrap().value.as_str();
    assert_eq!(value("Tick"), "shop-WorkTick");
    assert_eq!(value("Arn"), "arn:aws:events:us-east-1:000000000000:rule/mine");
    let rule = read.permissions.iter().find(|permission| permission.id == "WorkTickPermission").unwrap();
    assert_eq!(rule.principal, "events.amazonaws.com");
    assert_eq!(rule.source_arn.as_deref(), Some("arn:aws:events:us-east-1:000000000000:rule/shop-WorkTick"));
    let said = warnings(text);
    assert!(
        said.len() == 1
            && said[0].contains("`Schedule`, `EventBridgeRule`, `SQS`, `S3`, `Cognito` are not run"),
        "{said:?}"
    );
    assert!(
        problems(&text.replace("!Ref WorkTick", "!Ref WorkTock"))[0].contains("did you mean `WorkTick`?")
    );
}

#[test]
fn schedules_and_state_machines_that_are_not_run_have_their_roles() {
    let text = work(
        "
        Tock: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute)}}
        Own: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute), RoleArn: 'arn:aws:iam::000000000000:role/r'}}",
        "
  Flow:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: flow.json
      Events:
        Tick: {Type: Schedule, Properties: {Schedule: rate(1 minute)}}
        Ask: {Type: Api, Properties: {Path: /, Method: post}}
  Later:
    Type: AWS::SSM::Parameter
    DependsOn: [WorkTockRole, FlowAskRole]
    Properties: {Type: String, Value: !GetAtt FlowRole.Arn}
Outputs:
  Rule: {Value: !GetAtt FlowTick.Arn}
  Role: {Value: !Ref FlowTickRole}
",
    );
    let read = stack(&text);
    assert_eq!(read.outputs[0].value, "arn:aws:events:us-east-1:000000000000:rule/shop-FlowTick");
    assert_eq!(read.outputs[1].value, "shop-FlowTickRole");
    assert!(
        problems(&text.replace("WorkTockRole", "WorkOwnRole"))[0].contains("`WorkOwnRole` does not exist")
    );
}

#[test]
fn ids_with_a_hash_behind_mean_what_sam_puts_one_behind() {
    let text = work(
        "
        Get: {Type: Api, Properties: {Path: /, Method: get}}",
        "
      AutoPublishAlias: live
  Tools: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: tools/}}
  Plain: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref Work}}
  Later:
    Type: AWS::SSM::Parameter
    DependsOn: [ServerlessRestApiDeployment5332c373d4, WorkVersion0a1b2c3d4e]
    Properties: {Type: String, Value: !Ref Tools0a1b2c3d4e}
Outputs:
  Version: {Value: !GetAtt WorkVersion0a1b2c3d4e.Version}
  Layer: {Value: !Sub '${Tools0a1b2c3d4e}'}
",
    );
    let read = stack(&text);
    assert_eq!(read.outputs[0].value, "1");
    assert!(read.outputs[1].value.contains(":layer:Tools:"), "{:?}", read.outputs);
    for slip in ["WorkVersion0a1b2c3d4", "WorkVersion0A1B2C3D4E", "Plain0a1b2c3d4e", "Work0a1b2c3d4e"] {
        let said = problems(&text.replace("WorkVersion0a1b2c3d4e]", &format!("{slip}]")));
        assert!(said[0].contains(&format!("`{slip}` does not exist")), "{said:?}");
    }
}

/// As AWS's SAM translator names them: for a REST API with the stage as it is written.
#[test]
fn what_lets_a_rest_api_call_a_function_has_its_stage_in_its_name() {
    let events = "
        A: {Type: Api, Properties: {Path: /a, Method: get}}
        B: {Type: Api, Properties: {Path: /b, Method: get, RestApiId: !Ref Named}}
        C: {Type: Api, Properties: {Path: /c, Method: get, RestApiId: {Ref: Computed}}}
        D: {Type: HttpApi, Properties: {Path: /d, Method: get}}";
    let text = work(
        events,
        "
  Named: {Type: AWS::Serverless::Api, Properties: {StageName: live}}
  Computed: {Type: AWS::Serverless::Api, Properties: {StageName: !Ref Stage}}
  Later:
    Type: AWS::SSM::Parameter
    DependsOn: [WorkAPermissionProd, WorkBPermissionlive]
    Properties: {Type: String, Value: !Sub '${WorkCPermissionStage} ${WorkDPermission}'}
Parameters:
  Stage: {Type: String, Default: dev}
",
    );
    let read = stack(&text);
    let ids: Vec<&str> = read.permissions.iter().map(|permission| permission.id.as_str()).collect();
    assert_eq!(
        ids,
        ["WorkAPermissionProd", "WorkBPermissionlive", "WorkCPermissionStage", "WorkDPermission"]
    );
}

/// As AWS's SAM translator makes it of this template.
#[test]
fn events_of_an_api_with_a_body_add_what_sam_adds() {
    let text = sam("
  Cart:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: cart
      Handler: a.b
      Runtime: python3.13
      Events:
        A: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /a, Method: get}}
        B: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /b, Method: get}}
        C: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /c, Method: get}}
        RestA: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /a, Method: get}}
        RestC: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /c, Method: get}}
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefinitionBody: &body
        openapi: 3.0.1
        paths:
          /a: {get: {x-amazon-apigateway-integration: {type: http_proxy, httpMethod: GET, uri: 'https://example.com'}}}
          /b: {get: {responses: {}}}
  Rest:
    Type: AWS::Serverless::Api
    Properties: {StageName: v1, DefinitionBody: *body}
");
    let routes = |routes: &[model::stack::ApiRoute]| -> Vec<String> {
        let kind = |route: &model::stack::ApiRoute| route.integration.as_ref().map(|one| one.kind);
        routes.iter().map(|route| format!("{} {:?}", route.route_key, kind(route))).collect()
    };
    let read = stack(&text);
    let http = ["GET /a Some(HttpProxy)", "GET /b Some(AwsProxy)", "GET /c Some(AwsProxy)"];
    assert_eq!(routes(&read.http_apis[0].routes), http);
    assert_eq!(routes(&read.rest_apis[0].routes), ["GET /a Some(HttpProxy)", "GET /b None"]);
    let said = warnings(&text);
    assert!(said.len() == 1 && said[0].contains("adds no route") && said[0].contains("GET /c"), "{said:?}");
    let merged = stack(&text.replace("v1, ", "v1, MergeDefinitions: true, "));
    let rest = ["GET /a Some(AwsProxy)", "GET /b None", "GET /c Some(AwsProxy)"];
    assert_eq!(routes(&merged.rest_apis[0].routes), rest);
    let twice = text.replace("Path: /b", "Path: /c");
    assert!(problems(&twice)[0].contains("has the route `GET /c` twice"));
}
