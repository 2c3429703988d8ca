//! What runs a function is found out once a version: its runtime, its image, its layers and its extensions. What cannot be
//! prepared fails its invocations by name.

use super::{Invoked, Invoker, Request};
use crate::environment::{Prepared, Version};
use crate::extensions;
use crate::failure::Failure;
use crate::layers;
use control::{Function, Location, State};
use model::name::LATEST;
use runtimes::{RuntimeError, Runtimes};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{FunctionCounters, PlatformEvent, Report, Status};

/// Functions that [`Invoker::prepare`] has found out about when it returns.
const PREPARED_FIRST_MAX: usize = 100;

impl Invoker {
    pub(super) async fn prepared(&self, version: &Arc<Version>) -> Result<Arc<Prepared>, Arc<RuntimeError>> {
        let make = || async {
            let (runtimes, function) = (self.0.runtimes.clone(), version.function.clone());
            let layers_folder = self.0.layers_folder.clone();
            let made =
                tokio::task::spawn_blocking(move || prepare(&runtimes, &function, &layers_folder)).await;
            match made {
                Ok(made) => made.map(Arc::new).map_err(Arc::new),
                Err(error) => Err(Arc::new(files_error("the function", std::io::Error::other(error)))),
            }
        };
        // What failed is tried again by the next invocation: a full disk does not stay full.
        version.prepared.get_or_try_init(make).await.cloned()
    }

    /// Finds out, before the first request, what runs each function; errors wait for the first request. Where there are
    /// very many functions, nobody waits for all of them: what is returned finds out about the others.
    #[must_use = "the other functions are prepared by what is returned"]
    pub async fn prepare(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut first: Vec<_> = self.lock().functions.values().map(|known| known.version.clone()).collect();
        first.retain(|version| version.function.state == State::Active);
        // What is wrong with code is told once: of the folder that the user knows before a version's copy of it.
        first.sort_by_key(|version| version.function.version != LATEST);
        let others = first.split_off(first.len().min(PREPARED_FIRST_MAX));
        self.prepare_each(first).await;
        let invoker = self.clone();
        async move {
            if !others.is_empty() {
                invoker.prepare_each(others).await;
            }
            let prepare_others = move || {
                invoker.take_over(|mut versions| {
                    versions.retain(|version| version.function.state == State::Active);
                    invoker.prepare_all(&versions);
                });
            };
            if let Err(error) = tokio::task::spawn_blocking(prepare_others).await {
                tracing::error!(%error, "functions are not prepared; their first invocations do it");
            }
        }
    }

    /// One after the other, and on one thread: with very many, handing each over would take longer than the work.
    async fn prepare_each(&self, versions: Vec<Arc<Version>>) {
        let invoker = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || invoker.prepare_all(&versions)).await {
            tracing::error!(%error, "functions are not prepared; their first invocations do it");
        }
    }

    /// The same for a thread that may block.
    pub(super) fn prepare_all(&self, versions: &[Arc<Version>]) {
        for version in versions.iter().filter(|version| !version.prepared.initialized()) {
            // A defect met with one must not stop the others.
            let work = || prepare(&self.0.runtimes, &version.function, &self.0.layers_folder);
            match catch_unwind(AssertUnwindSafe(work)) {
                // An invocation that came first has done the same.
                Ok(Ok(made)) => drop(version.prepared.set(Arc::new(made))),
                Ok(Err(error)) => warn_of(version, &error),
                Err(_) => tracing::error!(
                    function = %version.function.name,
                    "preparing this function failed unexpectedly; its next invocation tries again"
                ),
            }
        }
    }
}

fn warn_of(version: &Version, error: &RuntimeError) {
    let cure = match error {
        RuntimeError::InvalidEntrypoint { hint, .. } => format!(": {hint}"),
        _ => String::new(),
    };
    tracing::warn!(function = %version.function.name, %error, "this function will fail{cure}");
}

