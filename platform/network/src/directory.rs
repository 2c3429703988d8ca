//! What stands where, for the relay: attached servers, AWS's endpoints, the resolver over TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};

use limits::Network;
use limits::network::HostKind;
use model::stack::Stack;
use tokio::net::TcpStream;

use crate::attach::{Attachments, Place, Server, ports_of};
use crate::names::{Asker, Resolver};
use crate::relay::{Destinations, Flow, Target};
use crate::told::Told;

/// Where AWS's endpoints answer.
const TLS_PORT: u16 = 443;
const PLAIN_PORT: u16 = 80;
/// Addresses of AWS's services, and of attached names, that mean nothing are refused in so many words.
const OURS: (u32, u32) = (0xC613_8000, 0xC613_FFFF);

/// Takes a connection to one of AWS's endpoints; whether it begins with TLS is its port's affair.
pub type Endpoints = Arc<dyn Fn(TcpStream, EndpointPort) + Send + Sync>;

/// Which port of an endpoint was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointPort {
    /// 443.
    Tls,
    /// 80.
    Plain,
}

/// Something of the template that has an address.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    /// Of an interface endpoint: the service's name, as in host names.
    service: Option<String>,
}

/// Two attachments end at one address and port, where a connection does not say by which name it was looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--attach {second} and --attach {first} both lead to {address}:{port} in this network: give one of them, or the same \
     server to both"
)]
pub struct Clash {
    /// What has the place.
    pub first: String,
    /// What does not get it.
    pub second: String,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// What a network has where.
#[derive(Clone, Debug, Default)]
struct Places {
    servers: BTreeMap<(IpAddr, u16), Server>,
    /// Servers that take every port of an address.
    whole: BTreeMap<IpAddr, Server>,
    known: BTreeMap<IpAddr, Known>,
}

/// Puts attached servers where they stand, one at each place.
#[derive(Default)]
struct Putting {
    servers: BTreeMap<(IpAddr, u16), (Server, String)>,
    clashes: Vec<Clash>,
}

impl Putting {
    /// `option`: what stands before the `=`.
    fn put(&mut self, (address, port): (IpAddr, u16), server: &Server, option: String) {
        match self.servers.get(&(address, port)) {
            None => drop(self.servers.insert((address, port), (server.clone(), option))),
            Some((there, _)) if there == server => {}
            Some((_, first)) => {
                self.clashes.push(Clash { first: first.clone(), second: option, address, port });
            }
        }
    }
}

/// Every destination that leads to the relay, and what stands there.
pub struct Directory {
    /// Others after each change of the network.
    places: RwLock<Arc<Places>>,
    served: BTreeSet<String>,
    resolver: Arc<Resolver>,
    endpoints: Endpoints,
    /// Destinations at which there is nothing.
    told: Told<(IpAddr, u16)>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("places", &self.places()).finish_non_exhaustive()
    }
}

impl Directory {
    /// The directory of a network. `served` are the services that `endpoints` answers for.
    ///
    /// # Errors
    /// Two attachments stand at one place.
    pub fn new(
        network: &Network,
        stack: &Stack,
        attachments: &Attachments,
        resolver: Arc<Resolver>,
        (served, endpoints): (BTreeSet<String>, Endpoints),
    ) -> Result<Self, Clash> {
        let directory =
            Self { places: RwLock::default(), served, resolver, endpoints, told: Told::default() };
        match directory.renew(network, stack, attachments).into_iter().next() {
            Some(clash) => Err(clash),
            None => Ok(directory),
        }
    }

