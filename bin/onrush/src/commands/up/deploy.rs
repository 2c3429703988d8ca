//! A template's functions, built where needed and deployed.

mod around;
mod build;
mod layers;

use super::debug::Debug;
use super::env_vars::{EnvFiles, EnvVars};
use super::images;
use super::{refusal, refused};
use crate::Stop;
use crate::problems;
use crate::stack::Read;
use anyhow::{Context as _, anyhow};
use control::{Control, Cors, Deploy, DeployCode, Deployment, EventInvokeConfig, Settings, UrlSettings};
use model::settings::RUNTIMES;
use model::stack::{self, Code, Function, Link, Place, Stack};
use runtimes::Runtimes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Largest code folder, in bytes, that is copied so that no environment sees half of a save; a larger one is bound.
const COPY_BYTES_MAX: u64 = 32 << 20;

/// Where functions are deployed to.
#[derive(Clone)]
pub struct Stage {
    pub control: Arc<Control>,
    pub runtimes: Arc<Runtimes>,
    pub services: Arc<services::Services>,
    /// Values of variables from outside the template.
    pub env_files: EnvFiles,
    /// Which function waits for a debugger.
    pub debug: Option<Debug>,
    /// Whether a function whose packages cannot be installed is refused, because an older build of it runs.
    pub strict_builds: bool,
    /// Whether code is copied rather than bound: `--watch` and `--watch=off`.
    pub copies: bool,
    /// Whether functions run as other users who see this host's folders: root's `--isolation process`.
    pub for_others: bool,
    /// Whether functions have walls; container images run within such alone.
    pub has_walls: bool,
    /// `--image`: which functions run another image than the template's.
    pub images: Vec<String>,
    /// `--layer`: what is in layers of others that the template names.
    pub layers: Vec<String>,
}

/// What a deployment has done so far, for whoever may have to undo it.
#[derive(Clone, Debug, Default)]
pub struct Trail(Arc<Mutex<Deployment>>);

