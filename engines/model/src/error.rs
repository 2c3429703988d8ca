//! The one table of AWS's error codes: status, casing of the message member, and whose fault it is.
//!
//! Source: the Lambda service model (botocore `lambda/2015-03-31`, read 2026-07), published; messages that were
//! recorded on AWS are kept beside the code that says them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::fmt;

/// How an error writes its text: `message` in some shapes, `Message` in others, and clients look for the exact one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageMember {
    /// `message`
    Lower,
    /// `Message`
    Upper,
}

impl MessageMember {
    /// The JSON key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "message",
            Self::Upper => "Message",
        }
    }
}

/// The `Type` member: who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: `"Type":"User"`.
    User,
    /// The service: `"Type":"Service"`.
    Service,
    /// Errors of the framework in front of Lambda carry no `Type`.
    Framework,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $member:ident, $fault:ident;)*) => {
        /// The code of an AWS error: what `x-amzn-ErrorType` says and what SDKs make an exception class of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status; always 4xx or 5xx.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => { const { assert!($status >= 400 && $status < 600) }; $status })* }
            }

            /// The casing of the message member.
            pub const fn message_member(self) -> MessageMember {
                match self { $(Self::$variant => MessageMember::$member,)* }
            }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }
        }
    };
}

error_codes! {
    /// The caller may not do this.
    AccessDenied = "AccessDeniedException", 403, Upper, Framework;
    /// There is no such code signing configuration.
    CodeSigningConfigNotFound = "CodeSigningConfigNotFoundException", 404, Upper, User;
    /// Stored code would pass the account's quota.
    CodeStorageExceeded = "CodeStorageExceededException", 400, Lower, User;
    /// The execution role may not make network interfaces.
    Ec2AccessDenied = "EC2AccessDeniedException", 502, Upper, Service;
    /// EC2 throttled the making of an interface.
    Ec2Throttled = "EC2ThrottledException", 502, Upper, Service;
    /// EC2 said something else.
    Ec2Unexpected = "EC2UnexpectedException", 502, Upper, Service;
    /// Temporary credentials have ended.
    ExpiredToken = "ExpiredTokenException", 403, Lower, Framework;
    /// The signature lacks something. The status is that of API Gateway; Lambda's own is unconfirmed.
    IncompleteSignature = "IncompleteSignatureException", 403, Lower, Framework;
    /// The signature is wrong, too old, or for another Region or service.
    InvalidSignature = "InvalidSignatureException", 403, Lower, Framework;
    /// There is no signature.
    MissingAuthenticationToken = "MissingAuthenticationTokenException", 403, Lower, Framework;
    /// The access key or session token is unknown.
    UnrecognizedClient = "UnrecognizedClientException", 403, Lower, Framework;
    /// The network interface quota is used up.
    EniLimitReached = "ENILimitReachedException", 502, Upper, Service;
    /// The interface is being made.
    EniNotReady = "ENINotReadyException", 502, Upper, Service;
    /// A parameter is out of its range or contradicts another.
    InvalidParameterValue = "InvalidParameterValueException", 400, Lower, User;
    /// The payload is not JSON.
    InvalidRequestContent = "InvalidRequestContentException", 400, Lower, User;
    /// The runtime is not one that can run.
    InvalidRuntime = "InvalidRuntimeException", 502, Upper, Service;
    /// A security group does not exist.
    InvalidSecurityGroupId = "InvalidSecurityGroupIDException", 502, Upper, Service;
    /// A subnet does not exist.
    InvalidSubnetId = "InvalidSubnetIDException", 502, Upper, Service;
    /// The package cannot be unpacked.
    InvalidZipFile = "InvalidZipFileException", 502, Upper, Service;
    /// The path exists with another HTTP method.
    MethodNotAllowed = "MethodNotAllowedException", 405, Upper, Framework;
    /// AWS has this operation, Onrush does not run it yet. 501 because SDKs do not retry it.
    NotImplemented = "NotImplementedException", 501, Lower, Service;
    /// A resource policy would be too long.
    PolicyLengthExceeded = "PolicyLengthExceededException", 400, Lower, User;
    /// The given revision is not the latest.
    PreconditionFailed = "PreconditionFailedException", 412, Lower, User;
    /// The version or alias has no provisioned concurrency.
    ProvisionedConcurrencyConfigNotFound = "ProvisionedConcurrencyConfigNotFoundException", 404, Lower, User;
    /// The function called itself too often.
    RecursiveInvocation = "RecursiveInvocationException", 400, Upper, User;
    /// The request as a whole is too long; said by the framework before Lambda sees it.
    RequestEntityTooLarge = "RequestEntityTooLargeException", 413, Upper, User;
    /// The request did not come in its time. Source: Lambda API reference, "Common Error Types", published.
    RequestTimeout = "RequestTimeoutException", 408, Lower, User;
    /// The payload is too long.
    RequestTooLarge = "RequestTooLargeException", 413, Lower, User;
    /// The thing exists already, or is being changed.
    ResourceConflict = "ResourceConflictException", 409, Lower, User;
    /// The thing is referred to by another.
    ResourceInUse = "ResourceInUseException", 400, Upper, User;
    /// There is no such thing.
    ResourceNotFound = "ResourceNotFoundException", 404, Upper, User;
    /// The function is inactive and its network is being made again.
    ResourceNotReady = "ResourceNotReadyException", 502, Lower, Service;
    /// The body is no JSON, or a member has the wrong type.
    Serialization = "SerializationException", 400, Upper, User;
    /// The service failed; the log has the cause.
    Service = "ServiceException", 500, Upper, Service;
    /// A quota that is not a throttle.
    ServiceQuotaExceeded = "ServiceQuotaExceededException", 402, Upper, User;
    /// A SnapStart environment could not be restored.
    SnapStart = "SnapStartException", 400, Upper, User;
    /// Its after-restore hooks took too long.
    SnapStartTimeout = "SnapStartTimeoutException", 408, Upper, User;
    /// No free address in the subnets.
    SubnetIpAddressLimitReached = "SubnetIPAddressLimitReachedException", 502, Upper, Service;
    /// Too many at once, or too fast; [`ThrottleReason`] says which.
    TooManyRequests = "TooManyRequestsException", 429, Lower, User;
    /// The path belongs to no operation.
    UnknownOperation = "UnknownOperationException", 404, Upper, Framework;
    /// The content type is not JSON.
    UnsupportedMediaType = "UnsupportedMediaTypeException", 415, Lower, User;
    /// A parameter breaks the service model (length, range, pattern).
    Validation = "ValidationException", 400, Lower, Framework;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Why a request was throttled, as the `Reason` member of `TooManyRequestsException` says it.
///
/// Source: the Lambda service model, shape `ThrottleReason`, published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThrottleReason {
    /// The account's concurrency is used up, or environments cannot be added faster.
    ConcurrentInvocation,
    /// Requests per second of the account are used up.
    FunctionInvocationRate,
    /// The function's reserved concurrency is used up.
    ReservedFunctionConcurrentInvocation,
    /// Requests per second that the reserved concurrency allows are used up.
    ReservedFunctionInvocationRate,
    /// The control plane's own request rate.
    CallerRate,
}

