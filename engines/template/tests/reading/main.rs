//! Whole templates, read as a user's would be.

mod app;
mod authorizers;
mod bad_input;
mod caches;
mod databases;
mod include;
mod intrinsics;
mod large;
mod loops;
mod sam;
mod storefront;
mod tools;
mod vpc;

use model::stack::Stack;
use template::{Inputs, Outcome};

fn inputs() -> Inputs {
    Inputs { stack_name: "shop".into(), ..Inputs::default() }
}

fn said(problems: &[template::Problem]) -> Vec<String> {
    problems.iter().map(|problem| problem.one_line("t")).collect()
}

/// The stack of a text that has no problem.
#[track_caller]
fn stack(text: &str) -> Stack {
    let Outcome { stack, problems, .. } = template::read("t", text, &inputs());
    assert_eq!(said(&problems), Vec::<String>::new());
    stack.expect("a stack when there is no problem")
}

/// The problems of a text that has some.
#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let outcome = template::read("t", text, &inputs());
    assert!(outcome.stack.is_none(), "a stack in spite of {:?}", said(&outcome.problems));
    said(&outcome.problems)
}

/// The warnings of a text.
fn warnings(text: &str) -> Vec<String> {
    said(&template::read("t", text, &inputs()).warnings)
}