impl Trail {
    /// Does one step, or undoes all.
    pub fn noting<T>(&self, step: impl FnOnce(&mut Deployment) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Deploys every function of the template that can run here; the others are named with the reason. What was done before it
/// failed is in `trail`.
pub async fn all(read: &Read, stage: &Stage, trail: &Trail) -> Result<(), Stop> {
    let overrides = stage.env_files.read(read).await?;
    overrides.warn_of_typos(&read.stack);
    stage.control.know_subnets(subnets(&read.stack));
    let all: Vec<_> = read.stack.functions.iter().collect();
    let deployed_names = functions(read, stage, &overrides, &all, false, trail).await?;
    remove_others(read, &stage.control, &deployed_names, trail).await
}

/// Which VPC each subnet of the template is in, by AWS's ids.
pub fn subnets(stack: &Stack) -> BTreeMap<String, String> {
    let vpc_of = |link: &Link| match link {
        Link::Literal(id) => Some(id.clone()),
        Link::Logical(id) => stack.vpcs.iter().find(|vpc| vpc.id == *id).map(|vpc| vpc.vpc_id.clone()),
    };
    let subnets = stack.subnets.iter();
    subnets.filter_map(|subnet| Some((subnet.subnet_id.clone(), vpc_of(&subnet.vpc)?))).collect()
}

/// Deploys one function again.
pub async fn one(read: &Read, stage: &Stage, id: &str) -> Result<(), Stop> {
    let overrides = stage.env_files.read(read).await?;
    let one: Vec<_> = read.stack.functions.iter().filter(|function| function.id == id).collect();
    functions(read, stage, &overrides, &one, true, &Trail::default()).await.map(drop)
}

/// Deploys some of a template's functions; the names of those that can run here. `keep_layers`: see [`layers::publish`].
async fn functions(
    read: &Read,
    stage: &Stage,
    overrides: &EnvVars,
    some: &[&Function],
    keep_layers: bool,
    trail: &Trail,
) -> Result<Vec<String>, Stop> {
    let Stage { control, runtimes, copies, images, .. } = stage;
    runtimes.deploy_begins();
    let images = images::overrides(images, read)?;
    check_runtimes(read, runtimes, some, &images).await?;
    let layers = layers::publish(read, stage, keep_layers, trail).await?;
    let mut deployed_names = Vec::new();
    let mut barriers = BTreeSet::new();
    let (mut problems, mut cures) = (Vec::new(), Vec::new());
    for function in some.iter().copied() {
        let request = request(read, function, stage, &layers, overrides, &images).await?;
        let Some(mut request) = request else { continue };
        if *copies && !is_built(read, function) {
            copy(&mut request.code);
        }
        if let Some(debug) = &stage.debug {
            debug.apply(function, &mut request);
        }
        if let DeployCode::Folder(path) = &request.code
            && let Some(barrier) = stage.for_others.then(|| runtimes::barrier(path)).flatten()
            && barriers.insert(barrier.clone())
        {
            tracing::warn!(function = %function.id, "{}", past(&barrier));
        }
        if !stage.has_walls && matches!(request.code, DeployCode::Image { .. }) {
            tracing::warn!(function = %function.id, "it cannot be invoked: container images run in namespaces alone, without --isolation process");
        }
        deployed_names.push(function.name.clone());
        let (control, runtimes, trail) = (control.clone(), runtimes.clone(), trail.clone());
        let name = function.id.clone();
        let runtime = function.runtime.clone();
        let deployed = tokio::task::spawn_blocking(move || -> Result<_, Stop> {
            // Nothing is installed for what is refused anyway.
            if let Some(runtime) = runtime.filter(|runtime| RUNTIMES.contains(&runtime.as_str())) {
                let progress = |line: &str| crate::say(&format!("  {line}"));
                let warnings = runtimes.prepare(&runtime, &progress);
                for warning in runtimes.untold(warnings.map_err(|error| anyhow!("{name}: {error}"))?) {
                    tracing::warn!(function = %name, "{warning}");
                }
            }
            Ok(trail.noting(|done| done.deploy(&control, request)))
        });
        if let Err(error) = deployed.await.context("deploying a function failed")?? {
            problems.push(refusal::problem(read, function, &error));
            if !images.contains_key(&function.id) {
                cures.extend(images::cure(read, function, &error.message));
            }
        }
    }
    let told = told(read, &problems);
    // Commands to be copied, so nothing wraps them.
    cures.iter().for_each(|cure| crate::say(cure));
    told?;
    Ok(deployed_names)
}

/// What there is to do about a folder that functions may not enter.
fn past(barrier: &Path) -> String {
    let shown = barrier.display();
    format!(
        "with --isolation process functions run as another user, who may not enter {shown}: chmod o+x {shown}, or put the project elsewhere"
    )
}

/// Finds all functions at once that nothing here can run, before anything is built or installed. What AWS has and Onrush does
/// not run is told later, with the way out.
async fn check_runtimes(
    read: &Read,
    runtimes: &Arc<Runtimes>,
    some: &[&Function],
    images: &BTreeMap<String, String>,
) -> Result<(), Stop> {
    let mut problems = Vec::new();
    for function in some.iter().filter(|function| !images.contains_key(&function.id)) {
        let Some(runtime) = function.runtime.clone() else { continue };
        if !RUNTIMES.contains(&runtime.as_str()) {
            continue;
        }
        let runtimes = runtimes.clone();
        let checked = tokio::task::spawn_blocking(move || runtimes.check(&runtime));
        if let Err(error) = checked.await.context("looking for interpreters failed")? {
            problems.push(refusal::of_runtime(read, function, &error));
        }
    }
    told(read, &problems)
}

/// Ends with a template's problems, if there are any, once they are printed.
fn told(read: &Read, problems: &[template::Problem]) -> Result<(), Stop> {
    if problems.is_empty() {
        return Ok(());
    }
    problems::print(&read.path.display().to_string(), &read.text, problems, miette::Severity::Error);
    Err(Stop::Reported)
}

/// Has a folder copied that is small enough for it.
fn copy(code: &mut DeployCode) {
    if let DeployCode::Folder(path) = code
        && control::list_folder(path).is_ok_and(|listing| listing.bytes <= COPY_BYTES_MAX)
    {
        *code = DeployCode::Copy(std::mem::take(path));
    }
}

/// Where a function's code and layers come from: folders and archives, some of which need not be there.
pub fn sources(read: &Read, function: &Function) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        local(read, function.place, &function.asset_path, &function.code).into_iter().collect();
    all.extend(
        layers_of(read, function)
            .filter_map(|layer| local(read, layer.place, &layer.asset_path, &layer.code)),
    );
    if let Some(folder) = all.first().filter(|folder| build::is_rust(function, folder)) {
        let outside = runtimes::rust_sources(folder, function.build_binary.as_deref());
        all.extend(outside);
    }
    all
}

/// Those of them of which a build is what runs, not the user's own folder, so that edits are seen by no environment: all, if
/// the function is built, else those of layers that are.
pub fn built_sources(read: &Read, function: &Function) -> Vec<PathBuf> {
    if is_built(read, function) {
        return sources(read, function);
    }
    let layers = layers_of(read, function).filter(|layer| layer.build_method.is_some());
    layers.filter_map(|layer| local(read, layer.place, &layer.asset_path, &layer.code)).collect()
}

/// Whether what runs is not the user's own folder but a build of it.
fn is_built(read: &Read, function: &Function) -> bool {
    sources(read, function).first().is_some_and(|source| build::needed(function, source).is_some())
}

fn local(read: &Read, place: Place, asset: &Option<String>, code: &Code) -> Option<PathBuf> {
    match (asset, code) {
        (Some(path), _) | (None, Code::Local { path }) => Some(read.folder_of(place).join(path)),
        (None, Code::S3 { key, .. }) => packaged(&read.folder_of(place), key),
        _ => None,
    }
}

/// The template's own layers that a function names.
fn layers_of<'a>(read: &'a Read, function: &'a Function) -> impl Iterator<Item = &'a stack::Layer> {
    let named =
        |link: &Link| read.stack.layers.iter().find(|layer| Some(layer.id.as_str()) == link.logical());
    function.layers.iter().filter_map(named)
}

/// What an earlier template deployed and this one does not have, or not in a form that runs, is gone, as with a stack
/// update: an old function must not answer for a new one.
async fn remove_others(
    read: &Read,
    control: &Arc<Control>,
    deployed: &[String],
    trail: &Trail,
) -> Result<(), Stop> {
    let of_a_template =
        control.known_functions().into_iter().filter(|function| function.logical_id.is_some());
    for other in of_a_template.filter(|other| !deployed.contains(&other.name)) {
        let path = read.path.display();
        crate::say(&format!("  {}: removed, {path} has no such function that runs", other.name));
        let (control, name, trail) = (control.clone(), other.name.clone(), trail.clone());
        let removed = tokio::task::spawn_blocking(move || trail.noting(|done| done.delete(&control, &name)));
        let removed = removed.await.context("removing a function failed")?;
        removed.map_err(|error| refused(&other.name, &error))?;
    }
    Ok(())
}

async fn request(
    read: &Read,
    function: &Function,
    stage: &Stage,
    layers: &layers::Published,
    env_vars: &EnvVars,
    images: &BTreeMap<String, String>,
) -> Result<Option<Deploy>, Stop> {
    let Some(code) = code(read, function, stage, images).await? else { return Ok(None) };
    let (control, vault) = (&*stage.control, stage.services.vault());
    let mut variables = function.environment.clone();
    for (name, value) in &mut variables {
        for reference in vault.unresolved(value) {
            tracing::warn!(function = %function.id, variable = %name, "{reference} is neither in the template nor stored; the variable holds it as it is");
        }
        *value = vault.resolve(value);
    }
    env_vars.apply(&function.id, &function.name, &mut variables);
    let own_url = |url: &&stack::FunctionUrl| {
        let latest = url.target.qualifier.as_deref().is_none_or(|qualifier| qualifier == model::name::LATEST);
        latest && url.target.function.logical() == Some(&function.id)
    };
    let url = read.stack.function_urls.iter().find(own_url);
    let layers = layers::of(read, control, layers, function);
    Ok(Some(Deploy {
        name: function.name.clone(),
        logical_id: Some(function.id.clone()),
        code,
        architecture: Some(architecture(function.architecture).to_owned()),
        settings: settings(&read.stack, function, variables),
        layers,
        reserved: function.reserved_concurrency,
        url: url.map(url_settings),
        event_invoke: function.event_invoke.iter().map(event_invoke).collect(),
        tags: function.tags.clone(),
        around: around::of(&read.stack, function),
    }))
}

fn event_invoke(config: &stack::EventInvokeConfig) -> (String, EventInvokeConfig) {
    let own = EventInvokeConfig {
        maximum_retry_attempts: u8::try_from(config.maximum_retry_attempts).ok(),
        maximum_event_age: Some(config.maximum_event_age_s),
        on_success: config.on_success.clone(),
        on_failure: config.on_failure.clone(),
        last_modified_ms: 0,
    };
    (config.qualifier.clone(), own)
}

fn architecture(architecture: stack::Architecture) -> &'static str {
    match architecture {
        stack::Architecture::X86_64 => "x86_64",
        stack::Architecture::Arm64 => "arm64",
    }
}

