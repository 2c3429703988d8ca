//! Counters per function, with CloudWatch's names and meanings, printed in Prometheus' text format.
//!
//! Source: AWS Lambda Developer Guide, "Types of metrics for Lambda functions".

use crate::messages::messages;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// One function's counters.
#[derive(Debug, Default)]
pub struct FunctionCounters {
    /// Times the code ran, function errors included, throttles not.
    pub invocations: AtomicU64,
    /// Invocations that ended in a function error.
    pub errors: AtomicU64,
    /// Requests answered with 429.
    pub throttles: AtomicU64,
    /// Environments that were initialised for an invocation.
    pub cold_starts: AtomicU64,
    /// Handler time, in microseconds.
    pub duration_us: AtomicU64,
    /// Asynchronous events accepted (AsyncEventsReceived).
    pub async_events_received: AtomicU64,
    /// Events dropped without success (AsyncEventsDropped).
    pub async_events_dropped: AtomicU64,
    /// Tries that did not bring an event to its dead letters (DeadLetterErrors).
    pub dead_letter_errors: AtomicU64,
    /// Invocations that were stopped as part of a loop (RecursiveInvocationsDropped).
    pub recursive_invocations_dropped: AtomicU64,
    /// Tries that did not bring a record to its destination (DestinationDeliveryFailures).
    pub destination_delivery_failures: AtomicU64,
}

impl FunctionCounters {
    /// Adds one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

type Counter = fn(&FunctionCounters) -> &AtomicU64;

/// Every counter of a function: its name, what it counts, where it is.
const METRICS: [(&str, &str, Counter); 10] = [
    ("invocations", "Times the code ran.", |c| &c.invocations),
    ("errors", "Invocations that ended in a function error.", |c| &c.errors),
    ("throttles", "Requests answered with 429.", |c| &c.throttles),
    ("cold_starts", "Environments initialised for an invocation.", |c| &c.cold_starts),
    ("duration_microseconds", "Time in the handler.", |c| &c.duration_us),
    ("async_events_received", "Asynchronous events accepted.", |c| &c.async_events_received),
    ("async_events_dropped", "Asynchronous events dropped without success.", |c| &c.async_events_dropped),
    ("dead_letter_errors", "Tries that did not bring an event to its dead letters.", |c| {
        &c.dead_letter_errors
    }),
    ("recursive_invocations_dropped", "Invocations stopped as part of a loop.", |c| {
        &c.recursive_invocations_dropped
    }),
    ("destination_delivery_failures", "Tries that did not bring a record to its destination.", |c| {
        &c.destination_delivery_failures
    }),
];

/// The counters of every function.
#[derive(Debug, Default)]
pub struct Counters {
    functions: RwLock<BTreeMap<Arc<str>, Arc<FunctionCounters>>>,
}

impl Counters {
    /// The counters of `function`, made at first use.
    pub fn function(&self, function: &str) -> Arc<FunctionCounters> {
        if let Some(counters) = self.functions.read().unwrap_or_else(PoisonError::into_inner).get(function) {
            return counters.clone();
        }
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.entry(function.into()).or_default().clone()
    }

    /// Forgets a function that is gone.
    pub fn remove(&self, function: &str) {
        self.functions.write().unwrap_or_else(PoisonError::into_inner).remove(function);
    }

    /// Sets every counter to zero.
    pub fn reset(&self) {
        for counters in self.functions.read().unwrap_or_else(PoisonError::into_inner).values() {
            for (_, _, counter) in METRICS {
                counter(counters).store(0, Ordering::Relaxed);
            }
        }
    }

    /// All counters in Prometheus' text format, with how many log lines each function lost.
    pub fn prometheus(&self, log_lines_dropped: &[(Arc<str>, u64)]) -> String {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, help, counter) in METRICS {
            let _ = writeln!(text, "# HELP onrush_{name}_total {help}\n# TYPE onrush_{name}_total counter");
            for (function, counters) in functions.iter() {
                let value = counter(counters).load(Ordering::Relaxed);
                let _ = writeln!(text, "onrush_{name}_total{{function=\"{function}\"}} {value}");
            }
        }
        let name = "onrush_log_lines_dropped_total";
        let _ = writeln!(text, "# HELP {name} Log lines that outran their writer.\n# TYPE {name} counter");
        for (function, dropped) in log_lines_dropped {
            let _ = writeln!(text, "{name}{{function=\"{function}\"}} {dropped}");
        }
        let name = "onrush_messages_lost_total";
        let help = "Messages on standard error that nobody read.";
        let lost = messages().lost();
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {lost}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_print_by_function() {
        let counters = Counters::default();
        FunctionCounters::count(&counters.function("cart").throttles);
        FunctionCounters::count(&counters.function("cart").throttles);
        let text = counters.prometheus(&[("cart".into(), 7)]);
        assert!(text.contains("onrush_log_lines_dropped_total{function=\"cart\"} 7\n"), "{text}");
        assert!(text.contains("onrush_throttles_total{function=\"cart\"} 2\n"), "{text}");
        assert!(text.contains("onrush_errors_total{function=\"cart\"} 0\n"), "{text}");
        counters.reset();
        let text = counters.prometheus(&[]);
        assert!(text.contains("onrush_throttles_total{function=\"cart\"} 0\n"), "{text}");
    }
}