impl ThrottleReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrentInvocation => "ConcurrentInvocationLimitExceeded",
            Self::FunctionInvocationRate => "FunctionInvocationRateLimitExceeded",
            Self::ReservedFunctionConcurrentInvocation => "ReservedFunctionConcurrentInvocationLimitExceeded",
            Self::ReservedFunctionInvocationRate => "ReservedFunctionInvocationRateLimitExceeded",
            Self::CallerRate => "CallerRateLimitExceeded",
        }
    }
}

/// An answer that is an error, as an AWS client sees it. Serialises to the JSON body of the wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The code, which fixes status and shape.
    pub code: ErrorCode,
    /// For people; never holds secrets.
    pub message: String,
    /// Only with [`ErrorCode::TooManyRequests`].
    pub reason: Option<ThrottleReason>,
}

impl ApiError {
    /// An error of that code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None }
    }

    /// A throttle with its reason; the text is the one that AWS sends.
    pub fn throttled(reason: ThrottleReason) -> Self {
        Self { code: ErrorCode::TooManyRequests, message: "Rate Exceeded.".to_owned(), reason: Some(reason) }
    }

    /// `InvalidParameterValueException` with that text.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, message)
    }

    /// A member breaks one constraint of the service model, worded as the framework words it.
    pub fn validation(value: &str, member: &str, constraint: &str) -> Self {
        Self::validations(&[Violation::of(value, member, constraint)])
    }

    /// Several members break the service model at once.
    pub fn validations(violations: &[Violation]) -> Self {
        let plural = if violations.len() == 1 { "error" } else { "errors" };
        let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
        let message = format!("{} validation {plural} detected: {}", violations.len(), list.join("; "));
        Self::new(ErrorCode::Validation, message)
    }

    /// The same text under another code; some recorded answers wear the framework's words with Lambda's code.
    #[must_use]
    pub fn with_code(self, code: ErrorCode) -> Self {
        Self { code, ..self }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(reason) = self.reason {
            map.serialize_entry("Reason", reason.as_str())?;
        }
        match self.code.fault() {
            Fault::User => map.serialize_entry("Type", "User")?,
            Fault::Service => map.serialize_entry("Type", "Service")?,
            Fault::Framework => {}
        }
        map.serialize_entry(self.code.message_member().as_str(), &self.message)?;
        map.end()
    }
}

