//! `onrush plan`: the engines on a virtual clock.

mod meter;
mod replay;

use crate::Stop;
use crate::arguments::{Output, Plan};
use crate::{problems, stack};
use anyhow::{Context as _, anyhow};
use meter::Meter;
use miette::Severity;
use plan::case::{Case, CaseError, Source, Variant};
use plan::promise::Promise;
use plan::quantity::parse_duration;
use plan::report::{Searched, grouped};
use plan::sweep::Sweep;
use plan::{Load, Options, PlanError, PlanInput, Progress, Report, Scenario};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Width of the report when the terminal does not say.
const WIDTH: usize = 110;
/// The load, where none is named: beside the template, or in the project's folder.
const LOAD: &str = "load.yaml";

pub fn run(arguments: &Plan) -> Result<ExitCode, Stop> {
    let is_json = arguments.json || arguments.output == Output::Json;
    let promises = promises(&arguments.promises)?;
    let report = match arguments.scenario.as_deref() {
        Some("list") => return list(is_json),
        Some(name) => scenario(name, &promises)?,
        None => from_files(arguments, promises)?,
    };
    if let Some(page) = &arguments.html {
        std::fs::write(page, plan::render_html(&report, &title(arguments)))
            .with_context(|| format!("cannot write {}", page.display()))?;
    }
    let text = if is_json {
        let mut text = serde_json::to_string_pretty(&report).context("the report is no JSON")?;
        text.push('\n');
        text
    } else {
        plan::render(&report, width(), super::colour()) + &origin(arguments.scenario.as_deref())
    };
    super::print(&text)?;
    let kept = report.promises.iter().all(|row| row.kept);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) })
}

/// What was planned: `storefront/template.yaml with incident.yaml`.
fn title(arguments: &Plan) -> String {
    if let Some(name) = &arguments.scenario {
        let title = Scenario::named(name).map(|scenario| scenario.title).unwrap_or_default();
        return format!("{name}: {title}");
    }
    let template = stack::find(&arguments.template).unwrap_or_default();
    let template = std::path::absolute(&template).unwrap_or(template);
    let tail: Vec<_> = template.components().rev().take(2).collect();
    let name: PathBuf = tail.into_iter().rev().collect();
    let load = arguments.load.as_deref().and_then(std::path::Path::file_name);
    let load = load.map_or_else(|| "load.yaml".into(), |load| load.to_string_lossy());
    format!("{} with {load}", name.display())
}

/// What a built-in scenario is, and where its figures come from.
fn origin(scenario: Option<&str>) -> String {
    let found = scenario.and_then(|name| Some((name, Scenario::named(name)?)));
    found.map_or_else(String::new, |(name, Scenario { title, source, .. })| {
        format!("\nScenario {name}: {title}\nSource: {source}\n")
    })
}

fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.filter(|columns| *columns >= 40).unwrap_or(WIDTH)
}

fn list(is_json: bool) -> Result<ExitCode, Stop> {
    let title = |name| Scenario::named(name).map(|scenario| scenario.title).unwrap_or_default();
    let text = if is_json {
        let all: Vec<_> =
            Scenario::names().map(|name| serde_json::json!({ "name": name, "title": title(name) })).collect();
        format!("{}\n", serde_json::json!({ "scenarios": all }))
    } else {
        Scenario::names().map(|name| format!("{name:<28} {}\n", title(name))).collect()
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn promises(texts: &[String]) -> Result<Vec<Promise>, Stop> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(Promise::read_all(text).map_err(|error| Stop::Usage(format!("--promise: {error}")))?);
    }
    Ok(all)
}

fn scenario(name: &str, promises: &[Promise]) -> Result<Report, Stop> {
    let scenario = Scenario::named(name).ok_or_else(|| {
        let near = template::yaml::did_you_mean(name, Scenario::names());
        let names = || format!("there are {}", Scenario::names().collect::<Vec<_>>().join(", "));
        Stop::Usage(format!("no scenario is called `{name}`; {}", near.unwrap_or_else(names)))
    })?;
    let mut meter = Meter::new();
    let run =
        plan::run_watched(&scenario.input, &scenario.load, &scenario.options, &mut |at| tell(&mut meter, at));
    let mut report = run.map_err(|error| Stop::Failed(anyhow!(error)))?;
    report.promises = promises.iter().map(|promise| promise.check(&report)).collect();
    Ok(report)
}

