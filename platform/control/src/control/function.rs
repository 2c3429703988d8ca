//! Creating, updating and deleting functions.

use super::code::check_code;
use super::image::set_image;
use super::layer::check_sizes;
use super::pull::{await_image, check_settled};
use super::version::{Copies, latest_version, publish_into};
use super::{Control, Edit, Fresh};
use crate::function::{Function, LastUpdateStatus, PackageType, VpcConfig};
use crate::image::{Image, Pull};
use crate::package::Package;
use crate::request::{
    CreateFunction, FunctionCode, Settings, UpdateFunctionCode, UpdateFunctionConfiguration,
};
use crate::validate::{self, Violations};
use model::error::{ApiError, ErrorCode};
use model::name::{self, FUNCTION_NAME_MAX, LATEST};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

impl Control {
    /// Creates a function. Durable and visible when it returns.
    ///
    /// # Errors
    /// As AWS words them: a member breaks a constraint, the name is taken, the code cannot be unpacked.
    pub fn create(&self, request: CreateFunction) -> Result<Arc<Function>, ApiError> {
        let CreateFunction { function_name, code, package_type, architectures, publish, tags, settings } =
            request;
        let name = self.new_name(function_name.as_deref(), &settings, code.is_none(), |violations| {
            validate::check_architectures(architectures.as_deref(), violations);
            validate::check_package_type(package_type.as_deref(), violations);
            validate::check_tags(tags.as_ref().unwrap_or(&Default::default()), violations);
            code.iter().for_each(|code| check_code(code, "code.", violations));
        })?;
        tags.as_ref().map_or(Ok(()), validate::check_tag_rules)?;
        let code = code.unwrap_or_default();
        let is_image = package_type.as_deref() == Some("Image");
        check_source(is_image, &code, "creating")?;
        let layers = self.layers_of(settings.layers.as_deref())?;
        self.check_free(&name)?;
        let mut function = self.blank(&name);
        function.architectures = architectures.unwrap_or(function.architectures);
        function.tags = tags.unwrap_or_default();
        function.layers = layers.unwrap_or_default();
        function.package_type = if is_image { PackageType::Image } else { PackageType::Zip };
        validate::apply_settings(settings, &mut function)?;
        self.name_vpc(&mut function, None);
        validate::snap_start::check(&function, self.options.experimental_snap_start)?;
        validate::check_mandatory(&function)?;
        let source = self.source_of_request(&code, &function.architectures)?;
        let later = source.is_pull();
        let publish = publish == Some(true);
        source.publishing(publish).put_into(&mut function);
        check_sizes(&self.packages, (&function.location, &function.code), &function.layers)?;
        let publish = publish && !later;
        let copies = if publish { self.copies_of(&function)? } else { Copies::default() };
        let function = self.change(|functions| {
            if functions.contains_key(&name) {
                return Err(taken(&name));
            }
            if publish {
                publish_into(&mut function, None, &copies)?;
            }
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })?;
        if later {
            self.pull(&function, None);
            return Ok(as_if_published(function));
        }
        Ok(if publish { latest_version(&function) } else { function })
    }