    /// Speaks of another network from now on; the resolver's book is to be that one's already. What is open stays open. Answers
    /// which attachments have no place, as another has it.
    pub fn renew(&self, network: &Network, stack: &Stack, attachments: &Attachments) -> Vec<Clash> {
        let (mut places, mut putting) = (Places::default(), Putting::default());
        for host in &network.hosts {
            let endpoint = match host.what {
                HostKind::Endpoint(index) => stack.vpc_endpoints.get(index),
                _ => None,
            };
            let service = endpoint.and_then(|endpoint| {
                // `com.amazonaws.us-east-1.ecr.api` is called api.ecr: the service is what stands first.
                endpoint.service_name.splitn(4, '.').nth(3)?.split('.').next()
            });
            let addresses = [Some(IpAddr::V4(host.address)), host.address6.map(IpAddr::V6)];
            for address in addresses.into_iter().flatten() {
                let known = Known { id: host.name.clone(), service: service.map(str::to_owned) };
                places.known.insert(address, known);
                let Some((ports, server)) = attachments.resources.get(&host.name) else { continue };
                // Where it answers is the stack's to say, and may be another than at the start.
                let ports = ports_of(stack, &host.name).unwrap_or_else(|| ports.clone());
                if ports.is_empty() {
                    places.whole.insert(address, server.clone());
                }
                ports.iter().for_each(|port| putting.put((address, *port), server, host.name.clone()));
            }
        }
        for ((place, port), server) in &attachments.places {
            let addresses = match place {
                Place::Address(address) => [*address].into(),
                Place::Name(name) => self.resolver.book().addresses_of(name),
            };
            for address in addresses {
                putting.put((address, *port), server, format!("{place}:{port}"));
            }
        }
        places.servers = putting.servers.into_iter().map(|(at, (server, _))| (at, server)).collect();
        *self.places.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
        putting.clashes
    }

    fn places(&self) -> Arc<Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Destinations that lead to the relay beside the template's own and the ranges that always do: an address with one
    /// port, or with all.
    pub fn relayed(&self) -> BTreeSet<(IpAddr, Option<u16>)> {
        let places = self.places();
        let whole = places.whole.keys().chain(places.known.keys()).map(|address| (*address, None));
        places.servers.keys().map(|(address, port)| (*address, Some(*port))).chain(whole).collect()
    }

    /// The resolver, as somebody hears it over TCP.
    pub fn resolver(&self, asker: Asker) -> Target {
        let resolver = self.resolver.clone();
        Target::Serve(Arc::new(move |_, stream| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.serve(asker, stream).await });
        }))
    }

    fn endpoint(&self, port: u16) -> Option<Target> {
        let port = match port {
            TLS_PORT => EndpointPort::Tls,
            PLAIN_PORT => EndpointPort::Plain,
            _ => return None,
        };
        let endpoints = self.endpoints.clone();
        Some(Target::Serve(Arc::new(move |_, stream| endpoints(stream, port))))
    }

    /// Says once in a while what is missing.
    fn tell(&self, flow: Flow, missing: impl FnOnce() -> String) {
        if self.told.is_due((flow.destination.ip(), flow.destination.port())) {
            tracing::warn!("{}", missing());
        }
    }

    fn service_at(&self, address: Ipv4Addr, flow: Flow) -> Target {
        let book = self.resolver.book();
        let services = book.services();
        if services.served_at(address).is_some() {
            return self.endpoint(flow.destination.port()).unwrap_or(Target::Refused);
        }
        if let Some(name) = services.not_served(address) {
            self.tell(flow, || match name {
                Some(name) => not_served(name.as_str()),
                None => format!("refused {flow}: no AWS service is served there"),
            });
        } else {
            self.tell(flow, || format!("refused {flow}: nothing is attached at that port"));
        }
        Target::Refused
    }
}

/// What a person can do about a name of AWS's that nobody answers here.
fn not_served(name: &str) -> String {
    let service = model::aws_name::AwsName::read(name).map(|aws| aws.service).unwrap_or_default();
    let attach = match crate::attach::ATTACHABLE_SERVICES.contains(&service.as_str()) {
        true => format!("--attach {service}=HOST:PORT puts a server there"),
        false => format!("--attach {name}:443=HOST:PORT puts a server there"),
    };
    format!(
        "refused a connection to {name}, which nobody answers here: {attach}, --aws-passthrough lets it go to AWS"
    )
}

