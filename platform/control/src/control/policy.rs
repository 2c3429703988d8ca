//! The resource policies of functions, versions and aliases; [`crate::access`] evaluates them.

use super::Control;
use crate::function::{Function, PolicyStatement};
use crate::published;
use crate::validate::{Violations, shown};
use model::error::{ApiError, ErrorCode, Violation};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Bytes of one policy. Source: Lambda quotas, "Resource-based policy 20 KB", published.
pub const POLICY_MAX: usize = 20 * 1024;
/// Characters of a principal and the like. Source: Lambda API reference, AddPermission, published.
const MEMBER_MAX: usize = 256;
/// Characters of the id of a user or role. Source: IAM User Guide, "Unique identifiers", published.
const PRINCIPAL_ID_MIN: usize = 16;

/// `AddPermission`; the function's name comes with the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddPermission {
    /// Unique in the policy.
    pub statement_id: Option<String>,
    /// `lambda:InvokeFunction` and the like.
    pub action: Option<String>,
    /// An account, a service, an ARN or `*`.
    pub principal: Option<String>,
    /// Only for calls on behalf of this resource.
    pub source_arn: Option<String>,
    /// Only for calls on behalf of this account.
    pub source_account: Option<String>,
    /// Only for URLs of this kind.
    pub function_url_auth_type: Option<String>,
    /// Only for calls through a URL.
    pub invoked_via_function_url: Option<bool>,
    /// Only for this event source token.
    pub event_source_token: Option<String>,
    /// Only for this organisation.
    #[serde(rename = "PrincipalOrgID")]
    pub principal_org_id: Option<String>,
    /// Only change this revision.
    pub revision_id: Option<String>,
}

impl Control {
    /// Adds a statement and returns it.
    ///
    /// # Errors
    /// A member is missing, the id is taken, or the policy would be too long.
    pub fn add_permission(
        &self,
        function: &str,
        qualifier: Option<&str>,
        request: &AddPermission,
    ) -> Result<Value, ApiError> {
        let members = [
            ("statementId", &request.statement_id),
            ("action", &request.action),
            ("principal", &request.principal),
        ];
        let missing: Vec<Violation> = members
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(member, _)| Violation::missing(*member))
            .collect();
        if !missing.is_empty() {
            return Err(ApiError::validations(&missing));
        }
        let id = request.statement_id.clone().unwrap_or_default();
        if id.is_empty()
            || id.len() > 100
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            let constraint = "Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)";
            return Err(ApiError::validation(&id.escape_debug().to_string(), "statementId", constraint));
        }
        let action = request.action.as_deref().unwrap_or_default();
        let name = action.strip_prefix("lambda:").unwrap_or_default();
        let is_action = action == "*"
            || name == "*"
            || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()));
        if !is_action {
            let constraint =
                "Member must satisfy regular expression pattern: (lambda:[*]|lambda:[a-zA-Z]+|[*])";
            return Err(ApiError::validation(&action.escape_debug().to_string(), "action", constraint));
        }
        if request.principal.as_deref().is_some_and(|text| !is_principal(text)) {
            return Err(ApiError::invalid(
                "The provided principal was invalid. Please check the principal and try again.",
            ));
        }
        check(request)?;
        let (owner, qualifier) = self.policy_target(function, qualifier)?;
        let mut added = Value::Null;
        let fresh = self.fresh_id()?;
        self.change_around(&owner, |function| {
            check_revision(function, qualifier.as_deref(), request.revision_id.as_deref())?;
            renew(function, qualifier.as_deref(), fresh);
            let arn = arn_of(function, qualifier.as_deref());
            let policy = policy_mut(function, qualifier.as_deref());
            if policy.iter().any(|statement| statement.id == id) {
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!("The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing statement."),
                ));
            }
            added = statement_of(request, &id, &arn);
            policy.push(PolicyStatement { id: id.clone(), document: added.clone() });
            let bytes = document(policy).to_string().len();
            if bytes > POLICY_MAX {
                return Err(ApiError::new(
                    ErrorCode::PolicyLengthExceeded,
                    format!("The final policy size ({bytes}) is bigger than the limit ({POLICY_MAX})."),
                ));
            }
            Ok(())
        })?;
        Ok(added)
    }

    /// Takes a statement away.
    ///
    /// # Errors
    /// There is no such function or statement, or the function is at another revision.
    pub fn remove_permission(
        &self,
        function: &str,
        qualifier: Option<&str>,
        id: &str,
        revision: Option<&str>,
    ) -> Result<(), ApiError> {
        let target = self.policy_target(function, qualifier);
        let (owner, qualifier) = target.map_err(|error| match self.resolve(function, None) {
            // Recorded so; a version or alias that is missing is said as elsewhere.
            Err(_) if error.code == ErrorCode::ResourceNotFound => {
                let message = error.message.replacen("Function not found", "No policy found for", 1);
                ApiError::new(error.code, message)
            }
            _ => error,
        })?;
        let fresh = self.fresh_id()?;
        self.change_around(&owner, |function| {
            check_revision(function, qualifier.as_deref(), revision)?;
            renew(function, qualifier.as_deref(), fresh);
            let policy = policy_mut(function, qualifier.as_deref());
            let before = policy.len();
            if before == 0 {
                // Recorded so.
                let message = "No policy is associated with the given resource.";
                return Err(ApiError::new(ErrorCode::ResourceNotFound, message));
            }
            policy.retain(|statement| statement.id != id);
            if policy.len() == before {
                return Err(ApiError::new(
                    ErrorCode::ResourceNotFound,
                    format!("Statement {} is not found in resource policy.", id.escape_debug()),
                ));
            }
            Ok(())
        })?;
        Ok(())
    }

    /// A whole policy, and the revision that it goes by.
    ///
    /// # Errors
    /// There is no such function, or it has no policy.
    pub fn policy(&self, function: &str, qualifier: Option<&str>) -> Result<(String, Value), ApiError> {
        let (function, qualifier) = self.resolve_with_qualifier(function, qualifier)?;
        let qualifier = qualifier.filter(|qualifier| qualifier != model::name::LATEST);
        let empty = Vec::new();
        let policy = match &qualifier {
            Some(qualifier) => function.published.policies.get(qualifier).unwrap_or(&empty),
            None => &function.policy,
        };
        if policy.is_empty() {
            return Err(ApiError::new(
                ErrorCode::ResourceNotFound,
                // Recorded so; RemovePermission says it in other words.
                "The resource you requested does not exist.",
            ));
        }
        let document = document(policy);
        Ok((revision_of(&function, qualifier.as_deref()).to_owned(), document))
    }

    /// The function, and the version or alias whose policy is meant.
    fn policy_target(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(String, Option<String>), ApiError> {
        let (function, qualifier) = self.resolve_with_qualifier(function, qualifier)?;
        match qualifier.as_deref() {
            Some(model::name::LATEST) => {
                return Err(ApiError::invalid("We currently do not support adding policies for $LATEST."));
            }
            Some(qualifier) => self.check_qualifier(&function, qualifier)?,
            None => {}
        }
        Ok((function.name.clone(), qualifier))
    }
}

