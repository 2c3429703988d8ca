//! Database clusters: what their instances have of them. Caches beside them.

use super::{inputs, problems, stack, warnings};
use model::stack::Link;

const AURORA: &str = "
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  A: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24, AvailabilityZone: us-east-1a}}
  B: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24, AvailabilityZone: us-east-1b}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: d, VpcId: !Ref Vpc}}
  Subnets: {Type: AWS::RDS::DBSubnetGroup, Properties: {DBSubnetGroupDescription: d, SubnetIds: [!Ref A, !Ref B]}}
  Writer:
    Type: AWS::RDS::DBInstance
    Properties: {DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.serverless, Engine: aurora-postgresql}
  Cluster:
    Type: AWS::RDS::DBCluster
    Properties:
      Engine: aurora-postgresql
      DatabaseName: shop
      MasterUsername: ada
      Port: 6432
      DBSubnetGroupName: !Ref Subnets
      VpcSecurityGroupIds: [!Ref Group]
      ServerlessV2ScalingConfiguration: {MinCapacity: 0.5, MaxCapacity: 4}
Outputs:
  Host: {Value: !Sub '${Cluster.Endpoint.Address}:${Cluster.Endpoint.Port}'}
";

#[test]
fn an_instance_of_a_cluster_stands_where_the_cluster_does() {
    let stack = stack(AURORA);
    let writer = &stack.db_instances[0];
    assert_eq!((writer.class.as_str(), writer.port), ("db.serverless", 6432));
    assert_eq!(writer.subnet_group, Some(Link::Logical("Subnets".into())));
    assert_eq!(writer.security_groups, [Link::Logical("Group".into())]);
    assert_eq!((writer.username.as_deref(), writer.database.as_deref()), (Some("ada"), Some("shop")));
    let part = writer.cluster.as_ref().unwrap();
    assert_eq!((part.id.as_str(), part.writer, part.capacity), ("Cluster", true, Some((0.5, 4.0))));
    let [endpoint, readers] = &part.names[..] else { panic!("{:?}", part.names) };
    assert!(endpoint.starts_with("shop-cluster.cluster-") && readers.starts_with("shop-cluster.cluster-ro-"));
    assert_eq!(stack.outputs[0].value, format!("{endpoint}:6432"));
    assert_eq!(warnings(AURORA), [""; 0]);
}

#[test]
fn readers_answer_at_the_reader_endpoint() {
    let text = AURORA.replace(
        "Outputs:",
        "  Reader:
    Type: AWS::RDS::DBInstance
    Properties: {DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.r6g.large, Engine: aurora-postgresql}
Outputs:",
    );
    let stack = stack(&text);
    let parts: Vec<_> = stack.db_instances.iter().map(|found| found.cluster.clone().unwrap()).collect();
    assert_eq!(parts.iter().map(|part| part.writer).collect::<Vec<_>>(), [true, false]);
    assert!(parts[0].names.len() == 1 && parts[1].names[0].contains(".cluster-ro-"), "{parts:?}");
    assert_eq!(parts[1].capacity, None, "its class says what it has");
    let three = text.replace(
        "Outputs:",
        "  Another:
    Type: AWS::RDS::DBInstance
    Properties: {DBClusterIdentifier: !Ref Cluster, DBInstanceClass: db.r6g.large, Engine: aurora-postgresql}
Outputs:",
    );
    let names: Vec<_> =
        super::stack(&three).db_instances.iter().map(|found| found.cluster.clone().unwrap().names).collect();
    assert_eq!(names[1], names[2], "all readers have the one name");
    assert!(names[1].len() == 1 && names[0] != names[1]);
}

