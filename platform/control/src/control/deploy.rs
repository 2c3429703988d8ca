//! A template's functions: created, updated, or left alone when nothing differs.

mod around;
mod layer;

use super::function::{Source, set_code};
use super::pull::{await_image, has_ticket};
use super::url::url_of;
use super::version::Copies;
use super::{Control, Edit, Fresh};
use crate::function::{Function, PackageType, State};
use crate::image::{Image, Pull};
use crate::package::Location;
use crate::request::{Around, Deploy, DeployCode};
use crate::validate::{self, Violations};
use model::error::{ApiError, ErrorCode};
use std::sync::Arc;

/// How often a function is read again that was changed between its reading and its writing.
const DEPLOY_TRIES: u32 = 8;

/// What stood before a deployment of a function, and what came of it.
pub(super) type Deployed = (Option<Arc<Function>>, Arc<Function>);

impl Control {
    /// Makes a function be as the template says, whatever it was before. Environments of an unchanged function stay.
    /// A changed reservation is told as [`super::Change::Reserved`] only if nothing else changed, otherwise it comes
    /// with the [`super::Change::Put`].
    ///
    /// # Errors
    /// As AWS would answer the template.
    ///
    /// An image that has to be fetched is fetched in the background: the function is Pending, or runs as it was, until all of
    /// this is done once more with the image at hand.
    pub fn deploy(&self, request: Deploy) -> Result<Arc<Function>, ApiError> {
        Ok(self.deploy_noted(request)?.1)
    }

    /// The same, with what stood before the very write: `None` for a function that is new.
    pub(super) fn deploy_noted(&self, request: Deploy) -> Result<Deployed, ApiError> {
        self.deploy_with(request, None)
    }

    /// The same with the image that was fetched for it, as long as the function still waits for that very one: it may have
    /// been deleted or changed meanwhile, and then stays so.
    pub(super) fn deploy_image(
        &self,
        request: Deploy,
        image: Image,
        ticket: &str,
    ) -> Result<Arc<Function>, ApiError> {
        Ok(self.deploy_with(request, Some((image, ticket)))?.1)
    }

    fn deploy_with(&self, request: Deploy, fetched: Option<(Image, &str)>) -> Result<Deployed, ApiError> {
        let (image, ticket) = fetched.unzip();
        let again = matches!(request.code, DeployCode::Image { .. }).then(|| Box::new(request.clone()));
        let (wanted, around, pull) = self.wanted(request, image)?;
        if let Some(pull) = pull {
            let mut stood = None;
            let function = self.change(|functions| {
                let before = functions.get(&wanted.name);
                stood = before.cloned();
                let runs = before.filter(|before| before.state == State::Active);
                let mut function = runs.map_or(wanted, |before| Function::clone(before));
                if let (None, Some(before)) = (runs, before) {
                    carry_over(before, &mut function);
                }
                if before.and_then(|before| before.reserved) != function.reserved {
                    self.check_floor(functions, &function.name, function.reserved)?;
                }
                await_image(&mut function, pull);
                Ok(Edit::Put(Box::new(function), if runs.is_some() { Fresh::Around } else { Fresh::Version }))
            })?;
            self.pull(&function, again);
            return Ok((stood, function));
        }
        self.write_over_read(&wanted, &around, ticket, || self.function(&wanted.name))
    }

    /// Writes a function as the template says it over the state that `read` gives, and reads again where that is no longer the
    /// state.
    ///
    /// # Errors
    /// `ResourceConflictException` after [`DEPLOY_TRIES`] such changes.
    fn write_over_read(
        &self,
        wanted: &Function,
        around: &Around,
        ticket: Option<&str>,
        read: impl Fn() -> Option<Arc<Function>>,
    ) -> Result<Deployed, ApiError> {
        for _ in 0..DEPLOY_TRIES {
            if let Some(deployed) = self.write_deployed(wanted, around, ticket, read())? {
                return Ok(deployed);
            }
        }
        Err(ApiError::new(
            ErrorCode::ResourceConflict,
            format!("{} is changed through the API all the time: deploy it again.", wanted.name),
        ))
    }

