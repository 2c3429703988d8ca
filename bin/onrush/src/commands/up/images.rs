//! Joins functions of container images to the room that unpacks them, and says where a template's images are.

use super::unpacking::Layers;
use crate::Stop;
use crate::stack::{Read, read_text};
use control::{Control, FoundImage, ImageFault, ImageRoot, ImageSettings, Images, Sight};
use images::{Architecture, ImageError, Look, Place, Scaffold, Store};
use model::stack::{Code, DockerBuild, Function, PackageType};
use sandbox::Workshop;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How often an image without a thread is tried again.
const PULL_AGAIN: Duration = Duration::from_secs(2);

/// The data folder's images, as the control room wants them.
#[derive(Debug)]
struct Keeper {
    store: Store,
    /// Relative paths of API requests are taken from here.
    folder: PathBuf,
}

/// Opens the images of a data folder. `overlay` says whether the host can lay their layers over each other; without a
/// workshop this process unpacks them.
pub fn open(
    data_dir: &Path,
    overlay: bool,
    workshop: Option<Arc<Workshop>>,
) -> Result<Arc<dyn Images>, ImageError> {
    let (folders, files) = sandbox::image_places();
    let mut files: Vec<PathBuf> = files.map(PathBuf::from).to_vec();
    files.push(runtimes::TRUST.trim_start_matches('/').into());
    let scaffold = Scaffold { folders: folders.map(PathBuf::from).to_vec(), files };
    let unpacker = workshop.map(|workshop| Arc::new(Layers(workshop)) as _);
    let options = images::Options { overlay, scaffold, unpacker };
    let store = Store::open(&data_dir.join("images"), options)?;
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    Ok(Arc::new(Keeper { store, folder }))
}

/// Keeps trying to fetch images that wait for want of a thread, as long as `control` lives.
pub fn keep_pulling(runtime: &Handle, control: &Arc<Control>) {
    let control = Arc::downgrade(control);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(PULL_AGAIN).await;
            let Some(control) = control.upgrade() else { return };
            control.retry_pulls();
        }
    });
}

impl Images for Keeper {
    fn look(&self, source: &str, architecture: &str) -> Result<Sight, ImageFault> {
        let place = Place::parse(source, &self.folder).map_err(|error| fault(&error))?;
        let look = self.store.look(&place, architecture_of(architecture)).map_err(|error| fault(&error))?;
        Ok(match look {
            Look::Here(image) => Sight::Here(found(image)),
            Look::Elsewhere { place, digest } => Sight::Elsewhere { source: place.reference(), digest },
        })
    }

    fn fetch(
        &self,
        source: &str,
        architecture: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<FoundImage, ImageFault> {
        let place = Place::parse(source, &self.folder).map_err(|error| fault(&error))?;
        let progress = |line: &str| crate::say(&format!("  {place}: {line}"));
        let image = self.store.add(&place, architecture_of(architecture), &progress, wanted);
        image.map(found).map_err(|error| fault(&error))
    }

    fn find(&self, id: &str) -> Option<FoundImage> {
        self.store.find(id).map(found)
    }

    fn keep(&self, ids: HashSet<String>) {
        self.store.keep(ids);
    }

    fn stop(&self) {
        self.store.stop();
    }
}

fn architecture_of(word: &str) -> Architecture {
    if word == "arm64" { Architecture::Arm64 } else { Architecture::Amd64 }
}

fn found(image: images::Image) -> FoundImage {
    let images::Settings { entry_point, command, working_directory, environment } = image.settings;
    FoundImage {
        id: image.id,
        digest: image.digest,
        settings: ImageSettings { entry_point, command, working_directory, environment },
        root: ImageRoot { layers: image.layers, lease: Some(image.lease) },
    }
}

fn fault(error: &ImageError) -> ImageFault {
    let text = error.to_string();
    match error {
        ImageError::Missing { .. } => ImageFault::Missing(text),
        ImageError::Denied { .. } => ImageFault::Denied(text),
        ImageError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ImageFault::Missing(text)
        }
        ImageError::File { .. } | ImageError::Registry { .. } => ImageFault::Failed(text),
        _ => ImageFault::Invalid(text),
    }
}

