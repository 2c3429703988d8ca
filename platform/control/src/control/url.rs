//! Function URLs.

use super::Control;
use super::policy::arn_of;
use crate::function::{AuthType, Function, FunctionUrl, InvokeMode};
use crate::request::UrlSettings;
use crate::validate::{self, Violations};
use model::error::{ApiError, ErrorCode, Violation};
use model::name::FunctionReference;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Characters of a qualifier. Source: Lambda API reference, CreateFunctionUrlConfig, published.
const QUALIFIER_MAX: usize = 128;
const URL_ID_LENGTH: usize = 32;
/// A label of a host name holds no more.
const URL_ID_MAX: usize = 63;

impl Control {
    /// Gives a function, or an alias of it, a URL; both come back.
    ///
    /// # Errors
    /// It has one, or the settings break a constraint.
    pub fn create_url(
        &self,
        function: &str,
        qualifier: Option<&str>,
        settings: UrlSettings,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        if settings.auth_type.is_none() {
            return Err(ApiError::validations(&[Violation::missing("authType")]));
        }
        check(&settings)?;
        self.url_owner(function, qualifier).map_err(no_function)?;
        self.change_url(function, qualifier, |function, alias| {
            if function.url_of(alias).is_some() {
                let arn = arn_of(function, alias);
                return Err(ApiError::new(
                    ErrorCode::ResourceConflict,
                    format!("Failed to create function url config for [functionArn = {arn}]. Error message:  FunctionUrlConfig exists for this Lambda function"),
                ));
            }
            let url = url_of(function, alias, settings, &crate::clock::now())?;
            match alias {
                Some(alias) => drop(function.published.urls.insert(alias.to_owned(), url)),
                None => function.url = Some(url),
            }
            Ok(())
        })
    }

    /// Changes the URL of a function or alias; what is absent stays.
    ///
    /// # Errors
    /// It has none, or the settings break a constraint.
    pub fn update_url(
        &self,
        function: &str,
        qualifier: Option<&str>,
        settings: UrlSettings,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        check(&settings)?;
        self.url_owner(function, qualifier).map_err(no_function)?;
        self.change_url(function, qualifier, |function, alias| {
            let url = match alias {
                Some(alias) => function.published.urls.get_mut(alias),
                None => function.url.as_mut(),
            };
            let url = url.ok_or_else(no_url)?;
            url.auth_type = settings.auth_type.unwrap_or(url.auth_type);
            url.invoke_mode = settings.invoke_mode.unwrap_or(url.invoke_mode);
            url.cors = settings.cors.or(url.cors.take());
            url.last_modified = crate::clock::now();
            Ok(())
        })
    }

    /// A function, or alias of it, with its URL.
    ///
    /// # Errors
    /// There is no such function, or it has none.
    pub fn get_url(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        let (function, alias) = self.url_owner(function, qualifier).map_err(no_url_of)?;
        if function.url_of(alias.as_deref()).is_some() { Ok((function, alias)) } else { Err(no_url()) }
    }

    /// A function whose URLs are to be listed.
    ///
    /// # Errors
    /// There is no such function, or the name has a qualifier.
    pub fn with_urls(&self, function: &str) -> Result<Arc<Function>, ApiError> {
        self.resolve_unqualified(function).map_err(no_function)
    }

    /// Takes the URL of a function or alias away.
    ///
    /// # Errors
    /// There is no such function, or it has none.
    pub fn delete_url(&self, function: &str, qualifier: Option<&str>) -> Result<(), ApiError> {
        self.url_owner(function, qualifier).map_err(no_url_of)?;
        self.change_url(function, qualifier, |function, alias| {
            let gone = match alias {
                Some(alias) => function.published.urls.remove(alias),
                None => function.url.take(),
            };
            gone.map(drop).ok_or_else(no_url)
        })?;
        Ok(())
    }

    fn change_url(
        &self,
        function: &str,
        qualifier: Option<&str>,
        edit: impl FnOnce(&mut Function, Option<&str>) -> Result<(), ApiError>,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        let (found, alias) = self.url_owner(function, qualifier)?;
        let function = self.change_around(&found.name, |function| edit(function, alias.as_deref()))?;
        Ok((function, alias))
    }

    /// The function, and the alias of it, that a URL is for: versions have none.
    fn url_owner(
        &self,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<(Arc<Function>, Option<String>), ApiError> {
        if let Some(qualifier) = qualifier {
            let fits = !qualifier.is_empty()
                && qualifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                && !qualifier.bytes().all(|byte| byte.is_ascii_digit());
            let mut violations = Violations::default();
            violations.length(qualifier, "qualifier", QUALIFIER_MAX);
            let shown = qualifier.escape_debug().to_string();
            violations.pattern(fits, &shown, "qualifier", r"((?!^\d+$)^[0-9a-zA-Z-_]+$)");
            violations.finish()?;
        }
        let (function, qualifier) = self.resolve_with_qualifier(function, qualifier)?;
        match qualifier {
            Some(alias) if function.published.aliases.contains_key(&alias) => Ok((function, Some(alias))),
            Some(other) => Err(self.not_found(&FunctionReference::bare(&function.name), Some(&other))),
            None => Ok((function, None)),
        }
    }
}

impl Function {
    /// The URL of the function itself, or of an alias of it.
    pub fn url_of(&self, alias: Option<&str>) -> Option<&FunctionUrl> {
        match alias {
            Some(alias) => self.published.urls.get(alias),
            None => self.url.as_ref(),
        }
    }

    /// Every URL: of the function itself, `None`, and of its aliases.
    pub fn urls(&self) -> impl Iterator<Item = (Option<&str>, &FunctionUrl)> {
        let of_aliases = self.published.urls.iter().map(|(alias, url)| (Some(alias.as_str()), url));
        self.url.iter().map(|url| (None, url)).chain(of_aliases)
    }
}

/// The id of a function's URL: 32 lower-case letters and digits that depend on its ARN alone, so that a URL is the
/// same after every start.
pub fn url_id(arn: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(arn.as_bytes());
    digest.iter().take(URL_ID_LENGTH).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}

/// The URL of a function, or of an alias of it.
pub(super) fn url_of(
    function: &Function,
    alias: Option<&str>,
    settings: UrlSettings,
    now: &str,
) -> Result<FunctionUrl, ApiError> {
    let arn = arn_of(function, alias);
    let id = settings.id.unwrap_or_else(|| url_id(&arn));
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

/// What has no URL because it is not there itself. Source: recorded on AWS.
fn no_url_of(error: ApiError) -> ApiError {
    if error.code == ErrorCode::ResourceNotFound { no_url() } else { error }
}

/// What is to get a URL, or another one, and is not there. Source: recorded on AWS.
fn no_function(error: ApiError) -> ApiError {
    match error.code {
        ErrorCode::ResourceNotFound => ApiError::new(error.code, "Function does not exist"),
        _ => error,
    }
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
