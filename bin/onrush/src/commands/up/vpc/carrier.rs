//! Gives each environment its place in the network.

mod room;

use super::called;
use super::flow_logs::FlowFiles;
use super::own_interfaces::OwnInterfaces;
use crate::commands::up::answers::Renewing;
use control::Function;
use invoke::{Attachment, Network as Carries, Reservation};
use limits::Network;
use limits::network::TooMuchGone;
use model::Refusal;
use model::stack::{Link, Stack, VpcConfig};
use network::Resolver;
use network::fabric::{Attached, Blame, Fabric, FlowLogging, Joining};
use packets::Place;
use sandbox::Interface;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Subnets and security groups of a function, by their ids, and whether it speaks IPv6.
type Config = (Vec<String>, Vec<String>, bool);

/// Where an environment is.
#[derive(Clone, Copy, Debug)]
struct Seat {
    place: Place,
    vpc: usize,
    resolver: Option<Ipv4Addr>,
}

/// Attaches environments.
#[derive(Debug)]
pub struct Carrier {
    fabric: Fabric,
    began: Instant,
    resolver: Arc<Resolver>,
    renewing: Arc<Renewing>,
    places: Arc<Mutex<Places>>,
    /// In eras that make interfaces at cold starts.
    own: Option<OwnInterfaces>,
    flow_files: Arc<FlowFiles>,
}

#[derive(Debug)]
struct Places {
    stack: Arc<Stack>,
    network: Network,
    /// Functions of the network with that configuration.
    functions: BTreeMap<Config, usize>,
    users: Users,
    /// Which of its subnets the next environment of a function gets.
    turns: BTreeMap<usize, usize>,
    /// Somebody looks whether interfaces that no function has are empty.
    waits: bool,
}

/// Who has which configuration.
#[derive(Debug, Default)]
struct Users {
    /// By the ARN of a function; published versions have theirs, too.
    by_function: BTreeMap<String, BTreeSet<Config>>,
    counts: BTreeMap<Config, usize>,
    /// Functions of templates that were deployed, by logical id. Those that were not, as they cannot run here, count as there.
    deployed: BTreeSet<String>,
}

/// One environment's hold.
#[derive(Debug)]
struct Held {
    fabric: Fabric,
    began: Instant,
    attached: Attached,
    blame: Arc<Blame>,
    resolver: Arc<Resolver>,
    _reservation: Option<Box<dyn Reservation>>,
}

/// The id that AWS would have given.
pub fn physical(stack: &Stack, link: &Link) -> String {
    match link {
        Link::Literal(id) => id.clone(),
        Link::Logical(id) => {
            let subnet =
                stack.subnets.iter().find(|subnet| subnet.id == *id).map(|subnet| subnet.subnet_id.clone());
            let group = || {
                stack.security_groups.iter().find(|group| group.id == *id).map(|group| group.group_id.clone())
            };
            subnet.or_else(group).unwrap_or_else(|| id.clone())
        }
    }
}

/// The template's resource with that id of AWS's, or what is outside the template.
fn logical(stack: &Stack, id: &str) -> Link {
    let subnet = stack.subnets.iter().find(|subnet| subnet.subnet_id == id).map(|subnet| subnet.id.clone());
    let group =
        || stack.security_groups.iter().find(|group| group.group_id == id).map(|group| group.id.clone());
    subnet.or_else(group).map_or_else(|| Link::Literal(id.to_owned()), Link::Logical)
}

/// Security groups are a set.
fn set_of(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The same of one that is deployed.
fn config_of(function: &Function) -> Option<Config> {
    let vpc = function.vpc.as_ref().filter(|vpc| !vpc.subnet_ids.is_empty())?;
    Some((vpc.subnet_ids.clone(), set_of(vpc.security_group_ids.clone()), vpc.ipv6_allowed_for_dual_stack))
}

/// Says where interfaces found no room.
pub fn without_room<'a>(refused: impl IntoIterator<Item = &'a Refusal>) {
    for Refusal { limit, resource, used, max, .. } in refused {
        tracing::warn!(%limit, %resource, used, max, "an interface found no room");
    }
}

/// How a function of the template says where it is, if it is in a VPC.
fn config(stack: &Stack, function: &model::stack::Function) -> Option<Config> {
    let vpc = function.vpc.as_ref().filter(|vpc| !vpc.subnets.is_empty())?;
    let ids = |links: &[Link]| links.iter().map(|link| physical(stack, link)).collect();
    Some((ids(&vpc.subnets), set_of(ids(&vpc.security_groups)), vpc.ipv6))
}

