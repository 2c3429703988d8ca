//! What a template says around its functions: versions, aliases, permissions, URLs of aliases.

use super::url_settings;
use control::{AddPermission, Around, DeployAlias, DeployVersion};
use model::name::LATEST;
use model::stack::{Function, FunctionTarget, Permission, Stack};

/// Everything that belongs to one function.
pub fn of(stack: &Stack, function: &Function) -> Around {
    let own = |link: &model::stack::Link| link.logical() == Some(&function.id);
    let qualifier =
        |target: &FunctionTarget| target.qualifier.clone().filter(|qualifier| qualifier != LATEST);
    let mut versions: Vec<_> = stack.versions.iter().filter(|version| own(&version.function)).collect();
    // Aliases call them by these numbers.
    versions.sort_by_key(|version| version.version.parse::<u64>().ok());
    Around {
        versions: versions
            .into_iter()
            .map(|version| DeployVersion {
                id: version.id.clone(),
                description: version.description.clone(),
                follows: version.follows,
                provisioned: version.provisioned_concurrency,
            })
            .collect(),
        aliases: stack
            .aliases
            .iter()
            .filter(|alias| own(&alias.function))
            .map(|alias| DeployAlias {
                name: alias.name.clone(),
                version: alias.version.clone(),
                description: alias.description.clone(),
                routing: alias.weights.first_key_value().map(|(version, weight)| (version.clone(), *weight)),
                provisioned: alias.provisioned_concurrency,
            })
            .collect(),
        permissions: stack
            .permissions
            .iter()
            .filter(|permission| own(&permission.target.function))
            .map(|permission| (qualifier(&permission.target), statement(permission)))
            .collect(),
        urls: stack
            .function_urls
            .iter()
            .filter(|url| own(&url.target.function))
            .filter_map(|url| Some((qualifier(&url.target)?, url_settings(url))))
            .collect(),
    }
}

/// The statement that CloudFormation adds: its id holds the logical id.
fn statement(permission: &Permission) -> AddPermission {
    AddPermission {
        statement_id: Some(permission.id.clone()),
        action: Some(permission.action.clone()),
        principal: Some(permission.principal.clone()),
        source_arn: permission.source_arn.clone(),
        source_account: permission.source_account.clone(),
        function_url_auth_type: permission.function_url_auth_type.clone(),
        invoked_via_function_url: permission.invoked_via_function_url,
        event_source_token: permission.event_source_token.clone(),
        principal_org_id: permission.principal_org_id.clone(),
        revision_id: None,
    }
}