/// `--image LOGICAL_ID=REFERENCE`, checked against the template.
pub fn overrides(words: &[String], read: &Read) -> Result<BTreeMap<String, String>, Stop> {
    let mut overrides = BTreeMap::new();
    for word in words {
        let Some((id, reference)) = word.split_once('=') else {
            return Err(Stop::Usage(format!("--image {word}: expected LOGICAL_ID=PATH, or an image's name")));
        };
        if !read.stack.functions.iter().any(|function| function.id == id) {
            let known = read.stack.functions.iter().map(|function| function.id.as_str());
            let near = template::yaml::did_you_mean(id, known).unwrap_or_default();
            return Err(Stop::Usage(format!("--image {word}: the template has no function {id}; {near}")));
        }
        let folder = std::env::current_dir()?;
        overrides.insert(id.to_owned(), source(reference, &folder)?);
    }
    Ok(overrides)
}

/// A reference with its path made absolute.
fn source(reference: &str, folder: &Path) -> Result<String, Stop> {
    let folder = std::path::absolute(folder)?;
    let place = Place::parse(reference, &folder).map_err(|error| Stop::Usage(error.to_string()))?;
    Ok(match place {
        Place::Path { .. } => place.to_string(),
        Place::Registry { .. } => reference.to_owned(),
    })
}

/// Where a template's image is, and how it is shown; `at` is the place in the template, for errors.
pub fn of_function(
    read: &Read,
    function: &Function,
    uri: Option<&str>,
    docker: Option<&DockerBuild>,
    replaced: Option<&String>,
    at: &str,
) -> Result<(String, String), Stop> {
    if function.package_type != PackageType::Image {
        return Err(Stop::Usage(format!("{at}: {} is no function with PackageType: Image", function.id)));
    }
    match (replaced, uri) {
        (Some(source), uri) => Ok((uri.unwrap_or(source).to_owned(), source.clone())),
        (None, Some(uri)) => Ok((uri.to_owned(), source(uri, &read.folder_of(function.place))?)),
        (None, None) => Err(Stop::Usage(to_build(read, function, docker, at))),
    }
}

/// What to type where the image of a function could not be had, if the template or `cdk synth` says how it is built.
pub fn cure(read: &Read, function: &Function, refusal: &str) -> Option<String> {
    let Code::Image { uri: Some(uri), docker } = &function.code else { return None };
    if !refusal.contains(uri) {
        return None;
    }
    let docker = docker.clone().or_else(|| asset(&read.path_of(function.place), uri))?;
    Some(format!("{}: build its image first:\n{}", function.id, commands(read, function, &docker)))
}

/// How `cdk synth` says that an image is built, in the file of assets beside its template.
///
/// Source: AWS CDK, `cloud-assembly-schema`, `DockerImageAsset`.
fn asset(template: &Path, uri: &str) -> Option<DockerBuild> {
    let name = template.file_name()?.to_str()?.strip_suffix(".template.json")?;
    let text = read_text(&template.with_file_name(format!("{name}.assets.json"))).ok()?;
    let assets: Value = serde_json::from_str(&text).ok()?;
    let (_, tag) = uri.rsplit_once(':')?;
    let has_tag = |image: &&Value| {
        let places = image["destinations"].as_object();
        places.is_some_and(|places| places.values().any(|place| place["imageTag"] == tag))
    };
    let source = &assets["dockerImages"].as_object()?.values().find(has_tag)?["source"];
    let text = |key: &str| source[key].as_str().map(str::to_owned);
    let arguments = source["dockerBuildArgs"].as_object().into_iter().flatten();
    Some(DockerBuild {
        context: Some(text("directory")?),
        dockerfile: text("dockerFile"),
        tag: None,
        build_args: arguments
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        target: text("dockerBuildTarget"),
    })
}