/// Characters of a caller's value that an error repeats, so that no answer is as long as the request.
const SHOWN_MAX: usize = 2_048;

/// One member that breaks a constraint of the service model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What was sent; `None` when the member is missing.
    pub value: Option<String>,
    /// The member, in the casing of the framework: `vpcConfig.subnetIds`.
    pub member: String,
    /// What it must satisfy: `Member must have length less than or equal to 64`.
    pub constraint: String,
}

impl Violation {
    /// A value that breaks the constraint; a very long one is shown in part.
    pub fn of(value: impl Into<String>, member: impl Into<String>, constraint: impl Into<String>) -> Self {
        let mut value = value.into();
        if let Some((end, _)) = value.char_indices().nth(SHOWN_MAX) {
            value.truncate(end);
            value.push('…');
        }
        Self { value: Some(value), member: member.into(), constraint: constraint.into() }
    }

    /// A required member that is not there.
    pub fn missing(member: impl Into<String>) -> Self {
        Self { value: None, member: member.into(), constraint: "Member must not be null".to_owned() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(formatter, "Value '{value}'")?,
            None => formatter.write_str("Value null")?,
        }
        write!(formatter, " at '{}' failed to satisfy constraint: {}", self.member, self.constraint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert!(ErrorCode::ALL[..index].iter().all(|other| other.as_str() != code.as_str()), "{code}");
        }
    }

    #[test]
    fn a_fault_of_the_service_is_a_5xx_and_the_other_way_round() {
        for code in ErrorCode::ALL {
            match code.fault() {
                Fault::Service => assert!(code.status() >= 500, "{code}"),
                Fault::User | Fault::Framework => assert!(code.status() < 500, "{code}"),
            }
        }
    }

    #[test]
    fn casing_and_status_follow_the_service_model() {
        let row = |code: ErrorCode| (code.status(), code.message_member().as_str());
        assert_eq!(row(ErrorCode::InvalidParameterValue), (400, "message"));
        assert_eq!(row(ErrorCode::ResourceConflict), (409, "message"));
        assert_eq!(row(ErrorCode::ResourceNotFound), (404, "Message"));
        assert_eq!(row(ErrorCode::Service), (500, "Message"));
        assert_eq!(row(ErrorCode::PreconditionFailed), (412, "message"));
        assert_eq!(row(ErrorCode::ResourceNotReady), (502, "message"));
    }

    #[test]
    fn very_long_values_are_shown_in_part() {
        let error = ApiError::validation(&"ä".repeat(1_000_000), "description", "too long");
        assert!(error.message.len() < 5_000 && error.message.contains("ää…' at 'description'"));
    }

    #[test]
    fn validation_counts_its_errors() {
        let one = ApiError::validation("x", "functionName", "Member must not be null");
        assert_eq!(
            one.message,
            "1 validation error detected: Value 'x' at 'functionName' failed to satisfy constraint: Member must not be null"
        );
        let two =
            ApiError::validations(&[Violation::missing("role"), Violation::of("0", "timeout", "too low")]);
        assert!(two.message.starts_with("2 validation errors detected: Value null at 'role' failed"));
    }
}
