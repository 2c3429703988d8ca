//! What becomes of asynchronous events, for each qualifier of a function.

use super::Control;
use crate::function::{EventInvokeConfig, Function};
use crate::validate::Violations;
use model::error::{ApiError, ErrorCode};
use model::name::{self, LATEST};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// MaximumRetryAttempts. Source: Lambda API reference, PutFunctionEventInvokeConfig, published.
pub const RETRIES: RangeInclusive<u8> = 0..=2;
/// MaximumEventAgeInSeconds. Source as above.
pub const EVENT_AGE_S: RangeInclusive<u32> = 60..=21_600;
/// Longest ARN of a destination. Source as above.
const DESTINATION_MAX: usize = 350;

impl Control {
    /// The function, and what becomes of the events that a qualifier of it receives.
    ///
    /// # Errors
    /// There is no such function or qualifier, or it has no configuration.
    pub fn get_event_invoke(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, EventInvokeConfig), ApiError> {
        let (function, qualifier) = self.resolve_existing(function, qualifier)?;
        let qualifier = qualifier.as_deref().unwrap_or(LATEST);
        match function.event_invoke.get(qualifier) {
            Some(config) => {
                let config = config.clone();
                Ok((function, config))
            }
            None => Err(none(&function, qualifier)),
        }
    }

    /// Says what becomes of a qualifier's events, in place of what was said before. The time of change is set here.
    ///
    /// # Errors
    /// There is no such function or qualifier, or a member breaks a constraint.
    pub fn put_event_invoke(
        &self,
        function: &str,
        qualifier: Option<&str>,
        mut config: EventInvokeConfig,
    ) -> Result<Arc<Function>, ApiError> {
        check(&config)?;
        config.last_modified_ms = crate::clock::unix_millis();
        let (function, qualifier) = self.resolve_existing(function, qualifier)?;
        let (name, qualifier) = (function.name.clone(), qualifier.unwrap_or_else(|| LATEST.to_owned()));
        self.change_around(&name, |function| {
            function.event_invoke.insert(qualifier, config);
            Ok(())
        })
    }

    /// Takes a qualifier's configuration away: Lambda's defaults hold again.
    ///
    /// # Errors
    /// There is no such function or qualifier, or it has no configuration.
    pub fn delete_event_invoke(&self, function: &str, qualifier: Option<&str>) -> Result<(), ApiError> {
        let (function, qualifier) = self.resolve_existing(function, qualifier)?;
        let (name, qualifier) = (function.name.clone(), qualifier.as_deref().unwrap_or(LATEST));
        self.change_around(&name, |function| match function.event_invoke.remove(qualifier) {
            Some(_) => Ok(()),
            None => Err(none(function, qualifier)),
        })?;
        Ok(())
    }
}

/// Checks what the service model says of the members.
///
/// # Errors
/// As AWS words them.
pub(super) fn check(config: &EventInvokeConfig) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    let mut range = |value: u32, member: &str, least: u32, most: u32| {
        if value < least {
            let constraint = format!("Member must have value greater than or equal to {least}");
            violations.add(value.to_string(), member, constraint);
        } else if value > most {
            let constraint = format!("Member must have value less than or equal to {most}");
            violations.add(value.to_string(), member, constraint);
        }
    };
    if let Some(retries) = config.maximum_retry_attempts {
        range(retries.into(), "maximumRetryAttempts", (*RETRIES.start()).into(), (*RETRIES.end()).into());
    }
    if let Some(age) = config.maximum_event_age {
        range(age, "maximumEventAgeInSeconds", *EVENT_AGE_S.start(), *EVENT_AGE_S.end());
    }
    for (arn, side) in [(&config.on_success, "onSuccess"), (&config.on_failure, "onFailure")] {
        let Some(arn) = arn else { continue };
        let member = format!("destinationConfig.{side}.destination");
        if arn.len() > DESTINATION_MAX {
            let constraint = format!("Member must have length less than or equal to {DESTINATION_MAX}");
            violations.add(arn, &member, constraint);
        } else if !arn.is_empty() && !is_arn(arn) {
            let pattern =
                r"^$|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:([a-z]{2}(-gov)?-[a-z]+-\d{1})?:(\d{12})?:(.*)";
            let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
            violations.add(arn, &member, constraint);
        }
    }
    violations.finish()
}

/// `arn:aws…:SERVICE:REGION:ACCOUNT:…`; Region and account may be empty.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, service, _, account, _] = parts[..] else { return false };
    let is_word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_account =
        account.is_empty() || (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()));
    arn == "arn" && partition.starts_with("aws") && is_word(partition) && is_word(service) && is_account
}

fn none(function: &Function, qualifier: &str) -> ApiError {
    let arn = name::qualified_arn(&function.arn, qualifier);
    ApiError::new(
        ErrorCode::ResourceNotFound,
        format!("The function {arn} doesn't have an EventInvokeConfig"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_arns_are_those_of_the_service_model() {
        let good = EventInvokeConfig {
            maximum_retry_attempts: Some(0),
            maximum_event_age: Some(60),
            on_success: Some("arn:aws:sqs:us-east-1:000000000000:done".to_owned()),
            on_failure: Some("arn:aws:s3:::bucket".to_owned()),
            last_modified_ms: 0,
        };
        check(&good).unwrap();
        let bad = EventInvokeConfig {
            maximum_retry_attempts: Some(3),
            maximum_event_age: Some(59),
            on_success: Some("queue".to_owned()),
            on_failure: Some(format!("arn:aws:sqs:us-east-1:000000000000:{}", "x".repeat(350))),
            last_modified_ms: 0,
        };
        let text = check(&bad).unwrap_err().message;
        assert!(text.starts_with("4 validation errors detected: "), "{text}");
        for member in ["maximumRetryAttempts", "maximumEventAgeInSeconds", "onSuccess", "onFailure"] {
            assert!(text.contains(member), "{text}");
        }
        for text in ["arn:aws", "arn:aws:sqs:r:12:x", "arn::sqs:r::x", "urn:aws:sqs:r::x"] {
            assert!(!is_arn(text), "{text}");
        }
    }
}
