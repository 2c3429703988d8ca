//! Builds a function's folder where it has to be built: by cargo, pip, npm or make, as `sam build` would.

use super::Stage;
use crate::Stop;
use anyhow::{Context as _, anyhow};
use model::stack::{self, Function};
use runtimes::Build;
use std::path::{Path, PathBuf};

/// `Metadata: BuildMethod` that says what a folder's files say already.
const KNOWN: [&str; 2] = ["rust-cargolambda", "makefile"];

/// The folder to run: `source`, or what was built of it. `at` is the code's place in the template.
///
/// # Errors
/// The build failed, or is one that Onrush does not make.
pub async fn folder(function: &Function, source: PathBuf, at: &str, stage: &Stage) -> Result<PathBuf, Stop> {
    let method = function.build_method.as_deref();
    if method == Some("esbuild") {
        return Err(Stop::Usage(format!(
            "{at}: {}: BuildMethod esbuild makes bundles, which Onrush does not; run `sam build` and take .aws-sam/build/template.yaml, or let CodeUri name the bundle's folder",
            function.id
        )));
    }
    if let Some(other) = method.filter(|method| !KNOWN.contains(method) && !is_runtime(method)) {
        tracing::warn!(function = %function.id, "{at}: BuildMethod {other} is not known; the folder runs as it is");
    }
    let id = function.id.clone();
    let progress = move |line: &str| crate::say(&format!("  {id}: {line}"));
    if is_rust(function, &source) {
        let binary = function.build_binary.clone();
        let runtimes = stage.runtimes.clone();
        let build = move || runtimes.build_rust(&source, binary.as_deref(), &progress);
        let built = tokio::task::spawn_blocking(build);
        return Ok(built.await.context("the build failed")?.with_context(|| function.id.clone())?);
    }
    let Some(build) = needed(function, &source) else { return Ok(source) };
    let (runtimes, name) = (stage.runtimes.clone(), function.id.clone());
    let runtime = function.runtime.clone().unwrap_or_default();
    let built = tokio::task::spawn_blocking(move || {
        let built = runtimes.build_function(build, &runtime, &name, &source, &progress);
        (built, source)
    });
    match built.await.context("the build failed")? {
        (Ok(folder), _) => Ok(folder),
        // Without a network a function still runs; what it imports and does not have, it says itself.
        (Err(error), source) if build != Build::Make && !stage.strict_builds => {
            tracing::warn!(function = %function.id, "{error}; the folder runs as it is, and imports of these packages fail");
            Ok(source)
        }
        (Err(error), _) => Err(Stop::Failed(anyhow!("{}: {error}", function.id))),
    }
}

/// The folder of a layer to publish: `source`, or what SAM's `BuildMethod` makes of it.
///
/// # Errors
/// The build failed, and what ran before goes on.
pub async fn layer(layer: &stack::Layer, source: PathBuf, stage: &Stage) -> Result<PathBuf, Stop> {
    let Some(method) = layer.build_method.clone() else { return Ok(source) };
    let (runtimes, id, folder) = (stage.runtimes.clone(), layer.id.clone(), source.clone());
    let build = move || {
        let progress = |line: &str| crate::say(&format!("  {id}: {line}"));
        runtimes.build_layer(&method, &id, &folder, &progress)
    };
    let built = tokio::task::spawn_blocking(build);
    match built.await.context("the build failed")? {
        Ok(built) => Ok(built.unwrap_or(source)),
        Err(error) if !stage.strict_builds => {
            tracing::warn!(layer = %layer.id, "{error}; the layer's folder is taken as it is, and imports of what is in it fail");
            Ok(source)
        }
        Err(error) => Err(Stop::Failed(anyhow!("{}: {error}", layer.id))),
    }
}

/// What a function's folder needs before it runs, cargo aside.
pub fn needed(function: &Function, source: &Path) -> Option<Build> {
    let make = function.build_method.as_deref() == Some("makefile");
    Build::of(function.runtime.as_deref().unwrap_or(""), source, make)
}

/// A Rust package with an OS-only runtime, and no bootstrap that somebody built already.
pub fn is_rust(function: &Function, folder: &Path) -> bool {
    let provided = function.runtime.as_deref().is_some_and(|runtime| runtime.starts_with("provided"));
    let make = function.build_method.as_deref() == Some("makefile");
    provided && !make && folder.join("Cargo.toml").is_file() && !folder.join("bootstrap").is_file()
}

/// `python3.13`, `nodejs22.x`: the runtime's own way.
fn is_runtime(method: &str) -> bool {
    method.starts_with("python3.") || method.starts_with("nodejs")
}
