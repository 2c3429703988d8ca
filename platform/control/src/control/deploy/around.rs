//! What a template says around a function: versions, aliases with weights, provisioned concurrency, permissions and the
//! URLs of aliases. Put on a function in one change, and the same again after a restart.

use super::super::alias::settle_routing;
use super::super::policy::{policy_mut, statement_of};
use super::super::provisioned::now_requested;
use super::super::url::url_of;
use super::super::version::{Copies, publish_into};
use super::super::{Control, Functions};
use crate::function::{Function, PolicyStatement};
use crate::published::{Alias, FromTemplate};
use crate::request::{Around, DeployVersion};
use model::error::ApiError;
use model::name::LATEST;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions that are kept of those that `AutoPublishAlias` made. Ours: AWS keeps all, but here every save makes one.
const FOLLOWED_MAX: usize = 10;

impl Control {
    /// Makes a function's surroundings be as the template says. What an earlier template put there and this one does not
    /// name is taken away, except for versions, which stay (SAM retains them, too); what came through the API stays.
    ///
    /// # Errors
    /// As AWS would answer: a version that does not exist, weights that make no sense, too much provisioned.
    pub(super) fn surround(
        &self,
        functions: &Functions,
        function: &mut Function,
        around: &Around,
        copies: &Copies,
    ) -> Result<(), ApiError> {
        let before = std::mem::take(&mut function.published.template);
        let mut now = FromTemplate { followed: before.followed.clone(), ..FromTemplate::default() };
        let mut numbers = BTreeMap::from([(LATEST.to_owned(), LATEST.to_owned())]);
        for (index, version) in around.versions.iter().enumerate() {
            let number = publish_one(function, &before, version, copies)?;
            now.versions.insert(version.id.clone(), number);
            if version.follows {
                now.following.insert(number);
                now.followed.insert(number);
            }
            numbers.insert((index + 1).to_string(), number.to_string());
        }
        // A version that the template names by its number alone is meant as it is.
        let number_of = |text: &String| numbers.get(text).unwrap_or(text).clone();
        let mut provisioned = BTreeMap::new();
        for (version, number) in around.versions.iter().zip(now.versions_in(around)) {
            provisioned.extend(version.provisioned.map(|wanted| (number.to_string(), wanted)));
        }
        for alias in &around.aliases {
            let old = function.published.aliases.get(&alias.name).cloned();
            let mut wanted = Alias {
                name: alias.name.clone(),
                version: number_of(&alias.version),
                description: alias.description.clone(),
                routing: alias.routing.as_ref().map(|(version, weight)| (number_of(version), *weight)),
                revision_id: old.as_ref().map(|old| old.revision_id.clone()).unwrap_or_default(),
            };
            settle_routing(self, function, &wanted)?;
            if old.as_ref() != Some(&wanted) {
                wanted.revision_id = self.fresh_id()?;
            }
            function.published.aliases.insert(alias.name.clone(), wanted);
            provisioned.extend(alias.provisioned.map(|wanted| (alias.name.clone(), wanted)));
            now.aliases.insert(alias.name.clone());
        }
        for gone in before.aliases.difference(&now.aliases) {
            function.published.aliases.remove(gone);
            function.published.forget(gone);
        }
        for gone in before.provisioned.iter().filter(|name| !provisioned.contains_key(*name)) {
            function.published.provisioned.remove(gone);
        }
        for (qualifier, requested) in provisioned {
            let known = function.published.provisioned.get(&qualifier).map(|known| known.requested);
            if known != Some(requested) {
                self.check_provisioned(functions, function, &qualifier, requested)?;
                function.published.provisioned.insert(qualifier.clone(), now_requested(requested));
            }
            now.provisioned.insert(qualifier);
        }
        allow(function, around, &before, &mut now);
        let time = crate::clock::now();
        for (alias, settings) in &around.urls {
            let mut url = url_of(function, Some(alias), settings.clone(), &time)?;
            if let Some(old) = function.published.urls.get(alias) {
                url.keep_times(old);
            }
            function.published.urls.insert(alias.clone(), url);
            now.urls.insert(alias.clone());
        }
        for gone in before.urls.difference(&now.urls) {
            function.published.urls.remove(gone);
        }
        function.published.template = now;
        forget_old(function);
        Ok(())
    }

    /// Copies of a function's folders that versions can keep, if any are to be published.
    pub(super) fn copies_for(&self, function: &Function, versions: usize) -> Result<Copies, ApiError> {
        if versions == 0 { Ok(Copies::default()) } else { self.copies_of(function) }
    }