fn settings(stack: &Stack, function: &Function, variables: BTreeMap<String, String>) -> Settings {
    let physical = |link: &Link| super::vpc::physical(stack, link);
    Settings {
        runtime: function.runtime.clone(),
        role: function.role.clone(),
        handler: function.handler.clone(),
        description: Some(function.description.clone()),
        timeout: Some(i64::from(function.timeout_s)),
        memory_size: Some(i64::from(function.memory_mb)),
        ephemeral_storage: Some(control::request::EphemeralStorage {
            size: Some(i64::from(function.ephemeral_storage_mb)),
        }),
        vpc_config: function.vpc.as_ref().map(|vpc| control::request::VpcSettings {
            subnet_ids: Some(vpc.subnets.iter().map(physical).collect()),
            security_group_ids: Some(vpc.security_groups.iter().map(physical).collect()),
            ipv6_allowed_for_dual_stack: Some(vpc.ipv6),
        }),
        image_config: function.image_config.as_ref().map(image_config),
        // Said to be empty is shown, and is another version than not said.
        environment: (!variables.is_empty())
            .then_some(control::request::Environment { variables: Some(variables) }),
        dead_letter_config: function
            .dead_letter_target
            .as_ref()
            .map(|arn| control::DeadLetterSettings { target_arn: Some(arn.clone()) }),
        tracing_config: function
            .tracing
            .then(|| control::TracingSettings { mode: Some("Active".to_owned()) }),
        snap_start: Some(control::SnapStartSettings {
            apply_on: Some(if function.snap_start { "PublishedVersions" } else { "None" }.to_owned()),
        }),
        logging_config: Some(control::LoggingSettings {
            log_format: Some(if function.json_logs { "JSON" } else { "Text" }.to_owned()),
            log_group: Some(function.log_group.clone()),
            application_log_level: function.application_log_level.clone(),
            system_log_level: function.system_log_level.clone(),
        }),
        ..Settings::default()
    }
}

