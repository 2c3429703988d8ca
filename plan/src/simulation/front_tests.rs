//! Doors of a template before its functions: throttles, caches, time-outs.

use super::*;
use model::Era;

/// A REST API with a key for one method and a cache for another, and an HTTP API and a URL before the same function.
const TEMPLATE: &str = r#"
Resources:
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Statement: []}}}
  Cart:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      Code: {ZipFile: "def handler(event, context): return 1"}
      Role: !GetAtt Role.Arn
      Timeout: 60
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !GetAtt Cart.Arn, AuthType: NONE}}
  Api: {Type: AWS::ApiGateway::RestApi, Properties: {Name: api}}
  CartPath: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Api, ParentId: !GetAtt Api.RootResourceId, PathPart: cart}}
  ItemPath: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Api, ParentId: !Ref CartPath, PathPart: "{id}"}}
  PostCart:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !Ref CartPath
      HttpMethod: POST
      ApiKeyRequired: true
      Integration: {Type: AWS_PROXY, Uri: !Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Cart.Arn}/invocations"}
  GetItem:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !Ref ItemPath
      HttpMethod: GET
      Integration:
        Type: AWS_PROXY
        Uri: !Sub "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Cart.Arn}/invocations"
        CacheKeyParameters: [method.request.path.id]
  Deployment: {Type: AWS::ApiGateway::Deployment, Properties: {RestApiId: !Ref Api}}
  Prod:
    Type: AWS::ApiGateway::Stage
    Properties:
      RestApiId: !Ref Api
      StageName: prod
      DeploymentId: !Ref Deployment
      CacheClusterEnabled: true
      MethodSettings:
        - {ResourcePath: /*, HttpMethod: "*", CachingEnabled: true, CacheTtlInSeconds: 10}
        - {ResourcePath: /cart, HttpMethod: POST, ThrottlingRateLimit: 100, ThrottlingBurstLimit: 30}
  Basic:
    Type: AWS::ApiGateway::UsagePlan
    Properties:
      Throttle: {RateLimit: 100, BurstLimit: 20}
      ApiStages: [{ApiId: !Ref Api, Stage: prod, Throttle: {/cart/POST: {RateLimit: 100, BurstLimit: 10}}}]
  AppKey: {Type: AWS::ApiGateway::ApiKey, Properties: {Enabled: true}}
  Joined: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {UsagePlanId: !Ref Basic, KeyId: !Ref AppKey, KeyType: API_KEY}}
  OldKey: {Type: AWS::ApiGateway::ApiKey, Properties: {Name: old}}
  OldJoined: {Type: AWS::ApiGateway::UsagePlanKey, Properties: {UsagePlanId: !Ref Basic, KeyId: !Ref OldKey, KeyType: API_KEY}}
  Http: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: http, ProtocolType: HTTP}}
  HttpCart:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Http, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Cart.Arn, PayloadFormatVersion: "2.0"}
  HttpRoute: {Type: AWS::ApiGatewayV2::Route, Properties: {ApiId: !Ref Http, RouteKey: GET /cart, Target: !Sub "integrations/${HttpCart}"}}
  Default:
    Type: AWS::ApiGatewayV2::Stage
    Properties:
      ApiId: !Ref Http
      StageName: $default
      DefaultRouteSettings: {ThrottlingRateLimit: 50, ThrottlingBurstLimit: 5}
"#;

fn input(template: &str) -> PlanInput {
    let outcome = template::read("template.yaml", template, &template::Inputs::default());
    PlanInput::from_stack(&outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems)))
}

fn plan_with(template: &str, phases: &str, steps: &str, limits: &[&str]) -> Result<Report, PlanError> {
    let text =
        format!("{{version: 1, phases: [{phases}], behaviour: {{Cart: {{init: 0s, steps: [{steps}]}}}}}}");
    let mut options = Options::new(Era::named("today").unwrap());
    for limit in limits {
        options.overrides.read(limit).unwrap();
    }
    run(&input(template), &Load::read("load.yaml", &text).unwrap(), &options)
}

fn plan(phases: &str, steps: &str) -> Report {
    plan_with(TEMPLATE, phases, steps, &[]).unwrap()
}

fn row(report: &Report, id: LimitId) -> &model::LimitRow {
    report.limits.iter().find(|row| row.id == id).unwrap()
}

#[test]
fn each_level_in_turn_refuses_where_it_is_the_smallest() {
    let phases = "{target: Api, request: POST /cart, client: AppKey, users: 50, requests: 50}";
    let with = |limits: &[&str]| {
        let report = plan_with(TEMPLATE, phases, "compute: 1s", limits).unwrap();
        let statuses = report.summary.statuses.clone();
        let first = report.first_limit.unwrap();
        assert_eq!(report.functions[0].throttled, 0, "the function was not asked");
        assert_eq!(report.functions[0].invocations, report.summary.ok);
        (report.summary.ok, first.id, first.resource.to_string(), statuses)
    };
    let statuses = |ok, refused| [(200, ok), (429, refused)].into_iter().collect();
    let expected = |ok, id, resource: &str| (ok, id, resource.to_owned(), statuses(ok, 50 - ok));
    let at = "AppKey of Basic at Api/prod POST /cart";
    assert_eq!(with(&[]), expected(10, LimitId::ApiKeyMethodBurst, at));
    assert_eq!(with(&["apigw.key-method-burst=40"]), expected(20, LimitId::ApiKeyBurst, "AppKey of Basic"));
    let two = ["apigw.key-method-burst=40", "apigw.key-burst=40"];
    assert_eq!(with(&two), expected(30, LimitId::ApiStageBurst, "Api/prod POST /cart"));
    let three = [&two[..], &["apigw.stage-burst=40", "apigw.account-burst=35"]].concat();
    assert_eq!(with(&three), expected(35, LimitId::ApiAccountBurst, "account"));
}

#[test]
fn a_hit_costs_no_invocation_and_still_passes_the_throttles() {
    // A request every 100 ms for 30 s, an answer after 1 s, one entry that lives for 10 s.
    let phases =
        "{target: Api, request: GET /cart/7, rate: 10/s, for: 30s, keys: 1, bytes: {out: 5B}, latency: 2ms}";
    let report = plan(phases, "compute: 1s");
    let cache = &report.caches[0];
    assert_eq!(report.summary.ok, 300);
    // Ten requests come before the first answer is there, and each of their answers is kept anew: misses from 0 s, from
    // 11.9 s and from 23.8 s on.
    assert_eq!((cache.misses, cache.hits), (30, 270));
    assert_eq!(report.functions[0].invocations, cache.misses);
    assert_eq!(report.summary.percentiles_s["50"].0, 2_000_000);
    assert_eq!(row(&report, LimitId::ApiCacheSize).peak, 5);
    let two = plan(&phases.replace("keys: 1", "keys: 2"), "compute: 1ms");
    assert!(two.caches[0].misses > 3, "each entry is filled apart");
    let report =
        plan_with(TEMPLATE, phases, "compute: 1s", &["apigw.account-rate=5", "apigw.account-burst=1"]);
    assert_eq!(report.unwrap().summary.throttled, 150, "hits take tokens, too");
}

#[test]
fn who_may_has_an_entry_made_anew_and_who_may_not_is_answered_from_the_cache() {
    // One entry, which lives for 10 s and is asked for each 100 ms; a second crowd asks for a fresh one each second.
    let with = |fresh: &str| {
        let phases = format!(
            "{{target: Api, request: GET /cart/7, start: 0s, rate: 10/s, for: 9s, keys: 1}},
             {{target: Api, request: GET /cart/7, start: 550ms, rate: 1/s, for: 8s, keys: 1, fresh: {fresh}}}"
        );
        plan(&phases, "compute: 10ms")
    };
    let counts =
        |report: &Report| (report.caches[0].misses, report.functions[0].invocations, report.summary.ok);
    assert_eq!(counts(&with("none")), (1, 1, 98));
    assert_eq!(
        counts(&with("signed")),
        (9, 9, 98),
        "each of eight is answered by the function, and kept for all"
    );
    let unsigned = with("unsigned");
    assert_eq!(counts(&unsigned), (1, 1, 98));
    assert!(
        unsigned.assumptions.iter().any(|row| row.what == "`fresh` of phase 2"),
        "{:?}",
        unsigned.assumptions
    );
    let text = "{target: Http, request: GET /cart, rate: 1/s, for: 3s, fresh: signed}";
    let report = plan(text, "compute: 1ms");
    let said =
        |row: &&crate::report::Assumption| row.what == "`fresh` of phase 1" && row.value == "without effect";
    assert!(report.assumptions.iter().any(|row| said(&row)));
}

#[test]
fn without_cache_key_parameters_all_requests_have_one_entry() {
    let shared = TEMPLATE.replace("        CacheKeyParameters: [method.request.path.id]\n", "");
    let phases = "{target: Api, request: GET /cart/7, rate: 10/s, for: 5s, keys: 1000}";
    let report = plan_with(&shared, phases, "compute: 10ms", &[]).unwrap();
    assert_eq!((report.caches[0].misses, report.caches[0].hits), (1, 49));
    let said = report.assumptions.iter().find(|row| row.what == "`keys` of phase 1").unwrap();
    assert_eq!(said.value, "one entry for all");
    let report = plan(phases, "compute: 10ms");
    assert_eq!(report.caches[0].misses, 50 - report.caches[0].hits);
    assert!(report.caches[0].misses > 45);
}

#[test]
fn a_methods_own_setting_wins_and_only_get_is_cached_by_that_of_all() {
    let not_get =
        plan("{target: Api, request: POST /cart, client: AppKey, rate: 10/s, for: 1s}", "compute: 1ms");
    assert!(not_get.caches.is_empty());
    let item = "        - {ResourcePath: '/cart/{id}', HttpMethod: GET, CachingEnabled: false}\n";
    let off = TEMPLATE
        .replace("        - {ResourcePath: /cart,", &format!("{item}        - {{ResourcePath: /cart,"));
    let phases = "{target: Api, request: GET /cart/7, rate: 10/s, for: 1s}";
    assert!(plan_with(&off, phases, "compute: 1ms", &[]).unwrap().caches.is_empty());
    let zero = off.replace("HttpMethod: GET, CachingEnabled: false", "HttpMethod: GET, CacheTtlInSeconds: 0");
    assert!(plan_with(&zero, phases, "compute: 1ms", &[]).unwrap().caches.is_empty());
}

#[test]
fn doors_wait_as_long_as_they_may_while_the_function_runs_on() {
    let wait = |target: &str, steps: &str| {
        let phases = format!("{{target: {target}, users: 1, requests: 1, latency: 5ms}}");
        let report = plan(&phases, steps);
        let id = report.first_limit.as_ref().map(|first| (first.id, first.at_s.0));
        let status = *report.summary.statuses.keys().next().unwrap();
        (status, report.summary.slowest_s.0 / 1_000_000, id, report.functions[0].duration_s["50"].0)
    };
    let over = |at_s: u64| Some((LimitId::IntegrationTimeout, at_s * 1_000_000_000));
    let ran = 40_000_000_000;
    assert_eq!(wait("Http", "sleep: 40s"), (503, 30_005, over(30), ran));
    assert_eq!(wait("Api, request: GET /cart/7", "sleep: 40s"), (504, 29_005, over(29), ran));
    assert_eq!(wait("Url", "sleep: 40s"), (200, 40_005, None, ran));
    assert_eq!(wait("Cart", "sleep: 40s"), (200, 40_005, None, ran));
    // Exactly in time is in time.
    assert_eq!(wait("Http", "sleep: 30s"), (200, 30_005, None, 30_000_000_000));
    // Longer than both: the door's time is over first, the function's later.
    let report = plan("{target: Http, users: 1, requests: 1}", "sleep: 90s");
    let limits: Vec<(LimitId, u64)> =
        report.refusals.iter().map(|row| (row.limit, row.at_s.0 / 1_000_000_000)).collect();
    assert_eq!(limits, [(LimitId::IntegrationTimeout, 30), (LimitId::FunctionTimeout, 60)]);
    assert_eq!((report.summary.timed_out, report.functions[0].timed_out), (1, 1));
}

#[test]
fn a_function_that_nobody_waits_for_keeps_its_concurrency() {
    // Users send again after 30 s, but their functions run for 50 s.
    let report = plan("{target: Http, users: 5, for: 45s}", "sleep: 50s");
    assert_eq!((report.summary.requests, report.functions[0].peak_concurrency), (10, 10));
    assert_eq!(report.summary.statuses, [(503, 10)].into_iter().collect());
}

#[test]
fn a_connect_that_waits_too_long_for_the_door_is_in_the_chain() {
    let connect = "connect: {to: '10.0.0.1:5432', timeout: 50s}";
    let mut input = input(TEMPLATE);
    input.network = limits::Network::simple(1, 1, 1);
    let text = format!(
        "{{version: 1, phases: [{{target: Http, users: 2, requests: 2, latency: 5ms}}], behaviour: {{Cart: {{init: 0s, \
         steps: [{{{connect}}}, {{sleep: 20s}}]}}}}}}"
    );
    let mut options = Options::new(Era::named("today").unwrap());
    options.overrides.read("eni.connections=1").unwrap();
    let report = run(&input, &Load::read("load.yaml", &text).unwrap(), &options).unwrap();
    // The second user's SYN at 31 s finds room, too late for the door at 30 s.
    assert_eq!(report.summary.statuses[&503], 1);
    let chains: Vec<String> =
        report.summary.errors_by_cause.iter().map(|row| row.chain.join(" <- ")).collect();
    let expected = "apigw.integration-timeout <- connect to 10.0.0.1:5432 waited 30 s <- eni.connections of ";
    assert!(chains.iter().any(|chain| chain.starts_with(expected)), "{chains:?}");
}

#[test]
fn the_door_also_waits_no_longer_for_a_function_that_waits_for_another() {
    let text = "{version: 1, phases: [{target: Http, users: 1, requests: 1}], behaviour: {Cart: {init: 0s, steps: \
                [{call: {function: Pay}}]}, Pay: {init: 0s, steps: [{sleep: 40s}]}}}";
    let mut input = input(TEMPLATE);
    let pay =
        crate::input::FunctionInput { id: "Pay".into(), name: "pay".into(), ..input.functions[0].clone() };
    input.functions.push(pay);
    let load = Load::read("load.yaml", text).unwrap();
    let report = run(&input, &load, &Options::new(Era::named("today").unwrap())).unwrap();
    assert_eq!(report.summary.statuses, [(503, 1)].into_iter().collect());
    let durations: Vec<u64> = report.functions.iter().map(|function| function.duration_s["50"].0).collect();
    assert_eq!((durations, report.summary.slowest_s.0), (vec![40_000_000_000; 2], 30_000_000_000));
}

#[test]
fn clients_that_try_again_after_a_throttle_pass_the_doors_again() {
    let phases = "{target: Http, request: GET /cart, users: 9, requests: 9, retry: standard}";
    let report = plan(phases, "compute: 1ms");
    assert_eq!((report.summary.requests, report.summary.ok), (9, 9));
    assert!(row(&report, LimitId::ApiStageBurst).refused >= 4);
}

#[test]
fn a_load_balancer_is_as_patient_as_its_function() {
    let balancer = format!(
        "{TEMPLATE}
  Balancer: {{Type: AWS::ElasticLoadBalancingV2::LoadBalancer}}
  Group:
    Type: AWS::ElasticLoadBalancingV2::TargetGroup
    Properties: {{TargetType: lambda, Targets: [{{Id: !GetAtt Cart.Arn}}]}}
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties:
      LoadBalancerArn: !Ref Balancer
      Port: 80
      Protocol: HTTP
      DefaultActions: [{{Type: forward, TargetGroupArn: !Ref Group}}]
  Rule:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Priority: 1
      Conditions: [{{Field: path-pattern, PathPatternConfig: {{Values: [/cart/*]}}}}]
      Actions: [{{Type: forward, ForwardConfig: {{TargetGroups: [{{TargetGroupArn: !Ref Group}}]}}}}]
"
    );
    let phases = "{target: Balancer, request: GET /cart/7, users: 1, requests: 1}";
    let plan = |steps: &str| plan_with(&balancer, phases, steps, &[]).unwrap();
    assert_eq!(plan("sleep: 40s").summary.statuses, [(200, 1)].into_iter().collect());
    assert_eq!(plan("sleep: 90s").summary.statuses, [(502, 1)].into_iter().collect());
    let doors = input(&balancer).doors;
    let door = doors.iter().find(|door| door.id == "Balancer").unwrap();
    let routes: Vec<&str> = door.routes.iter().map(|route| &*route.path).collect();
    assert_eq!(routes, ["", "/cart/{rest+}"]);
}

#[test]
fn a_figure_that_no_request_meets_is_named() {
    let phases = "{target: Cart, users: 1, requests: 1}";
    let report = plan_with(TEMPLATE, phases, "compute: 1s", &["apigw.key-rate=5"]).unwrap();
    let said = report.assumptions.iter().find(|row| row.what == "apigw.key-rate=5").unwrap();
    assert_eq!(said.value, "without effect");
    let report = plan_with(
        TEMPLATE,
        "{target: Http, users: 1, requests: 1}",
        "sleep: 6s",
        &["apigw.integration-timeout=5s"],
    );
    assert_eq!(report.unwrap().summary.slowest_s.0, 5_000_000_000);
}

#[test]
fn a_client_may_be_less_patient_than_the_door() {
    let report = plan("{target: Http, users: 1, requests: 1, timeout: 10s}", "sleep: 40s");
    assert_eq!((report.summary.errors, report.summary.timed_out), (1, 0));
    assert_eq!(report.summary.errors_by_cause[0].chain, ["client.timeout"]);
}

#[test]
fn routes_of_http_apis_have_their_stages_throttle() {
    let report = plan("{target: Http, request: GET /cart, users: 9, requests: 9}", "compute: 1ms");
    let first = report.first_limit.unwrap();
    assert_eq!(
        (first.id, &*first.resource, report.summary.ok),
        (LimitId::ApiStageBurst, "Http GET /cart", 5)
    );
}

#[test]
fn keys_that_the_gateway_would_refuse_are_problems_of_the_load() {
    for (phase, expected) in [
        ("target: Api, request: POST /cart", "`POST /cart` of `Api` asks for an API key (client: AppKey)"),
        ("target: Api, request: POST /cart, client: OldKey", "the key `OldKey` is not enabled"),
        (
            "target: Api, request: POST /cart, client: ApKey",
            "the API key `ApKey` does not exist (did you mean `AppKey`?)",
        ),
        ("target: Http, client: AppKey", "`Http` takes no API keys"),
        ("target: Url, client: AppKey", "`Url` takes no API keys"),
        ("target: Cart, client: AppKey", "`Cart` takes no API keys"),
    ] {
        let phases = format!("{{{phase}, users: 1, requests: 1}}");
        let Err(PlanError::Load(problems)) = plan_with(TEMPLATE, &phases, "compute: 1s", &[]) else {
            panic!("{phase} is planned");
        };
        let said: Vec<String> = problems.iter().map(|problem| problem.one_line("load.yaml")).collect();
        assert!(said.iter().any(|line| line.contains(expected)), "{phase}: {said:?}");
    }
    let elsewhere = TEMPLATE.replace("Stage: prod, Throttle", "Stage: test, Throttle");
    let phases = "{target: Api, request: POST /cart, client: AppKey, users: 1, requests: 1}";
    let Err(PlanError::Load(problems)) = plan_with(&elsewhere, phases, "compute: 1s", &[]) else { panic!() };
    assert!(
        problems[0].to_string().contains("in no usage plan for the stage `prod` of `Api`"),
        "{problems:?}"
    );
    let report =
        plan("{target: Api, request: GET /cart/1, client: AppKey, users: 1, requests: 1}", "compute: 1s");
    assert!(report.assumptions.iter().any(|row| row.what == "`client` of phase 1"));
}

#[test]
fn the_same_seed_asks_for_the_same_keys() {
    let phases = "{target: Api, request: GET /cart/7, rate: 200/s, for: 20s, keys: {zipf: {n: 500, s: 1.1}}, bytes: {out: 1KB}}";
    let (one, other) = (plan(phases, "compute: 5ms"), plan(phases, "compute: 5ms"));
    assert_eq!(one.engine.decisions_hash, other.engine.decisions_hash);
    assert_eq!(one.caches, other.caches);
    assert!(one.caches[0].hits > one.caches[0].misses);
}