/// An invocation whose program could not be started at all.
pub(super) fn never_ran(version: &Version, request: &Request, failure: Failure) -> Invoked {
    FunctionCounters::count(&version.counters.invocations);
    FunctionCounters::count(&version.counters.errors);
    let id = &request.request_id;
    let function = &version.function;
    let message = serde_json::from_slice::<serde_json::Value>(&failure.body).unwrap_or_default();
    let report = Report {
        request_id: id,
        duration: Duration::ZERO,
        init: None,
        init_billed: version.init_billed,
        restore: None,
        memory_mb: function.memory_mb,
        memory_peak_bytes: 0,
        status: Status::Error(failure.kind),
    };
    let lines = version.log_style.lines(&[
        PlatformEvent::Start { request_id: id, version: &function.version, trace_id: None },
        PlatformEvent::Fault(message["errorMessage"].as_str().unwrap_or("the program could not be started")),
        PlatformEvent::End { request_id: id },
        PlatformEvent::Report(&report),
    ]);
    version.log.write_all(lines.iter().map(String::as_str));
    let log_tail = request.tail.then(|| (lines.join("\n") + "\n").into_bytes());
    let version = function.version.clone();
    Invoked { payload: failure.body, failed: true, log_tail, version, limit: None, content_type: None }
}

fn prepare(runtimes: &Runtimes, function: &Function, layers_folder: &Path) -> Result<Prepared, RuntimeError> {
    if let Some(image) = &function.image {
        return prepare_image(runtimes, function, image);
    }
    let runtime = function.runtime.as_deref().unwrap_or("");
    for warning in runtimes.untold(runtimes.prepare(runtime, &|line| tracing::info!("{line}"))?) {
        tracing::warn!(function = %function.name, "{warning}");
    }
    let opt = layers::merge(&function.layers, layers_folder).map_err(of_layers)?;
    let handler = function.handler.as_deref().unwrap_or("");
    let mut launch = runtimes.resolve(&runtimes::Request {
        runtime,
        handler,
        code: &function.code,
        known_as: match &function.location {
            Location::Folder(path) if !runtimes.is_build(path) => Some(path),
            _ => None,
        },
        layers: opt.as_deref(),
        memory_mb: function.memory_mb,
        node_options: function.environment.get("NODE_OPTIONS").map(String::as_str),
        exec_wrapper: function.environment.get("AWS_LAMBDA_EXEC_WRAPPER").map(String::as_str),
    })?;
    let code_warnings = std::mem::take(&mut launch.code_warnings);
    let of_code = runtimes.untold_of_code(&function.arn, &function.code_sha256, handler, code_warnings);
    for warning in runtimes.untold(std::mem::take(&mut launch.warnings)).into_iter().chain(of_code) {
        tracing::warn!(function = %function.name, "{warning}");
    }
    let extensions = extensions::of_layers(opt.as_ref()).map_err(of_layers)?.into();
    Ok(Prepared { launch, opt, extensions, working_directory: "/var/task".to_owned() })
}

fn prepare_image(
    runtimes: &Runtimes,
    function: &Function,
    image: &control::Image,
) -> Result<Prepared, RuntimeError> {
    if image.root.layers.is_empty() {
        let gone = std::io::Error::new(std::io::ErrorKind::NotFound, "the image is missing; deploy it again");
        return Err(RuntimeError::Files { path: PathBuf::from(&image.uri), source: gone });
    }
    let settings = function.image_config.over(&image.settings);
    let launch = runtimes.image(&runtimes::ImageProgram {
        entry_point: &settings.entry_point,
        command: &settings.command,
        environment: &settings.environment,
    })?;
    let folder = settings.working_directory.unwrap_or_default();
    // As Docker has it: without WORKDIR, and before a relative one, stands the top.
    let working_directory = if folder.starts_with('/') { folder } else { format!("/{folder}") };
    let extensions = extensions::of_image(&image.root.layers);
    let extensions = extensions.map_err(|error| files_error(&image.uri, error))?.into();
    Ok(Prepared { launch, opt: None, extensions, working_directory })
}

fn of_layers(source: std::io::Error) -> RuntimeError {
    files_error("layers", source)
}

/// `what` could not be read: the layers, or an image by its URI.
fn files_error(what: &str, source: std::io::Error) -> RuntimeError {
    RuntimeError::Files { path: PathBuf::from(what), source }
}