impl Destinations for Directory {
    fn target(&self, flow: Flow, udp: bool) -> Target {
        let (address, port) = (flow.destination.ip(), flow.destination.port());
        let places = self.places();
        if let Some(server) = places.servers.get(&(address, port)).or_else(|| places.whole.get(&address)) {
            return Target::Server(server.clone());
        }
        if let Some(known) = places.known.get(&address) {
            if let Some(service) = &known.service {
                let target = self.served.contains(service).then(|| self.endpoint(port)).flatten();
                return target.filter(|_| !udp).unwrap_or_else(|| {
                    self.tell(flow, || {
                        format!(
                            "refused {flow}: behind the endpoint {} nobody answers for {service}; --attach {service}=HOST:PORT \
                             puts a server there",
                            known.id
                        )
                    });
                    Target::Refused
                });
            }
            self.tell(flow, || {
                let id = &known.id;
                format!(
                    "refused {flow}: nothing stands behind {id}; --attach {id}=HOST:PORT puts a server there"
                )
            });
            return Target::Refused;
        }
        match address {
            IpAddr::V4(four) if (OURS.0..=OURS.1).contains(&u32::from(four)) => match udp {
                true => Target::Nothing,
                false => self.service_at(four, flow),
            },
            _ => Target::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Book, ServiceAddresses, Upstream, VpcNames};
    use std::net::SocketAddr;

    fn directory(options: &[&str]) -> Directory {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let attachments = Attachments::parse(&options, None).unwrap();
        let services = ServiceAddresses::new("us-east-1", ["ssm".to_owned()], false);
        let vpc = VpcNames::new(true, vec!["10.0.0.0/16".parse().unwrap()]);
        let book = Book::new("us-east-1", vec![vpc], &attachments, services);
        let resolver = Arc::new(Resolver::new(Arc::new(book), Upstream::of(vec![])));
        let directory = Directory::new(
            &Network::default(),
            &Stack::default(),
            &attachments,
            resolver,
            (["ssm".to_owned()].into(), Arc::new(|_, _| {})),
        )
        .unwrap();
        let mut places = (*directory.places()).clone();
        let endpoint = Known { id: "SsmEndpoint".into(), service: Some("ssm".into()) };
        places.known.insert("10.0.1.9".parse().unwrap(), endpoint);
        places.known.insert("10.0.1.8".parse().unwrap(), Known { id: "Orders".into(), service: None });
        *directory.places.write().unwrap() = Arc::new(places);
        directory
    }

    fn at(directory: &Directory, destination: &str, udp: bool) -> &'static str {
        let source: SocketAddr = "10.0.3.4:40000".parse().unwrap();
        let flow = Flow { source, destination: destination.parse().unwrap() };
        match directory.target(flow, udp) {
            Target::Server(_) => "server",
            Target::Serve(_) => "here",
            Target::World => "world",
            Target::Refused => "refused",
            Target::Nothing => "nothing",
        }
    }

    #[test]
    fn every_destination_leads_to_what_stands_there() {
        let directory = directory(&["cache.test:443=localhost:1", "10.0.1.8:5432=localhost:2"]);
        let ssm = limits::network::service_address("ssm");
        let sqs = limits::network::service_address("sqs");
        for (destination, expected) in [
            ("198.19.192.1:443", "server"),
            ("198.19.192.1:80", "refused"),
            ("10.0.1.8:5432", "server"),
            ("10.0.1.8:5433", "refused"),
            ("10.0.1.9:443", "here"),
            ("10.0.1.9:22", "refused"),
            // Without a word of who asks, the resolver is nobody.
            ("10.0.0.2:53", "nothing"),
            ("169.254.169.253:53", "nothing"),
            ("93.184.215.14:443", "nothing"),
            (&format!("{ssm}:443"), "here"),
            (&format!("{sqs}:443"), "refused"),
        ] {
            assert_eq!(at(&directory, destination, false), expected, "{destination}");
        }
        assert_eq!(at(&directory, "198.19.192.1:443", true), "server", "datagrams, too");
        assert!(directory.relayed().contains(&("10.0.1.8".parse().unwrap(), Some(5432))));
    }

