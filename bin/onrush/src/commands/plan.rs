//! `onrush plan`: the engines on a virtual clock.

mod replay;

use crate::Stop;
use crate::arguments::{Output, Plan};
use crate::{problems, stack};
use anyhow::{Context as _, anyhow};
use miette::Severity;
use plan::quantity::parse_duration;
use plan::{Load, Options, PlanError, PlanInput, Report, Scenario};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Width of the report when the terminal does not say.
const WIDTH: usize = 110;

pub fn run(arguments: &Plan) -> Result<ExitCode, Stop> {
    let report = match arguments.scenario.as_deref() {
        Some("list") => return list(),
        Some(name) => scenario(name)?,
        None => from_files(arguments)?,
    };
    if let Some(page) = &arguments.html {
        std::fs::write(page, plan::render_html(&report, &title(arguments)))
            .with_context(|| format!("cannot write {}", page.display()))?;
    }
    let text = if arguments.json || arguments.output == Output::Json {
        let mut text = serde_json::to_string_pretty(&report).context("the report is no JSON")?;
        text.push('\n');
        text
    } else {
        plan::render(&report, width(), super::colour())
    };
    super::print(&text);
    Ok(ExitCode::SUCCESS)
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

fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.filter(|columns| *columns >= 40).unwrap_or(WIDTH)
}

fn list() -> Result<ExitCode, Stop> {
    let mut out = std::io::stdout().lock();
    for name in Scenario::names() {
        let title = Scenario::named(name).map(|scenario| scenario.title).unwrap_or_default();
        if writeln!(out, "{name:<28} {title}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn scenario(name: &str) -> Result<Report, Stop> {
    let scenario = Scenario::named(name).ok_or_else(|| {
        let names: Vec<_> = Scenario::names().collect();
        Stop::Usage(format!("no scenario is called `{name}`; there are {}", names.join(", ")))
    })?;
    scenario.run().map_err(|error| Stop::Failed(anyhow!(error)))
}

fn from_files(arguments: &Plan) -> Result<Report, Stop> {
    let (era, overrides) = super::figures(&arguments.figures)?;
    let template = stack::find(&arguments.template).ok_or_else(|| {
        Stop::Usage(
            "there is no template.yaml, .yml or .json here; name the template, or try `--scenario list`"
                .to_owned(),
        )
    })?;
    let read = stack::read_briefly(&template, &arguments.template, model::DEFAULT_PORT)?;
    let load_path = arguments.load.clone().unwrap_or_else(|| read.folder().join("load.yaml"));
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
    options.region.clone_from(&arguments.template.region);
    options.overrides = overrides;
    options.seed = arguments.seed;
    options.until = duration("--until", arguments.until.as_deref())?;
    options.step = duration("--step", arguments.step.as_deref())?;
    match plan::run(&PlanInput::from_stack(&read.stack), &load, &options) {
        Ok(report) => Ok(report),
        Err(PlanError::Load(found)) => Err(show(&found)),
        Err(error) => Err(match error.problem(&load) {
            Some(problem) => show(&[problem]),
            None => Stop::Usage(format!("{load_name}: {error}")),
        }),
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
