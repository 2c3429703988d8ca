//! Who may pass: signatures where keys are configured, resource policies where they are enforced.

use crate::arrival::Destination;
use crate::body::{self, BodyError, Incoming};
use crate::event::IamCaller;
use crate::lambda_rest::too_slow;
use crate::router::Doors;
use crate::signature::{self, Signer};
use control::access::{Question, allows};
use control::{AuthType, FunctionUrl};
use http::request::Parts;
use model::error::{ApiError, ErrorCode};
use model::name::partition_of;
use model::stack::ApiRoute;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Largest request whose signature is verified, in bytes: the largest of the control plane.
pub(crate) const SIGNED_BYTES_MAX: usize = 70_167_211;
/// Doors that are warned of once.
const WARNED_MAX: usize = 10_000;

/// What becomes of a request that AWS would refuse for want of a permission in the function's resource policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// It is run, and the missing permission is named in the log, once for each door.
    #[default]
    Warn,
    /// It is refused, as AWS does.
    Enforce,
}

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Warned(Mutex<HashSet<String>>);

impl Warned {
    fn first(&self, word: String) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < WARNED_MAX && said.insert(word)
    }
}

impl Doors {
    /// Whether signatures are verified; without keys everybody is anonymous local use.
    pub(crate) fn verifies(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks a request's signature, for `region` or for any, over its whole body of at most `limit` bytes; the body is
    /// given back.
    pub(crate) async fn authenticate(
        &self,
        head: &Parts,
        incoming: Incoming,
        (region, service): (Option<&str>, Option<&str>),
        limit: usize,
    ) -> Result<(Signer, Incoming), ApiError> {
        let now_s = telemetry::unix_millis() / 1_000;
        let scope = signature::Scope { region, service, now_s };
        let pending = signature::begin(&self.keys, head, scope)?;
        let body = body::read(incoming, limit).await.map_err(|error| match error {
            BodyError::TooLarge => {
                let message = format!("Request must be smaller than {limit} bytes");
                ApiError::new(ErrorCode::RequestEntityTooLarge, message)
            }
            BodyError::TooSlow => too_slow(),
            BodyError::Broken => {
                ApiError::new(ErrorCode::InvalidRequestContent, "The request's body did not arrive.")
            }
        })?;
        let (signer, body) = pending.finish(head, body)?;
        Ok((signer, Incoming::Whole(body)))
    }

    /// The same for a door that asks for `AWS_IAM`. Without keys any signature does, but there must be one. The signer is
    /// who the request says.
    pub(crate) async fn authenticate_door(
        &self,
        head: &Parts,
        incoming: Incoming,
        service: &str,
        limit: usize,
    ) -> Result<(Signer, Incoming), ApiError> {
        if self.verifies() {
            return self.authenticate(head, incoming, (Some(&self.region), Some(service)), limit).await;
        }
        let presigned = head.uri.query().unwrap_or_default().contains("X-Amz-Signature=");
        if presigned || head.headers.contains_key(http::header::AUTHORIZATION) {
            let access_key_id = signature::access_key_id_of(head).unwrap_or_default().to_owned();
            let in_session = head.headers.contains_key("x-amz-security-token");
            let region = self.region.clone();
            let signer = Signer { access_key_id, account_id: None, region, in_session };
            return Ok((signer, incoming));
        }
        Err(ApiError::new(ErrorCode::MissingAuthenticationToken, "Missing Authentication Token"))
    }

    /// An API's host name at AWS, as events have it.
    pub(crate) fn gateway_name(&self, api_id: &str) -> String {
        format!("{api_id}.execute-api.{}.{}", self.region, model::name::dns_suffix_of(&self.region))
    }

    /// A signer as an event says who it is.
    pub(crate) fn caller<'a>(&'a self, signer: &'a Signer) -> IamCaller<'a> {
        IamCaller {
            access_key_id: &signer.access_key_id,
            account_id: signer.account_id.as_deref().unwrap_or(&self.home_account_id),
            partition: partition_of(&self.region),
        }
    }

    /// Whether a caller who signed may call a function URL: any of the function's account, and of another those that its
    /// policy names. Both permissions are asked for, as of anybody.
    pub(crate) fn lets_signer(&self, destination: &Destination, signer: &Signer) -> bool {
        let account = self.caller(signer).account_id;
        if account == self.account_id {
            return true;
        }
        let question = Question {
            action: "lambda:InvokeFunctionUrl",
            account: Some(account),
            function_url_auth_type: Some("AWS_IAM"),
            via_function_url: true,
            ..Question::default()
        };
        let policy = destination.function.policy_of(destination.qualifier.as_deref());
        let invoke = Question { action: "lambda:InvokeFunction", ..question };
        allows(policy, &question) && allows(policy, &invoke)
    }

    /// Whether a function URL may be called by anybody, or whether that is let pass.
    pub(crate) fn lets_in(&self, destination: &Destination, url: &FunctionUrl) -> bool {
        if url.auth_type == AuthType::AwsIam || destination.is_public {
            return true;
        }
        let name = &destination.function.name;
        if self.permissions == Permissions::Warn {
            if self.warned.first(format!("url {}", url.id)) {
                tracing::warn!(
                    function = %name,
                    alias = destination.qualifier.as_deref(),
                    "AWS would answer 403: the policy of this function URL lacks lambda:InvokeFunctionUrl (FunctionUrlAuthType NONE) or lambda:InvokeFunction (InvokedViaFunctionUrl true) for Principal *; `up --permissions enforce` refuses, too"
                );
            }
            return true;
        }
        tracing::info!(function = %name, "refused: no permission lets anybody call this function URL");
        false
    }

    /// Whether an API may invoke what a route leads to, or whether that is let pass.
    pub(crate) fn lets_api(
        &self,
        api_id: &str,
        stage: &str,
        route: &ApiRoute,
        method: &str,
        to: &Destination,
    ) -> bool {
        let start = format!(
            "arn:{}:execute-api:{}:{}:{}/{stage}",
            partition_of(&self.region),
            self.region,
            self.account_id,
            api_id
        );
        let path = &route.path;
        let arn = if route.route_key == "$default" {
            format!("{start}/$default")
        } else {
            format!("{start}/{method}{path}")
        };
        self.lets_gateway(&arn, format_args!("api {api_id} {}", route.route_key), to)
    }

    /// Whether an API may ask its authorizer's function, or whether that is let pass.
    pub(crate) fn lets_authorizer(&self, api_id: &str, authorizer_id: &str, to: &Destination) -> bool {
        let (region, account) = (&self.region, &self.account_id);
        let arn = format!(
            "arn:{}:execute-api:{region}:{account}:{api_id}/authorizers/{authorizer_id}",
            partition_of(region)
        );
        self.lets_gateway(&arn, format_args!("authorizer {api_id} {authorizer_id}"), to)
    }

    fn lets_gateway(&self, arn: &str, door: std::fmt::Arguments<'_>, to: &Destination) -> bool {
        let policy = to.function.policy_of(to.qualifier.as_deref());
        let question = Question {
            action: "lambda:InvokeFunction",
            service: Some("apigateway.amazonaws.com"),
            source_arn: Some(arn),
            source_account: Some(&self.account_id),
            ..Question::default()
        };
        if allows(policy, &question) {
            return true;
        }
        let name = &to.function.name;
        if self.permissions == Permissions::Enforce {
            tracing::info!(function = %name, source_arn = arn, "refused: no permission lets apigateway.amazonaws.com invoke the function");
            return false;
        }
        if self.warned.first(format!("{door} {name}")) {
            tracing::warn!(
                function = %name,
                source_arn = arn,
                "AWS would answer 500: no permission (AWS::Lambda::Permission) lets apigateway.amazonaws.com invoke the function for this API; `up --permissions enforce` refuses, too"
            );
        }
        true
    }
}
