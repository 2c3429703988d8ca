//! Function URLs.

use super::Control;
use crate::function::{AuthType, Function, FunctionUrl, InvokeMode};
use crate::request::UrlSettings;
use crate::validate::{self, Violations};
use model::error::{ApiError, ErrorCode, Violation};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const URL_ID_LENGTH: usize = 32;
/// A label of a host name holds no more.
const URL_ID_MAX: usize = 63;

impl Control {
    /// The function behind a URL's id. Cost: linear in the number of functions; doors keep a table of their own.
    pub fn function_of_url(&self, id: &str) -> Option<Arc<Function>> {
        let functions = self.snapshot();
        functions.values().find(|function| function.url.as_ref().is_some_and(|url| url.id == id)).cloned()
    }

    /// Gives a function a URL.
    ///
    /// # Errors
    /// It has one, or the settings break a constraint.
    pub fn create_url(&self, function: &str, settings: UrlSettings) -> Result<Arc<Function>, ApiError> {
        if settings.auth_type.is_none() {
            return Err(ApiError::validations(&[Violation::missing("authType")]));
        }
        check(&settings)?;
        self.change_around(function, |function| {
            if function.url.is_some() {
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!("Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for this Lambda function", function.arn),
                ));
            }
            function.url = Some(url_of(function, settings, &crate::clock::now())?);
            Ok(())
        })
    }

    /// Changes a function's URL; what is absent stays.
    ///
    /// # Errors
    /// It has none, or the settings break a constraint.
    pub fn update_url(&self, function: &str, settings: UrlSettings) -> Result<Arc<Function>, ApiError> {
        check(&settings)?;
        self.change_around(function, |function| {
            let url = function.url.as_mut().ok_or_else(no_url)?;
            url.auth_type = settings.auth_type.unwrap_or(url.auth_type);
            url.invoke_mode = settings.invoke_mode.unwrap_or(url.invoke_mode);
            url.cors = settings.cors.or(url.cors.take());
            url.last_modified = crate::clock::now();
            Ok(())
        })
    }

    /// A function with its URL.
    ///
    /// # Errors
    /// There is no such function, or it has none.
    pub fn get_url(&self, function: &str) -> Result<Arc<Function>, ApiError> {
        let function = self.resolve_unqualified(function)?;
        if function.url.is_some() { Ok(function) } else { Err(no_url()) }
    }

    /// Takes a function's URL away.
    ///
    /// # Errors
    /// There is no such function, or it has none.
    pub fn delete_url(&self, function: &str) -> Result<(), ApiError> {
        self.change_around(function, |function| function.url.take().map(drop).ok_or_else(no_url)).map(drop)
    }
}

/// The id of a function's URL: 32 lower-case letters and digits that depend on its ARN alone, so that a URL is the
/// same after every start.
pub fn url_id(arn: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(arn.as_bytes());
    digest.iter().take(URL_ID_LENGTH).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

pub(super) fn url_of(function: &Function, settings: UrlSettings, now: &str) -> Result<FunctionUrl, ApiError> {
    let id = settings.id.unwrap_or_else(|| url_id(&function.arn));
    if id.is_empty()
        || id.len() > URL_ID_MAX
        || !id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Err(ApiError::invalid(
            "The id of a function URL consists of up to 63 lower-case letters and digits.",
        ));
    }
    Ok(FunctionUrl {
        id,
        auth_type: settings.auth_type.unwrap_or(AuthType::AwsIam),
        cors: settings.cors,
        invoke_mode: settings.invoke_mode.unwrap_or(InvokeMode::Buffered),
        created: now.to_owned(),
        last_modified: now.to_owned(),
    })
}

fn check(settings: &UrlSettings) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    if let Some(cors) = &settings.cors {
        validate::check_cors(cors, &mut violations);
    }
    violations.finish()
}

fn no_url() -> ApiError {
    ApiError::new(ErrorCode::ResourceNotFound, "The resource you requested does not exist.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_lower_case_letters_and_digits_and_stay() {
        let id = url_id("arn:aws:lambda:us-east-1:000000000000:function:cart");
        assert_eq!(id.len(), URL_ID_LENGTH);
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert_eq!(id, url_id("arn:aws:lambda:us-east-1:000000000000:function:cart"));
        assert_ne!(id, url_id("arn:aws:lambda:us-east-1:000000000000:function:card"));
    }
}