    /// Writes a function as the template says it, if it still is as it was read (`before`); `None` when it was changed
    /// meanwhile, so that the change is seen before it is written over.
    fn write_deployed(
        &self,
        wanted: &Function,
        around: &Around,
        ticket: Option<&str>,
        before: Option<Arc<Function>>,
    ) -> Result<Option<Deployed>, ApiError> {
        let name = wanted.name.clone();
        let reserved = wanted.reserved;
        let unchanged = before.as_ref().is_some_and(|before| {
            let mut function = wanted.clone();
            carry_over(before, &mut function);
            same_version(before, &function)
        });
        let copies = if around::is_published(before.as_ref(), around, unchanged) {
            Copies::default()
        } else {
            self.copies_for(wanted, around.versions.len())?
        };
        let mut is_other = false;
        let written = self.change(|functions| {
            let (read, before) = (before.as_ref(), functions.get(&name));
            is_other = !is_same(read, before);
            if is_other {
                // Nothing is written.
                return Ok(Edit::Keep(Arc::new(wanted.clone())));
            }
            if let Some(ticket) = ticket {
                let before = before.ok_or_else(|| self.missing(&name))?;
                if !has_ticket(before, ticket) {
                    return Ok(Edit::Keep(Arc::clone(before)));
                }
            }
            if before.and_then(|before| before.reserved) != reserved {
                self.check_floor(functions, &name, reserved)?;
            }
            let mut function = wanted.clone();
            let Some(before) = before else {
                self.surround(functions, &mut function, around, &copies)?;
                return Ok(Edit::Put(Box::new(function), Fresh::Version));
            };
            carry_over(before, &mut function);
            let same = same_version(before, &function);
            if !same {
                // What is published with this change is published from what it makes.
                function.version_key = 0;
            }
            self.surround(functions, &mut function, around, &copies)?;
            if function == **before {
                return Ok(Edit::Keep(Arc::clone(before)));
            }
            if same {
                if only_reserved(before, &function) {
                    return Ok(Edit::Reserve(Box::new(function)));
                }
                return Ok(Edit::Put(Box::new(function), Fresh::Around));
            }
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })?;
        Ok((!is_other).then_some((before, written)))
    }

    /// Looks again at the user's own folder behind a function. An edit makes a new version, so that no environment
    /// goes on with half of it; everything else stays as it is. Whether there was one.
    ///
    /// # Errors
    /// The folder cannot be read, or the change cannot be stored.
    pub fn refresh_code(&self, name: &str) -> Result<bool, ApiError> {
        let Some(before) = self.function(name) else { return Ok(false) };
        let Location::Folder(folder) = &before.location else { return Ok(false) };
        let package = self.code_of_deploy(&DeployCode::Folder(folder.clone()), before.runtime.as_deref())?;
        // The path, too: a folder may have been closed to others as a whole.
        if package.sha256 == before.code_sha256 && package.path == before.code {
            return Ok(false);
        }
        let copies = self.copies_for(&before, before.published.template.following.len())?;
        let now = self.change(|functions| {
            let current = functions.get(name).unwrap_or(&before);
            if current.location != before.location || !functions.contains_key(name) {
                return Ok(Edit::Keep(Arc::clone(current)));
            }
            let mut function = Function::clone(current);
            set_code(&mut function, package);
            self.follow(&mut function, &copies)?;
            Ok(Edit::Put(Box::new(function), Fresh::Version))
        })?;
        Ok(now.version_key != before.version_key)
    }

