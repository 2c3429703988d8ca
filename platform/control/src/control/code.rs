//! Code as callers give it, turned into a package; and what they hear when that fails.

use super::Control;
use crate::object::{Object, ObjectError, Objects};
use crate::package::{
    ARCHIVE_MAX, ArchiveError, Language, LayoutError, Location, Package, PackageError, Unpacker,
};
use crate::request::{DeployCode, FunctionCode};
use crate::store::is_full;
use crate::validate::{Violations, not_run};
use model::error::{ApiError, ErrorCode};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Characters of a bucket's name, and of an object's key or version. Source: Lambda's service model, S3Bucket, S3Key.
const BUCKET_MAX: usize = 63;
const KEY_MAX: usize = 1_024;

impl Control {
    /// Says who unpacks archives from now on.
    #[must_use]
    pub fn with_unpacker(mut self, unpacker: Arc<dyn Unpacker>) -> Self {
        self.packages.confine(unpacker);
        self
    }

    /// Says who fetches code from S3 from now on.
    #[must_use]
    pub fn with_objects(mut self, objects: Arc<dyn Objects>) -> Self {
        self.objects = Some(objects);
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

    /// Unpacks what an API request brings, which [`check_code`] has passed.
    ///
    /// # Errors
    /// It brings nothing, or more than one thing, or what cannot be unpacked.
    pub(super) fn code_of_request(&self, code: &FunctionCode) -> Result<Package, ApiError> {
        let s3 = [&code.s3_bucket, &code.s3_key, &code.s3_object_version, &code.s3_object_storage_mode];
        let s3 = s3.into_iter().any(Option::is_some);
        match &code.zip_file {
            Some(_) if s3 => Err(ApiError::invalid(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            )),
            Some(zip) if zip.0.is_empty() => Err(ApiError::invalid("Uploaded file must be a non-empty zip")),
            Some(zip) => self.packages.unpack(&zip.0).map_err(|error| api_error(&error)),
            None => self.code_of_s3(code),
        }
    }

    /// Fetches an archive from S3 and unpacks it.
    fn code_of_s3(&self, code: &FunctionCode) -> Result<Package, ApiError> {
        let (Some(bucket), Some(key)) = (&code.s3_bucket, &code.s3_key) else {
            return Err(ApiError::invalid("Please provide a source for function code."));
        };
        if code.s3_object_storage_mode.as_deref() == Some("REFERENCE") {
            return Err(not_run("The value REFERENCE of S3ObjectStorageMode"));
        }
        let version = code.s3_object_version.as_deref();
        let object = Object { bucket, key, version, in_session: code.in_session };
        let refused = |error: ObjectError| match error {
            ObjectError::NoServer => ApiError::new(
                ErrorCode::NotImplemented,
                "Code from S3 (S3Bucket, S3Key) needs an S3 that is attached: onrush up --attach s3=HOST:PORT; or give the archive itself as ZipFile.",
            ),
            ObjectError::TooLarge => api_error(&PackageError::UnzippedTooLarge),
            ObjectError::Disk(source) => {
                api_error(&PackageError::Disk { path: self.options.data_dir.clone(), source })
            }
            // Source of both texts: answers of CreateFunction on AWS, widely seen.
            ObjectError::Refused { ref code, .. } if code == "AccessDenied" => ApiError::new(
                ErrorCode::AccessDenied,
                format!(
                    "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for {bucket}/{key}. {error}"
                ),
            ),
            ObjectError::Refused { .. } => {
                ApiError::invalid(format!("Error occurred while GetObject. {error}"))
            }
            // SDKs ask again.
            ObjectError::Unreachable(_) => {
                ApiError::new(ErrorCode::Service, format!("Error occurred while GetObject. {error}"))
            }
        };
        let Some(objects) = &self.objects else { return Err(refused(ObjectError::NoServer)) };
        let mut archive = self.packages.scratch().map_err(|error| api_error(&error))?;
        objects.fetch(object, ARCHIVE_MAX, &mut archive).map_err(refused)?;
        self.packages.unpack_open(archive, Path::new(key)).map_err(|error| api_error(&error))
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

/// Checks code against the service model. `within` is what its members are members of: `code.`.
pub(super) fn check_code(code: &FunctionCode, within: &str, violations: &mut Violations) {
    let of = |member: &str| format!("{within}{member}");
    violations.any_arn(code.source_kms_key_arn.as_deref(), &of("sourceKMSKeyArn"));
    if let Some(bucket) = &code.s3_bucket {
        let member = &of("s3Bucket");
        if bucket.len() < 3 {
            violations.add(bucket, member, "Member must have length greater than or equal to 3");
        }
        violations.length(bucket, member, BUCKET_MAX);
        let fits =
            bucket.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) && !bucket.ends_with('.');
        violations.pattern(fits, bucket, member, r"[0-9A-Za-z\.\-_]*(?<!\.)");
    }
    for (value, member) in [(&code.s3_key, "s3Key"), (&code.s3_object_version, "s3ObjectVersion")] {
        value.iter().for_each(|value| violations.some_length(value, &of(member), KEY_MAX));
    }
    let modes = ["COPY", "REFERENCE"];
    violations.one_of(code.s3_object_storage_mode.as_deref(), &of("s3ObjectStorageMode"), &modes);
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