pub(super) fn policy_mut<'a>(
    function: &'a mut Function,
    qualifier: Option<&str>,
) -> &'a mut Vec<PolicyStatement> {
    match qualifier {
        Some(qualifier) => function.published.policies.entry(qualifier.to_owned()).or_default(),
        None => &mut function.policy,
    }
}

pub(super) fn arn_of(function: &Function, qualifier: Option<&str>) -> String {
    match qualifier {
        Some(qualifier) => model::name::qualified_arn(&function.arn, qualifier),
        None => function.arn.clone(),
    }
}

/// Whether a text can be somebody: everybody, an account, an ARN, a service of Amazon's, or the id of a user or role.
///
/// Source: recorded on AWS, `invalid.nonaws.com` is refused; the services by the IAM User Guide, "Principal", published.
fn is_principal(text: &str) -> bool {
    let service = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".amazon.com"];
    let is_id = |text: &str| {
        text.len() >= PRINCIPAL_ID_MIN
            && text.starts_with('A')
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    !text.contains(char::is_whitespace)
        && (text == "*"
            || model::name::is_account(text)
            || text.starts_with("arn:")
            || service.iter().any(|end| text.ends_with(end))
            || is_id(text))
}

/// Checks lengths and patterns of the service model, and what goes with which action.
fn check(request: &AddPermission) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    let lengths = [(&request.principal, "principal"), (&request.event_source_token, "eventSourceToken")];
    for (value, member) in lengths {
        if let Some(value) = value {
            violations.length(value, member, MEMBER_MAX);
        }
    }
    if let Some(account) = &request.source_account {
        let fits = model::name::is_account(account);
        let shown: String = account.chars().take(MEMBER_MAX).collect();
        violations.pattern(fits, &shown.escape_debug().to_string(), "sourceAccount", r"\d{12}");
    }
    if let Some(source) = &request.source_arn {
        let pattern = r"arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
        violations.pattern(is_source_arn(source), &shown(source), "sourceArn", pattern);
    }
    if let Some(organisation) = &request.principal_org_id {
        violations.pattern(
            is_organisation(organisation),
            &shown(organisation),
            "principalOrgID",
            ORGANISATION_PATTERN,
        );
    }
    let kind = request.function_url_auth_type.as_deref();
    violations.one_of(kind, "functionUrlAuthType", &["NONE", "AWS_IAM"]);
    violations.finish()?;
    if kind.is_some() && request.action.as_deref() != Some("lambda:InvokeFunctionUrl") {
        // In AWS's words, as users of Terraform report them.
        return Err(ApiError::invalid(
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
        ));
    }
    Ok(())
}

