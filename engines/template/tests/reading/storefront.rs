//! A realistic SAM template: VPC, NAT, security groups, database behind a proxy, functions, HTTP API.

use super::{inputs, said, stack};
use model::stack::{
    Architecture, AuthType, Cidr, Code, Destination, EndpointKind, InvokeMode, Link, PackageType, Peer,
    RouteTarget, TransportProtocol,
};

const TEXT: &str = include_str!("fixtures/storefront.yaml");

fn logical(id: &str) -> Link {
    Link::Logical(id.to_owned())
}

#[test]
fn the_network_is_joined() {
    let stack = stack(TEXT);
    assert_eq!(stack.vpcs[0].cidr.to_string(), "10.0.0.0/16");
    assert!(stack.vpcs[0].dns_support && stack.vpcs[0].dns_hostnames);
    let subnets: Vec<String> = stack
        .subnets
        .iter()
        .map(|subnet| {
            format!("{} {} {} {}", subnet.id, subnet.cidr, subnet.availability_zone, subnet.map_public_ip)
        })
        .collect();
    assert_eq!(
        subnets,
        [
            "PublicSubnet 10.0.0.0/24 us-east-1a true",
            "PrivateSubnetA 10.0.1.0/24 us-east-1a false",
            "PrivateSubnetB 10.0.2.0/24 us-east-1b false",
        ]
    );
    let nat = &stack.nat_gateways[0];
    assert_eq!(
        (nat.subnet.clone(), nat.addresses.clone()),
        (Some(logical("PublicSubnet")), vec![logical("NatAddress")])
    );
    assert_eq!(stack.internet_gateways[0].vpc, Some(logical("Vpc")));
    let table = stack.route_table_of("PrivateSubnetB").unwrap();
    let route = stack.routes_of(&table.id).next().unwrap();
    assert_eq!(route.destination, Destination::Ipv4(Cidr::ANY));
    assert_eq!(route.target, RouteTarget::NatGateway(logical("NatGateway")));
    assert_eq!(stack.vpc_endpoints[0].kind, EndpointKind::Gateway);
    assert_eq!(stack.vpc_endpoints[0].service_name, "com.amazonaws.us-east-1.s3");
}

#[test]
fn security_groups_hold_inline_standalone_and_default_rules() {
    let stack = stack(TEXT);
    let functions = stack.security_group("FunctionSecurityGroup").unwrap();
    assert!(functions.ingress.is_empty());
    let egress: Vec<(i32, &Peer)> =
        functions.egress.iter().map(|rule| (rule.from_port, &rule.peer)).collect();
    assert_eq!(
        egress,
        [(443, &Peer::Ipv4(Cidr::ANY)), (5432, &Peer::SecurityGroup(logical("DatabaseSecurityGroup")))]
    );
    let database = stack.security_group("DatabaseSecurityGroup").unwrap();
    assert_eq!(database.ingress[0].id, "DatabaseIngress");
    assert_eq!(database.ingress[0].peer, Peer::SecurityGroup(logical("FunctionSecurityGroup")));
    assert_eq!((database.egress.len(), database.egress[0].protocol), (1, TransportProtocol::All));
    let own = stack.security_group("Vpc.DefaultSecurityGroup").unwrap();
    assert_eq!(own.ingress[0].peer, Peer::SecurityGroup(logical("Vpc.DefaultSecurityGroup")));
}

#[test]
fn functions_have_globals_defaults_and_their_own() {
    let stack = stack(TEXT);
    let cart = stack.function("CartFunction").unwrap();
    assert_eq!(cart.name, "shop-CartFunction");
    assert_eq!(cart.arn, "arn:aws:lambda:us-east-1:000000000000:function:shop-CartFunction");
    assert_eq!(cart.code, Code::Local { path: "functions/cart".into() });
    assert_eq!(&TEXT[cart.code_place.offset as usize..][..14], "functions/cart");
    assert_eq!(cart.build_method.as_deref(), Some("rust-cargolambda"));
    assert_eq!(cart.build_binary.as_deref(), Some("cart"));
    assert_eq!((cart.memory_mb, cart.timeout_s, cart.ephemeral_storage_mb), (256, 30, 512));
    assert_eq!((cart.package_type, cart.architecture), (PackageType::Zip, Architecture::X86_64));
    assert_eq!(cart.reserved_concurrency, Some(100));
    let vpc = cart.vpc.as_ref().unwrap();
    assert_eq!(vpc.subnets, [logical("PrivateSubnetA"), logical("PrivateSubnetB")]);
    assert_eq!(vpc.security_groups, [logical("FunctionSecurityGroup")]);
    let order = stack.function("OrderFunction").unwrap();
    assert_eq!((order.timeout_s, order.ephemeral_storage_mb), (10, 1024));
    let environment: Vec<(&str, &str)> =
        order.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(environment[0], ("CACHE", "cache.example.com:443"));
    assert_eq!(environment[1], ("DATABASE_HOST", stack.db_proxies[0].endpoint.as_str()));
    assert_eq!(environment[3], ("TABLE", "orders"));
    assert_eq!(order.role.as_deref(), Some("arn:aws:iam::000000000000:role/shop-OrderFunctionRole"));
    let role = stack.roles.iter().find(|role| role.id == "OrderFunctionRole").unwrap();
    assert_eq!(role.managed_policies, ["AWSLambdaVPCAccessExecutionRole"]);
    assert!(role.policies["Policy0"].contains("ssm:GetParameter"));
}