/// What to type for an image that has to be built first.
fn to_build(read: &Read, function: &Function, docker: Option<&DockerBuild>, at: &str) -> String {
    let commands = commands(read, function, &docker.cloned().unwrap_or_default());
    let id = &function.id;
    format!(
        "{at}: {id}: its image has to be built first, which Onrush leaves to Docker or Podman:\n{commands}"
    )
}

/// Builds an image with Docker, and starts with it.
fn commands(read: &Read, function: &Function, docker: &DockerBuild) -> String {
    let id = &function.id;
    let context = read.folder_of(function.place).join(docker.context.as_deref().unwrap_or("."));
    let dockerfile = context.join(docker.dockerfile.as_deref().unwrap_or("Dockerfile"));
    let tag = format!("{}:{}", id.to_lowercase(), docker.tag.as_deref().unwrap_or("latest"));
    let platform = match function.architecture {
        model::stack::Architecture::X86_64 => "linux/amd64",
        model::stack::Architecture::Arm64 => "linux/arm64",
    };
    let argument = |(name, value)| format!(" --build-arg {}", quoted(&format!("{name}={value}")));
    let arguments: String = docker.build_args.iter().map(argument).collect();
    let target =
        docker.target.as_ref().map(|target| format!(" --target {}", quoted(target))).unwrap_or_default();
    let tag = quoted(&tag);
    format!(
        "  docker build --platform {platform}{arguments}{target} -t {tag} -f {} {}\n  \
         docker save {tag} -o {}.tar\n  \
         onrush up --image {id}={}.tar {}",
        quoted(&dockerfile.to_string_lossy()),
        quoted(&context.to_string_lossy()),
        id.to_lowercase(),
        id.to_lowercase(),
        read.paths()
            .iter()
            .map(|path| quoted(&path.to_string_lossy()).into_owned())
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// A word of a command, as a POSIX shell takes it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_cdk_synth_is_found_by_its_tag() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"version": "36.0.0", "files": {}, "dockerImages": {"4f0c": {
            "source": {"directory": "asset.4f0c", "dockerBuildArgs": {"VERSION": "1"}, "dockerBuildTarget": "prod",
                "dockerFile": "Dockerfile.prod", "platform": "linux/amd64"},
            "destinations": {"current_account-current_region": {"repositoryName": "assets", "imageTag": "4f0c"}}}}}"#;
        std::fs::write(folder.path().join("App.assets.json"), text).unwrap();
        let template = folder.path().join("App.template.json");
        let found = asset(&template, "000000000000.dkr.ecr.us-east-1.amazonaws.com/assets:4f0c").unwrap();
        assert_eq!(found.context.as_deref(), Some("asset.4f0c"));
        assert_eq!(
            (found.dockerfile.as_deref(), found.target.as_deref()),
            (Some("Dockerfile.prod"), Some("prod"))
        );
        assert_eq!(found.build_args["VERSION"], "1");
        assert!(asset(&template, "000000000000.dkr.ecr.us-east-1.amazonaws.com/assets:other").is_none());
        assert!(asset(&folder.path().join("Other.template.json"), "assets:4f0c").is_none());
    }

    #[test]
    fn commands_are_quoted_for_a_shell() {
        for plain in ["-t", "cart:v1.2", "/srv/a_b/Dockerfile", "NAME=x@y"] {
            assert_eq!(quoted(plain), plain);
        }
        for word in ["", "a b", "it's", "$(id)", "`id`", "a;b", "*", "~", "\\", "\"", "größe", "a\nb"] {
            let script = format!("printf %s {}", quoted(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word, "{script}");
        }
    }

    #[test]
    fn faults_say_whose_they_are() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let file = |source| ImageError::File { path: "/x".into(), source };
        assert!(matches!(fault(&file(missing)), ImageFault::Missing(_)));
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert!(matches!(fault(&file(full)), ImageFault::Failed(_)));
        assert!(matches!(fault(&ImageError::TooLarge), ImageFault::Invalid(_)));
    }
}