/// The id of an organisation.
pub(super) const ORGANISATION_PATTERN: &str = "o-[a-z0-9]{10,32}";

pub(super) fn is_organisation(id: &str) -> bool {
    id.strip_prefix("o-").is_some_and(|rest| {
        (10..=32).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// Whether a text is the ARN of what calls: Region and account may be left out, wildcards in the rest.
fn is_source_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [scheme, partition, service, region, account, _] = parts.as_slice() else { return false };
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    *scheme == "arn"
        && partition.starts_with("aws")
        && word(partition)
        && !service.is_empty()
        && word(service)
        && (region.is_empty() || model::name::is_region(region))
        && (account.is_empty() || model::name::is_account(account))
}

fn document(policy: &[PolicyStatement]) -> Value {
    let statements: Vec<&Value> = policy.iter().map(|statement| &statement.document).collect();
    json!({"Version": "2012-10-17", "Id": "default", "Statement": statements})
}

/// An account as a principal, in the partition of the resource: `arn:aws:iam::123456789012:root`.
pub(super) fn account_root(resource: &str, account: &str) -> String {
    let partition = resource.split(':').nth(1).unwrap_or("aws");
    format!("arn:{partition}:iam::{account}:root")
}

pub(super) fn statement_of(request: &AddPermission, id: &str, arn: &str) -> Value {
    let principal = request.principal.as_deref().unwrap_or_default();
    let principal = match principal {
        "*" => json!("*"),
        service if service.contains('.') && !service.starts_with("arn:") => json!({"Service": service}),
        account if model::name::is_account(account) => json!({"AWS": account_root(arn, account)}),
        other => json!({"AWS": other}),
    };
    let mut conditions = Map::new();
    let mut add = |operator: &str, key: &str, value: Value| {
        let entry = conditions.entry(operator).or_insert_with(|| json!({}));
        entry[key] = value;
    };
    let texts = [
        ("StringEquals", "AWS:SourceAccount", &request.source_account),
        ("StringEquals", "lambda:FunctionUrlAuthType", &request.function_url_auth_type),
        ("StringEquals", "lambda:EventSourceToken", &request.event_source_token),
        ("StringEquals", "aws:PrincipalOrgID", &request.principal_org_id),
        ("ArnLike", "AWS:SourceArn", &request.source_arn),
    ];
    for (operator, key, value) in texts {
        if let Some(value) = value {
            add(operator, key, json!(value));
        }
    }
    if let Some(via) = request.invoked_via_function_url {
        add("Bool", "lambda:InvokedViaFunctionUrl", json!(via.to_string()));
    }
    let mut statement = json!({
        "Sid": id,
        "Effect": "Allow",
        "Principal": principal,
        "Action": request.action,
        "Resource": arn,
    });
    if !conditions.is_empty() {
        statement["Condition"] = Value::Object(conditions);
    }
    statement
}

/// The revision that a policy goes by: that of the alias or version that it is for, or the function's. Source: recorded on AWS.
fn revision_of<'a>(function: &'a Function, qualifier: Option<&str>) -> &'a str {
    let Some(qualifier) = qualifier else { return &function.revision_id };
    if let Some(alias) = function.published.aliases.get(qualifier) {
        return &alias.revision_id;
    }
    let version = published::number(qualifier).and_then(|number| function.published.versions.get(&number));
    version.map_or(&function.revision_id, |version| &version.revision_id)
}

/// An alias or version whose policy changes is at another revision; the function itself gets its own when it is stored. What
/// else a version is stays. Source: recorded on AWS for aliases; assumed for versions, whose RevisionId protects nothing else.
fn renew(function: &mut Function, qualifier: Option<&str>, fresh: String) {
    let Some(qualifier) = qualifier else { return };
    if let Some(alias) = function.published.aliases.get_mut(qualifier) {
        alias.revision_id = fresh;
        return;
    }
    let number = published::number(qualifier);
    if let Some(version) = number.and_then(|number| function.published.versions.get_mut(&number)) {
        Arc::make_mut(version).revision_id = fresh;
    }
}

fn check_revision(function: &Function, qualifier: Option<&str>, asked: Option<&str>) -> Result<(), ApiError> {
    match asked {
        Some(asked) if asked != revision_of(function, qualifier) => Err(ApiError::new(
            ErrorCode::PreconditionFailed,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )),
        _ => Ok(()),
    }
}