#[test]
fn doors_lead_to_functions() {
    let stack = stack(TEXT);
    let url = &stack.function_urls[0];
    assert_eq!(
        (url.id.as_str(), url.auth_type, url.invoke_mode),
        ("CartFunctionUrl", AuthType::None, InvokeMode::ResponseStream)
    );
    assert_eq!(
        (&url.target.function, url.target.qualifier.as_deref()),
        (&logical("CartFunction"), Some("live"))
    );
    assert_eq!(url.cors.as_ref().unwrap().allow_methods, ["GET", "POST"]);
    assert_eq!(url.url, format!("http://{}.lambda-url.us-east-1.localhost:4566/", url.url_id));
    let api = &stack.http_apis[0];
    let routes: Vec<String> = api
        .routes
        .iter()
        .map(|route| {
            let integration = route.integration.as_ref().unwrap();
            let target = integration.function.as_ref().unwrap();
            let (version, timeout) = (&integration.payload_format_version, integration.timeout_ms);
            format!(
                "{} -> {}:{:?} {version} {timeout}",
                route.route_key,
                target.function.as_str(),
                target.qualifier
            )
        })
        .collect();
    assert_eq!(
        routes,
        [
            "GET /cart/{id} -> CartFunction:Some(\"live\") 2.0 30000",
            "$default -> CartFunction:Some(\"live\") 2.0 30000",
            "POST /orders -> OrderFunction:None 2.0 5000",
        ]
    );
    assert_eq!(api.cors.as_ref().unwrap().allow_origins, ["*"]);
    assert_eq!(
        (api.stages[0].name.as_str(), api.stages[0].default_throttle.burst_limit),
        ("$default", Some(200))
    );
    assert_eq!(stack.aliases[0].name, "live");
    assert_eq!(stack.versions[0].function, logical("CartFunction"));
    let allowed: Vec<&str> = stack.permissions.iter().map(|permission| permission.id.as_str()).collect();
    assert_eq!(
        allowed,
        [
            "CartFunctionUrlPublicPermissions",
            "CartFunctionURLInvokeAllowPublicAccess",
            "CartFunctionGetCartPermission",
            "CartFunctionAnythingPermission",
            "OrderFunctionOrderPermission",
            "OrderFunctionNightlyPermission",
        ]
    );
}

#[test]
fn the_database_and_its_proxy_are_joined() {
    let stack = stack(TEXT);
    let database = &stack.db_instances[0];
    assert_eq!((database.identifier.as_str(), database.port), ("shop-database", 5432));
    assert_eq!(database.subnet_group, Some(logical("DatabaseSubnets")));
    assert_eq!(database.security_groups, [logical("DatabaseSecurityGroup")]);
    let password = model::stack::DynamicReference::find_all(database.password.as_deref().unwrap());
    assert_eq!(
        (password[0].1.name.as_str(), password[0].1.json_key.as_deref()),
        (stack.secrets[0].arn.as_str(), Some("password"))
    );
    let targets = &stack.db_proxy_target_groups[0];
    assert_eq!((&targets.proxy, &targets.instances), (&logical("OrdersProxy"), &vec![logical("Database")]));
    assert_eq!(
        (targets.max_connections_percent, targets.max_idle_connections_percent, targets.borrow_timeout_s),
        (80, 40, 5)
    );
    assert_eq!(stack.db_proxies[0].auth[0].secret, Some(logical("DatabaseSecret")));
    assert_eq!(stack.secrets[0].generate.as_ref().unwrap().length, 24);
    assert_eq!(stack.ssm_parameters[0].name, "/shop/table");
}

#[test]
fn outputs_say_where_things_answer_here() {
    let stack = stack(TEXT);
    let api = &stack.http_apis[0];
    let output = |id: &str| stack.outputs.iter().find(|output| output.id == id);
    assert_eq!(output("ApiUrl").unwrap().local_url, Some(format!("{}/", api.url)));
    assert_eq!(output("CartUrl").unwrap().local_url, Some(stack.function_urls[0].url.clone()));
    let cart = output("CartArn").unwrap();
    assert_eq!(cart.value, "arn:aws:lambda:us-east-1:000000000000:function:shop-CartFunction:live");
    assert_eq!((cart.export.as_deref(), cart.local_url.as_deref()), (Some("shop-cart"), None));
    assert!(output("Second").is_none(), "its condition is false");
}

