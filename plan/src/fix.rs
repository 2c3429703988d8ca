//! The smallest change that survives a load: found by turning knobs, each candidate verified by planning the changed texts.
//!
//! What refuses first says which knobs could help. Each is turned fully; where the plan then survives it is turned back
//! as far as it still does, by bisection; where something else refuses, another knob is added, up to [`KNOBS_MAX`]. A plan
//! that is refused something ends at once, so that most candidates cost a part of a plan.

mod diff;
mod knob;
mod sheet;

use diff::unified;
pub(crate) use sheet::{Edit, Sheet, patch};

use crate::case::{Case, CaseError, Variant, monthly, survives};
use crate::cost::Bill;
use crate::report::{Report, Summary, grouped};
use knob::{Change, Knob, Sheets, Trouble};
use model::LimitId;
use model::price::Usd;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Knobs of one change.
pub const KNOBS_MAX: usize = 3;
/// Plans of one search.
pub const RUNS_MAX: u32 = 400;

/// A search ends after so much work: a request counts as one, sixteen connections that are opened or used again, too. At a
/// million a second that is a minute.
pub const WORK_MAX: u64 = 60_000_000;
const CONNECTIONS_OF_A_REQUEST: u64 = 16;

/// A candidate that sends more than so many times the requests of the case as it is, is another load: quicker answers make
/// the users of a closed loop send more.
pub const REQUESTS_TIMES_MAX: u64 = 3;
/// As many requests as this are always planned.
const REQUESTS_MIN: u64 = 50_000;

/// A change that survives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fix {
    /// What it is, in words.
    pub change: String,
    /// A unified diff of the template, of the load, or of both; figures to ask AWS for stand before it.
    pub diff: String,
    /// What it adds to the month's bill; below zero if it saves.
    pub usd_per_month: Usd,
    /// Of that, what stands there.
    pub fixed_usd_per_month: Usd,
    /// How the load fares with it.
    pub verified: Summary,
    /// The changed texts and figures.
    #[serde(skip)]
    pub variant: Variant,
    /// Lines that the diff adds or takes away.
    #[serde(skip)]
    pub size: usize,
}

/// What a search came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Changes that survive, the cheapest first, the smaller first of equal ones.
    pub fixes: Vec<Fix>,
    /// How many plans were made.
    pub runs: u32,
    /// Why the search did not come to its end, if so.
    pub cut: Option<Cut>,
    /// Some candidate was passed over as its users would have sent more than [`REQUESTS_TIMES_MAX`] times as much.
    pub another_load: bool,
}

/// Why a search ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its caller ended it.
    Interrupted,
    /// It reached [`RUNS_MAX`].
    Plans,
    /// It reached [`WORK_MAX`].
    Work,
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => formatter.write_str("it was interrupted"),
            Self::Plans => write!(formatter, "{RUNS_MAX} plans are the most"),
            Self::Work => write!(formatter, "the work of {} requests is the most", grouped(WORK_MAX)),
        }
    }
}

/// Told now and then how many plans were made and how many changes found; `Break` ends the search.
pub type Hear<'a> = dyn FnMut(u32, usize) -> ControlFlow<()> + 'a;

/// Searches the changes under which a case survives; `base` is its plan as it is. Nothing where it survives already.
///
/// # Errors
/// The template cannot be read again.
pub fn search(case: &Case, base: &Report, hear: &mut Hear<'_>) -> Result<Found, CaseError> {
    if survives(base) {
        return Ok(Found::default());
    }
    let outcome = template::read(&case.template.name, &case.template.text, &case.inputs);
    let stack = outcome.stack.ok_or(CaseError::Template(outcome.problems))?;
    let (Some(template), Some(load)) = (Sheet::read(&case.template.text), Sheet::read(&case.load.text))
    else {
        return Ok(Found::default());
    };
    let sheets = Sheets { template, load, stack: &stack };
    let quota = case.options.era.figure(LimitId::NatAddresses, &case.options.region, &case.options.overrides);
    let knobs = Knob::all(&sheets, &base.limits, quota.map_or(1, |figure| figure.value));
    let requests_max = (base.summary.requests * REQUESTS_TIMES_MAX).max(REQUESTS_MIN);
    let mut search = Search {
        case,
        sheets,
        knobs,
        known: BTreeMap::new(),
        runs: 0,
        work: 0,
        cut: None,
        another_load: false,
        hear,
        found: 0,
        requests_max,
    };
    let turned = search.survivors(base);
    let mut fixes: Vec<Fix> = turned.iter().filter_map(|turned| search.fix(turned, base)).collect();
    fixes.sort_by_key(|fix| (fix.usd_per_month, fix.size));
    Ok(Found { fixes, runs: search.runs, cut: search.cut, another_load: search.another_load })
}