impl Carrier {
    /// A carrier for a network whose functions are the stack's, in its order.
    pub fn new(
        fabric: Fabric,
        stack: Stack,
        network: Network,
        began: Instant,
        (resolver, renewing): (Arc<Resolver>, Arc<Renewing>),
        own: Option<OwnInterfaces>,
        flow_files: FlowFiles,
    ) -> Self {
        let mut functions = BTreeMap::new();
        for (index, function) in stack.functions.iter().enumerate() {
            if let Some(config) = config(&stack, function) {
                functions.entry(config).or_insert(index);
            }
        }
        let (stack, users) = (Arc::new(stack), Users::default());
        let places = Places { stack, network, functions, users, turns: BTreeMap::new(), waits: false };
        Self {
            fabric,
            began,
            resolver,
            renewing,
            places: Arc::new(Mutex::new(places)),
            own,
            flow_files: Arc::new(flow_files),
        }
    }

    /// The template whose network this is.
    pub fn stack(&self) -> Arc<Stack> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).stack.clone()
    }

    /// The template's network is another: for new connections and environments at once, while those that are there go on.
    /// What is of the template no more serves whoever still uses it.
    ///
    /// # Errors
    /// Too much came and went since the start; nothing has changed.
    pub async fn renew(&self, stack: &Stack) -> Result<(), TooMuchGone> {
        let stack = Arc::new(stack.clone());
        let (files, theirs) = (self.flow_files.clone(), stack.clone());
        // A disk, or who reads the other end, may be slow.
        let opened = tokio::task::spawn_blocking(move || files.open(&theirs)).await;
        let logging = match opened.map_err(anyhow::Error::from).flatten() {
            Ok(logging) => Some(logging),
            // Packets go on.
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "flow logs stay as they were");
                None
            }
        };
        self.renew_with(&stack, logging)
    }

    fn renew_with(&self, stack: &Arc<Stack>, logging: Option<FlowLogging>) -> Result<(), TooMuchGone> {
        let places = &mut *self.places.lock().unwrap_or_else(PoisonError::into_inner);
        self.hold(places);
        let network = places.network.renewed(stack)?;
        let before = places.stack.clone();
        // What stood outside of the template may be of it now.
        let is_same = |id: &String| {
            let found = logical(&before, id);
            found.logical().is_some() || found == logical(stack, id)
        };
        places.functions.retain(|(subnets, groups, _), _| subnets.iter().chain(groups).all(is_same));
        if let Some(own) = &self.own {
            own.renew(&network);
        }
        let relayed = self.renewing.renew(&network, stack);
        self.fabric.set_relayed(relayed);
        let theirs = network.clone();
        self.fabric.change(move |engine, now| {
            without_room(&engine.renew(now, theirs));
        });
        if let Some(logging) = logging {
            self.fabric.set_flow_logs(logging);
        }
        (places.network, places.stack) = (network, stack.clone());
        // Interfaces are made when functions are deployed, not when they start.
        for config in stack.functions.iter().filter_map(|function| config(stack, function)) {
            if !places.functions.contains_key(&config) {
                self.add(places, config);
            }
        }
        let known: BTreeSet<Config> = places.functions.keys().cloned().collect();
        self.look(places, &known);
        Ok(())
    }

    /// Tells the engine which of these configurations have functions.
    fn look(&self, places: &mut Places, configs: &BTreeSet<Config>) {
        let mut went = false;
        for wanted in configs {
            let Some(index) = places.functions.get(wanted).copied() else { continue };
            let Places { users, stack, .. } = places;
            let waits = |function: &model::stack::Function| {
                !users.deployed.contains(&function.id) && config(stack, function).as_ref() == Some(wanted)
            };
            let left = !users.counts.contains_key(wanted) && !stack.functions.iter().any(waits);
            if left == places.network.is_left(index) {
                continue;
            }
            if !left {
                self.hold(places);
            }
            went |= left;
            places.network.set_left(index, left);
            self.fabric.change(move |engine, now| without_room(&engine.set_left(now, index, left)));
        }
        if went {
            self.make_room(places);
        }
    }

    /// The network's function with that configuration; `None`: it has no VPC.
    fn index(&self, places: &mut Places, function: &Function) -> Option<usize> {
        let config = config_of(function)?;
        Some(match places.functions.get(&config) {
            Some(index) => *index,
            None => self.add(places, config),
        })
    }

    /// Where the next environment of a function is, in its `reserved` subnet if it has one; `None`: it has no VPC.
    fn seat(&self, function: &Function, reserved: Option<usize>) -> Option<Seat> {
        let places = &mut *self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index(places, function)?;
        let placement = places.network.placements.get(index)?.as_ref()?;
        let turn = places.turns.entry(index).or_default();
        let choice = reserved.unwrap_or(*turn);
        // As the planner: the next environment gets the next subnet.
        *turn = (choice + 1) % placement.subnets.len().max(1);
        let vpc = places.network.subnets.get(*placement.subnets.get(choice)?)?.vpc;
        let range = places.network.vpcs.get(vpc).and_then(|vpc| vpc.ranges.first());
        let resolver = range.map(|range| Ipv4Addr::from(u32::from(range.first()) + 2));
        Some(Seat { place: Place { function: index, choice }, vpc, resolver })
    }

    /// A function that was created or changed since the start: the same is added to the engine's network, which has the
    /// same functions in the same order.
    fn add(&self, places: &mut Places, config: Config) -> usize {
        let links = |ids: &[String]| ids.iter().map(|id| logical(&places.stack, id)).collect();
        let vpc = VpcConfig { subnets: links(&config.0), security_groups: links(&config.1), ipv6: config.2 };
        self.hold(places);
        let index = places.network.add_function(&places.stack, Some(&vpc));
        if let Some(own) = &self.own {
            own.add_function(&places.network, index);
        }
        let stack = places.stack.clone();
        self.fabric.change(move |engine, now| {
            let index = engine.add_function(now, &stack, Some(&vpc));
            without_room(engine.wired().undeployed.get(index).into_iter().flatten());
        });
        places.functions.insert(config, index);
        index
    }
}