fn image_config(config: &stack::ImageConfig) -> control::ImageConfig {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    control::ImageConfig {
        entry_point: list(&config.entry_point),
        command: list(&config.command),
        working_directory: config.working_directory.clone(),
    }
}

fn url_settings(url: &stack::FunctionUrl) -> UrlSettings {
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    UrlSettings {
        id: Some(url.url_id.clone()),
        auth_type: Some(match url.auth_type {
            stack::AuthType::None => control::AuthType::None,
            stack::AuthType::AwsIam => control::AuthType::AwsIam,
        }),
        invoke_mode: Some(match url.invoke_mode {
            stack::InvokeMode::Buffered => control::InvokeMode::Buffered,
            stack::InvokeMode::ResponseStream => control::InvokeMode::ResponseStream,
        }),
        cors: url.cors.as_ref().map(|cors| Cors {
            allow_credentials: Some(cors.allow_credentials),
            allow_headers: list(&cors.allow_headers),
            allow_methods: list(&cors.allow_methods),
            allow_origins: list(&cors.allow_origins),
            expose_headers: list(&cors.expose_headers),
            max_age: cors.max_age_s,
        }),
    }
}

/// Where a function's code is on this machine; `None` when it cannot run here, which is said.
async fn code(
    read: &Read,
    function: &Function,
    stage: &Stage,
    images: &BTreeMap<String, String>,
) -> Result<Option<DeployCode>, Stop> {
    let place = function.code_place;
    let at = format!("{}:{}:{}", read.path_of(place).display(), place.line, place.column);
    let replaced = images.get(&function.id);
    let (uri, docker) = match &function.code {
        Code::Image { uri, docker } => (uri.as_deref(), docker.as_ref()),
        _ => (None, None),
    };
    if function.package_type == stack::PackageType::Image || replaced.is_some() {
        let (uri, source) = images::of_function(read, function, uri, docker, replaced, &at)?;
        return Ok(Some(DeployCode::Image { uri, source }));
    }
    if let Some(runtime) = function.runtime.as_deref()
        && ["java", "dotnet", "ruby", "go1"].iter().any(|prefix| runtime.starts_with(prefix))
        && let Err(error) = control::validate::check_runtime(runtime)
    {
        tracing::warn!(function = %function.id, "{at}: {} The function is left out", error.message);
        return Ok(None);
    }
    let path = match (&function.asset_path, &function.code) {
        // What `cdk synth` leaves behind is named relative to its own folder.
        (Some(asset), _) => asset.clone(),
        (None, Code::Local { path }) => path.clone(),
        (None, Code::Inline { text }) => return Ok(Some(DeployCode::Inline(text.clone()))),
        (None, Code::S3 { key, .. }) => match packaged(&read.folder_of(place), key) {
            Some(path) => return Ok(Some(DeployCode::ZipFile(path))),
            None => {
                let message = format!("{at}: {}: code in S3 (`{key}`) is not on this machine", function.id);
                return Err(Stop::Usage(format!(
                    "{message}; run the template that names local folders, or put the zip beside it"
                )));
            }
        },
        (None, Code::Image { .. }) => return Ok(None),
    };
    let found = read.folder_of(place).join(&path);
    let found = std::path::absolute(&found).unwrap_or(found);
    if found.is_file() {
        return Ok(Some(DeployCode::ZipFile(found)));
    }
    if !found.is_dir() {
        return Err(Stop::Usage(format!("{at}: {}: there is no folder or zip `{path}`", function.id)));
    }
    build::folder(function, found, &at, stage).await.map(|folder| Some(DeployCode::Folder(folder)))
}

/// The zip that `serverless package` leaves beside its template.
fn packaged(folder: &Path, key: &str) -> Option<PathBuf> {
    let name = Path::new(key).file_name()?;
    [folder.join(name), folder.join(".serverless").join(name)].into_iter().find(|path| path.is_file())
}