/// Knobs by index, each with its level.
type Turned = BTreeMap<usize, u64>;

/// How a candidate fared.
#[derive(Clone, Debug)]
enum Fate {
    /// It survives.
    Survives(Box<(Summary, Option<Bill>)>),
    /// This refused.
    Breaks(Option<LimitId>, String, Vec<String>),
    /// There is no such change, or the planner says no.
    Impossible,
}

struct Search<'case, 'hear> {
    case: &'case Case,
    sheets: Sheets<'case>,
    knobs: Vec<Knob>,
    known: BTreeMap<Vec<(usize, u64)>, Fate>,
    runs: u32,
    work: u64,
    cut: Option<Cut>,
    another_load: bool,
    hear: &'hear mut Hear<'hear>,
    found: usize,
    /// A candidate may send so many.
    requests_max: u64,
}

fn fate(report: &Report) -> Fate {
    match &report.first_limit {
        Some(first) => Fate::Breaks(Some(first.id), first.resource.to_string(), first.victims.clone()),
        None if survives(report) => Fate::Survives(Box::new((report.summary.clone(), report.cost.clone()))),
        None => Fate::Breaks(
            None,
            String::new(),
            report.functions.iter().map(|found| found.name.clone()).collect(),
        ),
    }
}

impl Search<'_, '_> {
    /// Sets of knobs that survive, each turned no further than needed; no set contains another.
    fn survivors(&mut self, base: &Report) -> Vec<Turned> {
        let mut minimal: Vec<Turned> = Vec::new();
        let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
        let mut waiting = vec![(Turned::new(), fate(base))];
        for _ in 0..KNOBS_MAX {
            let mut next = Vec::new();
            for (turned, fate) in waiting {
                let Fate::Breaks(limit, resource, victims) = fate else { continue };
                let trouble = Trouble { limit, resource: &resource, victims: &victims };
                let helpful: Vec<usize> = (0..self.knobs.len())
                    .filter(|index| !turned.contains_key(index) && self.knobs[*index].helps(&trouble))
                    .collect();
                for index in helpful {
                    let mut set: Vec<usize> = turned.keys().copied().chain([index]).collect();
                    set.sort_unstable();
                    let has = |found: &Turned| found.keys().all(|knob| set.contains(knob));
                    if minimal.iter().any(has) || !seen.insert(set) || self.cut.is_some() {
                        continue;
                    }
                    let Some((strong, fate)) = self.strongest(&turned, index) else { continue };
                    if let Fate::Survives(_) = fate {
                        minimal.push(self.weakest(strong));
                        self.found = minimal.len();
                    } else {
                        next.push((strong, fate));
                    }
                }
            }
            waiting = next;
        }
        minimal
    }

    /// One knob more, turned as far as it goes.
    fn strongest(&mut self, turned: &Turned, index: usize) -> Option<(Turned, Fate)> {
        let mut level = self.knobs[index].levels;
        while level > 0 {
            let mut stronger = turned.clone();
            stronger.insert(index, level);
            match self.fate(&stronger) {
                Fate::Impossible => level /= 2,
                fate => return Some((stronger, fate)),
            }
        }
        None
    }

    /// The same knobs, each turned back as far as the case still survives.
    fn weakest(&mut self, mut turned: Turned) -> Turned {
        let indices: Vec<usize> = turned.keys().copied().collect();
        for index in indices {
            let (mut low, mut high) = (0, turned[&index]);
            while high - low > 1 && self.cut.is_none() {
                let middle = low + (high - low) / 2;
                let mut weaker = turned.clone();
                weaker.insert(index, middle);
                match self.fate(&weaker) {
                    Fate::Survives(_) => high = middle,
                    Fate::Breaks(..) | Fate::Impossible => low = middle,
                }
            }
            turned.insert(index, high);
        }
        turned
    }

    fn fate(&mut self, turned: &Turned) -> Fate {
        let key: Vec<(usize, u64)> = turned.iter().map(|(index, level)| (*index, *level)).collect();
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let fate = self.plan(turned).unwrap_or(Fate::Impossible);
        if self.cut.is_none() {
            self.known.insert(key, fate.clone());
        }
        fate
    }

