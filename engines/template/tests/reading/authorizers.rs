//! Authorizers: plain resources, SAM's `Auth`, OpenAPI bodies; and which route has which.

use super::{problems, stack, warnings};
use model::stack::{AuthorizerKind, IdentitySource, Stack};

const HEAD: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Guard:
    Type: AWS::Serverless::Function
    Properties: {InlineCode: 'def handler(event, context): return 1', Handler: index.handler, Runtime: python3.13}
";

fn sam(resources: &str) -> String {
    format!("{HEAD}{resources}")
}

fn function(events: &str) -> String {
    format!(
        "
  Shop:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: 'def handler(event, context): return 1'
      Handler: index.handler
      Runtime: python3.13
      Events: {events}
"
    )
}

/// Keys of routes, what they ask for, and of whom.
fn guarded(stack: &Stack) -> Vec<(&str, &str, Option<&str>)> {
    let http = stack.http_apis.iter().flat_map(|api| &api.routes);
    let all = http.chain(stack.rest_apis.iter().flat_map(|api| &api.routes));
    all.map(|route| (&*route.route_key, &*route.authorization_type, route.authorizer.as_deref())).collect()
}

#[test]
fn sam_gives_routes_the_authorizer_they_name_or_that_of_their_api() {
    let events = "
        A: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /a, Method: get}}
        B: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /b, Method: get, Auth: {Authorizer: Ask}}}
        C: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /c, Method: get, Auth: {Authorizer: NONE}}}
        D: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /d, Method: get, Auth: {Authorizer: AWS_IAM}}}
        E: {Type: Api, Properties: {RestApiId: !Ref Rest, Path: /e, Method: get, Auth: {Authorizer: Pool}}}
        F: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /f, Method: get}}
        G: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: /g, Method: get, Auth: {Authorizer: Jwt}}}
        H: {Type: HttpApi, Properties: {Path: /h, Method: get}}";
    let stack = stack(&sam(&format!(
        "{}
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: Prod
      Auth:
        DefaultAuthorizer: Token
        Authorizers:
          Token: {{FunctionArn: !GetAtt Guard.Arn, Identity: {{Header: X-Token, ValidationExpression: '^x', ReauthorizeEvery: 30}}}}
          Ask: {{FunctionArn: !GetAtt Guard.Arn, FunctionPayloadType: REQUEST, Identity: {{QueryStrings: [key], Context: [identity.sourceIp]}}}}
          Pool: {{UserPoolArn: 'arn:aws:cognito-idp:us-east-1:000000000000:userpool/x'}}
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Simple
        Authorizers:
          Simple: {{FunctionArn: !GetAtt Guard.Arn, AuthorizerPayloadFormatVersion: '2.0', EnableSimpleResponses: true, Identity: {{Headers: [X-Token]}}}}
          Jwt: {{JwtConfiguration: {{issuer: 'https://example.com', audience: [a]}}, IdentitySource: $request.header.Authorization}}
",
        function(events)
    )));
    let expected = [
        ("GET /f", "CUSTOM", Some("Http.Simple")),
        ("GET /g", "JWT", Some("Http.Jwt")),
        ("GET /h", "NONE", None),
        ("GET /a", "CUSTOM", Some("Rest.Token")),
        ("GET /b", "CUSTOM", Some("Rest.Ask")),
        ("GET /c", "NONE", None),
        ("GET /d", "AWS_IAM", None),
        ("GET /e", "COGNITO_USER_POOLS", Some("Rest.Pool")),
    ];
    let mut found = guarded(&stack);
    found.sort_by_key(|(key, _, _)| (!expected[..3].iter().any(|(early, _, _)| early == key), *key));
    assert_eq!(found, expected);
    let rest = &stack.rest_apis[0];
    let token = &rest.authorizers[0];
    assert_eq!(
        (token.kind, token.ttl_s, token.validation.as_deref()),
        (AuthorizerKind::Token, 30, Some("^x"))
    );
    assert_eq!(token.identity_sources, [IdentitySource::Header("X-Token".into())]);
    assert_eq!(token.function.as_ref().unwrap().function.logical(), Some("Guard"));
    let ask = &rest.authorizers[1];
    assert_eq!((ask.kind, ask.ttl_s), (AuthorizerKind::Request, 300));
    let sources = [IdentitySource::Query("key".into()), IdentitySource::Context("identity.sourceIp".into())];
    assert_eq!(ask.identity_sources, sources);
    let http = stack.http_apis.iter().find(|api| api.id == "Http").unwrap();
    let simple = &http.authorizers[0];
    assert!(simple.simple_responses && simple.ttl_s == 0 && simple.payload_format_version == "2.0");
    let permissions = stack.permissions.iter().filter_map(|permission| permission.source_arn.as_deref());
    assert_eq!(
        permissions.filter(|arn| arn.ends_with("/authorizers/*")).count(),
        2,
        "REST APIs alone by default"
    );
}

