//! A template's layers, published; and what a function's `Layers` name.

use super::super::refused;
use super::Trail;
use crate::Stop;
use crate::stack::Read;
use anyhow::Context as _;
use control::{Control, DeployCode, DeployLayer};
use model::stack::{self, Code, Function, Link};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Layers by logical id.
pub type Published = BTreeMap<String, control::Layer>;

/// Publishes every layer whose content is on this machine; one that did not change keeps its version. With `copies`, small
/// folders are copied.
pub async fn publish(
    read: &Read,
    control: &Arc<Control>,
    copies: bool,
    trail: &Trail,
) -> Result<Published, Stop> {
    let mut published = Published::new();
    for layer in &read.stack.layers {
        let Some(mut code) = content(read, layer)? else { continue };
        if copies {
            super::copy(&mut code);
        }
        let request = DeployLayer {
            name: layer.name.clone(),
            code,
            description: layer.description.clone(),
            license_info: layer.license_info.clone(),
            compatible_runtimes: layer.compatible_runtimes.clone(),
            compatible_architectures: layer.compatible_architectures.clone(),
        };
        let (control, trail) = (control.clone(), trail.clone());
        let done =
            tokio::task::spawn_blocking(move || trail.noting(|done| done.deploy_layer(&control, &request)));
        let done = done.await.context("publishing a layer failed")?;
        published.insert(layer.id.clone(), done.map_err(|error| refused(&layer.id, &error))?);
    }
    Ok(published)
}

/// The layers of one function, lowest first; what is not there is left out, which is said.
pub fn of(read: &Read, control: &Control, published: &Published, function: &Function) -> Vec<control::Layer> {
    let find = |link: &Link| {
        let found = match link {
            Link::Logical(id) => published.get(id).cloned(),
            // Published through the API by whoever wrote the ARN into the template.
            Link::Literal(arn) => control.layer_by_arn(arn).ok().map(|found| found.layer),
        };
        if found.is_none() {
            let known = read.stack.layers.iter().any(|layer| Some(layer.id.as_str()) == link.logical());
            let why = if known {
                "its content is not on this machine"
            } else {
                "it is not in the template, and nobody published it here"
            };
            tracing::warn!(function = %function.id, layer = link.as_str(), "the function runs without this layer: {why}");
        }
        found
    };
    function.layers.iter().filter_map(find).collect()
}

fn content(read: &Read, layer: &stack::Layer) -> Result<Option<DeployCode>, Stop> {
    let path = match (&layer.asset_path, &layer.code) {
        (Some(path), _) | (None, Code::Local { path }) => path,
        _ => return Ok(None),
    };
    let found = read.folder().join(path);
    let found = std::path::absolute(&found).unwrap_or(found);
    match (found.is_file(), found.is_dir()) {
        (true, _) => Ok(Some(DeployCode::ZipFile(found))),
        (_, true) => Ok(Some(DeployCode::Folder(found))),
        _ => Err(Stop::Usage(format!(
            "{}: layer {}: there is no folder or zip `{path}`",
            read.path.display(),
            layer.id
        ))),
    }
}
