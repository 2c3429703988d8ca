//! What belongs to functions: layers, URLs, versions, aliases, permissions, roles.

use super::function::{build_method, is_dynamic, metadata_text};
use super::{Builder, Fields, Item, bad_name, choice, place, span};
use crate::identity::Attribute;
use crate::problem::{Problem, quoted};
use crate::resolve::json;
use model::name::is_alias_name;
use model::stack::{
    Alias, AuthType, Cors, EventInvokeConfig, Function, FunctionTarget, FunctionUrl, InvokeMode, Layer, Link,
    Permission, Role, Version,
};
use std::collections::BTreeMap;

/// How old an asynchronous event may become, and how often it is tried again (Lambda API reference,
/// "PutFunctionEventInvokeConfig").
const EVENT_AGE_S: std::ops::RangeInclusive<u32> = 60..=21_600;
/// See [`EVENT_AGE_S`].
const RETRIES: std::ops::RangeInclusive<u32> = 0..=2;

impl Builder<'_, '_> {
    /// Builds a resource of a Lambda type or a role; false when it is none.
    pub(super) fn lambda(&mut self, item: &Item<'_>) -> bool {
        match item.kind {
            "AWS::Lambda::Function" => self.lambda_function(item),
            "AWS::Lambda::LayerVersion" => self.layer(item),
            "AWS::Lambda::Url" => self.function_url(item),
            "AWS::Lambda::Permission" => {
                let Some(target) = self.target(&item.fields, "FunctionName") else { return true };
                let text = |key: &str, builder: &mut Self| item.fields.string(key, &mut builder.problems);
                let permission = Permission {
                    id: item.id.to_owned(),
                    place: item.place(),
                    action: text("Action", self).unwrap_or_default(),
                    principal: text("Principal", self).unwrap_or_default(),
                    target,
                    source_arn: text("SourceArn", self),
                    source_account: text("SourceAccount", self),
                    function_url_auth_type: text("FunctionUrlAuthType", self),
                    invoked_via_function_url: item
                        .fields
                        .get("InvokedViaFunctionUrl")
                        .map(|_| item.fields.boolean("InvokedViaFunctionUrl", false, &mut self.problems)),
                    event_source_token: text("EventSourceToken", self),
                    principal_org_id: text("PrincipalOrgID", self),
                };
                self.stack.permissions.push(permission);
            }
            "AWS::Lambda::Version" => {
                let Some(target) = self.target(&item.fields, "FunctionName") else { return true };
                let version = Version {
                    id: item.id.to_owned(),
                    place: item.place(),
                    function: target.function,
                    version: (self.resolver.resources[item.index].number + 1).to_string(),
                    description: item.fields.string("Description", &mut self.problems),
                    follows: item.fields.get(crate::sam::FOLLOWS).is_some(),
                    provisioned_concurrency: self.provisioned(&item.fields),
                };
                self.stack.versions.push(version);
            }
            "AWS::Lambda::Alias" => {
                let node = item.fields.require("Name", &mut self.problems);
                let name = node.and_then(|node| node.string(&mut self.problems));
                if let (Some(node), Some(name)) = (node, name)
                    && !is_alias_name(name)
                    && !is_dynamic(name)
                {
                    let rule = "1 to 128 of a-z, A-Z, 0-9, - and _, and not digits alone, as versions are";
                    self.problems.push(bad_name(node, "the alias", rule));
                }
                let (Some(target), Some(name)) = (self.target(&item.fields, "FunctionName"), name) else {
                    return true;
                };
                let alias = Alias {
                    id: item.id.to_owned(),
                    place: item.place(),
                    function: target.function,
                    name: name.to_owned(),
                    version: item
                        .fields
                        .string("FunctionVersion", &mut self.problems)
                        .unwrap_or_else(|| "$LATEST".into()),
                    description: item.fields.string("Description", &mut self.problems).unwrap_or_default(),
                    weights: self.weights(item),
                    provisioned_concurrency: self.provisioned(&item.fields),
                };
                self.stack.aliases.push(alias);
            }
            "AWS::IAM::Role" => self.role(item),
            // Joined to its function once all are known.
            "AWS::Lambda::EventInvokeConfig" => {}
            _ => return false,
        }
        true
    }