    /// Publishes a function whose code has changed, where the template has an alias that follows it
    /// (`AutoPublishAlias`), and points that alias at the new version.
    pub(super) fn follow(&self, function: &mut Function, copies: &Copies) -> Result<(), ApiError> {
        let template = function.published.template.clone();
        if template.following.is_empty() {
            return Ok(());
        }
        // Published with the change that makes it: the key is given with that change.
        function.version_key = 0;
        publish_into(function, None, copies)?;
        let latest = function.published.last_version;
        let revision = self.fresh_id()?;
        for alias in
            function.published.aliases.values_mut().filter(|one| template.aliases.contains(&one.name))
        {
            let follows = alias.version.parse().is_ok_and(|number: u64| template.following.contains(&number));
            if follows && alias.version != latest.to_string() {
                alias.version = latest.to_string();
                alias.revision_id.clone_from(&revision);
            }
        }
        let template = &mut function.published.template;
        for number in template.versions.values_mut().filter(|number| template.following.contains(number)) {
            *number = latest;
        }
        template.following = [latest].into();
        template.followed.insert(latest);
        forget_old(function);
        Ok(())
    }
}

/// Drops the oldest versions that followed their function, beyond [`FOLLOWED_MAX`], unless something still names them.
fn forget_old(function: &mut Function) {
    let published = &mut function.published;
    let named = |number: &u64| {
        let number = number.to_string();
        published.provisioned.contains_key(&number)
            || published.aliases.values().any(|alias| {
                alias.version == number || alias.routing.as_ref().is_some_and(|(other, _)| *other == number)
            })
    };
    let spare = published.template.followed.len().saturating_sub(FOLLOWED_MAX);
    let old: Vec<u64> =
        published.template.followed.iter().copied().take(spare).filter(|number| !named(number)).collect();
    for number in old {
        published.template.followed.remove(&number);
        published.versions.remove(&number);
        published.forget(&number.to_string());
        function.event_invoke.remove(&number.to_string());
    }
}

/// The number of one version of the template, published if it is new. CloudFormation publishes once for each logical id;
/// what SAM makes for `AutoPublishAlias` gets another id whenever the function changes, so it is published anew.
fn publish_one(
    function: &mut Function,
    before: &FromTemplate,
    version: &DeployVersion,
    copies: &Copies,
) -> Result<u64, ApiError> {
    if let Some(number) = before.versions.get(&version.id)
        && let Some(found) = function.published.versions.get(number)
        // One that follows is still the same where nothing changed since, though it need not be the last one that there was.
        && (!version.follows || found.source_key == function.version_key)
    {
        return Ok(*number);
    }
    publish_into(function, version.description.clone(), copies)?;
    Ok(function.published.last_version)
}

/// Puts the template's statements into the policies, behind those that came through the API.
fn allow(function: &mut Function, around: &Around, before: &FromTemplate, now: &mut FromTemplate) {
    for (qualifier, request) in &around.permissions {
        let id = request.statement_id.clone().unwrap_or_default();
        let arn = super::super::policy::arn_of(function, qualifier.as_deref());
        let document = statement_of(request, &id, &arn);
        let policy = policy_mut(function, qualifier.as_deref());
        match policy.iter_mut().find(|statement| statement.id == id) {
            Some(statement) => statement.document = document,
            None => policy.push(PolicyStatement { id: id.clone(), document }),
        }
        now.statements.insert((qualifier.clone(), id));
    }
    for (qualifier, id) in before.statements.difference(&now.statements) {
        policy_mut(function, qualifier.as_deref()).retain(|statement| statement.id != *id);
    }
    function.published.policies.retain(|_, policy| !policy.is_empty());
}

impl FromTemplate {
    /// The numbers of the template's versions, in its order.
    fn versions_in<'a>(&'a self, around: &'a Around) -> impl Iterator<Item = u64> + 'a {
        around.versions.iter().filter_map(|version| self.versions.get(&version.id).copied())
    }
}

/// Whether publishing can be left out: nothing changed since each version of the template was published.
pub(super) fn is_published(before: Option<&Arc<Function>>, around: &Around, same: bool) -> bool {
    let Some(before) = before.filter(|_| same) else { return around.versions.is_empty() };
    around.versions.iter().all(|version| {
        let number = before.published.template.versions.get(&version.id);
        let found = number.and_then(|number| before.published.versions.get(number));
        found.is_some_and(|found| !version.follows || found.source_key == before.version_key)
    })
}
