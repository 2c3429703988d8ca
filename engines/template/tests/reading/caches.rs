//! Caches of stages, and what tells their entries apart.

use super::{problems, stack, warnings};
use model::stack::{CacheSettings, Throttle};

const API: &str = "
Resources:
  Api: {Type: AWS::ApiGateway::RestApi, Properties: {Name: api}}
  Cart: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Api, ParentId: !GetAtt Api.RootResourceId, PathPart: cart}}
  GetCart:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !Ref Cart
      HttpMethod: GET
      Integration:
        Type: AWS_PROXY
        Uri: !Sub arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:cart/invocations
        TimeoutInMillis: 5000
        CacheNamespace: carts
        CacheKeyParameters: [method.request.querystring.page, method.request.header.Accept]
";

fn stage(lines: &str) -> String {
    format!(
        "{API}  Stage:\n    Type: AWS::ApiGateway::Stage\n    Properties:\n      RestApiId: !Ref Api\n      StageName: prod\n{lines}"
    )
}

#[test]
fn a_stages_cache_is_read_with_its_overrides() {
    let stack = stack(&stage(
        "      CacheClusterEnabled: true
      CacheClusterSize: 6.1
      MethodSettings:
        - {ResourcePath: /*, HttpMethod: '*', CachingEnabled: true, CacheTtlInSeconds: 60, ThrottlingRateLimit: 0.5}
        - {ResourcePath: /~1cart, HttpMethod: GET, CachingEnabled: false, CacheDataEncrypted: true, ThrottlingBurstLimit: 7}
",
    ));
    let api = &stack.rest_apis[0];
    let stage = &api.stages[0];
    assert_eq!(stage.cache.size_gb.as_deref(), Some("6.1"));
    assert_eq!(stage.cache.default, CacheSettings { enabled: Some(true), ttl_s: Some(60), encrypted: None });
    let cart = CacheSettings { enabled: Some(false), ttl_s: None, encrypted: Some(true) };
    assert_eq!(stage.cache.methods["/cart/GET"], cart);
    assert_eq!(stage.default_throttle, Throttle { rate_limit: Some(0.5), burst_limit: None });
    assert_eq!(stage.route_throttles["/cart/GET"], Throttle { rate_limit: None, burst_limit: Some(7) });
    let integration = api.routes[0].integration.as_ref().unwrap();
    assert_eq!(
        integration.cache_key_parameters,
        ["method.request.querystring.page", "method.request.header.Accept"]
    );
    assert_eq!((integration.cache_namespace.as_deref(), integration.timeout_ms), (Some("carts"), 5000));
}

#[test]
fn a_stage_without_a_cache_says_that_nothing_is_cached() {
    let text = stage("      MethodSettings: [{ResourcePath: /*, HttpMethod: '*', CachingEnabled: true}]\n");
    let said = warnings(&text);
    assert!(said.iter().any(|line| line.contains("nothing is cached")), "{said:?}");
    assert_eq!(stack(&text).rest_apis[0].stages[0].cache.size_gb, None);
    let text = stage("      CacheClusterEnabled: true\n");
    assert_eq!(stack(&text).rest_apis[0].stages[0].cache.size_gb.as_deref(), Some("0.5"));
}

#[test]
fn a_deployment_describes_the_stage_that_it_brings() {
    let text = format!(
        "{API}  Deployment:
    Type: AWS::ApiGateway::Deployment
    Properties:
      RestApiId: !Ref Api
      StageName: prod
      StageDescription:
        CacheClusterEnabled: true
        CacheClusterSize: '118'
        CachingEnabled: true
        CacheTtlInSeconds: 10
        ThrottlingRateLimit: 20
        MethodSettings: [{{ResourcePath: /cart, HttpMethod: GET, CacheTtlInSeconds: 20}}]
"
    );
    let stack = stack(&text);
    let stage = &stack.rest_apis[0].stages[0];
    assert_eq!((stage.cache.size_gb.as_deref(), stage.cache.default.ttl_s), (Some("118"), Some(10)));
    assert_eq!(
        (stage.cache.methods["/cart/GET"].ttl_s, stage.default_throttle.rate_limit),
        (Some(20), Some(20.0))
    );
}

#[test]
fn wrong_settings_are_named_at_their_place() {
    let text = stage("      CacheClusterEnabled: true\n      CacheClusterSize: '2'\n      MethodSettings: [{CacheTtlInSeconds: 3601}]\n")
        .replace("method.request.header.Accept", "request.header.Accept");
    let said = problems(&text);
    for expected in [
        "expected one of 0.5, 1.6, 6.1, 13.5, 28.4, 58.2, 118, 237, found the text `2`",
        "CacheTtlInSeconds is 3601, and must be 0 to 3600",
        "`request.header.Accept` is no parameter that a cache can tell apart",
    ] {
        assert!(said.iter().any(|line| line.contains(expected)), "{expected} in {said:#?}");
    }
}

#[test]
fn a_mock_answers_what_its_plain_templates_say() {
    let text = format!(
        "{API}  Preflight:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !GetAtt Api.RootResourceId
      HttpMethod: OPTIONS
      Integration:
        Type: MOCK
        RequestTemplates: {{application/json: '{{ statusCode: 200 }}'}}
        IntegrationResponses:
          - StatusCode: '204'
            ResponseParameters:
              method.response.header.Access-Control-Allow-Origin: \"'*'\"
              method.response.header.X-Mapped: integration.response.header.x
"
    );
    let stack = stack(&text);
    let route = stack.rest_apis[0].routes.iter().find(|route| route.method == "OPTIONS").unwrap();
    let mock = route.integration.as_ref().unwrap().mock.as_ref().unwrap();
    assert_eq!((mock.status, mock.body.as_str()), (204, ""));
    let headers: Vec<_> = mock.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("Access-Control-Allow-Origin", "*")]);
}