#[test]
fn an_instance_answers_at_its_clusters_port_for_who_asks_the_template_too() {
    let text = format!("{AURORA}  Own: {{Value: !GetAtt Writer.Endpoint.Port}}\n");
    assert_eq!(stack(&text).outputs[1].value, "6432");
    let named = text.replace("      Port: 6432\n", "      Port: 6432\n      DBClusterIdentifier: Shop\n");
    assert_eq!(stack(&named).outputs[1].value, "6432");
    let usual = text.replace("      Port: 6432\n", "");
    assert_eq!(stack(&usual).outputs[1].value, "5432");
}

#[test]
fn a_resource_before_a_cluster_has_its_port_from_an_instance_that_names_it() {
    let rules = "  Open:
    Type: AWS::EC2::SecurityGroup
    Properties:
      GroupDescription: d
      VpcId: !Ref Vpc
      SecurityGroupEgress:
        - {IpProtocol: tcp, FromPort: !GetAtt Writer.Endpoint.Port, ToPort: 9999, CidrIp: 10.0.0.0/8}
  Subnets:";
    let start = "Parameters: {Env: {Type: String, Default: test}, Port: {Type: Number, Default: 7432}}
Conditions: {Test: !Equals [!Ref Env, test]}
Resources:";
    let text = AURORA.replace("  Subnets:", rules).replace("\nResources:", start);
    for (instance, cluster, port) in [
        ("!Sub '${Env}-db'", "!Sub '${Env}-db'", "!Ref Port"),
        ("!Sub '${Env}-db'", "!Join ['-', [!Ref Env, db]]", "!Ref Port"),
        ("test-db", "test-db", "!If [Test, 7432, 8432]"),
        ("!Sub '${Vpc}-db'", "!Sub '${Vpc}-db'", "!Ref Port"),
        ("!Ref Cluster", "test-db", "!Ref Port"),
    ] {
        let named = format!("DatabaseName: shop\n      DBClusterIdentifier: {cluster}");
        let text = text.replace("!Ref Cluster", instance).replace("Port: 6432", &format!("Port: {port}"));
        let stack = stack(&text.replace("DatabaseName: shop", &named));
        let rule = &stack.security_groups.iter().find(|group| group.id == "Open").unwrap().egress[0];
        assert_eq!(rule.from_port, 7432, "{instance} of {cluster}");
    }
}

#[test]
fn a_cluster_without_instances_is_said_not_to_run_and_wrong_capacities_are_refused() {
    let (start, rest) = AURORA.split_once("  Writer:").unwrap();
    let (_, cluster) = rest.split_once("  Cluster:").unwrap();
    let text = format!("{start}  Cluster:{cluster}");
    assert!(warnings(&text)[0].contains("AWS::RDS::DBCluster is not run: Cluster"), "{:?}", warnings(&text));
    assert_eq!(template::read("t", &text, &inputs()).stack.unwrap().others[0].id, "Cluster");
    let told = problems(&AURORA.replace("MaxCapacity: 4", "MaxCapacity: 4000"));
    assert!(told[0].contains("MaxCapacity from 0 to 256 ACUs"), "{told:?}");
}

const CACHES: &str = "
Resources:
  Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16}}
  A: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}
  B: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}
  Group: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: d, VpcId: !Ref Vpc}}
  Subnets: {Type: AWS::ElastiCache::SubnetGroup, Properties: {Description: d, SubnetIds: [!Ref B, !Ref A]}}
  Redis:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties:
      ReplicationGroupDescription: d
      CacheNodeType: cache.t4g.micro
      NumCacheClusters: 2
      Port: 6400
      CacheSubnetGroupName: !Ref Subnets
      SecurityGroupIds: [!Ref Group]
  Memory:
    Type: AWS::ElastiCache::CacheCluster
    Properties:
      ClusterName: Mine
      Engine: memcached
      CacheNodeType: cache.t4g.micro
      NumCacheNodes: 1
      CacheSubnetGroupName: !Ref Subnets
      VpcSecurityGroupIds: [!GetAtt Group.GroupId]
  Serverless:
    Type: AWS::ElastiCache::ServerlessCache
    Properties: {ServerlessCacheName: quick, Engine: valkey, SubnetIds: [!Ref A], SecurityGroupIds: [!Ref Group]}