fn from_files(arguments: &Plan, promises: Vec<Promise>) -> Result<Report, Stop> {
    let sweep = arguments.sweep.as_deref().map(Sweep::read).transpose();
    let sweep = sweep.map_err(|error| Stop::Usage(format!("--sweep: {error}")))?;
    let (era, overrides) = super::figures(&arguments.figures)?;
    let mut named = arguments.template.clone();
    stack::take_region(&mut named);
    let template = stack::find(&named).ok_or_else(|| {
        Stop::Usage(stack::hinted(
            "there is no template.yaml, .yml or .json here; name the template, or try `--scenario list`",
            "onrush plan",
        ))
    })?;
    let read = stack::read_briefly(&template, &named, model::DEFAULT_PORT)?;
    if arguments.fix && read.paths().len() > 1 {
        let message =
            "--fix changes one template: name it alone, and what it imports with --import NAME=VALUE";
        return Err(Stop::Usage(message.to_owned()));
    }
    let beside = || {
        let beside = read.folder().join(LOAD);
        let of_project = read.project().map(|folder| folder.join(LOAD));
        of_project.filter(|path| path.is_file() && !beside.is_file()).unwrap_or(beside)
    };
    let load_path = arguments.load.clone().unwrap_or_else(beside);
    let load_name = load_path.display().to_string();
    let load_text = stack::read_text(&load_path).map_err(|stop| match (stop, &arguments.load) {
        (Stop::Usage(why), None) => Stop::Usage(format!("{why}; say what load to expect with --load")),
        (stop, _) => stop,
    })?;
    let show = |found: &[template::Problem]| {
        problems::print(&load_name, &load_text, found, Severity::Error);
        Stop::Reported
    };
    let mut load = Load::read(&load_name, &load_text).map_err(|found| show(&found))?;
    replay::supply(&mut load, &load_path).map_err(|stop| match stop {
        replay::Unread::Named(problem) => show(&[*problem]),
        replay::Unread::Line(said) => Stop::Usage(said),
    })?;
    let mut options = Options::new(era);
    options.region.clone_from(&named.region);
    options.overrides = overrides;
    options.seed = arguments.seed;
    options.until = duration("--until", arguments.until.as_deref())?;
    options.step = duration("--step", arguments.step.as_deref())?;
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.into() };
    let template_name = template.display().to_string();
    let (template, input) = (source(&template_name, &read.text), PlanInput::from_stack(&read.stack));
    let mut case = Case::new(template, read.inputs, (source(&load_name, &load_text), load), input, options);
    case.promises = promises;
    let failed = |error: CaseError| match error {
        CaseError::Plan(PlanError::Load(found)) => show(&found),
        CaseError::Plan(error) => match error.problem(case.load()) {
            Some(problem) => show(&[problem]),
            None => Stop::Usage(format!("{}: {error}", blamed(&error, &load_name, &template_name))),
        },
        error => Stop::Usage(format!("{load_name}: {error}")),
    };
    let mut meter = Meter::new();
    let mut report = case.run(&Variant::default(), &mut |at| tell(&mut meter, at)).map_err(failed)?;
    if let Some(sweep) = sweep {
        let mut hear = |done: usize| meter.tell(None, || format!("sweep: {done} points planned"));
        let swept = sweep.run(&case, &mut hear);
        report.sweep = swept.map_err(|error| Stop::Usage(format!("--sweep: {error}")))?;
        report.swept = Some(sweep.title());
    }
    if arguments.fix {
        let mut hear = |runs: u32, found: usize| {
            meter.tell(None, || format!("searching: {runs} changes tried, {found} survive"))
        };
        let found = plan::fix::search(&case, &report, &mut hear).map_err(failed)?;
        report.searched =
            Some(Searched { runs: found.runs, cut: found.cut, another_load: found.another_load });
        report.fixes = found.fixes;
    }
    Ok(report)
}

/// Shows how far a plan is.
fn tell(meter: &mut Meter, at: &Progress) -> ControlFlow<()> {
    meter.tell(at.permille, || {
        format!("{} s of virtual time, {} requests", at.at.as_nanos() / 1_000_000_000, grouped(at.requests))
    })
}

/// What an error without a place is about.
fn blamed<'name>(error: &PlanError, load: &'name str, template: &'name str) -> &'name str {
    match error {
        PlanError::NotSimulated(_) | PlanError::TooLarge { .. } | PlanError::Settings(_) => "--limit",
        PlanError::ZeroStep => "--step",
        PlanError::Provisioned { .. } => template,
        _ => load,
    }
}

fn duration(option: &str, text: Option<&str>) -> Result<Option<Duration>, Stop> {
    let Some(text) = text else { return Ok(None) };
    match parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(Stop::Usage(format!(
            "{option}: `{text}` is no duration such as 500ms, 30s or 10m, at most 366d"
        ))),
    }
}