    /// Gives a function new code.
    ///
    /// # Errors
    /// There is no such function, it is at another revision, or the code cannot be unpacked.
    pub fn update_code(
        &self,
        function: &str,
        request: UpdateFunctionCode,
    ) -> Result<Arc<Function>, ApiError> {
        let name = self.resolve_unqualified(function)?.name.clone();
        let mut violations = Violations::default();
        validate::check_architectures(request.architectures.as_deref(), &mut violations);
        check_code(&request.code, "", &mut violations);
        violations.finish()?;
        if request.publish_to.is_some() {
            return Err(validate::not_run("The member PublishTo"));
        }
        let publish = request.publish == Some(true);
        let before = self.resolve_unqualified(&name)?;
        check_settled(&before)?;
        check_source(before.package_type == PackageType::Image, &request.code, "updating")?;
        let architectures = request.architectures.as_ref().unwrap_or(&before.architectures);
        let source = self.source_of_request(&request.code, architectures)?.publishing(publish);
        if let Source::Package(package) = &source {
            check_sizes(&self.packages, (&package.location, &package.path), &before.layers)?;
        }
        let measured = before;
        let later = source.is_pull();
        let edit = |before: &Function| {
            check_settled(before)?;
            check_revision(before, request.revision_id.as_deref())?;
            let mut function = before.clone();
            // What is fetched says itself what it runs on.
            if !later {
                function.architectures = request.architectures.unwrap_or(function.architectures);
            }
            source.put_into(&mut function);
            // Layers that it got meanwhile have not been measured with this code.
            if function.layers != measured.layers {
                check_sizes(&self.packages, (&function.location, &function.code), &function.layers)?;
            }
            Ok(function)
        };
        if request.dry_run == Some(true) {
            let before = self.resolve_unqualified(&name)?;
            let mut function = edit(&before)?;
            if let Some(pull) = function.pull.take() {
                function.code_sha256 = pull.digest.unwrap_or_default();
                function.settle();
            }
            return Ok(Arc::new(function));
        }
        let publish = publish && !later;
        // Of the layers: the code is new.
        let copies = match self.function(&name).filter(|_| publish) {
            Some(before) => self.copies_of(&before)?,
            None => Copies::default(),
        };
        let function = self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            let mut function = edit(before)?;
            if publish {
                // Whatever was published before, this is another state of the function unless the content is the same.
                function.version_key = 0;
                publish_into(&mut function, None, &copies)?;
            }
            // Environments of what it runs meanwhile stay.
            Ok(Edit::Put(Box::new(function), if later { Fresh::Around } else { Fresh::Version }))
        })?;
        if later {
            self.pull(&function, None);
            return Ok(as_if_published(function));
        }
        Ok(if publish { latest_version(&function) } else { function })
    }

    /// Gives a function new settings; what is absent stays.
    ///
    /// # Errors
    /// There is no such function, it is at another revision, or a setting breaks a constraint.
    pub fn update_configuration(
        &self,
        function: &str,
        request: UpdateFunctionConfiguration,
    ) -> Result<Arc<Function>, ApiError> {
        let UpdateFunctionConfiguration { revision_id, settings } = request;
        let mut violations = Violations::default();
        validate::check_settings(&settings, &mut violations);
        violations.finish()?;
        let name = self.resolve_unqualified(function)?.name.clone();
        let layers = self.layers_of(settings.layers.as_deref())?;
        let measured = self.function(&name);
        if let (Some(layers), Some(before)) = (&layers, &measured) {
            check_sizes(&self.packages, (&before.location, &before.code), layers)?;
        }
        self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            check_settled(before)?;
            check_revision(before, revision_id.as_deref())?;
            let mut function = Function::clone(before);
            if let Some(layers) = layers {
                function.layers = layers;
                // Nor has code that came meanwhile been measured with these layers.
                if measured.is_none_or(|measured| measured.location != function.location) {
                    check_sizes(&self.packages, (&function.location, &function.code), &function.layers)?;
                }
            }
            validate::apply_settings(settings, &mut function)?;
            self.name_vpc(&mut function, before.vpc.as_ref());
            validate::check_mandatory(&function)?;
            validate::snap_start::check(&function, self.options.experimental_snap_start)?;
            function.last_update_status = LastUpdateStatus::Successful;
            function.last_update_reason = None;
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })
    }

    /// Has the code or image in place that a request brings.
    fn source_of_request(&self, code: &FunctionCode, architectures: &[String]) -> Result<Source, ApiError> {
        let Some(uri) = &code.image_uri else {
            return self.code_of_request(code).map(Source::Package);
        };
        let architecture = architectures.first().map_or("x86_64", String::as_str);
        self.see_image(uri, uri, architecture)
    }

    /// Deletes a function, or the one version of it that a qualifier names. Invocations in flight keep the code that they run.
    /// A function that is gone is returned.
    ///
    /// # Errors
    /// There is no such function or version; or an alias stands for the version.
    pub fn delete(&self, function: &str, qualifier: Option<&str>) -> Result<Option<Arc<Function>>, ApiError> {
        let (reference, qualifier) = self.reference(function, qualifier)?;
        if qualifier.as_deref() == Some(LATEST) {
            return Err(ApiError::invalid(
                "$LATEST version cannot be deleted without deleting the function.",
            ));
        }
        let found = self.own(&reference).ok_or_else(|| self.not_found(&reference, None))?;
        if let Some(qualifier) = &qualifier {
            return self.delete_version(&found.name, qualifier).map(|()| None);
        }
        let gone = self.change(|functions| match functions.get(&found.name) {
            Some(function) => Ok(Edit::Remove(Arc::clone(function))),
            None => Err(self.not_found(&reference, None)),
        });
        gone.map(Some)
    }

    /// Changes what lies around a function (URL, tags, policy): its environments stay.
    pub(super) fn change_around(
        &self,
        function: &str,
        edit: impl FnOnce(&mut Function) -> Result<(), ApiError>,
    ) -> Result<Arc<Function>, ApiError> {
        let name = self.resolve_unqualified(function)?.name.clone();
        self.change(|functions| {
            let before = functions.get(&name).ok_or_else(|| self.missing(&name))?;
            let mut function = Function::clone(before);
            edit(&mut function)?;
            if function == **before {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            Ok(Edit::Put(Box::new(function), Fresh::Around))
        })
    }

    /// Says which VPC each subnet is in that there is; a function's `VpcId` is of its first one.
    pub fn know_subnets(&self, subnets: BTreeMap<String, String>) {
        *self.subnets.write().unwrap_or_else(PoisonError::into_inner) = subnets;
    }

    /// Names the VPC that a function's subnets are in. One whose subnets nobody knows has none, unless it was named `before`,
    /// when they were known.
    pub(super) fn name_vpc(&self, function: &mut Function, before: Option<&VpcConfig>) {
        let Some(vpc) = &mut function.vpc else { return };
        let first = vpc.subnet_ids.first();
        let subnets = self.subnets.read().unwrap_or_else(PoisonError::into_inner);
        let known = first.and_then(|id| subnets.get(id)).cloned();
        let stood = before.filter(|before| before.subnet_ids.first() == first);
        vpc.vpc_id = known.or_else(|| stood?.vpc_id.clone());
    }

    /// A function of this account with AWS's defaults and no code yet.
    pub(super) fn blank(&self, name: &str) -> Function {
        let mut function = Function::new(name, Default::default());
        function.arn = name::function_arn(&self.options.region, &self.options.account_id, name);
        function
    }

    pub(super) fn missing(&self, name: &str) -> ApiError {
        self.not_found(&name::FunctionReference::bare(name), None)
    }

    /// Checks everything that the service model says of a new function, and reads its name.
    fn new_name(
        &self,
        name: Option<&str>,
        settings: &Settings,
        no_code: bool,
        more: impl FnOnce(&mut Violations),
    ) -> Result<String, ApiError> {
        let mut violations = Violations::default();
        if no_code {
            violations.missing("code");
        }
        if settings.role.is_none() {
            violations.missing("role");
        }
        if name.is_none() {
            violations.missing("functionName");
        }
        validate::check_settings(settings, &mut violations);
        more(&mut violations);
        violations.finish()?;
        self.bare_name(name.unwrap_or_default())
    }

    /// The bare name of a function to be created; any form without a qualifier may say it.
    pub(super) fn bare_name(&self, text: &str) -> Result<String, ApiError> {
        let (reference, qualifier) = self.reference(text, None)?;
        if qualifier.is_some() {
            return Err(ApiError::invalid(
                "A function is created without a qualifier: leave out what follows the name.",
            ));
        }
        if reference.account.as_ref().is_some_and(|account| *account != self.options.account_id) {
            return Err(self.not_found(&reference, None));
        }
        if reference.name.len() > FUNCTION_NAME_MAX {
            let constraint = format!("Member must have length less than or equal to {FUNCTION_NAME_MAX}");
            let error = ApiError::validation(&reference.name, "functionName", &constraint);
            // Recorded so: the framework's words under Lambda's own code.
            return Err(error.with_code(ErrorCode::InvalidParameterValue));
        }
        Ok(reference.name)
    }

    fn check_free(&self, name: &str) -> Result<(), ApiError> {
        if self.function(name).is_some() { Err(taken(name)) } else { Ok(()) }
    }
}

