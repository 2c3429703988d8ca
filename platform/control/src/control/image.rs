//! Container images of functions: fetched when code is, found again after a restart, kept as long as a version needs them.

use super::Control;
use super::function::Source;
use crate::function::{Function, PackageType, State, StateReason};
use crate::image::{Image, ImageFault, Images, Pull, Sight};
use crate::package::Location;
use crate::validate::not_run;
use model::error::{ApiError, ErrorCode};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

impl Control {
    /// Says who has container images. Those of the functions that are there already are found again; a function whose image
    /// is gone stays, and says so.
    #[must_use]
    pub fn with_images(mut self, images: Arc<dyn Images>) -> Self {
        let functions = Arc::make_mut(self.snapshot.get_mut().unwrap_or_else(PoisonError::into_inner));
        for function in functions.known_mut().filter(|function| uses_images(function)) {
            let function = Arc::make_mut(function);
            find_image(&*images, function);
            for version in function.published.versions.values_mut() {
                find_image(&*images, Arc::make_mut(version));
            }
        }
        self.images = Some(images);
        self.tell_images();
        self
    }

    /// Says which images functions refer to.
    pub(super) fn tell_images(&self) {
        let Some(images) = &self.images else { return };
        let _order = self.images_told.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = writer.images.keys().cloned().collect();
        drop(writer);
        images.keep(kept);
    }

    /// Looks at the image that `source` names; `uri` is how it is shown.
    ///
    /// # Errors
    /// As AWS words it: it is not there, access is denied, or it is no image that can run.
    pub(super) fn see_image(&self, uri: &str, source: &str, architecture: &str) -> Result<Source, ApiError> {
        self.try_image(uri, source, architecture)?.map_err(|fault| api_error(uri, &fault))
    }

    /// The same for a template's function, which keeps the image that it has while the template's registry cannot be asked: a
    /// start without a network is a start all the same. A `source` that is not the template's `uri`, so a path of this machine or
    /// another image in its place, is wanted now.
    ///
    /// # Errors
    /// As [`Control::see_image`].
    pub(super) fn image_of_deploy(
        &self,
        function: &Function,
        uri: &str,
        source: &str,
    ) -> Result<Source, ApiError> {
        let fault = match self.try_image(uri, source, &function.architectures[0])? {
            Ok(source) => return Ok(source),
            Err(fault) => fault,
        };
        let before =
            self.function(&function.name).filter(|before| before.architectures == function.architectures);
        let before = before.and_then(|before| before.image.clone());
        match (
            &fault,
            before.filter(|image| image.uri == uri && uri == source && !image.root.layers.is_empty()),
        ) {
            (ImageFault::Failed(text), Some(image)) => {
                tracing::warn!(function = function.name, "the image that was pulled before is run: {text}");
                Ok(Source::Image(image))
            }
            _ => Err(api_error(uri, &fault)),
        }
    }

    fn try_image(
        &self,
        uri: &str,
        source: &str,
        architecture: &str,
    ) -> Result<Result<Source, ImageFault>, ApiError> {
        let Some(images) = &self.images else {
            return Err(not_run("A function from a container image (ImageUri)"));
        };
        let (source, digest) = match images.look(source, architecture) {
            Ok(Sight::Here(found)) => return Ok(Ok(Source::Image(Image::new(uri, found)))),
            Ok(Sight::Elsewhere { source, digest }) => (source, digest),
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(Ok(Source::Pull(Pull {
            uri: uri.to_owned(),
            source,
            architecture: architecture.to_owned(),
            digest,
            publish: false,
            ticket: self.fresh_id()?,
        })))
    }
}

/// Makes a function run an image.
pub(super) fn set_image(function: &mut Function, image: Image) {
    // What AWS shows of an image: its digest, and no size.
    set_no_image(function, image.digest.clone());
    function.location = Location::Image(image.id.clone());
    function.image = Some(image);
    function.settle();
}

/// Makes a function be one of an image that is not there yet; `digest` as far as it is known.
pub(super) fn set_no_image(function: &mut Function, digest: String) {
    function.code = PathBuf::new();
    function.location = Location::Image(String::new());
    function.code_sha256 = digest;
    function.code_size = 0;
    function.lease = None;
    function.package_type = PackageType::Image;
    function.image = None;
}

fn uses_images(function: &Function) -> bool {
    function.image.is_some() || function.published.versions.values().any(|version| version.image.is_some())
}

fn find_image(images: &dyn Images, function: &mut Function) {
    let Some(image) = &mut function.image else { return };
    match images.find(&image.id) {
        Some(found) => image.root = found.root,
        None => {
            tracing::error!(
                function = function.name,
                image = image.uri,
                "the image is missing from the data folder"
            );
            let text = format!(
                "The image {} is missing from the data folder; update the function's code.",
                image.uri
            );
            function.state = State::Failed;
            function.state_reason = Some(StateReason { code: "ImageDeleted".to_owned(), text });
        }
    }
}

/// Source of the first sentences: answers of CreateFunction as users have recorded them.
fn api_error(uri: &str, fault: &ImageFault) -> ApiError {
    let text = fault.text();
    match fault {
        ImageFault::Missing(_) => ApiError::invalid(format!(
            "Source image {uri} does not exist. Provide a valid source image. ({text})"
        )),
        ImageFault::Denied(_) => {
            ApiError::new(ErrorCode::AccessDenied, format!("Access to the image {uri} is denied. ({text})"))
        }
        ImageFault::Invalid(_) => ApiError::invalid(format!(
            "The image manifest, config or layer media type for the source image {uri} is not supported. ({text})"
        )),
        ImageFault::Failed(_) => {
            tracing::error!(image = uri, error = text, "an image could not be fetched");
            ApiError::new(ErrorCode::Service, format!("The image {uri} could not be fetched: {text}"))
        }
    }
}
