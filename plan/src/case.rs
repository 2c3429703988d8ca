//! A template, a load and options as texts: what a search changes and plans again.

use crate::cost::Bill;
use crate::input::PlanInput;
use crate::load::{Load, Work};
use crate::options::{Options, PlanError};
use crate::promise::Promise;
use crate::report::Report;
use crate::simulation::{Watch, run_watched};
use model::Overrides;
use std::sync::Arc;
use template::Problem;
use thiserror::Error;

/// A file: its name and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For messages and diffs.
    pub name: String,
    /// What stands in it.
    pub text: Arc<str>,
}

/// What is planned.
#[derive(Clone, Debug)]
pub struct Case {
    /// The template.
    pub template: Source,
    /// What the template does not say itself.
    pub inputs: template::Inputs,
    /// The load.
    pub load: Source,
    /// Era, Region, limits.
    pub options: Options,
    /// What must hold, besides that no limit refuses anything.
    pub promises: Vec<Promise>,
    planned: PlanInput,
    read: Load,
}

/// Other texts and figures than the case's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// Another template.
    pub template: Option<Arc<str>>,
    /// Another load.
    pub load: Option<Arc<str>>,
    /// Other figures of limits.
    pub overrides: Option<Overrides>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CaseError {
    /// The template has problems.
    #[error("the template has {} problems", .0.len())]
    Template(Vec<Problem>),
    /// The load has problems.
    #[error("the load has {} problems", .0.len())]
    Load(Vec<Problem>),
    /// The planner says no.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Case {
    /// A case whose template and load have been read; `load` has its recordings.
    pub fn new(
        template: Source,
        inputs: template::Inputs,
        load: (Source, Load),
        planned: PlanInput,
        options: Options,
    ) -> Self {
        Self { template, inputs, load: load.0, options, promises: Vec::new(), planned, read: load.1 }
    }

    /// What the planner knows of the template.
    pub fn input(&self) -> &PlanInput {
        &self.planned
    }

    /// The load, read.
    pub fn load(&self) -> &Load {
        &self.read
    }

    /// Plans a variant; promises are checked.
    ///
    /// # Errors
    /// The variant's texts have problems, or do not fit each other.
    pub fn run(&self, variant: &Variant, watch: &mut Watch<'_>) -> Result<Report, CaseError> {
        let other = match &variant.template {
            Some(text) => Some(self.read_template(text)?),
            None => None,
        };
        let other_load = match &variant.load {
            Some(text) => Some(self.read_load(text)?),
            None => None,
        };
        let mut options = self.options.clone();
        if let Some(overrides) = &variant.overrides {
            options.overrides = overrides.clone();
        }
        let (input, load) =
            (other.as_ref().unwrap_or(&self.planned), other_load.as_ref().unwrap_or(&self.read));
        let mut report = run_watched(input, load, &options, watch)?;
        report.promises = self.promises.iter().map(|promise| promise.check(&report)).collect();
        Ok(report)
    }

    fn read_template(&self, text: &str) -> Result<PlanInput, CaseError> {
        let outcome = template::read(&self.template.name, text, &self.inputs);
        match outcome.stack {
            Some(stack) if outcome.problems.is_empty() => Ok(PlanInput::from_stack(&stack)),
            _ => Err(CaseError::Template(outcome.problems)),
        }
    }

    /// Recordings stay those of the phases of the case's own load.
    fn read_load(&self, text: &str) -> Result<Load, CaseError> {
        let mut load = Load::read(&self.load.name, text).map_err(CaseError::Load)?;
        for (index, phase) in self.read.phases.iter().enumerate() {
            if let Work::Replay { recording: Some(recording), .. } = &phase.work {
                load.supply(index, Arc::clone(recording));
            }
        }
        Ok(load)
    }
}

/// Whether no limit refused anything, every promise is kept, and the plan came to its end.
pub fn survives(report: &Report) -> bool {
    report.first_limit.is_none() && report.promises.iter().all(|row| row.kept)
}

/// The month's bill as an amount; nothing where there is none.
pub fn monthly(bill: Option<&Bill>) -> model::price::Usd {
    bill.map_or(model::price::Usd::ZERO, |bill| bill.monthly_usd)
}
