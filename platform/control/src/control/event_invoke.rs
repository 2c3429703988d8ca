//! What becomes of asynchronous events, for each qualifier of a function.

use super::Control;
use crate::function::{EventInvokeConfig, Function};
use crate::validate::{Violations, is_fifo};
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
        let (function, qualifier) = self.configured(function, qualifier)?;
        match function.event_invoke.get(&qualifier).cloned() {
            Some(config) => Ok((function, config)),
            None => Err(none(&function.arn, &qualifier)),
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
        let (function, qualifier) = self.resolve_existing(function, qualifier).map_err(no_function)?;
        self.check_destinations(&function, &config)?;
        let (name, qualifier) = (function.name.clone(), qualifier.unwrap_or_else(|| LATEST.to_owned()));
        self.change_around(&name, |function| {
            function.event_invoke.insert(qualifier, config);
            Ok(())
        })
    }

    /// Checks that there is something to configure.
    ///
    /// # Errors
    /// There is no such function or qualifier: said in other words than elsewhere.
    pub fn event_invoke_owner(&self, function: &str, qualifier: Option<&str>) -> Result<(), ApiError> {
        self.resolve_existing(function, qualifier).map(drop).map_err(no_function)
    }

    /// Takes a qualifier's configuration away: Lambda's defaults hold again.
    ///
    /// # Errors
    /// There is no such function or qualifier, or it has no configuration.
    pub fn delete_event_invoke(&self, function: &str, qualifier: Option<&str>) -> Result<(), ApiError> {
        let (function, qualifier) = self.configured(function, qualifier)?;
        self.change_around(&function.name, |function| match function.event_invoke.remove(&qualifier) {
            Some(_) => Ok(()),
            None => Err(none(&function.arn, &qualifier)),
        })?;
        Ok(())
    }

    /// The function and the qualifier of a configuration that should be there.
    fn configured(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, String), ApiError> {
        let (reference, beside) = self.reference(function, qualifier)?;
        let beside = beside.unwrap_or_else(|| LATEST.to_owned());
        match self.resolve_with_qualifier(function, qualifier) {
            Ok((function, _)) => Ok((function, beside)),
            Err(error) if error.code == ErrorCode::ResourceNotFound => {
                let options = self.options();
                Err(none(&name::function_arn(&options.region, &options.account_id, &reference.name), &beside))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks what the destinations are.
    ///
    /// Source: recorded on AWS, answers of PutFunctionEventInvokeConfig. That a bucket takes failures alone, and a queue
    /// or topic that keeps its order nothing, is published (Developer Guide, "Retaining records of asynchronous invocations"),
    /// with which text is not.
    fn check_destinations(&self, function: &Function, config: &EventInvokeConfig) -> Result<(), ApiError> {
        let sides = [(&config.on_success, true), (&config.on_failure, false)];
        let service = |arn: &str| arn.split(':').nth(2).unwrap_or_default().to_owned();
        let is_known = |arn: &str, is_success: bool| match service(arn).as_str() {
            "lambda" | "events" => true,
            "sqs" | "sns" => !is_fifo(arn),
            "s3" => !is_success,
            _ => false,
        };
        for (arn, is_success) in sides {
            let Some(arn) = arn.as_deref().filter(|arn| !arn.is_empty()) else { continue };
            if !is_known(arn, is_success) {
                let side = |word: &str, arn: &Option<String>| match arn {
                    Some(arn) if !arn.is_empty() => format!("{word}(destination={arn})"),
                    _ => "null".to_owned(),
                };
                return Err(ApiError::invalid(format!(
                    "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid.",
                    side("OnSuccess", &config.on_success),
                    side("OnFailure", &config.on_failure)
                )));
            }
            if service(arn) != "lambda" {
                continue;
            }
            match self.resolve(arn, None) {
                Ok(found) if found.name == function.name => {
                    return Err(ApiError::invalid(
                        "You can't specify the function as a destination for itself.",
                    ));
                }
                Ok(_) => {}
                Err(_) => {
                    return Err(ApiError::invalid(format!("The destination ARN {arn} is invalid.")));
                }
            }
        }
        Ok(())
    }
}

/// Recorded so: what is set for a function or qualifier that is not there.
fn no_function(error: ApiError) -> ApiError {
    match error.code {
        ErrorCode::ResourceNotFound => ApiError::new(error.code, "The function doesn't exist."),
        _ => error,
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

fn none(arn: &str, qualifier: &str) -> ApiError {
    let arn = name::qualified_arn(arn, qualifier);
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