    /// Plans a candidate; it ends with the first refusal.
    fn plan(&mut self, turned: &Turned) -> Option<Fate> {
        if self.cut.is_none() && self.runs >= RUNS_MAX {
            self.cut = Some(Cut::Plans);
        }
        if self.cut.is_none() && self.work >= WORK_MAX {
            self.cut = Some(Cut::Work);
        }
        if self.cut.is_some() {
            return None;
        }
        let variant = self.variant(&self.change(turned)?)?;
        self.runs += 1;
        let (runs, found) = (self.runs, self.found);
        if (self.hear)(runs, found).is_break() {
            self.cut = Some(Cut::Interrupted);
            return None;
        }
        let (hear, cut) = (&mut *self.hear, &mut self.cut);
        let (requests_max, mut another_load) = (self.requests_max, false);
        let report = self.case.run(&variant, &mut |progress| {
            if hear(runs, found).is_break() {
                *cut = Some(Cut::Interrupted);
                return ControlFlow::Break(());
            }
            another_load = progress.requests > requests_max;
            if progress.refused || another_load { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Ok(report) = &report {
            let connections = report.connects.iter().map(|row| row.opened.saturating_add(row.reused));
            let connections = connections.fold(0, u64::saturating_add) / CONNECTIONS_OF_A_REQUEST;
            self.work = self.work.saturating_add(report.summary.requests).saturating_add(connections);
        }
        if another_load {
            self.another_load = true;
            return Some(Fate::Impossible);
        }
        let report = report.ok().filter(|_| self.cut.is_none())?;
        Some(fate(&report))
    }

    fn change(&self, turned: &Turned) -> Option<Change> {
        let mut whole = Change::default();
        for (index, level) in turned {
            let change = self.knobs[*index].change(*level, &self.sheets)?;
            // What two of them need stands once: the host names of a VPC with two endpoints.
            for edit in change.template {
                if !whole.template.contains(&edit) {
                    whole.template.push(edit);
                }
            }
            whole.load.extend(change.load);
            whole.quotas.extend(change.quotas);
        }
        Some(whole)
    }

    fn variant(&self, change: &Change) -> Option<Variant> {
        let patched = |text: &str, edits: &[Edit]| -> Option<Option<Arc<str>>> {
            if edits.is_empty() { Some(None) } else { Some(Some(patch(text, edits)?.into())) }
        };
        let mut overrides = self.case.options.overrides.clone();
        change.quotas.iter().for_each(|(limit, value)| overrides.set(*limit, *value));
        Some(Variant {
            template: patched(&self.case.template.text, &change.template)?,
            load: patched(&self.case.load.text, &change.load)?,
            overrides: (!change.quotas.is_empty()).then_some(overrides),
        })
    }

    /// A set of turned knobs that survives, for the report.
    fn fix(&mut self, turned: &Turned, base: &Report) -> Option<Fix> {
        let Fate::Survives(verified) = self.fate(turned) else { return None };
        let (summary, bill) = *verified;
        let change = self.change(turned)?;
        let words: Vec<String> = turned.iter().map(|(index, level)| self.knobs[*index].say(*level)).collect();
        let mut diff: String = change
            .quotas
            .iter()
            .map(|(limit, value)| format!("# asked of AWS, and here: --limit {limit}={value}\n"))
            .collect();
        diff += &unified(&self.case.template.name, &self.case.template.text, &change.template);
        diff += &unified(&self.case.load.name, &self.case.load.text, &change.load);
        let fixed = |bill: Option<&Bill>| bill.map_or(Usd::ZERO, |bill| bill.fixed_usd);
        let counts = |line: &&str| {
            line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---")
        };
        Some(Fix {
            change: words.join("; "),
            size: diff.lines().filter(counts).count(),
            usd_per_month: monthly(bill.as_ref()) - monthly(base.cost.as_ref()),
            fixed_usd_per_month: fixed(bill.as_ref()) - fixed(base.cost.as_ref()),
            verified: summary,
            variant: self.variant(&change)?,
            diff,
        })
    }
}

/// The case with so many MB for every function; compute steps shrink as the processor's share grows.
pub(crate) fn with_memory(case: &Case, memory_mb: u64) -> Option<Variant> {
    let outcome = template::read(&case.template.name, &case.template.text, &case.inputs);
    let stack = outcome.stack?;
    let (template, load) = (Sheet::read(&case.template.text)?, Sheet::read(&case.load.text)?);
    let sheets = Sheets { template, load, stack: &stack };
    let change = knob::memory_of_all(&sheets, memory_mb)?;
    Some(Variant {
        template: Some(patch(&case.template.text, &change.template)?.into()),
        load: Some(patch(&case.load.text, &change.load)?.into()),
        overrides: None,
    })
}

#[cfg(test)]
mod knob_tests;
#[cfg(test)]
pub(crate) mod tests;
