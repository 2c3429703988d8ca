//! What a plan assumes of API Gateway.

use crate::input::{DoorKind, PlanInput};
use crate::load::{Callers, Fresh, Load};
use crate::options::Options;
use crate::report::Assumption;
use crate::simulation::Simulation;
use crate::simulation::authorizer::AuthorizerRun;
use limits::api_throttle::{Order, Spending};
use limits::response_cache::ENTRIES_MAX;
use model::LimitId;
use std::collections::BTreeSet;

impl Simulation {
    /// What AWS does not publish of the doors that this plan used, and what of the load has no effect there.
    pub(in crate::simulation) fn assume_fronts(
        &self,
        input: &PlanInput,
        load: &Load,
        options: &Options,
        rows: &mut Vec<Assumption>,
    ) {
        let mut assume = |what: &str, value: &str, why: &str| rows.push(Assumption::new(what, value, why));
        let board = self.fronts.as_ref().map_or_else(Vec::new, |fronts| fronts.board(self.now));
        let given = options.overrides.iter().filter(|(limit, _)| limit.as_str().starts_with("apigw."));
        for (limit, value) in given.filter(|(limit, _)| board.iter().all(|row| row.id != *limit)) {
            assume(
                &format!("{limit}={value}"),
                "without effect",
                "no request of the load passes such a limit",
            );
        }
        if self.phases.iter().any(|phase| phase.target.door == Some(DoorKind::LoadBalancer)) {
            let value = "502 to what its function does not answer, and as patient as the function";
            assume("a load balancer", value, "not confirmed by AWS for every case");
        }
        self.assume_callers(load, rows);
        let mut assume = |what: &str, value: &str, why: &str| rows.push(Assumption::new(what, value, why));
        let Some(fronts) = &self.fronts else { return };
        let settings = fronts.throttle.settings();
        assume("API Gateway's throttles", "met exactly", "AWS calls them targets, on a best-effort basis");
        let own = |row: &model::LimitRow| {
            let limit = row.id.as_str();
            (limit.ends_with("-rate") || limit.ends_with("-burst") || limit.ends_with("-quota"))
                && !limit.starts_with("apigw.account-")
        };
        if board.iter().any(own) {
            let value = match settings.spending {
                Spending::OnlyIfAdmitted => "spends no token of any level",
                Spending::AsAsked => "spends those of the levels before the one that refuses",
            };
            assume("a request that is throttled", value, "AWS does not say");
        }
        if board.iter().any(|row| row.id == LimitId::ApiKeyQuota) {
            let value = match settings.order {
                Order::QuotaFirst => "asked before the throttles",
                Order::ThrottlesFirst => "asked after the throttles",
            };
            assume("quotas of usage plans", value, "AWS does not publish the order");
            let value = "t = 0 is 00:00 UTC on a Sunday, the first of a month";
            assume("periods of quotas", value, "days, weeks and months begin there; not confirmed by AWS");
        }
        let half = |row: &model::LimitRow| row.id == LimitId::IntegrationTimeout && row.refused > 0;
        let timed_out = fronts.timeouts.iter().any(|timeout| half(&timeout.row()));
        let is_http = |phase: &super::PhaseRun| phase.target.door == Some(DoorKind::HttpApi);
        if timed_out && self.phases.iter().any(is_http) {
            let why = "seen in the field, as was 504; AWS publishes neither";
            assume("status when an HTTP API waits no longer", "503", why);
        }
        if !fronts.caches.is_empty() {
            let value = "what was asked for longest ago makes room";
            assume("a full cache", value, "AWS does not publish the order");
            let value = "the bytes of its answer (`bytes: {out: …}`)";
            assume("an entry of a cache takes", value, "AWS does not publish more");
            let value = "each goes on to the function until the first is answered";
            assume("requests at once for an entry that is not there", value, "AWS does not say");
            assume("what is cached", "answers without an error", "AWS does not say");
        }
        if fronts.caches.iter().any(|cache| cache.len() >= ENTRIES_MAX) {
            let value = format!("{ENTRIES_MAX} entries");
            assume("the most of a cache", &value, "a bound of the planner");
        }
        if !fronts.authorizers.is_empty() {
            let value = "ask its function each, until the first is answered";
            assume("requests at once that their authorizer knows no answer for", value, "AWS does not say");
            let value = "goes no further";
            assume("a request whose client leaves while its authorizer is asked", value, "AWS does not say");
        }
        if fronts.authorizers.iter().any(AuthorizerRun::has_failed) {
            let why = "whether AWS says more of an authorizer that is throttled is not confirmed";
            assume("a request without an answer of its authorizer", "500", why);
        }
        if fronts.authorizers.iter().any(AuthorizerRun::is_full) {
            let value = format!("{ENTRIES_MAX} answers");
            assume("the most that an authorizer keeps", &value, "a bound of the planner");
        }
        let mut named = BTreeSet::new();
        for (index, (run, phase)) in self.phases.iter().zip(&load.phases).enumerate() {
            let name = &phase.name;
            if phase.asks.client.is_some() && run.target.client.is_none() {
                let what = format!("`client` of {name}");
                assume(&what, "without effect", "the method asks for no API key, so that nobody looks at it");
            }
            if phase.asks.keys.is_some() && !fronts.is_cached(index) {
                assume(&format!("`keys` of {name}"), "without effect", "nothing is cached of its target");
            } else if phase.asks.keys.is_some() && fronts.shares_entry(index) {
                let why = "the method declares no CacheKeyParameters, so that nothing tells requests apart";
                assume(&format!("`keys` of {name}"), "one entry for all", why);
            }
            match phase.asks.fresh {
                Some(_) if !fronts.is_cached(index) => {
                    assume(
                        &format!("`fresh` of {name}"),
                        "without effect",
                        "nothing is cached of its target",
                    );
                }
                Some(Fresh::Unsigned) => {
                    let value = "answered from the cache, with a Warning header";
                    let why = "a new stage asks for the permission, and CloudFormation cannot say otherwise";
                    assume(&format!("`fresh` of {name}"), value, why);
                }
                _ => {}
            }
            let Some((door, route)) = run.target.route else { continue };
            let door = &input.doors[door];
            let several = door.routes.len() > 1 && phase.request.is_none() && !door.api.is_empty();
            if several && named.insert(&door.id) {
                let what = format!("requests to {}", door.id);
                assume(&what, &door.routes[route].example(), "the first route: the load names none");
            }
        }
    }
    /// What is assumed of those who ask, and what of the load has no effect on authorizers.
    fn assume_callers(&self, load: &Load, rows: &mut Vec<Assumption>) {
        let mut assume = |what: &str, value: &str, why: &str| rows.push(Assumption::new(what, value, why));
        for (index, (run, phase)) in self.phases.iter().zip(&load.phases).enumerate() {
            let name = &phase.name;
            let asks = self.fronts.as_ref().and_then(|fronts| {
                let asks = fronts.asks(index as u32)?;
                Some((asks, fronts.authorizers[asks.authorizer].keeps()))
            });
            let says = phase.asks.callers != Callers::Unsaid;
            match asks {
                None => {
                    let of_authorizers = [("identities", says), ("denied", phase.asks.denied_ppm > 0)];
                    for (key, _) in of_authorizers.into_iter().filter(|(_, says)| *says) {
                        let why = "no Lambda authorizer stands before its target";
                        assume(&format!("`{key}` of {name}"), "without effect", why);
                    }
                }
                Some((_, false)) if says => {
                    let why = "the authorizer keeps no answers, so that each request asks anew";
                    assume(&format!("`identities` of {name}"), "without effect", why);
                }
                Some((asks, _)) if says && !asks.tells_callers_apart() => {
                    let why = "no identity source of the authorizer tells callers apart";
                    assume(&format!("`identities` of {name}"), "without effect", why);
                }
                Some((asks, true)) if !says && asks.tells_callers_apart() => {
                    let value = match run.crowd {
                        Some(_) => "each user is one",
                        None => "each request comes from another",
                    };
                    assume(&format!("callers of {name}"), value, "`identities` does not say");
                }
                Some(_) => {}
            }
        }
    }
}
