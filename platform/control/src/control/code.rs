//! Code as callers give it, turned into a package; and what they hear when that fails.

use super::Control;
use crate::package::{ArchiveError, Language, LayoutError, Location, Package, PackageError, Unpacker};
use crate::request::{DeployCode, FunctionCode};
use crate::store::is_full;
use crate::validate::Violations;
use model::error::{ApiError, ErrorCode};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

impl Control {
    /// Says who unpacks archives from now on.
    #[must_use]
    pub fn with_unpacker(mut self, unpacker: Arc<dyn Unpacker>) -> Self {
        self.packages.confine(unpacker);
        self
    }

    /// The archive of a function's or a layer's code, read from its beginning: the one that came, or one made of the files
    /// where they came as a folder or inline. `None` where a user's own folder is no longer what `sha256` says.
    ///
    /// # Errors
    /// The code is gone or cannot be read, or the disk refuses.
    pub fn archive(&self, location: &Location, path: &Path, sha256: &str) -> Result<Option<File>, ApiError> {
        match self.packages.archive(location, path, sha256) {
            Err(PackageError::Changing { .. }) => Ok(None),
            archive => archive.map(Some).map_err(|error| api_error(&error)),
        }
    }

    /// Unpacks what an API request brings.
    ///
    /// # Errors
    /// It brings nothing, or more than one thing, or what cannot be unpacked.
    pub(super) fn code_of_request(&self, code: &FunctionCode) -> Result<Package, ApiError> {
        let s3 = [&code.s3_bucket, &code.s3_key, &code.s3_object_version, &code.s3_object_storage_mode];
        let s3 = s3.into_iter().any(Option::is_some);
        let mut violations = Violations::default();
        violations.any_arn(code.source_kms_key_arn.as_deref(), "sourceKMSKeyArn");
        violations.finish()?;
        match &code.zip_file {
            Some(_) if s3 => Err(ApiError::invalid(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            )),
            Some(zip) if zip.0.is_empty() => Err(ApiError::invalid("Uploaded file must be a non-empty zip")),
            Some(zip) => self.packages.unpack(&zip.0).map_err(|error| api_error(&error)),
            None if s3 => Err(ApiError::new(
                ErrorCode::NotImplemented,
                "Code from S3 (S3Bucket, S3Key) is not run by Onrush yet; give the archive itself as ZipFile.",
            )),
            None => Err(ApiError::invalid("Please provide a source for function code.")),
        }
    }

    /// Finds or unpacks what a template's function refers to.
    ///
    /// # Errors
    /// It cannot be read or unpacked.
    pub(super) fn code_of_deploy(
        &self,
        code: &DeployCode,
        runtime: Option<&str>,
    ) -> Result<Package, ApiError> {
        let package = match code {
            DeployCode::Folder(path) => self.packages.folder(path),
            DeployCode::Copy(path) => self.packages.copy_of_work(path),
            DeployCode::ZipFile(path) => self.packages.unpack_file(path),
            DeployCode::Zip(bytes) => self.packages.unpack(bytes),
            DeployCode::Inline(text) => self.packages.inline(inline_language(runtime)?, text),
            DeployCode::Image { .. } => {
                return Err(ApiError::invalid("A layer cannot be made of a container image."));
            }
        };
        package.map_err(|error| api_error(&error))
    }
}

/// What inline code is written in.
fn inline_language(runtime: Option<&str>) -> Result<Language, ApiError> {
    runtime.and_then(Language::of_runtime).ok_or_else(|| {
        ApiError::invalid(
            "ZipFile can only be used when Runtime is set to either of nodejs or python; give a folder or an archive instead.",
        )
    })
}

/// What a caller hears when a package could not be made.
pub fn api_error(error: &PackageError) -> ApiError {
    match error {
        PackageError::ZippedTooLarge { .. } => {
            ApiError::new(ErrorCode::RequestEntityTooLarge, error.to_string())
        }
        PackageError::UnzippedTooLarge | PackageError::Archive(ArchiveError::TooLarge) => {
            ApiError::invalid(error.to_string())
        }
        PackageError::InlineTooLarge { .. } => ApiError::invalid(error.to_string()),
        PackageError::Archive(ArchiveError::Io(source)) => {
            ApiError::new(ErrorCode::Service, format!("The archive could not be read: {source}"))
        }
        PackageError::Layout(LayoutError::Empty) => {
            ApiError::invalid("Uploaded file must be a non-empty zip")
        }
        PackageError::Archive(_) | PackageError::Layout(_) | PackageError::Refused { .. } => {
            ApiError::invalid(format!(
                "Could not unzip uploaded file. Please check your file, then try to upload again. ({error})"
            ))
        }
        PackageError::Unreadable { .. } | PackageError::Changing { .. } => {
            ApiError::invalid(format!("The code could not be read: {error}"))
        }
        PackageError::Disk { path, source } if is_full(source) => {
            tracing::error!(%error, "a code package could not be written");
            ApiError::new(
                ErrorCode::Service,
                format!(
                    "No space (or inodes) left for the code package at {}. Free some and try again; nothing was changed.",
                    path.display()
                ),
            )
        }
        PackageError::Disk { .. } => {
            tracing::error!(%error, "a code package could not be written");
            ApiError::new(ErrorCode::Service, format!("The code package could not be written: {error}"))
        }
    }
}
