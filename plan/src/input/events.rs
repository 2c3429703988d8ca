//! What becomes of asynchronous events: each function's settings by qualifier.

use super::PlanInput;
use limits::async_queue::EventFigures;
use model::stack::Stack;
use std::sync::Arc;
use std::time::Duration;

/// The settings of one function's, version's or alias's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventInput {
    /// Index of the function.
    pub function: usize,
    /// `$LATEST`, `live`.
    pub qualifier: String,
    /// How old an event may become.
    pub maximum_age: Duration,
    /// How often a failed one is tried again.
    pub maximum_retries: u8,
    /// Whether somebody hears of successes.
    pub on_success: bool,
    /// Whether somebody hears of failures.
    pub on_failure: bool,
}

/// Every setting of the stack's functions.
pub(super) fn of_stack(stack: &Stack) -> Vec<EventInput> {
    let functions = stack.functions.iter().enumerate();
    let configs = functions.flat_map(|(index, function)| {
        function.event_invoke.iter().map(move |config| EventInput {
            function: index,
            qualifier: config.qualifier.clone(),
            maximum_age: Duration::from_secs(config.maximum_event_age_s.into()),
            maximum_retries: config.maximum_retry_attempts.min(2) as u8,
            on_success: config.on_success.is_some(),
            on_failure: config.on_failure.is_some(),
        })
    });
    configs.collect()
}

impl PlanInput {
    /// How the events fare that a load sends to `word`, which means the function.
    pub(crate) fn events_of(&self, function: usize, word: &str) -> EventFigures {
        let by_id = self.qualifiers.iter().find(|found| found.id == word).map(|found| &*found.name);
        let qualifier = by_id.or_else(|| Some(word.split_once(':')?.1)).unwrap_or("$LATEST");
        let id = &self.functions[function].id;
        let resource: Arc<str> = match qualifier {
            "$LATEST" => id.as_str().into(),
            _ => format!("{id}:{qualifier}").into(),
        };
        let figures = EventFigures {
            dead_letter: self.dead_letters.contains(&function),
            ..EventFigures::new(resource)
        };
        let mut own = self.events.iter().filter(|found| found.function == function);
        match own.find(|found| found.qualifier == qualifier) {
            None => figures,
            Some(found) => EventFigures {
                maximum_age: found.maximum_age,
                maximum_retries: found.maximum_retries,
                on_success: found.on_success,
                on_failure: found.on_failure,
                ..figures
            },
        }
    }
}
