//! What the control room refuses of a template's function, shown where the template says it.

use crate::stack::Read;
use model::error::ApiError;
use model::stack::{Function, Place};
use runtimes::RuntimeError;
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
    let span = span(read, function, about.map(|(_, property)| *property));
    Problem::at(span, format!("{}: {}", function.id, error.message))
}

/// That nothing here can run a function, at its runtime.
pub fn of_runtime(read: &Read, function: &Function, error: &RuntimeError) -> Problem {
    let span = span(read, function, Some("Runtime"));
    Problem::at(span, format!("{}: {error}", function.id)).maybe_help(error.cure().map(str::to_owned))
}

fn span(read: &Read, function: &Function, property: Option<&str>) -> Span {
    let Place { offset, len, line, column } = function.code_place;
    let code = Span { offset, len, line, column };
    property.and_then(|property| place_of(&read.text, code, &function.id, property)).unwrap_or(code)
}
