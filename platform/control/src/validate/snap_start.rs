//! Which functions may have SnapStart.
//!
//! Source: Developer Guide, "Improving startup performance with Lambda SnapStart": supported features and limitations, published;
//! the words of the refusals are not.

use crate::function::{Function, SnapStart};
use model::error::ApiError;

/// The first version of each language that AWS restores.
const FIRST: [(&str, u32); 3] = [("python3.", 12), ("java", 11), ("dotnet", 8)];
const TMP_MB_MAX: u32 = 512;

/// Whether AWS restores functions of this runtime.
pub fn is_restored(runtime: &str) -> bool {
    FIRST.iter().any(|(language, first)| {
        let version = runtime.strip_prefix(language).and_then(|rest| rest.split('.').next());
        version.and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version >= *first)
    })
}

/// `experimental` lets every runtime in, which AWS does not.
///
/// # Errors
/// What AWS would refuse.
pub fn check(function: &Function, experimental: bool) -> Result<(), ApiError> {
    if function.snap_start == SnapStart::None {
        return Ok(());
    }
    let runtime = function.runtime.as_deref().unwrap_or("Image");
    if !experimental && !is_restored(runtime) {
        return Err(ApiError::invalid(format!(
            "{runtime} is not supported for SnapStart enabled functions."
        )));
    }
    if function.tmp_mb > TMP_MB_MAX {
        return Err(ApiError::invalid(format!(
            "SnapStart is not supported with an ephemeral storage of more than {TMP_MB_MAX} MB."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_restored_from_a_version_on() {
        for runtime in ["python3.12", "python3.13", "java11", "java21", "dotnet8"] {
            assert!(is_restored(runtime), "{runtime}");
        }
        for runtime in
            ["python3.11", "java8.al2", "nodejs22.x", "provided.al2023", "dotnet6", "python3.x", ""]
        {
            assert!(!is_restored(runtime), "{runtime}");
        }
    }
}