    /// The function as the template says it, all checked.
    fn wanted(
        &self,
        request: Deploy,
        image: Option<Image>,
    ) -> Result<(Function, Around, Option<Pull>), ApiError> {
        let Deploy {
            name,
            logical_id,
            code,
            architecture,
            mut settings,
            layers,
            reserved,
            url,
            event_invoke,
            tags,
            around,
        } = request;
        let name = self.bare_name(&name)?;
        let architectures = architecture.map(|architecture| vec![architecture]);
        let mut violations = Violations::default();
        validate::check_settings(&settings, &mut violations);
        validate::check_architectures(architectures.as_deref(), &mut violations);
        validate::check_tags(&tags, &mut violations);
        for cors in url.iter().chain(around.urls.values()).filter_map(|url| url.cors.as_ref()) {
            validate::check_cors(cors, &mut violations);
        }
        violations.finish()?;
        validate::check_tag_rules(&tags)?;
        super::layer::check_distinct(layers.iter().map(|layer| layer.arn.as_str()))?;
        if layers.len() > validate::LAYERS_MAX {
            return Err(ApiError::invalid(format!(
                "Cannot reference more than {} layers.",
                validate::LAYERS_MAX
            )));
        }
        let mut function = self.blank(&name);
        function.logical_id = logical_id;
        function.reserved = reserved;
        function.tags = tags;
        function.event_invoke = event_invoke;
        for config in function.event_invoke.values_mut() {
            super::event_invoke::check(config)?;
            config.last_modified_ms = crate::clock::unix_millis();
        }
        function.architectures = architectures.unwrap_or(function.architectures);
        settings.layers = None;
        settings.role = settings.role.or_else(|| Some(self.default_role()));
        if let DeployCode::Image { .. } = code {
            function.package_type = PackageType::Image;
        }
        validate::apply_settings(settings, &mut function)?;
        validate::snap_start::check(&function, self.options.experimental_snap_start)?;
        validate::check_mandatory(&function)?;
        self.name_vpc(&mut function, None);
        function.layers = layers;
        if let DeployCode::Image { uri, source } = &code {
            let source = match image {
                Some(image) => Source::Image(image),
                None => self.image_of_deploy(&function, uri, source)?,
            };
            source.put_into(&mut function);
        } else {
            let package = self.code_of_deploy(&code, function.runtime.as_deref())?;
            set_code(&mut function, package);
            let code = (&function.location, &*function.code);
            super::layer::check_sizes(&self.packages, code, &function.layers)?;
        }
        if let Some(url) = url {
            function.url = Some(url_of(&function, None, url, &crate::clock::now())?);
        }
        let pull = function.pull.take();
        Ok((function, around, pull))
    }

    /// Roles are read but never assumed, so a template without one gets a name that says so.
    fn default_role(&self) -> String {
        let partition = model::name::partition_of(&self.options.region);
        format!("arn:{partition}:iam::{}:role/onrush-default", self.options.account_id)
    }
}

/// Whether a function is the very one that was read: any change makes another value.
fn is_same(read: Option<&Arc<Function>>, now: Option<&Arc<Function>>) -> bool {
    match (read, now) {
        (Some(read), Some(now)) => Arc::ptr_eq(read, now),
        (read, now) => read.is_none() && now.is_none(),
    }
}

/// What belongs to the function's history and not to the template.
fn carry_over(before: &Function, function: &mut Function) {
    function.revision_id.clone_from(&before.revision_id);
    function.version_key = before.version_key;
    function.last_modified.clone_from(&before.last_modified);
    function.policy.clone_from(&before.policy);
    for (qualifier, config) in &mut function.event_invoke {
        let Some(old) = before.event_invoke.get(qualifier) else { continue };
        let modified = std::mem::replace(&mut config.last_modified_ms, old.last_modified_ms);
        if config != old {
            config.last_modified_ms = modified;
        }
    }
    function.published.clone_from(&before.published);
    if let (Some(url), Some(old)) = (&mut function.url, &before.url) {
        url.keep_times(old);
    }
}

/// Whether environments of the one may serve the other: nothing differs but what lies around a function, and what is known of
/// its subnets.
fn same_version(before: &Function, after: &Function) -> bool {
    let mut after = Function {
        reserved: before.reserved,
        tags: before.tags.clone(),
        url: before.url.clone(),
        event_invoke: before.event_invoke.clone(),
        logical_id: before.logical_id.clone(),
        ..after.clone()
    };
    if let (Some(vpc), Some(old)) = (&mut after.vpc, &before.vpc) {
        vpc.vpc_id.clone_from(&old.vpc_id);
    }
    after == *before
}

