//! What the control room refuses of a template's function, shown where the template says it.

use crate::stack::Read;
use model::error::ApiError;
use model::stack::Function;
use template::{Problem, Span, place_of};

/// A word of an error's text, and the property that it is about; the first that fits.
const ABOUT: &[(&str, &str)] = &[
    ("ReservedConcurrentExecutions", "ReservedConcurrentExecutions"),
    ("at 'role'", "Role"),
    ("at 'handler'", "Handler"),
    ("at 'description'", "Description"),
    ("at 'timeout'", "Timeout"),
    ("at 'memorySize'", "MemorySize"),
    ("at 'ephemeralStorage", "EphemeralStorage"),
    ("at 'vpcConfig", "VpcConfig"),
    ("at 'tags'", "Tags"),
    ("at 'architectures'", "Architectures"),
    ("at 'cors", "FunctionUrlConfig"),
    ("at 'functionName'", "FunctionName"),
    ("environment variables", "Environment"),
    ("at 'environment", "Environment"),
    ("untime parameter", "Runtime"),
    ("at 'runtime'", "Runtime"),
    ("layers", "Layers"),
    ("Handler", "Handler"),
];

/// The refusal at the property that it is about, else at the function's code: what is left to find fault with.
pub fn problem(read: &Read, function: &Function, error: &ApiError) -> Problem {
    let about = ABOUT.iter().find(|(word, _)| error.message.contains(word));
    let span = about.and_then(|(_, property)| place_of(&read.text, &function.id, property));
    let place = function.code_place;
    let code = Span { offset: place.offset, len: place.len, line: place.line, column: place.column };
    Problem::at(span.unwrap_or(code), format!("{}: {}", function.id, error.message))
}