    /// Joins what says how asynchronous invocations go to the functions, and finds names given twice.
    pub(super) fn join_functions(&mut self, items: &[Item<'_>]) {
        for item in items.iter().filter(|item| item.kind == "AWS::Lambda::EventInvokeConfig") {
            let Some(target) = self.target(&item.fields, "FunctionName") else { continue };
            let fields = &item.fields;
            let destinations = fields.inner("DestinationConfig", &mut self.problems);
            let mut destination = |key: &str| {
                let one = destinations.as_ref()?.inner(key, &mut self.problems)?;
                one.string("Destination", &mut self.problems)
            };
            let (on_success, on_failure) = (destination("OnSuccess"), destination("OnFailure"));
            let mut number = |key, unit, range, default| {
                fields.number(key, unit, range, &mut self.problems).unwrap_or(default)
            };
            let config = EventInvokeConfig {
                maximum_event_age_s: number("MaximumEventAgeInSeconds", "", EVENT_AGE_S, 21_600),
                maximum_retry_attempts: number("MaximumRetryAttempts", "", RETRIES, 2),
                qualifier: fields.string("Qualifier", &mut self.problems).unwrap_or_else(|| "$LATEST".into()),
                on_success,
                on_failure,
            };
            if let Some(function) = self
                .stack
                .functions
                .iter_mut()
                .find(|function| Some(function.id.as_str()) == target.function.logical())
            {
                function.event_invoke.push(config);
            }
        }
        let mut names: BTreeMap<&str, &Function> = BTreeMap::new();
        for function in &self.stack.functions {
            if let Some(first) = names.insert(&function.name, function) {
                let message = format!("two functions are called {}", quoted(&function.name));
                let problem = Problem::at(span(function.place), message);
                self.problems.push(problem.related(span(first.place), "first here"));
            }
        }
    }

    fn layer(&mut self, item: &Item<'_>) {
        let Some(node) = item.fields.require("Content", &mut self.problems) else { return };
        let Some(code) = self.code(node, item) else { return };
        let name = self.resolver.identity(item.index).name();
        let layer = Layer {
            id: item.id.to_owned(),
            place: item.place(),
            name,
            arn: item.reference.to_owned(),
            code,
            code_place: place(node.span),
            asset_path: metadata_text(item, "aws:asset:path"),
            build_method: build_method(item),
            compatible_runtimes: item.fields.strings("CompatibleRuntimes", &mut self.problems),
            compatible_architectures: item.fields.strings("CompatibleArchitectures", &mut self.problems),
            description: item.fields.string("Description", &mut self.problems).unwrap_or_default(),
            license_info: item.fields.string("LicenseInfo", &mut self.problems),
        };
        self.stack.layers.push(layer);
    }

    fn function_url(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        const AUTH: &[(&str, AuthType)] = &[("NONE", AuthType::None), ("AWS_IAM", AuthType::AwsIam)];
        const MODES: &[(&str, InvokeMode)] =
            &[("BUFFERED", InvokeMode::Buffered), ("RESPONSE_STREAM", InvokeMode::ResponseStream)];
        let target = self.target(fields, "TargetFunctionArn");
        let auth = fields
            .require("AuthType", &mut self.problems)
            .and_then(|node| choice(node, AUTH, &mut self.problems));
        let mode = fields.get("InvokeMode").and_then(|node| choice(node, MODES, &mut self.problems));
        let cors = fields.inner("Cors", &mut self.problems).map(|cors| self.cors(&cors));
        let qualifier = fields.string("Qualifier", &mut self.problems);
        let (Some(target), Some(auth_type)) = (target, auth) else { return };
        let identity = self.resolver.identity(item.index);
        let Attribute::Text(url) = identity.attribute("FunctionUrl") else { return };
        self.stack.function_urls.push(FunctionUrl {
            id: item.id.to_owned(),
            place: item.place(),
            target: FunctionTarget { qualifier: qualifier.or(target.qualifier), ..target },
            url_id: identity.letters("url", 32),
            url,
            auth_type,
            invoke_mode: mode.unwrap_or_default(),
            cors,
        });
    }

    /// `AllowOrigins` and so on, as function URLs and HTTP APIs write them.
    pub(super) fn cors(&mut self, fields: &Fields<'_>) -> Cors {
        let problems = &mut self.problems;
        let cors = Cors {
            allow_origins: fields.strings("AllowOrigins", problems),
            allow_methods: fields.strings("AllowMethods", problems),
            allow_headers: fields.strings("AllowHeaders", problems),
            expose_headers: fields.strings("ExposeHeaders", problems),
            max_age_s: fields.number("MaxAge", "seconds", 0..=86_400, problems),
            allow_credentials: fields.boolean("AllowCredentials", false, problems),
        };
        if cors.allow_credentials && cors.allow_origins.iter().any(|origin| origin == "*") {
            let problem = Problem::at(fields.span, "credentials cannot be allowed to every origin");
            problems.push(problem.help("name the origins in AllowOrigins"));
        }
        cors
    }

    fn role(&mut self, item: &Item<'_>) {
        let fields = &item.fields;
        let identity = self.resolver.identity(item.index);
        let (name, arn) = (identity.name(), identity.arn());
        let mut policies = BTreeMap::new();
        for policy in fields.inners("Policies", &mut self.problems) {
            let name = policy.string("PolicyName", &mut self.problems);
            if let (Some(name), Some(document)) = (name, policy.get("PolicyDocument")) {
                policies.insert(name, json(document).to_string());
            }
        }
        let role = Role {
            id: item.id.to_owned(),
            place: item.place(),
            name,
            arn,
            managed_policies: fields.strings("ManagedPolicyArns", &mut self.problems),
            assume_role_policy: fields.get("AssumeRolePolicyDocument").map(|node| json(node).to_string()),
            policies,
        };
        self.stack.roles.push(role);
    }

    /// A property that names a function.
    fn target(&mut self, fields: &Fields<'_>, key: &str) -> Option<FunctionTarget> {
        let node = fields.require(key, &mut self.problems)?;
        let text = node.string(&mut self.problems)?;
        let target = self.links.function(text);
        if let Link::Literal(name) = &target.function {
            let message = format!("the function {} is not of this template", quoted(name));
            self.warnings.push(Problem::at(node.span, message));
        }
        Some(target)
    }

    /// `RoutingConfig` of an alias: one other version and its share (Lambda API reference, "AliasRoutingConfiguration").
    fn weights(&mut self, item: &Item<'_>) -> BTreeMap<String, f64> {
        let mut weights = BTreeMap::new();
        let Some(routing) = item.fields.inner("RoutingConfig", &mut self.problems) else { return weights };
        for other in routing.inners("AdditionalVersionWeights", &mut self.problems) {
            let version = other.require("FunctionVersion", &mut self.problems);
            let version = version.and_then(|node| node.string(&mut self.problems));
            let Some(node) = other.require("FunctionWeight", &mut self.problems) else { continue };
            let (Some(version), Some(weight)) = (version, node.number(&mut self.problems)) else { continue };
            if !(0.0..=1.0).contains(&weight) {
                let problem = Problem::at(node.span, "a weight is a number from 0.0 to 1.0");
                self.problems.push(problem.label(node.describe()));
                continue;
            }
            weights.insert(version.to_owned(), weight);
        }
        if weights.len() > 1 {
            let message = "Number of items in AdditionalVersionWeights cannot be greater than 1";
            self.problems.push(Problem::at(routing.span, message));
        }
        weights
    }

    fn provisioned(&mut self, fields: &Fields<'_>) -> Option<u32> {
        let config = fields.inner("ProvisionedConcurrencyConfig", &mut self.problems)?;
        let key = "ProvisionedConcurrentExecutions";
        config.require(key, &mut self.problems);
        config.number(key, "", 1..=i32::MAX as u32, &mut self.problems)
    }
}
