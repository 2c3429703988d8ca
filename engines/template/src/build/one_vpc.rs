//! What must be of one VPC is: AWS refuses whatever joins parts of two.

use super::{Builder, span};
use crate::problem::Problem;
use model::stack::{Link, Place, Stack};

/// What EC2 says of many such pairs.
const NETWORKS: &str = "AWS says: they belong to different networks";
/// What Lambda says.
const OF_LAMBDA: &str = "AWS says: Security Groups are required to be in the same VPC.";

/// Something of a VPC of the template: its logical id, and that VPC's.
type Part<'a> = (&'a str, &'a str);

/// The parts among `links` for which `find` knows a VPC.
fn parts<'a>(links: &'a [Link], find: impl Fn(&str) -> Option<&'a Link>) -> Vec<Part<'a>> {
    let part = |link: &'a Link| Some((link.logical()?, find(link.logical()?)?.logical()?));
    links.iter().filter_map(part).collect()
}

impl Builder<'_, '_> {
    pub(super) fn check_one_vpc(&mut self) {
        let stack = &self.stack;
        let subnets = |links| parts(links, |id| Some(&stack.subnet(id)?.vpc));
        let groups = |links| parts(links, |id| stack.security_group(id)?.vpc.as_ref());
        let tables =
            |links| parts(links, |id| Some(&stack.route_tables.iter().find(|found| found.id == id)?.vpc));
        let acls =
            |links| parts(links, |id| Some(&stack.network_acls.iter().find(|found| found.id == id)?.vpc));
        let mut problems = Vec::new();
        let mut look = |place: Place, what: &str, all: Vec<Part<'_>>, help: &str| {
            let Some((first, vpc)) = all.first() else { return };
            if let Some((other, theirs)) = all.iter().find(|(_, theirs)| theirs != vpc) {
                let message = format!("{what} joins {first} of {vpc} and {other} of {theirs}");
                problems.push(Problem::at(span(place), message).help(help));
            }
        };
        for one in &stack.route_table_associations {
            let all =
                [tables(std::slice::from_ref(&one.route_table)), subnets(std::slice::from_ref(&one.subnet))];
            look(one.place, &one.id, all.concat(), NETWORKS);
        }
        for one in &stack.network_acl_associations {
            let all =
                [acls(std::slice::from_ref(&one.network_acl)), subnets(std::slice::from_ref(&one.subnet))];
            look(one.place, &one.id, all.concat(), NETWORKS);
        }
        for one in &stack.functions {
            let Some(vpc) = &one.vpc else { continue };
            let all = [subnets(&vpc.subnets), groups(&vpc.security_groups)].concat();
            look(one.place, &format!("the VpcConfig of {}", one.id), all, OF_LAMBDA);
        }
        for one in &stack.vpc_endpoints {
            let own = one.vpc.logical().map(|vpc| (&*one.id, vpc));
            let all = own.into_iter().chain(subnets(&one.subnets)).chain(groups(&one.security_groups));
            let help = NETWORKS;
            look(one.place, &one.id, all.chain(tables(&one.route_tables)).collect(), help);
        }
        for one in &stack.db_instances {
            let all = [subnets(db_subnets(stack, one.subnet_group.as_ref())), groups(&one.security_groups)];
            look(one.place, &one.id, all.concat(), NETWORKS);
        }
        for one in &stack.db_proxies {
            let all = [subnets(&one.subnets), groups(&one.security_groups)].concat();
            look(one.place, &one.id, all, NETWORKS);
        }
        for one in &stack.caches {
            let all = [subnets(&one.subnets), groups(&one.security_groups)].concat();
            look(one.place, &one.id, all, NETWORKS);
        }
        problems.into_iter().for_each(|problem| self.problems.push(problem));
    }
}

fn db_subnets<'a>(stack: &'a Stack, group: Option<&Link>) -> &'a [Link] {
    let found = stack.db_subnet_groups.iter().find(|found| Some(&*found.id) == group.and_then(Link::logical));
    found.map_or(&[], |found| &found.subnets)
}