impl Carries for Carrier {
    fn deployed(&self, arn: &str, function: Option<&Function>) {
        let places = &mut *self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_template = function.and_then(|function| function.logical_id.clone());
        let mut touched = places.users.put(arn, function);
        if let Some(id) = of_template.filter(|id| !places.users.deployed.contains(id)) {
            let found = places.stack.functions.iter().find(|function| function.id == id);
            touched.extend(found.and_then(|function| config(&places.stack, function)));
            places.users.deployed.insert(id);
        }
        self.look(places, &touched);
    }

    fn reserve(&self, function: &Function) -> Result<Option<Box<dyn Reservation>>, Refusal> {
        let Some(own) = &self.own else { return Ok(None) };
        let index = {
            let places = &mut *self.places.lock().unwrap_or_else(PoisonError::into_inner);
            self.index(places, function)
        };
        let Some(index) = index else { return Ok(None) };
        let mut draw = [0; 4];
        // Without randomness all wait equally long.
        let _ = getrandom::fill(&mut draw);
        let reserved = own.reserve(index, function.memory_mb, u32::from_ne_bytes(draw))?;
        Ok(reserved.map(|reserved| Box::new(reserved) as Box<dyn Reservation>))
    }

    fn attach(
        &self,
        function: &Function,
        interface: Interface,
        reservation: Option<Box<dyn Reservation>>,
    ) -> Box<dyn Attachment> {
        let seat = self.seat(function, reservation.as_ref().map(|reservation| reservation.choice()));
        let blame = Arc::new(Blame::default());
        let dual_stack = function.vpc.as_ref().is_some_and(|vpc| vpc.ipv6_allowed_for_dual_stack);
        let attached = self.fabric.attach(Joining {
            device: interface.device,
            address: interface.address,
            address6: dual_stack.then_some(interface.address6),
            place: seat.map(|seat| seat.place),
            vpc: seat.map(|seat| seat.vpc),
            resolver: seat.and_then(|seat| seat.resolver),
            function: function.name.as_str().into(),
            blame: blame.clone(),
        });
        let (fabric, resolver) = (self.fabric.clone(), self.resolver.clone());
        Box::new(Held { fabric, began: self.began, attached, blame, resolver, _reservation: reservation })
    }
}

impl Users {
    /// A function is this one from now on, or gone. The configurations that came and went with that.
    fn put(&mut self, arn: &str, function: Option<&Function>) -> BTreeSet<Config> {
        let published = function.into_iter().flat_map(|function| function.published.versions.values());
        let all = function.into_iter().chain(published.map(|version| &**version));
        let now: BTreeSet<Config> = all.filter_map(config_of).collect();
        let before = self.by_function.remove(arn).unwrap_or_default();
        for gone in before.difference(&now) {
            if let Some(count) = self.counts.get_mut(gone) {
                *count -= 1;
            }
        }
        for come in now.difference(&before) {
            *self.counts.entry(come.clone()).or_default() += 1;
        }
        self.counts.retain(|_, count| *count > 0);
        let touched = before.symmetric_difference(&now).cloned().collect();
        if !now.is_empty() {
            self.by_function.insert(arn.to_owned(), now);
        }
        touched
    }
}

impl Attachment for Held {
    fn refused_since(&self, since: Instant) -> Option<Refusal> {
        let nanos = since.saturating_duration_since(self.began).as_nanos();
        let refusal =
            self.blame.since(model::Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))?;
        Some(called::named(&self.resolver, refusal))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.fabric.detach(self.attached);
    }
}