#[test]
fn what_is_not_run_is_said_once_and_strict_reading_refuses_it() {
    let outcome = template::read("t", TEXT, &inputs());
    assert_eq!(
        said(&outcome.warnings),
        [
            "t:269:11: the event type `Schedule` is not run: OrderFunction does not get its events \
             (send one: `onrush generate-event cloudwatch scheduled-event | onrush invoke OrderFunction -e -`)",
            "t:282:3: AWS::DynamoDB::Table is not run: Orders",
        ]
    );
    assert_eq!(outcome.stack.unwrap().others[0].physical_id, "shop-Orders");
    let strict = template::read("t", TEXT, &template::Inputs { strict: true, ..inputs() });
    assert!(strict.stack.is_none());
    assert!(said(&strict.problems)[0].contains("AWS::DynamoDB::Table is not run"));
}

#[test]
fn a_parameter_changes_what_exists() {
    let mut inputs = inputs();
    inputs.parameters.insert("Stage".into(), "prod".into());
    let stack = template::read("t", TEXT, &inputs).stack.unwrap();
    assert_eq!(stack.nat_gateways[0].addresses, [logical("NatAddress"), logical("SecondNatAddress")]);
    assert_eq!(stack.function("CartFunction").unwrap().memory_mb, 1024);
    let addresses: Vec<String> =
        stack.elastic_ips.iter().map(|address| address.public_ip.to_string()).collect();
    assert_eq!(addresses, ["198.18.0.1", "198.18.0.2"]);
    assert_eq!(stack.outputs.last().map(|output| output.value.as_str()), Some("198.18.0.2"));
}

#[test]
fn elastic_ips_keep_what_they_have_when_read_again() {
    const TEXT: &str = "Resources:\n  New: {Type: AWS::EC2::EIP}\n  Kept: {Type: AWS::EC2::EIP}\n  Other: {Type: AWS::EC2::EIP}\n\
        Outputs: {Kept: {Value: !Ref Kept}, New: {Value: !GetAtt New.PublicIp}}\n";
    let of = |known: &[(&str, &str)]| {
        let elastic_ips =
            known.iter().map(|(id, address)| ((*id).to_owned(), address.parse().unwrap())).collect();
        let inputs = template::Inputs { elastic_ips, ..inputs() };
        let stack = template::read("t", TEXT, &inputs).stack.unwrap();
        let all = stack
            .elastic_ips
            .iter()
            .map(|ip| ip.public_ip)
            .chain(stack.outputs.iter().map(|output| output.value.parse().unwrap()));
        all.map(|ip| ip.to_string().replace("198.18.0.", "")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&[]), "1 2 3 2 1");
    // What went is nobody else's.
    assert_eq!(of(&[("Gone", "198.18.0.1"), ("Kept", "198.18.0.2")]), "3 2 4 2 3");
    assert_eq!(of(&[("Kept", "198.18.0.1"), ("Other", "198.18.0.4")]), "2 1 4 1 2");
}

#[test]
fn reading_twice_gives_the_same() {
    assert_eq!(stack(TEXT), stack(TEXT));
}

/// The example that the README begins with.
#[test]
fn the_example_has_neither_problem_nor_warning() {
    let text = include_str!("../../../../examples/storefront/template.yaml");
    let outcome = template::read("template.yaml", text, &inputs());
    assert_eq!(said(&outcome.problems), Vec::<String>::new());
    assert_eq!(said(&outcome.warnings), Vec::<String>::new());
    assert!(outcome.stack.is_some_and(|stack| stack.functions.len() >= 2));
}

#[test]
fn a_functions_event_types_that_are_not_run_take_one_warning() {
    let text = "Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.12
      Handler: a.b
      InlineCode: x
      Events:
        A: {Type: SQS, Properties: {Queue: q}}
        B: {Type: S3, Properties: {Bucket: b}}
        C: {Type: SQS, Properties: {Queue: r}}
        D: {Type: Pigeon}
        E: {Type: MQ}
";
    let outcome = template::read("t", text, &inputs());
    assert_eq!(
        said(&outcome.warnings),
        [
            "t:10:12: the event types `SQS`, `S3`, `MQ` are not run: F does not get its events \
             (send one: `onrush generate-event sqs receive-message | onrush invoke F -e -`; others: `s3 put`)",
            "t:13:12: the event type `Pigeon` is not known: F does not get its events \
             (HttpApi, Api and FunctionUrlConfig are run)",
        ]
    );
}