#[test]
fn plain_resources_name_their_authorizer_by_its_id() {
    let stack = stack(&sam("
  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: api, ProtocolType: HTTP}}
  Ask:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      Name: ask
      AuthorizerType: REQUEST
      AuthorizerPayloadFormatVersion: '2.0'
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.X-Token, $context.routeKey]
      AuthorizerUri: !Sub arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Guard.Arn}/invocations
  Leads:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Api, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Guard.Arn, PayloadFormatVersion: '2.0'}
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: GET /x, AuthorizationType: CUSTOM, AuthorizerId: !Ref Ask, Target: !Sub 'integrations/${Leads}'}
"));
    assert_eq!(guarded(&stack), [("GET /x", "CUSTOM", Some("Ask"))]);
    let ask = &stack.http_apis[0].authorizers[0];
    assert_eq!((ask.ttl_s, ask.identity_sources.len(), ask.by_role), (60, 2, false));
    assert_eq!(ask.function.as_ref().unwrap().function.logical(), Some("Guard"));
}

#[test]
fn an_open_api_body_says_who_may_call() {
    let body = "
  Api:
    Type: AWS::ApiGateway::RestApi
    Properties:
      Body:
        openapi: 3.0.1
        security: [{ask: []}]
        paths:
          /a: {get: {x-amazon-apigateway-integration: &to {type: aws_proxy, uri: !GetAtt Guard.Arn}}}
          /b: {get: {security: [{iam: []}], x-amazon-apigateway-integration: *to}}
          /c: {get: {security: [{key: []}, {ask: []}], x-amazon-apigateway-integration: *to}}
          /d: {get: {security: [], x-amazon-apigateway-integration: *to}}
          /e: {get: {x-amazon-apigateway-auth: {type: NONE}, security: [], x-amazon-apigateway-integration: *to}}
        components:
          securitySchemes:
            ask:
              type: apiKey
              name: X-Token
              in: header
              x-amazon-apigateway-authtype: custom
              x-amazon-apigateway-authorizer: {type: token, authorizerUri: !GetAtt Guard.Arn, authorizerResultTtlInSeconds: 5}
            iam: {type: apiKey, name: Authorization, in: header, x-amazon-apigateway-authtype: awsSigv4}
            key: {type: apiKey, name: x-api-key, in: header}
";
    let stack = stack(&sam(body));
    let expected = [
        ("GET /a", "CUSTOM", Some("Api.ask")),
        ("GET /b", "AWS_IAM", None),
        ("GET /c", "CUSTOM", Some("Api.ask")),
        ("GET /d", "NONE", None),
        ("GET /e", "NONE", None),
    ];
    assert_eq!(guarded(&stack), expected);
    let api = &stack.rest_apis[0];
    let keyed: Vec<bool> = api.routes.iter().map(|route| route.api_key_required).collect();
    assert_eq!(keyed, [false, false, true, false, false]);
    assert_eq!(api.authorizers[0].identity_sources, [IdentitySource::Header("X-Token".into())]);
    assert_eq!(api.authorizers[0].ttl_s, 5);
}

#[test]
fn what_is_wrong_is_shown_in_its_place() {
    let with = |settings: &str| {
        sam(&format!(
            "
  Api: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: api}}}}
  Ask: {{Type: AWS::ApiGateway::Authorizer, Properties: {{RestApiId: !Ref Api, Name: ask, {settings}}}}}
