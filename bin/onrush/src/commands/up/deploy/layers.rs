//! A template's layers, published; and what a function's `Layers` name.

use super::super::refused;
use super::{Stage, Trail};
use crate::Stop;
use crate::stack::Read;
use anyhow::Context as _;
use control::{Control, DeployCode, DeployLayer};
use model::stack::{self, Code, Function, Link};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The layers of a deployment.
#[derive(Debug, Default)]
pub struct Published {
    /// The template's own, by logical id.
    own: BTreeMap<String, control::Layer>,
    /// Those of `--layer`, with what stands before the `=`.
    given: Vec<(String, control::Layer)>,
}

/// Publishes every layer whose content is on this machine; one that did not change keeps its version. Where code is copied,
/// small folders are copied, too. With `keep`, one that cannot be built stays as it was published last, so that it holds up no
/// edit of a function.
pub async fn publish(read: &Read, stage: &Stage, keep: bool, trail: &Trail) -> Result<Published, Stop> {
    let mut published = Published::default();
    for layer in &read.stack.layers {
        let Some(mut code) = content(read, layer)? else { continue };
        if let (DeployCode::Folder(folder), None) = (&mut code, &layer.asset_path) {
            match super::build::layer(layer, std::mem::take(folder), stage).await {
                Ok(built) => *folder = built,
                Err(stop) => {
                    let (true, Some(last), Stop::Failed(error)) = (keep, last(stage, &layer.name), &stop)
                    else {
                        return Err(stop);
                    };
                    tracing::warn!("{error:#}; the layer stays as it was");
                    published.own.insert(layer.id.clone(), last);
                    continue;
                }
            }
        }
        let request = DeployLayer {
            name: layer.name.clone(),
            code,
            description: layer.description.clone(),
            license_info: layer.license_info.clone(),
            compatible_runtimes: layer.compatible_runtimes.clone(),
            compatible_architectures: layer.compatible_architectures.clone(),
        };
        published.own.insert(layer.id.clone(), publish_one(&layer.id, request, stage, trail).await?);
    }
    for word in &stage.layers {
        let (meant, code) = given(word, read)?;
        let request = DeployLayer {
            name: own_name(meant, &stage.layers),
            code,
            description: String::new(),
            license_info: None,
            compatible_runtimes: Vec::new(),
            compatible_architectures: Vec::new(),
        };
        let layer = publish_one(&format!("--layer {word}"), request, stage, trail).await?;
        published.given.push((meant.to_owned(), layer));
    }
    Ok(published)
}

/// The latest version of a layer.
fn last(stage: &Stage, name: &str) -> Option<control::Layer> {
    let layers = stage.control.layers();
    layers.get(name)?.versions.values().next_back().map(|version| version.layer.clone())
}

async fn publish_one(
    known_as: &str,
    mut request: DeployLayer,
    stage: &Stage,
    trail: &Trail,
) -> Result<control::Layer, Stop> {
    if stage.copies {
        super::copy(&mut request.code);
    }
    let (control, trail) = (stage.control.clone(), trail.clone());
    let done =
        tokio::task::spawn_blocking(move || trail.noting(|done| done.deploy_layer(&control, &request)));
    done.await.context("publishing a layer failed")?.map_err(|error| refused(known_as, &error))
}

/// `--layer ARN=PATH`, or `NAME=PATH`: which layer, and what is in it.
fn given<'a>(word: &'a str, read: &Read) -> Result<(&'a str, DeployCode), Stop> {
    let wrong = |why: &str| Stop::Usage(format!("--layer {word}: {why}"));
    let (meant, path) = word.split_once('=').ok_or_else(|| wrong("expected ARN=PATH, or NAME=PATH"))?;
    let code = code_at(std::path::absolute(path)?)
        .ok_or_else(|| wrong(&format!("there is no folder or zip `{path}`")))?;
    let links = read.stack.functions.iter().flat_map(|function| &function.layers);
    if !links.clone().any(|link| fits(meant, link.as_str()).is_some()) {
        tracing::warn!("--layer {word}: no function of the template names {meant} by its ARN");
    }
    Ok((meant, code))
}

/// Whether the layer version of an ARN is meant, and how closely: by the layer's name, by its ARN, by the version's.
fn fits(meant: &str, arn: &str) -> Option<u8> {
    if meant == arn {
        return Some(2);
    }
    let is_version = |rest: &str| rest.strip_prefix(':').is_some_and(|number| !number.contains(':'));
    if meant.starts_with("arn:") {
        return arn.strip_prefix(meant).filter(|rest| is_version(rest)).map(|_| 1);
    }
    (name_of(arn) == meant).then_some(0)
}