/// What a function runs.
pub(super) enum Source {
    Package(Package),
    Image(Image),
    /// An image that has to be fetched.
    Pull(Pull),
}

impl Source {
    pub(super) fn put_into(self, function: &mut Function) {
        match self {
            Source::Package(package) => set_code(function, package),
            Source::Image(image) => set_image(function, image),
            Source::Pull(pull) => await_image(function, pull),
        }
    }

    fn is_pull(&self) -> bool {
        matches!(self, Source::Pull(_))
    }

    /// Says whether a version is to be published of what has to be fetched.
    fn publishing(mut self, publish: bool) -> Self {
        if let Source::Pull(pull) = &mut self {
            pull.publish = publish;
        }
        self
    }
}

/// Refuses code that is not of the function's kind.
fn check_source(is_image: bool, code: &FunctionCode, doing: &str) -> Result<(), ApiError> {
    match (is_image, code.image_uri.is_some()) {
        (true, false) => Err(ApiError::invalid(format!(
            "Please provide ImageUri when {doing} a function with packageType Image."
        ))),
        (false, true) => Err(ApiError::invalid(format!(
            "Please don't provide ImageUri when {doing} a function with packageType Zip."
        ))),
        _ => Ok(()),
    }
}

pub(super) fn set_code(function: &mut Function, package: Package) {
    function.code = package.path;
    function.location = package.location;
    function.code_sha256 = package.sha256;
    function.code_size = package.size;
    function.lease = package.lease;
    function.package_type = PackageType::Zip;
    function.image = None;
    function.settle();
}

/// A function whose image is still to come as its caller sees it: under the number of the version that will be published.
fn as_if_published(function: Arc<Function>) -> Arc<Function> {
    match &function.pull {
        Some(pull) if pull.publish => {
            let version = (function.published.last_version + 1).to_string();
            let code_sha256 = pull.digest.clone().unwrap_or_default();
            Arc::new(Function { version, code_sha256, ..Function::clone(&function) })
        }
        _ => function,
    }
}

fn taken(name: &str) -> ApiError {
    ApiError::new(ErrorCode::ResourceConflict, format!("Function already exist: {name}"))
}

pub(super) fn check_revision(function: &Function, asked: Option<&str>) -> Result<(), ApiError> {
    match asked {
        Some(asked) if asked != function.revision_id => Err(ApiError::new(
            ErrorCode::PreconditionFailed,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )),
        _ => Ok(()),
    }
}