pub(super) fn only_reserved(before: &Function, after: &Function) -> bool {
    Function { reserved: before.reserved, ..after.clone() } == *before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{FoundImage, ImageFault, ImageRoot, ImageSettings, Images, Sight};
    use crate::request::Settings;
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::path::Path;

    #[derive(Debug)]
    struct Elsewhere;

    impl Images for Elsewhere {
        fn look(&self, source: &str, _: &str) -> Result<Sight, ImageFault> {
            Ok(Sight::Elsewhere { source: source.to_owned(), digest: None })
        }

        fn fetch(&self, _: &str, _: &str, _: &dyn Fn() -> bool) -> Result<FoundImage, ImageFault> {
            Err(ImageFault::Failed("not in this test".to_owned()))
        }

        fn find(&self, _: &str) -> Option<FoundImage> {
            None
        }

        fn keep(&self, _: HashSet<String>) {}
    }

    fn open(folder: &Path) -> Control {
        let options = crate::Options {
            data_dir: folder.to_owned(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            account_concurrency: 1_000,
            unreserved_minimum: 100,
            experimental_snap_start: false,
            passable: false,
        };
        Control::open(options, Box::new(|_| {})).unwrap()
    }

    /// What a deployment of `cart`, with a description, makes of it while the API changes it after each of the first `changes`
    /// readings: the outcome, and how often it read.
    fn deploy_between(control: &Control, changes: u32) -> (Result<Deployed, ApiError>, u32) {
        let request = Deploy {
            name: "cart".to_owned(),
            code: DeployCode::Inline("def handler(event, context): return 1".to_owned()),
            settings: Settings {
                runtime: Some("python3.13".to_owned()),
                handler: Some("index.handler".to_owned()),
                description: Some("of the template".to_owned()),
                ..Settings::default()
            },
            ..Deploy::default()
        };
        let first = Deploy {
            settings: Settings { description: None, ..request.settings.clone() },
            ..request.clone()
        };
        control.deploy(first).unwrap();
        let (wanted, around, _) = control.wanted(request, None).unwrap();
        let reads = Cell::new(0);
        let deployed = control.write_over_read(&wanted, &around, None, || {
            let read = control.function("cart");
            reads.set(reads.get() + 1);
            if reads.get() <= changes {
                control.put_concurrency("cart", Some(i64::from(reads.get()))).unwrap();
            }
            read
        });
        (deployed, reads.get())
    }

    #[test]
    fn what_the_api_changes_between_reading_and_writing_is_seen_before_it_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        for changes in [0, 1, DEPLOY_TRIES - 1] {
            let (deployed, reads) = deploy_between(&control, changes);
            let (stood, written) = deployed.unwrap();
            assert_eq!(reads, changes + 1);
            assert_eq!(stood.unwrap().reserved, (changes > 0).then_some(changes), "the last change is seen");
            assert_eq!((written.reserved, written.description.as_str()), (None, "of the template"));
            assert!(Arc::ptr_eq(&written, &control.function("cart").unwrap()), "and is what stands");
        }
    }

    #[test]
    fn a_deployment_gives_up_on_a_function_that_changes_at_each_try() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path());
        let (deployed, reads) = deploy_between(&control, u32::MAX);
        let error = deployed.unwrap_err();
        assert_eq!(error.code, ErrorCode::ResourceConflict, "{}", error.message);
        assert_eq!(reads, DEPLOY_TRIES);
        let stands = control.function("cart").unwrap();
        assert_eq!(
            (stands.reserved, stands.description.as_str()),
            (Some(DEPLOY_TRIES), ""),
            "nothing is written"
        );
    }

    #[test]
    fn an_image_that_comes_too_late_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path()).with_images(Arc::new(Elsewhere));
        let request = Deploy {
            name: "cart".to_owned(),
            code: DeployCode::Image { uri: "a".to_owned(), source: "a".to_owned() },
            ..Deploy::default()
        };
        let image = || {
            let root = ImageRoot { layers: vec!["/layer".into()], lease: None };
            let (id, digest) = ("a".to_owned(), "digest".to_owned());
            Image::new("a", FoundImage { id, digest, settings: ImageSettings::default(), root })
        };
        let error = control.deploy_image(request.clone(), image(), "gone").unwrap_err();
        assert_eq!(error.code, ErrorCode::ResourceNotFound, "{}", error.message);
        assert!(control.function("cart").is_none(), "a deleted function stays deleted");
        let waits = control.deploy(request.clone()).unwrap();
        let kept = control.deploy_image(request.clone(), image(), "older").unwrap();
        assert_eq!((kept.state, kept.revision_id.as_str()), (State::Pending, waits.revision_id.as_str()));
        let ticket = &waits.pull.as_ref().unwrap().ticket;
        assert_eq!(control.deploy_image(request, image(), ticket).unwrap().state, State::Active);
    }
}