    #[test]
    fn an_attached_server_is_where_the_template_says_after_each_change() {
        let stack = |port: u16| {
            let text = format!(
                "Resources:\n  Vpc: {{Type: AWS::EC2::VPC, Properties: {{CidrBlock: 10.0.0.0/16}}}}\n  \
                 Own: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Vpc, CidrBlock: 10.0.1.0/24}}}}\n  \
                 Next: {{Type: AWS::EC2::Subnet, Properties: {{VpcId: !Ref Vpc, CidrBlock: 10.0.2.0/24}}}}\n  \
                 Places: {{Type: AWS::RDS::DBSubnetGroup, Properties: {{DBSubnetGroupDescription: d, SubnetIds: [!Ref Own, !Ref Next]}}}}\n  \
                 Orders: {{Type: AWS::RDS::DBInstance, Properties: {{Engine: postgres, DBInstanceClass: db.t4g.micro, \
                 AllocatedStorage: '20', Port: '{port}', DBSubnetGroupName: !Ref Places}}}}\n"
            );
            let outcome = template::read("t", &text, &template::Inputs::default());
            outcome.stack.unwrap_or_else(|| panic!("{:?}", outcome.problems))
        };
        let before = stack(5432);
        let attachments = Attachments::parse(&["Orders=localhost:1".to_owned()], Some(&before)).unwrap();
        let directory = directory(&[]);
        for (port, expected) in [(5432, ["server", "refused"]), (6000, ["refused", "server"])] {
            let stack = stack(port);
            assert_eq!(directory.renew(&Network::from_stack(&stack), &stack, &attachments), []);
            let found = ["10.0.1.4:5432", "10.0.1.4:6000"].map(|to| at(&directory, to, false));
            assert_eq!(found, expected, "{port}");
        }
    }

    #[test]
    fn two_servers_at_one_place_are_told_apart_from_one_that_is_named_twice() {
        let clash = |options: &[&str]| {
            let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
            let attachments = Attachments::parse(&options, None).unwrap();
            let mut vpc = VpcNames::new(true, Vec::new());
            // As the names of an endpoint have its one address.
            for name in ["a.example.test", "b.example.test"] {
                vpc.add(crate::names::Name::new(name).unwrap(), "10.0.1.8".parse().unwrap());
            }
            let services = ServiceAddresses::new("us-east-1", [], false);
            let book = Book::new("us-east-1", vec![vpc], &attachments, services);
            let resolver = Arc::new(Resolver::new(Arc::new(book), Upstream::of(vec![])));
            let served: (_, Endpoints) = (BTreeSet::new(), Arc::new(|_, _| {}));
            let made = Directory::new(&Network::default(), &Stack::default(), &attachments, resolver, served);
            made.err().map(|clash| clash.to_string())
        };
        let said = clash(&["a.example.test:443=localhost:1", "b.example.test:443=localhost:2"]).unwrap();
        let both = "--attach b.example.test:443 and --attach a.example.test:443 both lead to 10.0.1.8:443";
        assert!(said.starts_with(both), "{said}");
        assert!(clash(&["10.0.1.8:443=localhost:1", "a.example.test:443=localhost:2"]).is_some());
        assert_eq!(clash(&["a.example.test:443=localhost:1", "b.example.test:443=localhost:1"]), None);
        assert_eq!(clash(&["a.example.test:443=localhost:1", "b.example.test:80=localhost:2"]), None);
        assert_eq!(clash(&["a.example.test:443=localhost:1", "c.example.test:443=localhost:2"]), None);
    }

    #[test]
    fn the_log_says_what_to_attach() {
        assert!(not_served("sqs.us-east-1.amazonaws.com").contains("--attach sqs=HOST:PORT"));
        let database = not_served("db.x.us-east-1.docdb.amazonaws.com");
        assert!(database.contains("--attach db.x.us-east-1.docdb.amazonaws.com:443=HOST:PORT"), "{database}");
        assert!(database.contains("--aws-passthrough"));
    }
}
