//! Recursive loops: how often a function stands in one chain of requests already.
//!
//! Source: Lambda Developer Guide, "Use Lambda recursive loop detection to prevent infinite loops": SDKs hand on the X-Ray header
//! of their environment; a function that is invoked about 16 times in one chain is stopped, unless its configuration
//! allows it. What functions on AWS find in the header is `Lineage=1:HASH:COUNT`, once for each function of the chain; seen,
//! not published.

use crate::event::decode;
use crate::router::Doors;
use control::{Function, RecursiveLoop};
use model::error::{ApiError, ErrorCode};
use std::sync::Arc;
use telemetry::FunctionCounters;

/// How often a function may run in one chain of requests.
const INVOCATIONS_MAX: u32 = 16;
/// Functions of a chain that are counted; with more of them, those that ran least are forgotten.
const FUNCTIONS_MAX: usize = 16;
const KEY: &str = "Lineage=";

/// The X-Ray header for an invocation, with the function counted in it; none where the caller sent none.
///
/// # Errors
/// The function stands in this chain too often.
pub(super) fn next(
    doors: &Doors,
    given: Option<Arc<str>>,
    function: &Function,
) -> Result<Option<Arc<str>>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    let hash = format!("{:08x}", crc32fast::hash(function.arn.as_bytes()));
    let (before, header) = counted(&given, &hash);
    if before >= INVOCATIONS_MAX && function.published.recursive_loop == RecursiveLoop::Terminate {
        let counters = doors.counters.function(&function.name);
        FunctionCounters::count(&counters.recursive_invocations_dropped);
        tracing::warn!(function = %function.name, times = before, "stopped: a recursive loop; `PutFunctionRecursionConfig` with Allow lets it go on");
        let message = "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources and stopped your function's invocation.";
        return Err(ApiError::new(ErrorCode::RecursiveInvocation, message));
    }
    Ok(Some(header.into()))
}

/// How often the function stands in a header already, and the header with it once more.
fn counted(given: &str, hash: &str) -> (u32, String) {
    let mut others = Vec::new();
    let mut lineage = Vec::new();
    for part in given.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.strip_prefix(KEY) {
            // boto3 percent-encodes the strokes between functions.
            Some(all) => lineage.extend(decode(all, false).split('|').filter_map(read)),
            None => others.push(part),
        }
    }
    let before = lineage.iter().find(|(known, _)| known == hash).map_or(0, |(_, count)| *count);
    lineage.retain(|(known, _)| known != hash);
    lineage.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    lineage.truncate(FUNCTIONS_MAX - 1);
    lineage.push((hash.to_owned(), before.saturating_add(1)));
    let lineage: Vec<_> = lineage.iter().map(|(hash, count)| format!("1:{hash}:{count}")).collect();
    let lineage = format!("{KEY}{}", lineage.join("|"));
    others.push(&lineage);
    (before, others.join(";"))
}

/// `1:a87bd80c:3`.
fn read(entry: &str) -> Option<(String, u32)> {
    let mut parts = entry.split(':');
    let (version, hash, count) = (parts.next()?, parts.next()?, parts.next()?);
    let known = version == "1" && hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (known && parts.next().is_none()).then_some((hash.to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_counted_among_the_others() {
        let (before, header) = counted("Root=1-5;Parent=2;Sampled=0", "0000000a");
        assert_eq!((before, header.as_str()), (0, "Root=1-5;Parent=2;Sampled=0;Lineage=1:0000000a:1"));
        let (before, header) = counted(&header, "0000000b");
        assert_eq!((before, header.ends_with("Lineage=1:0000000a:1|1:0000000b:1")), (0, true));
        let encoded = header.replace('|', "%7C");
        let (before, header) = counted(&encoded, "0000000a");
        assert_eq!((before, header.ends_with("Lineage=1:0000000b:1|1:0000000a:2")), (1, true));
    }

    #[test]
    fn what_is_no_lineage_counts_nothing_and_the_header_stays_bounded() {
        for lie in [
            "Lineage=",
            "Lineage=1:x:1",
            "Lineage=2:0000000a:9",
            "Lineage=1:0000000a:-1",
            "Lineage=1:0000000a:1:1",
        ] {
            assert_eq!(counted(lie, "0000000a"), (0, "Lineage=1:0000000a:1".to_owned()), "{lie}");
        }
        let mut header = String::from("Root=1-5");
        for number in 0..100 {
            header = counted(&header, &format!("{number:08x}")).1;
        }
        assert!(header.len() < 512, "{header}");
        assert!(counted(&header, "00000063").0 == 1);
    }
}