"
        ))
    };
    let uri = "AuthorizerUri: !GetAtt Guard.Arn";
    for (settings, said) in [
        ("Type: TOKEN", "has no AuthorizerUri"),
        (&*format!("Type: REQUST, {uri}"), "REQUST"),
        (&format!("Type: TOKEN, {uri}, IdentitySource: Authorization"), "is no identity source"),
        (&format!("Type: TOKEN, {uri}, IdentityValidationExpression: '('"), "is no regular expression"),
        (&format!("Type: TOKEN, {uri}, IdentityValidationExpression: 'a)|(b'"), "is no regular expression"),
        (
            &format!("Type: TOKEN, {uri}, IdentityValidationExpression: '(?x)a # b'"),
            "is no regular expression",
        ),
        (&format!("Type: TOKEN, {uri}, AuthorizerResultTtlInSeconds: 3601"), "3600"),
    ] {
        let found = problems(&with(settings)).join("\n");
        assert!(found.contains(said), "{settings}: {found}");
    }
    let events = "{A: {Type: HttpApi, Properties: {Path: /a, Method: get, Auth: {Authorizer: Nobody}}}}";
    let text = sam(&function(events));
    let said = warnings(&text).join("\n");
    assert!(said.contains("has no authorizer `Nobody`"), "{said}");
    assert_eq!(guarded(&stack(&text)), [("GET /a", "CUSTOM", None)], "nobody may call it");
}

#[test]
fn an_authorizer_that_is_computed_is_not_lost() {
    let text = |auth: &str| {
        let head = HEAD.replacen(
            "Resources:",
            "Parameters: {Who: {Type: String, Default: Ask}}
Conditions: {Yes: !Equals [a, a], No: !Equals [a, b]}
Resources:",
            1,
        );
        let event = format!(
            "{{A: {{Type: Api, Properties: {{RestApiId: !Ref Rest, Path: /a, Method: get, Auth: {auth}}}}}}}"
        );
        let rest = "
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: Prod
      Auth: !If
        - Yes
        - DefaultAuthorizer: Token
          Authorizers: {Token: {FunctionArn: !GetAtt Guard.Arn}, Ask: {FunctionArn: !GetAtt Guard.Arn}}
        - !Ref AWS::NoValue
";
        format!("{head}{}{rest}", function(&event))
    };
    for (auth, kind, who) in [
        ("{Authorizer: !Ref Who}", "CUSTOM", Some("Rest.Ask")),
        ("{Authorizer: !If [Yes, Ask, NONE]}", "CUSTOM", Some("Rest.Ask")),
        ("{Authorizer: {'Fn::If': [No, Ask, NONE]}}", "NONE", None),
        ("{Authorizer: !If [No, Ask, !Ref AWS::NoValue]}", "CUSTOM", Some("Rest.Token")),
        ("!If [Yes, {Authorizer: Ask}, {Authorizer: NONE}]", "CUSTOM", Some("Rest.Ask")),
        ("!If [No, {Authorizer: Ask}, !Ref AWS::NoValue]", "CUSTOM", Some("Rest.Token")),
    ] {
        assert_eq!(guarded(&stack(&text(auth))), [("GET /a", kind, who)], "{auth}");
    }
    for auth in ["{Authorizer: [Ask]}", "{Authorizer: !Ref Guard}", "!Ref Who", "Ask"] {
        assert!(!problems(&text(auth)).is_empty(), "{auth} leaves no route open");
    }
}

#[test]
fn what_the_doors_do_not_know_of_a_request_is_said() {
    let text = |name: &str| {
        sam(&format!(
            "
  Api: {{Type: AWS::ApiGateway::RestApi, Properties: {{Name: api}}}}
  Ask: {{Type: AWS::ApiGateway::Authorizer, Properties: {{RestApiId: !Ref Api, Name: ask, Type: REQUEST,
    AuthorizerUri: !GetAtt Guard.Arn, IdentitySource: context.{name}}}}}
"
        ))
    };
    let said = |name: &str| warnings(&text(name)).join("\n").contains("is not known here");
    assert!(said("identity.caller") && !said("domainName") && !said("extendedRequestId"));
}