Outputs:
  Primary: {Value: !Sub '${Redis.PrimaryEndPoint.Address}:${Redis.PrimaryEndPoint.Port}'}
  Reader: {Value: !GetAtt Redis.ReaderEndPoint.Address}
  Readers: {Value: !Join [',', !GetAtt Redis.ReadEndPoint.Addresses.List]}
  Configuration: {Value: !GetAtt Redis.ConfigurationEndPoint.Address}
  Memory: {Value: !Sub '${Memory.ConfigurationEndpoint.Address}:${Memory.ConfigurationEndpoint.Port}'}
  Serverless: {Value: !Sub '${Serverless.Endpoint.Address}:${Serverless.Endpoint.Port}'}
  Quick: {Value: !Sub '${Serverless.ReaderEndpoint.Address}:${Serverless.ReaderEndpoint.Port}'}
";

#[test]
fn caches_stand_in_their_subnets_and_answer_at_elasticaches_names() {
    let stack = stack(CACHES);
    assert_eq!(warnings(CACHES), [""; 0]);
    let logical = |id: &str| Link::Logical(id.into());
    let [redis, memory, serverless] = &stack.caches[..] else { panic!("{:?}", stack.caches) };
    assert_eq!((&redis.subnets, &redis.ports), (&vec![logical("B"), logical("A")], &vec![6400]));
    assert_eq!((&memory.subnets, &memory.ports), (&redis.subnets, &vec![11211]));
    assert_eq!((&serverless.subnets, &serverless.ports), (&vec![logical("A")], &vec![6379, 6380]));
    for cache in [redis, memory, serverless] {
        assert_eq!(cache.security_groups, [logical("Group")]);
        assert!(
            cache.names.iter().all(|name| name.ends_with(".use1.cache.amazonaws.com")),
            "{:?}",
            cache.names
        );
    }
    let [primary, reader, configuration] = &redis.names[..] else { panic!("{:?}", redis.names) };
    assert!(primary.starts_with("shop-redis.") && primary.contains(".ng.0001."), "{primary}");
    assert!(memory.names[0].starts_with("mine.") && memory.names[0].contains(".cfg."), "{:?}", memory.names);
    let value = |id: &str| &*stack.outputs.iter().find(|output| output.id == id).unwrap().value;
    assert_eq!(value("Primary"), format!("{primary}:6400"));
    assert_eq!(
        [value("Reader"), value("Readers"), value("Configuration")],
        [&**reader, reader, configuration]
    );
    assert_eq!(value("Memory"), format!("{}:11211", memory.names[0]));
    assert_eq!(value("Serverless"), format!("{}:6379", serverless.names[0]));
    assert_eq!(value("Quick"), format!("{}:6380", serverless.names[0]));
    // With TLS they are called otherwise.
    let tls = CACHES.replace("Port: 6400", "TransitEncryptionEnabled: true");
    assert!(super::stack(&tls).caches[0].names[0].starts_with("master.shop-redis."));
}

#[test]
fn a_slip_in_a_caches_endpoint_and_a_cache_of_two_vpcs_are_named() {
    let slip = problems(&CACHES.replace("Redis.PrimaryEndPoint.Port", "Redis.PrimaryEndpoint.Port"));
    assert!(slip[0].contains("has no attribute") && slip[0].contains("PrimaryEndPoint.Port"), "{slip:?}");
    let other = CACHES
        .replace("  A: {", "  Other: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.9.0.0/16}}\n  A: {")
        .replace("GroupDescription: d, VpcId: !Ref Vpc", "GroupDescription: d, VpcId: !Ref Other");
    let problems = problems(&other);
    assert!(problems[0].contains("Redis joins B of Vpc and Group of Other"), "{problems:?}");
}