/// The name under which it is published here: the layer's own, and Region, account and version beside it where several of that
/// name are given.
fn own_name(meant: &str, words: &[String]) -> String {
    let name = name_of(meant);
    let namesakes = words.iter().filter(|word| name_of(word.split('=').next().unwrap_or(word)) == name);
    match meant.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, _, region, account, _, _, version @ ..] if namesakes.count() > 1 => {
            [&[name, region, account], version].concat().join("-")
        }
        _ => name.to_owned(),
    }
}

/// The name that a layer's ARN holds, with a version or without; else the word itself.
fn name_of(arn: &str) -> &str {
    let parts = arn.strip_prefix("arn:").and_then(|arn| arn.split_once(":layer:"));
    parts.map_or(arn, |(_, name)| name.split(':').next().unwrap_or(name))
}

/// The layers of one function, lowest first; what is not there is left out, which is said.
pub fn of(read: &Read, control: &Control, published: &Published, function: &Function) -> Vec<control::Layer> {
    let find = |link: &Link| {
        let found = match link {
            Link::Logical(id) => published.own.get(id).cloned(),
            // Published through the API by whoever wrote the ARN into the template, if it is not given.
            Link::Literal(arn) => {
                let given =
                    published.given.iter().filter_map(|(meant, layer)| Some((fits(meant, arn)?, layer)));
                let given = given.max_by_key(|(closeness, _)| *closeness).map(|(_, layer)| layer.clone());
                given.or_else(|| control.layer_by_arn(arn).ok().map(|found| found.layer))
            }
        };
        if found.is_none() {
            let known = read.stack.layers.iter().any(|layer| Some(layer.id.as_str()) == link.logical());
            let why = if known {
                "its content is not on this machine".to_owned()
            } else {
                let name = name_of(link.as_str());
                format!(
                    "it is not in the template, and nobody published it here; its content: --layer {name}=PATH"
                )
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
    let found = read.folder_of(layer.place).join(path);
    let none = || {
        let template = read.path_of(layer.place);
        let template = template.display();
        Stop::Usage(format!("{template}: layer {}: there is no folder or zip `{path}`", layer.id))
    };
    code_at(std::path::absolute(&found).unwrap_or(found)).map(Some).ok_or_else(none)
}

/// A folder or an archive.
fn code_at(path: PathBuf) -> Option<DeployCode> {
    match (path.is_file(), path.is_dir()) {
        (true, _) => Some(DeployCode::ZipFile(path)),
        (_, true) => Some(DeployCode::Folder(path)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{fits, name_of, own_name};

    #[test]
    fn a_layers_name_is_found_in_its_arn() {
        for text in [
            "arn:aws:lambda:us-east-1:753240598075:layer:Adapter:25",
            "arn:aws-cn:lambda:cn-north-1:753240598075:layer:Adapter",
            "Adapter",
        ] {
            assert_eq!(name_of(text), "Adapter", "{text}");
        }
        assert_eq!(name_of("{{resolve:ssm:/layer}}"), "{{resolve:ssm:/layer}}");
    }

    #[test]
    fn an_arn_means_the_layer_of_its_account_and_region_and_a_name_any() {
        let arn = "arn:aws:lambda:us-east-1:753240598075:layer:Adapter:25";
        assert_eq!(fits("Adapter", arn), Some(0));
        assert_eq!(fits("arn:aws:lambda:us-east-1:753240598075:layer:Adapter", arn), Some(1));
        assert_eq!(fits(arn, arn), Some(2));
        for other in [
            "Adapt",
            "arn:aws:lambda:us-east-1:753240598075:layer:Adapt",
            "arn:aws:lambda:us-east-1:753240598075:layer:Adapter:2",
            "arn:aws:lambda:us-east-1:111122223333:layer:Adapter",
            "arn:aws:lambda:eu-west-1:753240598075:layer:Adapter:25",
            "arn:aws:lambda:us-east-1:753240598075:layer",
        ] {
            assert_eq!(fits(other, arn), None, "{other}");
        }
    }

    #[test]
    fn namesakes_are_published_under_names_of_their_own() {
        let one = "arn:aws:lambda:us-east-1:753240598075:layer:Adapter";
        let other = "arn:aws:lambda:us-east-1:111122223333:layer:Adapter:2";
        let words = [format!("{one}=a"), format!("{other}=b"), "Agent=c".to_owned()];
        assert_eq!(own_name(one, &words), "Adapter-us-east-1-753240598075");
        assert_eq!(own_name(other, &words), "Adapter-us-east-1-111122223333-2");
        assert_eq!(own_name("Agent", &words), "Agent");
        assert_eq!(own_name(one, &words[..1]), "Adapter");
    }
}
